"""Names and paths that lead to weights: the shipped starters, the official ones, any other.

A checkpoint is known by its prefix, as in TensorFlow: `checkpoints/wavenet-ckpt/model.ckpt-200000`
stands for `model.ckpt-200000.index` and `model.ckpt-200000.data-00000-of-00001` in that folder.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from synths import CheckpointError
from synths.weights.tensor_bundle import check, read, shapes

__all__ = ["CHECKPOINTS", "CHECKPOINTS_DIR", "Checkpoint", "check", "describe", "download",
           "experiment", "find", "kind", "read", "resolve", "shapes"]

CHECKPOINTS_DIR = Path(__file__).resolve().parents[2] / "checkpoints"

_TITLES = {"nsynth": "NSynth", "gansynth": "GANSynth"}
_AVERAGE = "/ExponentialMovingAverage"


@dataclass(frozen=True)
class Checkpoint:
    """Weights that go by a name."""

    name: str
    model: str              # "nsynth" or "gansynth"
    url: str | None         # None: shipped
    folder: str             # under the checkpoints' folder


_BUCKETS = "https://storage.googleapis.com/"
_NSYNTH = _BUCKETS + "download.magenta.tensorflow.org/models/nsynth/"
_GANSYNTH = _BUCKETS + "magentadata/models/gansynth/"

# For each model in order of preference: the book's own choice, its sibling, the starter.
CHECKPOINTS: dict[str, Checkpoint] = {
    name: Checkpoint(name, model, url, name) for name, model, url in [
        ("wavenet-ckpt", "nsynth", _NSYNTH + "wavenet-ckpt.tar"),
        ("wavenet-voice-ckpt", "nsynth", _NSYNTH + "wavenet-voice-ckpt.tar.gz"),
        ("nsynth_starter", "nsynth", None),
        ("acoustic_only", "gansynth", _GANSYNTH + "acoustic_only.zip"),
        ("all_instruments", "gansynth", _GANSYNTH + "all_instruments.zip"),
        ("gansynth_starter", "gansynth", None),
    ]
}


def find(name_or_path: str | Path | None, model: str, *, download: bool = False,
         target_dir: str | Path = CHECKPOINTS_DIR,
         progress: Callable[[int, int], None] | None = None) -> Path:
    """The prefix of the checkpoint that the user means, checked to be whole and of the model.

    Parameters
    ----------
    name_or_path : str, Path or None
        A name in `CHECKPOINTS`, or whatever `resolve` takes.  None: official weights if there are
        any, in the order of `CHECKPOINTS`, else the shipped starter.
    model : str
        "nsynth" or "gansynth".
    download : bool
        Fetch official weights that are not there yet (None: those of the book).
    target_dir : str or Path
        Where downloads lie, or land.
    progress : callable, optional
        Called with bytes done and bytes in total.

    Raises
    ------
    CheckpointError
        The checkpoint is unknown, missing, cut short, foreign or of the other model.
    InputError
        The download failed.
    """
    target_dir = Path(target_dir)
    ours = [checkpoint for checkpoint in CHECKPOINTS.values() if checkpoint.model == model]
    official = [checkpoint for checkpoint in ours if checkpoint.url]
    if name_or_path is None:
        there = [known for known in official if (target_dir / known.folder).is_dir()]
        if download:
            known = official[0]
        elif there:
            known = there[0]
        else:
            known = next(checkpoint for checkpoint in ours if not checkpoint.url)
    elif str(name_or_path) in CHECKPOINTS:
        known = CHECKPOINTS[str(name_or_path)]
    else:
        known = None

    if known is None:
        try:
            prefix = resolve(name_or_path)
        except CheckpointError as error:
            if Path(name_or_path).expanduser().exists() or len(Path(name_or_path).parts) > 1:
                raise
            names = ", ".join(checkpoint.name for checkpoint in ours)
            raise CheckpointError(
                f"There is no checkpoint '{name_or_path}': give one of the names {names}, or the "
                "path of a TensorFlow checkpoint.") from error
    elif known.model != model:
        raise _other_model(f"'{known.name}'", known.model, model)
    elif known.url is None:
        prefix = resolve(CHECKPOINTS_DIR / known.folder)
    elif download:
        prefix = _ensure(known, target_dir, progress)
    else:
        folder = target_dir / known.folder
        if not folder.is_dir():
            raise CheckpointError(
                f"The official weights '{known.name}' are not in {target_dir}: run again with "
                "--download to fetch them.")
        try:
            prefix = resolve(folder)
            check(prefix)
        except CheckpointError as error:
            raise CheckpointError(
                f"{str(error).rstrip('.')} (--download fetches '{known.name}' again).") from error

    found = kind(prefix)
    if found is None:
        raise CheckpointError(
            f"The checkpoint {prefix} holds neither NSynth's variables nor GANSynth's: "
            f"{_TITLES[model]} needs a checkpoint saved by Magenta or by this project.")
    if found != model:
        raise _other_model(str(prefix), found, model)
    check(prefix)
    return prefix


def download(name: str, target_dir: str | Path = CHECKPOINTS_DIR,
             progress: Callable[[int, int], None] | None = None) -> Path:
    """Fetch official weights, unless they are there and whole, and return their prefix.

    The archive is fetched beside the folder, checked, unpacked and removed; an interrupted
    download goes on where it stopped when called again; a broken folder is replaced.

    Parameters
    ----------
    name : str
        One of `CHECKPOINTS` that has an address.
    target_dir : str or Path
        The weights land in a folder of their name in it.
    progress : callable, optional
        Called with bytes done and bytes in total.

    Raises
    ------
    CheckpointError
        There are no official weights of that name, or the archive does not hold them.
    InputError
        The download failed.
    """
    known = CHECKPOINTS.get(name)
    if known is None or known.url is None:
        names = ", ".join(other.name for other in CHECKPOINTS.values() if other.url)
        raise CheckpointError(f"'{name}' cannot be downloaded: there are {names}.")
    return _ensure(known, Path(target_dir), progress)


def _ensure(known: Checkpoint, target_dir: Path, progress) -> Path:
    from synths.weights import downloads  # a tenth of a second that only a download needs

    folder = target_dir / known.folder

    def whole(folder: Path) -> Path:
        prefix = resolve(folder)
        check(prefix)
        if kind(prefix) != known.model:
            raise CheckpointError(f"{prefix} is not a checkpoint of {_TITLES[known.model]}.")
        if known.model == "gansynth":
            experiment(prefix)
        return prefix

    def present() -> Path | None:
        try:
            return whole(folder)
        except CheckpointError:
            return None

    if present() is None:
        archive = target_dir / known.url.rsplit("/", 1)[-1]
        with downloads.lock(folder):
            if present() is None:      # another run may have brought it between the two looks
                downloads.fetch(known.url, archive, progress=progress)
                try:
                    downloads.unpack(archive, folder, check=whole)
                except downloads.ArchiveError:
                    archive.unlink()
                    raise
                except CheckpointError as error:
                    archive.unlink()
                    raise CheckpointError(
                        f"The archive {known.url} no longer holds the weights '{known.name}', "
                        f"and was removed ({error})") from error
                archive.unlink()
    return whole(folder)


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
    path = Path(path).expanduser()
    if path.is_dir():
        prefix = _in_folder(path)
        if prefix is None:
            raise CheckpointError(
                f"The folder {path} holds no TensorFlow checkpoint: no file in it ends in "
                "'.index'.")
        return prefix
    if path.name == "checkpoint" and path.is_file():
        return resolve(path.parent)
    prefix = path.with_name(re.sub(r"\.(index|meta|data-\d{5}-of-\d{5})$", "", path.name) or ".")
    index = prefix.with_name(prefix.name + ".index")
    if index.is_file():
        return prefix
    if prefix != path and path.exists():
        raise CheckpointError(
            f"The checkpoint of {path} is not whole: {index.name} is missing beside it.")
    if path.exists():
        raise CheckpointError(
            f"{path} is not a TensorFlow checkpoint of version 2, which is two files or more, "
            "one of them ending in '.index'.")
    message = f"There is no checkpoint {path}: {index} does not exist"
    others = sorted(file.stem for file in path.parent.glob("*.index")) if path.name else []
    if others:
        message += f", only {', '.join(others[:3])}{', ...' if len(others) > 3 else ''} there"
    raise CheckpointError(message + ".")


def kind(prefix: str | Path) -> str | None:
    """The model that a checkpoint is of, by its variables: "nsynth", "gansynth" or None."""
    names = shapes(prefix)
    if any(name.startswith("ae_bottleneck/") for name in names):
        return "nsynth"
    if any(name.startswith("Generator/") for name in names):
        return "gansynth"
    return None


def experiment(prefix: str | Path) -> dict:
    """The settings that a GANSynth was trained with: `experiment.json` above its stage's folder.

    Raises
    ------
    CheckpointError
        There is no such file, or it is not a JSON object.
    """
    folder = Path(prefix).resolve().parent
    for file in (folder.parent / "experiment.json", folder / "experiment.json"):
        try:
            settings = json.loads(file.read_text("utf-8"))
        except FileNotFoundError:
            continue
        except (OSError, ValueError):
            settings = None
        if not isinstance(settings, dict):
            raise CheckpointError(
                f"{file}, which says how the network was built, is not a JSON object: fetch or "
                "copy it anew.")
        return settings
    raise CheckpointError(
        f"The GANSynth checkpoint {prefix} lacks {folder.parent / 'experiment.json'}, which says "
        "how the network was built: copy it there, too.")


def describe(prefix: str | Path, model: str, target_dir: str | Path = CHECKPOINTS_DIR) -> str:
    """What the weights are, in words: "shipped starter nsynth_starter (0.3 M parameters, 1.2 MB)".

    Parameters
    ----------
    prefix : Path
        As `find` returns it.
    model : str
        "nsynth" or "gansynth".
    target_dir : str or Path
        Where the downloads lie.
    """
    prefix = Path(prefix)
    parameters = {name.removesuffix(_AVERAGE): math.prod(shape)
                  for name, shape in shapes(prefix).items() if _is_parameter(name, model)}
    millions = sum(parameters.values()) / 1e6
    size = sum(file.stat().st_size for file in prefix.parent.glob(prefix.name + ".data-*")) / 1e6
    name = name_of(prefix, target_dir)
    title = f"checkpoint {prefix}" if name is None else (
        f"{'official' if CHECKPOINTS[name].url else 'shipped starter'} {name}")
    return f"{title} ({_short(millions)} M parameters, {_short(size)} MB)"


def name_of(prefix: str | Path, target_dir: str | Path = CHECKPOINTS_DIR) -> str | None:
    """The name of weights that ship or were downloaded, by their place; None of others."""
    for known in CHECKPOINTS.values():
        folder = Path(target_dir if known.url else CHECKPOINTS_DIR) / known.folder
        if folder.resolve() in Path(prefix).resolve().parents:
            return known.name
    return None


def _is_parameter(name: str, model: str) -> bool:
    name = name.removesuffix(_AVERAGE)      # optimisers' variables end otherwise
    if model == "nsynth":
        return name.endswith(("/W", "/biases"))
    return name.startswith("Generator/") and name.endswith(("/kernel", "/bias"))


def _short(number: float) -> str:
    digits = 0 if number >= 100 else 1 if number >= 1 else 2 if number >= 0.01 else 4
    return f"{number:.{digits}f}"


def _other_model(what: str, found: str, model: str) -> CheckpointError:
    names = ", ".join(known.name for known in CHECKPOINTS.values() if known.model == model)
    return CheckpointError(
        f"The checkpoint {what} is {_TITLES[found]}'s, and {_TITLES[model]} is to play: give one "
        f"of {names}, or the path of another checkpoint of {_TITLES[model]}.")


def _in_folder(folder: Path, deep: bool = True) -> Path | None:
    prefix = _by_state_file(folder) or _by_step(folder)
    if prefix or not deep:
        return prefix
    subfolders = [entry for entry in folder.iterdir() if entry.is_dir()]
    stages = [entry for entry in subfolders if re.fullmatch(r"stage_\d+", entry.name)]
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
        text = (folder / "checkpoint").read_text("utf-8", errors="replace")
    except OSError:
        return None
    line = re.search(r'^\s*model_checkpoint_path:\s*"((?:[^"\\]|\\.)*)"', text, re.MULTILINE)
    if not line:
        return None
    # Text protocol buffers escape backslashes, and other than ASCII as the bytes of UTF-8.
    path = re.sub(rb"\\([0-7]{3}|.)", _unescape, line[1].encode()).decode("utf-8", "replace")
    beside = folder / re.split(r"[/\\]", path)[-1]
    for prefix in (beside, folder / path):
        if prefix.name and prefix.with_name(prefix.name + ".index").is_file():
            return prefix
    return None


def _unescape(match: re.Match) -> bytes:
    escaped = match[1]
    return bytes([int(escaped, 8) & 255]) if len(escaped) == 3 else escaped


def _by_step(folder: Path) -> Path | None:
    def step(index: Path) -> tuple[int, str]:
        number = re.search(r"-(\d+)\.index$", index.name)
        return (int(number[1]) if number else -1, index.name)
    indexes = [file for file in folder.glob("*.index") if file.is_file()]
    if not indexes:
        return None
    newest = max(indexes, key=step)
    return newest.with_name(newest.name[:-len(".index")])
