"""What training's own pieces are for: beside PyTorch's, on this processor.

    python -m benchmarks.training            # writes results/training.json

torch.compile takes minutes for all layers of the network; `--layers` leaves some out.

Needs training/requirements.txt and a C++ compiler, which torch.compile asks for.  A training step
of the NSynth starter (two crops, loss and gradients) by PyTorch's own operations, by torch.compile
and by `training/nsynth/fused.c`; an update of its matrices by `training.nsynth.muon` and by
torch.optim.Muon.  Rounds alternate; medians are compared.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch

from benchmarks.common import RESULTS, machine
from training.nsynth.fused import Fused
from training.nsynth.model import Autoencoder, Size
from training.nsynth.muon import Muon

CLIPS, SAMPLES = 2, 6144    # of a training step on a CPU


def alternate(jobs: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each round of each job; the first round, which compiles, comes before."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(rounds + 1):
        for name, job in jobs.items():
            began = time.perf_counter()
            job()
            taken = time.perf_counter() - began
            if number:
                seconds[name].append(taken)
            else:
                print(f"{name}: the first time {taken:.1f} s", flush=True)
    return seconds


def steps(threads: int, layers: int) -> dict[str, Callable[[], object]]:
    """A training step of the starter's network, or its first layers, three ways."""
    model = Autoencoder(Size(layers=layers, encoder_layers=-(-layers // 2)))
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(0, 256, (CLIPS, SAMPLES), generator=generator)
    signal = (codes.float() - 128) / 128
    fused = Fused.build(model, threads)
    assert fused is not None, "no C compiler"
    compiled = torch.compile(model.loss)
    pooled = torch.compile(model.pooled)

    def step(loss: Callable, pool: Callable) -> float:
        model.zero_grad()
        value = loss(signal, codes, model.encode(signal, pool))
        value.backward()
        return float(value.detach())

    return {"PyTorch": lambda: step(model.loss, model.pooled),
            "torch.compile": lambda: step(compiled, pooled),
            "fused.c": lambda: step(fused.loss, fused.pooled)}


def updates() -> dict[str, Callable[[], object]]:
    """An update of the starter's matrices, two ways; torch.optim.Muon takes one matrix each."""
    model = Autoencoder(Size())
    ours = Muon(list(model.named_parameters()))
    matrices = []
    for _, parameter in ours.matrices:
        parameter.grad = torch.randn(parameter.shape)
        flat = parameter.detach().reshape(
            parameter.shape[0] if parameter.ndim > 2 else 1, -1, parameter.shape[-1])
        for matrix in flat:
            matrices.append(matrix.clone().requires_grad_())
            matrices[-1].grad = torch.randn(matrix.shape)
    for parameter in model.parameters():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    theirs = torch.optim.Muon(matrices, lr=1e-4)
    return {"ours": lambda: ours.step(1e-4), "torch.optim.Muon": theirs.step}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--layers", type=int, default=Size().layers, help="default: %(default)s")
    options = parser.parse_args()
    threads = torch.get_num_threads()
    seconds = {"step": alternate(steps(threads, options.layers), options.rounds),
               "update": alternate(updates(), options.rounds)}
    result = {"machine": machine(), "torch": torch.__version__, "threads": threads,
              "layers": options.layers, "seconds": seconds}
    (RESULTS / "training.json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    for what, jobs in seconds.items():
        for name, taken in jobs.items():
            print(f"{what}, {name}: {1e3 * statistics.median(taken):.1f} ms")


if __name__ == "__main__":
    main()
