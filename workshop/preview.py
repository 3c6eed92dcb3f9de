"""Play a phrase on several GANSynth instruments, and make a page on which you can select them."""

from __future__ import annotations

import argparse

from companion.options import add_run_options, number
from workshop.play import NOTE_SECONDS, add_model_options, prepare

EXAMPLES = """examples:
  python -m workshop preview --count 12
  python -m workshop preview --count 30 --seed 5"""
KEYS = tuple(range(36, 85, 8))  # MIDI pitches of the page's keyboard


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("--count", type=number(int, 1, 200), default=12, metavar="N",
                        help="number of instruments, 1 to 200 (default: 12)")
    add_model_options(parser)
    add_run_options(parser, "gansynth", "acoustic_only, all_instruments")
    parser.epilog = EXAMPLES


def run(options: argparse.Namespace) -> None:
    """Play a phrase on each of the first instruments of a seed."""
    import numpy as np
    from tqdm import tqdm

    import chapter_05_example_02 as chapter
    from companion import example
    from companion.clips import Clip
    from companion.page.reports import Extra
    from synths.gansynth import preview_phrase

    engine, checkpoint, model = prepare(options)
    made = [Clip(f"instrument{number:02d}", f"instrument {number}", "preview")
            for number in range(1, options.count + 1)]
    phrase = preview_phrase()
    seconds = 1 + NOTE_SECONDS * len(made) * (len(phrase["pitches"]) + len(KEYS))
    example.check_size(len(made), seconds, "choose a smaller --count, or add --yes", options.yes)
    plan = example.Plan(made, checkpoint, {"count": options.count}, [],
                        example.output_folder(options), example.new_seed(options.seed),
                        labels=options.labels)
    print(f"A phrase on each of {len(made)} instruments; seed {plan.seed}; takes about "
          f"{example.in_words(seconds)}", flush=True)
    z = np.asarray(model.generate_z(len(made), np.random.default_rng(plan.seed)))
    extras: dict[str, Extra] = {}
    with example.Run(plan, lambda: extras) as work:
        for clip, instrument in zip(tqdm(made, "playing instruments", delay=2, leave=False,
                                         disable=example.quiet_bars()), z):
            # The phrase and the keyboard's notes at once
            pitches = np.append(phrase["pitches"], KEYS)
            notes = np.asarray(model.generate_samples_from_z(
                np.repeat(instrument[np.newaxis], len(pitches), axis=0), pitches))
            count = len(phrase["pitches"])
            audio = engine.combine_notes(notes[:count], phrase["start_times"],
                                         phrase["end_times"], phrase["velocities"])
            extras[clip.name] = Extra(keys=list(zip(KEYS, notes[count:])))
            chapter.save_audio(without_tail(np.asarray(audio)), clip.name, work.output_dir)


def without_tail(audio):
    """Return a sound without its trailing silence."""
    import numpy as np

    audible = np.flatnonzero(np.abs(audio) > 1e-3)
    return audio[:int(audible[-1]) + 1600] if len(audible) else audio[:1600]
