"""
Example 2 of chapter 5: GANSynth plays a score on instruments that never existed.

Draws random instruments, moves from one to the next along a MIDI score, generates every note, and
mixes the notes to one clip.  The functions are the book's, in the book's order; what differs from
print has the tag "not in print", and is listed in the README.
"""

from __future__ import annotations

if __name__ == "__main__":
    from companion.start import start
    start()  # before the imports: says what to install if a package is missing

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np

import audio_utils
from companion import inputs, plan, results
from companion.options import Parser, number, option_parser
from companion.page.adapter import gansynth_page
from companion.progress import bar, bars
from companion.run import run
from companion.start import HERE
from synths import gansynth
from synths.weights import checkpoints

SAMPLE_RATE = 16000  # Hz; what GANSynth was trained on


def download_checkpoint(checkpoint_name: str, target_dir: str | Path = HERE / "checkpoints",
                        progress: Callable[[int, int], None] | None = None) -> None:
    """Download a Magenta checkpoint to the target directory and extract it, unless it is there.

    Parameters
    ----------
    checkpoint_name : str
        "acoustic_only" (the book's) or "all_instruments".
    target_dir : str or Path
        Where to write the checkpoint.
    progress : callable, optional
        Called with bytes done and bytes in all.

    Raises
    ------
    InputError
        If the download fails.
    """
    # not in print: A download is verified, goes on where it was cut, and is unpacked safely.
    checkpoints.download(checkpoint_name, Path(target_dir), progress=progress)


def get_midi_notes(midi_filename: str | Path = "cs1-1pre-short.mid") -> dict:
    """Return the notes of a score.

    Parameters
    ----------
    midi_filename : str or Path
        A path, or the name of a file in the "midi" folder.

    Returns
    -------
    dict
        Arrays of one entry for each note: "pitches" (MIDI), "velocities" (1 to 127), "start_times"
        and "end_times" (seconds); and "left_out", how many notes cannot be played.

    Raises
    ------
    InputError
        If it is no MIDI file, or has no note that GANSynth can play.
    """
    midi_path = Path(midi_filename)
    if not midi_path.exists() and (HERE / "midi" / midi_path).exists():
        midi_path = HERE / "midi" / midi_path
    # not in print: Pitches from 24 to 35, which the model knows too, are kept; drums are left out.
    return gansynth.load_midi(midi_path)


def generate_audio(notes: dict, seconds_per_instrument: float = 5, batch_size: int = 16,
                   checkpoint_dir: str | Path | None = None, *, seed: int | None = None,
                   instruments: str | None = None, instruments_path: Path | None = None,
                   threads: int | None = None, engine: ModuleType = gansynth,
                   progress: Callable[[int, int], None] | None = None) -> np.ndarray:
    """Generate an audio clip from the notes, on instruments drawn at random from the latent space.

    Parameters
    ----------
    notes : dict
        As `get_midi_notes` returns it.
    seconds_per_instrument : float
        The clip's seconds divided by this, rounded down, are how many instruments there are.
    batch_size : int
        How many notes the model generates at once.
    checkpoint_dir : str, Path or None
        A name or a folder; None: the best that is here.
    seed : int, optional
        The same seed draws the same instruments.
    instruments : str, optional
        The instruments to play instead: "3,7,1@8.0", or a file that holds them.
    instruments_path : Path, optional
        Where to save the instruments, to play them again.
    threads : int, optional
        None: all cores.
    engine : module
        Whose `Model` plays: synths.gansynth, or synths.gansynth.magenta (Magenta's own networks).
    progress : callable, optional
        Called with notes done and notes in all.

    Returns
    -------
    float32 [samples]
        The clip, at 16 kHz.

    Raises
    ------
    InputError
        If `instruments` cannot be read as numbers or as a file, or the checkpoint cannot be used.
    """
    # not in print: The generator alone is loaded, without the data set that it was trained on.
    model = inputs.gansynth_model(engine, checkpoint_dir, batch_size, threads)
    # not in print: The clip lasts to the end of the last note to end, not of the last listed.
    total_time = max(notes["end_times"])

    # Distributes latent vectors in time
    # not in print: A short clip has two instruments, its beginning's and its end's, where Magenta's
    # code fails.
    # not in print: Instruments are drawn from the seed, or chosen; they are saved.
    rng = np.random.default_rng(seed)
    if instruments is None:
        z_instruments, t_instruments = gansynth.get_random_instruments(
            model, total_time, seconds_per_instrument, rng)
    else:
        z_instruments, t_instruments = gansynth.choose_instruments(model, instruments, total_time,
                                                                   rng)
    if instruments_path is not None:
        gansynth.save_instruments(instruments_path, z_instruments, t_instruments)

    # Gets the latent vector of each note
    z_notes = gansynth.get_z_notes(notes["start_times"], z_instruments, t_instruments)

    # Generates the audio of each note
    # not in print: Notes are generated some at a time as they are mixed, each as far as it sounds.
    audio_notes = model.generate_samples_from_z(z_notes, notes["pitches"])

    # Makes a single audio clip
    # not in print: The clip stays below full scale, since its lowest sample counts as well as its
    # highest; a note shorter than its attack does not click.
    # not in print: A long note sounds for all of the 4 seconds that the model makes, not for 3.
    return gansynth.combine_notes(audio_notes, notes["start_times"], notes["end_times"],
                                  notes["velocities"])


def save_audio(audio_clip: np.ndarray, name: str = "clip",
               output_dir: str | Path = HERE / "output" / "gansynth", labelled: bool = False,
               ) -> Path:
    """Write the clip as a WAV and as a picture, a constant-Q spectrogram.

    Parameters
    ----------
    audio_clip : float32 [samples]
        At 16 kHz.
    name : str
        Of both files, without ending.
    output_dir : str or Path
        Their folder.
    labelled : bool
        Whether the picture has axes.

    Returns
    -------
    Path
        The WAV.

    Raises
    ------
    InputError
        If a file cannot be written.
    """
    # not in print: The sound is saved before its picture, both under one name, not the time of day.
    path = Path(output_dir) / f"{name}.wav"
    audio_utils.save_wav(audio_clip, path, SAMPLE_RATE)
    audio_utils.save_spectrogram_plot(audio_clip, SAMPLE_RATE, f"{name}.png", output_dir,
                                      labelled=labelled)
    return path


def app(options) -> None:
    """Run the example: the book's four calls, for each score, and around them what is new."""
    # Downloads the checkpoint, if it is asked for, and finds the weights
    # not in print: Weights are fetched only with --download; without them small ones that ship are
    # used.
    checkpoint_name = inputs.wanted_download(options, "gansynth", "acoustic_only")
    if checkpoint_name:
        download_checkpoint(checkpoint_name,
                            progress=bar(options, f"fetching {checkpoint_name}", 1e-6, "MB"))
    checkpoint = inputs.find_weights(options, "gansynth")
    engine = inputs.gansynth_engine(options)

    # Gets the notes of each score (in a preview, a phrase for each instrument)
    # not in print: Several scores can be played, at another tempo; a preview plays instruments.
    plan.check_preview(options)
    midi_filenames = [] if options.preview else inputs.find_scores(options)
    scores = [gansynth.preview_phrase()] * (options.preview or 0)
    for midi_filename in midi_filenames:
        notes = get_midi_notes(midi_filename)
        scores.append(gansynth.tempo_scale(notes, options.tempo))

    # Settles what will be made before any work starts
    # not in print: Each run has a folder of its own, and replaces no other's results.
    names = plan.score_names(options, midi_filenames)
    plan.check_scores(options, names, scores)
    instruments = plan.instruments(options, checkpoint, scores)
    record = results.new_record(options, checkpoint, "gansynth", midi_filenames)
    planned = plan.planned_scores(options, record, names)
    heard = plan.Heard()  # for the page: what was made so far
    # one bar for all scores; `next` gives what moves it along for one of them
    progress = bars(options, f"playing {plan.what_plays(options, names)}",
                    [len(notes["pitches"]) for notes in scores], "notes")

    # not in print: At the end, or when stopped, the scores are drawn, and a page to listen on is
    # made.
    with results.page_at_end(record, gansynth_page, planned, scores, heard.audios,
                             heard.instruments, heard.keys):
        for place, (clip, notes) in enumerate(zip(planned, scores)):
            instruments_path = clip.path.with_name(f"{clip.path.stem}_instruments.npz")

            # Generates the audio clip from the notes
            audio_clip = generate_audio(
                notes, options.seconds_per_instrument, checkpoint_dir=checkpoint,
                seed=record.seed, instruments=instruments[place],
                instruments_path=instruments_path, threads=options.threads, engine=engine,
                progress=next(progress))

            # Saves the clip and its picture
            heard.audios.append(audio_clip)
            heard.instruments.append(plan.placed_instruments(instruments[place],
                                                             instruments_path))
            save_audio(audio_clip, clip.path.stem, record.output_dir, options.labels)
            heard.keys.append(plan.play_keys(options, checkpoint, instruments_path))


def parse_options() -> Parser:
    """Make the parser of this example's options."""
    parser = option_parser(__doc__, "output/gansynth", "acoustic_only, all_instruments")
    parser.add_argument("--midi", nargs="+", default=["cs1-1pre-short.mid"], metavar="FILE",
                        help="scores to play (default: the prelude in midi/)")
    parser.add_argument("--tempo", type=number(float, 0.05, 20), default=1.0, metavar="F",
                        help="factor on the tempo, 0.05 to 20: 2 is twice as fast (default: 1)")
    parser.add_argument("--seconds-per-instrument", type=number(float, 0.1, 3600, "seconds"),
                        default=5.0, metavar="S",
                        help="seconds of the score for each random instrument, 0.1 to 3600 "
                             "(default: 5)")
    parser.add_argument("--instruments", metavar="LIST|FILE",
                        help="instruments of this seed by number, with their seconds if you like: "
                             "3,7,1@8.0; or a .npz that a run has saved")
    parser.add_argument("--preview", type=number(int, 1, 200), metavar="N",
                        help="play a phrase on each of the seed's first N instruments, no score")
    return parser


if __name__ == "__main__":
    run(app, parse_options())
