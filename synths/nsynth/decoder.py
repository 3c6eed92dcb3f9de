"""The WaveNet decoder, which turns encodings into mu-law codes with compiled C (decoder.c).

decoder.c is bundled as LLVM bitcode for several processors.  `Decoder` arranges the weights as the
C code reads them.  LLVM (llvmlite) then compiles the bitcode for the sizes of a run.
docs/decoder.md explains both.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from ctypes import c_int64, c_void_p
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from synths import InputError
from synths.nsynth.conditioning import Conditioning
from synths.nsynth.wavenet_variables import (
    CODES,
    GROUP,
    HOP_LENGTH,
    SMALL,
    Layer,
    Weights,
    context_frames,
    dilation,
    load,
    quantise,
)

BITCODE = Path(__file__).with_name("bitcode")
_CHANNELS = 32      # the network's widths are padded with zeros to a multiple of this
_BLOCK_ROWS = 384   # rows (clips times steps) of a product of past taps, which fit in the cache
_STEPS = 64         # time steps between two checks for Ctrl-C; a frame is a multiple of it


# Limits of a group: bytes of the clips' ring buffers, and number of clips.
_MEMORY, _MOST_CLIPS = 160 << 20, 64

# Targets -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """A type of processor for which decoder.c is compiled."""

    machine: str                    # "x86_64" or "aarch64"
    cpu: str                        # LLVM's name of the oldest suitable processor
    lanes: int                      # float32 numbers in a register
    features: tuple[str, ...] = ()  # the instructions that the processor must have


_AVX2 = ("avx2", "bmi", "bmi2", "lzcnt", "fma")
_AVX512 = (*_AVX2, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
# Fastest first; decoder.c describes how it uses each.
TARGETS = {
    "avx512-vnni": Target("x86_64", "cascadelake", 16, (*_AVX512, "avx512vnni")),
    "avx512": Target("x86_64", "skylake-avx512", 16, _AVX512),
    "avx-vnni": Target("x86_64", "alderlake", 8, (*_AVX2, "avxvnni", "gfni", "vaes")),
    "avx2": Target("x86_64", "haswell", 8, _AVX2),
    "x86-64": Target("x86_64", "x86-64", 4),
    "neon-dot": Target("aarch64", "apple-m1", 4, ("dotprod",)),
    "neon": Target("aarch64", "generic", 4),
}


def targets() -> list[str]:
    """Return the names of the targets that this machine can run, fastest first."""
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(),
                                                          platform.machine().lower())
    has = dict(llvm.get_host_cpu_features())
    if sys.platform == "darwin":    # every Apple silicon chip has it
        has["dotprod"] = True
    return [name for name, target in TARGETS.items()
            if target.machine == machine and all(has.get(one) for one in target.features)]


def default_target() -> str:
    """Return the fastest target, or the one named by the environment variable NSYNTH_TARGET."""
    possible = targets()
    if not possible:
        raise InputError("NSynth decodes only on x86-64 and ARM64 processors, not on "
                         f"{platform.machine()}.")
    wanted = os.environ.get("NSYNTH_TARGET", possible[0])
    if wanted not in possible:
        raise InputError(f"NSYNTH_TARGET is {wanted!r}, but this machine can run only "
                         f"{', '.join(possible)}.")
    return wanted


# Machine code --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sizes:
    """The sizes of a run, which are compiled into decoder.c as constants."""

    clips: int
    threads: int
    layers: int
    width: int
    skip: int
    int8: int


class Code:
    """The machine code of decoder.c, compiled for a target and the sizes of a run.

    `run` takes the address of a `State`, a thread number, the first and last time step, and whether
    the codes are known.  It runs without Python's global lock.
    """

    def __init__(self, target: str, sizes: Sizes) -> None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        module = llvm.parse_bitcode((BITCODE / f"{target}.bc").read_bytes())
        constants = llvm.parse_assembly("".join(
            f"@{name.upper()} = constant i64 {value}\n" for name, value in asdict(sizes).items()))
        machine = llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(
            cpu=TARGETS[target].cpu, opt=3, jit=True)
        for part in (module, constants):
            part.triple, part.data_layout = llvm.get_process_triple(), str(machine.target_data)
        module.link_in(constants)
        for one in [*module.global_variables, *module.functions]:
            if not one.is_declaration and one.name != "run":
                one.linkage = "internal"
        builder = llvm.create_pass_builder(
            machine, llvm.create_pipeline_tuning_options(speed_level=2))
        builder.getModulePassManager().run(module, builder)
        self._engine = llvm.create_mcjit_compiler(module, machine)
        if sys.platform == "win32":
            yields: Any = ctypes.WinDLL("kernel32").SwitchToThread
        else:
            yields = ctypes.CDLL(None).sched_yield
        for function in module.functions:
            if function.name == "yield_thread":     # a single thread never waits
                self._engine.add_global_mapping(function, ctypes.cast(yields, c_void_p).value)
        self._engine.finalize_object()
        self.run = ctypes.CFUNCTYPE(None, c_void_p, c_int64, c_int64, c_int64, c_int64)(
            self._engine.get_function_address("run"))


# The structures of decoder.c -----------------------------------------------------------------


class LayerStruct(ctypes.Structure):
    """`Layer` in decoder.c."""

    _fields_ = [*((name, c_int64) for name in ("dilation", "older_block", "newer_block")),
                *((name, c_void_p) for name in (
                    "inputs", "past", "condition", "older", "newer", "present", "residual", "skip",
                    "residual_bias", "skip_bias"))]


class StateStruct(ctypes.Structure):
    """`State` in decoder.c."""

    _fields_ = [(name, c_void_p) for name in (
        "barrier", "recent", "skips", "hidden", "logits", "gated", "start", "start_bias",
        "skip_start", "skip_start_bias", "out1", "out1_bias", "condition", "out2", "out2_bias",
        "zeros", "uniforms", "codes", "past_bytes", "bytes", "past_scales", "scales", "layers")]


Arrays = dict[str, np.ndarray]


def _zeros(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    """Return an array of zeros that is aligned to a cache line."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.zeros(size + 64, np.uint8)
    begin = -memory.ctypes.data % 64
    return memory[begin:begin + size].view(dtype).reshape(shape)


class State:
    """The memory of clips that are decoded in parallel, and the C structures that point to it.

    The fields of `StateStruct` point to `arrays`, those of each `LayerStruct` to one of `layers`.
    """

    def __init__(self, sizes: Sizes, weights: Arrays, layer_weights: list[Arrays]) -> None:
        clips, width = sizes.clips, sizes.width
        stride, byte_stride = max(width, sizes.skip) + 16, GROUP * width + 64
        most = 1 << (max(_BLOCK_ROWS // clips, 4).bit_length() - 1)
        # t - 2d is known 2d steps ahead, t - d only d; int8 computes both in one product.
        ahead = 1 if sizes.int8 else 2
        dilations = [dilation(i) for i in range(sizes.layers)]
        blocks = [min(ahead * d, most) for d in dilations]
        past_rows = clips * max(blocks) * sizes.int8
        rows, all_threads = clips, sizes.threads * clips * sizes.int8
        self.arrays: Arrays = weights | {
            "barrier": _zeros(3, 8, dtype=np.int64), "recent": _zeros(rows, stride),
            "skips": _zeros(rows, stride), "hidden": _zeros(rows, stride),
            "logits": _zeros(rows, CODES), "condition": _zeros(rows, stride),
            "gated": _zeros(rows, GROUP * width + 16 if sizes.int8 else stride),
            "zeros": _zeros(2 * width + CODES + sizes.skip),
            "uniforms": _zeros(HOP_LENGTH, rows, dtype=np.float64),
            "codes": _zeros(HOP_LENGTH, rows, dtype=np.uint8),
            "past_bytes": _zeros(past_rows, byte_stride, dtype=np.uint8),
            "past_scales": _zeros(past_rows, 2),
            "bytes": _zeros(all_threads, byte_stride, dtype=np.uint8),
            "scales": _zeros(all_threads, 2)}
        self.layers = [given | {"inputs": _zeros(2 * d, rows, stride),
                                "past": _zeros(block * rows, 2 * width),
                                "condition": _zeros(rows, 2 * width)}
                       for given, d, block in zip(layer_weights, dilations, blocks)]
        self._layer_structs = (LayerStruct * sizes.layers)(*(
            LayerStruct(d, block, min(d, block),
                        **{name: array.ctypes.data for name, array in arrays.items()})
            for arrays, d, block in zip(self.layers, dilations, blocks)))
        self.struct = StateStruct(layers=ctypes.addressof(self._layer_structs), **{
            name: array.ctypes.data for name, array in self.arrays.items()})

    def reset(self) -> None:
        """Reset the state to the silence before the first sample."""
        for array in (self.arrays["recent"], self.arrays["barrier"],
                      *(layer["inputs"] for layer in self.layers)):
            array[...] = 0


# Weights as decoder.c reads them -------------------------------------------------------------


def _padded(array: np.ndarray, *sizes: int) -> np.ndarray:
    """Return the array with its last axes padded with zeros to the given sizes."""
    before = array.ndim - len(sizes)
    return np.pad(array, [(0, 0)] * before + [
        (0, size - had) for size, had in zip(sizes, array.shape[before:])])


def _padded_gates(array: np.ndarray, width: int, *before: int) -> np.ndarray:
    """Return an array of gates and filters (last axis), each padded with zeros."""
    halves = array.reshape(*array.shape[:-1], 2, -1)
    return _padded(halves, *before, 2, width).reshape(*halves.shape[:-2 - len(before)], *before,
                                                      2 * width)


def padded(weights: Weights) -> Weights:
    """Return the weights, padded with zeros so that the widths are multiples of 32."""
    width, skip = (-(-n // _CHANNELS) * _CHANNELS for n in (weights.width, weights.skip_width))
    channels = weights.channels
    layers = [Layer(y.dilation, _padded_gates(y.taps, width, width), _padded_gates(y.bias, width),
                    _padded_gates(y.cond, width, channels), _padded_gates(y.cond_bias, width),
                    _padded(y.res, width, width), _padded(y.res_bias, width),
                    _padded(y.skip, width, skip), _padded(y.skip_bias, skip))
              for y in weights.layers]
    return Weights(_padded(weights.start, width), _padded(weights.start_bias, width),
                   _padded(weights.skip_start, width, skip), _padded(weights.skip_start_bias, skip),
                   _padded(weights.out1, skip, skip), _padded(weights.out1_bias, skip),
                   _padded(weights.cond_out1, skip), _padded(weights.cond_out1_bias, skip),
                   _padded(weights.logits, skip, CODES), weights.logits_bias, layers)


def _aligned(array: np.ndarray) -> np.ndarray:
    """Return a copy that is aligned to a cache line."""
    copy = _zeros(*array.shape, dtype=array.dtype)
    copy[...] = array
    return copy


class Layout:
    """The layout of the weights: tiles that are as wide as two of the target's vector registers.

    `gate_order` [2 width] is the order of the gate columns: as many gates as fit in a register,
    then the filters of the same channels, and so on.
    """

    def __init__(self, target: str, width: int, int8: bool) -> None:
        self._lanes, self._int8 = TARGETS[target].lanes, int8
        self.gate_order = np.arange(2 * width).reshape(2, -1, self._lanes).swapaxes(0, 1).ravel()

    def floats(self, matrix: np.ndarray) -> np.ndarray:
        """Return a float32 matrix [inputs, outputs] as tiles [outputs / tile, inputs, tile]."""
        return _aligned(matrix.reshape(len(matrix), -1, 2 * self._lanes).swapaxes(0, 1))

    def tiles(self, matrix: np.ndarray, gates: bool = False) -> np.ndarray:
        """Return a layer's matrix [inputs, outputs] as tiles, in the precision of the run.

        In int8, the weights of four consecutive inputs are stored next to each other.  Each tile
        ends with the scales and sums of its columns.
        """
        order = self.gate_order if gates else slice(None)
        if not self._int8:
            return self.floats(matrix[:, order])
        values, scale = quantise(matrix)
        values, inputs, tile = values[:, order], len(matrix), 2 * self._lanes
        return _aligned(np.concatenate([
            values.reshape(inputs // 4, 4, -1, tile).transpose(2, 0, 3, 1).reshape(
                -1, inputs * tile),
            scale[order].astype(np.float32).reshape(-1, tile).view(np.int8),
            values.sum(axis=0, dtype=np.int32).reshape(-1, tile).view(np.int8)], axis=1))

    def network(self, weights: Weights, temperature: float) -> tuple[Arrays, list[Arrays]]:
        """Return the arrays of the first and output layers, and those of each residual layer."""
        inverse = np.float32(1 / temperature)
        ends = {"start": self.floats(np.pad(weights.start / 128, [(0, 1), (0, 0)])),
                "start_bias": weights.start_bias,
                "skip_start": self.floats(weights.skip_start),
                "skip_start_bias": weights.skip_start_bias,
                "out1": self.floats(weights.out1), "out1_bias": weights.out1_bias,
                "out2": self.floats(weights.logits * inverse),
                "out2_bias": weights.logits_bias * inverse}
        layers: list[Arrays] = []
        for i, y in enumerate(weights.layers):
            arrays = {"present": self.tiles(y.taps[2], gates=True), "residual": self.tiles(y.res),
                      "residual_bias": y.res_bias}
            if self._int8:
                arrays["older"] = self.tiles(y.taps[:2].reshape(-1, y.taps.shape[2]), gates=True)
            else:
                arrays |= {"older": self.tiles(y.taps[0], gates=True),
                           "newer": self.tiles(y.taps[1], gates=True)}
            group = weights.layers[i - i % GROUP:i + 1] if self._int8 else [y]
            if not self._int8 or len(group) == GROUP or y is weights.layers[-1]:
                arrays |= {"skip": self.tiles(np.concatenate([one.skip for one in group])),
                           "skip_bias": np.sum([one.skip_bias for one in group], axis=0)}
            layers.append(arrays)
        return ends, layers


# Decoding ------------------------------------------------------------------------------------


def groups(width: int, layers: int, batch: int) -> list[slice]:
    """Split a batch into groups of nearly equal size, one for each `Decoder`."""
    per_clip = sum(2 * dilation(i) for i in range(layers)) * width * 4    # bytes
    n = -(-batch // min(max(_MEMORY // per_clip, 1), _MOST_CLIPS))
    edges = [batch * i // n for i in range(n + 1)]
    return [slice(start, stop) for start, stop in zip(edges, edges[1:])]


class Decoder:
    """A network that decodes a fixed number of clips in parallel.

    In a large network, the threads share every time step.  In a small one, time steps are too short
    for that, so each thread decodes its own clips.  The logits are divided by the temperature.
    """

    def __init__(self, prefix: Path, batch: int, precision: str = "float32",
                 temperature: float = 1.0, threads: int = 1, target: str | None = None) -> None:
        weights = padded(load(prefix))
        self.batch = batch
        self._context = context_frames(len(weights.layers))
        target = target or default_target()
        teams = min(threads, batch) if weights.width <= SMALL else 1
        sizes = Sizes(-(-batch // teams), threads if teams == 1 and weights.width > SMALL else 1,
                      len(weights.layers), weights.width, weights.skip_width,
                      int(precision == "int8"))
        self._sizes = sizes
        self._conditioning = Conditioning(weights, teams * sizes.clips)
        self._biases = [layer.bias for layer in weights.layers]
        layout = Layout(target, weights.width, bool(sizes.int8))
        self._gate_order = layout.gate_order
        network = layout.network(weights, temperature)
        self._states = [State(sizes, *network) for _ in range(teams)]
        self._code = Code(target, sizes)

    def generate(self, encodings: np.ndarray, uniforms: Any,
                 made: np.ndarray | None = None) -> Iterator[np.ndarray]:
        """Generate clips from silence; yield the codes of one frame at a time, uint8 [batch, 512].

        Sample i of clip b is the first code whose cumulative probability reaches `uniforms[b, i]`,
        as in Magenta's `fastgen.sample_categorical`.  The columns [:, first:last] of `uniforms` are
        read frame by frame, in order.  `made` [batch, frames * 512] has the codes of the first
        frames, from an earlier run.  Only later frames are generated; the known frames within the
        receptive field run through the network again.
        """
        first = 0 if made is None else made.shape[1] // HOP_LENGTH
        more = len(self._states) * self._sizes.clips - self.batch     # the last state's idle rows
        for state in self._states:
            state.reset()
        with ThreadPoolExecutor(len(self._states) * self._sizes.threads) as pool:
            for frame in range(max(0, first - self._context), encodings.shape[1]):
                span = slice(frame * HOP_LENGTH, (frame + 1) * HOP_LENGTH)
                self._condition(np.pad(encodings[:, frame], [(0, more), (0, 0)]))
                known = frame < first
                source: Any = made if known else uniforms
                name = "codes" if known else "uniforms"
                rows = np.pad(source[:, span], [(0, more), (0, 0)])
                for state, part in zip(self._states, np.split(rows, len(self._states))):
                    state.arrays[name][...] = part.T
                for t in range(span.start, span.stop, _STEPS):
                    self._run(pool, t, t + _STEPS, known)
                if not known:
                    yield np.concatenate([state.arrays["codes"].T for state in self._states]
                                         )[:self.batch]

    def _condition(self, encodings: np.ndarray) -> None:
        """Copy the conditioning terms of an encoding frame into the states."""
        terms, output = self._conditioning(encodings)
        clips = self._sizes.clips
        for i, state in enumerate(self._states):
            rows = slice(i * clips, (i + 1) * clips)
            state.arrays["condition"][:, :output.shape[1]] = output[rows]
            for layer, term, bias in zip(state.layers, terms, self._biases):
                layer["condition"][...] = (term[rows] + bias)[:, self._gate_order]

    def _run(self, pool: ThreadPoolExecutor, first: int, last: int, known: bool) -> None:
        """Compute some time steps on all threads."""
        try:
            for call in [pool.submit(self._code.run, ctypes.addressof(state.struct), thread, first,
                                     last, known)
                         for state in self._states for thread in range(self._sizes.threads)]:
                call.result()
        except BaseException:   # Ctrl-C: started threads must not wait for the others
            for state in self._states:
                state.arrays["barrier"][2] = 1
            raise
