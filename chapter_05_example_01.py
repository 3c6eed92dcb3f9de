"""
Example 1 of chapter 5: NSynth blends two sounds into a new one.

Encodes sounds with a WaveNet autoencoder, mixes their encodings in pairs, and decodes the mixes
sample by sample.  The functions are the book's, in the book's order; what differs from print has
the tag "not in print", and is listed in the README.
"""

from __future__ import annotations

if __name__ == "__main__":
    from companion.start import start
    start()  # before the imports: says what to install if a package is missing

from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np

import audio_utils
from companion import inputs, plan, results
from companion.options import Parser, number, option_parser
from companion.page.adapter import nsynth_page
from companion.progress import bar
from companion.run import run
from companion.start import HERE
from synths import nsynth
from synths.nsynth import mixing
from synths.weights import checkpoints

SAMPLE_RATE = 16000  # Hz; what NSynth was trained on

# not in print: Four sounds of our own ship; the book's four are fetched on request and then used.
WAV_FILENAMES = ["bass.wav", "metal.wav", "meow.wav", "flute.wav"]


def download_checkpoint(checkpoint_name: str, target_dir: str | Path = HERE / "checkpoints",
                        progress: Callable[[int, int], None] | None = None) -> None:
    """Download a Magenta checkpoint to the target directory and extract it, unless it is there.

    Parameters
    ----------
    checkpoint_name : str
        "wavenet-ckpt" (the book's) or "wavenet-voice-ckpt" (sung vowels).
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


def encode(wav_filenames: Sequence[str | Path], checkpoint: str | Path | None = None,
           sample_length: int = 16000, sample_rate: int = SAMPLE_RATE, *,
           trim_silence: bool = False, peak: float | None = None, engine: ModuleType = nsynth,
           progress: Callable[[int, int], None] | None = None) -> np.ndarray:
    """Load the sounds and encode them.

    Parameters
    ----------
    wav_filenames : sequence of str or Path
        Paths, or names of files in the "sounds" folder.
    checkpoint : str, Path or None
        A name or a path; None: the best that is here.
    sample_length : int
        Samples of each sound: the seconds wanted times 16000.
    sample_rate : int
        In Hz, should be 16000.
    trim_silence : bool
        Leave out the silence at the beginning of each sound.
    peak : float, optional
        Bring each sound to this peak, in (0, 1].
    engine : module
        Who encodes: synths.nsynth, or synths.nsynth.magenta (Magenta's own code).
    progress : callable, optional
        Called with samples done and samples in all.

    Returns
    -------
    float32 [sounds, frames, 16]
        A frame for every 512 samples.

    Raises
    ------
    InputError
        If a sound cannot be read, or saved encodings have another length.
    """
    # Loads the audio of each file
    audios = []
    for wav_filename in wav_filenames:
        if not inputs.is_encoding(wav_filename):
            # not in print: Short sounds are padded with silence, so that all have one length.
            # WAV, FLAC, OGG, MP3 and AIFF are read, of any rate.
            audios.append(inputs.load_sound(wav_filename, sample_length, sample_rate,
                                            trim_silence, peak))

    # Encodes them all
    encodings: list[np.ndarray] = []
    if audios:
        encodings.extend(engine.encode(np.array(audios), checkpoint, sample_length))

    # not in print: An encoding that an earlier run has saved is used as it is.
    for place, wav_filename in enumerate(wav_filenames):
        if inputs.is_encoding(wav_filename):
            encodings[place:place] = audio_utils.load_encodings([str(wav_filename)], "")
    return mixing.stacked(encodings)  # which refuses encodings of unequal length


def mix_encoding_pairs(encodings: Sequence[np.ndarray], encodings_name: Sequence[str],
                       weights: tuple[float, float] = mixing.WEIGHTS["lean"],
                       pairs: Sequence[tuple[int, int]] | None = None,
                       ) -> tuple[np.ndarray, list[str]]:
    """Mix the encodings in pairs, each with every other, and name the mixes.

    Parameters
    ----------
    encodings : sequence of float32 [frames, 16]
    encodings_name : sequence of str
        The files that they were made of, or short names.
    weights : (float, float)
        How much of the first and of the second goes into a mix; 2/3 and 1/3 unless told otherwise.
    pairs : sequence of (int, int), optional
        The pairs to mix, by place.  None: all, in both orders.

    Returns
    -------
    encodings_mix : float32 [pairs, frames, 16]
    encodings_mix_name : list of str
        "bass_flute" for the bass, coloured by the flute.
    """
    encodings_mix = []
    encodings_mix_name = []
    # not in print: Names are the sounds' words, not Freesound's numbers, and all different.
    names = mixing.short_names(encodings_name)
    # not in print: Pairs are told apart by place; by name, two sounds of one name were never mixed.
    for i, j in mixing.pairs(len(encodings)) if pairs is None else pairs:
        # not in print: The weights sum to one, 2/3 and 1/3; the book's 1 and 1/2 are --mix book.
        encodings_mix.append(weights[0] * encodings[i] + weights[1] * encodings[j])
        encodings_mix_name.append(f"{names[i]}_{names[j]}")
    return np.array(encodings_mix, np.float32), encodings_mix_name


def synthesize(encodings_mix: np.ndarray, encodings_mix_name: Sequence[str],
               checkpoint: str | Path | None = None,
               output_dir: str | Path = HERE / "output" / "nsynth", *, seed: int = 0,
               identities: Sequence[str] | None = None, temperature: float = 1.0,
               precision: str = "auto", threads: int | None = None, resume: bool = False,
               engine: ModuleType = nsynth, reference_audio: np.ndarray | None = None,
               report: Callable[[str], None] | None = None,
               progress: Callable[[int, int], None] | None = None) -> list[Path]:
    """Decode the encodings, sample by sample, and save each as a WAV under its name.

    Parameters
    ----------
    encodings_mix : float32 [clips, frames, 16]
    encodings_mix_name : sequence of str
        The names of the files, without ending.
    checkpoint : str, Path or None
        A name or a path; None: the best that is here.
    output_dir : str or Path
        The folder of the WAVs.
    seed : int
        The same seed gives the same sounds.
    identities : sequence of str, optional
        What each clip is made of; its random numbers come from this and the seed.
    temperature : float
        0.01 to 2; below 1 the likelier samples are preferred.
    precision : str
        "auto", "float32" or "int8".
    threads : int, optional
        None: all cores.
    resume : bool
        Go on with what a stopped run has left.
    engine : module
        Who decodes: synths.nsynth, or synths.nsynth.magenta (Magenta's own code).
    reference_audio : float32 [sounds, samples], optional
        The sounds on which "auto" tries int8.
    report : callable, optional
        Called with a sentence where there was a choice.
    progress : callable, optional
        Called with samples done and samples in all.

    Returns
    -------
    list of Path
        The WAVs.

    Raises
    ------
    InputError
        If a file cannot be written.
    """
    Path(output_dir).mkdir(parents=True, exist_ok=True)
    save_paths = [Path(output_dir) / f"{name}.wav" for name in encodings_mix_name]
    # not in print: Files have 16 bits and do not clip; 5 ms at both ends are faded, against clicks.
    # not in print: The seed decides what is drawn, so a run can be repeated; large networks compute
    # in int8 where that is as good.
    engine.synthesize(encodings_mix, save_paths, checkpoint, reference_audio=reference_audio,
                      decoding=nsynth.Decoding(seed, identities, temperature, precision, threads,
                                               fade=0.005, resume=resume))
    return save_paths


def app(options) -> None:
    """Run the example: the book's four calls, and around them what is new."""
    # Downloads the checkpoint, if it is asked for, and finds the weights and the sounds
    # not in print: Weights are fetched only with --download; without them small ones that ship are
    # used.
    checkpoint_name = inputs.wanted_download(options, "nsynth", "wavenet-ckpt")
    if checkpoint_name:
        download_checkpoint(checkpoint_name,
                            progress=bar(options, f"fetching {checkpoint_name}", 1e-6, "MB"))
    checkpoint = inputs.find_weights(options, "nsynth")
    wav_filenames = inputs.find_sounds(options, WAV_FILENAMES)

    # Settles what will be made before any work starts; the sounds are loaded here to find bad ones
    # now, and kept for `encode`
    # not in print: Each run has a folder of its own, and replaces no other's results.
    engine = inputs.nsynth_engine(options, checkpoint)
    job = plan.plan_mixes(options, wav_filenames, checkpoint)
    sample_length = round(options.seconds * SAMPLE_RATE)
    peak = 0.9 if options.level else None
    audios = inputs.load_sounds(options, job.wav_filenames, sample_length, peak)
    plan.say_sounds(options, job)
    plan.say_unknown(options, job, checkpoint, audios, WAV_FILENAMES)
    record = results.new_record(options, checkpoint, "nsynth", job.named_by)

    # Encodes the sounds, and saves the encodings for later use
    encodings = encode(job.wav_filenames, checkpoint, sample_length, trim_silence=options.trim,
                       peak=peak, engine=engine,
                       progress=bar(options, f"encoding {len(job.wav_filenames)} sounds",
                                    1 / SAMPLE_RATE, "s of sound"))
    audio_utils.save_encoding(list(encodings), job.names, record.output_dir / "encodings")

    # not in print: Before they are mixed, the encodings are scaled and stretched, if asked for.
    encodings = options.scale * audio_utils.timestretch(encodings, options.stretch)

    # Mixes the encodings in pairs, under short names of the files: 4 sounds make 12 mixes
    encodings_mix, encodings_mix_name = mix_encoding_pairs(encodings, job.names, job.weights,
                                                           job.pairs)
    # not in print: The sounds themselves are decoded as well, to hear what the network loses; files
    # are named with the seed.
    encodings_mix, encodings_mix_name = plan.with_sounds(record, job, encodings, encodings_mix,
                                                         encodings_mix_name)

    # Synthesizes them into WAVs
    # not in print: At the end, or when stopped, every sound is drawn as a rainbowgram, and a page
    # to listen on is made.
    planned = plan.planned_mixes(record, job)
    with results.page_at_end(record, nsynth_page, job.names, audios, planned):
        synthesize(encodings_mix, encodings_mix_name, checkpoint, record.output_dir,
                   seed=record.seed,
                   identities=[clip.identity for clip in planned],
                   temperature=options.temperature, precision=options.precision,
                   threads=options.threads, resume=options.resume, engine=engine,
                   reference_audio=mixing.stacked([a for a in audios if a is not None]),
                   report=record.say, progress=bar(options, f"decoding {len(planned)} clips",
                                                   1 / SAMPLE_RATE, "s of sound"))


def parse_options() -> Parser:
    """Make the parser of this example's options."""
    parser = option_parser(__doc__, "output/nsynth", "wavenet-ckpt, wavenet-voice-ckpt")
    parser.add_argument("--sounds", nargs="+", metavar=("FILE", "FOLDER"),
                        help="sounds or saved encodings (default: four of sounds/)")
    parser.add_argument("--seconds", type=number(float, 0.1, 60, "seconds"), default=1.0,
                        metavar="S", help="length of each sound, 0.1 to 60 (default: 1)")
    parser.add_argument("--trim", action="store_true", help="leave out silence at the beginning")
    parser.add_argument("--level", action="store_true", help="bring each sound to a peak of 0.9")
    parser.add_argument("--mix", choices=mixing.WEIGHTS, default="lean",
                        help="weights 2/3 and 1/3 (default), 1/2 and 1/2, or 1 and 1/2")
    parser.add_argument("--ratio", type=number(float, 0, 1), metavar="R",
                        help="or the share of the first sound, 0 to 1")
    parser.add_argument("--pairs", nargs="+", metavar=("A+B", "C+D"),
                        help="mix only these, by the sounds' names")
    parser.add_argument("--steps", type=number(int, 2, 99), metavar="N",
                        help="from one sound to the other, 2 to 99 steps")
    parser.add_argument("--crossfade", action="store_true",
                        help="let one sound become the other over time")
    parser.add_argument("--stretch", type=number(float, 0.1, 10), default=1.0, metavar="F",
                        help="stretch in time, 0.1 to 10: 2 is twice as long")
    parser.add_argument("--scale", type=number(float, -10, 10), default=1.0, metavar="F",
                        help="factor on the encodings, -10 to 10")
    parser.add_argument("--temperature", type=number(float, 0.01, 2), default=1.0, metavar="T",
                        help="0.01 to 2: less is cleaner, more is noisier")
    parser.add_argument("--precision", choices=["auto", "float32", "int8"], default="auto",
                        help="auto (default): int8 where as good as float32")
    parser.add_argument("--resume", action="store_true",
                        help="go on with a run that was stopped")
    return parser


if __name__ == "__main__":
    run(app, parse_options())
