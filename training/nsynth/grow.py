"""Make a wider network of a trained one, with another encoder: `python -m training.nsynth.grow`.

The decoder becomes twice as wide and computes the same: channels are doubled, and what leaves the
two copies is divided between them unevenly, so that training can part them.  The new encoder's
encodings are mapped linearly to the old ones (least squares over random crops), and the map goes
into the decoder's conditioning layers.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from synths import InputError
from synths.files import writing
from training.nsynth import train
from training.nsynth.fused import Fused
from training.nsynth.model import Autoencoder

# Gates and values are stacked; what enters and leaves each kernel.
_GATED = ("dilatedconv_w", "dilatedconv_b", "cond_map_w", "cond_map_b")
_SAME_IN = ("startconv_w", "cond_map_w", "cond_map_out1_w")
_SAME_OUT = ("logits_w", "logits_b")


def widened(values: Mapping[str, np.ndarray], seed: int = 0) -> dict[str, np.ndarray]:
    """The decoder's arrays of a network of twice the width that computes the same."""
    rng, out = np.random.default_rng(seed), {}
    for name, value in values.items():
        if name.startswith("ae_"):
            continue
        if name in _GATED:
            gate, kept = np.split(value, 2, axis=-1)
            value = np.concatenate([gate, gate, kept, kept], axis=-1)
        elif name not in _SAME_OUT:
            value = np.concatenate([value, value], axis=-1)
        if name.endswith("_w") and name not in _SAME_IN:
            share = rng.uniform(0.2, 0.8, value.shape)
            value = np.concatenate([value * share, value * (1 - share)], axis=-2)
        out[name] = value.astype(np.float32)
    return out


@torch.no_grad()
def encodings(values: Mapping[str, np.ndarray], signals: torch.Tensor) -> np.ndarray:
    """The encodings [frames, channels] of signals [n, samples]."""
    size = train.size_of({f"ema/{name}": value for name, value in values.items()})
    model = Autoencoder(size)
    model.load(values)
    pooled = (Fused.build(model) or model).pooled
    return torch.cat([model.encode(signal[None], pooled)[0] for signal in signals]).double().numpy()


def conditioned(values: Mapping[str, np.ndarray], old: np.ndarray,
                new: np.ndarray) -> tuple[dict[str, np.ndarray], float]:
    """A decoder's arrays that take new encodings in place of old ones, both [frames, channels];
    and the share of the old ones' variance that a linear map leaves out.
    """
    design = np.concatenate([new, np.ones((len(new), 1))], axis=1)
    mapping = np.linalg.lstsq(design, old, rcond=None)[0]
    missed = np.var(old - design @ mapping, axis=0).sum() / np.var(old, axis=0).sum()
    out = dict(values)
    for name in ("cond_map", "cond_map_out1"):
        kernel = values[f"{name}_w"]
        out[f"{name}_w"] = np.float32(mapping[:-1] @ kernel)
        out[f"{name}_b"] = np.float32(values[f"{name}_b"] + mapping[-1] @ kernel)
    return out, float(missed)


def averages(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The averaged weights of a state."""
    return {name[4:]: value for name, value in state.items() if name.startswith("ema/")}


def main(arguments: Sequence[str] | None = None) -> int:
    """Grow; see the module's head."""
    parser = argparse.ArgumentParser(prog="python -m training.nsynth.grow", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decoder", type=Path, default=Path("checkpoints/nsynth_starter"),
                        metavar="FILE", help="state or checkpoint to widen (default: %(default)s)")
    parser.add_argument("--encoder", type=Path, required=True, metavar="FILE",
                        help="state whose encoder is taken, as --stage encoder trains it")
    parser.add_argument("--data", type=Path, default=train.RUN / "data.npz", metavar="FILE",
                        help="data set (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=train.RUN / "state.npz", metavar="FILE",
                        help="default: %(default)s")
    parser.add_argument("--same-width", action="store_true",
                        help="change the encoder only")
    options = parser.parse_args(arguments)
    try:
        started, taught = (train.read_state(path) for path in (options.decoder, options.encoder))
        data = train.data_set(options.data)
        crops = train.Crops(data, train.STAGES["near"], 6144, np.random.default_rng(0))
        signals = torch.cat([train.batch(crops, 8).signals for _ in range(16)])
        old, new = averages(started), averages(taught)
        decoder = widened(old) if not options.same_width else {
            name: value for name, value in old.items() if not name.startswith("ae_")}
        values, missed = conditioned(decoder, encodings(old, signals),
                                     encodings(new, signals))
        values.update((name, value) for name, value in new.items() if name.startswith("ae_"))
        state = {f"{kind}/{name}": value for kind in ("raw", "ema")
                 for name, value in values.items()}
        state.update((name, value) for name, value in taught.items() if name.startswith("head/"))
        options.output.parent.mkdir(parents=True, exist_ok=True)
        with writing(options.output) as file:
            np.savez(file, steps=0, samples=0, seconds=0.0, **state)
    except (InputError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{options.output}: {100 * missed:.0f} % of the old encodings' variance is lost")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
