"""Find checkpoints.

As in TensorFlow, a checkpoint is identified by its prefix.  For example,
`checkpoints/wavenet-ckpt/model.ckpt-200000` stands for the files `model.ckpt-200000.index` and
`model.ckpt-200000.data-00000-of-00001`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from synths import CheckpointError
from synths.weights import names, schema
from synths.weights.tensor_bundle import check


def find(name_or_path: str | Path | None, model: str, *,
         target_dir: str | Path | None = None) -> Path:
    """Return the prefix of a checkpoint, after checking that it is complete and of this model.

    Parameters
    ----------
    name_or_path : str, Path or None
        Name in `CHECKPOINTS`, path as for `resolve`, or name of a folder in `target_dir`.  None:
        the first official model in `CHECKPOINTS` that is downloaded, otherwise the bundled one.
    model : str
        "nsynth" or "gansynth".
    target_dir : str or Path, optional
        Folder of the downloads.  None: the folder `checkpoints` of this project.

    Raises
    ------
    CheckpointError
        If the checkpoint is missing or incomplete, or belongs to another model.
    """
    return checked(_folder(name_or_path, model, Path(target_dir or names.CHECKPOINTS_DIR)), model)


def checked(path: Path, model: str) -> Path:
    """Return the prefix at a path, after checking that it is complete and of this model."""
    prefix = resolve(path)
    found = schema.kind(prefix)
    if found != model:
        what = names.TITLES[found] if found else "another model"
        raise CheckpointError(f"{prefix} is a checkpoint of {what}, not of {names.TITLES[model]}: "
                              f"choose one of {names.listed(model)}, or give a path.")
    schema.check_variables(prefix, model)
    check(prefix)
    return prefix


def _folder(name_or_path: str | Path | None, model: str, target_dir: Path) -> Path:
    """Return the path at which a checkpoint is expected."""
    if name_or_path is None:
        there = [known for known in names.of_model(model)
                 if known.url is None or (target_dir / known.name).is_dir()]
        name_or_path = there[0].name
    known = names.CHECKPOINTS.get(str(name_or_path))
    if known is None:
        path = Path(name_or_path)
        in_target = len(path.parts) == 1 and not os.path.exists(path) and (
            os.path.isdir(target_dir / path))
        return target_dir / path if in_target else path
    folder = (target_dir if known.url else names.CHECKPOINTS_DIR) / known.name
    if not folder.is_dir():
        raise CheckpointError(f"The official model {known.name} is not in {target_dir}: add "
                              "--download to fetch it.")
    return folder


def resolve(path: str | Path) -> Path:
    """Return the prefix of the checkpoint at a path.

    Parameters
    ----------
    path : str or Path
        Prefix, index file or folder.  In a folder of checkpoints, this function takes the one named
        in the state file `checkpoint`, otherwise the one with the highest step.  In a GANSynth
        folder with `stage_*`, it takes the last stage.  A folder may also contain one such folder.

    Raises
    ------
    CheckpointError
        If there is no checkpoint.
    """
    path = Path(path)
    prefix: Path | None = path.with_suffix("") if path.suffix == ".index" else path
    if os.path.isdir(path):
        prefix = _in_folder(path)
    elif not os.path.isfile(f"{prefix}.index"):
        prefix = None
    if prefix is None:
        raise CheckpointError(f"There is no checkpoint {path}: give a folder, a prefix "
                              f"(.../model.ckpt-200000) or one of {', '.join(names.CHECKPOINTS)}.")
    return prefix


def _in_folder(folder: Path) -> Path | None:
    indexes = sorted(folder.glob("*.index"), key=lambda index: (
        int((re.findall(r"-(\d+)\.index$", index.name) or ["-1"])[0]), index.name))
    prefixes = [index.with_suffix("") for index in indexes]
    state = folder / "checkpoint"
    if state.is_file():  # its path may be from another machine, so use only the last part
        named = re.findall(r'^model_checkpoint_path: "(?:.*[/\\])?(.+)"',
                           state.read_text("utf-8", "replace"))
        prefixes += [prefix for prefix in prefixes if [prefix.name] == named]
    if prefixes:
        return prefixes[-1]
    folders = [entry for entry in folder.iterdir() if entry.is_dir()]
    stages = sorted((entry for entry in folders if re.fullmatch(r"stage_\d+", entry.name)),
                    key=lambda stage: int(stage.name[6:]), reverse=True)
    for stage in stages or (folders if len(folders) == 1 else ()):
        prefix = _in_folder(stage)
        if prefix:
            return prefix
    return None
