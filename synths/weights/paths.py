"""Paths that lead to weights.

A checkpoint is known by its prefix, as in TensorFlow: `checkpoints/wavenet-ckpt/model.ckpt-200000`
stands for `model.ckpt-200000.index` and `model.ckpt-200000.data-00000-of-00001` in that folder.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from synths import CheckpointError
from synths.files import quoted, shortened
from synths.weights import names, schema
from synths.weights.tensor_bundle import check

_MOST_STATE = 1 << 20   # bytes read of a `checkpoint` state file


def find(name_or_path: str | Path | None, model: str, *,
         target_dir: str | Path | None = None) -> Path:
    """The prefix of the checkpoint that the user means, checked to be whole and of the model.

    Parameters
    ----------
    name_or_path : str, Path or None
        A name in `CHECKPOINTS`, whatever `resolve` takes, or the name of a folder in `target_dir`.
        None: official weights if there are any, in the order of `CHECKPOINTS`, else the shipped
        starter.
    model : str
        "nsynth" or "gansynth".
    target_dir : str or Path, optional
        Where downloads lie.  None: the folder `checkpoints` of this project.

    Raises
    ------
    CheckpointError
        The checkpoint is unknown, missing, cut short, foreign or of the other model.
    """
    target_dir = Path(target_dir or names.CHECKPOINTS_DIR)
    known = _known(name_or_path, model, target_dir)
    prefix = (_any_path(name_or_path or "", model, target_dir) if known is None
              else _by_name(known, model, target_dir))
    found = schema.kind(prefix)
    if found is None:
        raise CheckpointError(
            f"The checkpoint {shortened(prefix)} holds neither NSynth's variables nor GANSynth's: "
            f"{names.TITLES[model]} needs a checkpoint saved by Magenta or by this project.")
    if found != model:
        raise _other_model(shortened(prefix), found, model)
    schema.check_variables(prefix, model)
    check(prefix)
    return prefix


def _known(name_or_path: str | Path | None, model: str,
           target_dir: Path) -> names.Checkpoint | None:
    """The named weights that are meant; None if it is a path."""
    if name_or_path is not None:
        return names.CHECKPOINTS.get(str(name_or_path))
    ours = names.of_model(model)
    there = [known for known in ours if known.url and (target_dir / known.name).is_dir()]
    return there[0] if there else next(known for known in ours if not known.url)


def _by_name(known: names.Checkpoint, model: str, target_dir: Path) -> Path:
    if known.model != model:
        raise _other_model(f"'{known.name}'", known.model, model)
    if known.url is None:
        return resolve(names.CHECKPOINTS_DIR / known.name)
    folder = target_dir / known.name
    if not folder.is_dir():
        raise CheckpointError(
            f"The official weights '{known.name}' are not in {shortened(target_dir)}: run again "
            "with --download to fetch them.")
    try:
        prefix = resolve(folder)
        check(prefix)
    except CheckpointError as error:
        raise CheckpointError(
            f"{str(error).rstrip('.')} (--download fetches '{known.name}' again).") from error
    return prefix


def _any_path(path: str | Path, model: str, target_dir: Path) -> Path:
    try:
        return resolve(path)
    except CheckpointError as error:
        if len(Path(path).parts) > 1 or os.path.exists(path):
            raise
        if len(Path(path).parts) == 1 and os.path.isdir(target_dir / path):
            return resolve(target_dir / path)   # weights of one's own
        raise CheckpointError(
            f"There is no checkpoint {quoted(path)}: give one of the names {names.listed(model)}, "
            "or the path of a TensorFlow checkpoint.") from error


def _other_model(what: str, found: str, model: str) -> CheckpointError:
    return CheckpointError(
        f"{what} is a checkpoint of {names.TITLES[found]}, and this needs one of "
        f"{names.TITLES[model]}: give one of {names.listed(model)}, or a path.")


def resolve(path: str | Path) -> Path:
    """The prefix of the checkpoint to which a path leads.

    Parameters
    ----------
    path : str or Path
        A prefix; one of the checkpoint's files; a folder of checkpoints, of which the one that
        its `checkpoint` state file names counts, by its last part only (the rest is where it was
        saved, often on another machine), else the one with the highest step; a GANSynth folder
        with `stage_*`, of which the last stage with a checkpoint counts; or a folder whose only
        content that leads to a checkpoint is one such folder.

    Raises
    ------
    CheckpointError
        There is no checkpoint.
    """
    try:
        path = Path(path).expanduser()
        there = path.exists()
    except (OSError, RuntimeError, ValueError) as error:  # a name too long, no such user, a zero
        raise CheckpointError(f"There is no checkpoint {quoted(path)} ({shortened(error)}): check "
                              "the name.") from None
    if path.is_dir():
        prefix = _in_folder(path)
        if prefix is None:
            raise CheckpointError(
                f"The folder {shortened(path)} holds no TensorFlow checkpoint: no file in it ends "
                "in '.index'.")
        return prefix
    if path.name == "checkpoint" and path.is_file():
        return resolve(path.parent)
    prefix = path.with_name(re.sub(r"\.(index|meta|data-\d{5}-of-\d{5})$", "", path.name) or ".")
    index = prefix.with_name(prefix.name + ".index")
    if index.is_file():
        return prefix
    if prefix != path and there:
        raise CheckpointError(
            f"The checkpoint of {shortened(path)} is not whole: {shortened(index.name)} is "
            "missing beside it.")
    if there:
        raise CheckpointError(
            f"{shortened(path)} is not a TensorFlow checkpoint of version 2, which is two files or "
            "more, one of them ending in '.index'.")
    message = f"There is no checkpoint {shortened(path)}: {shortened(index)} does not exist"
    others = sorted(file.stem for file in path.parent.glob("*.index")) if path.name else []
    if others:
        more = ", ..." if len(others) > 3 else ""
        message += f", only {shortened(', '.join(others[:3]))}{more} there"
    raise CheckpointError(message + ".")


def _in_folder(folder: Path, deep: bool = True) -> Path | None:
    prefix = _by_state_file(folder) or _by_step(folder)
    if prefix or not deep:
        return prefix
    subfolders = [entry for entry in folder.iterdir() if entry.is_dir()]
    stages = [entry for entry in subfolders if re.fullmatch(r"stage_[0-9]+", entry.name)]
    for stage in sorted(stages, key=lambda entry: int(entry.name[6:]), reverse=True):
        prefix = _in_folder(stage, deep=False)
        if prefix:
            return prefix
    found = []
    for entry in subfolders:
        inner = any(entry.glob("stage_*"))
        found.append(_in_folder(entry, deep=inner))
    found = [prefix for prefix in found if prefix]
    return found[0] if len(found) == 1 else None


def _by_state_file(folder: Path) -> Path | None:
    try:
        with open(folder / "checkpoint", "rb") as file:
            text = file.read(_MOST_STATE).decode("utf-8", "replace")
    except OSError:
        return None
    line = re.search(r'^\s*model_checkpoint_path:\s*"((?:[^"\\]|\\.)*)"', text, re.MULTILINE)
    if not line:
        return None
    # Text protocol buffers escape backslashes, and other than ASCII as the bytes of UTF-8.
    path = re.sub(rb"\\([0-7]{3}|.)", _unescape, line[1].encode()).decode("utf-8", "replace")
    beside = folder / re.split(r"[/\\]", path)[-1]
    for prefix in (beside, folder / path):
        try:
            if prefix.name and prefix.with_name(prefix.name + ".index").is_file():
                return prefix
        except (OSError, ValueError):  # a name that no file can have
            continue
    return None


def _unescape(match: re.Match) -> bytes:
    escaped = match[1]
    return bytes([int(escaped, 8) & 255]) if len(escaped) == 3 else escaped


def _by_step(folder: Path) -> Path | None:
    def step(index: Path) -> tuple[int, str]:
        number = re.search(r"-([0-9]+)\.index$", index.name)
        return (int(number[1]) if number else -1, index.name)
    indexes = [file for file in folder.glob("*.index") if file.is_file()]
    if not indexes:
        return None
    newest = max(indexes, key=step)
    return newest.with_name(newest.name[:-len(".index")])
