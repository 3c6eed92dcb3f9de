"""What both examples share: encodings on disk, time stretch, pictures, sounds in and out.

The first six functions are the book's, in the book's order.  Sound is float32 in [-1, 1], one
channel, 16 kHz unless told otherwise.  Whatever a user gave that cannot be used is an
`InputError` with one sentence.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pictures import sheets, spectra
from synths import InputError
from synths.files import shortened, write_wav, writing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from PIL.Image import Image

# Pillow, Matplotlib, librosa, soundfile and soxr are imported where they are needed: `--help` is
# quick.

# Samples that NSynth's encoder averages into one frame of an encoding.
SAMPLES_PER_FRAME = 512
FIGURE_SIZE = (6.4, 4.8)  # inches
# What pictures are saved as: a name with another ending, as in "mix_0.5", gets ".png".
ENDINGS = (".png", ".pdf", ".jpg", ".jpeg")

_MOST_NUMBERS = 1 << 26  # of an encoding: 37 hours of sound, 256 MB
_RATES = (1000, 768_000)  # Hz of the sounds that are read
_BLOCK = 1 << 18  # samples of all channels read at a time
_MOST_SAMPLES = 1 << 30  # of all channels of a sound: three hours of stereo at 48 kHz
_MARGIN = 0.1  # seconds before and after what is kept: the resampler looks back and ahead


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
    # not in print: The docstring says that a factor above 1 is slower; the book's has "bigger is
    # faster".
    with np.errstate(over="ignore"):  # 1e300 is infinite in float32
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
    if encodings.size / frames * stretched_frames > _MOST_NUMBERS:
        raise InputError(f"A stretch by {factor} makes {stretched_frames:,} frames of {frames:,}, "
                         "more than any memory should hold: give a smaller factor.")
    if not np.isfinite(encodings).all():
        raise InputError("An encoding is finite numbers, and this one has others: encode the sound "
                         "again.")
    # not in print: Frames are interpolated as np.interp does it, the first and last held at the
    # edges. scikit-image's resize needs them scaled to 0..1, which divides by zero on constant
    # input, and smooths them where it shortens.
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
    # not in print: A missing name is an error; the book's zip() drops the rest in silence.
    if len(encodings) != len(filenames):
        raise InputError(f"Each encoding needs one file name: there are {len(encodings)} encodings "
                         f"and {len(filenames)} names.")
    for encoding, filename in zip(encodings, filenames):
        path = Path(output_dir) / _with_npy(filename)
        check_output_dir(path.parent)
        with writing(path) as file:
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
    list of arrays, float32 [frames, 16] each (or [n, frames, 16], if that was saved)

    Raises
    ------
    InputError
        If a file is missing or holds no encoding.
    """
    encodings = []
    for filename in filenames:
        # not in print: Loading adds ".npy" where it is missing; in the book only saving does.
        path = Path(input_dir) / _with_npy(filename)
        encodings.append(_read_encoding(path))
    return encodings


def _read_encoding(path: Path) -> np.ndarray:
    """One encoding; its size is known from the header before memory is asked for."""
    if not os.path.isfile(path):
        what = "is not a file" if os.path.exists(path) else "does not exist"
        raise InputError(f"{shortened(path)} {what}: an encoding is a .npy file; check name and "
                         "folder.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy parses the header as Python, which may warn
            stored = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # NumPy raises what it likes: ValueError, TokenError, BadZipFile
        raise InputError(f"An encoding is a .npy file of numbers, and {shortened(path)} is not "
                         f"({shortened(error) or type(error).__name__}): encode the sound again."
                         ) from None
    wrong = InputError(f"An encoding is finite numbers [frames, 16], and {shortened(path)} holds "
                       "something else: encode the sound again.")
    if (not isinstance(stored, np.ndarray) or stored.ndim not in (2, 3) or not stored.size
            or stored.dtype.kind != "f" or stored.size > _MOST_NUMBERS):
        raise wrong
    with np.errstate(over="ignore", invalid="ignore"):  # 1e300 is infinite in float32
        encoding = np.array(stored, np.float32)
    if not np.isfinite(encoding).all():
        raise wrong
    return encoding


def save_encoding_plot(encoding: np.ndarray, filename: str | None = None,
                       output_dir: str | Path = "output", *, labelled: bool = False,
                       title: str | None = None, sample_rate: int = 16000,
                       dpi: int = 200) -> Path:
    """Draw encodings, one line for each of their channels, one encoding below the other.

    Parameters
    ----------
    encoding : array [n, frames, channels] or [frames, channels]
        One encoding, or several of one length.
    filename : str, optional
        Within `output_dir`; its ending, one of `ENDINGS`, decides the kind of file, and ".png" is
        added where it has none.  None: the date and time.
    output_dir : str or Path
        Made if it is missing.
    labelled : bool
        Name the axes (seconds at `sample_rate`) and the channels.
    title : str, optional
        Above the picture, if `labelled`.
    sample_rate : int
        Of the sound, in Hz.
    dpi : int
        Pixels per inch; the picture is 6.4 by 4.8 inches, higher for more than two encodings.

    Returns
    -------
    Path of the picture.

    Raises
    ------
    InputError
        If it is no encoding, or the picture cannot be written.
    """
    encoding = np.asarray(encoding)
    # not in print: All encodings of a batch are drawn, where the book draws the first; one without
    # the batch's axis is drawn too, of which the book drew a single frame.
    batch = encoding[None] if encoding.ndim == 2 else encoding
    if batch.ndim != 3 or 0 in batch.shape:
        raise InputError("An encoding is [frames, channels] or [n, frames, channels], not empty; "
                         f"this one is {list(encoding.shape)}: give what `encode` returned.")
    with sheets.styled():
        figure = sheets.encodings(batch, SAMPLES_PER_FRAME / sample_rate if labelled else None,
                                  title, FIGURE_SIZE)
        path = _picture_path(filename, output_dir)
        with writing(path) as file:
            # not in print: Pictures have 200 dots per inch, not 300; files are half as large.
            figure.savefig(file, dpi=dpi, format=path.suffix[1:].lower())
    return path


def save_spectrogram_plot(audio: Any, sample_rate: int = 16000, filename: str | None = None,
                          output_dir: str | Path = "output", *, labelled: bool = False,
                          title: str | None = None,
                          hop_length: int = spectra.SPECTROGRAM_HOP,
                          dpi: int = 200) -> Path:
    """Draw the constant-Q spectrogram of a sound: the level at each pitch and time.

    32 bins per octave from C2 (65.4 Hz) over 5 octaves, in dB below the loudest, down to -80.

    Parameters
    ----------
    audio : array [samples], float in [-1, 1]
    sample_rate : int
        In Hz.
    filename : str, optional
        Within `output_dir`; its ending, one of `ENDINGS`, decides the kind of file, and ".png" is
        added where it has none.  None: the date and time.
    output_dir : str or Path
        Made if it is missing.
    labelled : bool
        Show the axes (note names, Hz, seconds) and the scale of levels.  Bare in the book.
    title : str, optional
        Above the picture, if `labelled`.
    hop_length : int
        Samples between two columns; fewer are finer in time.
    dpi : int
        Pixels per inch; the picture is 6.4 by 4.8 inches.

    Returns
    -------
    Path of the picture.

    Raises
    ------
    InputError
        If it is no sound of one channel, or the picture cannot be written.
    """
    return save_picture(spectrum_image(spectra.spectrogram(audio, sample_rate, hop_length),
                                       labelled, title, dpi), filename, output_dir, dpi)


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
        Within `output_dir`; its ending, one of `ENDINGS`, decides the kind of file, and ".png" is
        added where it has none.  None: the date and time.
    output_dir : str or Path
        Made if it is missing.
    labelled : bool
        Show the axes (note names, Hz, seconds) and the scale of colours.  Bare in the book.
    title : str, optional
        Above the picture, if `labelled`.
    dpi : int
        Pixels per inch; the picture is 6.4 by 4.8 inches.

    Returns
    -------
    Path of the picture.

    Raises
    ------
    InputError
        If it is no sound of one channel, or the picture cannot be written.
    """
    return save_picture(spectrum_image(spectra.rainbowgram(audio, sample_rate),
                                       labelled, title, dpi), filename, output_dir, dpi)


# Pictures


def spectrum_image(spectrum: spectra.Spectrum, labelled: bool = False, title: str | None = None,
                   dpi: int = 200, scale: bool = True) -> Image:
    """A spectrum as an image of 6.4 by 4.8 inches.

    Parameters
    ----------
    spectrum : Spectrum
    labelled : bool
        With axes (note names, Hz, seconds); bare in the book.
    title : str, optional
        Above it, if `labelled`.
    dpi : int
        Pixels per inch.
    scale : bool
        With the scale of its colours, if `labelled`.

    Returns
    -------
    PIL.Image.Image
    """
    if labelled:
        return sheets.labelled(spectrum, title, FIGURE_SIZE, dpi, scale)
    # not in print: The picture of a sound is all sound, without margins, and has 200 dots per inch;
    # the book's 600 took seconds.
    width, height = (round(inches * dpi) for inches in FIGURE_SIZE)
    return spectra.scaled(spectrum, width, height)


def save_picture(image: Image, filename: str | None = None, output_dir: str | Path = "output",
                 dpi: int = 150) -> Path:
    """Write an image, complete or not at all.

    Parameters
    ----------
    image : PIL.Image.Image
    filename : str, optional
        Within `output_dir`; its ending, one of `ENDINGS`, decides the kind of file, and ".png" is
        added where it has none.  None: the date and time.
    output_dir : str or Path
        Made if it is missing.
    dpi : int
        Pixels per inch, kept in the file.

    Returns
    -------
    Path of the picture.

    Raises
    ------
    InputError
        If the picture cannot be written.
    """
    path = _picture_path(filename, output_dir)
    ending = path.suffix.lower()
    with writing(path) as file:
        if ending == ".png":  # runs of equal pixels are what these pictures are made of
            image.save(file, "PNG", dpi=(dpi, dpi), compress_level=1, compress_type=zlib.Z_RLE)
        elif ending == ".pdf":
            image.save(file, "PDF", resolution=dpi)
        else:
            image.save(file, "JPEG", dpi=(dpi, dpi), quality=92)
    return path


def draw_rainbowgram(axes: Axes, audio: Any, sample_rate: int = 16000) -> None:
    """Show a rainbowgram on Matplotlib's axes: seconds, and octaves above C2.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    audio : array [samples], float in [-1, 1]
    sample_rate : int
        In Hz.
    """
    sheets.show(axes, spectra.rainbowgram(audio, sample_rate))
    axes.set_axis_off()


# Sounds in and out


def load_audio(path: str | Path, sample_length: int | None = None, sample_rate: int = 16000, *,
               offset: float = 0.0, trim_silence: bool = False, peak: float | None = None,
               fade: float = 0.0, report: Callable[[str], None] | None = None) -> np.ndarray:
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
    report : callable, optional
        Called with a sentence if the channels cancel each other out.

    Returns
    -------
    float32 [samples] in [-1, 1), all channels averaged; where that leaves less than a hundredth of
    the loudest (channels in opposite phase), the first channel that is heard.  Only a sound above
    full scale (a float file, or between the samples of a loud one) is scaled, down to it; +1 itself
    has no mu-law code.

    Raises
    ------
    InputError
        If there is no such file, it is no sound, is empty, or has values that are not numbers.
    """
    path = Path(path)
    _check_request(sample_length, peak, offset)
    if not os.path.isfile(path):  # which takes any text for a name
        what = ("is a folder" if os.path.isdir(path) else
                "is not a file" if os.path.exists(path) else "does not exist")
        raise InputError(f"A sound must be a file, and {shortened(path)} {what}: check the name.")
    keep = None if sample_length is None else sample_length / sample_rate
    sound = _survey(path, offset, None if trim_silence else keep)
    if sound.channel is not None and report:
        which = ("left", "right")[sound.channel] if sound.channels == 2 else f"{sound.channel + 1}."
        report(f"The channels of {shortened(path)} are in opposite phase and would cancel each "
               f"other out: the {which} channel is used.")
    begin = _onset(path, sound, offset) if trim_silence else offset
    audio = _part(path, sound, begin, keep, sample_rate)
    if not len(audio):
        raise InputError(f"{offset} s cannot be left out of {shortened(path)}, "
                         f"{sound.frames / sound.rate:.2f} s long: leave out less.")
    audio = _levelled(audio[:sample_length].astype(np.float32), peak)
    if not np.isfinite(audio).all():
        raise _not_finite(path)
    ramp = min(round(fade * sample_rate), len(audio) // 2)
    if ramp > 0:
        slope = ((np.arange(ramp) + 0.5) / ramp).astype(np.float32)
        audio[:ramp] *= slope
        audio[-ramp:] *= slope[::-1]
    np.clip(audio, -1, 32767 / 32768, out=audio)
    if sample_length is not None:
        audio = np.pad(audio, (0, max(0, sample_length - len(audio))))
    return audio


@dataclass(frozen=True)
class _Sound:
    """What a first reading of a sound has found."""

    rate: int                   # Hz
    channels: int
    frames: int                 # read: all, or as many as are wanted
    channel: int | None         # the one to use, as all would cancel each other; None: the average
    peaks: list[tuple[int, float]]  # after the seconds left out: first frame and peak of each block


def _check_request(sample_length: int | None, peak: float | None, offset: float) -> None:
    if sample_length is not None and sample_length < 1:
        raise InputError(f"A sound is at least one sample long, not {sample_length}.")
    if peak is not None and not 0 < peak <= 1:
        raise InputError(f"A peak level must be above 0 and at most 1, not {peak}.")
    if not (math.isfinite(offset) and offset >= 0):
        raise InputError(f"Seconds to leave out must be 0 or more, not {offset}.")


def _blocks(path: Path) -> Iterator[tuple[int, np.ndarray]]:
    """Rate and samples [frames, channels] of a sound, block by block: its header may lie."""
    import soundfile

    class Straight(soundfile.SoundFile):
        """Read from front to back: soundfile seeks after each block, which false headers forbid."""

        def seekable(self) -> bool:
            return False

    try:
        with Straight(path) as file:
            rate, low, high = file.samplerate, *_RATES
            if not low <= rate <= high:
                raise InputError(f"A sound has {low:,} to {high:,} samples a second, and "
                                 f"{shortened(path)} has {rate:,}: convert it to 16,000.")
            frames = max(1, _BLOCK // file.channels)
            done = 0
            while len(block := file.read(frames, dtype="float32", always_2d=True)):
                done += block.size
                if done > _MOST_SAMPLES:
                    raise InputError(f"{shortened(path)} is longer than {_MOST_SAMPLES >> 20} "
                                     "million samples: cut out what you need.")
                yield rate, block
    except InputError:
        raise
    except (soundfile.SoundFileError, OSError, ValueError, RuntimeError) as error:
        reason = shortened(getattr(error, "error_string", error)).rstrip(".")
        raise InputError(f"A sound must be WAV, FLAC, OGG, MP3 or AIFF, and {shortened(path)} "
                         f"cannot be read as any of them ({reason}): convert it to WAV.") from None


def _not_finite(path: Path) -> InputError:
    return InputError(f"A sound must be finite numbers, and {shortened(path)} has NaN or infinite "
                      "samples: export it again.")


def _survey(path: Path, offset: float, keep: float | None) -> _Sound:
    """Read a sound once, block by block, up to the seconds that are kept: which channel counts."""
    levels, mean_level = np.zeros(1, np.float32), 0.0
    rate, frames, peaks = 0, 0, []
    for rate, block in _blocks(path):
        with np.errstate(over="ignore"):
            mean = np.abs(block.mean(axis=1))
        if not np.isfinite(mean).all():
            raise _not_finite(path)
        loud = np.abs(block)
        levels = np.maximum(levels, loud.max(axis=0))
        mean_level = max(mean_level, float(mean.max()))
        late = max(0, round(offset * rate) - frames)
        if late < len(block):
            peaks.append((frames + late, mean[late:].max(), loud[late:].max(axis=0)))
        frames += len(block)
        if keep is not None and frames >= (offset + keep + _MARGIN) * rate:
            break
    if not frames:
        raise InputError(f"A sound needs at least one sample, and {shortened(path)} has none: "
                         "record or export it again.")
    opposite = mean_level < 0.01 * levels.max()
    channel = int(np.argmax(levels > 0.1 * levels.max())) if opposite else None
    return _Sound(rate, len(levels), frames, channel, [
        (first, float(mean if channel is None else each[channel])) for first, mean, each in peaks])


def _onset(path: Path, sound: _Sound, offset: float) -> float:
    """Seconds at which a sound begins: 5 ms before it first rises to 40 dB below its peak."""
    threshold = 0.01 * max((peak for _, peak in sound.peaks), default=0.0)
    if threshold == 0:
        return offset
    start = next(first for first, peak in sound.peaks if peak >= threshold)
    after = 0
    for _, block in _blocks(path):
        after += len(block)
        if after > start:
            heard = np.abs(_mono(block, sound)[start - after + len(block):]) >= threshold
            return max(offset, (start + int(np.argmax(heard))) / sound.rate - 0.005)
    return offset


def _mono(block: np.ndarray, sound: _Sound) -> np.ndarray:
    return block.mean(axis=1) if sound.channel is None else block[:, sound.channel]


def _part(path: Path, sound: _Sound, begin: float, keep: float | None,
          sample_rate: int) -> np.ndarray:
    """A sound from a second on, at another rate, as if all of it had been resampled."""
    # where both rates have a sample, so that those of the result lie where they would
    step = sound.rate // math.gcd(sound.rate, sample_rate)
    first = max(0, math.floor((begin - _MARGIN) * sound.rate / step)) * step
    last = None if keep is None else math.ceil((begin + keep + _MARGIN) * sound.rate)
    parts, place = [], 0
    for _, block in _blocks(path):
        wanted = block[max(0, first - place):None if last is None else max(0, last - place)]
        if len(wanted):
            parts.append(_mono(wanted, sound))
        place += len(block)
        if last is not None and place >= last:
            break
    audio = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    if sound.rate != sample_rate and len(audio):
        import soxr

        audio = soxr.resample(audio, sound.rate, sample_rate, quality="HQ")
    return audio[max(0, round(begin * sample_rate) - first * sample_rate // sound.rate):]


def _levelled(audio: np.ndarray, peak: float | None) -> np.ndarray:
    """A sound at a peak level, or as it is; never above full scale."""
    loudest = float(np.abs(audio).max())
    if peak is None:
        return audio / np.float32(loudest) if loudest > 1 else audio
    if loudest == 0:
        return audio
    # as double numbers: the factor for a sound below 1e-38 is infinite as a single one
    if loudest < 1e-30:
        return (audio.astype(np.float64) * (peak / loudest)).astype(np.float32)
    return audio * np.float32(peak / loudest)


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
    path = Path(path)
    audio = spectra.checked(audio)
    check_output_dir(path.parent)
    return write_wav(path, audio, sample_rate)


def check_output_dir(path: str | Path) -> Path:
    """Make the folder if it is missing and make sure that a file can be written in it.

    Meant to be called before long work.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    Path

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
        file = next(part for part in (path, *path.parents) if part.exists())
        raise InputError(f"{shortened(file)} is a file, and the output needs a folder: name "
                         "another.") from None
    except OSError as error:
        raise InputError(f"The output folder must be writable, and {path} is not "
                         f"({error.strerror or error}): name another folder.") from None
    return path


def _picture_path(filename: str | None, output_dir: str | Path) -> Path:
    """Where a picture goes; its folder is made."""
    folder = check_output_dir(output_dir)
    if filename is not None:
        known = Path(filename).suffix.lower() in ENDINGS
        path = folder / (filename if known else f"{filename}.png")
        # not in print: Folders are made, also those within a file's name.
        check_output_dir(path.parent)
        return path
    path = folder / time.strftime("%Y-%m-%d_%H%M%S.png")
    count = 1
    # not in print: Pictures of one second get numbers; in the book the later replaced the earlier.
    while path.exists():
        count += 1
        path = path.with_name(time.strftime(f"%Y-%m-%d_%H%M%S_{count}.png"))
    return path


def _with_npy(filename: str) -> str:
    return filename if filename.lower().endswith(".npy") else f"{filename}.npy"
