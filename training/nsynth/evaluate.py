"""Measure an NSynth checkpoint on the bundled sounds, at several seeds.

`python -m training.nsynth.evaluate [--checkpoint NAME|PATH] [--seeds N ...] [--output DIR]` decodes
encodings with `synths.nsynth`, and measures the sounds.  Only the NLL is teacher-forced.  The
command writes `figures.json` and the sounds, and prints the worst of the seeds.  It accepts any
checkpoint, including the official one.  `training.nsynth.unseen` measures sounds that a checkpoint
was not trained on.

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
from synths.files import write_wav
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
    """Compare a decoded sound with its source; the figures of pitch are NaN if it has none."""
    now, then = (measures.pitch_track(audio) for audio in (decoded, source))
    voiced = then.voiced
    heard, wanted = measures.envelope(decoded), measures.envelope(source)
    audible = wanted > wanted.max() - 40
    rms = [float(np.sqrt(np.mean(x ** 2)) + 1e-9) for x in (decoded, source)]
    fall, wanted_fall = (measures.decay(audio, 0.15, 0.85) for audio in (decoded, source))
    figures = dict(
        within_50_cents=np.nan, median_cents=np.nan, hnr=np.nan, source_hnr=np.nan,
        noise_floor=measures.noise_floor(decoded), distance=distance(decoded, source),
        envelope_correlation=float(np.corrcoef(heard[audible], wanted[audible])[0, 1]),
        level=20 * np.log10(rms[0] / rms[1]), decay_error=fall - wanted_fall)
    if voiced.any():
        off = np.nan_to_num(100 * np.abs(now.pitch - then.pitch)[voiced], nan=1200.0)
        figures.update(within_50_cents=float(np.mean(off < 50)), median_cents=float(np.median(off)),
                       hnr=measures.hnr(now.clarity[voiced]),
                       source_hnr=measures.hnr(then.clarity[voiced]))
    return figures


def through_mu_law(audio: np.ndarray) -> np.ndarray:
    """Return the sound as 8 bits of mu-law leave it: the best that a decoder can do."""
    return nsynth.inverse_mu_law(nsynth.mu_law(audio))


def _mix_figures(mixes: dict[tuple[str, str], np.ndarray], sounds: dict[str, np.ndarray]) -> dict:
    """Figures of the mixes of one seed, by name."""
    found = {}
    for (a, b), audio in mixes.items():
        track = measures.pitch_track(audio)
        audible = track.audible
        found[f"{a}_{b}"] = dict(
            rms=float(np.sqrt(np.mean(audio ** 2))), clear_frames=track.periodic,
            f0=float(np.nanmedian(track.frequency[audible])) if audible.any() else np.nan,
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
    """Measure a checkpoint: lists have one entry per seed, `rows` has the worst seed for the card.

    `notes` are held out, `strangers` are notes of held-out instruments.  `keep` gets the name and
    the audio of each sound that is decoded at the first seed.
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
    """Return the WAV files of a folder, float32 [15872] each, by name."""
    return {path.stem: audio for path, audio in read_wavs(folder, "*.wav").items()}


def read_wavs(folder: Path, pattern: str) -> dict[Path, np.ndarray]:
    """Return the first second of 16 kHz WAV files, float32 [15872] each."""
    sounds = {}
    for path in sorted(folder.glob(pattern)):
        rate, audio = wavfile.read(path)
        if rate != SAMPLE_RATE or audio.ndim != 1:
            raise InputError(f"{path} is not a 16 kHz mono file: convert it.")
        audio = audio[:FRAMES * HOP] / 32768
        sounds[path] = np.float32(np.pad(audio, (0, FRAMES * HOP - len(audio))))
    if not sounds:
        raise InputError(f"There is no WAV file in {folder}: give a folder of sounds.")
    return sounds


def held_out_notes(path: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Held-out notes and notes of held-out instruments of a data set."""
    with np.load(path, allow_pickle=False) as data:
        audio, program, pitch, split = (data[k] for k in ("audio", "program", "pitch", "split"))
    return tuple({f"{program[i]}_{pitch[i]}": np.float32(audio[i, :FRAMES * HOP] / 32768)
                  for i in np.flatnonzero(split == kind)} for kind in (1, 2))


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
        (f"mixes, {weights[0]}: not silent (above -60 dBFS)", _share(rows["mixes_audible"]),
         "100 %"),
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


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("training.nsynth.evaluate", __doc__)
    parser.add_argument("--checkpoint", default="nsynth_starter", metavar="NAME|PATH",
                        help="checkpoint to measure, by name or path (default: %(default)s)")
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

    prefix = checkpoints.find(options.checkpoint, "nsynth")
    if not options.data.is_file():
        from training.nsynth import broad
        broad.write(options.data)
    notes, strangers = held_out_notes(options.data)
    sounds = shipped_sounds(options.sounds)
    options.output.mkdir(parents=True, exist_ok=True)
    engine = engine_of(prefix, options.temperature)
    figures = evaluate(engine, sounds, notes, strangers, options.seeds, lambda name, audio:
                       write_wav(options.output / f"{name}.wav", audio))
    figures.update(checkpoint=Path(prefix).name, seeds=list(options.seeds),
                   temperature=options.temperature)
    figures = report.clean(figures)
    for folder in {options.output, options.card.parent if options.card else options.output}:
        report.write_json(folder / "figures.json", figures)
    if options.card:
        report.fill(options.card, tables(figures))
    for name, value in figures["rows"].items():
        print(f"{name:34} {value}")
    print(options.output / "figures.json")


if __name__ == "__main__":
    raise SystemExit(main())
