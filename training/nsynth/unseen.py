"""Measure an NSynth checkpoint on sounds that it was not trained on.

`python -m training.nsynth.unseen FOLDER [--checkpoint NAME|PATH] [--seeds N ...]` reads 16 kHz WAV
files from FOLDER and its subfolders.  Each subfolder is a group (`training.nsynth.collect` makes
them).  The command prints a table and writes all figures as JSON.

A sound is *pitched* if half of its audible frames are periodic (normalised autocorrelation above
0.9).  It *keeps its pitch* if 80 % of these frames are reconstructed within 50 cents.  It is
*recognisable* if three conditions are met at most of the seeds.  Its reconstruction and its source
have 80 % of their specific loudness in common.  No other source is closer.  If the sound is
pitched, it keeps its pitch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations
from pathlib import Path

import numpy as np

from training import command, make_parser, measures, report
from training.nsynth import evaluate

SAMPLES = evaluate.FRAMES * evaluate.HOP
SEEDS = (0, 1, 2)
IN_TUNE, ALIKE = 0.8, 0.20
MIXES = 15


def compare(decoded: np.ndarray, source: np.ndarray, group: str,
            loudnesses: Mapping[str, np.ndarray], name: str) -> dict[str, float]:
    """Figures of one reconstruction."""
    now, then = (measures.pitch_track(audio, group) for audio in (decoded, source))
    voiced, loudness = then.voiced, measures.loudness(decoded)
    apart = {other: measures.apart(loudness, each) for other, each in loudnesses.items()}
    figures = dict(
        noise_floor=measures.noise_floor(decoded), distance=evaluate.distance(decoded, source),
        apart=apart[name], nearest=float(min(apart, key=apart.__getitem__) == name),
        within_50_cents=np.nan, octaves_allowed=np.nan, hnr_lost=np.nan)
    if voiced.any():
        off = (now.pitch - then.pitch)[voiced]
        figures.update(within_50_cents=float(measures.within_50_cents(off).mean()),
                       octaves_allowed=float(measures.within_50_cents(off, octaves=True).mean()),
                       hnr_lost=measures.hnr(then.clarity[voiced])
                       - measures.hnr(now.clarity[voiced]))
    return figures


def recognised(found: Mapping[str, float], pitched: bool) -> bool:
    """Whether one reconstruction is recognisable (see the module's head)."""
    alike = found["apart"] <= ALIKE and found["nearest"]
    return bool(alike and (not pitched or found["within_50_cents"] >= IN_TUNE))


def probe(encodings: np.ndarray, pitches: np.ndarray) -> np.ndarray:
    """A linear map from encodings [frames, 16] to circles of pitch, by least squares."""
    return np.linalg.lstsq(_with_ones(encodings), measures.circles(pitches), rcond=None)[0]


def _with_ones(encodings: np.ndarray) -> np.ndarray:
    return np.pad(encodings, ((0, 0), (0, 1)), constant_values=1)


def read_pitch(encodings: np.ndarray, mapping: np.ndarray) -> np.ndarray:
    """The pitch that a linear map reads from encodings [frames, 16]."""
    return measures.nearest_pitch(_with_ones(encodings) @ mapping)


def pitch_probe(engine: evaluate.Engine, data: Path, count: int = 1500) -> np.ndarray:
    """A probe fitted to notes of a data set, half of them a little out of tune."""
    with np.load(data, allow_pickle=False) as file:
        rng = np.random.default_rng(0)
        pitched = np.isfinite(file["track"]).mean(1) > 0.5
        rows = rng.permutation(np.flatnonzero((file["split"] == 0) & pitched))[:count]
        audio, tracks = file["audio"][rows] / 32768, file["track"][rows]
    encodings, pitches = [], []
    time = np.arange(SAMPLES)
    for sound, pitch in zip(audio, tracks):
        shift = rng.uniform(-1, 1)
        at = time * 2 ** (shift / 12)
        moved = np.interp(at, np.arange(sound.size), sound)
        encodings.append(np.float32(moved))
        frame = (at[evaluate.HOP // 2::evaluate.HOP] / (sound.size / pitch.size)).astype(int)
        pitches.append(pitch[frame.clip(max=pitch.size - 1)] + shift)
    found = np.concatenate([engine.encode(np.stack(encodings[i:i + 100]))
                            for i in range(0, len(encodings), 100)])
    pitches = np.stack(pitches)
    known = np.isfinite(pitches)
    return probe(found[known], pitches[known])


def evaluate_sounds(engine: evaluate.Engine, sounds: Mapping[str, np.ndarray],
                    seeds: Sequence[int] = SEEDS, mapping: np.ndarray | None = None) -> dict:
    """All figures: `sounds` and `mixes` by name, `groups` and `rows` for the tables."""
    names, stack = list(sounds), np.stack(list(sounds.values()))
    groups = [name.split("/")[0] for name in names]
    encodings = engine.encode(stack)
    nll = engine.nll(stack, "float32")
    tracks = [measures.pitch_track(audio, group) for audio, group in zip(stack, groups)]
    loudnesses = {name: measures.loudness(audio) for name, audio in sounds.items()}
    figures: dict = {"seeds": list(seeds), "sounds": {}, "mixes": {}}
    by_seed = []
    for seed in seeds:
        decoded = _decoded(engine, encodings, seed)
        by_seed.append([compare(audio, source, group, loudnesses, name) for audio, source, group,
                        name in zip(decoded, stack, groups, names)])
    for i, name in enumerate(names):
        pitched = tracks[i].pitched
        found = [each[i] for each in by_seed]
        row = {kind: float(np.mean([each[kind] for each in found])) for kind in found[0]}
        row.update(group=groups[i], pitched=pitched, nll=float(nll[i]),
                   mu_law_floor=measures.noise_floor(evaluate.through_mu_law(stack[i])),
                   recognisable=sum(recognised(each, pitched) for each in found) > len(seeds) / 2)
        if pitched and mapping is not None:
            frames = np.flatnonzero(tracks[i].voiced[:evaluate.FRAMES])
            off = read_pitch(encodings[i][frames], mapping) - tracks[i].pitch[frames]
            row["probe"] = measures.within_50_cents(off).tolist()
            row["probe_octaves"] = measures.within_50_cents(off, octaves=True).tolist()
        figures["sounds"][name] = row
    pitched = [i for i, row in enumerate(figures["sounds"].values()) if row["pitched"]]
    figures["mixes"] = mixes(engine, encodings, names, pitched, seeds)
    figures["rows"] = {group: rows([row for row in figures["sounds"].values()
                                    if group in (row["group"], "all")])
                       for group in [*dict.fromkeys(groups), "all"]}
    return figures


def _decoded(engine: evaluate.Engine, encodings: np.ndarray, seed: int) -> np.ndarray:
    uniforms = np.random.default_rng(seed).random((len(encodings), SAMPLES))
    return np.asarray(engine.decode(np.float32(encodings), uniforms))


def mixes(engine: evaluate.Engine, encodings: np.ndarray, names: Sequence[str],
          pitched: Sequence[int], seeds: Sequence[int]) -> dict:
    """Share of periodic frames at each seed, of mixes of random ordered pairs of pitched sounds, at
    two pairs of weights.
    """
    found: dict = {}
    if len(pitched) < 2:
        return found
    rng = np.random.default_rng(15)
    pairs = list(permutations(pitched, 2))
    pairs = [pairs[k] for k in rng.permutation(len(pairs))[:MIXES]]
    for title, weights in (("1, 1/2", (1, 1 / 2)), ("2/3, 1/3", (2 / 3, 1 / 3))):
        mixed = np.stack([weights[0] * encodings[i] + weights[1] * encodings[j]
                          for i, j in pairs])
        found[title] = {f"{names[i]} + {names[j]}": [] for i, j in pairs}
        for seed in seeds:
            for row, audio in zip(found[title].values(), _decoded(engine, mixed, seed + 1000)):
                row.append(measures.pitch_track(audio, "bass").periodic)
    return found


def rows(found: Sequence[Mapping]) -> dict:
    """Summary of a group of sounds."""
    tuned = [row for row in found if row["pitched"]]

    def mean(kind: str, chosen: Sequence[Mapping]) -> float | None:
        return float(np.mean([row[kind] for row in chosen])) if chosen else None

    probed = {kind: [hit for row in tuned for hit in row.get(kind, [])]
              for kind in ("probe", "probe_octaves")}
    return dict(
        sounds=len(found), pitched=len(tuned), nll=mean("nll", found),
        recognisable=sum(row["recognisable"] for row in found),
        keep_pitch=sum(row["within_50_cents"] >= IN_TUNE for row in tuned),
        within_50_cents=mean("within_50_cents", tuned),
        octaves_allowed=mean("octaves_allowed", tuned), hnr_lost=mean("hnr_lost", tuned),
        noise_above_mu_law=float(np.mean([row["noise_floor"] - row["mu_law_floor"]
                                          for row in found])),
        distance=mean("distance", found), apart=mean("apart", found),
        **{kind: float(np.mean(hits)) if hits else None for kind, hits in probed.items()})


def table(figures: Mapping) -> str:
    """The groups of sounds as a Markdown table, and a line about the mixes."""
    def number(value: float | None, form: str = ".2f") -> str:
        return "-" if value is None else format(value, form)

    lines = [(group, f"{row['sounds']} ({row['pitched']})", number(row["nll"]),
              f"{row['recognisable']} ({100 * row['recognisable'] / row['sounds']:.0f} %)",
              f"{row['keep_pitch']} of {row['pitched']}",
              number(row["within_50_cents"], ".0%"), number(row["octaves_allowed"], ".0%"),
              number(row["probe"], ".0%"), number(row["probe_octaves"], ".0%"),
              number(row["hnr_lost"], ".1f"), number(row["noise_above_mu_law"], ".1f"),
              number(row["apart"])) for group, row in figures["rows"].items()]
    text = report.table(["group", "sounds (pitched)", "NLL, nats", "recognisable",
                         "keep their pitch", "frames within 50 cents", "octaves allowed",
                         "linear probe", "octaves allowed", "HNR lost, dB",
                         "noise above mu-law's, dB", "loudness apart"], lines)
    for title, found in figures["mixes"].items():
        clear = np.array(list(found.values()))
        text += (f"\nMixes ({title}) of {len(clear)} random pairs of pitched sounds: periodic "
                 f"frames {clear.mean():.0%}, lowest {clear.min():.0%}, under half in "
                 f"{np.sum(clear < evaluate.BROKEN)} of {clear.size}.")
    return text + "\n"


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Evaluate; see the module's head."""
    parser = make_parser("training.nsynth.unseen", __doc__)
    parser.add_argument("folder", type=Path,
                        help="folder of 16 kHz WAV files, with a subfolder for each group")
    parser.add_argument("--checkpoint", default="nsynth_starter", metavar="NAME|PATH",
                        help="checkpoint to measure, by name or path (default: %(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, metavar="N",
                        help="seeds of the decoder's random numbers (default: 0 1 2)")
    parser.add_argument("--data", type=Path, metavar="FILE",
                        help="data set to which the linear probe is fitted (default: no probe)")
    parser.add_argument("--output", type=Path, metavar="FILE",
                        default=Path("training/runs/nsynth/unseen.json"),
                        help="JSON file of the figures (default: %(default)s)")
    options = parser.parse_args(arguments)
    from synths.weights import checkpoints

    engine = evaluate.engine_of(checkpoints.find(options.checkpoint, "nsynth"))
    sounds = {f"{path.parent.name}/{path.stem}": audio
              for path, audio in evaluate.read_wavs(options.folder, "**/*.wav").items()}
    mapping = pitch_probe(engine, options.data) if options.data else None
    figures = evaluate_sounds(engine, sounds, options.seeds, mapping)
    report.write_json(options.output, figures)
    print(table(figures))


if __name__ == "__main__":
    raise SystemExit(main())
