"""GANSynth against Magenta's own code, and against itself."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from synths import CheckpointError, InputError
from synths.gansynth import generate_util as score
from synths.gansynth import model
from synths.gansynth.model import Model, _groups
from synths.gansynth.specgrams import SpecgramInverter, linear_to_mel_matrix, mel_to_linear_matrix

ROOT = Path(__file__).parent.parent
SMALL = Path(__file__).parent / "data" / "gansynth_small"


def snr(expected, found):
    """Signal-to-noise ratio of `found` as a copy of `expected`, in dB."""
    expected = np.asarray(expected, np.float64)
    return 10 * np.log10(np.sum(expected**2) / np.sum((expected - found) ** 2))


@pytest.fixture(scope="module")
def small():
    return Model.load_from_path(SMALL)


@pytest.fixture(scope="module")
def expected():
    """What Magenta 2.1.4's Model (TensorFlow 2.15) made of the small checkpoint."""
    with np.load(SMALL / "expected.npz") as arrays:
        return dict(arrays)


# Magenta's own Model -----------------------------------------------------------------------


def test_waves_are_those_of_magentas_model(small, expected):
    waves = np.asarray(small.generate_samples_from_z(expected["z"], expected["pitches"]))
    assert waves.shape == (3, 64000) and waves.dtype == np.float32
    for wave, reference in zip(waves, expected["waves"]):
        assert snr(reference, wave) > 80


def test_clip_of_the_score_is_magentas(small, expected):
    # Our engraving of the prelude has the book's 210 notes, listed in another order, which
    # changes neither a note's instrument nor the mix.
    notes = score.load_midi(ROOT / "midi" / "cs1-1pre-short.mid")
    z = score.get_z_notes(notes["start_times"], expected["z_instruments"],
                          expected["t_instruments"])
    clip = score.combine_notes(small.generate_samples_from_z(z, notes["pitches"]),
                               notes["start_times"], notes["end_times"], notes["velocities"])
    # The reference is kept in half precision, itself a copy of 75 dB.
    assert clip.shape == expected["clip"].shape
    assert snr(expected["clip"], clip) > 65


# Magenta's network functions, other configurations -----------------------------------------

# At least 16 channels: with fewer, now and then all of a pixel's are close to zero, and the pixel
# normalisation makes much of their rounding errors (Magenta's and ours).
_NARROW = {"fmap_base": 512, "fmap_max": 16}
_TINY = {"fmap_base": 256, "fmap_max": 20, "num_resolutions": 4, "audio_length": 1100}
VARIANTS = {
    # name: changes to the official configuration, stage, global step, progress
    "transition": (_NARROW, 11, 9_400_000, 5.75),
    "start_4x8": ({**_NARROW, "start_height": 4, "start_width": 8}, 12, 11_000_000, 6.0),
    "linear": ({**_TINY, "data_type": "linear"}, 6, 11_000_000, 3.0),
    "unfinished_transition": ({**_TINY, "data_type": "phase", "data_normalizer": "none",
                               "to_rgb_activation": "linear"}, 3, 2_800_000, 1.5),
    "height_only_base_3": ({**_TINY, "scale_mode": "H", "scale_base": 3, "start_height": 1,
                            "start_width": 64, "audio_length": 900}, 5, 4_000_000, 2.0),
    "kernel_5": ({**_TINY, "kernel_size": 5, "fmap_decay": 0.5}, 5, 4_100_000, 2.125),
    "kernel_2": ({**_TINY, "kernel_size": 2}, 6, 11_000_000, 3.0),
    "per_frequency": ({**_TINY, "data_normalizer": "specgrams_freq_normalizer"},
                      6, 11_000_000, 3.0),
    "not_progressive": ({**_TINY, "train_progressive": False, "stable_stage_num_images": 1,
                         "transition_stage_num_images": 1}, 6, 3, 3.0),
}

_MAKE_AND_PLAY = """
import json, sys
from pathlib import Path
import numpy as np
from benchmarks.magenta_gansynth import OFFICIAL, make
from synths.gansynth.magenta import Model
root = Path(sys.argv[1])
for name, (changes, stage, step, _) in json.loads(sys.argv[2]).items():
    folder = root / name
    make(folder, {**OFFICIAL, **changes}, stage, step)
    notes = np.load(root / "notes.npz")
    model = Model.load_from_path(folder, batch_size=2)
    waves = model.generate_samples_from_z(notes["z"], notes["pitches"])
    np.save(folder / "waves.npy", waves)
"""


@pytest.fixture(scope="module")
def variants(tmp_path_factory):
    """Checkpoints of other configurations, with what Magenta's functions make of them."""
    root = tmp_path_factory.mktemp("variants")
    rng = np.random.default_rng(5)
    np.savez(root / "notes.npz", z=rng.standard_normal((2, 256)), pitches=[24, 67])
    normalizer = rng.uniform(0.5, 1.0, (128, 4))
    assets = root / "per_frequency" / "assets"
    assets.mkdir(parents=True)
    np.savez(assets / "specgrams_freq_normalizer.npz", normalizer=normalizer)
    # TensorFlow in a process of its own: Magenta's layers need settings made before its import.
    done = subprocess.run([sys.executable, "-c", _MAKE_AND_PLAY, str(root), json.dumps(VARIANTS)],
                          cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return root


@pytest.mark.parametrize("name", VARIANTS)
def test_other_configurations_are_magentas(variants, name):
    model = Model.load_from_path(variants / name)
    assert model.progress == pytest.approx(VARIANTS[name][3], abs=1e-6)
    reference = np.load(variants / name / "waves.npy")
    with np.load(variants / "notes.npz") as notes:
        z, pitches = notes["z"], notes["pitches"]
    waves = np.asarray(model.generate_samples_from_z(z, pitches))
    assert waves.shape == reference.shape and np.ptp(reference) > 0
    assert snr(reference, waves) > 50
    # Cut anywhere, the beginning stays what it was.
    for samples in np.linspace(1, model.audio_length - 1, 12).astype(int):
        cut = list(model.generate_samples_from_z(z, pitches, max_audio_length=samples))
        np.testing.assert_allclose(cut, waves[:, :samples], atol=2e-5 * np.abs(waves).max())


# Properties --------------------------------------------------------------------------------


def test_notes_cut_short_begin_as_whole_notes_do(small):
    rng = np.random.default_rng(1)
    samples = [4960, 6784, 6784, 9600, 20800, 36800, 51200, 64000, 6784]
    pitches = rng.integers(24, 85, len(samples))
    notes = small.generate_samples_from_z(small.generate_z(len(samples), rng), pitches)
    whole = np.asarray(notes)
    assert whole.shape == notes.shape == (9, 64000)
    for count, part, note in zip(samples, notes.cut(samples), whole):
        assert len(part) == count
        np.testing.assert_allclose(part, note[:count], atol=2e-5 * np.abs(note).max())
    np.testing.assert_array_equal(notes[3], whole[3])
    np.testing.assert_array_equal(notes[5:7], whole[5:7])


def test_a_note_does_not_depend_on_its_neighbours_or_the_batch(small):
    z = small.generate_z(5, 3)
    pitches = [30, 40, 50, 60, 70]
    together = small.generate_samples_from_z(z, pitches, 8000)
    one_by_one = Model.load_from_path(SMALL, batch_size=1)
    np.testing.assert_array_equal(
        np.asarray(one_by_one.generate_samples_from_z(z[::-1], pitches[::-1], 8000))[::-1],
        together)
    np.testing.assert_array_equal(small.generate_samples_from_z(z[2:3], pitches[2:3], 8000),
                                  together[2:3])


def test_equal_notes_are_generated_once_whatever_their_length(small, monkeypatch):
    made = []
    render = small.render
    monkeypatch.setattr(small, "render", lambda z, pitches, samples: (
        made.extend(zip(pitches.tolist(), samples)) or render(z, pitches, samples)))
    monkeypatch.setattr(model, "_NOTES_AT_ONCE", 3)
    z = np.repeat(small.generate_z(2, 4), 4, axis=0)[[0, 4, 1, 5, 2, 6, 3, 7]]
    pitches = [60, 60, 60, 60, 61, 61, 60, 60]
    samples = [1600, 3200, 8000, 1600, 1600, 1600, 800, 9000]
    notes = list(small.generate_samples_from_z(z, pitches).cut(samples))
    assert made == [(60, 8000), (60, 9000), (61, 1600), (61, 1600)]
    assert model.count_distinct(z, pitches) == 4
    for index, (note, count) in enumerate(zip(notes, samples)):
        alone = small.generate_samples_from_z(z[[index]], pitches[index:index + 1], count)[0]
        np.testing.assert_allclose(note, alone, atol=2e-5 * np.abs(alone).max())


def test_groups_cover_every_note_with_enough_frames():
    rng = np.random.default_rng(0)
    for count in (0, 1, 7, 300):
        frames = rng.choice([7, 20, 21, 22, 24, 78, 128], count)
        groups = _groups(frames)
        members = np.concatenate([group for group, _ in groups]) if groups else np.array([])
        assert sorted(members) == list(range(count))
        assert all((frames[group] <= computed).all() for group, computed in groups)
    # Many short notes are not drawn out for a few longer ones, and those share one network.
    lengths = np.repeat([20, 22, 24, 78], [205, 1, 1, 3])
    assert [computed for _, computed in _groups(lengths)] == [20, 78]


# The mel matrix and the inversion ----------------------------------------------------------


@pytest.mark.parametrize("bins", [64, 512, 1024])
def test_mel_matrices_are_magentas(bins):
    from magenta.models.gansynth.lib import spectral_ops
    from magenta.models.gansynth.lib.specgrams_helper import SpecgramsHelper

    expected = spectral_ops.linear_to_mel_weight_matrix(bins, bins, 16000, 0.0, 8000.0)
    np.testing.assert_allclose(linear_to_mel_matrix(bins, 16000), expected, atol=1e-12)
    helper = SpecgramsHelper(bins * 8, (64, bins), 0.75, 16000, 1)
    np.testing.assert_allclose(mel_to_linear_matrix(bins, 16000), helper._mel_to_linear_matrix(),
                               atol=1e-12)


def test_frames_and_samples_agree():
    inverter = SpecgramInverter()
    assert inverter.frames_for(64000) == 128 and inverter.samples_from(128) == 64000
    assert inverter.frames_for(6784) == 20
    for samples in range(1, 64001, 77):
        frames = inverter.frames_for(samples)
        assert inverter.samples_from(frames) >= samples
        assert inverter.samples_from(frames - 1) < samples


# Bad input ---------------------------------------------------------------------------------


@pytest.fixture
def copy(tmp_path):
    """A copy of the small checkpoint to damage, and a way to change its experiment.json."""
    folder = tmp_path / "copy"
    shutil.copytree(SMALL, folder)

    def change(**changes):
        path = folder / "experiment.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
        return folder
    return change


@pytest.mark.parametrize("changes, complaint", [
    ({"data_type": "wave"}, "data_type wave"),
    ({"simple_arch": True}, "simple_arch"),
    ({"num_resolutions": 3}, "7 blocks"),
    ({"num_resolutions": "7"}, "num_resolutions"),
    ({"start_height": 4}, "start_height 4"),
    ({"latent_vector_size": 400}, "latent_vector_size 400"),
    ({"audio_length": 70000}, "67072 samples"),
    ({"data_normalizer": "specgrams_simple_normalizer"}, "specgrams_simple_normalizer.npz"),
    ({"train_time_limit": 10.0}, "Variable"),
])
def test_foreign_settings_are_refused(copy, changes, complaint):
    with pytest.raises(CheckpointError, match=complaint):
        Model.load_from_path(copy(**changes))


def test_time_limited_training_sets_the_progress(copy, monkeypatch):
    from synths.weights import checkpoints

    folder = copy(train_time_limit=13.0)  # stages of a second each
    shapes, read = checkpoints.shapes, checkpoints.read
    monkeypatch.setattr(checkpoints, "shapes", lambda prefix: {**shapes(prefix), "Variable": ()})
    for seconds, progress in ((0.5, 0.0), (1.25, 0.25), (4.0, 2.0), (99.0, 6.0)):
        known = {"Variable": np.float32(seconds)}
        monkeypatch.setattr(checkpoints, "read", lambda prefix, names, known=known, **kwargs: (
            known if names == list(known) else read(prefix, names, **kwargs)))
        assert Model.load_from_path(folder).progress == pytest.approx(progress)


@pytest.mark.parametrize("shape", [(3,), None])
def test_global_step_that_is_no_single_number_is_refused(monkeypatch, shape):
    from synths.weights import checkpoints

    shapes = checkpoints.shapes
    changed = {} if shape is None else {"global_step": shape}
    monkeypatch.setattr(checkpoints, "shapes", lambda prefix: {
        **{name: size for name, size in shapes(prefix).items() if name != "global_step"},
        **changed})
    with pytest.raises(CheckpointError, match="global_step"):
        Model.load_from_path(SMALL)


def test_missing_weights_are_refused(tmp_path):
    with pytest.raises(CheckpointError):
        Model.load_from_path(tmp_path / "nowhere")


def test_bad_notes_are_refused(small):
    z = small.generate_z(2, 0)
    with pytest.raises(InputError, match="24 to 84, not 85"):
        small.generate_samples_from_z(z, [60, 85])
    with pytest.raises(InputError, match="pitch"):
        small.generate_samples_from_z(z, [60])
    with pytest.raises(InputError, match="256 finite"):
        small.generate_samples_from_z(z[:, :100], [60, 60])
    with pytest.raises(InputError, match="256 finite"):
        small.generate_samples_from_z(z * np.nan, [60, 60])
    assert small.generate_samples_from_z(z[:0], []).shape == (0, 64000)
