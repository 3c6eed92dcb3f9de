"""Checkpoints are found, read as TensorFlow reads them, and refused if they are damaged."""

import contextlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
from leveldb_table import checkpoint, table, varint

from synths import CheckpointError
from synths.nsynth import wavenet_variables
from synths.weights import checkpoints, names, tensor_bundle

NSYNTH_NAMES = {"ae_bottleneck/W": (1, 1, 8, 16), "ae_bottleneck/biases": (16,)}
GANSYNTH_NAMES = {
    "Generator/progressive_gan_generator/x/conv2d/kernel": (2, 16, 9, 4),
    "Generator/progressive_gan_generator/x/conv2d/kernel/ExponentialMovingAverage": (2, 16, 9, 4),
}


@pytest.fixture(scope="module")
def tf():
    return pytest.importorskip("tensorflow")


def save(prefix, tensors, slices=None):
    """Write a checkpoint with TensorFlow; `slices` says which are pieces, and of what."""
    import tensorflow as tf
    Path(prefix).parent.mkdir(parents=True, exist_ok=True)
    names = [name.split("#")[0] for name in tensors]
    slices = [(slices or {}).get(name, "") for name in tensors]
    tf.raw_ops.SaveV2(prefix=str(prefix), tensor_names=names, shape_and_slices=slices,
                      tensors=[tf.convert_to_tensor(tensor) for tensor in tensors.values()])
    return Path(prefix)


def save_model(prefix, variables):
    rng = np.random.default_rng(3)
    tensors = {name: rng.normal(size=shape).astype(np.float32)
               for name, shape in variables.items()}
    return save(prefix, {**tensors, "global_step": np.int64(7)})


def assert_as_tensorflow(prefix):
    import tensorflow as tf
    reader = tf.train.load_checkpoint(str(prefix))
    expected = {name: tuple(shape) for name, shape in reader.get_variable_to_shape_map().items()}
    assert tensor_bundle.shapes(prefix) == expected
    arrays = tensor_bundle.read(prefix, expected)
    for name, array in arrays.items():
        tensor = reader.get_tensor(name)
        if tensor.dtype.name == "bfloat16":
            tensor = tensor.astype(np.float32)
        assert array.dtype == tensor.dtype and array.shape == tensor.shape, name
        assert np.array_equal(array, tensor, equal_nan=tensor.dtype.kind in "fc"), name
    return arrays


# The reader


def test_every_type_and_shape(tf, tmp_path):
    rng = np.random.default_rng(0)
    tensors = {f"a/{name}": rng.normal(0, 40, (3, 4, 5)).astype(name)
               for name in ("float32", "float64", "float16", "int32", "int64", "int16", "int8",
                            "complex64")}
    tensors |= {
        "unsigned": rng.integers(0, 256, 7, np.uint8), "flags": rng.random(9) < 0.5,
        "bfloat16": tf.cast(rng.normal(size=(5, 2)), tf.bfloat16),
        "special": np.array([np.nan, np.inf, -np.inf, -0.0], np.float32),
        "global_step": np.int64(11_000_000_000), "scalar": np.float32(0.1),
        "empty": np.zeros((0, 4), np.float32), "name with spaces \u00e9/W": np.ones(2, np.float32),
    }
    arrays = assert_as_tensorflow(save(tmp_path / "model.ckpt-1", tensors))
    assert arrays["global_step"] == 11_000_000_000 and arrays["empty"].shape == (0, 4)


def test_partitioned_variables_in_several_files(tf, tmp_path):
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(10, 3)).astype(np.float32)
    grid = rng.normal(size=(4, 200)).astype(np.float32)
    parts = []
    for shard, (low, high) in enumerate([(0, 3), (3, 10)]):
        parts.append(str(save(
            tmp_path / f"part{shard}",
            {"rows": rows[low:high], "a": grid[:2, low * 20:high * 20],
             "a#": grid[2:, low * 20:high * 20], f"only_{shard}": np.float32(shard)},
            {"rows": f"10 3 {low},{high - low}:-",
             "a": f"4 200 0,2:{low * 20},{(high - low) * 20}",
             "a#": f"4 200 2,2:{low * 20},{(high - low) * 20}"})))
    tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=parts,
                                  destination_prefix=str(tmp_path / "model.ckpt"))
    assert len(list(tmp_path.glob("model.ckpt.data-*-of-00002"))) == 2
    arrays = assert_as_tensorflow(tmp_path / "model.ckpt")
    assert np.array_equal(arrays["rows"], rows) and np.array_equal(arrays["a"], grid)
    tensor_bundle.check(tmp_path / "model.ckpt")


def test_index_of_several_blocks(tf, tmp_path):
    rng = np.random.default_rng(2)
    prefix = save(tmp_path / "many", {
        f"{rng.bytes(40).hex()}/{i}": np.full(i % 3, i, np.float32) for i in range(3500)})
    assert prefix.with_suffix(".index").stat().st_size > 300_000     # blocks are 256 KB
    assert_as_tensorflow(prefix)


@pytest.fixture(scope="module")
def small(tf, tmp_path_factory):
    return save(tmp_path_factory.mktemp("small") / "model.ckpt-5", {
        "first": np.arange(6, dtype=np.float32).reshape(2, 3), "second": np.arange(50.0)})


@pytest.fixture
def copy(small, tmp_path):
    for file in small.parent.glob("model.ckpt-5.*"):
        shutil.copy(file, tmp_path)
    return tmp_path / small.name


def index_of(prefix):
    return prefix.with_name(prefix.name + ".index")


def data_of(prefix):
    return prefix.with_name(prefix.name + ".data-00000-of-00001")


def test_index_cut_short_anywhere_is_an_error(copy):
    whole = index_of(copy).read_bytes()
    for size in range(len(whole)):
        index_of(copy).write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match="model.ckpt-5"):
            tensor_bundle.shapes(copy)


def test_index_with_any_byte_changed_is_an_error_or_harmless(copy):
    whole = index_of(copy).read_bytes()
    shapes = tensor_bundle.shapes(copy)
    errors = 0
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 0x15
        index_of(copy).write_bytes(damaged)
        try:
            assert tensor_bundle.shapes(copy) == shapes     # padding, the unused meta index
        except CheckpointError:
            errors += 1
    assert errors > len(whole) // 2


@pytest.mark.parametrize("damage", ["cut", "changed", "missing"])
def test_data_file_damaged_is_noticed(copy, damage):
    data = data_of(copy).read_bytes()  # first, second
    if damage == "missing":
        data_of(copy).unlink()
    else:
        data_of(copy).write_bytes(data[:30] if damage == "cut" else data[:-1] + b"x")
    with pytest.raises(CheckpointError, match="data-00000|second"):
        tensor_bundle.read(copy, ["second"])
    with contextlib.nullcontext() if damage == "changed" else pytest.raises(
            CheckpointError, match="data-00000"):
        tensor_bundle.check(copy)
    if damage != "missing":  # only the bytes that are asked for are read
        assert tensor_bundle.read(copy, ["first"])["first"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_read_unknown_variable_is_an_error(small):
    with pytest.raises(CheckpointError, match="third"):
        tensor_bundle.read(small, ["first", "third"])


def test_strings_are_listed_but_not_read(tf, tmp_path):
    prefix = save(tmp_path / "object", {"graph": np.array("text"), "W": np.zeros(3)})
    assert set(tensor_bundle.shapes(prefix)) == {"graph", "W"}
    with pytest.raises(CheckpointError, match="not numeric"):
        tensor_bundle.read(prefix, ["graph"])


def test_checkpoint_of_version_1_is_an_error(tf, tmp_path):
    tf.raw_ops.Save(filename=str(tmp_path / "old.index"), tensor_names=["W"], data=[tf.ones(3)])
    with pytest.raises(CheckpointError, match="version 2"):
        tensor_bundle.shapes(tmp_path / "old")


HEADER = (b"", b"\x08\x01")
ENTRY = b"\x08\x01\x12"  # float32, then its shape


@pytest.mark.parametrize("content", [
    b"", b"short", b"RIFF" + bytes(3000), table([[(b"key", b"value")]]),
    table([[(b"", HEADER[1] + b"\x10\x01")]]), table([[HEADER]], kind=1),
    table([[HEADER, (b"W", ENTRY)]]), table([[HEADER, (b"W", ENTRY + b"\xff" * 10)]]),
    table([[HEADER, (b"W", b"\x08" + b"\x80" * 400_000 + b"\x01")]]),
    table([[HEADER, (b"W", ENTRY + varint(280) + b"\x12\x02\x08\x01" * 70)]])])
def test_index_of_something_else_is_an_error(tmp_path, content):
    """Foreign, big-endian, compressed, or with entries that are impossible."""
    (tmp_path / "x.index").write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        tensor_bundle.shapes(tmp_path / "x")


def test_entry_with_any_byte_replaced_is_read_or_an_error(tmp_path):
    good = b"\x08\x01\x12\x04\x12\x02\x08\x03\x28\x0c"  # float32 [3], 12 bytes
    crc = b"\x35" + tensor_bundle.masked(google_crc32c.value(bytes(12))).to_bytes(4, "little")
    data_of(tmp_path / "x").write_bytes(bytes(100))
    read = 0
    for position in range(len(good)):
        for byte in (*range(0, 24), 0x28, 0x30, 0x35, 0x3A, 0x7F, 0x80, 0x92, 0xFF, good[position]):
            value = good[:position] + bytes([byte]) + good[position + 1:] + crc
            index_of(tmp_path / "x").write_bytes(table([[HEADER, (b"W", value)]]))
            with contextlib.suppress(CheckpointError):
                read += tensor_bundle.read(tmp_path / "x", ["W"])["W"].size == 3
    assert read >= len(good)  # the unchanged one each time, int32, unsigned, ...


def test_entry_that_claims_too_much_asks_for_no_memory(tmp_path):
    huge = b"\x08\x01\x12\x09\x12\x07\x08" + varint(2**35) + b"\x28" + varint(2**37)
    index_of(tmp_path / "x").write_bytes(table([[HEADER, (b"W", huge)]]))
    data_of(tmp_path / "x").write_bytes(bytes(100))
    with pytest.raises(CheckpointError, match="cut short"):
        tensor_bundle.read(tmp_path / "x", ["W"])


# Finding a checkpoint


@pytest.fixture(scope="module")
def weights(tf, tmp_path_factory):
    """A checkpoint of each model."""
    root = tmp_path_factory.mktemp("weights")
    save_model(root / "nsynth" / "model.ckpt-7", NSYNTH_NAMES)
    for stage in ("stage_00009", "stage_00010", "stage_00100"):
        save_model(root / "gansynth" / stage / "model.ckpt-3", GANSYNTH_NAMES)
    (root / "gansynth" / "stage_00101").mkdir()       # begun, nothing saved yet
    (root / "gansynth" / "experiment.json").write_text(json.dumps({"num_resolutions": 7}))
    return root


def test_resolve_prefix_index_and_folder_lead_to_the_prefix(small, monkeypatch):
    for way in (small, str(small), index_of(small), small.parent, str(small.parent) + "/"):
        assert checkpoints.resolve(way) == small
    monkeypatch.chdir(small.parent)
    assert checkpoints.resolve("model.ckpt-5") == Path("model.ckpt-5")
    assert checkpoints.resolve(".") == Path("model.ckpt-5")


@pytest.mark.parametrize("state, step", [
    (None, 1000), ("model.ckpt-200", 200), ("/gone/far away/model.ckpt-200", 200),
    (r"C:\\gone\\model.ckpt-200", 200), ("/gone/model.ckpt-300", 1000)])
def test_resolve_folder_takes_the_named_or_the_latest_step(small, tmp_path, state, step):
    for each in (5, 90, 200, 1000):
        for file in small.parent.glob("model.ckpt-5.*"):
            shutil.copy(file, tmp_path / file.name.replace("-5.", f"-{each}."))
    if state:
        (tmp_path / "checkpoint").write_text(f'model_checkpoint_path: "{state}"\n')
    assert checkpoints.resolve(tmp_path) == tmp_path / f"model.ckpt-{step}"


def test_gansynth_folder_leads_to_its_last_stage(weights, tmp_path):
    folder = weights / "gansynth"
    prefix = checkpoints.resolve(folder)
    assert prefix == folder / "stage_00100" / "model.ckpt-3"
    assert checkpoints.experiment(prefix) == {"num_resolutions": 7}
    shutil.copytree(folder, tmp_path / "outer" / "acoustic_only")
    assert checkpoints.resolve(tmp_path / "outer").parent.name == "stage_00100"
    assert checkpoints.resolve(weights / "nsynth").name == "model.ckpt-7"
    with pytest.raises(CheckpointError, match="no checkpoint"):
        checkpoints.resolve(weights)             # two: which one is meant?


def test_resolve_without_a_checkpoint_is_an_error(small, tmp_path):
    (tmp_path / "sound.wav").write_bytes(b"RIFF")
    for way in (tmp_path / "none" / "model.ckpt", tmp_path / "none.index", tmp_path,
                tmp_path / "sound.wav", "x" * 300, "a\0b", "n" * 12_700):
        with pytest.raises(CheckpointError, match="no checkpoint"):
            checkpoints.resolve(way)


# Names


@pytest.fixture
def house(weights, tmp_path, monkeypatch):
    """A folder of checkpoints with both starters and nothing else."""
    shutil.copytree(weights / "nsynth", tmp_path / "nsynth_starter")
    shutil.copytree(weights / "gansynth", tmp_path / "gansynth_starter")
    monkeypatch.setattr(names, "CHECKPOINTS_DIR", tmp_path)
    return tmp_path


def find(name, model, house, **options):
    return checkpoints.find(name, model, target_dir=house, **options)


def test_default_is_the_starter_until_official_weights_are_there(house, weights):
    prefix = find(None, "nsynth", house)
    assert prefix == house / "nsynth_starter" / "model.ckpt-7"
    assert checkpoints.describe(prefix, "nsynth", house).startswith(
        "bundled nsynth_starter (")
    shutil.copytree(weights / "nsynth", house / "wavenet-ckpt")
    prefix = find(None, "nsynth", house)
    assert prefix == house / "wavenet-ckpt" / "model.ckpt-7"
    assert checkpoints.describe(prefix, "nsynth", house).startswith("official wavenet-ckpt (")
    assert find("nsynth_starter", "nsynth", house) == house / "nsynth_starter" / "model.ckpt-7"
    assert find(None, "gansynth", house).parent.parent == house / "gansynth_starter"


def test_broken_official_weights_are_not_passed_over(house):
    (house / "wavenet-ckpt").mkdir()
    with pytest.raises(CheckpointError, match="wavenet-ckpt"):
        find(None, "nsynth", house)


def test_any_path(house, weights):
    prefix = find(weights / "nsynth", "nsynth", house)
    assert prefix == weights / "nsynth" / "model.ckpt-7"
    assert checkpoints.describe(prefix, "nsynth", house).startswith(f"checkpoint {prefix} (")


def test_find_unknown_name_lists_the_known_ones(house):
    for name in ("wavenet", house / "no" / "such"):
        with pytest.raises(CheckpointError, match="nsynth_starter"):
            find(name, "nsynth", house)


def test_official_name_not_there_says_how_to_get_it(house):
    with pytest.raises(CheckpointError, match="--download"):
        find("acoustic_only", "gansynth", house)


def test_weights_of_the_other_model(house, weights):
    for name in ("gansynth_starter", weights / "gansynth"):
        with pytest.raises(CheckpointError, match="of GANSynth"):
            find(name, "nsynth", house)
    with pytest.raises(CheckpointError, match="of NSynth"):
        find(weights / "nsynth", "gansynth", house)


def test_weights_of_no_model_of_ours(house, small):
    with pytest.raises(CheckpointError, match="another model"):
        find(small, "nsynth", house)


def test_truncated_weights_are_refused_when_they_are_found(house):
    data = house / "nsynth_starter" / "model.ckpt-7.data-00000-of-00001"
    with data.open("r+b") as file:
        file.truncate(64)
    with pytest.raises(CheckpointError, match="cut short"):
        find(None, "nsynth", house)


def test_description_counts_each_parameter_once(house):
    prefix = find(None, "gansynth", house)      # 2 x 16 x 9 x 4 numbers, raw and averaged
    assert checkpoints.describe(prefix, "gansynth", house).endswith("(0.0012 M parameters, "
                                                                    "0.0092 MB)")


def test_no_tensorflow_and_no_network_code_on_the_way_to_weights(weights):
    program = ("import sys; from synths.weights import checkpoints as c; "
               f"c.read(c.find({str(weights / 'nsynth')!r}, 'nsynth'), ['ae_bottleneck/W']); "
               "heavy = {'tensorflow', 'magenta', 'urllib.request'}; "
               "print(heavy & set(sys.modules))")
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True,
                         check=True, cwd=Path(__file__).resolve().parent.parent)
    assert out.stdout.strip() == "set()"


# Models


@pytest.mark.parametrize("shape", [(), (3,), (1, 3, 0, 2)])
def test_parameters_of_other_axes_are_an_error(tmp_path, shape):
    index, data = checkpoint({"ae_bottleneck/W": np.zeros((1, 1, 8, 16)),
                              "res_1/W": np.zeros(shape)})
    index_of(tmp_path / "m").write_bytes(index)
    data_of(tmp_path / "m").write_bytes(data)
    with pytest.raises(CheckpointError, match="4 axes"):
        checkpoints.find(tmp_path, "nsynth")


def test_decoder_with_a_variable_of_too_few_axes_is_an_error(tmp_path):
    index, data = checkpoint({"startconv/W": np.zeros(3), "cond_map_out1/W": np.zeros(3)})
    index_of(tmp_path / "m").write_bytes(index)
    data_of(tmp_path / "m").write_bytes(data)
    with pytest.raises(CheckpointError):
        wavenet_variables.load(tmp_path / "m")


def test_parameters_of_integers_are_an_error(tf, house):
    prefix = save(house / "whole" / "m.ckpt", {"ae_bottleneck/W": np.ones((1, 1, 8, 16), np.int32)})
    with pytest.raises(CheckpointError, match="int32"):
        find(prefix, "nsynth", house)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_parameters_not_finite_are_an_error(tmp_path, value):
    numbers = np.ones((1, 1, 8, 16))
    numbers[0, 0, 3, 4] = value
    index, data = checkpoint({"ae_bottleneck/W": numbers})
    index_of(tmp_path / "m").write_bytes(index)
    data_of(tmp_path / "m").write_bytes(data)
    with pytest.raises(CheckpointError, match="not finite"):
        checkpoints.read(tmp_path / "m", ["ae_bottleneck/W"])


@pytest.mark.parametrize("settings", [
    "", "[1]", "{", '{"num_resolutions": "7"}', '{"num_resolutions": null}',
    '{"num_resolutions": -1}', '{"num_resolutions": 1000000000}', '{"sample_rate": 1e999}',
    '{"sample_rate": NaN}', '{"audio_length": 0.5}', '{"latent_vector_size": true}',
    '{"mag_normalizer_a": "1"}', '{"p_normalizer_b": Infinity}', '{"num_resolutions": 12}',
    '{"train_time_limit": "x"}', '{"x": ' + "[" * 100_000 + "]" * 100_000 + "}"])
def test_experiment_that_cannot_be_used_is_an_error(tmp_path, settings):
    (tmp_path / "experiment.json").write_text(settings)
    with pytest.raises(CheckpointError, match="experiment.json"):
        checkpoints.experiment(tmp_path / "stage_00012" / "model.ckpt-3")


def test_experiment_as_magenta_writes_it_is_read(tmp_path):
    with pytest.raises(CheckpointError, match="experiment.json"):  # there is none
        checkpoints.experiment(tmp_path / "stage_00012" / "model.ckpt-3")
    (tmp_path / "experiment.json").write_text(
        '{"num_resolutions": 7.0, "train_data_path": null, "fmap_decay": 1, "scale_mode": "ALL"}')
    assert checkpoints.experiment(tmp_path / "stage_00012" / "model.ckpt-3") == {
        "num_resolutions": 7, "train_data_path": None, "fmap_decay": 1, "scale_mode": "ALL"}
