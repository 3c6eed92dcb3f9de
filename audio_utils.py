"""What both examples share: encodings on disk, time stretch, pictures, sounds in and out.

The first six functions are the book's, in the book's order.  Sound is float32 in [-1, 1], one
channel, 16 kHz unless told otherwise.  Whatever a user gave that cannot be used is an
`InputError` with one sentence.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from synths import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

# Matplotlib, SciPy, soundfile and soxr are imported where they are needed: `--help` is quick.

# Samples that NSynth's encoder averages into one frame of an encoding.
SAMPLES_PER_FRAME = 512

# Constant-Q transform of the book's spectrogram: from MIDI 36 up to twice the frequency of MIDI 84.
SPECTROGRAM = {"fmin": 440.0 * 2 ** ((36 - 69) / 12), "octaves": 5, "bins_per_octave": 32,
               "filter_scale": 1.0}
SPECTROGRAM_HOP = 2048
SPECTROGRAM_RANGE = 80  # dB below the loudest
# That of the rainbowgram (arXiv 1704.01279): from C2, 10 notes per octave, 4 bins per note.
RAINBOWGRAM = {"fmin": 440.0 * 2 ** ((36 - 69) / 12), "octaves": 6, "bins_per_octave": 10 * 4,
               "filter_scale": 0.8}
RAINBOWGRAM_HOP = 256  # over which the phase advances
RAINBOWGRAM_COLUMN = 64
RAINBOWGRAM_RANGE = 70
FIGURE_SIZE = (6.4, 4.8)  # inches
NOTE_NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
# Okabe and Ito's colours, told apart by all eyes, but for black and yellow (pale on white)
INSTRUMENT_COLOURS = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233),
                      (230, 159, 0))
# A picture's full brightness never stands for less than this below a full-scale sine (dB).
QUIETEST_REFERENCE = -60


def timestretch(encodings: np.ndarray, factor: float) -> np.ndarray:
    """Stretch encodings in time.

    Parameters
    ----------
    encodings : array [n, frames, channels] or [frames, channels]
    factor : float
        Above 1: more frames, a slower and longer sound of the same pitch; 1 changes nothing.

    Returns
    -------
    float32 [n, int(frames * factor), channels] (without n where `encodings` had none), each channel
    interpolated linearly between the middles of its frames.

    Raises
    ------
    InputError
        If `factor` is not a finite number above 0, or leaves no frame.
    """
    # not in print: the docstring, which had "bigger is faster"
    encodings = np.asarray(encodings, np.float32)
    if encodings.ndim not in (2, 3) or 0 in encodings.shape:
        raise InputError("An encoding is [frames, channels] or [n, frames, channels], not empty; "
                         f"this one is {list(encodings.shape)}: give what `encode` returned.")
    frames = encodings.shape[-2]
    if not (math.isfinite(factor) and factor > 0):
        raise InputError(f"The stretch factor must be above 0, not {factor}: "
                         "give 2 for twice as long, 0.5 for half as long.")
    stretched_frames = int(frames * factor + 1e-6)  # 29 * 1.1 is a hair below what it should be
    if stretched_frames < 1:
        raise InputError(f"A stretch by {factor} leaves nothing of {frames} frames: "
                         f"give a factor of at least {1 / frames:.3f}.")
    # not in print: np.interp's arithmetic, not scikit-image's resize: it needs no scaling to
    # 0..1 (which divided by zero on constant input) and never smooths
    position = (np.arange(stretched_frames) + 0.5) * frames / stretched_frames - 0.5
    position = np.clip(position, 0, frames - 1)
    before = position.astype(int)
    after = np.minimum(before + 1, frames - 1)
    weight = (position - before).astype(np.float32)[:, None]
    return encodings[..., before, :] * (1 - weight) + encodings[..., after, :] * weight


def save_encoding(encodings: Sequence[np.ndarray], filenames: Sequence[str],
                  output_dir: str | Path = "encodings") -> None:
    """Save each encoding under its file name.

    Parameters
    ----------
    encodings : sequence of arrays [frames, 16]
    filenames : sequence of str
        One for each encoding; ".npy" is added where it is missing.
    output_dir : str or Path
        Made if it is missing.

    Raises
    ------
    InputError
        If there are not as many names as encodings, or the folder cannot be written.
    """
    if len(encodings) != len(filenames):  # not in print: zip() dropped the rest in silence
        raise InputError(f"Each encoding needs one file name: there are {len(encodings)} encodings "
                         f"and {len(filenames)} names.")
    for encoding, filename in zip(encodings, filenames):
        path = Path(output_dir) / _with_npy(filename)
        with _written_beside(path) as part, open(part, "wb") as file:
            np.save(file, np.asarray(encoding), allow_pickle=False)


def load_encodings(filenames: Sequence[str],
                   input_dir: str | Path = "encodings") -> list[np.ndarray]:
    """Load what `save_encoding` saved.

    Parameters
    ----------
    filenames : sequence of str
        ".npy" is added where it is missing.
    input_dir : str or Path

    Returns
    -------
    list of arrays, float32 [frames, 16] each (or whatever shape was saved)

    Raises
    ------
    InputError
        If a file is missing or holds no encoding.
    """
    encodings = []
    for filename in filenames:
        path = Path(input_dir) / _with_npy(filename)  # not in print: only saving added ".npy"
        try:
            encoding = np.load(path, allow_pickle=False)
        except FileNotFoundError:
            raise InputError(f"There is no encoding {path}: check name and folder.") from None
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"An encoding is a .npy file of numbers, and {path} is not ({error}): "
                             "encode the sound again.") from None
        if (not isinstance(encoding, np.ndarray) or encoding.ndim not in (2, 3)
                or encoding.dtype.kind != "f" or not np.isfinite(encoding).all()):
            raise InputError(f"An encoding is finite numbers [frames, 16], and {path} holds "
                             "something else: encode the sound again.")
        encodings.append(encoding)
    return encodings


def save_encoding_plot(encoding: np.ndarray, filename: str | None = None,
                       output_dir: str | Path = "output", *, labelled: bool = False,
                       title: str | None = None, sample_rate: int = 16000,
                       dpi: int = 200) -> Path:
    """Draw an encoding, one line for each of its channels.

    Parameters
    ----------
    encoding : array [frames, channels] or [1, frames, channels]
    filename : str, optional
        Within `output_dir`; ".png" is added where it is missing.  None: the date and time.
    output_dir : str or Path
        Made if it is missing.
    labelled : bool
        Name the axes (seconds at `sample_rate`) and the channels.
    title : str, optional
        Above the picture, if `labelled`.
    dpi : int
        The picture is 6.4 by 4.8 inches.

    Returns
    -------
    Path of the picture.
    """
    encoding = np.asarray(encoding)
    if encoding.ndim == 3 and len(encoding) == 1:  # not in print: [frames, 16] drew one frame only
        encoding = encoding[0]
    if encoding.ndim != 2 or 0 in encoding.shape:
        raise InputError("One encoding is [frames, channels]; this is "
                         f"{list(np.shape(encoding))}: draw the clips one by one.")
    figure = _new_figure()
    axes = figure.add_subplot()
    draw_encoding(axes, encoding, labelled=labelled, sample_rate=sample_rate)
    if labelled:
        _head(axes, title)
    return _save_figure(figure, filename, output_dir, dpi)


def save_spectrogram_plot(audio: Any, sample_rate: int = 16000, filename: str | None = None,
                          output_dir: str | Path = "output", *, labelled: bool = False,
                          title: str | None = None, hop_length: int = SPECTROGRAM_HOP,
                          dpi: int = 200) -> Path:
    """Draw the constant-Q spectrogram of a sound: the level at each pitch and time.

    32 bins per octave from C2 (65.4 Hz) over 5 octaves, in dB below the loudest, down to -80.

    Parameters
    ----------
    audio : array [samples], float in [-1, 1]
    sample_rate : int
        In Hz.
    filename : str, optional
        Within `output_dir`; ".png" is added where it is missing.  None: the date and time.
    output_dir : str or Path
        Made if it is missing.
    labelled : bool
        Show the axes (note names, Hz, seconds) and the scale of levels.  Bare in the book.
    title : str, optional
        Above the picture, if `labelled`.
    hop_length : int
        Samples between two columns; fewer are finer in time.
    dpi : int
        The picture is 6.4 by 4.8 inches.

    Returns
    -------
    Path of the picture.
    """
    audio = _mono(audio)
    if not labelled:
        return _save_image(_spectrogram_image(audio, sample_rate, hop_length),
                           len(audio) / hop_length, filename, output_dir, dpi)
    figure = _new_figure()
    axes = figure.add_subplot()
    draw_spectrogram(axes, audio, sample_rate, labelled=True, hop_length=hop_length)
    _level_bar(figure, axes)
    _head(axes, title)
    return _save_figure(figure, filename, output_dir, dpi)


def save_rainbowgram_plot(audio: Any, sample_rate: int = 16000, filename: str | None = None,
                          output_dir: str | Path = "output", *, labelled: bool = False,
                          title: str | None = None, dpi: int = 200) -> Path:
    """Draw the rainbowgram of a sound: a constant-Q spectrogram whose colour shows the phase.

    Brightness is the log magnitude, over 70 dB, from black.  Colour is the derivative of the phase
    in time, that is the frequency within a bin: a steady tone keeps one colour, a gliding one runs
    through the rainbow.  Parameters from arXiv 1704.01279 and J. Engel's published script.

    Parameters
    ----------
    audio : array [samples], float in [-1, 1]
    sample_rate : int
        In Hz.
    filename : str, optional
        Within `output_dir`; ".png" is added where it is missing.  None: the date and time.
    output_dir : str or Path
        Made if it is missing.
    labelled : bool
        Show the axes (note names, Hz, seconds) and the scale of colours.  Bare in the book.
    title : str, optional
        Above the picture, if `labelled`.
    dpi : int
        The picture is 6.4 by 4.8 inches.

    Returns
    -------
    Path of the picture.
    """
    audio = _mono(audio)
    if not labelled:
        return _save_image(_rainbowgram_image(audio, sample_rate),
                           len(audio) / RAINBOWGRAM_COLUMN, filename, output_dir, dpi)
    figure = _new_figure()
    axes = figure.add_subplot()
    draw_rainbowgram(axes, audio, sample_rate, labelled=True)
    _phase_bar(figure, axes)
    _head(axes, title)
    return _save_figure(figure, filename, output_dir, dpi)


# One picture for a whole run


def save_overview_plot(sources: Sequence[Any], source_names: Sequence[str],
                       mixes: Mapping[tuple[int, int], Any], filename: str | None = None,
                       output_dir: str | Path = "output", *, sample_rate: int = 16000,
                       title: str | None = None, dpi: int = 150) -> Path:
    """Draw the rainbowgrams of all sounds and all mixes in one square.

    The sources stand on the diagonal, framed; the mix of sources i and j in row i and column j.

    Parameters
    ----------
    sources : sequence of n arrays [samples]
    source_names : sequence of n str
    mixes : mapping of (i, j), counted from 0, to arrays [samples]
        A mix that is missing leaves its place empty.
    filename : str, optional
        Within `output_dir`; ".png" is added where it is missing.  None: the date and time.
    output_dir : str or Path
        Made if it is missing.
    sample_rate : int
        In Hz.
    title : str, optional
    dpi : int
        A cell is 2.4 by 2 inches.

    Returns
    -------
    Path of the picture.

    Raises
    ------
    InputError
        If there are not as many names as sources, or a mix is of a source that is not there.
    """
    from matplotlib.patches import Rectangle

    count = len(sources)
    if not count or len(source_names) != count:
        raise InputError("Each sound of an overview needs one name: there are "
                         f"{count} sounds and {len(source_names)} names.")
    if any(not (0 <= i < count and 0 <= j < count and i != j) for i, j in mixes):
        raise InputError(f"A mix is of two of the {count} sounds, counted from 0; "
                         f"there are mixes of {sorted(mixes)}.")
    cells = {**{(i, i): _mono(audio) for i, audio in enumerate(sources)},
             **{pair: _mono(audio) for pair, audio in mixes.items()}}
    longest = max(map(len, cells.values()))
    # One image on one axes, each cell 1 by 1: n * n axes would take seconds.
    images = {pair: _rainbowgram_image(audio, sample_rate) for pair, audio in cells.items()}
    rows, columns = (max(image.shape[axis] for image in images.values()) for axis in (0, 1))
    pitch = 1.08  # from cell to cell
    mosaic = np.full((round((pitch * (count - 1) + 1) * rows),
                      round((pitch * (count - 1) + 1) * columns), 3), 255, np.uint8)
    for i, j in np.ndindex(count, count):
        cell = mosaic[round(i * pitch * rows):, round(j * pitch * columns):][:rows, :columns]
        cell[:] = 0 if (i, j) in cells else 240
        if (i, j) in cells:
            image = images[i, j][::-1]
            cell[:, :image.shape[1]] = image
    figure = _new_figure(2.4 * count + 1.4, 2 * count + 1.2)
    axes = figure.add_subplot()
    origin = np.arange(count) * pitch  # of the columns from the left, of the rows from the top
    axes.imshow(mosaic, aspect="auto", interpolation="nearest",
                extent=(0, origin[-1] + 1, -origin[-1] - 1, 0))
    for place in origin:
        axes.add_patch(Rectangle((place, -place - 1), 1, 1, fill=False, edgecolor="tab:orange",
                                 linewidth=3))
    axes.set_xlim(-0.01, origin[-1] + 1.01)
    axes.set_ylim(-origin[-1] - 1.01, 0.01)
    axes.spines[:].set_visible(False)
    for place, name in zip(origin + 0.5, map(_short, source_names)):
        axes.annotate(name, (place, 0), (0, 5), textcoords="offset points", ha="center",
                      fontsize=12, parse_math=False)
        axes.annotate(name, (0, -place), (-26, 0), textcoords="offset points", ha="right",
                      va="center", rotation=90, fontsize=12, parse_math=False)
    marks, octaves = (0, 0.5, 1), (0, 2, 4)
    axes.set_xticks([place + mark for place in origin for mark in marks],
                    [f"{mark * longest / sample_rate:.3g}" for _ in origin for mark in marks],
                    fontsize=9)
    height = RAINBOWGRAM["octaves"]
    axes.set_yticks([octave / height - 1 - place for place in origin for octave in octaves],
                    [_octave_name(RAINBOWGRAM, octave) for _ in origin for octave in octaves],
                    fontsize=9)
    axes.set_xlabel("seconds\n"
                    "framed: the sounds; elsewhere: the row's sound mixed with the column's")
    _phase_bar(figure, axes, aspect=12 * count)
    figure.suptitle(title or "", fontsize=14, parse_math=False)
    return _save_figure(figure, filename, output_dir, dpi)


def save_score_plot(notes: Mapping[str, Any], audio: Any, t_instruments: Sequence[float] = (),
                    instrument_names: Sequence[str] | None = None, filename: str | None = None,
                    output_dir: str | Path = "output", *, sample_rate: int = 16000,
                    title: str | None = None, dpi: int = 150) -> Path:
    """Draw a score as a piano roll above the constant-Q spectrogram of its sound.

    A note has the colour of its instrument; between two instruments the colour moves from one to
    the other as the timbre does.  A softer note is paler.

    Parameters
    ----------
    notes : mapping
        "pitches" and "velocities" (MIDI), "start_times" and "end_times" (seconds), one entry per
        note each.
    audio : array [samples], float in [-1, 1]
    t_instruments : sequence of k floats
        Seconds at which each instrument sounds unmixed, ascending.
    instrument_names : sequence of k str, optional
        The same name has the same colour; 1, 2, 3 ... if None.
    filename : str, optional
        Within `output_dir`; ".png" is added where it is missing.  None: the date and time.
    output_dir : str or Path
        Made if it is missing.
    sample_rate : int
        In Hz.
    title : str, optional
    dpi : int
        The picture is 12 by 7.5 inches.

    Returns
    -------
    Path of the picture.

    Raises
    ------
    InputError
        If there are not as many names as instruments.
    """
    from matplotlib.collections import PolyCollection

    audio = _mono(audio)
    times = np.asarray(t_instruments, float)
    names = [str(i + 1) for i in range(len(times))] if instrument_names is None else list(
        instrument_names)
    if len(names) != len(times):
        raise InputError("Each instrument needs one name: there are "
                         f"{len(times)} instruments and {len(names)} names.")
    starts, ends, pitches, velocities = (
        np.asarray(notes[key], float)
        for key in ("start_times", "end_times", "pitches", "velocities"))
    seconds = max(len(audio) / sample_rate, ends.max(initial=0))

    figure = _new_figure(12, 7.5)
    grid = figure.add_gridspec(3, 2, height_ratios=(3, 0.22, 4), width_ratios=(1, 0.015))
    roll = figure.add_subplot(grid[0, 0])
    strip = figure.add_subplot(grid[1, 0], sharex=roll)
    spectrogram = figure.add_subplot(grid[2, 0], sharex=roll)

    colours = np.column_stack([_instrument_colours(starts, times, names),
                               0.35 + 0.65 * np.clip(velocities, 0, 127) / 127])
    boxes = [[(a, p - 0.45), (a, p + 0.45), (b, p + 0.45), (b, p - 0.45)]
             for a, b, p in zip(starts, ends, pitches)]
    roll.add_collection(PolyCollection(boxes, facecolors=colours, edgecolors="none"))
    low, high = (pitches.min(), pitches.max()) if len(pitches) else (60, 60)
    roll.set_ylim(low - 1.5, high + 1.5)
    classes = "C" if high - low > 36 else "CG" if high - low > 12 else "CDEFGAB"
    ticks = [p for p in range(int(low) - 1, int(high) + 2) if NOTE_NAMES[p % 12] in classes]
    roll.set_yticks(ticks, [f"{NOTE_NAMES[p % 12]}{p // 12 - 1}" for p in ticks])
    roll.grid(axis="y", color="0.9")
    roll.set_axisbelow(True)
    roll.set_ylabel("score")
    roll.tick_params(labelbottom=False)
    roll.set_title(title or "", loc="left", parse_math=False)

    x = np.linspace(0, seconds, 1000)
    strip.imshow(_instrument_colours(x, times, names)[None], aspect="auto",
                 extent=(0, seconds, 0, 1))
    strip.set_yticks([])
    strip.tick_params(bottom=False, labelbottom=False)
    strip.set_ylabel("instrument", rotation=0, ha="right", va="center")
    last = -math.inf
    for t, name in zip(np.clip(times, 0, seconds), names):
        roll.axvline(t, color="0.5", linewidth=1, linestyle=":")
        spectrogram.axvline(t, color="white", linewidth=1, linestyle=":", alpha=0.7)
        if t - last >= seconds * (0.012 + 0.008 * len(name)):  # leave out what would overlap
            strip.annotate(name, (t, 0.5), (-2 if t > seconds * 0.99 else 2, 0), va="center",
                           ha="right" if t > seconds * 0.99 else "left", color="white",
                           textcoords="offset points", fontweight="bold", fontsize=9,
                           parse_math=False)
            last = t

    hop = 512
    while len(audio) > 2000 * hop:
        hop *= 2
    draw_spectrogram(spectrogram, audio, sample_rate, labelled=True, hertz=False, hop_length=hop)
    spectrogram.set_ylabel("sound")
    _level_bar(figure, spectrogram, cax=figure.add_subplot(grid[2, 1]))
    roll.set_xlim(0, seconds)
    return _save_figure(figure, filename, output_dir, dpi)


# Sounds in and out


def load_audio(path: str | Path, sample_length: int | None = None, sample_rate: int = 16000, *,
               offset: float = 0.0, trim_silence: bool = False, peak: float | None = None,
               fade: float = 0.0) -> np.ndarray:
    """Read a sound: WAV, FLAC, OGG, MP3, AIFF, whatever libsndfile knows, of any rate and channels.

    Parameters
    ----------
    path : str or Path
    sample_length : int, optional
        Samples returned: a longer sound is cut, a shorter one followed by zeros.  None: all of it.
    sample_rate : int
        Hz of what is returned.
    offset : float
        Seconds left out at the beginning.
    trim_silence : bool
        Leave out what comes before the sound first rises to 40 dB below its peak (less 5 ms).
    peak : float, optional
        Scale the sound so that its largest absolute value is this, in (0, 1].
    fade : float
        Seconds faded in at the beginning and out at the end of the sound, so that nothing clicks.

    Returns
    -------
    float32 [samples] in [-1, 1), all channels averaged.  Only a sound above full scale (a float
    file, or between the samples of a loud one) is scaled, down to it; +1 itself has no mu-law code.

    Raises
    ------
    InputError
        If there is no such file, it is no sound, is empty, or has values that are not numbers.
    """
    import soundfile

    path = Path(path)
    if sample_length is not None and sample_length < 1:
        raise InputError(f"A sound is at least one sample long, not {sample_length}.")
    if peak is not None and not 0 < peak <= 1:
        raise InputError(f"A peak level must be above 0 and at most 1, not {peak}.")
    if not (math.isfinite(offset) and offset >= 0):
        raise InputError(f"Seconds to leave out must be 0 or more, not {offset}.")
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise InputError(f"A sound must be a file, and {path} {what}: check the name.")
    try:
        with soundfile.SoundFile(path) as file:
            file_rate = file.samplerate
            wanted = -1
            if sample_length is not None and not trim_silence:
                # 0.1 s more than is kept: the resampler looks ahead
                wanted = math.ceil((offset + sample_length / sample_rate + 0.1) * file_rate)
            channels = file.read(wanted, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        reason = str(getattr(error, "error_string", error)).rstrip(".")
        raise InputError(f"A sound must be WAV, FLAC, OGG, MP3 or AIFF, and {path} cannot be read "
                         f"as any of them ({reason}): convert it to WAV.") from None
    if not len(channels):
        raise InputError(f"A sound needs at least one sample, and {path} has none: "
                         "record or export it again.")
    audio = channels.mean(axis=1)
    if not np.isfinite(audio).all():
        raise InputError(f"A sound must be finite numbers, and {path} has NaN or infinite samples: "
                         "export it again.")
    if file_rate != sample_rate:
        import soxr

        audio = soxr.resample(audio, file_rate, sample_rate, quality="HQ")
    duration = len(audio) / sample_rate
    audio = audio[round(offset * sample_rate):]
    if not len(audio):
        raise InputError(f"{offset} s cannot be left out of {path}, {duration:.2f} s long: "
                         "leave out less.")
    if trim_silence and np.any(audio):
        onset = int(np.argmax(np.abs(audio) >= 0.01 * np.abs(audio).max()))
        audio = audio[max(0, onset - round(0.005 * sample_rate)):]
    audio = audio[:sample_length].astype(np.float32)
    loudest = float(np.abs(audio).max())
    if peak is not None and loudest > 0:
        audio *= peak / loudest
    elif loudest > 1:
        audio /= loudest
    ramp = min(round(fade * sample_rate), len(audio) // 2)
    if ramp > 0:
        slope = ((np.arange(ramp) + 0.5) / ramp).astype(np.float32)
        audio[:ramp] *= slope
        audio[-ramp:] *= slope[::-1]
    np.clip(audio, -1, 32767 / 32768, out=audio)
    if sample_length is not None:
        audio = np.pad(audio, (0, max(0, sample_length - len(audio))))
    return audio


def save_wav(audio: Any, path: str | Path, sample_rate: int = 16000) -> float:
    """Write a sound as a 16-bit WAV file, complete or not at all.

    Parameters
    ----------
    audio : array [samples], float
        Above 1 it is scaled down to full scale, never clipped.
    path : str or Path
        Its folder is made if it is missing.
    sample_rate : int
        In Hz.

    Returns
    -------
    float
        What the sound was multiplied by: 1.0 unless it had to be scaled down.

    Raises
    ------
    InputError
        If the sound is empty or not finite, or the folder cannot be written.
    """
    import soundfile

    audio = _mono(audio)
    gain = 1 / max(1.0, float(np.abs(audio).max()))
    samples = np.rint(audio * (gain * 32767)).astype(np.int16)
    with _written_beside(Path(path)) as part:
        soundfile.write(part, samples, sample_rate, subtype="PCM_16", format="WAV")
    return gain


def check_output_dir(path: str | Path) -> Path:
    """Make the folder if it is missing and make sure that a file can be written in it.

    Meant to be called before long work.

    Raises
    ------
    InputError
        If it cannot be made, is a file, or cannot be written.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"The output goes into a folder, and a file stands in the way of {path}: "
                         "name another folder.") from None
    except OSError as error:
        raise InputError(f"The output folder must be writable, and {path} is not "
                         f"({error.strerror or error}): name another folder.") from None
    return path


# Drawing on given axes


def constant_q(audio: np.ndarray, sample_rate: int, hop_length: int, *, fmin: float, octaves: int,
               bins_per_octave: int, filter_scale: float = 1.0) -> np.ndarray:
    """Constant-Q transform, as `librosa.cqt` defines and scales it, in a tenth of its time.

    Bin k is the sound heard through a Hann window of `filter_scale * Q` periods of its centre
    frequency `fmin * 2**(k / bins_per_octave)` (Schoerkhuber and Klapuri, SMC 2010).  The window's
    spectrum is known in closed form and narrow, so each bin is a few lines of the sound's one
    Fourier transform, folded to the hop's rate; beyond its ends the sound is silent.
    librosa's first call compiles for most of a minute, which a picture must not cost.

    Returns
    -------
    complex64 [octaves * bins_per_octave, 1 + samples // hop_length]; a bin above half the sample
    rate is 0.  A sine of amplitude a in the middle of a bin has magnitude a / 2 * sqrt(window).
    """
    from scipy import fft

    # not in print: librosa.cqt, the same numbers (tests compare them) after a minute of compiling
    longest = _window_length(sample_rate, fmin, bins_per_octave, filter_scale)
    frames = 1 + len(audio) // hop_length
    # room for the longest window, or the end would be heard at the beginning
    rows = fft.next_fast_len(math.ceil((len(audio) + longest) / hop_length))
    size = rows * hop_length
    spectrum = fft.rfft(np.asarray(audio, np.float32), size)
    folded = np.zeros((octaves * bins_per_octave, rows), np.complex64)
    # the clips of a run are of one length: what they have in common is kept, up to half a minute
    filters = _kept_filters if size <= 2**19 else _filters
    for k, (first, response) in enumerate(filters(size, sample_rate, fmin, octaves, bins_per_octave,
                                                  filter_scale)):
        lead, length = first % rows, len(response)
        turns = np.zeros(-(-(lead + length) // rows) * rows, np.complex64)
        turns[lead:lead + length] = spectrum[first:first + length] * response
        folded[k] = turns.reshape(-1, rows).sum(0)
    return fft.ifft(folded, axis=1)[:, :frames] / np.float32(hop_length)


def _window_length(sample_rate: int, frequency: float, bins_per_octave: int,
                   filter_scale: float) -> float:
    """Samples under the window of a bin (librosa's relative bandwidth)."""
    ratio = 2.0 ** (2 / bins_per_octave)
    return filter_scale * (ratio + 1) / (ratio - 1) * sample_rate / frequency


def _filters(size: int, sample_rate: int, fmin: float, octaves: int, bins_per_octave: int,
             filter_scale: float) -> Iterator[tuple[int, np.ndarray]]:
    """For each bin below half the sample rate: its first line and its gain there and after."""
    for k in range(octaves * bins_per_octave):
        frequency = fmin * 2 ** (k / bins_per_octave)
        if frequency > sample_rate / 2:
            return
        window = _window_length(sample_rate, frequency, bins_per_octave, filter_scale)
        centre, reach = frequency / sample_rate * size, 8 * size / window
        first = max(0, math.ceil(centre - reach))
        last = min(size // 2, math.floor(centre + reach))
        u = (np.arange(first, last + 1) - centre) * (window / size)
        side = 1 - u * u
        near = np.abs(side) < 1e-6  # u = 1 and -1, where the limit is 1/2
        response = np.where(near, 0.5, np.sinc(u) / np.where(near, 1, side))  # Hann's spectrum
        yield first, (response * math.sqrt(window)).astype(np.float32)


@functools.lru_cache(maxsize=4)
def _kept_filters(*args: Any) -> list[tuple[int, np.ndarray]]:
    return list(_filters(*args))


def _decibels(magnitude: np.ndarray, full_scale: float, dynamic_range: float) -> np.ndarray:
    """Level below the loudest (dB), floored at -`dynamic_range`; silence is at the floor."""
    reference = max(float(magnitude.max()), full_scale * 10 ** (QUIETEST_REFERENCE / 20))
    floor = reference * 10 ** (-dynamic_range / 20)
    return 20 * np.log10(np.maximum(magnitude, floor) / reference)


def rainbowgram(audio: np.ndarray, sample_rate: int = 16000) -> tuple[np.ndarray, np.ndarray]:
    """Phase derivative and brightness of a rainbowgram, a column for each 64 samples.

    Returns
    -------
    dphase : float [bins, columns]
        Advance of the phase over 256 samples, in half turns, -1 to 1.
    brightness : float [bins, columns]
        Log magnitude, 0 (70 dB below the loudest, or silent) to 1 (the loudest).
    """
    # not in print: four columns for each hop, else a second of sound is 63 coarse steps; what
    # they show is the same
    transform = constant_q(audio, sample_rate, RAINBOWGRAM_COLUMN, **RAINBOWGRAM)
    hop = RAINBOWGRAM_HOP // RAINBOWGRAM_COLUMN
    dphase = np.angle(transform[:, hop:] * transform[:, :-hop].conj()) / np.pi
    # not in print: the book's first column shows the phase itself, not how it moves
    if dphase.shape[1]:
        dphase = np.pad(dphase, ((0, 0), (hop, 0)), mode="edge")
    else:
        dphase = np.zeros(transform.shape, np.float32)
    decibels = _decibels(np.abs(transform), _full_scale(RAINBOWGRAM, sample_rate),
                         RAINBOWGRAM_RANGE)
    return dphase, decibels / RAINBOWGRAM_RANGE + 1


def draw_encoding(axes: Axes, encoding: np.ndarray, *, labelled: bool = False,
                  sample_rate: int = 16000) -> None:
    """Draw an encoding [frames, channels] on the axes, a line for each channel."""
    import matplotlib

    # not in print: 16 colours for 16 channels; the book's ten came round again
    colours = matplotlib.colormaps["turbo"](np.linspace(0.05, 0.95, encoding.shape[1]))
    seconds = SAMPLES_PER_FRAME / sample_rate if labelled else 1
    for channel, colour in enumerate(colours):
        axes.plot((np.arange(len(encoding)) + 0.5 * labelled) * seconds, encoding[:, channel],
                  color=colour, linewidth=1.5, label=str(channel + 1))
    axes.margins(x=0)
    if labelled:
        axes.set_xlabel("seconds")
        axes.set_ylabel("encoding")
        axes.legend(title="channel", loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8,
                    frameon=False)


def draw_spectrogram(axes: Axes, audio: Any, sample_rate: int = 16000, *, labelled: bool = False,
                     hertz: bool = True, hop_length: int = SPECTROGRAM_HOP) -> None:
    """Draw a constant-Q spectrogram on the axes, labelled with notes and, if told, `hertz`."""
    audio = _mono(audio)
    _show(axes, _spectrogram_image(audio, sample_rate, hop_length), SPECTROGRAM, hop_length,
          len(audio), sample_rate, labelled, hertz)


def draw_rainbowgram(axes: Axes, audio: Any, sample_rate: int = 16000, *,
                     labelled: bool = False) -> None:
    """Draw a rainbowgram on the axes."""
    audio = _mono(audio)
    _show(axes, _rainbowgram_image(audio, sample_rate), RAINBOWGRAM, RAINBOWGRAM_COLUMN,
          len(audio), sample_rate, labelled)


def _spectrogram_image(audio: np.ndarray, sample_rate: int, hop_length: int) -> np.ndarray:
    """The spectrogram's colours, uint8 [bins, columns, 3], the lowest bin first."""
    import matplotlib

    # not in print: magnitude first; dB of complex numbers dropped the phase with a warning
    magnitude = np.abs(constant_q(audio, sample_rate, hop_length, **SPECTROGRAM))
    decibels = _decibels(magnitude, _full_scale(SPECTROGRAM, sample_rate), SPECTROGRAM_RANGE)
    return matplotlib.colormaps["magma"](decibels / SPECTROGRAM_RANGE + 1, bytes=True)[..., :3]


def _rainbowgram_image(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """The rainbowgram's colours, uint8 [bins, columns, 3], the lowest bin first."""
    dphase, brightness = rainbowgram(audio, sample_rate)
    # not in print: coloured here, in one image: register_cmap is gone from Matplotlib, and a
    # phase advance has the same colour in every picture
    colour = _rainbow()(dphase * 0.5 + 0.5)[..., :3] * brightness[..., None]
    return np.rint(colour * 255).astype(np.uint8)


@functools.lru_cache(maxsize=1)
def _rainbow() -> Colormap:
    """Matplotlib's rainbow from violet to red, and on through magenta until the ends meet."""
    import matplotlib
    from matplotlib.colors import ListedColormap

    # not in print: the ends meet, for half a turn forwards is half a turn backwards, and a steady
    # tone there would flicker between red and violet
    rainbow = matplotlib.colormaps["rainbow"](np.linspace(0, 1, 232))
    violet, red = rainbow[0], rainbow[-1]
    between = red + (violet - red) * (np.arange(24) + 0.5)[:, None] / 24
    return ListedColormap(np.concatenate([between[12:], rainbow, between[:12]]))


def _show(axes: Axes, image: np.ndarray, transform: dict[str, float], hop_length: int, samples: int,
          sample_rate: int, labelled: bool, hertz: bool = True) -> None:
    """Show a transform's image with time in seconds and height in octaves above fmin."""
    column, row = hop_length / sample_rate, 1 / transform["bins_per_octave"]
    octaves = transform["octaves"]
    # not in print: the axes know fmin, bins and hop (the book's bare picture hid that they did not)
    axes.imshow(image, origin="lower", aspect="auto", interpolation="nearest",
                extent=(-column / 2, (image.shape[1] - 0.5) * column,
                        -row / 2, octaves - row / 2))
    axes.set_xlim(0, samples / sample_rate)
    axes.set_facecolor("black")
    if not labelled:
        axes.set_axis_off()
        return
    axes.set_xlabel("seconds")
    axes.set_yticks(range(octaves), [_octave_name(transform, octave) for octave in range(octaves)])
    if not hertz:
        return
    right = axes.secondary_yaxis("right")
    right.set_yticks(range(octaves),
                     [f"{transform['fmin'] * 2 ** octave:.0f}" for octave in range(octaves)])
    right.set_ylabel("Hz", rotation=0, va="bottom", ha="left")
    right.yaxis.set_label_coords(1.02, 1.01)


def _colour_bar(figure: Figure, axes: Axes, cmap: str | Colormap, label: str, low: float,
                high: float, ticks: dict[float, str], **options: Any) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    if "cax" not in options:
        options.update(ax=axes, pad=0.02)
    bar = figure.colorbar(ScalarMappable(Normalize(low, high), cmap), ticks=list(ticks),
                          label=label, **options)
    bar.ax.set_yticklabels(list(ticks.values()))


def _level_bar(figure: Figure, axes: Axes, **options: Any) -> None:
    """The scale of a spectrogram's levels."""
    ticks = {-level: f"{-level}" for level in range(0, SPECTROGRAM_RANGE + 1, 20)}
    _colour_bar(figure, axes, "magma", "dB below the loudest", -SPECTROGRAM_RANGE, 0, ticks,
                **options)


def _phase_bar(figure: Figure, axes: Axes, **options: Any) -> None:
    """The scale of a rainbowgram's colours."""
    pi = "\N{GREEK SMALL LETTER PI}"
    _colour_bar(figure, axes, _rainbow(), f"phase advance over {RAINBOWGRAM_HOP} samples", -1, 1,
                {-1: f"\N{MINUS SIGN}{pi}", 0: "0", 1: pi}, **options)


def _instrument_colours(seconds: np.ndarray, times: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """RGB [n, 3] at each time, between the colours of the instruments before and after it."""
    if not len(times):
        return np.full((len(seconds), 3), 0.3)
    kinds = list(dict.fromkeys(names))
    palette = np.array([INSTRUMENT_COLOURS[kinds.index(name) % len(INSTRUMENT_COLOURS)]
                        for name in names]) / 255
    return np.column_stack([np.interp(seconds, times, channel) for channel in palette.T])


def _octave_name(transform: dict[str, float], octave: int) -> str:
    """The note that many octaves above fmin, which is a C."""
    return f"C{round(math.log2(transform['fmin'] / 440) * 12 + 69) // 12 - 1 + octave}"


def _short(name: str, length: int = 20) -> str:
    return name if len(name) <= length else f"{name[:length - 1]}\N{HORIZONTAL ELLIPSIS}"


def _head(axes: Axes, title: str | None) -> None:
    if title:
        axes.set_title(title, loc="left", parse_math=False)


def _full_scale(transform: dict[str, float], sample_rate: int) -> float:
    """Magnitude of a full-scale sine in the lowest bin."""
    return 0.5 * math.sqrt(_window_length(sample_rate, transform["fmin"],
                                          transform["bins_per_octave"], transform["filter_scale"]))


def _mono(audio: Any) -> np.ndarray:
    """The sound as float32 [samples], checked."""
    audio = np.asarray(audio, np.float32)
    if audio.ndim == 2 and len(audio) == 1:
        audio = audio[0]
    if audio.ndim != 1 or not len(audio):
        raise InputError(f"A sound is [samples], at least one; this is {list(audio.shape)}: "
                         "give the clips one by one.")
    if not np.isfinite(audio).all():
        raise InputError("A sound must be finite numbers, and this one has NaN or infinity in it.")
    return audio


def _new_figure(width: float = FIGURE_SIZE[0], height: float = FIGURE_SIZE[1]) -> Figure:
    """A figure of its own (inches), outside pyplot's global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save_figure(figure: Figure, filename: str | None, output_dir: str | Path, dpi: int) -> Path:
    path = _picture_path(filename, output_dir)
    with _written_beside(path) as part:
        figure.savefig(part, dpi=dpi, format="png", pil_kwargs={"compress_level": 3})
    return path


def _save_image(image: np.ndarray, columns: float, filename: str | None, output_dir: str | Path,
                dpi: int) -> Path:
    """Save colours [bins, columns, 3] as a picture that they fill, `columns` of them in width."""
    from matplotlib.image import imsave

    # not in print: the picture is all sound, and 200 dpi are enough: 600, margins included, took
    # seconds
    width, height = (round(inches * dpi) for inches in FIGURE_SIZE)
    x = np.rint((np.arange(width) + 0.5) * (columns / width)).astype(int)
    y = np.arange(height)[::-1] * image.shape[0] // height
    path = _picture_path(filename, output_dir)
    with _written_beside(path) as part:
        imsave(part, image[:, np.minimum(x, image.shape[1] - 1)][y], dpi=dpi,
               format="png", pil_kwargs={"compress_level": 3})
    return path


def _picture_path(filename: str | None, output_dir: str | Path) -> Path:
    if filename is not None:
        return Path(output_dir) / (filename if filename.endswith(".png") else f"{filename}.png")
    path = Path(output_dir) / time.strftime("%Y-%m-%d_%H%M%S.png")
    count = 1
    while path.exists():  # not in print: two pictures in one second were one
        count += 1
        path = path.with_name(time.strftime(f"%Y-%m-%d_%H%M%S_{count}.png"))
    return path


def _with_npy(filename: str) -> str:
    return filename if filename.endswith(".npy") else f"{filename}.npy"


@contextlib.contextmanager
def _written_beside(path: Path) -> Iterator[Path]:
    """A name to write to, beside `path`, that becomes `path` if all went well."""
    check_output_dir(path.parent)  # not in print: pictures of encodings needed the folder made
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield part
        os.replace(part, path)
    except OSError as error:
        raise InputError(f"A result must be written, and {path} cannot be "
                         f"({error.strerror or error}): make room or name another place.") from None
    finally:
        part.unlink(missing_ok=True)
