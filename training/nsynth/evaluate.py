"""Measure an NSynth checkpoint on the bundled sounds, at several seeds.

`python -m training.nsynth.evaluate [--checkpoint NAME|PATH] [--seeds N ...] [--output DIR]` decodes
encodings with `synths.nsynth`, and measures the sounds.  Only the NLL is teacher-forced.  The
command writes `figures.json`, the sounds and a sheet of spectrograms, and prints the worst of the
seeds.  It accepts any checkpoint, including the official one.  `training.nsynth.unseen` measures
sounds that a checkpoint was not trained on.

Pitch and clarity are those of `training.measures.f0_track`.  A frame counts if the source is voiced
(clarity above 0.9, level above -34 dB).  Distances are log-spectral, in dB, between clips that are
normalised to one level.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import numpy as np
from scipy.io import wavfile

from companion.page import note_name
from synths import InputError, nsynth
from training import command, make_parser, measures, report

SAMPLE_RATE = 16000
HOP = 512
FRAMES = 31
PITCHED = ("bass", "meow", "flute")
SEEDS = (0, 1, 2, 3, 4)
BROKEN = 0.5  # a mix with a smaller share of periodic frames has broken up
# Mixing weights: as the book adds encodings, and the same divided by their sum.
MIXES = {"mixes": (1.0, 1 / 2), "lean_mixes": (2 / 3, 1 / 3)}


@dataclass
class Engine:
    """encode(audio [n, samples]) -> [n, frames, 16]; decode(encodings, uniforms) -> audio;
    nll(audio, precision) -> [n].
    """

    encode: Callable[[np.ndarray], np.ndarray]
    decode: Callable[[np.ndarray, np.ndarray], np.ndarray]
    nll: Callable[[np.ndarray, str], np.ndarray]


def engine_of(prefix: str | Path, temperature: float = 1.0) -> Engine:
    """A checkpoint, through `synths.nsynth`, decoding in float32."""
    return Engine(
        encode=lambda audio: nsynth.encode(audio, prefix, audio.shape[1]),
        decode=lambda encodings, uniforms: nsynth.decode(
            encodings, prefix, uniforms, precision="float32", temperature=temperature),
        nll=lambda audio, precision: nsynth.nll(audio, prefix, precision))


def _unit(audio: np.ndarray) -> np.ndarray:
    return audio * (0.1 / max(1e-6, float(np.sqrt(np.mean(audio ** 2)))))


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """Log-spectral distance, dB, of two clips brought to one level."""
    return measures.log_spectral_distance(_unit(a), _unit(b))


def compare(decoded: np.ndarray, source: np.ndarray) -> dict[str, float]:
    """How near a decoded sound is to its source; the pitch's figures are NaN for an unpitched one.

    Returns
    -------
    dict
        `within_50_cents` (share of voiced frames), `median_cents`, `hnr` and `source_hnr` (dB),
        `noise_floor` (dB under the peak), `distance` (dB), `envelope_correlation`, `level`
        (dB louder), `decay_error` (dB).
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
        hnr=float(np.median(measures.hnr(c[:n][voiced]))) if voiced.any() else none,
        source_hnr=float(np.median(measures.hnr(c0[:n][voiced]))) if voiced.any() else none,
        noise_floor=measures.noise_floor(decoded), distance=distance(decoded, source),
        envelope_correlation=float(np.corrcoef(heard[audible], wanted[audible])[0, 1]),
        level=20 * np.log10(rms[0] / rms[1]), decay_error=fall(decoded) - fall(source))


def through_mu_law(audio: np.ndarray) -> np.ndarray:
    """Return the sound as 8 bits of mu-law leave it: the best that a decoder can do."""
    return nsynth.inverse_mu_law(nsynth.mu_law(audio))


def _mix_figures(mixes: dict[tuple[str, str], np.ndarray], sounds: dict[str, np.ndarray]) -> dict:
    """Figures of the mixes of one seed, by name."""
    found = {}
    for (a, b), audio in mixes.items():
        frequency, clarity, level = measures.f0_track(audio)
        heard = level > 0.02
        found[f"{a}_{b}"] = dict(
            rms=float(np.sqrt(np.mean(audio ** 2))),
            f0=float(np.nanmedian(frequency[heard])) if heard.any() else float("nan"),
            clarity=float(np.median(clarity[heard])) if heard.any() else 0.0,
            clear_frames=float(np.mean(clarity[heard] > 0.8)) if heard.any() else 0.0,
            to_first=distance(audio, sounds[a]), to_second=distance(audio, sounds[b]),
            to_nearest_mix=min(distance(audio, other) for pair, other in mixes.items()
                               if pair != (a, b)))
    return found


def _gathered(seeds: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, list[float]]]:
    """Figures by seed, name and kind as lists over the seeds, by name and kind."""
    return {name: {kind: [seed[name][kind] for seed in seeds] for kind in seeds[0][name]}
            for name in seeds[0]}


def evaluate(engine: Engine, sounds: dict[str, np.ndarray], notes: dict[str, np.ndarray],
             strangers: dict[str, np.ndarray], seeds: Sequence[int] = SEEDS,
             keep: Callable[[str, np.ndarray], None] = lambda name, audio: None,
             pitched: Sequence[str] = PITCHED) -> dict:
    """All figures of a checkpoint.

    Parameters
    ----------
    engine : Engine
    sounds : dict of arrays [15872]
        The shipped sounds by name.
    notes, strangers : dict of arrays [15872]
        Held-out notes of the instruments it was trained on, and notes of other instruments.
    seeds : sequence of int
        Of the uniforms that the decoder draws with.
    keep : callable
        Called with the name and audio of every sound decoded at the first seed.
    pitched : sequence of str
        Names of the sounds that have a pitch.

    Returns
    -------
    dict
        `sounds`, `mixes`, `notes`, `strangers`: figures by name, lists have one entry for each
        seed; `rows`: what the model card's table says, of the worst seed.
    """
    parts = {"sounds": sounds, "notes": notes, "strangers": strangers}
    parts = {title: clips for title, clips in parts.items() if clips}
    stacks = {title: np.stack(list(clips.values())).astype(np.float32)
              for title, clips in parts.items()}
    encodings = {title: engine.encode(stack) for title, stack in stacks.items()}
    pairs = [(i, j) for i in range(len(sounds)) for j in range(len(sounds)) if i != j]
    for title, (first, second) in MIXES.items():
        encodings[title] = np.stack([first * encodings["sounds"][i]
                                     + second * encodings["sounds"][j] for i, j in pairs])
    names = list(sounds)
    by_seed: dict[str, list] = {title: [] for title in (*parts, *MIXES)}
    for seed in seeds:
        rng = np.random.default_rng(seed)
        for title, found in by_seed.items():
            wanted = np.float32(encodings[title])
            uniforms = rng.random((len(wanted), wanted.shape[1] * HOP))
            decoded = np.asarray(engine.decode(wanted, uniforms))
            if title in MIXES:
                clips = {(names[i], names[j]): audio for (i, j), audio in zip(pairs, decoded)}
                found.append(_mix_figures(clips, sounds))
            else:
                found.append({name: compare(audio, source) for (name, source), audio in
                              zip(parts[title].items(), decoded)})
            if seed == seeds[0]:
                for name, audio in zip(found[0], decoded):
                    keep(f"{title}_{name}", audio)
    figures: dict = {title: _gathered(found) for title, found in by_seed.items()}
    for title, stack in stacks.items():
        for name, nats in zip(parts[title], engine.nll(stack, "float32")):
            figures[title][name]["nll"] = float(nats)
    for (name, source), nats in zip(sounds.items(), engine.nll(stacks["sounds"], "int8")):
        figures["sounds"][name]["nll_int8"] = float(nats)
        figures["sounds"][name]["mu_law_floor"] = measures.noise_floor(through_mu_law(source))
    figures["rows"] = rows(figures, pitched)
    return figures


def _over(found: dict[str, dict], kind: str) -> np.ndarray:
    """A kind of figure as an array [names, seeds]; empty if there are no names."""
    return np.array([np.atleast_1d(row[kind]) for row in found.values()], float)


def _worst(found: dict[str, dict], kind: str) -> float | None:
    """The mean over the names, of the worst seed; None if there are none."""
    return float(_over(found, kind).mean(0).min()) if found else None


def _lowest(found: dict[str, dict], kind: str) -> float | None:
    """The lowest of all names and seeds; None if there are none."""
    return float(_over(found, kind).min()) if found else None


def rows(figures: dict, pitched: Sequence[str] = PITCHED) -> dict[str, float | int | None]:
    """What the model card's first table says, of the worst seed, from the figures of all."""
    sounds, mixes = figures["sounds"], figures["mixes"]
    clear = {name: row for name, row in sounds.items() if name in pitched}
    pairs = {f"{a}_{b}" for a, b in permutations(pitched, 2)}
    clear_pairs, lean_pairs = ({name: row for name, row in figures[title].items()
                                if name in pairs} for title in MIXES)
    nearest = np.minimum.reduce([_over(mixes, kind) for kind in
                                 ("to_first", "to_second", "to_nearest_mix")])
    floor = _over(sounds, "noise_floor") - _over(sounds, "mu_law_floor")
    gap = np.abs(_over(sounds, "nll_int8") - _over(sounds, "nll"))
    return dict(
        sounds_noise_above_mu_law=float(floor.mean(0).max()),
        sounds_nll=float(_over(sounds, "nll").mean()),
        sounds_within_50_cents=_worst(clear, "within_50_cents"),
        sounds_within_50_cents_lowest=_lowest(clear, "within_50_cents"),
        sounds_hnr=_worst(clear, "hnr"), sounds_hnr_lowest=_lowest(clear, "hnr"),
        sounds_source_hnr=_worst(clear, "source_hnr"),
        sounds_int8_gap_largest=float(gap.max()),
        mixes_audible=float(np.mean(_over(mixes, "rms") > 1e-3)),
        pitched_mixes_clear_frames=_worst(clear_pairs, "clear_frames"),
        pitched_mixes_clear_frames_lowest=_lowest(clear_pairs, "clear_frames"),
        mixes_broken=int(np.sum(_over(mixes, "clear_frames") < BROKEN)),
        mixes_decoded=int(_over(mixes, "clear_frames").size),
        lean_mixes_clear_frames=_worst(lean_pairs, "clear_frames"),
        lean_mixes_clear_frames_lowest=_lowest(lean_pairs, "clear_frames"),
        lean_mixes_broken=int(np.sum(_over(figures["lean_mixes"], "clear_frames") < BROKEN)),
        mixes_distance=float(nearest.mean(0).min()), mixes_distance_lowest=float(nearest.min()),
        notes_within_50_cents=_worst(figures.get("notes", {}), "within_50_cents"),
        strangers_within_50_cents=_worst(figures.get("strangers", {}), "within_50_cents"))


def shipped_sounds(folder: Path) -> dict[str, np.ndarray]:
    """The WAVs of a folder, float32 [15872] each, by name."""
    sounds = {}
    for path in sorted(folder.glob("*.wav")):
        _, audio = wavfile.read(path)
        audio = audio[:FRAMES * HOP] / 32768
        sounds[path.stem] = np.float32(np.pad(audio, (0, FRAMES * HOP - len(audio))))
    if not sounds:
        raise InputError(f"There is no WAV file in {folder}: give a folder of sounds.")
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


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f} %"


def tables(figures: dict) -> str:
    """The figures of `figures.json` as the model card's tables, in Markdown."""
    return "\n".join([_summary(figures), _sounds_table(figures["sounds"]),
                      _mixes_table(figures["mixes"], figures["seeds"]),
                      _notes_table(figures["notes"])])


def _summary(figures: dict) -> str:
    rows = figures["rows"]
    nll = [float(np.mean([row["nll"] for row in figures[part].values()]))
           for part in ("sounds", "notes", "strangers")]
    pitched, weights = "bundled pitched sounds", ("weights 1 and 1/2", "weights 2/3 and 1/3")
    return report.table(["measure", "this checkpoint", "goal"], [
        ("bundled sounds: noise floor, relative to that of 8-bit mu-law (mean)",
         f"{rows['sounds_noise_above_mu_law']:.1f} dB", "4 dB"),
        ("bundled sounds: NLL (mean)", f"{nll[0]:.2f} nats", "0.95 nats"),
        (f"{pitched}: voiced frames within 50 cents (mean; minimum)",
         f"{_share(rows['sounds_within_50_cents'])}; "
         f"{_share(rows['sounds_within_50_cents_lowest'])}", "99 %"),
        (f"{pitched}: HNR (mean; minimum)",
         f"{rows['sounds_hnr']:.1f} dB; {rows['sounds_hnr_lowest']:.1f} dB", "25 dB"),
        (f"sources of the {pitched}: HNR (mean)", f"{rows['sounds_source_hnr']:.1f} dB", ""),
        (f"mixes, {weights[0]}: audible (above -60 dBFS)", _share(rows["mixes_audible"]), "100 %"),
        (f"mixes of two pitched sounds, {weights[0]}: periodic frames (mean; minimum)",
         f"{_share(rows['pitched_mixes_clear_frames'])}; "
         f"{_share(rows['pitched_mixes_clear_frames_lowest'])}", "95 %"),
        (f"mixes of two pitched sounds, {weights[1]}: periodic frames (mean; minimum)",
         f"{_share(rows['lean_mixes_clear_frames'])}; "
         f"{_share(rows['lean_mixes_clear_frames_lowest'])}", "92 %"),
        (f"mixes, {weights[0]}: unstable",
         f"{rows['mixes_broken']} of {rows['mixes_decoded']}", "0"),
        (f"mixes, {weights[1]}: unstable",
         f"{rows['lean_mixes_broken']} of {rows['mixes_decoded']}", "0"),
        (f"mixes, {weights[0]}: LSD to the nearest source or other mix (mean; minimum)",
         f"{rows['mixes_distance']:.1f} dB; {rows['mixes_distance_lowest']:.1f} dB", "6 dB"),
        ("held-out notes: voiced frames within 50 cents (mean)",
         _share(rows["notes_within_50_cents"]), "85 %"),
        ("held-out notes: NLL (mean)", f"{nll[1]:.2f} nats", ""),
        ("notes of held-out instruments: voiced frames within 50 cents (mean)",
         _share(rows["strangers_within_50_cents"]), ""),
        ("notes of held-out instruments: NLL (mean)", f"{nll[2]:.2f} nats", ""),
        ("bundled sounds: largest difference between the NLL in int8 and in float32",
         f"{rows['sounds_int8_gap_largest']:.4f} nats", "")])


def _sounds_table(sounds: dict) -> str:
    lines = []
    for name, row in sounds.items():
        pitch = ((_share(min(row["within_50_cents"])), f"{max(row['median_cents']):.0f}")
                 if name in PITCHED else ("-", "-"))
        lines.append((name, *pitch, f"{min(row['hnr']):.1f} ({row['source_hnr'][0]:.1f})",
                      f"{max(row['noise_floor']):.1f} ({row['mu_law_floor']:.1f})",
                      f"{max(row['distance']):.1f}", f"{min(row['envelope_correlation']):.2f}",
                      f"{max(row['decay_error'], key=abs):+.1f}",
                      f"{row['nll']:.4f} ({row['nll_int8']:.4f})"))
    return report.table(["sound", "voiced frames within 50 cents", "median error, cents",
                         "HNR (source), dB", "noise floor (mu-law), dB", "LSD to the source, dB",
                         "envelope correlation", "decay error, dB", "NLL (in int8), nats"], lines)


def _mixes_table(mixes: dict, seeds: Sequence[int]) -> str:
    lines = []
    for name, row in mixes.items():
        f0 = ["-" if value is None else f"{value:.0f}" for value in row["f0"]]
        lines.append((name, " ".join(f0), " ".join(f"{100 * x:.0f}" for x in row["clear_frames"]),
                      f"{min(row['to_first']):.1f}", f"{min(row['to_second']):.1f}",
                      f"{min(row['to_nearest_mix']):.1f}"))
    each = f"at seeds {', '.join(map(str, seeds))}"
    return report.table(["mix (weights 1, 1/2)", f"median f0, Hz, {each}",
                         f"periodic frames, %, {each}", "LSD to the main sound, dB",
                         "LSD to the second sound, dB", "LSD to the nearest other mix, dB"], lines)


def _notes_table(notes: dict) -> str:
    pitches = sorted({int(name.split("_")[1]) for name in notes})
    lines = []
    for program in dict.fromkeys(int(name.split("_")[0]) for name in notes):
        found = (notes.get(f"{program}_{pitch}") for pitch in pitches)
        lines.append((str(PROGRAMS.get(program, program)), *(
            _share(min(row["within_50_cents"]) if row else None) for row in found)))
    return report.table(["held-out notes: voiced frames within 50 cents",
                         *(f"{note_name(pitch)} ({pitch})" for pitch in pitches)], lines)


def draw_level(axes, audio: np.ndarray) -> None:
    """A spectrogram over log frequency, brightness over 70 dB."""
    level = measures.log_spectra(np.pad(_unit(audio), 1024)).T
    frequency = np.fft.rfftfreq(2048, 1 / SAMPLE_RATE)
    axes.pcolormesh(np.linspace(0, len(audio) / SAMPLE_RATE, level.shape[1]), frequency[3:],
                    level[3:], vmin=level.max() - 70, vmax=level.max(), cmap="magma",
                    shading="auto", rasterized=True)
    axes.set(yscale="log", ylim=(40, 8000))


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("training.nsynth.evaluate", __doc__)
    parser.add_argument("--checkpoint", default=None, metavar="NAME|PATH",
                        help="checkpoint to measure, by name or path (default: the bundled one)")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, metavar="N",
                        help="seeds of the decoder's random numbers; the worst one counts "
                             "(default: 0 to 4)")
    parser.add_argument("--output", type=Path, default=Path("training/runs/nsynth/evaluation"),
                        metavar="DIR", help="folder of the results (default: %(default)s)")
    parser.add_argument("--temperature", type=float, default=1.0,
                        help="sampling temperature (default: %(default)s)")
    parser.add_argument("--sounds", type=Path, default=Path("sounds"), metavar="DIR",
                        help="folder of 16 kHz WAV files (default: %(default)s)")
    parser.add_argument("--card", type=Path, metavar="FILE",
                        help="write the tables into this model card, and figures.json next to it")
    parser.add_argument("--data", type=Path, default=Path("training/runs/nsynth/data.npz"),
                        metavar="FILE", help="data set with the held-out notes, which is rendered "
                        "if it is missing (default: %(default)s)")
    return parser


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Evaluate; see the module's head."""
    options = _parser().parse_args(arguments)
    from synths.weights import checkpoints

    prefix = checkpoints.find(options.checkpoint or "nsynth_starter", "nsynth")
    if not options.data.is_file():
        from training.nsynth import broad
        broad.write(options.data)
    notes, strangers = held_out_notes(options.data)
    sounds = shipped_sounds(options.sounds)
    options.output.mkdir(parents=True, exist_ok=True)
    engine = engine_of(prefix, options.temperature)
    decoded: dict[str, np.ndarray] = {}

    def keep(name: str, audio: np.ndarray) -> None:
        if name.startswith(("sounds", "mixes")):
            decoded[name] = audio
        wavfile.write(options.output / f"{name}.wav", SAMPLE_RATE,
                      np.round(np.clip(audio, -1, 1) * 32767).astype(np.int16))

    figures = evaluate(engine, sounds, notes, strangers, options.seeds, keep)
    figures.update(checkpoint=Path(prefix).name, seeds=list(options.seeds),
                   temperature=options.temperature)
    figures = report.clean(figures)
    for folder in {options.output, options.card.parent if options.card else options.output}:
        report.write_json(folder / "figures.json", figures)
    if options.card:
        report.fill(options.card, tables(figures))
    clips = {**{f"{name} (source)": audio for name, audio in sounds.items()}, **decoded}
    report.sheet(options.output / "sounds_and_mixes.png", clips, len(sounds),
                 "Sources, reconstructions, mixes (1, 1/2)", draw_level)
    for name, value in figures["rows"].items():
        print(f"{name:34} {value}")
    print(options.output / "figures.json")


if __name__ == "__main__":
    raise SystemExit(main())
