"""
Example 1 of chapter 5: NSynth turns two sounds into one.

Encodes sounds with a WaveNet autoencoder, mixes their encodings in pairs, and decodes the mixes
sample by sample.  The functions are the book's, in the book's order; what differs from print is
tagged, and listed in the README.
"""

from __future__ import annotations

if __name__ == "__main__":
    from companion.start import start
    start()  # before the imports: says what to install if a package is missing

from pathlib import Path

import numpy as np

import audio_utils
from companion.page.reports import nsynth_page
from companion.script import (
    HERE,
    find_engine,
    find_pairs,
    find_sounds,
    find_weights,
    is_encoding,
    number,
    option_parser,
    page_at_end,
    progress,
    results_dir,
    run,
    say,
    say_sounds,
    sound_path,
)
from synths import nsynth
from synths.nsynth import mixing
from synths.weights import checkpoints

SAMPLE_RATE = 16000  # Hz; what NSynth was trained on

# not in print: four sounds of our own; the book's are fetched on request and then used first
WAV_FILENAMES = ["bass.wav", "metal.wav", "meow.wav", "flute.wav"]


def download_checkpoint(checkpoint_name: str, target_dir: str | Path = HERE / "checkpoints",
                        progress=None) -> None:
    """
    Downloads a Magenta checkpoint to the target directory and extracts it, unless it is there.

    :param checkpoint_name: "wavenet-ckpt" (the book's) or "wavenet-voice-ckpt" (sung vowels)
    :param target_dir: local directory in which to write the checkpoint
    :param progress: called with (bytes done, bytes in all)
    """
    # not in print: verified, resumed where it was cut, and unpacked safely
    checkpoints.download(checkpoint_name, Path(target_dir), progress=progress)


def load_sound(wav_filename: str | Path, sample_length: int, sample_rate: int = SAMPLE_RATE,
               **options) -> np.ndarray:
    """
    Loads one sound, mono, padded with silence or cut to sample_length samples.

    :param wav_filename: a path, or the name of a file in the "sounds" folder
    """
    # not in print: short sounds are padded, so that they stack; any format libsndfile reads
    return audio_utils.load_audio(sound_path(wav_filename), sample_length, sample_rate, **options)


def encode(wav_filenames: list[str | Path], checkpoint: str | Path | None = None,
           sample_length: int = 16000, sample_rate: int = SAMPLE_RATE, engine=nsynth,
           progress=None, audios: list[np.ndarray | None] | None = None, **options) -> np.ndarray:
    """
    Loads the sounds and encodes them.

    :param wav_filenames: the sounds, paths or names of files in the "sounds" folder
    :param checkpoint: the checkpoint, a name or a path; None for the best that is here
    :param sample_length: the length in samples: the seconds wanted times 16000
    :param sample_rate: the sample rate in Hz, should be 16000
    :param engine: who encodes: synths.nsynth, or synths.nsynth.magenta (Magenta's own code)
    :param progress: called with (samples done, samples in all)
    :param audios: the sounds of the files where they are loaded already, None for an encoding
    :return: the encodings, [sounds, frames, 16], a frame for every 512 samples
    """
    if not wav_filenames:
        return np.zeros((0, sample_length // 512, 16), np.float32)

    # Loads the audio of each file
    if audios is None:
        audios = [None if is_encoding(wav_filename) else
                  load_sound(wav_filename, sample_length, sample_rate, **options)
                  for wav_filename in wav_filenames]

    # Encodes them all
    sounds = [audio for audio in audios if audio is not None]
    encodings = list(engine.encode(np.array(sounds), checkpoint, sample_length,
                                   progress=progress)) if sounds else []

    # not in print: an encoding that an earlier run has saved takes its place as it is
    for place, filename in enumerate(map(Path, wav_filenames)):
        if is_encoding(filename):
            encodings[place:place] = audio_utils.load_encodings([filename.name], filename.parent)
    return mixing.stacked(encodings)


def mix_encoding_pairs(encodings: list[np.ndarray], encodings_name: list[str],
                       weights: tuple[float, float] = mixing.WEIGHTS["lean"],
                       chosen: list[tuple[int, int]] | None = None,
                       ) -> tuple[np.ndarray, list[str]]:
    """
    Mixes the encodings in pairs, each with every other, and names the mixes.

    :param encodings: the encodings
    :param encodings_name: their names
    :param weights: how much of the first and of the second goes into a mix
    :param chosen: the pairs to mix, by place; None for all (each once if the weights are equal)
    :return: the mixes, [pairs, frames, 16], and their names
    """
    encodings_mix = []
    encodings_mix_name = []
    # not in print: names stay unlike each other, also where two sounds share a number
    names = mixing.short_names(encodings_name)
    # not in print: pairs are told apart by place, not by name
    for first, second in chosen or mixing.pairs(len(encodings), weights[0] != weights[1]):
        # not in print: the weights sum to one; the book's, 1 and 1/2, are --mix book
        encodings_mix.append(weights[0] * encodings[first] + weights[1] * encodings[second])
        encodings_mix_name.append(f"{names[first]}_{names[second]}")
    return np.array(encodings_mix), encodings_mix_name


def synthesize(encodings_mix: np.ndarray, encodings_mix_name: list[str],
               checkpoint: str | Path | None = None,
               output_dir: str | Path = HERE / "output" / "nsynth", engine=nsynth,
               **options) -> list[Path]:
    """
    Decodes the encodings, sample by sample, and saves each as a WAV under its name.

    :param encodings_mix: the encodings, [clips, frames, 16]
    :param encodings_mix_name: the names of the files, without ending
    :param checkpoint: the checkpoint, a name or a path; None for the best that is here
    :param output_dir: the folder of the WAVs
    :param engine: who decodes: synths.nsynth, or synths.nsynth.magenta (Magenta's own code)
    :return: the paths of the WAVs
    """
    Path(output_dir).mkdir(parents=True, exist_ok=True)
    save_paths = [Path(output_dir) / f"{name}.wav" for name in encodings_mix_name]
    # not in print: files of 16 bits that neither clip nor click, 5 ms faded at both ends
    engine.synthesize(encodings_mix, save_paths, checkpoint, fade=0.005, **options)
    return save_paths


def app(options) -> None:
    # Finds the weights and the sounds (with --download: fetches what the book used)
    checkpoint = find_weights(options, "nsynth", "wavenet-ckpt", download_checkpoint)
    sounds = find_sounds(options, WAV_FILENAMES)
    names = mixing.short_names(sounds)
    engine = find_engine(options, checkpoint)
    weights = mixing.weights(options.mix, options.ratio)
    pairs = find_pairs(options, names, weights)
    sample_length = round(options.seconds * SAMPLE_RATE)
    audios = [None if is_encoding(sound) else load_sound(
        sound, sample_length, trim_silence=options.trim, peak=0.9 if options.level else None,
        report=lambda line: say(options, line)) for sound in sounds]
    output_dir = results_dir(options)
    say_sounds(options, sounds, names)

    # Encodes the sounds (and saves the encodings for later use)
    with progress(options, f"encoding {len(sounds)} sounds", 1 / SAMPLE_RATE, "s of sound") as bar:
        encodings = encode(sounds, checkpoint, sample_length, engine=engine, progress=bar,
                           audios=audios)
    audio_utils.save_encoding(encodings, names, output_dir / "encodings")

    # Mixes the encodings in pairs: 4 sounds make 12 mixes
    encodings = options.scale * audio_utils.timestretch(encodings, options.stretch)
    clips, clips_name = list(encodings), [f"{name}_reconstructed" for name in names]
    if options.steps:
        mixed = mixing.paths(encodings, names, options.steps, pairs)
    elif options.crossfade:
        mixed = mixing.crossfades(encodings, names, pairs)
    else:
        mixed = mix_encoding_pairs(encodings, names, weights, pairs)
    clips.extend(mixed[0])
    clips_name.extend(mixed[1])

    # Synthesizes them into WAVs, the sounds themselves too; at the end, or when stopped, draws
    # every sound as a rainbowgram and makes the page to listen on
    clips_name = [f"{name}_seed{options.seed}" for name in clips_name]
    heard = mixing.stacked([audio for audio in audios if audio is not None])
    with (page_at_end(options, output_dir, lambda: nsynth_page(
              options, output_dir, names, audios, pairs, clips_name)),
          progress(options, f"decoding {len(clips)} clips", 1 / SAMPLE_RATE, "s of sound") as bar):
        synthesize(np.array(clips), clips_name, checkpoint, output_dir, engine, seed=options.seed,
                   precision=options.precision, temperature=options.temperature,
                   threads=options.threads, reference_audio=heard,
                   report=lambda line: say(options, line), progress=bar)


def parse_options():
    parser = option_parser(__doc__, "output/nsynth", "wavenet-ckpt, wavenet-voice-ckpt")
    parser.add_argument("--sounds", nargs="+", metavar=("FILE", "FOLDER"),
                        help="sounds, saved encodings (default: sounds/)")
    parser.add_argument("--seconds", type=number(float, 0.1, 60, "seconds"), default=1.0,
                        metavar="S", help="length of each sound, 0.1 to 60 (default: 1)")
    parser.add_argument("--trim", action="store_true", help="leave out silence at the beginning")
    parser.add_argument("--level", action="store_true", help="bring each sound to a peak of 0.9")
    parser.add_argument("--mix", choices=mixing.WEIGHTS, default="lean",
                        help="weights 2/3 1/3 (default), 1/2 1/2, or 1 1/2")
    parser.add_argument("--ratio", type=number(float, 0, 1), metavar="R",
                        help="share of the first sound instead, 0 to 1")
    parser.add_argument("--pairs", nargs="+", metavar=("A+B", "C+D"),
                        help="mix only these, by short name")
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
    parser.add_argument("--engine", choices=["fast", "magenta"], default="fast",
                        help="magenta: Magenta's own, official weights, slow")
    return parser


if __name__ == "__main__":
    run(app, parse_options())
