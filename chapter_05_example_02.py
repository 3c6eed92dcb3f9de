"""
Example 2 of chapter 5: GANSynth plays a score on instruments that never existed.

Draws random instruments, moves from one to the next along a MIDI score, generates every note, and
mixes the notes to one clip.  The functions are the book's, in the book's order; what differs from
print is tagged, and listed in the README.
"""

from __future__ import annotations

if __name__ == "__main__":
    from companion.start import start
    start()  # before the imports: says what to install if a package is missing

from pathlib import Path

import numpy as np

import audio_utils
from companion.page.reports import gansynth_page
from companion.script import (
    HERE,
    find_weights,
    number,
    option_parser,
    page_at_end,
    progress,
    results_dir,
    run,
    say,
    score_names,
)
from synths import gansynth
from synths.gansynth import score
from synths.weights import checkpoints

SAMPLE_RATE = 16000  # Hz; what GANSynth was trained on


def download_checkpoint(checkpoint_name: str, target_dir: str | Path = HERE / "checkpoints",
                        progress=None) -> None:
    """
    Downloads a Magenta checkpoint to the target directory and extracts it, unless it is there.

    :param checkpoint_name: "acoustic_only" (the book's) or "all_instruments"
    :param target_dir: local directory in which to write the checkpoint
    :param progress: called with (bytes done, bytes in all)
    """
    # not in print: verified, resumed where it was cut, and unpacked safely
    checkpoints.download(checkpoint_name, Path(target_dir), progress=progress)


def get_midi_notes(midi_filename: str | Path = "cs1-1pre-short.mid") -> dict:
    """
    Returns a notes information dictionary: pitches, velocities, start and end times in seconds.

    :param midi_filename: a path, or the name of a file in the "midi" folder
    """
    midi_path = Path(midi_filename)
    if not midi_path.exists() and (HERE / "midi" / midi_path).exists():
        midi_path = HERE / "midi" / midi_path
    # not in print: the pitches 24 to 35, which the model knows too, are kept; drums are not
    return score.load_midi(midi_path)


def generate_audio(notes: dict, seconds_per_instrument: float = 5, batch_size: int = 16,
                   checkpoint_dir: str | Path | None = None, seed: int | None = None,
                   instruments: str | None = None, instruments_path: Path | None = None,
                   threads: int | None = None, progress=None) -> np.ndarray:
    """
    Generates an audio clip from the notes, on "instruments" drawn at random from the latent space.

    :param notes: the notes dictionary, from get_midi_notes
    :param seconds_per_instrument: the number of seconds for each instrument
    :param batch_size: how many notes the model generates at once
    :param checkpoint_dir: the checkpoint, a name or a folder; None for the best that is here
    :param seed: draws the same instruments again
    :param instruments: the instruments to play instead: "3,7,1@8.0", or a file that holds them
    :param instruments_path: where to save the instruments, so that they can be had again
    :param threads: processor threads; None for all cores
    :param progress: called with (notes done, notes in all)
    :return: the clip, [samples]
    """
    # not in print: the generator alone is loaded, without the data set it was trained on
    model = gansynth.Model.load_from_path(checkpoint_dir, batch_size, threads)
    # not in print: the end of the last note to end, not of the last listed
    total_time = max(notes["end_times"])

    # Distributes latent vectors in time
    rng = np.random.default_rng(seed)
    if instruments is None:
        z_instruments, t_instruments = score.get_random_instruments(
            model, total_time, seconds_per_instrument, rng)
    else:
        z_instruments, t_instruments = score.choose_instruments(model, instruments, total_time, rng)
    if instruments_path is not None:
        score.save_instruments(instruments_path, z_instruments, t_instruments)

    # Gets the latent vector of each note
    z_notes = score.get_z_notes(notes["start_times"], z_instruments, t_instruments)

    # Generates the audio of each note
    # not in print: only what is heard of a note is computed
    # not in print: a long note sounds for all of the 4 seconds that the model makes, not for 3
    audio_notes = model.generate_samples_from_z(
        z_notes, notes["pitches"], note_lengths=notes["end_times"] - notes["start_times"],
        progress=progress, max_note_length=score.WHOLE_NOTE_LENGTH)

    # Makes a single audio clip
    return score.combine_notes(audio_notes, notes["start_times"], notes["end_times"],
                               notes["velocities"], max_note_length=score.WHOLE_NOTE_LENGTH)


def save_audio(audio_clip: np.ndarray, name: str = "clip",
               output_dir: str | Path = HERE / "output" / "gansynth", labelled: bool = False,
               ) -> Path:
    """
    Writes the clip as a WAV and as a picture, a constant-Q spectrogram.

    :param audio_clip: the clip, [samples]
    :param name: the name of both files, without ending
    :param output_dir: their folder
    :param labelled: whether the picture has axes
    :return: the path of the WAV
    """
    # not in print: one name for both files, instead of the time of day twice
    audio_utils.save_spectrogram_plot(audio_clip, SAMPLE_RATE, f"{name}.png", output_dir,
                                      labelled=labelled)
    path = Path(output_dir) / f"{name}.wav"
    audio_utils.save_wav(audio_clip, path, SAMPLE_RATE)
    return path


def app(options) -> None:
    # Finds the weights (with --download: fetches the book's)
    checkpoint = find_weights(options, "gansynth", "acoustic_only", download_checkpoint)

    # Loads the scores and gets their notes (or a phrase for each instrument to be tried)
    if options.preview:
        scores = {f"instrument{number:02d}": score.preview_phrase()
                  for number in range(1, options.preview + 1)}
    else:
        scores = {name: score.tempo_scale(get_midi_notes(midi), options.tempo)
                  for name, midi in zip(score_names(options.midi), options.midi)}
    output_dir = results_dir(options)

    # At the end, or when stopped, draws the scores and makes the page to listen on
    clips = []
    with page_at_end(options, output_dir, lambda: gansynth_page(options, output_dir, clips)):
        for place, (name, notes) in enumerate(scores.items(), 1):
            say(options, f"{name}: {score.summary(notes)}; seed {options.seed}")
            stem = f"{name}_seed{options.seed}"
            instruments = str(place) if options.preview else options.instruments

            # Generates the audio clip from the notes
            with progress(options, f"playing {name}", unit="notes") as bar:
                audio_clip = generate_audio(
                    notes, options.seconds_per_instrument, checkpoint_dir=checkpoint,
                    seed=options.seed, instruments=instruments,
                    instruments_path=output_dir / f"{stem}_instruments.npz",
                    threads=options.threads, progress=bar)

            # Saves the clip and its picture
            save_audio(audio_clip, stem, output_dir, options.labels)
            clips.append((stem, notes, audio_clip))


def parse_options():
    parser = option_parser(__doc__, "output/gansynth", "acoustic_only, all_instruments")
    parser.add_argument("--midi", nargs="+", default=["cs1-1pre-short.mid"], metavar="FILE",
                        help="scores to play (default: the prelude in midi/)")
    parser.add_argument("--tempo", type=number(float, 0.05, 20), default=1.0, metavar="F",
                        help="factor on the tempo, 0.05 to 20: 2 is twice as fast (default: 1)")
    parser.add_argument("--seconds-per-instrument", type=number(float, 0.1, 3600, "seconds"),
                        default=5, metavar="S",
                        help="from one random instrument to the next, 0.1 to 3600 (default: 5)")
    parser.add_argument("--instruments", metavar="LIST|FILE",
                        help="instruments of this seed by number, with their seconds if you like: "
                             "3,7,1@8.0; or a .npz that a run has saved")
    parser.add_argument("--preview", type=number(int, 1, 200), metavar="N",
                        help="play a phrase on each of the seed's first N instruments instead")
    return parser


if __name__ == "__main__":
    run(app, parse_options())
