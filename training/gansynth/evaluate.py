"""Evaluate a GANSynth checkpoint by its sound.

``python -m training.gansynth.evaluate [--checkpoint NAME|PATH] [--seed N] [--output DIR]`` plays
the exported TensorFlow checkpoint through ``synths`` and measures what comes out: pitch, noise,
variety, decay, and the distance to the targets on pairs of instrument and pitch that were never
trained on. Writes all figures to one JSON file and spectrograms to PNG files. Weights that were
not trained on our targets (the official ones) get the rows that need none.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from synths import InputError
from synths.files import writing
from synths.gansynth import Model
from synths.gansynth.specgrams import SpecgramInverter
from synths.weights import checkpoints
from training import measures
from training.gansynth import data, spectra

RATE = spectra.SAMPLE_RATE
NOTES = Path("training/runs/gansynth/notes.npz")
VARIETY_PITCHES = (30, 42, 54, 66, 78)
VARIETY_NOTES = 18
_SHARE = "share of the target's, mean"
_DISTANCE = "log-spectral distance to target, dB, mean"
VARIETY_SPAN = 10.0     # nepers of power (43 dB) under the loudest band: what counts as heard


def from_targets(targets: np.ndarray) -> np.ndarray:
    """Return audio ``[notes, 64000]`` of normalised spectrograms ``[notes, 128, 1024, 2]``."""
    scale = np.array([spectra.MAGNITUDE_SCALE, spectra.PHASE_SCALE])
    shift = np.array([spectra.MAGNITUDE_SHIFT, 0.0])
    return SpecgramInverter().invert(((targets - shift) / scale).astype(np.float32))


class Pictures:
    """Stands in for a model's inverter and keeps the spectrograms that pass through it.

    ``synths.gansynth.Model`` gives sound alone. With one worker, notes come through in the order
    of their z; sort them first.
    """

    def __init__(self, model: Model) -> None:
        self._inverter, self.kept = model.inverter, []
        model.inverter = self

    def __getattr__(self, name: str):
        return getattr(self._inverter, name)

    def invert(self, specgrams: np.ndarray) -> np.ndarray:
        self.kept.append(specgrams.copy())
        return self._inverter.invert(specgrams)

    def taken(self) -> np.ndarray:
        """Return what was kept since the last call, ``[notes, 128, 1024, 2]``."""
        kept, self.kept = np.concatenate(self.kept), []
        return kept


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
        held, RATE, fmin=wanted / 2.2, fmax=min(wanted * 2.2, 0.45 * RATE))
    sure = (clarity > 0.5) & (rms > 0.02 * rms.max())
    return float(np.median(measures.cents(found[sure], wanted))) if sure.any() else float("nan")


def noise_ratio(audio: np.ndarray, pitch: int) -> float:
    """Return the harmonic-to-residual ratio of the held part in dB."""
    return measures.harmonic_to_noise(audio[:int(3.0 * RATE)], float(data.frequency(pitch)), RATE)


def log_mel(audio: np.ndarray) -> np.ndarray:
    """Return the natural logarithm of mel power ``[notes, 128, 1024]`` of audio."""
    power = np.abs(spectra.stft(audio)) ** 2
    return np.log(power @ spectra.mel_matrix() + 1e-6)


def explained(made: np.ndarray, wanted: np.ndarray) -> dict[str, float]:
    """Return how well the variation over notes follows the targets'.

    Both are log mel power ``[notes, 128, 1024]`` at one pitch. The mean over notes is taken off,
    so that what all notes share does not count, and only what comes within ``VARIETY_SPAN`` of
    the loudest in some target; quieter than that is the same silence in both. Of the
    generator's own spectrograms it says what was learned; of the sound's, what is heard of it
    once the phases have had their say.
    """
    floor = wanted.max() - VARIETY_SPAN - 2.0
    heard = wanted.max(axis=0) > wanted.max() - VARIETY_SPAN
    made, wanted = (np.maximum(part[:, heard], floor) for part in (made, wanted))
    made, wanted = made - made.mean(axis=0), wanted - wanted.mean(axis=0)
    return {"explained": float(1.0 - ((made - wanted) ** 2).sum() / (wanted ** 2).sum()),
            "size": float(np.sqrt((made ** 2).sum() / (wanted ** 2).sum()))}


def evaluate(prefix: Path, seed: int, output: Path, levels: list[np.ndarray] | None,
             quick: bool = False, progress=None) -> dict:
    """Measure a checkpoint and draw its sheets.

    Parameters
    ----------
    prefix : Path
        The checkpoint.
    seed : int
        Of the random instruments.
    output : Path
        Folder for the sheets; made if missing.
    levels : list of arrays or None
        From ``data.load``; None leaves out the rows that need targets.
    quick : bool
        A third of the notes, for a look while training.
    progress : callable, optional
        Called with parts done and in all.

    Returns
    -------
    dict
        All figures.
    """
    output.mkdir(parents=True, exist_ok=True)
    model = Model.load_from_path(prefix, batch_size=8, threads=1)
    rng = np.random.default_rng(seed)
    pitches = data.PITCHES[::3] if quick else data.PITCHES
    parts = 4 if levels is not None else 1

    def done(count: int) -> None:
        if progress is not None:
            progress(count, parts)

    z = rng.standard_normal((len(pitches), model.latent_size))
    audio = model.generate_samples_from_z(z, pitches)
    figures: dict = {"checkpoint": prefix.parent.parent.name, "seed": seed,
                     "random notes": random_notes(audio, pitches, output)}
    done(1)
    if levels is None:
        return figures
    figures["random notes"].update(beside_targets(audio, z, pitches, levels))
    figures["variety"] = variety(model, rng, levels, VARIETY_NOTES // 3 if quick else VARIETY_NOTES)
    done(2)
    figures["decay"] = decays(model, rng, levels, output)
    done(3)
    figures["held-out pairs"] = held_out(model, rng, levels, seed, output)
    done(4)
    return figures


def random_notes(audio: np.ndarray, pitches: Sequence[int], output: Path) -> dict:
    """Measure the pitch and the noise of notes of random instruments, and draw some."""
    errors = [pitch_error(note, pitch) for note, pitch in zip(audio, pitches)]
    ratios = [noise_ratio(note, pitch) for note, pitch in zip(audio, pitches)]
    shown = np.linspace(0, len(pitches) - 1, 12).astype(int)
    sheet(output / "random.png", [(f"random z, pitch {pitches[i]}", audio[i]) for i in shown])
    return {
        "notes": len(pitches), "pitches": [int(pitches[0]), int(pitches[-1])],
        "within 50 cents": float(np.mean(np.abs(errors) < 50)),
        "median of absolute cents": float(np.nanmedian(np.abs(errors))),
        "harmonic to residual, dB, median": float(np.median(ratios)),
        "harmonic to residual, dB, tenth": float(np.quantile(ratios, 0.1)),
        "cents": [round(error, 1) for error in errors],
        "harmonic to residual, dB": [round(ratio, 1) for ratio in ratios]}


def targets_of(levels: list[np.ndarray], z: np.ndarray, pitches: Sequence[int]) -> np.ndarray:
    """Return the normalised spectrograms that notes were to have, ``[notes, 128, 1024, 2]``."""
    return np.stack([data.target(levels, weights, pitch)
                     for weights, pitch in zip(data.shares(z), pitches)])


def beside_targets(audio: np.ndarray, z: np.ndarray, pitches: Sequence[int],
                   levels: list[np.ndarray]) -> dict:
    """Compare notes of random instruments with what they were to be."""
    sounds = from_targets(targets_of(levels, z, pitches))
    return {
        "targets' harmonic to residual, dB, median": float(np.median(
            [noise_ratio(note, pitch) for note, pitch in zip(sounds, pitches)])),
        "log-spectral distance to target, dB": float(np.mean(
            [measures.log_spectral_distance(a, b)
             for a, b in zip(at_peak(audio), at_peak(sounds))]))}


def variety(model: Model, rng: np.random.Generator, levels: list[np.ndarray], notes: int) -> dict:
    """Measure how well what sets instruments apart follows the targets, at some pitches."""
    said, heard = [], []
    pictures = Pictures(model)
    for pitch in VARIETY_PITCHES:
        z = rng.standard_normal((notes, model.latent_size))
        z = z[np.argsort(z[:, 0])]
        pictures.kept.clear()
        made = model.generate_samples_from_z(z, np.full(len(z), pitch))
        aims = targets_of(levels, z, [pitch] * len(z))
        wanted = (aims[..., 0] - spectra.MAGNITUDE_SHIFT) / spectra.MAGNITUDE_SCALE
        said.append(explained(pictures.taken()[..., 0], wanted))
        heard.append(explained(log_mel(made), log_mel(from_targets(aims))))
    figures: dict = {"pitches": list(VARIETY_PITCHES), "notes": notes}
    for name, results in (("", said), ("heard, ", heard)):
        figures.update({
            f"{name}explained variance": [round(each["explained"], 3) for each in results],
            f"{name}mean": float(np.mean([each["explained"] for each in results])),
            f"{name}size of the variation": [round(each["size"], 3) for each in results]})
    return figures


def decays(model: Model, rng: np.random.Generator, levels: list[np.ndarray], output: Path) -> dict:
    """Measure how far struck instruments fall, and draw all instruments beside their targets."""
    falls = {}
    anchors = []
    for name in data.STRUCK:
        number = list(data.INSTRUMENTS).index(name)
        usual = [pitch for pitch in (36, 48, 60, 72) if (number, pitch) not in data.HELD_OUT]
        z = np.stack([data.anchor(number, rng) for _ in usual])
        made = model.generate_samples_from_z(z, usual)
        aims = from_targets(targets_of(levels, z, usual))
        pairs = [(measures.decay(a), measures.decay(b)) for a, b in zip(made, aims)]
        falls[name] = {"pitches": usual, "dB": [round(a, 1) for a, _ in pairs],
                       "target's dB": [round(b, 1) for _, b in pairs]}
        anchors += [(f"{name} {usual[2]}", made[2]), (f"target, {name} {usual[2]}", aims[2])]
    for number, name in enumerate(data.INSTRUMENTS):
        if name not in data.STRUCK:
            z = data.anchor(number, rng)[None]
            made = model.generate_samples_from_z(z, [60])
            aims = from_targets(targets_of(levels, z, [60]))
            anchors += [(f"{name} 60", made[0]), (f"target, {name} 60", aims[0])]
    sheet(output / "anchors.png", anchors)
    pairs = [(a, b) for fall in falls.values() for a, b in zip(fall["dB"], fall["target's dB"])]
    # A fall beyond the target's counts as all of it here, and as an error below.
    shares = [min(1.0, a / b) for a, b in pairs if b >= 3.0]
    return {_SHARE: float(np.mean(shares)), "share of the target's, worst": float(np.min(shares)),
            "off the target's, dB, mean of absolute": float(
                np.mean([abs(a - b) for a, b in pairs])),
            "instruments": falls}


def held_out(model: Model, rng: np.random.Generator, levels: list[np.ndarray], seed: int,
             output: Path) -> dict:
    """Measure the distance to the targets on pairs that were never trained on."""
    names = list(data.INSTRUMENTS)

    def pair(number: int, pitch: int) -> tuple[np.ndarray, np.ndarray]:
        """A note and its target."""
        z = data.anchor(number, rng)[None]
        made = at_peak(model.generate_samples_from_z(z, [pitch]))[0]
        aim = data.target(levels, np.eye(len(names))[number], pitch)[None]
        return made, at_peak(from_targets(aim))[0]

    distances, plain, drawn = {}, [], []
    for number, pitch in data.HELD_OUT:
        made, aim = pair(number, pitch)
        distances[f"{names[number]} {pitch}"] = measures.log_spectral_distance(made, aim)
        if len(drawn) < 12:
            drawn += [(f"held out: {names[number]} {pitch}", made),
                      (f"target, {names[number]} {pitch}", aim)]
        # As a yardstick: another pitch's neighbour of the same instrument, trained on.
        near = pitch + 1 if (number, pitch + 1) not in data.HELD_OUT else pitch - 1
        plain.append(measures.log_spectral_distance(*pair(number, near)))
    sheet(output / "held_out.png", drawn)
    figures = {
        _DISTANCE: float(np.mean(list(distances.values()))),
        "the same for trained neighbours": float(np.mean(plain)),
        "pairs": {name: round(value, 2) for name, value in distances.items()}}
    recorded = recordings()
    if recorded is not None:
        to_source = []
        for (number, pitch), note in zip(data.HELD_OUT, recorded):
            z = data.anchor(number, np.random.default_rng([seed, number, pitch]))[None]
            made = at_peak(model.generate_samples_from_z(z, [pitch]))[0]
            to_source.append(measures.log_spectral_distance(made, at_peak(note)))
        figures["log-spectral distance to the font's own notes, dB, mean"] = float(
            np.mean(to_source))
    return figures


def recordings() -> np.ndarray | None:
    """Render the held-out notes from the font; None if it cannot be done here."""
    from sounds.render import render_notes
    programs = list(data.INSTRUMENTS.values())
    try:
        return np.concatenate([
            render_notes(programs[number], [pitch], hold=data.HOLD,
                         length=spectra.SAMPLES / spectra.SAMPLE_RATE)
            for number, pitch in data.HELD_OUT])
    except InputError:
        return None


def sheet(path: Path, clips: list[tuple[str, np.ndarray]], columns: int = 4) -> None:
    """Draw the spectrograms of clips on one page, 80 dB deep, up to 8 kHz."""
    from matplotlib.figure import Figure
    rows = -(-len(clips) // columns)
    figure = Figure(figsize=(4.2 * columns, 2.6 * rows), layout="constrained")
    for index, (title, audio) in enumerate(clips):
        axes = figure.add_subplot(rows, columns, index + 1)
        levels = measures.log_spectra(at_peak(np.asarray(audio, float))).T
        axes.imshow(levels, origin="lower", aspect="auto", cmap="magma", vmin=levels.max() - 80,
                    vmax=levels.max(), extent=(0, len(audio) / RATE, 0, RATE / 2000))
        axes.set_title(title, fontsize=9)
        axes.tick_params(labelsize=7)
        if index % columns == 0:
            axes.set_ylabel("kHz", fontsize=8)
        if index >= len(clips) - columns:
            axes.set_xlabel("s", fontsize=8)
    with writing(path) as file:
        figure.savefig(file, dpi=80, format="png")


def summary(figures: dict) -> str:
    """Return the figures that were asked for, a line each."""
    notes = figures["random notes"]
    lines = [f"within 50 cents: {100 * notes['within 50 cents']:.1f} % of {notes['notes']} notes",
             f"harmonic to residual: {notes['harmonic to residual, dB, median']:.1f} dB (median)"]
    if "variety" in figures:
        lines += [
            f"variety, explained variance: {figures['variety']['mean']:.3f}"
            f" (in the sound: {figures['variety']['heard, mean']:.3f})",
            f"decay, share of the target's: {100 * figures['decay'][_SHARE]:.0f} %",
            f"held-out pairs, log-spectral distance: {figures['held-out pairs'][_DISTANCE]:.2f} dB"]
    else:
        lines.append("variety, decay and held-out pairs are left out: these weights have no "
                     "targets here.")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Evaluate; see the module's head."""
    parser = argparse.ArgumentParser(prog="python -m training.gansynth.evaluate",
                                     description=__doc__.split("\n\n")[0])
    parser.add_argument("--checkpoint", default="gansynth_starter", metavar="NAME|PATH")
    parser.add_argument("--seed", type=int, default=1, help="(%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("training/runs/gansynth/evaluation"),
                        metavar="DIR", help="(%(default)s)")
    parser.add_argument("--data", type=Path, default=NOTES, metavar="FILE",
                        help="rendered if missing (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="a third of the notes")
    options = parser.parse_args(arguments)
    try:
        prefix = checkpoints.find(options.checkpoint, "gansynth")
        # Our targets mean something to weights of our training alone: their experiment says so.
        ours = "targets" in checkpoints.experiment(prefix)
        if ours and not options.data.is_file():
            data.build(options.data)
        levels = data.load(options.data) if ours else None
        figures = evaluate(prefix, options.seed, options.output, levels, options.quick,
                           lambda done, total: print(f"part {done} of {total}", file=sys.stderr))
    except (InputError, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    file = options.output / "figures.json"
    with writing(file) as target:
        target.write((json.dumps(figures, indent=1) + "\n").encode())
    print(summary(figures))
    print(f"All figures: {file}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
