"""Mix sounds with NSynth: chosen pairs, interpolation steps, crossfades, stretching and scaling."""

from __future__ import annotations

import argparse

from companion.options import add_run_options, add_sounds, number

EXAMPLES = """examples:
  python -m workshop mix --pairs bass+flute --steps 5
  python -m workshop mix --sounds samples/ --seconds 4 --trim --level
  python -m workshop mix --pairs meow+flute --crossfade --stretch 2
  python -m workshop mix --weights 1 0.5 --temperature 0.7"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    add_sounds(parser)
    parser.add_argument("--trim", action="store_true",
                        help="trim the silence at the beginning of each sound")
    parser.add_argument("--level", action="store_true",
                        help="normalise each sound to a peak of 0.9 of full scale")
    parser.add_argument("--pairs", nargs="+", metavar="A+B",
                        help="mix only these pairs of sounds, such as bass+flute")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--steps", type=number(int, 2, 99), metavar="N",
                     help="interpolate from one sound to the other in 2 to 99 steps")
    how.add_argument("--crossfade", action="store_true",
                     help="change gradually from one sound to the other during each clip")
    how.add_argument("--weights", nargs=2, type=number(float, -10, 10), metavar=("A", "B"),
                     help="mixing weights of the first and the second sound, -10 to 10 (default: 1 "
                          "and 0.5, as in the book)")
    parser.add_argument("--stretch", type=number(float, 0.1, 10), default=1.0, metavar="F",
                        help="stretch the sounds in time by a factor of 0.1 to 10; 2 makes them "
                             "twice as long (default: 1)")
    parser.add_argument("--scale", type=number(float, -10, 10), default=1.0, metavar="F",
                        help="multiply the encodings by a factor of -10 to 10 (default: 1)")
    parser.add_argument("--temperature", type=number(float, 0.01, 2), default=1.0, metavar="T",
                        help="sampling temperature, 0.01 to 2; lower temperatures give less "
                             "noise but duller sounds (default: 1)")
    parser.add_argument("--precision", choices=["auto", "float32", "int8"], default="auto",
                        help="precision of the decoder; auto (default) uses int8 if it is as "
                             "accurate as float32 and faster")
    parser.add_argument("--threads", type=number(int, 1, 1024), metavar="N",
                        help="number of processor threads (default: one for each core)")
    parser.add_argument("--labels", action="store_true", help="draw the plots with axes")
    parser.add_argument("--resume", action="store_true",
                        help="continue a stopped run of the same command")
    parser.add_argument("--yes", action="store_true",
                        help="allow more than 500 clips, or more than an hour of work")
    add_run_options(parser, "nsynth", "wavenet-ckpt, wavenet-voice-ckpt")
    parser.epilog = EXAMPLES


def run(options: argparse.Namespace) -> None:
    """Mix sounds."""
    import numpy as np

    import audio_utils
    import chapter_05_example_01 as chapter
    from companion import clips, example, inputs
    from synths.sounds import load_array, load_audio

    if options.download:
        chapter.download_checkpoint(options.checkpoint or "wavenet-ckpt")
    fastgen = example.engine_of("nsynth", options.engine)
    checkpoint = inputs.find_checkpoint(options.checkpoint, "nsynth")
    sounds = inputs.choose_sounds(options.sounds, chapter.WAV_FILENAMES, options.download,
                                  saved=True)
    names, made = plan_clips(options, sounds)
    sounds = [path for path, name in zip(sounds, clips.short_names(sounds)) if name in names]
    wavs = [path for path in sounds if not inputs.is_encoding(path)]
    sources = [clips.source(name) for name, path in zip(names, sounds) if path in wavs]

    length = options.seconds * options.stretch
    seconds = example.decoding_seconds(checkpoint, len(made), length)
    example.check_size(len(made), seconds, "choose pairs with --pairs, or add --yes", options.yes)
    settings = example.chosen(options, "pairs", "steps", "crossfade", "weights", "seconds", "trim",
                              "level", "stretch", "scale", "temperature", "precision")
    plan = example.Plan([*sources, *made], checkpoint, {"sounds": names, **settings}, sounds,
                        example.output_folder(options), example.new_seed(options.seed),
                        labels=options.labels)
    if options.resume:
        plan = example.continued(plan, options.seed)
    plan = example.with_resume_line(plan)
    print(f"{len(made)} clips of {length:g} s from {', '.join(names)}; seed {plan.seed}; takes "
          f"about {example.in_words(seconds)}", flush=True)

    # Loads and encodes the sounds; saved encodings are used as they are
    samples = round(options.seconds * example.SAMPLE_RATE)
    audios = [load_audio(path, samples, trim_silence=options.trim,
                         peak=0.9 if options.level else None) for path in wavs]
    decoding = {name: getattr(options, name) for name in ("temperature", "precision", "threads",
                                                          "resume")}
    with example.NSynthRun(plan, names, fastgen, decoding, judge=not options.quiet) as work:
        encoded = iter(work.encode(np.array(audios), checkpoint, samples) if audios else ())
        encodings = np.array(example.same_length([
            next(encoded) if path in wavs else load_array(path, 2, f"The encoding {path}")
            for path in sounds]))
        audio_utils.save_encoding(encodings, names, work.output_dir / "encodings")

        # Stretches, scales and mixes the encodings, and decodes them
        encodings = options.scale * audio_utils.timestretch(encodings, options.stretch)
        by_name = dict(zip(names, encodings))
        chapter.synthesize([clips.encoding_of(clip, by_name) for clip in made],
                           [clip.name for clip in made], checkpoint, work.seed, work.output_dir,
                           fastgen=work)


def plan_clips(options: argparse.Namespace, sounds) -> tuple[list, list]:
    """Return the names of the sounds that are used, and the clips to decode."""
    from companion import clips

    names = clips.short_names(sounds)
    weights = tuple(options.weights or clips.CHAPTER_WEIGHTS)
    if options.pairs:
        pairs = clips.chosen_pairs(options.pairs, names, sounds)
        names = [name for name in names if any(name in pair for pair in pairs)]
    else:
        ordered = options.crossfade or not options.steps and weights[0] != weights[1]
        pairs = clips.pairs(names, both_orders=ordered)
    if options.steps and pairs:  # the first and the last step are the reconstructions
        return names, [clip for pair in pairs for clip in clips.steps(pair, options.steps)]
    mixes = [clips.crossfade(pair) if options.crossfade else clips.mix(pair, weights)
             for pair in pairs]
    return names, [*map(clips.reconstruction, names), *mixes]
