"""Evaluate a GANSynth checkpoint by its sound.

``python -m training.gansynth.evaluate [--checkpoint NAME|PATH] [--seeds N ...] [--output DIR]``
plays the exported TensorFlow checkpoint through ``synths`` and measures the sounds: pitch and
noise, the spectral distance between random instruments, variety, vibrato, attacks and decays. It
also measures the distance to the targets for pairs of instrument and pitch that were held out of
the training. It prints a table with the worst of the seeds, and writes all figures to one JSON file
and spectrograms to PNG files. ``--card`` writes the table into a model card. For weights that were
not trained on our targets (the official ones), the table has only the rows that need no targets.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest import mock

import numpy as np

from synths.gansynth import Model
from synths.gansynth.specgrams import SpecgramInverter
from synths.weights import checkpoints
from training import command, make_parser, measures, report
from training.gansynth import data, spectra

RATE = spectra.SAMPLE_RATE
NOTES = Path("training/runs/gansynth/notes.npz")
SEEDS = (0, 1, 2, 3, 4)
APART_PITCH, APART_NOTES = 57, 32       # A3
APART_SAMPLES, APART_WINDOW, APART_SPAN = 48000, 1024, 60.0
VARIETY_PITCHES = (30, 42, 54, 66, 78)
VARIETY_NOTES = 12      # at every seed
VIBRATO_PITCHES = (48, 57, 69)
ATTACK_PITCH = 57
_TARGETS_RATIO = "targets' harmonic to residual, dB, median"
_APART, _TARGETS_APART = "dB, mean of pairs", "targets' dB, mean of pairs"
_LOWEST = "lowest instrument's"
_SHARE = "share of the target's, mean"
_DISTANCE = "log-spectral distance to target, dB, mean"


def from_targets(targets: np.ndarray) -> np.ndarray:
    """Return audio ``[notes, 64000]`` of normalised spectrograms ``[notes, 128, 1024, 2]``."""
    scale = np.array([spectra.MAGNITUDE_SCALE, spectra.PHASE_SCALE])
    shift = np.array([spectra.MAGNITUDE_SHIFT, 0.0])
    return SpecgramInverter().invert(((targets - shift) / scale).astype(np.float32))


def generate(model: Model, z: np.ndarray, pitch: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the audio of notes, and their spectrograms ``[notes, 128, 1024, 2]``.

    ``synths.gansynth.Model`` returns the audio alone, so we record what its inverter receives.
    With one thread, notes reach the inverter in the order of their z, which must be sorted.
    """
    kept: list[np.ndarray] = []
    invert = model.inverter.invert
    with mock.patch.object(model.inverter, "invert",
                           lambda specgrams: kept.append(specgrams.copy()) or invert(specgrams)):
        audio = np.asarray(model.generate_samples_from_z(z, np.full(len(z), pitch)))
    return audio, np.concatenate(kept)


def at_peak(audio: np.ndarray) -> np.ndarray:
    """Bring each clip to a peak of 1, as the example does with every note."""
    return audio / np.maximum(np.abs(audio).max(axis=-1, keepdims=True), 1e-9)


def pitch_error(audio: np.ndarray, pitch: int) -> float:
    """Return the median deviation in cents over the held part, 0.1 to 2.9 s; NaN if unpitched.

    The search runs from under an octave below to over an octave above, so that a note an octave
    off is found as such.
    """
    wanted = float(data.frequency(pitch))
    held = audio[int(0.1 * RATE):int(2.9 * RATE)]
    found, clarity, rms = measures.f0_track(
        held, fmin=wanted / 2.2, fmax=min(wanted * 2.2, 0.45 * RATE))
    sure = (clarity > 0.5) & (rms > 0.02 * rms.max())
    return float(np.median(measures.cents(found[sure], wanted))) if sure.any() else float("nan")


def noise_ratio(audio: np.ndarray, pitch: int) -> float:
    """Return the harmonic-to-residual ratio of the held part in dB."""
    return measures.harmonic_to_noise(audio[:int(3.0 * RATE)], float(data.frequency(pitch)))


def log_mel(audio: np.ndarray) -> np.ndarray:
    """Return the natural logarithm of mel power ``[notes, 128, 1024]`` of audio."""
    power = np.abs(spectra.stft(audio)) ** 2
    return np.log(power @ spectra.mel_matrix() + 1e-6)


def explained(made: np.ndarray, wanted: np.ndarray) -> dict[str, float]:
    """Return how well the variation over notes follows the targets'.

    Both are log mel power ``[notes, 128, 1024]`` at one pitch. The mean over notes is taken off,
    so that what all notes share does not count, and only what comes within ``data.HEARD`` of
    the loudest in some target; quieter than that is the same silence in both. Of the
    generator's own spectrograms it says what was learned; of the sound's, what is heard of it
    once the phases have had their say.
    """
    floor = wanted.max() - data.HEARD - 2.0
    heard = wanted.max(axis=0) > wanted.max() - data.HEARD
    made, wanted = (np.maximum(part[:, heard], floor) for part in (made, wanted))
    made, wanted = made - made.mean(axis=0), wanted - wanted.mean(axis=0)
    return {"explained": float(1.0 - ((made - wanted) ** 2).sum() / (wanted ** 2).sum()),
            "size": float(np.sqrt((made ** 2).sum() / (wanted ** 2).sum()))}


def distances(audio: np.ndarray) -> np.ndarray:
    """Return how far clips ``[notes, samples]`` are from each other in dB, one for each pair.

    The root mean square difference of two spectrograms in dB: Hann windows of 1024 samples over
    the first 48,000, each clip 60 dB deep under its own loudest bin.
    """
    window = np.hanning(APART_WINDOW + 1)[:-1]
    spectra_db = []
    for clip in np.asarray(audio, float):
        frames = np.lib.stride_tricks.sliding_window_view(
            clip[:APART_SAMPLES], APART_WINDOW)[::APART_WINDOW // 2]
        levels = 20.0 * np.log10(np.abs(np.fft.rfft(frames * window, axis=1)) + 1e-9)
        spectra_db.append(np.maximum(levels - levels.max(), -APART_SPAN))
    return np.array([np.sqrt(np.mean((a - b) ** 2)) for index, a in enumerate(spectra_db)
                     for b in spectra_db[:index]])


def vibrato_depth(audio: np.ndarray, pitch: int) -> float:
    """Return how far the pitch swings to either side at the vibrato's rate, in cents.

    It is the amplitude of that rate in the track of the fundamental, 0.5 to 2.8 s; NaN if there
    is no pitch to follow.
    """
    fundamental, hop = float(data.frequency(pitch)), 64
    found, clarity, _ = measures.f0_track(
        audio[int(0.5 * RATE):int(2.8 * RATE)], fmin=fundamental / 1.5,
        fmax=min(1.8 * fundamental, 0.45 * RATE), hop=hop)
    cents = measures.cents(found, fundamental)
    sure = np.isfinite(cents) & (clarity > 0.5)
    if sure.mean() < 0.5:
        return float("nan")
    places = np.arange(len(cents))
    cents = np.interp(places, np.flatnonzero(sure), cents[sure])
    window = np.hanning(len(cents))
    window /= window.sum()
    cents = cents - (cents * window).sum()
    turns = places * hop / spectra.HOP * data.VIBRATO_TURN
    return float(2.0 * np.abs((cents * window * np.exp(-2j * np.pi * turns)).sum()))


def attack(audio: np.ndarray) -> float:
    """Return the seconds until a clip first comes within 6 dB of its highest level."""
    level = measures.envelope(audio)
    return float(0.02 * np.argmax(level > level.max() - 6.0))


def evaluate(prefix: Path, seeds: Sequence[int], output: Path, levels: list[np.ndarray] | None,
             quick: bool = False) -> dict:
    """Measure a checkpoint and draw its sheets; ``quick`` uses only a third of the notes.

    ``levels`` come from ``data.load``; None leaves out the rows that need targets.
    """
    output.mkdir(parents=True, exist_ok=True)
    model = Model.load_from_path(prefix, batch_size=8, threads=1)
    figures: dict = {"checkpoint": prefix.parent.parent.name, "seeds": list(seeds),
                     "random notes": {}, "apart": {}}
    for seed in seeds:
        print(f"random notes of seed {seed}", file=sys.stderr)
        figures["random notes"][str(seed)], clips = random_notes(model, seed, levels, quick)
        figures["apart"][str(seed)] = apart(model, seed, levels, quick)
        if seed == seeds[0]:
            sheet(output / "random.png", clips)
    if levels is None:
        return figures
    print("variety, vibrato, attacks and decays", file=sys.stderr)
    figures["variety"] = {str(seed): variety(model, seed, levels, quick) for seed in seeds}
    figures["vibrato"] = vibrato(model, levels)
    figures["decay"], figures["attack"], clips = shapes(model, levels)
    sheet(output / "anchors.png", clips)
    print("held-out pairs", file=sys.stderr)
    figures["held-out pairs"], clips = held_out(model, levels)
    sheet(output / "held_out.png", clips)
    return figures


def targets_of(levels: list[np.ndarray], z: np.ndarray, pitches: Sequence[int]) -> np.ndarray:
    """Return the normalised spectrograms that notes were to have, ``[notes, 128, 1024, 2]``."""
    return np.stack([data.target(levels, each, pitch) for each, pitch in zip(z, pitches)])


def random_notes(model: Model, seed: int, levels: list[np.ndarray] | None,
                 quick: bool) -> tuple[dict, list]:
    """Play one random z at every pitch: pitch and noise."""
    pitches = data.PITCHES[::3] if quick else data.PITCHES
    z = model.generate_z(len(pitches), seed)
    audio = np.asarray(model.generate_samples_from_z(z, pitches))
    errors = [pitch_error(note, pitch) for note, pitch in zip(audio, pitches)]
    ratios = [noise_ratio(note, pitch) for note, pitch in zip(audio, pitches)]
    figures = {
        "notes": len(pitches), "pitches": [int(pitches[0]), int(pitches[-1])],
        "within 50 cents": float(np.mean(np.abs(errors) < 50)),
        "median of absolute cents": float(np.nanmedian(np.abs(errors))),
        "harmonic to residual, dB, median": float(np.median(ratios)),
        "harmonic to residual, dB, tenth": float(np.quantile(ratios, 0.1)),
        "cents": [round(error, 1) for error in errors],
        "harmonic to residual, dB": [round(ratio, 1) for ratio in ratios]}
    if levels is not None:
        sounds = from_targets(targets_of(levels, z, pitches))
        figures[_TARGETS_RATIO] = float(np.median(
            [noise_ratio(note, pitch) for note, pitch in zip(sounds, pitches)]))
        figures["log-spectral distance to target, dB"] = float(np.mean(
            [measures.log_spectral_distance(a, b)
             for a, b in zip(at_peak(audio), at_peak(sounds))]))
    shown = np.linspace(0, len(pitches) - 1, 12).astype(int)
    return figures, [(f"random z, pitch {pitches[i]}", audio[i]) for i in shown]


def apart(model: Model, seed: int, levels: list[np.ndarray] | None, quick: bool) -> dict:
    """Play random z at A3: how far from each other they are, and their targets."""
    z = model.generate_z(APART_NOTES // 3 if quick else APART_NOTES, seed)
    found = distances(np.asarray(
        model.generate_samples_from_z(z, np.full(len(z), APART_PITCH))))
    figures = {"notes": len(z), _APART: float(found.mean()),
               "dB, tenth of pairs": float(np.quantile(found, 0.1))}
    if levels is not None:
        figures[_TARGETS_APART] = float(distances(from_targets(
            targets_of(levels, z, [APART_PITCH] * len(z)))).mean())
        shares = data.shares(z).max(axis=1)
        figures["largest share, median"] = float(np.median(shares))
    return figures


def variety(model: Model, seed: int, levels: list[np.ndarray], quick: bool) -> dict:
    """Play random z at five pitches: how well their variation follows the targets'."""
    rng = np.random.default_rng([seed, 2])
    said, heard = [], []
    for pitch in VARIETY_PITCHES:
        z = rng.standard_normal((VARIETY_NOTES // 3 if quick else VARIETY_NOTES,
                                 model.latent_size))
        z = z[np.argsort(z[:, 0])]
        made, specgrams = generate(model, z, pitch)
        aims = targets_of(levels, z, [pitch] * len(z))
        wanted = (aims[..., 0] - spectra.MAGNITUDE_SHIFT) / spectra.MAGNITUDE_SCALE
        said.append(explained(specgrams[..., 0], wanted))
        heard.append(explained(log_mel(made), log_mel(from_targets(aims))))
    figures: dict = {"pitches": list(VARIETY_PITCHES), "notes": len(z)}
    for name, results in (("", said), ("heard, ", heard)):
        figures.update({
            f"{name}explained variance": [round(each["explained"], 3) for each in results],
            f"{name}mean": float(np.mean([each["explained"] for each in results])),
            f"{name}size of the variation": [round(each["size"], 3) for each in results]})
    return figures


def anchors(model: Model, levels: list[np.ndarray], number: int,
            pitches: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return one instrument as it is, as the model plays it and as the targets have it."""
    rng = np.random.default_rng([7, number])
    z = np.stack([data.anchor(number, rng) for _ in pitches])
    return (np.asarray(model.generate_samples_from_z(z, list(pitches))),
            from_targets(targets_of(levels, z, pitches)))


def vibrato(model: Model, levels: list[np.ndarray]) -> dict:
    """Play the instruments that have a vibrato: its depth in cents, here and in the targets."""
    figures: dict = {"instruments": {}}
    for name in data.VIBRATO:
        number = list(data.INSTRUMENTS).index(name)
        usual = [pitch for pitch in VIBRATO_PITCHES if (number, pitch) not in data.HELD_OUT]
        depths = [[vibrato_depth(note, pitch) for note, pitch in zip(sounds, usual)]
                  for sounds in anchors(model, levels, number, usual)]
        figures["instruments"][name] = {
            "pitches": usual, "cents": [round(depth, 1) for depth in depths[0]],
            "target's cents": [round(depth, 1) for depth in depths[1]],
            _SHARE: float(np.nanmean(np.divide(*map(np.array, depths))))}
    shares = [each[_SHARE] for each in figures["instruments"].values()]
    return {_SHARE: float(np.mean(shares)), _LOWEST: float(np.min(shares)),
            **figures}


def shapes(model: Model, levels: list[np.ndarray]) -> tuple[dict, dict, list]:
    """Play every instrument as it is: how it begins and, if struck or plucked, dies away."""
    falls: dict[str, dict] = {}
    begins: dict[str, dict] = {}
    clips: list[tuple[str, np.ndarray]] = []
    for number, name in enumerate(data.INSTRUMENTS):
        usual = [pitch for pitch in (36, 48, ATTACK_PITCH, 72)
                 if (number, pitch) not in data.HELD_OUT]
        if name not in data.STRUCK:
            usual = [ATTACK_PITCH]
        made, aims = anchors(model, levels, number, usual)
        if name in data.STRUCK:
            pairs = [(measures.decay(a), measures.decay(b)) for a, b in zip(made, aims)]
            falls[name] = {"pitches": usual, "dB": [round(a, 1) for a, _ in pairs],
                           "target's dB": [round(b, 1) for _, b in pairs]}
        place = usual.index(ATTACK_PITCH) if ATTACK_PITCH in usual else 0
        begins[name] = {"seconds": round(attack(made[place]), 2),
                        "target's seconds": round(attack(aims[place]), 2)}
        clips += [(f"{name} {usual[place]}", made[place]),
                  (f"target, {name} {usual[place]}", aims[place])]
    pairs = [(a, b) for fall in falls.values() for a, b in zip(fall["dB"], fall["target's dB"])]
    # A fall beyond the target's counts as all of it here, and as an error below.
    shares = [min(1.0, a / b) for a, b in pairs if b >= 3.0]
    decay = {_SHARE: float(np.mean(shares)), "share of the target's, worst": float(np.min(shares)),
             "off the target's, dB, mean of absolute": float(
                 np.mean([abs(a - b) for a, b in pairs])), "instruments": falls}
    made, aims = (np.array([each[key] for each in begins.values()])
                  for key in ("seconds", "target's seconds"))
    return decay, {"seconds, quickest and slowest": [float(made.min()), float(made.max())],
                   "target's seconds, quickest and slowest": [float(aims.min()), float(aims.max())],
                   "off the target's, seconds, mean of absolute": float(
                       np.mean(np.abs(made - aims))),
                   "instruments": begins}, clips


def held_out(model: Model, levels: list[np.ndarray]) -> tuple[dict, list]:
    """Play the pairs of instrument and pitch that were never trained on, and their neighbours."""
    found: dict[str, float] = {}
    plain: list[float] = []
    clips: list[tuple[str, np.ndarray]] = []
    names = list(data.INSTRUMENTS)
    for number, pitch in data.HELD_OUT:
        # As a yardstick: another pitch's neighbour of the same instrument, trained on.
        made, aims = map(at_peak, anchors(model, levels, number, [pitch, pitch + 1]))
        title = f"{names[number]} {pitch}"
        found[title] = measures.log_spectral_distance(made[0], aims[0])
        plain.append(measures.log_spectral_distance(made[1], aims[1]))
        if len(clips) < 24:
            clips += [(f"held out: {title}", made[0]), (f"target, {title}", aims[0])]
    return {_DISTANCE: float(np.mean(list(found.values()))),
            "the same for trained neighbours": float(np.mean(plain)),
            "pairs": {name: round(value, 2) for name, value in found.items()}}, clips


def sheet(path: Path, clips: Sequence[tuple[str, np.ndarray]], columns: int = 4) -> None:
    """Draw the spectrograms of all clips into one plot, 80 dB deep, up to 8 kHz."""
    from matplotlib.figure import Figure

    rows = -(-len(clips) // columns)
    figure = Figure(figsize=(3 * columns, 2.3 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat[len(clips):]:
        axis.set_visible(False)
    for axis, (name, audio) in zip(axes.flat, clips):
        levels = measures.log_spectra(at_peak(np.asarray(audio, float))).T
        axis.imshow(levels, origin="lower", aspect="auto", cmap="magma", vmin=levels.max() - 80,
                    vmax=levels.max(), extent=(0, len(audio) / RATE, 0, RATE / 2000))
        axis.set_title(name, fontsize=9)
        axis.tick_params(labelsize=6)
    figure.suptitle("Frequency (kHz) over time (s)", fontsize=10)
    figure.savefig(path, dpi=80)


def table(figures: dict) -> str:
    """Return the figures that were asked for as a table in Markdown."""
    def over(part: str, name: str, choose: Callable) -> float:
        return choose([each[name] for each in figures[part].values()])

    seeds = ", ".join(map(str, figures["seeds"]))
    ours = "variety" in figures
    notes = next(iter(figures["random notes"].values()))
    ratio = "harmonic to residual, dB, median"
    rows = [(f"random z, one for each of {notes['notes']} pitches: within 50 cents",
             f"{100 * over('random notes', 'within 50 cents', min):.1f} %", "", "100 %"),
            ("random z: HNR (median)",
             f"{over('random notes', ratio, min):.1f} dB",
             f"{over('random notes', _TARGETS_RATIO, min):.1f} dB" if ours else "", ""),
            (f"{APART_NOTES} random z at A3: distance (mean of all pairs)",
             f"{over('apart', _APART, min):.1f} dB",
             f"{over('apart', _TARGETS_APART, min):.1f} dB" if ours else "", "7.5 dB"),
            (f"{APART_NOTES} random z at A3: distance (mean of all pairs and seeds)",
             f"{over('apart', _APART, np.mean):.1f} dB",
             f"{over('apart', _TARGETS_APART, np.mean):.1f} dB" if ours else "", "")]
    if ours:
        begin, aim = (figures["attack"][name + "seconds, quickest and slowest"]
                      for name in ("", "target's "))
        held = figures["held-out pairs"]
        pitches = ", ".join(map(str, VARIETY_PITCHES))
        rows += [
            (f"variety of the generated spectrograms (mean of pitches {pitches})",
             f"{over('variety', 'mean', min):.2f}", "1", "0.8"),
            (f"variety of the audio's spectrograms (mean of pitches {pitches})",
             f"{over('variety', 'heard, mean', min):.2f}", "1", ""),
            ("instruments with vibrato: depth relative to the target (mean; minimum)",
             f"{100 * figures['vibrato'][_SHARE]:.0f} %; "
             f"{100 * figures['vibrato'][_LOWEST]:.0f} %", "100 %", "50 %"),
            ("attack time of the fastest and of the slowest instrument",
             f"{begin[0]:.2f} s; {begin[1]:.2f} s", f"{aim[0]:.2f} s; {aim[1]:.2f} s", ""),
            ("struck and plucked instruments: decay relative to the target (mean, each note "
             "capped at 100 %)", f"{100 * figures['decay'][_SHARE]:.0f} %", "100 %", ""),
            ("held-out pairs of instrument and pitch: LSD to the target (mean)",
             f"{held[_DISTANCE]:.1f} dB", "", ""),
            ("the same instruments one semitone higher, not held out: LSD to the target (mean)",
             f"{held['the same for trained neighbours']:.1f} dB", "", "")]
    text = report.table([f"measure (seeds {seeds})", "this checkpoint", "training targets",
                         "goal, at least"], rows)
    return text if ours else text + (
        "\nVariety, vibrato, attack, decay and held-out pairs are left out, because these weights "
        "were not trained on our targets.\n")


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Evaluate; see the module's head."""
    parser = make_parser("training.gansynth.evaluate", __doc__)
    parser.add_argument("--checkpoint", default="gansynth_starter", metavar="NAME|PATH",
                        help="checkpoint to evaluate, by name or path (default: %(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS), metavar="N",
                        help="seeds of the random instruments (default: 0 1 2 3 4)")
    parser.add_argument("--card", type=Path, metavar="FILE",
                        help="write the table into this model card, and figures.json next to it")
    parser.add_argument("--output", type=Path, default=Path("training/runs/gansynth/evaluation"),
                        metavar="DIR", help="folder of the results (default: %(default)s)")
    parser.add_argument("--data", type=Path, default=NOTES, metavar="FILE",
                        help="data set, which is rendered if it is missing (default: %(default)s)")
    parser.add_argument("--quick", action="store_true",
                        help="use only a third of the notes, for a quick check")
    options = parser.parse_args(arguments)
    prefix = checkpoints.find(options.checkpoint, "gansynth")
    # The targets of now mean something to weights trained on them alone: their experiment
    # says so.
    ours = checkpoints.experiment(prefix).get("targets") == data.NAME
    if ours and not options.data.is_file():
        data.build(options.data)
    levels = data.load(options.data) if ours else None
    figures = evaluate(prefix, options.seeds, options.output, levels, options.quick)
    for folder in {options.output, options.card.parent if options.card else options.output}:
        report.write_json(folder / "figures.json", figures)
    if options.card:
        report.fill(options.card, f"\n{table(figures)}\n")
    print(table(figures))
    print(f"All figures: {options.output / 'figures.json'}")


if __name__ == "__main__":
    raise SystemExit(main())
