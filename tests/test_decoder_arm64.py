"""The decoder's ARM64 bitcode in an emulator: it needs qemu-user and ziglang."""

import ctypes
import importlib.util
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import magenta_nsynth
import numpy as np
import pytest

from synths.nsynth import decoder
from synths.nsynth.decoder import Decoder, LayerStruct, StateStruct

QEMU = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
SIZES = {"width": 160, "skip_width": 40, "num_layers": 12, "num_z": 3, "ae_width": 32,
         "ae_num_layers": 1}


def image(state):
    """Return the memory of a State with addresses that count from its beginning."""
    layers = len(state.layers)
    pointers = [name for name, kind in LayerStruct._fields_ if kind is ctypes.c_void_p]
    tables = layers * ctypes.sizeof(LayerStruct), ctypes.sizeof(StateStruct)
    most = 4 + layers * len(pointers) + len(StateStruct._fields_)
    memory = np.zeros(most * 8 + sum(tables) + 64, np.uint8)
    state_at = most * 8
    layers_at = state_at + tables[1]
    parts, positions, size = [memory], [], -(-memory.size // 64) * 64
    parts.append(np.zeros(size - memory.size, np.uint8))

    def point(position, array):
        nonlocal size
        memory[position:position + 8].view(np.int64)[0] = size
        positions.append(position)
        data = np.frombuffer(array.tobytes() + bytes(-array.nbytes % 64 + 8256), np.uint8)
        parts.append(data[:data.size // 64 * 64])   # prefetches may go beyond an array
        size += parts[-1].size
        return size - parts[-1].size

    places = {name: point(state_at + getattr(StateStruct, name).offset, array)
              for name, array in state.arrays.items()}
    at = state_at + StateStruct.layers.offset
    memory[at:at + 8].view(np.int64)[0] = layers_at
    positions.append(at)
    for i, (arrays, struct) in enumerate(zip(state.layers, state._layer_structs)):
        begin = layers_at + i * ctypes.sizeof(LayerStruct)
        numbers = LayerStruct(struct.dilation, struct.older_block, struct.newer_block)
        memory[begin:begin + ctypes.sizeof(LayerStruct)] = np.frombuffer(bytes(numbers), np.uint8)
        for name, array in arrays.items():
            point(begin + getattr(LayerStruct, name).offset, array)
    head = [len(positions), state_at, places["codes"], state.arrays["codes"].size, *positions]
    memory[:8 * len(head)].view(np.int64)[:] = head
    return b"".join(part.tobytes() for part in parts)


@pytest.mark.skipif(QEMU is None, reason="needs qemu-user (qemu-aarch64)")
@pytest.mark.skipif(importlib.util.find_spec("ziglang") is None, reason="needs ziglang")
@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("target", ["neon", "neon-dot"])
def test_decoder_arm64_codes_are_the_machines_own(target, precision, tmp_path, monkeypatch):
    prefix = tmp_path / "model.ckpt-1"
    magenta_nsynth.save_checkpoint(prefix, magenta_nsynth.random_weights(SIZES))
    rng = np.random.default_rng(1)
    encodings, uniforms = rng.standard_normal([5, 1, 3], dtype=np.float32), rng.random([5, 512])
    expected = next(Decoder(prefix, 5, precision).generate(encodings, uniforms))

    monkeypatch.setattr(decoder, "Code", lambda *_: None)   # this machine cannot run it
    foreign = Decoder(prefix, 5, precision, target=target)
    foreign._condition(encodings[:, 0])
    state, = foreign._states
    state.arrays["uniforms"][...] = uniforms.T
    (tmp_path / "state").write_bytes(image(state))
    (tmp_path / "sizes.c").write_text("".join(
        f"const long long {name.upper()} = {value};\n"
        for name, value in asdict(foreign._sizes).items()))
    bitcode = shutil.copy(decoder.BITCODE / f"{target}.bc", tmp_path)
    subprocess.run([sys.executable, "-m", "ziglang", "cc", "-target", "aarch64-linux-musl",
                    "-static", f"-mcpu={decoder.TARGETS[target].cpu.replace('-', '_')}", "-O2",
                    "-fno-sanitize=all", Path(__file__).with_name("decoder_arm64.c"),
                    tmp_path / "sizes.c", bitcode, "-o", tmp_path / "program"], check=True)
    subprocess.run([QEMU, "-cpu", "max", tmp_path / "program", tmp_path / "state",
                    tmp_path / "codes"], check=True)
    codes = np.fromfile(tmp_path / "codes", np.uint8).reshape(512, 5).T
    first = [int(np.argmax(row != wanted)) if (row != wanted).any() else 512
             for row, wanted in zip(codes, expected)]
    # Where a random number is within about 1e-6 of an edge, rounding decides.
    assert np.mean(np.array(first) == 512) >= 0.8, first
