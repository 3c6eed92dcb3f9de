"""The WaveNet decoder as code compiled for the processor it runs on.

`Decoder` computes what `synths.nsynth.wavenet.Decoder` computes on XNNPACK, in as little as half
the time where the network is large.  `synths.nsynth.wavenet_steps` has the code itself, and
docs/decoder.md a drawing of it; here are the pointer tables that it works on.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from synths.engines.crew import Crew, Field, aligned, zeros
from synths.engines.kernels import interleaved, packed, packed_bytes
from synths.engines.processors import Processor
from synths.nsynth import wavenet_variables
from synths.nsynth.conditioning import Conditioning
from synths.nsynth.wavenet_steps import StepCode
from synths.nsynth.wavenet_variables import BLOCK_ROWS, CODES, HOP_LENGTH, TOGETHER, Weights

# Steps from one return to Python, and its Ctrl-C, to the next; they divide a frame.
_AT_ONCE = 16


class Decoder:
    """The network set up to generate a fixed number of clips side by side.

    Parameters
    ----------
    prefix, batch, precision, temperature, threads
        As of `synths.nsynth.wavenet.Decoder`.
    target : Processor
        What to compile for, from `processors.processor`.
    """

    def __init__(self, prefix: Path, batch: int, precision: str = "float32",
                 temperature: float = 1.0, threads: int = 1, *, target: Processor) -> None:
        weights = wavenet_variables.load(prefix)
        self.batch = batch
        self._heard = wavenet_variables.frames_heard(len(weights.layers))
        int8, width = precision == "int8", weights.width
        most = 1 << (max(BLOCK_ROWS // batch, 4).bit_length() - 1)
        # Steps that a block of the past covers: t - 2d is known 2d steps ahead, t - d only d, and
        # int8 takes both in one product.  Powers of two, for a step finds its place by bits.
        ahead = 1 if int8 else 2
        older_blocks = [min(ahead * layer.dilation, most) for layer in weights.layers]
        newer_blocks = [min(layer.dilation, block)
                        for layer, block in zip(weights.layers, older_blocks)]
        code = StepCode(target, width, weights.skip_width, batch,
                        {batch * block for block in (*older_blocks, *newer_blocks)}, int8)
        self._order = interleaved(2 * width, code.lanes)

        # What changes from frame to frame.
        pitch = code.pitch // 4
        self._recent, self._condition = zeros(batch, pitch), zeros(batch, pitch)
        self._uniforms = zeros(HOP_LENGTH, batch, dtype=np.float64)
        self._drawn = zeros(HOP_LENGTH, batch, dtype=np.uint8)
        self._rings = [zeros(2 * layer.dilation, batch, pitch) for layer in weights.layers]
        self._conditions = [zeros(batch, 2 * width) for _ in weights.layers]
        self._conditioning = Conditioning(weights, batch)
        self._biases = [layer.bias for layer in weights.layers]     # added with the conditions

        state = {"recent": self._recent, "uniforms": self._uniforms, "drawn": self._drawn,
                 "condition": self._condition, **_heads(code, weights, temperature),
                 **_buffers(code, batch, batch * max(older_blocks), threads)}
        layers = self._layers(code, weights, older_blocks, newer_blocks)
        self._crew = Crew(code, state, layers, threads)

    def _layers(self, code: StepCode, weights: Weights, older_blocks: list[int],
                newer_blocks: list[int]) -> list[dict[str, Field]]:
        """The layers' rows of the pointer table; lets go of the weights that it has copied."""
        rows: list[dict[str, Field]] = []
        for i, layer in enumerate(weights.layers):
            row: dict[str, Field] = {
                "inputs": self._rings[i], "period": 2 * layer.dilation,
                "past": zeros(self.batch * older_blocks[i], 2 * code.width),
                "older_block": older_blocks[i], "newer_block": newer_blocks[i],
                "condition": self._conditions[i],
                "present": _tiles(code, layer.taps[2], self._order),
                "residual": _tiles(code, layer.res), "residual_bias": layer.res_bias}
            if code.int8:
                row |= {"older": _tiles(code, layer.taps[:2].reshape(2 * code.width, -1),
                                        self._order),
                        "newer": 0, "skip": 0, "skip_bias": 0}
                together = weights.layers[i - i % TOGETHER:i + 1]
                if len(together) == TOGETHER or layer is weights.layers[-1]:
                    # The last layer of some has the skips of all.
                    row |= {"skip": _tiles(code, np.concatenate([one.skip for one in together])),
                            "skip_bias": np.sum([one.skip_bias for one in together], axis=0)}
            else:
                row |= {"older": _tiles(code, layer.taps[0], self._order),
                        "newer": _tiles(code, layer.taps[1], self._order),
                        "skip": _tiles(code, layer.skip), "skip_bias": layer.skip_bias}
            del layer.taps, layer.res   # their copies have taken their place
            rows.append(row)
        return rows

    def generate(self, encodings: np.ndarray, uniforms: np.ndarray,
                 made: np.ndarray | None = None) -> Iterator[np.ndarray]:
        """Generate clips, as `synths.nsynth.wavenet.Decoder.generate`."""
        begin = 0 if made is None else made.shape[1] // HOP_LENGTH
        for array in (*self._rings, self._recent):
            array[...] = 0
        with self._crew:
            for frame in range(max(0, begin - self._heard), encodings.shape[1]):
                terms, output = self._conditioning(encodings[:, frame])
                self._condition[:, :output.shape[1]] = output
                for condition, term, bias in zip(self._conditions, terms, self._biases):
                    condition[...] = (term + bias)[:, self._order]
                first = frame * HOP_LENGTH
                self._uniforms[...] = uniforms[:, first:first + HOP_LENGTH].T
                known = wavenet_variables.known_codes(made, frame) if frame < begin else None
                if known is not None:   # made already: only what the layers hear of it is wanted
                    for i, codes in enumerate(known):
                        self._crew.run(first + i, first + i + 1)
                        self._recent[:, 2] = codes[:, 0]
                    continue
                for t in range(first, first + HOP_LENGTH, _AT_ONCE):
                    self._crew.run(t, t + _AT_ONCE)
                yield self._drawn.T.copy()


# Pointer tables ------------------------------------------------------------------------------


def _tiles(code: StepCode, values: np.ndarray, order: np.ndarray | slice = slice(None),
           ) -> np.ndarray:
    """A layer's matrix [inputs, outputs], its columns in an order, as tiles of the code's kind."""
    if not code.int8:
        return aligned(packed(values[:, order], code.lanes))
    values, scale = wavenet_variables.quantise(values)
    return aligned(packed_bytes(values[:, order], scale[order], code.lanes))


def _heads(code: StepCode, weights: Weights, temperature: float) -> dict[str, Field]:
    """The weights at both ends of the network, float32 in int8 too."""
    start = np.zeros([4, code.width], np.float32)    # products take inputs by four
    start[:3] = weights.start / 128
    heat = np.float32(1 / temperature)

    def tiles(values: np.ndarray) -> np.ndarray:
        return aligned(packed(values, code.lanes))

    return {"start": tiles(start), "start_bias": weights.start_bias,
            "skip_start": tiles(weights.skip_start), "skip_start_bias": weights.skip_start_bias,
            "out1": tiles(weights.out1), "out1_bias": weights.out1_bias,
            "logits": tiles(weights.logits * heat), "logits_bias": weights.logits_bias * heat}


def _buffers(code: StepCode, clips: int, past_rows: int, threads: int) -> dict[str, Field]:
    """Where a step keeps what it computes."""
    pitch, past_rows = code.pitch // 4, past_rows if code.int8 else 0
    return {"clips": clips, "skips": zeros(clips, pitch), "hidden": zeros(clips, pitch),
            "odds": zeros(clips, CODES), "zeros": zeros(2 * code.width + CODES),
            "gated": zeros(clips, code.gated_pitch // 4),
            "past_bytes": zeros(past_rows, code.bytes_pitch, dtype=np.uint8),
            "past_scales": zeros(past_rows, 2),
            "bytes": [zeros(clips, code.bytes_pitch, dtype=np.uint8) for _ in range(threads)],
            "scales": [zeros(clips, 2) for _ in range(threads)]}
