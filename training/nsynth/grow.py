"""Make a larger network from two trained ones: `python -m training.nsynth.grow`.

The new decoder is twice as wide and computes the same output.  Each channel is doubled, and its two
copies have unequal parts of its outgoing weights, so that training can make them different.  The
two encoders become one, side by side.  A projection reduces their encodings to as many channels as
before.  It keeps most of two things: the input of the decoder from the first encoder, and the pitch
that the linear probe reads from the second.  The mean encoding is 0.  A mix whose weights do not
sum to 1 therefore stays near the encodings that the decoder knows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from training import command, make_parser, report
from training.nsynth import train
from training.nsynth.fused import Fused
from training.nsynth.model import Autoencoder
from training.nsynth.names import averages, read_state

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
    pooled = (Fused.build(model, exact=True) or model).pooled
    return torch.cat([model.encode(signal[None], pooled)[0] for signal in signals]).double().numpy()


def side_by_side(first: Mapping[str, np.ndarray],
                 second: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """One encoder that computes the features of two; layers that one lacks change nothing."""
    layers = max(len(first["ae_res_w"]), len(second["ae_res_w"]))
    out = {}
    for name in (name for name in first if name.startswith("ae_")):
        values = [first[name], second[name]]
        if name.startswith(("ae_dilatedconv", "ae_res")):
            values = [np.concatenate([value, np.zeros((layers - len(value), *value.shape[1:]))])
                      for value in values]
        if name.endswith("_w") and name != "ae_startconv_w":
            one, two = values
            whole = np.zeros((*one.shape[:-2], *np.add(one.shape[-2:], two.shape[-2:])))
            whole[..., :one.shape[-2], :one.shape[-1]] = one
            whole[..., one.shape[-2]:, one.shape[-1]:] = two
        else:
            whole = np.concatenate(values, axis=-1)
        out[name] = whole.astype(np.float32)
    return out


def joined(decoder: Mapping[str, np.ndarray], encoder: Mapping[str, np.ndarray],
           probe: np.ndarray, found: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Give a decoder the encodings of two encoders side by side, in as many channels as before.

    `probe` [channels, features] reads the second encoder's encodings; `found` [frames, 2 channels]
    are encodings of `encoder`, over which the loss is the least.  Return the arrays, and the shares
    of the variance that are lost: of what the decoder takes, and of what the probe reads.
    """
    channels = found.shape[1] - len(probe)
    kernels = np.concatenate([*decoder["cond_map_w"], decoder["cond_map_out1_w"]], axis=1)
    mean = found.mean(0)
    needed = [(found - mean)[:, :channels] @ kernels, (found - mean)[:, channels:] @ probe]
    scales = [np.sqrt(each.var(0).sum()) for each in needed]
    needed = np.concatenate([each / scale for each, scale in zip(needed, scales)], axis=1)
    weights = np.zeros((found.shape[1], needed.shape[1]))
    weights[:channels, :kernels.shape[1]] = kernels / scales[0]
    weights[channels:, kernels.shape[1]:] = probe / scales[1]
    axes = np.linalg.svd(needed, full_matrices=False)[2][:channels]
    # Turned, so that no channel matters more than another.
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((channels, channels)))[0]
    size = 0.5 / np.sqrt((needed @ axes.T).var(0).mean())
    projection = weights @ axes.T @ turn * size
    missed = (needed - needed @ axes.T @ axes).var(0)
    lost = np.array([missed[:kernels.shape[1]].sum(), missed[kernels.shape[1]:].sum()])

    out = {**decoder, **encoder}
    out["ae_bottleneck_w"] = np.float32(encoder["ae_bottleneck_w"] @ projection)
    out["ae_bottleneck_b"] = np.float32((encoder["ae_bottleneck_b"] - mean) @ projection)
    back = turn.T @ axes[:, :kernels.shape[1]] * (scales[0] / size)
    at = 0
    for name in ("cond_map", "cond_map_out1"):
        kernel = decoder[f"{name}_w"]
        width = kernel.shape[-1]
        count = kernel.size // (channels * width)
        each = back[:, at:at + count * width].reshape(channels, count, width).swapaxes(0, 1)
        at += count * width
        out[f"{name}_w"] = np.float32(each.reshape(kernel.shape))
        out[f"{name}_b"] = np.float32(decoder[f"{name}_b"] + mean[:channels] @ kernel)
    return out, lost


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Grow; see the module's head."""
    parser = make_parser("training.nsynth.grow", __doc__)
    parser.add_argument("--start", type=Path, default=Path("checkpoints/nsynth_starter"),
                        metavar="FILE", help="state or checkpoint of the decoder and the first "
                        "encoder (default: %(default)s)")
    parser.add_argument("--encoder", type=Path, required=True, metavar="FILE",
                        help="state of the second encoder, trained with --stage encoder")
    parser.add_argument("--data", type=Path, default=train.RUN / "data.npz", metavar="FILE",
                        help="data set (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=train.RUN / "state.npz", metavar="FILE",
                        help="state of the larger network (default: %(default)s)")
    options = parser.parse_args(arguments)
    started, trained = (read_state(path) for path in (options.start, options.encoder))
    data = train.data_set(options.data)
    crops = train.Crops(data, train.STAGES["near"], 6144, np.random.default_rng(0))
    signals = torch.cat([train.batch(crops, 8).signals for _ in range(32)])
    probe = trained["head/weight"][:-train.BANDS].T
    old, new = averages(started), averages(trained)
    found = np.concatenate([encodings(old, signals), encodings(new, signals)], axis=1)
    values, lost = joined(widened(old), side_by_side(old, new), probe, found)
    state = {f"{kind}/{name}": value for kind in ("raw", "ema")
             for name, value in values.items()}
    report.write_arrays(options.output, steps=0, samples=0, seconds=0.0, **state)
    print("{}: the projection loses {:.1%} of the decoder's input and {:.1%} of the pitch".format(
        options.output, *lost))


if __name__ == "__main__":
    raise SystemExit(main())
