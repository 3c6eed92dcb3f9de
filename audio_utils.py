"""
Functions that both examples share: time stretching, encodings on disk, and three plots.

The functions are the book's, in the book's order.
"""

from pathlib import Path

import librosa
import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from synths.files import writing
from synths.sounds import checked, load_array, plot_path, save_image


def timestretch(encodings: np.ndarray, factor: float) -> np.ndarray:
    """Stretch encodings in time, which changes the length of a sound but not its pitch.

    Parameters
    ----------
    encodings : float [n, frames, channels]
    factor : float
        2 makes a sound twice as long, 0.5 half as long.

    Returns
    -------
    float32 [n, max(1, int(frames * factor)), channels]

    Raises
    ------
    InputError
        If `encodings` is not a batch of encodings.
    """
    # differs from the book (mended): The book's docstring says "bigger is faster", but a bigger
    # factor makes the sound slower, even in the book's code.  We use np.interp instead of
    # scikit-image's resize.  For resize, the book scales the numbers to the range 0 to
    # 1.  This divides by zero if all numbers are equal.
    encodings = checked(encodings, 3, "A batch of encodings")
    frames = encodings.shape[1]
    stretched = max(1, int(frames * factor + 1e-6))
    position = (np.arange(stretched) + 0.5) * frames / stretched - 0.5
    return np.array([[np.interp(position, np.arange(frames), channel) for channel in encoding.T]
                     for encoding in encodings], np.float32).transpose(0, 2, 1)


def save_encoding(encodings: np.ndarray | list[np.ndarray], filenames: list[str],
                  output_dir: str | Path = "encodings") -> None:
    """Save each encoding under its file name.

    Parameters
    ----------
    encodings : sequence of arrays [frames, channels]
    filenames : sequence of str
        One name for each encoding; ".npy" is added if it is missing.
    output_dir : str or Path
        Directory of the files, which is created if it is missing.
    """
    Path(output_dir).mkdir(parents=True, exist_ok=True)
    # differs from the book (mended): A missing name causes an error; the book's zip() drops
    # encodings that have no name.
    for encoding, filename in zip(encodings, filenames, strict=True):
        with writing(Path(output_dir) / f"{str(filename).removesuffix('.npy')}.npy") as file:
            np.save(file, encoding)


def load_encodings(filenames: list[str],
                   input_dir: str | Path = "encodings") -> list[np.ndarray]:
    """Load what `save_encoding` saved.

    Parameters
    ----------
    filenames : sequence of str
        ".npy" is added if it is missing.
    input_dir : str or Path

    Returns
    -------
    list of float32 [frames, channels]

    Raises
    ------
    InputError
        If a file does not contain an encoding.
    """
    encodings = []
    for filename in filenames:
        # differs from the book (mended): Loading adds ".npy" if it is missing, as saving does; the
        # book adds it only when saving.
        path = Path(input_dir) / f"{str(filename).removesuffix('.npy')}.npy"
        encodings.append(load_array(path, 2, f"The encoding {path}"))
    return encodings


def save_encoding_plot(encoding: np.ndarray, filename: str | None = None,
                       output_dir: str | Path = "output") -> Path:
    """Plot an encoding, one line for each channel.

    Parameters
    ----------
    encoding : float [n, frames, channels]
        The first of the n encodings is plotted.
    filename : str, optional
        File name; ".png" is added if it has no extension.  None: the date and time.
    output_dir : str or Path
        Directory of the files, which is created if it is missing.

    Returns
    -------
    Path
        Path of the plot.
    """
    figure = Figure()
    axes = figure.subplots()
    # differs from the book (mended): The 16 channels have 16 colours; the book has only ten, so
    # some colours repeat.
    axes.set_prop_cycle(color=colormaps["turbo"](np.linspace(0.05, 0.95, encoding.shape[2])))
    axes.plot(encoding[0])
    path = plot_path(filename, output_dir)
    # differs from the book (mended): To save time, the plot has 200 dots per inch; the book's plots
    # have 300 or 600.
    figure.savefig(path, dpi=200)
    return path


def save_spectrogram_plot(audio: np.ndarray, sample_rate: int = 16000, filename: str | None = None,
                          output_dir: str | Path = "output") -> Path:
    """Plot the constant-Q spectrogram of a sound: how loud it is at each time and pitch.

    Time runs from left to right and pitch from bottom to top.

    Parameters
    ----------
    audio : float [samples]
        Samples in -1..1.
    sample_rate : int
        Sample rate in Hz.
    filename, output_dir
        As for `save_encoding_plot`.

    Returns
    -------
    Path
        Path of the plot.

    Raises
    ------
    InputError
        If `audio` is not a sound with one channel.
    """
    # Pitches are spaced evenly, as on a keyboard: five octaves from C2 (MIDI pitch 36) with 32 bins
    # per octave, and one column for every 2048 samples
    octaves = 5
    bins_per_octave = 32
    constant_q_transform = librosa.cqt(
        checked(audio, 1, "A sound"), sr=sample_rate, hop_length=2048, fmin=librosa.midi_to_hz(36),
        n_bins=octaves * bins_per_octave, bins_per_octave=bins_per_octave)
    # differs from the book (mended): We compute the decibels from the magnitude.  The book gives
    # librosa complex numbers, and librosa prints a warning and drops their phase.  Silence stays
    # dark.  The vertical axis is the pitch; the book's docstring calls it the amplitude.
    mag = np.abs(constant_q_transform)
    decibels = librosa.amplitude_to_db(mag, amin=1e-7, top_db=None, ref=max(mag.max(), 0.01))
    # differs from the book (mended): The plot has no margins and no axes, because the book's axes
    # do not show pitches.
    pixels = colormaps["magma"](decibels / 80 + 1, bytes=True)[::-1, :, :3]
    return save_image(pixels, plot_path(filename, output_dir))


def save_rainbowgram_plot(audio: np.ndarray, sample_rate: int = 16000, filename: str | None = None,
                          output_dir: str | Path = "output") -> Path:
    """Plot the rainbowgram of a sound: a spectrogram whose colour is the change of phase.

    Brightness is the level.  Colour is the derivative of the phase: a steady tone keeps its
    colour, a gliding tone runs through the rainbow, and noise is speckled.  The numbers are from
    arXiv 1704.01279 and J. Engel's published script.

    Parameters
    ----------
    audio : float [samples]
        Samples in -1..1.
    sample_rate : int
        Sample rate in Hz.
    filename, output_dir
        As for `save_encoding_plot`.

    Returns
    -------
    Path
        Path of the plot.

    Raises
    ------
    InputError
        If `audio` is not a sound with one channel.
    """
    # Six octaves from C2, 10 notes per octave, 4 bins per note, one column for every 256 samples
    octaves = 6
    bins_per_octave = 10 * 4
    constant_q_transform = librosa.cqt(
        checked(audio, 1, "A sound"), sr=sample_rate, hop_length=256, fmin=librosa.note_to_hz("C2"),
        n_bins=octaves * bins_per_octave, bins_per_octave=bins_per_octave, filter_scale=0.8)
    mag, phase = librosa.magphase(constant_q_transform)

    # Advance of the phase from one column to the next, in units of pi radians: -1 to 1
    dphase = np.diff(np.unwrap(np.angle(phase)), axis=1, prepend=0) / np.pi

    # Log magnitude: 0 is 70 dB below the maximum, 1 the maximum
    mag = librosa.amplitude_to_db(mag, amin=1e-13, top_db=None, ref=max(mag.max(), 0.01)) / 70 + 1

    # differs from the book (had to change): We multiply colour by brightness.  The book darkens the
    # plot with a mask that needs register_cmap, which Matplotlib has removed.
    colour = colormaps["rainbow"](dphase / 2 + 0.5)[:, :, :3]
    pixels = 255 * colour * np.clip(mag, 0, 1)[:, :, np.newaxis]
    return save_image(pixels.astype(np.uint8)[::-1], plot_path(filename, output_dir))
