"""What an NSynth checkpoint sounds like, in figures and pictures.

`python -m training.nsynth.evaluate [--checkpoint NAME|PATH] [--seed N] [--output DIR]` runs the
checkpoint through `synths.nsynth`, free-running from encodings (never teacher-forced, but for the
likelihood), and writes `figures.json`, the sounds and two sheets of pictures.  It takes the shipped
starter and the official weights alike.

Pitch and noise are those of `training.measures.f0_track`: a frame counts where the source is voiced
(clarity over 0.9, level over -34 dB); the harmonic-to-noise ratio is 10 log10(c / (1 - c)) of the
clarity c (Boersma, Accurate short-term analysis of the fundamental frequency and the
harmonics-to-noise ratio, 1993), which follows a glide.  Distances are log-spectral, in dB, between
clips brought to one level.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.io import wavfile

from pictures.spectra import note_name
from synths import InputError
from training import measures

SAMPLE_RATE = 16000
HOP = 512
FRAMES = 31
PITCHED = ("bass", "meow", "flute")
LEAN = (2 / 3, 1 / 3)


@dataclass
class Engine:
    """encode(audio [n, samples]) -> [n, frames, 16]; decode(encodings, uniforms) -> audio;
    nll(audio, precision) -> [n].
    """

    encode: Callable[[np.ndarray], np.ndarray]
    decode: Callable[[np.ndarray, np.ndarray], np.ndarray]
    nll: Callable[[np.ndarray, str], np.ndarray]


def _unit(audio: np.ndarray) -> np.ndarray:
    return audio * (0.1 / max(1e-6, float(np.sqrt(np.mean(audio ** 2)))))


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """Log-spectral distance, dB, of two clips brought to one level."""
    return measures.log_spectral_distance(_unit(a), _unit(b))


def _ratio(clarity: np.ndarray) -> np.ndarray:
    clarity = np.clip(clarity, 1e-3, 0.9999)
    return 10 * np.log10(clarity / (1 - clarity))


def compare(decoded: np.ndarray, source: np.ndarray) -> dict[str, float]:
    """How near a decoded sound is to its source; the pitch's figures are NaN for an unpitched one.

    Returns
    -------
    dict
        `within_50_cents` (share of voiced frames), `median_cents`, `hnr` and `source_hnr` (dB),
        `distance` (dB), `envelope_correlation`, `level` (dB louder), `decay_error` (dB).
    """
    f, c, _ = measures.f0_track(decoded)
    f0, c0, level = measures.f0_track(source)
    n = min(len(f), len(f0))
    voiced = (level[:n] > 0.02) & (c0[:n] > 0.9)
    off = np.abs(measures.cents(f[:n], f0[:n]))[voiced]
    off = np.where(np.isfinite(off), off, 1200.0)
    heard, wanted = measures.envelope(decoded), measures.envelope(source)
    audible = wanted > wanted.max() - 40
    rms = [float(np.sqrt(np.mean(x ** 2)) + 1e-9) for x in (decoded, source)]

    def fall(audio: np.ndarray) -> float:
        return measures.decay(audio, 0.15, 0.85)

    none = float("nan")
    return dict(
        within_50_cents=float(np.mean(off < 50)) if voiced.any() else none,
        median_cents=float(np.median(off)) if voiced.any() else none,
        hnr=float(np.median(_ratio(c[:n][voiced]))) if voiced.any() else none,
        source_hnr=float(np.median(_ratio(c0[:n][voiced]))) if voiced.any() else none,
        distance=distance(decoded, source),
        envelope_correlation=float(np.corrcoef(heard[audible], wanted[audible])[0, 1]),
        level=20 * np.log10(rms[0] / rms[1]), decay_error=fall(decoded) - fall(source))


def _mean(rows: list[dict[str, float]], key: str) -> float:
    return float(np.nanmean([row[key] for row in rows])) if rows else float("nan")


def evaluate(engine: Engine, sounds: dict[str, np.ndarray], notes: dict[str, np.ndarray],
             strangers: dict[str, np.ndarray], seed: int = 0,
             keep: Callable[[str, np.ndarray], None] = lambda name, audio: None) -> dict:
    """All figures of a checkpoint.

    Parameters
    ----------
    engine : Engine
    sounds : dict of arrays [15872]
        The shipped sounds by name.
    notes, strangers : dict of arrays [15872]
        Held-out notes of the instruments it was trained on, and notes of other instruments.
    seed : int
        Of the uniforms that the decoder draws with.
    keep : callable
        Called with every decoded sound.

    Returns
    -------
    dict
        `sounds`, `mixes`, `notes`, `strangers`: figures by name; `rows`: what the model card's
        table says.
    """
    rng = np.random.default_rng(seed)
    figures: dict = {}

    def decode(encodings: np.ndarray) -> np.ndarray:
        uniforms = rng.random((len(encodings), encodings.shape[1] * HOP))
        return np.asarray(engine.decode(encodings.astype(np.float32), uniforms))

    encodings = {}
    for title, clips in (("sounds", sounds), ("notes", notes), ("strangers", strangers)):
        if not clips:
            continue
        stack = np.stack(list(clips.values())).astype(np.float32)
        found, nll = engine.encode(stack), engine.nll(stack, "float32")
        figures[title] = {}
        for name, encoding, source, decoded, nats in zip(clips, found, stack, decode(found), nll):
            if title == "sounds":
                encodings[name] = encoding
            keep(f"{title}_{name}", decoded)
            figures[title][name] = dict(compare(decoded, source), nll=float(nats))
        if title == "sounds":
            for name, nats in zip(clips, engine.nll(stack, "int8")):
                figures[title][name]["nll_int8"] = float(nats)
    pairs = [(a, b) for a in sounds for b in sounds if a != b]
    mixed = decode(np.stack([LEAN[0] * encodings[a] + LEAN[1] * encodings[b] for a, b in pairs]))
    mixes = {f"{a}_{b}": audio for (a, b), audio in zip(pairs, mixed)}
    figures["mixes"] = {}
    for (a, b), (name, audio) in zip(pairs, mixes.items()):
        keep(f"mixes_{name}", audio)
        frequency, clarity, level = measures.f0_track(audio)
        heard = level > 0.02
        figures["mixes"][name] = dict(
            rms=float(np.sqrt(np.mean(audio ** 2))),
            f0=float(np.nanmedian(frequency[heard])) if heard.any() else float("nan"),
            clarity=float(np.median(clarity[heard])) if heard.any() else 0.0,
            clear_frames=float(np.mean(clarity[heard] > 0.8)) if heard.any() else 0.0,
            to_first=distance(audio, sounds[a]), to_second=distance(audio, sounds[b]),
            to_nearest_mix=min(distance(audio, other) for key, other in mixes.items()
                               if key != name),
            pitched=bool({a, b} <= set(PITCHED)))
    shipped = [figures["sounds"][name] for name in sounds if name in PITCHED]
    table = figures["mixes"].values()
    pitched = [mix["clarity"] for mix in table if mix["pitched"]]
    figures["rows"] = dict(
        sounds_within_50_cents=_mean(shipped, "within_50_cents"),
        sounds_within_50_cents_lowest=min((r["within_50_cents"] for r in shipped), default=None),
        sounds_hnr=_mean(shipped, "hnr"),
        sounds_hnr_lowest=min((r["hnr"] for r in shipped), default=None),
        sounds_source_hnr=_mean(shipped, "source_hnr"),
        sounds_nll=_mean(list(figures["sounds"].values()), "nll"),
        sounds_int8_gap_largest=max(abs(row["nll_int8"] - row["nll"])
                                    for row in figures["sounds"].values()),
        mixes_audible=float(np.mean([mix["rms"] > 1e-3 for mix in table])),
        pitched_mixes_clear=float(np.mean(np.array(pitched) > 0.8)) if pitched else None,
        pitched_mixes_clarity_lowest=min(pitched, default=None),
        pitched_mixes_clear_frames=_mean([m for m in table if m["pitched"]], "clear_frames"),
        mixes_distance_lowest=min(min(m["to_first"], m["to_second"], m["to_nearest_mix"])
                                  for m in table),
        mixes_distance=float(np.mean([min(m["to_first"], m["to_second"], m["to_nearest_mix"])
                                      for m in table])),
        notes_within_50_cents=_mean(list(figures.get("notes", {}).values()), "within_50_cents"),
        notes_hnr=_mean(list(figures.get("notes", {}).values()), "hnr"),
        notes_source_hnr=_mean(list(figures.get("notes", {}).values()), "source_hnr"),
        strangers_within_50_cents=_mean(list(figures.get("strangers", {}).values()),
                                        "within_50_cents"))
    return figures


def shipped_sounds(folder: Path) -> dict[str, np.ndarray]:
    """The WAVs of a folder, float32 [15872] each, by name."""
    sounds = {}
    for path in sorted(folder.glob("*.wav")):
        _, audio = wavfile.read(path)
        audio = audio[:FRAMES * HOP] / 32768
        sounds[path.stem] = np.float32(np.pad(audio, (0, FRAMES * HOP - len(audio))))
    if not sounds:
        raise InputError(f"There is no WAV file in {folder}: name a folder of sounds.")
    return sounds


def held_out_notes(path: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Held-out notes and notes of held-out instruments of a data set."""
    with np.load(path, allow_pickle=False) as data:
        audio, program, pitch, split = (data[k] for k in ("audio", "program", "pitch", "split"))
    chosen = tuple({f"{program[i]}_{pitch[i]}": np.float32(audio[i, :FRAMES * HOP] / 32768)
                    for i in np.flatnonzero(split == kind)} for kind in (1, 2))
    return chosen


PROGRAMS = {32: "acoustic bass", 33: "fingered electric bass", 11: "vibraphone",
            53: "voice (ooh)", 73: "flute", 74: "recorder"}
_MARKS = ("<!-- figures -->\n", "<!-- /figures -->")


def tables(figures: dict) -> str:
    """The figures of `figures.json` as the model card's tables, in Markdown."""
    def share(value: float | None) -> str:
        return "-" if value is None else f"{100 * value:.0f} %"

    rows, sounds, notes, strangers = (figures[key] for key in
                                      ("rows", "sounds", "notes", "strangers"))
    nll = [float(np.mean([row["nll"] for row in part.values()])) for part in
           (sounds, notes, strangers)]
    lines = [
        "| | this checkpoint | wanted at least |", "|---|---|---|",
        "| shipped pitched sounds reconstructed: voiced frames within 50 cents (mean; lowest sound) "
        f"| {share(rows['sounds_within_50_cents'])}; "
        f"{share(rows['sounds_within_50_cents_lowest'])} | 90 % |",
        f"| their harmonic-to-noise ratio (mean; lowest), sources {rows['sounds_source_hnr']:.1f} dB "
        f"| {rows['sounds_hnr']:.1f} dB; {rows['sounds_hnr_lowest']:.1f} dB | 12 dB |",
        f"| mixes audible | {share(rows['mixes_audible'])} | 100 % |",
        "| mixes of two pitched sounds with clarity over 0.8 (lowest clarity) "
        f"| {share(rows['pitched_mixes_clear'])} ({rows['pitched_mixes_clarity_lowest']:.2f}) "
        "| 100 % |",
        "| their frames that are so clear (a median hides a moment) "
        f"| {share(rows['pitched_mixes_clear_frames'])} | |",
        "| held-out notes of the training instruments: voiced frames within 50 cents "
        f"| {share(rows['notes_within_50_cents'])} | 60 % |",
        f"| notes of held-out instruments: the same | {share(rows['strangers_within_50_cents'])} | |",
        "| a mix's log-spectral distance to its sources and the other mixes: the nearest, mean of "
        f"12 (lowest) | {rows['mixes_distance']:.1f} dB ({rows['mixes_distance_lowest']:.1f} dB) "
        "| 6 dB |",
        "| negative log likelihood, nats per sample (guessing: 5.55): shipped sounds; held-out notes; "
        f"other instruments | {nll[0]:.2f}; {nll[1]:.2f}; {nll[2]:.2f} | |",
        "| int8 beside float32, the shipped sounds, largest difference "
        f"| {rows['sounds_int8_gap_largest']:.4f} nats | |", "",
        "| sound | within 50 cents | median cents | HNR (source), dB | spectral distance, dB "
        "| envelope correlation | decay error, dB | NLL (int8) |", "|---|---|---|---|---|---|---|---|"]
    for name, row in sounds.items():
        pitch = (f"{share(row['within_50_cents'])} | {row['median_cents']:.0f}"
                 if name in PITCHED else "- | -")
        lines.append(f"| {name} | {pitch} | {row['hnr']:.1f} ({row['source_hnr']:.1f}) "
                     f"| {row['distance']:.1f} | {row['envelope_correlation']:.2f} "
                     f"| {row['decay_error']:+.1f} | {row['nll']:.4f} ({row['nll_int8']:.4f}) |")
    lines += ["", "| mix (2/3, 1/3) | f0, Hz | clarity | clear frames | distance to first, dB "
              "| to second | to the nearest other mix |", "|---|---|---|---|---|---|---|"]
    for name, row in figures["mixes"].items():
        f0 = "-" if row["f0"] is None else f"{row['f0']:.0f}"
        lines.append(f"| {name} | {f0} | {row['clarity']:.2f} | {share(row['clear_frames'])} "
                     f"| {row['to_first']:.1f} | {row['to_second']:.1f} "
                     f"| {row['to_nearest_mix']:.1f} |")
    pitches = sorted({int(name.split("_")[1]) for name in notes})
    lines += ["", "| held-out note, within 50 cents | " + " | ".join(
        f"{note_name(pitch)} ({pitch})" for pitch in pitches) + " |",
              "|---" * (1 + len(pitches)) + "|"]
    for program in dict.fromkeys(int(name.split("_")[0]) for name in notes):
        found = (notes.get(f"{program}_{pitch}") for pitch in pitches)
        lines.append(f"| {PROGRAMS.get(program, program)} | " + " | ".join(
            share(row["within_50_cents"] if row else None) for row in found) + " |")
    return "\n".join(lines) + "\n"


def write_card(card: Path, figures: dict) -> None:
    """Put the tables between the card's marks, `<!-- figures -->` and `<!-- /figures -->`.

    Raises
    ------
    InputError
        If the marks are not there.
    """
    text = card.read_text("utf-8")
    if not all(mark in text for mark in _MARKS):
        raise InputError(f"{card} has no place for the figures: give it the lines "
                         f"{_MARKS[0].strip()} and {_MARKS[1]}.")
    head, rest = text.split(_MARKS[0], 1)
    _write(card, head + _MARKS[0] + tables(figures) + _MARKS[1] + rest.split(_MARKS[1], 1)[1])


def _write(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _clean(value):
    """Figures as JSON has them: rounded, no NaN."""
    if isinstance(value, dict):
        return {key: _clean(item) for key, item in value.items()}
    if isinstance(value, (float, np.floating)):
        return round(float(value), 4) if np.isfinite(value) else None
    return value


def draw_level(axes, audio: np.ndarray) -> None:
    """A spectrogram over log frequency, brightness over 70 dB."""
    level = measures.log_spectra(np.pad(_unit(audio), 1024)).T
    frequency = np.fft.rfftfreq(2048, 1 / SAMPLE_RATE)
    axes.pcolormesh(np.linspace(0, len(audio) / SAMPLE_RATE, level.shape[1]), frequency[3:],
                    level[3:], vmin=level.max() - 70, vmax=level.max(), cmap="magma",
                    shading="auto", rasterized=True)
    axes.set(yscale="log", ylim=(40, 8000))


def sheet(path: Path, clips: dict[str, np.ndarray], columns: int, title: str,
          draw: Callable = draw_level) -> Path:
    """One picture of all clips."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = -(-len(clips) // columns)
    figure = Figure(figsize=(3 * columns, 2.3 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat[len(clips):]:
        axis.set_visible(False)
    for axis, (name, audio) in zip(axes.flat, clips.items()):
        draw(axis, audio)
        axis.set_title(name, fontsize=9)
        axis.tick_params(labelsize=6)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=80)
    return path


def main(arguments: list[str] | None = None) -> int:
    """Evaluate; see the module's head."""
    parser = argparse.ArgumentParser(prog="python -m training.nsynth.evaluate", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default=None, metavar="NAME|PATH",
                        help="default: the shipped starter")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("training/runs/nsynth/evaluation"),
                        metavar="DIR", help="default: %(default)s")
    parser.add_argument("--temperature", type=float, default=1.0,
                        help="of decoding (default: %(default)s)")
    parser.add_argument("--sounds", type=Path, default=Path("sounds"), metavar="DIR",
                        help="folder of 16 kHz WAVs (default: %(default)s)")
    parser.add_argument("--card", type=Path, metavar="FILE",
                        help="model card to write the tables into; figures.json goes beside it")
    parser.add_argument("--data", type=Path, default=Path("training/runs/nsynth/data.npz"),
                        metavar="FILE", help="data set with the held-out notes, rendered if missing")
    options = parser.parse_args(arguments)
    try:
        import audio_utils
        from synths import nsynth
        from synths.weights import checkpoints

        prefix = checkpoints.find(options.checkpoint or "nsynth_starter", "nsynth")
        if not options.data.is_file():
            from training.nsynth import data
            data.write(options.data)
        notes, strangers = held_out_notes(options.data)
        sounds = shipped_sounds(options.sounds)
        options.output.mkdir(parents=True, exist_ok=True)
        engine = Engine(
            encode=lambda audio: nsynth.encode(audio, prefix, audio.shape[1]),
            decode=lambda encodings, uniforms: nsynth.decode(encodings, prefix, uniforms,
                                                             precision="float32",
                                                             temperature=options.temperature),
            nll=lambda audio, precision: nsynth.nll(audio, prefix, precision))
        decoded: dict[str, np.ndarray] = {}

        def keep(name: str, audio: np.ndarray) -> None:
            decoded[name] = audio
            wavfile.write(options.output / f"{name}.wav", SAMPLE_RATE,
                          np.round(np.clip(audio, -1, 1) * 32767).astype(np.int16))

        figures = evaluate(engine, sounds, notes, strangers, options.seed, keep)
        figures.update(checkpoint=Path(prefix).name, seed=options.seed,
                       temperature=options.temperature)
        figures = _clean(figures)
        for folder in {options.output, options.card.parent if options.card else options.output}:
            _write(folder / "figures.json", json.dumps(figures, indent=1) + "\n")
        if options.card:
            write_card(options.card, figures)
        clips = {**{f"{name} (source)": audio for name, audio in sounds.items()},
                 **{f"{name} (decoded)": decoded[f"sounds_{name}"] for name in sounds},
                 **{name[6:]: audio for name, audio in decoded.items() if name[:6] == "mixes_"}}
        title = "Sources, reconstructions, mixes (2/3, 1/3)"
        sheet(options.output / "sounds_and_mixes.png", clips, len(sounds), title)
        sheet(options.output / "rainbowgrams.png", clips, len(sounds), title,
              audio_utils.draw_rainbowgram)
        names = list(notes)[:24]
        clips = {key: audio for name in names for key, audio in (
            (f"{name} (source)", notes[name]), (f"{name} (decoded)", decoded[f"notes_{name}"]))}
        sheet(options.output / "held_out_notes.png", clips, 6, "Held-out notes: program_pitch")
    except (InputError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    for name, value in figures["rows"].items():
        print(f"{name:34} {value}")
    print(options.output / "figures.json")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
