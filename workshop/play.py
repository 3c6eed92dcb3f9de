"""Play MIDI files with GANSynth, on instruments and at a tempo that you choose."""

from __future__ import annotations

import argparse

from companion.options import add_run_options, add_seconds_per_instrument, number

EXAMPLES = """examples:
  python -m workshop play --midi song.mid --tempo 1.2
  python -m workshop play --midi song.mid --instruments 3,7,1@8.0 --seed 5
  python -m workshop play --instruments 7,3        (instruments of the last preview)"""
NOTE_SECONDS = 0.03  # seconds of work for each different note


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("--midi", nargs="+", default=["cs1-1pre-short.mid"], metavar="FILE",
                        help="MIDI files to play (default: the prelude in midi/)")
    parser.add_argument("--tempo", type=number(float, 0.05, 20), default=1.0, metavar="F",
                        help="multiply the tempo by a factor of 0.05 to 20; 2 is twice as fast "
                             "(default: 1)")
    parser.add_argument("--no-pedal", action="store_true",
                        help="ignore pedal events in the MIDI file, as Magenta does")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--instruments", metavar="LIST|FILE",
                       help="numbers of instruments, from the last preview or generated from "
                            "--seed, with optional start times in seconds (3,7,1@8.0), or a .npz "
                            "file that a run has saved (default: random instruments)")
    add_seconds_per_instrument(which)
    add_model_options(parser)
    add_run_options(parser, "gansynth", "acoustic_only, all_instruments")
    parser.epilog = EXAMPLES


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that `play` and `preview` share."""
    parser.add_argument("--threads", type=number(int, 1, 1024), metavar="N",
                        help="number of processor threads (default: one for each core)")
    parser.add_argument("--labels", action="store_true", help="draw the plots with axes")
    parser.add_argument("--yes", action="store_true",
                        help="allow more than 500 clips, or more than an hour of work")


def run(options: argparse.Namespace) -> None:
    """Play scores."""
    import numpy as np

    import chapter_05_example_02 as chapter
    from companion import clips, example, inputs
    from companion.page.reports import Extra, Score
    from synths.gansynth import (
        count_distinct,
        get_z_notes,
        save_instruments,
        summary,
        tempo_scale,
    )

    engine, checkpoint, model = prepare(options)
    paths = [inputs.score_path(name) for name in options.midi]
    made = clips.scores(paths)
    seed = example.new_seed(preview_seed(options, checkpoint))
    parts, notes_to_make = [], 0
    for clip, path in zip(made, paths):
        # The notes, and the instrument of each
        pedal = {"pedal": False} if options.no_pedal and options.engine == "fast" else {}
        notes = tempo_scale(engine.load_midi(path, **pedal), options.tempo)
        z, times, numbers = instruments(options, engine, model, notes, seed)
        # Both engines use our function: Magenta's divides by zero between equal instruments
        z_notes = get_z_notes(notes["start_times"], z, times)
        notes_to_make += count_distinct(z_notes, notes["pitches"])
        parts.append((clip, notes, z, times, numbers, z_notes))
        print(f"{clip.name}: {summary(notes)}", flush=True)
    seconds = 1 + NOTE_SECONDS * notes_to_make
    example.check_size(len(made), seconds, "choose fewer scores, or add --yes", options.yes)
    settings = {"midi": [path.name for path in paths], **example.chosen(
        options, "tempo", "no_pedal", "instruments")}
    if options.instruments is None:
        settings["seconds_per_instrument"] = options.seconds_per_instrument
    plan = example.Plan(made, checkpoint, settings, paths, example.output_folder(options), seed,
                        labels=options.labels)
    extras = {clip.name: Extra(score=Score(notes, numbers, times))
              for clip, notes, _, times, numbers, _ in parts}
    print(f"Seed {seed}; this takes about {example.in_words(seconds)}", flush=True)
    with example.Run(plan, lambda: extras) as work:
        for clip, notes, z, times, _, z_notes in parts:
            save_instruments(work.output_dir / f"{clip.name}_instruments.npz", z, times)
            audio_notes = model.generate_samples_from_z(z_notes, notes["pitches"])
            audio = engine.combine_notes(audio_notes, notes["start_times"], notes["end_times"],
                                         notes["velocities"])
            chapter.save_audio(np.asarray(audio), clip.name, work.output_dir)


def prepare(options: argparse.Namespace):
    """Download the model if requested; return the engine, the checkpoint and the model."""
    import chapter_05_example_02 as chapter
    from companion import example, inputs

    if options.download:
        chapter.download_checkpoint(options.checkpoint or "acoustic_only")
    engine = example.engine_of("gansynth", options.engine)
    checkpoint = inputs.find_checkpoint(options.checkpoint, "gansynth")
    more = {} if options.threads is None else {"threads": options.threads}
    return engine, checkpoint, engine.Model.load_from_path(checkpoint, 16, **more)


def preview_seed(options: argparse.Namespace, checkpoint) -> int | None:
    """Return --seed or, for instruments given by number, the seed of the last preview; print it."""
    from companion import example

    if options.seed is not None or options.instruments is None or options.instruments.endswith(
            (".npz", ".npy")):
        return options.seed
    for folder, run in example.read_runs(example.output_folder(options)):
        if run["clips"] and run["clips"][0]["kind"] == "preview" and (
                run["weights"] == example.weights_name(checkpoint)):
            print(f"Using instruments {options.instruments} of the last preview, {folder.name} "
                  f"(seed {run['seed']})", flush=True)
            return run["seed"]
    return None


def instruments(options: argparse.Namespace, engine, model, notes: dict, seed: int):
    """Return the latent vectors, times and numbers of a score's instruments."""
    import numpy as np

    from synths.gansynth import choose_instruments

    end, rng = float(max(notes["end_times"])), np.random.default_rng(seed)
    if options.instruments is None:
        z, times = engine.get_random_instruments(model, end, options.seconds_per_instrument, rng)
    else:
        z, times = choose_instruments(model, options.instruments, end, rng)
    if options.instruments is None or options.instruments.endswith((".npz", ".npy")):
        return z, times, [str(number + 1) for number in range(len(times))]
    numbers = [word.split("@")[0].strip() for word in options.instruments.split(",")]
    return z, times, numbers * 2 if len(numbers) == 1 else numbers  # a single one is at both ends
