"""The folder of a run's results: one run each, with what repeats it, and the page at the end."""

from __future__ import annotations

import argparse
import atexit
import contextlib
import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import audio_utils
from companion import inputs
from companion.options import given, words_of
from companion.progress import say, say_error
from companion.record import Record
from companion.run import stopped
from pictures import spectra
from synths import InputError, files
from synths.weights import checkpoints

UNFINISHED = "*.partial.codes"
# What a run leaves in its folder; a folder that holds any of it belongs to that run.
RESULTS = ("*.wav", "*.png", "*.html", UNFINISHED)
RUN_FILE = "run.json"
# A file that a run lists as its own: in its folder, or one of its encodings.
_RESULT = re.compile(r"[^/\\]+\.(wav|png|html|npz)|encodings/[^/\\]+\.npy", re.DOTALL)
# Options that do not change what is made.
_BESIDE = ("checkpoint", "sounds", "midi", "output", "overwrite", "download", "quiet", "seed",
           "resume", "threads")
_claimed = contextlib.ExitStack()
atexit.register(_claimed.close)


def new_record(options: argparse.Namespace, checkpoint: Path, model: str,
               sources: Sequence[Path]) -> Record:
    """Make the record of a run, and its folder, which holds what repeats it.

    Parameters
    ----------
    options : argparse.Namespace
        With `--resume`, takes the seed of the run that was stopped.
    checkpoint : Path
    model : str
        "nsynth" or "gansynth".
    sources : sequence of Path
        The sounds or scores.

    Raises
    ------
    InputError
        If the folder cannot be made or written; or, with `--resume`, holds another run.
    """
    digests = {str(path.absolute()): _digest(path) for path in sources}
    resume = getattr(options, "resume", False)
    folder = _stopped_run(options, checkpoint, digests) if resume else results_dir(options)
    record = Record(
        seed=options.seed, output_dir=folder, weights=checkpoints.describe(checkpoint, model),
        starter=inputs.is_starter(checkpoint), settings=shown_settings(options),
        command=command_line(options, checkpoint, sources), labels=options.labels,
        resume=(command_line(options, checkpoint, sources, folder) + " --resume"
                if hasattr(options, "resume") else ""), quiet=options.quiet, began=time.time())
    run = {"command": record.command, "seed": record.seed, "made": made_by(options),
           "weights": _digest(checkpoint.with_name(checkpoint.name + ".index")),
           "sources": digests, "files": []}
    if options.overwrite or resume:     # until this run's clips are planned, its files are these
        played = getattr(options, "instruments", None)
        used = {Path(path).resolve() for path in (*digests, *([played] if played else []))}
        run["files"] = [name for name in _files_of_run(_read_run(folder))
                        if (folder / name).resolve() not in used]
    _write_run(folder, run)
    return record


def _write_run(folder: Path, run: dict[str, object]) -> None:
    with files.writing(folder / RUN_FILE) as file:
        file.write(json.dumps(run, indent=1, ensure_ascii=True).encode("ascii"))


def _read_run(folder: Path) -> dict:
    """What a run has kept in its folder; nothing where it is not there or not whole."""
    try:
        run = json.loads((folder / RUN_FILE).read_bytes())
    except (OSError, ValueError):   # somebody has taken it away
        return {}
    return run if isinstance(run, dict) else {}


def _files_of_run(run: dict) -> list[str]:
    """What a run has listed as its files, without what no run of ours makes."""
    try:
        return [name for name in run["files"] if _RESULT.fullmatch(name)]
    except (KeyError, TypeError):
        return []


def _replace_files(record: Record) -> None:
    """Remove the files of a replaced run that this one does not make, and list this one's."""
    folder, kept = record.output_dir, set(map(files.name_key, record.files))
    run = _read_run(folder)
    for name in _files_of_run(run):
        if files.name_key(name) not in kept and not (folder / name).parent.is_symlink():
            with contextlib.suppress(OSError):
                (folder / name).unlink(missing_ok=True)
    if run:
        _write_run(folder, run | {"files": record.files})


def _digest(path: Path) -> str:
    """SHA-256 of a file.  A checkpoint's index holds the checksums of all its variables."""
    try:
        with open(path, "rb") as file:
            result = hashlib.sha256()
            while block := file.read(1 << 20):
                result.update(block)
            return result.hexdigest()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None


def made_by(options: argparse.Namespace) -> dict[str, object]:
    """Return the options that change what is made."""
    return {name: value for name, value in given(options).items() if name not in _BESIDE}


def shown_settings(options: argparse.Namespace) -> dict[str, object]:
    """Return what was asked for, in words, for the page."""
    return {name.replace("_", " "): "yes" if value is True else
            ", ".join(map(str, value)) if isinstance(value, list) else value
            for name, value in made_by(options).items() if name not in ("labels", "many")}


def _stopped_run(options: argparse.Namespace, checkpoint: Path, digests: dict[str, str]) -> Path:
    """Return the folder of the run to go on with; take its seed."""
    folder = _wanted_dir(options)
    run = _read_run(folder)
    try:
        seed, same = run["seed"], (run["made"] == made_by(options) and run["sources"] == digests
                                   and run["weights"] == _digest(
                                       checkpoint.with_name(checkpoint.name + ".index")))
    except (KeyError, InputError):
        raise InputError(f"There is no run to go on with in {folder}: leave out "
                         "--resume.") from None
    if not same or options.seed not in (None, seed):
        raise InputError(f"The run in {folder} was another one (other options, sounds or weights): "
                         f"repeat its command with --resume: {run.get('command')}")
    options.seed = seed
    if not _claim(folder):
        raise InputError(f"Another run is using {folder} at this moment: wait until it is done.")
    _sweep(folder)
    return folder


def _sweep(folder: Path) -> None:
    for place in (folder, folder / "encodings"):
        files.sweep(place)


def results_dir(options: argparse.Namespace) -> Path:
    """Return the folder for this run: `--output`, or that with -2, -3, ... if it is another run's.

    Nothing is overwritten unless asked, and two runs at once never share a folder.  The folder is
    made and written to once, so that a full or read-only disk is noticed before the work.

    Raises
    ------
    InputError
        If the folder cannot be made or written.
    """
    wanted = folder = _wanted_dir(options)
    if not wanted.name:
        raise InputError(f"{options.output} cannot hold the results: name a folder of its own.")
    count = 1
    while not _free(folder, options.overwrite):
        count += 1
        folder = wanted.with_name(f"{wanted.name}-{count}")
    _sweep(folder)
    _forget_unfinished(folder)
    if folder != wanted:
        stopped_run = any(wanted.glob(UNFINISHED)) and hasattr(options, "resume")
        say(options, f"{shown(wanted)} holds another run, so this one goes to {shown(folder)} "
                     f"(--overwrite replaces it{', --resume goes on with it' * stopped_run}).")
    return folder


def _wanted_dir(options: argparse.Namespace) -> Path:
    """The folder that `--output` names; `..` in it is followed, for its siblings get its name."""
    folder = Path(options.output).absolute()
    return folder.resolve() if ".." in folder.parts else folder


def _forget_unfinished(folder: Path) -> None:
    """Remove what a stopped run has kept to go on with, where another run replaces it."""
    for codes in folder.glob(UNFINISHED):
        for left in (codes, codes.with_suffix(".wav"), codes.with_suffix(".png")):
            left.unlink(missing_ok=True)


def _free(folder: Path, overwrite: bool) -> bool:
    """Claim the folder, if no other run is using it and nothing would be overwritten unasked."""
    if not overwrite and folder.is_dir() and any(
            next(folder.glob(pattern), None) for pattern in RESULTS):
        return False
    audio_utils.check_output_dir(folder)
    return _claim(folder)


def _claim(folder: Path) -> bool:
    try:
        _claimed.enter_context(files.lock(folder / ".run.lock"))
    except BlockingIOError:
        return False
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error.strerror}): name another "
                         "folder.") from None
    return True


def command_line(options: argparse.Namespace, checkpoint: Path, sources: Sequence[Path],
                 folder: Path | None = None) -> str:
    """Return the command that repeats the run to the same samples, from any folder.

    It names the weights and the sounds or scores, so that it still does after others have come.

    Parameters
    ----------
    options : argparse.Namespace
    checkpoint : Path
    sources : sequence of Path
        The sounds or scores.
    folder : Path, optional
        Where the results are to go.  None: where `--output` says.

    Returns
    -------
    str
    """
    settings = {name: value for name, value in given(options).items() if name not in _BESIDE}
    if "instruments" in settings and Path(str(settings["instruments"])).is_file():
        settings["instruments"] = str(Path(str(settings["instruments"])).absolute())
    if sources:
        settings["sounds" if hasattr(options, "sounds") else "midi"] = [
            str(path.absolute()) for path in sources]
    settings["checkpoint"] = checkpoints.name_of(checkpoint) or str(checkpoint.absolute())
    settings["seed"] = options.seed
    wanted = _wanted_dir(options) if folder is None else folder
    if wanted != Path(options.defaults["output"]):
        settings["output"] = str(wanted)
    return quoted(["python", str(Path(sys.argv[0]).absolute()), *words_of(settings)])


def quoted(words: Sequence[str], system: str = os.name) -> str:
    """Join words to a command line, quoted for the system's shell.

    >>> print(quoted(["python", "it's.py"], "posix"), quoted(["python", "it's a.py"], "nt"))
    python 'it'"'"'s.py' python "it's a.py"
    """
    return subprocess.list2cmdline(words) if system == "nt" else shlex.join(words)


@contextlib.contextmanager
def page_at_end(record: Record, make_page: Callable[..., Path | None], *parts: object,
                ) -> Iterator[None]:
    """Make the page after the work; if that is stopped or fails, of what is finished.

    Parameters
    ----------
    record : Record
    make_page : callable
        Takes the record and `parts`; returns the page, or None if there is nothing to show.
    *parts
        What the page is made of; may be filled during the work.

    Notes
    -----
    At the beginning the record's files are listed in the folder's `run.json`; those that a run
    replaced by `--overwrite` had listed, and this one does not make, are removed.
    """
    if record.files:
        _replace_files(record)
    # librosa is made ready while the network works
    threading.Thread(target=spectra.warm_up, args=(record.say,), daemon=True).start()
    try:
        yield
    except BaseException:
        _finished(record, make_page, parts)
        raise
    try:
        page = make_page(record, *parts)
    except KeyboardInterrupt:
        _finished(record, make_page, parts)
        raise
    say(record, f"To repeat this run: {record.command}")
    say(record, f"The results are in {shown(record.output_dir)}.")
    if page is not None:
        say(record, f"Open in a browser: {page.absolute().as_uri()}")


def _finished(record: Record, make_page: Callable[..., Path | None], parts: Sequence[object],
              ) -> None:
    """Make the page of what is finished; what fails here must not hide why the run ended."""
    record.stopped = True
    if stopped():
        say_error("\nstopping: making the page of what is finished (Ctrl-C again: without)")
    try:
        page = make_page(record, *parts)
    except Exception:
        page = None
    if page is not None:
        say(record, f"What was finished is in {shown(record.output_dir)}.")
        if record.resume:
            say(record, f"To go on with it: {record.resume}")
        say(record, f"Open in a browser: {page.absolute().as_uri()}")


def shown(path: Path) -> str:
    """Return `path` as short as it can be said from where the user stands."""
    try:
        relative = os.path.relpath(path)
    except ValueError:  # another drive
        return str(path)
    return str(path) if relative.startswith("..") else relative

