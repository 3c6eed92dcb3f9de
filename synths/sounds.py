"""Read and write sounds and images."""

from __future__ import annotations

import contextlib
import io
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from synths import InputError, files

SAMPLE_RATE = 16000  # Hz, of NSynth and GANSynth
# File extensions of the sounds in a folder.
EXTENSIONS = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au",
              ".caf", ".w64")
LONGEST = 600.0  # maximum seconds to read from a sound if no length is given
_BLOCK = 4096  # frames read at a time; a damaged spot costs this many
_LOUDEST = 1e12  # louder samples come from damage
_CANCELLED = 0.25  # level of the mono mix relative to the loudest channel: 12 dB lower


def load_audio(path: str | Path, sample_length: int | None = None, sr: int = SAMPLE_RATE, *,
               trim_silence: bool = False, peak: float | None = None) -> np.ndarray:
    """Load a sound as mono samples, like Magenta's `utils.load_audio`.

    Parameters
    ----------
    path : str or Path
        File in WAV, FLAC, Ogg, MP3, AIFF or another format that libsndfile reads, at any rate.
    sample_length : int, optional
        Number of samples to return.  Longer sounds are cut, shorter ones padded with zeros.
        None: all samples.
    sr : int
        Sample rate of the result in Hz.
    trim_silence : bool
        Whether to remove the silence at the beginning.
    peak : float, optional
        Normalise to this peak, in (0, 1].  None: keep the level, unless it exceeds full scale.

    Returns
    -------
    float32 [samples]
        In [-1, 1).  Channels are averaged; if they cancel each other, the loudest one is used.

    Raises
    ------
    InputError
        If the file is not a sound, is empty, or holds values that are not finite.
    """
    import soxr

    seconds = LONGEST
    if sample_length is not None and not trim_silence:
        seconds = sample_length / sr + 0.1
    block, rate = _read(Path(path), seconds)
    cancelled, loudest_channel = _channels(block)
    audio = block[:, loudest_channel] if cancelled else block.mean(axis=1)
    if trim_silence:
        audio = audio[_onset(audio, rate):]
    audio = soxr.resample(audio, rate, sr, quality="HQ")[:sample_length]
    loudest = float(np.abs(audio).max(initial=0.0))
    if loudest > 1 or peak and loudest:
        audio = audio * ((peak or 1.0) / loudest)
    audio = np.clip(audio.astype(np.float32), -1, 32767 / 32768)
    return np.pad(audio, (0, max(0, (sample_length or 0) - len(audio))))


def _read(path: Path, seconds: float) -> tuple[np.ndarray, int]:
    """Return the first seconds of a sound, float32 [frames, channels], and its sample rate."""
    import soundfile

    from synths.engines.litert import silent_stderr  # mpg123 writes to the terminal

    class Forwards(soundfile.SoundFile):
        """A file that is read from start to end, whatever length its header states."""

        def seekable(self) -> bool:
            return False

    if not path.exists():
        raise InputError(f"{path} does not exist: check its name and folder.")
    try:
        with silent_stderr(), Forwards(_readable(path)) as file:
            rate, blocks, wanted = file.samplerate, [], math.ceil(seconds * file.samplerate)
            with contextlib.suppress(soundfile.SoundFileError):  # a file that was cut short
                while wanted > 0 and len(block := file.read(min(wanted, _BLOCK), "float32",
                                                            always_2d=True)):
                    blocks.append(block)
                    wanted -= len(block)
    except (soundfile.SoundFileError, TypeError) as error:  # TypeError: *.raw
        reason = getattr(error, "error_string", "samples without a header").rstrip(".")
        if "does not exist" in reason:  # libsndfile's message for a file that is not an MP3
            reason = "its format is not recognised"
        raise InputError(f"{path} cannot be read as a sound ({reason}): convert it to WAV, FLAC, "
                         "Ogg, MP3 or AIFF.") from None
    if not blocks:
        raise InputError(f"{path} contains no samples: record or export it again.")
    audio = np.concatenate(blocks)
    if not (np.abs(audio) < _LOUDEST).all():  # NaN fails this check, too
        raise InputError(f"{path} contains samples that are not finite: export it again.")
    return audio, rate


def _readable(path: Path) -> Path | io.BytesIO:
    """Return the path, or a repaired copy in memory if libsndfile cannot read the file as it is."""
    with open(path, "rb") as file:
        start = file.read(1 << 16)
        data = start.find(b"data") + 4
        if start[:4] == b"RIFF" and start[data:data + 4] == bytes(4):  # the recorder was stopped
            return io.BytesIO(start[:data] + b"\xff" * 4 + start[data + 4:] + file.read())
        if start[:4] == b"RIFF" and start[data + 4:data + 8] == b"OggS":  # as in old sample packs
            return io.BytesIO(start[data + 4:] + file.read())
        if start[:4] == b"OggS" and start[28:33] == b"\x7fFLAC":
            return io.BytesIO(_ogg_pages(start + file.read())[9:])  # 9: the mapping's header
    return path


def _ogg_pages(data: bytes) -> bytes:
    """Return the contents of an Ogg stream's pages (RFC 3533): its packets, joined."""
    parts, start = [], 0
    while data[start:start + 4] == b"OggS":
        segments = data[start + 27:start + 27 + data[start + 26]]
        body = start + 27 + len(segments)
        start = body + sum(segments)
        parts.append(data[body:start])
    return b"".join(parts)


def _onset(audio: np.ndarray, rate: int) -> int:
    """Return the index at which a sound begins.

    It is 5 ms before the level first comes within 40 dB of the maximum.  Levels are measured over
    10 ms after subtracting the mean, so DC offsets and clicks do not count.
    """
    size = max(1, rate // 100)
    frames = audio[:len(audio) // size * size].reshape(-1, size)
    if not len(frames):
        return 0
    level = np.sqrt(np.maximum(np.mean(frames**2, axis=1) - np.mean(frames, axis=1)**2, 0))
    loud = level >= max(0.01 * level.max(), 1e-6)
    lasting = loud & np.append(loud[1:], True)  # a click is shorter than two frames
    frame = int(np.argmax(lasting if lasting.any() else loud))
    above = np.abs(frames[frame] - frames[frame].mean()) >= 0.01 * np.abs(audio).max()
    return max(0, frame * size + int(np.argmax(above)) - rate // 200)


def find_sounds(folder: str | Path, extensions: Sequence[str] = EXTENSIONS
                ) -> tuple[list[Path], list[str]]:
    """Return a folder's readable sounds, and the other entries with the reasons for exclusion."""
    sounds, left_out = [], []
    for path in sorted(Path(folder).iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            left_out.append(f"{path.name} (a folder)")
        elif path.suffix.lower() not in extensions:
            left_out.append(f"{path.name} (unknown format)")
        else:
            try:
                if path.suffix.lower() in EXTENSIONS:
                    _read(path, 0.1)
                sounds.append(path)
            except (InputError, OSError):
                left_out.append(f"{path.name} (cannot be read)")
    return sounds, left_out


def opposite_channels(path: str | Path, seconds: float = 10.0) -> bool:
    """Return whether a sound's channels cancel each other, so that `load_audio` uses only one."""
    return _channels(_read(Path(path), seconds)[0])[0]


def _channels(block: np.ndarray) -> tuple[bool, int]:
    """Return whether the channels cancel each other, and the index of the loudest one."""
    level = np.sqrt(np.mean(np.square(block), axis=0))
    cancelled = np.sqrt(np.mean(np.square(block.mean(axis=1)))) < _CANCELLED * level.max()
    return bool(cancelled), int(np.argmax(level))


def save_wav(audio: Any, path: str | Path, sample_rate: int = SAMPLE_RATE) -> None:
    """Write a sound as a 16-bit WAV file.

    Parameters
    ----------
    audio : array [samples]
        Full scale is -1 to 1.  A louder sound is scaled down.
    path : str or Path
        Output file.  Its folder is created if it is missing.
    sample_rate : int
        Sample rate in Hz.

    Raises
    ------
    InputError
        If the sound is empty or not finite.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    files.write_wav(path, checked(audio, 1, "A sound"), sample_rate)


def save_image(pixels: np.ndarray, path: Path, size: tuple[int, int] = (1280, 960)) -> Path:
    """Write an image, uint8 [rows, columns, 3], as a PNG file of the given width and height."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(pixels))
    with files.writing(path) as file:
        image.resize(size, Image.Resampling.BOX).save(file, "PNG", compress_level=1)
    return path


def plot_path(filename: str | None, output_dir: str | Path) -> Path:
    """Return the path of a plot, by default named after the current time, and create its folder."""
    name = time.strftime("%Y-%m-%d_%H%M%S") if filename is None else str(filename)
    path = Path(output_dir) / (name if name.lower().endswith(".png") else f"{name}.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def load_array(path: str | Path, axes: int, what: str) -> np.ndarray:
    """Return the array of a .npy file as float32.

    Raise InputError if the file is damaged, or if `checked` refuses the array.
    """
    with open(path, "rb") as file:
        try:
            array = np.lib.format.read_array(file, allow_pickle=False)
        except Exception:  # NumPy raises many kinds of errors here, even MemoryError
            raise InputError(f"{path} is not a .npy file of numbers: save it again.") from None
    return checked(array, axes, what)


def checked(array: Any, axes: int, what: str, batch: bool = False) -> np.ndarray:
    """Return an array as float32; raise InputError if its axes or values are not valid.

    A single item of a `batch` may lack the first axis, which is then added.
    """
    try:
        array = np.asarray(array, np.float32)
    except (TypeError, ValueError):
        raise InputError(f"{what} must be an array of numbers, not {type(array).__name__}."
                         ) from None
    if batch and array.ndim == axes - 1:
        array = array[None]
    if array.ndim != axes or not array.size:
        raise InputError(f"{what} must have {axes} axes and at least one value, but its shape is "
                         f"{list(array.shape)}.")
    if not np.isfinite(array).all():
        raise InputError(f"{what} must contain only finite numbers.")
    return array
