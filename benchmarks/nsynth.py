"""Compare the speed of our NSynth with Magenta's: decoding and encoding at the official sizes.

    python -m benchmarks.nsynth             # takes minutes; writes results/nsynth.json

The weights are random, at the official sizes (30 layers, 512 channels, 61.8 million parameters).
Magenta's side is its own `fastgen`, unmodified: `generate_audio_sample` and `encode`.  Each job of
each side runs in its own process, with all cores.  The rounds alternate, so that both sides see the
machine in the same state.  The benchmark also compares the samples of both sides.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.common import ROOT, Worker, limits, machine, save, serve

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

FRAME = 512
CLIPS = (1, 12)     # a single sound, and the book's job
SOUNDS = ("bass", "flute", "meow", "metal")


def inputs(clips: int) -> tuple[np.ndarray, np.ndarray]:
    """Return encodings [clips, 1, 16] and uniforms [clips, 512], the same for both sides."""
    rng = np.random.default_rng(1)
    encodings = rng.standard_normal([max(CLIPS), 1, 16], dtype=np.float32)
    return encodings[:clips], rng.random([max(CLIPS), FRAME])[:clips]


def audio() -> np.ndarray:
    """Return four sounds of one second each."""
    import soundfile

    return np.stack([soundfile.read(ROOT / "sounds" / f"{name}.wav", dtype="float32")[0][:15872]
                     for name in SOUNDS])


# Workers -------------------------------------------------------------------------------------


def _magenta(job: str, prefix: str):
    import tensorflow.compat.v1 as tf
    tf.disable_v2_behavior()
    from magenta.models.nsynth.wavenet import fastgen

    from benchmarks import magenta_nsynth

    if job == "encode":
        return lambda **_: fastgen.encode(audio(), prefix, 16000) is None
    clips = int(job.split()[1])
    encodings, uniforms = inputs(clips)
    decode = magenta_nsynth.decoder(tf, fastgen, prefix, encodings)
    return lambda steps: {"steps": steps, "samples": decode(uniforms[:, :steps]).T.tolist()}


def _ours(job: str, prefix: str, **options):
    from synths import nsynth
    from synths.engines.litert import available_threads
    from synths.nsynth.decoder import Decoder

    if job == "encode":
        return lambda **_: nsynth.encode(audio(), prefix, 16000) is None
    clips, precision = int(job.split()[1]), job.split()[2]
    encodings, uniforms = inputs(clips)
    options.setdefault("threads", available_threads())
    decoder = Decoder(Path(prefix), clips, precision, **options)

    def decode(steps: int) -> dict:
        codes = next(decoder.generate(encodings, uniforms))
        samples = nsynth.inverse_mu_law(codes.astype(int) - 128)
        return {"steps": FRAME, "samples": samples[:, :steps].T.tolist()}

    return decode


JOBS = {f"decode {clips}": [f"decode {clips} float32", f"decode {clips} int8"]
        for clips in CLIPS} | {"encode": ["encode"]}


def run(rounds: int, steps: int, jobs: list[str]) -> dict:
    """Measure both sides in turn; return all figures, and save them after every job.

    Magenta's decoder computes `steps` time steps in a round, and ours computes 512.
    """
    from benchmarks import magenta_nsynth

    result = {"machine": machine(), "limits": limits(), "rounds": {}, "start": {},
              "same_samples": {}}
    with tempfile.TemporaryDirectory() as folder:
        prefix = str(Path(folder) / "model.ckpt-200000")
        magenta_nsynth.save_checkpoint(
            prefix, magenta_nsynth.random_weights(magenta_nsynth.OFFICIAL))
        for job in jobs:
            variants = JOBS[job]
            sides = {f"magenta {job}": Worker("benchmarks.nsynth", "magenta", job, prefix)}
            for variant in variants:
                sides[f"ours {variant}"] = Worker("benchmarks.nsynth", "ours", variant, prefix)
            answers = {name: [] for name in sides}
            samples = {}
            for number in range(rounds + 1):
                for name, side in sides.items():
                    answer = side.ask(steps=steps) if job != "encode" else side.ask()
                    taken = answer.pop("samples", None)
                    if number == 0:     # the warm-up, the only round from silence on both sides
                        samples[name] = taken
                    else:
                        answers[name].append(answer)
            # The machine's speed varies, so a limit is the highest speed measured.
            result["limits"] = {name: max(most, result["limits"][name])
                                for name, most in limits().items()}
            for name, side in sides.items():
                result["start"][name] = side.start
                side.close()
            result["rounds"] |= answers
            if job != "encode":
                theirs = np.array(samples[f"magenta {job}"])
                for variant in variants:
                    ours = np.array(samples[f"ours {variant}"])
                    result["same_samples"][variant] = float(
                        np.isclose(ours, theirs, rtol=1e-5, atol=1e-8).mean())
            save("nsynth", result)
    return result


def per_step(answers: list[dict], key: str = "seconds") -> float:
    """Return the median milliseconds per time step, or seconds per job if there are no steps."""
    return float(np.median([answer[key] / answer["steps"] * 1e3 if "steps" in answer
                            else answer[key] for answer in answers]))


def bounds(clips: int, precision: str, limit: dict[str, float]) -> dict[str, float]:
    """Return the minimum milliseconds per step by memory and by arithmetic, at the official size.

    Memory: the weights that every step needs (present taps, residual and skip, and the newer past
    tap of the layers with dilation 1) are read once; they do not fit in a cache.  Arithmetic: all
    products, in float32 (int8 could be up to four times as fast).
    """
    layer = 512 * 1024 + 512 * 512 + 512 * 256
    every_step = 30 * layer - 512 * 512 + 3 * 512 * 1024 + 2 * 256 * 256 + 512 * 256
    size = 1 if precision == "int8" else 4
    flops = 2 * clips * (30 * (layer + 2 * 512 * 1024) + 2 * 256 * 256)
    return {"memory_ms": every_step * size / limit["read_gb_per_s"] / 1e6,
            "arithmetic_ms": flops / limit["gflop_per_s"] / 1e6}


def table(result: dict) -> str:
    """Return the results as a Markdown table."""
    lines = ["| job | Magenta | ours | ratio | processor time | peak memory (MB) | bounds (ms) |",
             "|---|---|---|---|---|---|---|"]
    rounds = result["rounds"]
    for name, answers in rounds.items():
        if not name.startswith("ours "):
            continue
        job = name.removeprefix("ours ")
        other = rounds["magenta " + (" ".join(job.split()[:2]) if job != "encode" else job)]
        unit = "s" if job == "encode" else "ms per step"
        theirs, ours = per_step(other), per_step(answers)
        cpu = per_step(other, "cpu_s") / per_step(answers, "cpu_s")
        peaks = [max(answer["peak_mb"] or 0 for answer in side) for side in (other, answers)]
        least = ""
        if job != "encode":
            least = "memory {memory_ms:.1f}, arithmetic {arithmetic_ms:.1f}".format(
                **bounds(int(job.split()[1]), job.split()[2], result["limits"]))
        peak = " / ".join(f"{peak:.0f}" if peak else "not measured" for peak in peaks)
        lines.append(f"| {job} | {theirs:.2f} {unit} | {ours:.2f} {unit} | "
                     f"**{theirs / ours:.1f}x** | {cpu:.1f}x | {peak} | {least} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3,
                        help="number of rounds (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=48,
                        help="time steps of Magenta's decoder in each round (default: %(default)s)")
    parser.add_argument("--jobs", nargs="+", choices=list(JOBS), default=list(JOBS),
                        help="jobs to measure (default: all)")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        side, job, prefix = options.worker
        serve(lambda: {"magenta": _magenta, "ours": _ours}[side](job, prefix))
        return
    print(table(run(options.rounds, options.steps, options.jobs)))


if __name__ == "__main__":
    main()
