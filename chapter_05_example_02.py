"""
Example 2 of chapter 5: GANSynth plays a score on instruments that never existed.

Random instruments are drawn and placed along a MIDI score, a network generates every note, and the
notes are mixed into one clip.  The functions are the book's, in the book's order.
"""

if __name__ == "__main__":
    from companion.start import start
    start()  # before the other imports: stops with one sentence if a package is missing

from pathlib import Path

import numpy as np

import audio_utils
from companion.example import Example2, use_engine
from companion.inputs import score_path
from companion.options import example_2_options
from companion.run import run
from companion.start import CHECKPOINTS, OUTPUT

# differs from the book (had to change): Magenta's Model needs TensorFlow packages that can no
# longer be installed.  Our Model computes the same notes; --engine magenta uses Magenta's networks.
from synths.gansynth import model as lib_model
from synths.gansynth.generate_util import (
    combine_notes,
    get_random_instruments,
    get_z_notes,
    load_midi,
)
from synths.sounds import save_wav
from synths.weights import checkpoints


def download_checkpoint(checkpoint_name: str, target_dir: str | Path = CHECKPOINTS) -> None:
    """Download a Magenta checkpoint to the target directory and extract it.

    Parameters
    ----------
    checkpoint_name : str
        "acoustic_only" or "all_instruments".
    target_dir : str or Path
        Directory of the checkpoints.

    Raises
    ------
    InputError
        If the name is unknown or the download fails.
    """
    checkpoints.download(checkpoint_name, target_dir)


def get_midi_notes(midi_filename: str | Path = "cs1-1pre-short.mid") -> dict:
    """Return the notes of a score.

    Parameters
    ----------
    midi_filename : str or Path
        Path, or the name of a file in the "midi" directory.

    Returns
    -------
    dict
        "pitches" (MIDI), "velocities" (1 to 127), "start_times" and "end_times" (seconds): arrays
        with one entry per note.

    Raises
    ------
    InputError
        If the file is not MIDI, or has no note that GANSynth can play.
    """
    # differs from the book (mended): Pitches 24 to 35 are played, because the model was trained on
    # them.  Drums are left out.  Pedals hold notes, and channel volumes are applied.  A note
    # keeps its length if its key is struck again.  Damaged files are read as far as possible.
    return load_midi(score_path(midi_filename))


def generate_audio(notes: dict, seconds_per_instrument: float = 5, batch_size: int = 16,
                   checkpoint_dir: str | Path | None = None, seed: int | None = None,
                   lib_model=lib_model) -> np.ndarray:
    """Generate an audio clip from the notes, on instruments drawn from the latent space.

    Parameters
    ----------
    notes : dict
        Notes in the format of `get_midi_notes`.
    seconds_per_instrument : float
        Approximate length of the score divided by the number of instruments.
    batch_size : int
        Number of notes that the network generates at once.
    checkpoint_dir : str, Path or None
        Name or directory of a checkpoint.  None: the official one if downloaded, otherwise the
        bundled one.
    seed : int, optional
        The same seed gives the same instruments.
    lib_model : module
        Module whose `Model` generates the notes: this project's, or Magenta's with
        `--engine magenta`.

    Returns
    -------
    float32 [samples]
        The clip, at 16 kHz.

    Raises
    ------
    InputError
        If the checkpoint cannot be used.
    """
    # differs from the book (mended): Only the generator is loaded; Magenta 2 also needs the
    # training data.
    model = lib_model.Model.load_from_path(checkpoint_dir, batch_size)

    # Distributes latent vectors in time.  A latent vector z is 256 random numbers.  The network was
    # trained to turn every z into an instrument, and nearby z give similar instruments.
    # differs from the book (mended): The last instrument is placed where the last sounding note
    # ends.  Magenta places it at the end of the note that is listed last.  Even a short clip has
    # two instruments.  The same seed gives the same instruments.
    z_instruments, t_instruments = get_random_instruments(
        model, max(notes["end_times"]), seconds_per_instrument, np.random.default_rng(seed))

    # Gets the latent vector of each note: between two instruments, the timbre changes from one to
    # the other
    z_notes = get_z_notes(notes["start_times"], z_instruments, t_instruments)

    # Generates four seconds of audio for each note, with its instrument and pitch
    # differs from the book (mended): Only the audible part of each note is generated, and only
    # when the note is mixed, so a long score needs little memory.
    audio_notes = model.generate_samples_from_z(z_notes, notes["pitches"])

    # Makes a single audio clip
    # differs from the book (mended): Notes are not cut off after 3 seconds, and the shortest notes
    # do not click.  The clip never exceeds full scale.
    return combine_notes(audio_notes, notes["start_times"], notes["end_times"],
                         notes["velocities"])


def save_audio(audio_clip: np.ndarray, name: str = "clip",
               output_dir: str | Path = OUTPUT / "gansynth") -> None:
    """Save the clip as a WAV file, and its constant-Q spectrogram as a plot.

    Parameters
    ----------
    audio_clip : float32 [samples]
        Audio at 16 kHz.
    name : str
        File name without extension.
    output_dir : str or Path
        Directory for both files.
    """
    # differs from the book (mended): The sound is saved before the plot, as a 16-bit file.  The
    # caller chooses the file name; the book uses the time of day.
    save_wav(audio_clip, Path(output_dir) / f"{name}.wav")
    audio_utils.save_spectrogram_plot(audio_clip, 16000, f"{name}.png", output_dir)


def app(options) -> None:
    """Run the example with the same calls as the book's `app`."""
    use_engine(options.engine, globals())  # "magenta": Magenta's own functions and networks
    # differs from the book (added): The script downloads files only with --download.  Each run has
    # its own folder, with a results page.
    if options.download:
        download_checkpoint(options.checkpoint or "acoustic_only")
    # Gets the notes of the score
    notes = get_midi_notes(options.midi)
    with Example2(options, notes) as example:
        # Generates the audio clip from the notes
        audio_clip = generate_audio(notes, options.seconds_per_instrument,
                                    checkpoint_dir=example.checkpoint, seed=example.seed,
                                    lib_model=lib_model)

        # Saves the clip and its plot
        save_audio(audio_clip, example.name, example.output_dir)


if __name__ == "__main__":
    run(app, example_2_options(__doc__))
