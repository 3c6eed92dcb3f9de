"""What both scripts need around their music: options, one-sentence errors, progress, folders.

Importing this module imports nothing heavy, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from companion.start import HERE
from synths import InputError

# What a run leaves in its folder; a folder that holds any of it belongs to that run.
RESULTS = ("*.wav", "*.png", "*.html")
# What a folder given to --sounds is searched for.
SOUNDS = (".wav", ".flac", ".ogg", ".oga", ".mp3", ".aif", ".aiff", ".au", ".caf", ".w64")


def number(kind: type, low: float, high: float, unit: str = "") -> Callable[[str], float]:
    """An argparse type: a number of `kind` within [low, high]; what it says names the unit."""
    def parse(text: str):
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not low <= value <= high:
            raise argparse.ArgumentTypeError(
                f"must be a number from {low:g} to {high:g}{unit and ' ' + unit}, found {text!r}")
        return value
    return parse


def option_parser(description: str, output: str, checkpoints: str) -> argparse.ArgumentParser:
    """The parser with the options that mean the same in both scripts.

    Parameters
    ----------
    description : str
        First line of `--help`.
    output : str
        Default folder of the results, relative to the scripts' folder.
    checkpoints : str
        The official checkpoints that this script can use, for the help text.
    """
    parser = argparse.ArgumentParser(
        usage="%(prog)s [options]", description=description.strip().splitlines()[0],
        allow_abbrev=False, add_help=False, formatter_class=lambda prog: argparse.HelpFormatter(
            prog, max_help_position=30, width=min(100, shutil.get_terminal_size().columns - 2)))
    group = parser.add_argument_group("in both examples")
    group.add_argument("-h", "--help", action="help", help="show this and stop")
    group.add_argument("--checkpoint", metavar="NAME|PATH",
                       help=f"weights: {checkpoints}, or a path (default: official if here, "
                            "else the starter that ships)")
    group.add_argument("--download", action="store_true",
                       help="fetch what the book used, once")
    group.add_argument("--output", type=Path, default=HERE / output, metavar="DIR",
                       help=f"folder of the results (default: {output})")
    group.add_argument("--overwrite", action="store_true",
                       help="replace an earlier run's results")
    group.add_argument("--seed", type=number(int, 0, 2**32 - 1), metavar="N",
                       help="repeats a run exactly (default: new, printed)")
    group.add_argument("--labels", action="store_true",
                       help="pictures with axes: seconds, notes and Hz")
    group.add_argument("--threads", type=number(int, 1, 1024), metavar="N",
                       help="processor threads (default: all cores)")
    group.add_argument("--quiet", action="store_true", help="print errors only")
    return parser


def run(app: Callable[[argparse.Namespace], None], parser: argparse.ArgumentParser) -> None:
    """Parse the options, run `app`, and turn what goes wrong into one sentence and an exit code."""
    options = parser.parse_args()
    if options.seed is None:
        options.seed = secrets.randbelow(10**6)
    try:
        app(options)
    except InputError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        sys.exit(f"error: the system refused: {error.strerror or error}{where}")
    except KeyboardInterrupt:
        print("\nstopped; what was finished is kept", file=sys.stderr)
        sys.exit(130)


def say(options: argparse.Namespace, message: str) -> None:
    """Print unless `--quiet`."""
    if not options.quiet:
        print(message, flush=True)


def command_line(options: argparse.Namespace) -> str:
    """The command that repeats this run to the same samples: the options given, and the seed."""
    words = list(sys.argv[1:])
    if not any(word == "--seed" or word.startswith("--seed=") for word in words):
        words += ["--seed", str(options.seed)]
    return f"python {Path(sys.argv[0]).name} {shlex.join(words)}"


def find_weights(options: argparse.Namespace, model: str, official: str,
                 download_checkpoint: Callable) -> Path:
    """The checkpoint to use; says which on the first line.

    Naming official weights fetches them if they are not there; so does `--download`, which without
    a name means those of the book.

    Parameters
    ----------
    model : str
        "nsynth" or "gansynth".
    official : str
        The book's weights for it.
    download_checkpoint : callable
        The script's own.

    Raises
    ------
    InputError
        If there are no such weights.
    """
    from synths.weights import checkpoints
    name = options.checkpoint or (official if options.download else None)
    known = checkpoints.CHECKPOINTS.get(name)
    if known is not None and known.url is not None and known.model == model:
        with progress(options, f"fetching {name}", 1e-6, "MB") as bar:
            download_checkpoint(name, progress=bar)
    prefix = checkpoints.find(name, model)
    options.weights = checkpoints.describe(prefix, model)
    say(options, f"weights: {options.weights}")
    return prefix


def find_sounds(options: argparse.Namespace, shipped: Sequence[str]) -> list[Path]:
    """The sounds to use: the user's, else the book's if they are here, else those that ship.

    `--download`, or naming one of the book's sounds, fetches all four of them.

    Raises
    ------
    InputError
        If a folder holds no sound.
    """
    from synths.weights import downloads
    folder = HERE / "sounds"
    book = [folder / name for name in downloads.BOOK_SOUNDS]
    wanted = [Path(word) for word in options.sounds or ()]
    if options.download or {path.name for path in wanted if not path.exists()} & set(
            downloads.BOOK_SOUNDS):
        with progress(options, "fetching the book's sounds", 1e-6, "MB") as bar:
            downloads.fetch_book_sounds(folder, bar)
    if not wanted:
        return book if all(path.is_file() for path in book) else [
            sound_path(name) for name in shipped]
    sounds: list[Path] = []
    for path in wanted:
        if not path.is_dir():
            sounds.append(sound_path(path))
            continue
        inside = sorted(entry for entry in path.iterdir() if entry.suffix.lower() in SOUNDS)
        if not inside:
            raise InputError(f"A folder of sounds needs files that end in {', '.join(SOUNDS)}, "
                             f"and {path} has none: name another one.")
        sounds.extend(inside)
    return sounds


def sound_path(filename: str | Path) -> Path:
    """A path as it is, or else the file of that name in the "sounds" folder."""
    path, shipped = Path(filename), HERE / "sounds" / filename
    return shipped if shipped.exists() and not path.exists() else path


def is_encoding(filename: str | Path) -> bool:
    """Whether the file holds an encoding, and not a sound."""
    return Path(filename).suffix == ".npy"


def find_pairs(options: argparse.Namespace, names: Sequence[str],
               weights: tuple[float, float]) -> list[tuple[int, int]]:
    """The pairs to mix, by place: `--pairs`, else all; each once where its order does not matter.

    Raises
    ------
    InputError
        If one of `--pairs` is none.
    """
    from synths.nsynth import mixing
    if options.pairs:
        return mixing.chosen_pairs(names, options.pairs)
    ordered = not options.steps and (options.crossfade or weights[0] != weights[1])
    return list(mixing.pairs(len(names), ordered))


def score_names(paths: Sequence[str | Path]) -> list[str]:
    """The names of the files without ending, unlike each other and unlike "overview"."""
    names: list[str] = []
    for path in map(Path, paths):
        name, count = path.stem, 1
        while name.lower() in {"overview", *map(str.lower, names)}:
            count += 1
            name = f"{path.stem}-{count}"
        names.append(name)
    return names


def say_sounds(options: argparse.Namespace, sounds: Sequence[Path], names: Sequence[str]) -> None:
    """Say what is done to each sound before it is encoded: cut, padded, trimmed, levelled."""
    import soundfile
    words = []
    for path, name in zip(sounds, names):
        if is_encoding(path):
            words.append(f"{name} (a saved encoding)")
            continue
        length = soundfile.info(path).duration
        words.append(f"{name} ({length:.2g} s" + (
            ")" if abs(length - options.seconds) < 0.005 else
            ", cut)" if length > options.seconds else ", then silence)"))
    done = [text for flag, text in ((options.trim, "silence at the beginning left out"),
                                    (options.level, "peaks brought to 0.9")) if flag]
    say(options, f"sounds, {options.seconds:g} s of each: {', '.join(words)}"
                 + "".join(f"; {text}" for text in done) + f"; seed {options.seed}")


def find_engine(options: argparse.Namespace, checkpoint: Path):
    """The module that encodes and decodes: ours, or with `--engine magenta` Magenta's own.

    Raises
    ------
    InputError
        If Magenta's cannot load the checkpoint, or cannot do what is asked.
    """
    if options.engine == "fast":
        from synths import nsynth
        return nsynth
    from synths.nsynth import magenta as fastgen
    fastgen.official(checkpoint, options.temperature)
    return fastgen


def results_dir(options: argparse.Namespace) -> Path:
    """The folder for this run's results: `--output`, or that with -2, -3, ... if it holds a run's.

    Nothing is overwritten unless asked.  The folder is made and written to once, so that a full or
    read-only disk is noticed before the work and not after it.

    Raises
    ------
    InputError
        If the folder cannot be made or written.
    """
    from audio_utils import check_output_dir
    wanted = folder = options.output
    count = 1
    while not options.overwrite and folder.is_dir() and any(
            next(folder.glob(pattern), None) for pattern in RESULTS):
        count += 1
        folder = wanted.with_name(f"{wanted.name}-{count}")
    check_output_dir(folder)
    if folder != wanted:
        say(options, f"{shown(wanted)} holds an earlier run, so this one goes to {shown(folder)} "
                     "(--overwrite replaces it)")
    return folder


@contextlib.contextmanager
def page_at_end(options: argparse.Namespace, output_dir: Path,
                make_page: Callable[[], Path | None]) -> Iterator[None]:
    """Make the page after the work, also when it is stopped: then of what is finished.

    Parameters
    ----------
    make_page : callable
        Returns the page, or None if there is nothing to show.  It finds when the work began in
        `options.began` (seconds since the epoch), and whether it was stopped in `options.stopped`.
    """
    options.began, options.stopped = time.time(), False
    try:
        yield
    except KeyboardInterrupt:
        options.stopped = True
        print("\nstopping: making the page of what is finished (Ctrl-C again: without)",
              file=sys.stderr)
        page = make_page()
        if page is not None:
            say(options, f"finished so far: {shown(output_dir)} (listen: {shown(page)})")
        raise
    page = make_page()
    say(options, f"again: {command_line(options)}")
    say(options, f"results: {shown(output_dir)} (listen: {shown(page)})")


def shown(path: Path) -> str:
    """`path` as short as it can be said from where the user stands."""
    try:
        return os.path.relpath(path) if not os.path.relpath(path).startswith("..") else str(path)
    except ValueError:  # another drive
        return str(path)


@contextlib.contextmanager
def progress(options: argparse.Namespace, label: str, scale: float = 1.0,
             unit: str = "") -> Iterator[Callable[[int, int], None]]:
    """A progress bar for work that lasts over two seconds, with the time left.

    Silent with `--quiet` and where stderr is no terminal.

    Parameters
    ----------
    label : str
        What is being done, with how many: "decoding 16 clips".
    scale : float
        What one unit of the work counts in `unit`: 1 / 16000 turns samples into seconds.
    unit : str
        "s of sound", "notes", "MB".

    Yields
    ------
    Callable[[int, int], None]
        To be called with (done, total), as often as you like.
    """
    from tqdm import tqdm
    silent = options.quiet or not sys.stderr.isatty()
    bar = tqdm(desc=label, unit=unit and " " + unit, disable=silent, delay=2, leave=False,
               bar_format="{desc}: {percentage:3.0f}% |{bar:24}| {n:.1f}/{total:.1f}{unit}, "
                          "{remaining} left")

    def update(done: int, total: int) -> None:
        bar.total = total * scale
        bar.update(done * scale - bar.n)  # draws ten times a second at most

    try:
        yield update
    finally:
        bar.close()
