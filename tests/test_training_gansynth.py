"""The GANSynth starter's data and targets, its export, and the shipped weights."""

import json
from pathlib import Path

import numpy as np
import pytest

from synths import InputError
from synths.gansynth import Model
from synths.gansynth.specgrams import SpecgramInverter
from synths.weights import checkpoints
from training import report
from training.gansynth import data, evaluate, export, spectra

RATE = spectra.SAMPLE_RATE
GOLDEN = Path(__file__).parent / "data" / "gansynth_starter_golden.npz"


def falling(pitch, per_octave=-9.0, level=-10.0):
    """Levels of a steady tone whose harmonics fall: ``[harmonics, 128]``."""
    numbers = np.arange(1, data.harmonics(pitch) + 1)
    return np.repeat((level + per_octave * np.log2(numbers))[:, None], spectra.ROWS, axis=1)


def sound(levels, pitch, vibrato=0.0, tremolo=0.0):
    """The sound of levels of one instrument."""
    return evaluate.from_targets(data.picture(levels, pitch, vibrato, tremolo)[None])[0]


# Data ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("pitch", [36, 57, 78])
def test_tracks_find_the_levels_of_harmonics(pitch):
    time = np.arange(spectra.SAMPLES) / RATE
    numbers = np.arange(1, min(data.harmonics(pitch), 12) + 1)
    wanted = -6.0 - 3.0 * numbers
    tone = sum(10 ** (level / 20) * np.sin(2 * np.pi * data.frequency(pitch) * number * time)
               for number, level in zip(numbers, wanted))
    found = data.tracks(tone, pitch)
    assert found.shape == (data.harmonics(pitch), spectra.ROWS)
    # A sine between two bins looks up to 1.5 dB softer.
    assert np.abs(found[:len(numbers), 20:100].mean(axis=1) - wanted).max() < 1.6
    if len(found) > len(numbers):
        assert found[-1, 20:100].max() < wanted[-1] - 10


def test_nothing_of_a_held_out_note_reaches_its_neighbours():
    rng = np.random.default_rng(1)
    notes = [rng.uniform(-60, 0, (data.harmonics(p), spectra.ROWS)) for p in range(60, 70)]
    before = data.smooth_over_pitches(notes, without={4})
    notes[4] = notes[4] + 30
    after = data.smooth_over_pitches(notes, without={4})
    changed = [not np.array_equal(a, b) for a, b in zip(before, after)]
    assert changed == [index == 4 for index in range(10)]
    notes[5] = notes[5] + 30
    assert not np.array_equal(data.smooth_over_pitches(notes, without={4})[6], after[6])


def test_smoothing_keeps_a_steady_level_and_the_attack():
    levels = np.full((3, spectra.ROWS), -20.0)
    levels[:, :5] = -90.0
    levels[:, 30:60:2] += 4.0
    smooth = data.smooth_in_time(levels)
    assert np.array_equal(smooth[:, :8], levels[:, :8])
    assert np.ptp(smooth[:, 35:55]) < 0.5 < np.ptp(levels[:, 35:55])


def test_a_low_string_keeps_the_pitch_that_its_even_harmonics_would_take():
    levels = falling(36)
    levels[::2] -= 40
    assert evaluate.pitch_error(sound(levels, 36), 36) == pytest.approx(1200, abs=20)
    kept = data.keep_pitch(levels)
    assert abs(evaluate.pitch_error(sound(kept, 36), 36)) < 20
    assert np.array_equal(kept[1::2], levels[1::2])
    assert np.array_equal(data.keep_pitch(falling(36)), falling(36))


def test_every_instrument_has_a_held_out_pitch_of_its_own():
    instruments, pitches = zip(*data.HELD_OUT)
    assert sorted(instruments) == list(range(len(data.INSTRUMENTS)))
    assert len(set(pitches)) == len(pitches) and set(pitches) <= set(data.PITCHES.tolist())
    # The evaluation compares with the semitone above, which is trained.
    assert all((k, pitch + 1) not in data.HELD_OUT and pitch < 84 for k, pitch in data.HELD_OUT)


def test_the_instruments_are_of_every_kind():
    assert len(set(data.INSTRUMENTS.values())) == len(data.INSTRUMENTS) == np.prod(data.GRID) == 24
    named = set(data.STRUCK) | set(data.VIBRATO) | set(data.TREMOLO)
    assert named <= set(data.INSTRUMENTS)


def test_z_chooses_one_instrument_and_all_are_as_likely():
    axes = data.directions()
    assert np.allclose(axes @ axes.T, np.eye(data.DIRECTIONS), atol=1e-12)
    rng = np.random.default_rng(2)
    weights = data.shares(rng.standard_normal((6000, 256)))
    assert np.allclose(weights.sum(axis=1), 1) and weights.min() >= 0
    assert np.median(weights.max(axis=1)) > 0.8        # not an average of all
    assert np.abs(weights.mean(axis=0) - 1 / 24).max() < 0.015
    for number in range(24):
        z = data.anchor(number, rng)[None]
        assert data.shares(z)[0, number] > 0.95
        assert np.array_equal(data.shades(z)[0].round(9), [0, 0])


def test_between_two_neighbours_both_are_heard():
    z = np.zeros((1, 256)) + data.directions()[:2].sum(axis=0) * 1.2 + data.directions()[2] * 1.2
    shares = np.sort(data.shares(z)[0])
    assert shares[-2:] == pytest.approx([0.5, 0.5], abs=0.01)


def test_shades_tilt_the_spectrum_and_soften_the_attack():
    bright, dark = (data.shading(np.array([slope, 0.0]), 16) for slope in (4.0, -6.0))
    assert bright[15, 0] - bright[0, 0] == pytest.approx(16) and bright[3, 50] == 0
    assert dark[0, 0] == 0 and dark[7, 50] == pytest.approx(-18)
    swell = data.shading(np.array([0.0, 20.0]), 3)
    assert swell[0, 0] == -20 and np.all(np.diff(swell[0]) >= 0) and swell[0, 20] == 0
    drawn = data.shades(np.random.default_rng(3).standard_normal((2000, 256)))
    assert drawn.min(axis=0).tolist() == [data.DARKEST, 0.0]
    assert np.all(drawn.max(axis=0) <= [data.BRIGHTEST, data.MOST_SWELL])


# Targets ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("pitch", [24, 33, 45, 54, 66, 77, 84])
def test_targets_sound_as_their_levels_say(pitch):
    levels = falling(pitch)
    audio = sound(levels, pitch)
    assert abs(evaluate.pitch_error(audio, pitch)) < 8
    assert evaluate.noise_ratio(audio, pitch) > 25
    # No harmonic cancels itself: the power is what the levels say.
    power = 0.5 * np.sum(10 ** (levels[:, 0] / 10))
    held = audio[RATE // 2:3 * RATE]
    assert 10 * np.log10(np.mean(held ** 2) / power) == pytest.approx(0, abs=1.5)


def test_targets_stay_within_what_the_generator_can_say():
    for pitch in (24, 50, 84):
        wanted = data.picture(falling(pitch, 0.0, 0.0), pitch, data.DEEPEST)
        assert np.abs(wanted).max() < 0.999


@pytest.mark.parametrize("pitch", [36, 57, 69, 81])
def test_a_vibrato_swings_to_either_side_and_leaves_the_note_in_tune(pitch):
    plain, shallow, deep = (sound(falling(pitch, -6.0), pitch, cents) for cents in (0, 10, 20))
    depths = [evaluate.vibrato_depth(audio, pitch) for audio in (plain, shallow, deep)]
    assert depths[0] < 0.5 and depths[1] > 3 and 1.6 < depths[2] / depths[1] < 2.6
    assert abs(evaluate.pitch_error(deep, pitch)) < 8
    assert evaluate.noise_ratio(deep, pitch) > 20


def test_a_tremolo_moves_the_level_alone():
    still, moved = (sound(falling(57), 57, 0.0, tremolo) for tremolo in (0.0, 3.0))
    swing = [np.ptp(evaluate.measures.envelope(audio[RATE:2 * RATE])) for audio in (still, moved)]
    assert swing[0] < 1.5 < 3 < swing[1] < 7
    assert evaluate.vibrato_depth(moved, 57) < 1


# Evaluation ------------------------------------------------------------------------------------

def test_explained_variance_tells_variation_from_none_and_from_the_wrong_one():
    rng = np.random.default_rng(3)
    wanted = rng.normal(5, 2, (8, 16, 32))
    assert evaluate.explained(wanted, wanted)["explained"] == pytest.approx(1)
    still = np.repeat(wanted.mean(axis=0)[None], 8, axis=0)
    assert evaluate.explained(still, wanted)["explained"] == pytest.approx(0, abs=0.02)
    assert evaluate.explained(wanted[::-1], wanted)["explained"] < -0.3
    halved = wanted.mean(axis=0) + 0.5 * (wanted - wanted.mean(axis=0))
    assert 0.6 < evaluate.explained(halved, wanted)["explained"] < 0.85


def test_distances_are_between_spectra_whatever_the_level():
    rng = np.random.default_rng(4)
    noise = rng.standard_normal(spectra.SAMPLES)
    time = np.arange(spectra.SAMPLES) / RATE
    tone = np.sin(2 * np.pi * 220 * time)
    assert evaluate.distances([noise, 0.1 * noise]) == pytest.approx([0], abs=1e-6)
    near, far, _ = evaluate.distances([tone, tone + 0.1 * np.sin(2 * np.pi * 440 * time), noise])
    assert 0 < near < 8 < 25 < far <= 60


def test_attack_tells_a_swell_from_a_stroke():
    time = np.arange(spectra.SAMPLES) / RATE
    tone = np.sin(2 * np.pi * 220 * time)
    assert evaluate.attack(tone * np.exp(-2 * time)) == 0
    assert evaluate.attack(tone * np.minimum(1, time)) == pytest.approx(0.5, abs=0.03)


def test_the_table_has_the_worst_seed_and_goes_into_the_card(tmp_path):
    notes = {"notes": 61, "within 50 cents": 1.0, "harmonic to residual, dB, median": 30.0}
    figures = {"seeds": [0, 1],
               "random notes": {"0": notes, "1": {**notes, "within 50 cents": 0.9}},
               "apart": {"0": {"dB, mean of pairs": 9.04}, "1": {"dB, mean of pairs": 8.0}}}
    text = evaluate.table(figures)
    assert "90.0 %" in text and "8.0 dB" in text and "8.5 dB" in text and "left out" in text
    card = tmp_path / "card.md"
    card.write_text("a\n<!-- figures -->\nold\n<!-- /figures -->\nz\n")
    report.fill(card, text)
    written = card.read_text("utf-8")
    assert text in written and "old" not in written and written.endswith("<!-- /figures -->\nz\n")
    card.write_text("nothing")
    with pytest.raises(InputError, match="place for the figures"):
        report.fill(card, text)


def test_pitch_error_tells_an_octave_and_a_quarter_tone():
    time = np.arange(spectra.SAMPLES) / RATE
    for cents in (0, 60, -1200, 1200):
        f0 = data.frequency(60) * 2 ** (cents / 1200)
        tone = sum(np.sin(2 * np.pi * f0 * n * time) / n for n in range(1, 6))
        assert evaluate.pitch_error(tone, 60) == pytest.approx(cents, abs=3)


# Export and the shipped weights ----------------------------------------------------------------

def random_state(fmap=(128, 8), seed=4):
    """A training state of narrow widths with random weights."""
    rng = np.random.default_rng(seed)
    widths = [int(min(fmap[0] / 2 ** block, fmap[1])) for block in range(1, 8)]
    state = {"fmap": np.array(fmap)}

    def put(name, *shape):
        state[name] = rng.standard_normal(shape).astype(np.float32)
    put("start_kernel", 317, widths[0], 2, 16)
    put("average/start_bias", widths[0])
    for block, width in enumerate(widths):
        put(f"average/first.{block}.weight", width, widths[max(0, block - 1)], 3, 3)
        put(f"average/first.{block}.bias", width)
        if block:
            put(f"average/second.{block - 1}.weight", width, width, 3, 3)
            put(f"average/second.{block - 1}.bias", width)
    put("average/to_rgb.weight", 2, widths[-1], 1, 1)
    put("average/to_rgb.bias", 2)
    return state


def test_exported_directions_are_read_back(tmp_path):
    pytest.importorskip("tensorflow")
    state = random_state()
    np.savez(tmp_path / "state.npz", **state)
    back = export.read(export.export(tmp_path / "state.npz", tmp_path / "starter"))
    assert np.array_equal(back["start_kernel"], state["start_kernel"])
    for name in back.keys() - {"start_kernel"}:
        assert np.array_equal(back[name], state[f"average/{name}"]), name


def test_export_has_the_official_names_shapes_and_progress(tmp_path):
    pytest.importorskip("tensorflow")
    state = random_state()
    np.savez(tmp_path / "state.npz", **state)
    prefix = export.export(tmp_path / "state.npz", tmp_path / "starter")
    assert prefix == checkpoints.resolve(tmp_path / "starter")
    shapes = checkpoints.shapes(prefix)
    scope = "Generator/progressive_gan_generator/progressive_gan_block_"
    assert shapes[f"{scope}1/conv0/conv2d/kernel/ExponentialMovingAverage"] == (2, 16, 317, 8)
    assert shapes[f"{scope}5/conv0/conv2d/kernel/ExponentialMovingAverage"] == (3, 3, 8, 4)
    assert shapes[f"{scope}7/to_rgb/conv2d/kernel/ExponentialMovingAverage"] == (1, 1, 1, 2)
    assert Model.load_from_path(tmp_path / "starter").progress == 6.0
    state_file = (prefix.parent / "checkpoint").read_text()
    assert "/" not in state_file and prefix.name in state_file


def test_weights_without_targets_are_measured_as_far_as_it_goes(tmp_path):
    pytest.importorskip("tensorflow")
    np.savez(tmp_path / "state.npz", **random_state())
    prefix = export.export(tmp_path / "state.npz", tmp_path / "starter")
    figures = evaluate.evaluate(prefix, [1], tmp_path / "sheets", None, quick=True)
    notes = figures["random notes"]["1"]
    assert notes["within 50 cents"] < 0.5           # random weights play no tune
    assert notes["harmonic to residual, dB, median"] < 10
    assert "variety" not in figures and "left out" in evaluate.table(figures)
    assert (tmp_path / "sheets" / "random.png").stat().st_size > 10_000


def test_export_refuses_what_is_no_state(tmp_path, capsys):
    pytest.importorskip("tensorflow")
    np.savez(tmp_path / "state.npz", something=np.zeros(3))
    assert export.main(["--state", str(tmp_path / "state.npz"), "--output", str(tmp_path)]) == 1
    error = capsys.readouterr().err.strip()
    assert "state.npz" in error and len(error.splitlines()) == 1


def test_shipped_weights_say_what_the_training_code_says(monkeypatch):
    heard = []
    invert = SpecgramInverter.invert
    monkeypatch.setattr(SpecgramInverter, "invert",
                        lambda self, specgrams: heard.append(specgrams) or invert(self, specgrams))
    model = Model.load_from_path("gansynth_starter", threads=1)
    scale = np.array([spectra.MAGNITUDE_SCALE, spectra.PHASE_SCALE])
    shift = np.array([spectra.MAGNITUDE_SHIFT, 0.0])
    with np.load(GOLDEN, allow_pickle=False) as golden:
        for z, pitch, wanted in zip(golden["z"], golden["pitches"], golden["output"]):
            heard.clear()
            audio = np.asarray(model.generate_samples_from_z(z[None], [pitch]))
            assert audio.shape == (1, spectra.SAMPLES)
            said = heard[0][0, golden["rows"]] * scale + shift
            assert np.abs(said - wanted).max() < 1e-4


def test_shipped_weights_hear_z_along_the_instruments_directions_alone():
    prefix = checkpoints.find("gansynth_starter", "gansynth")
    name = ("Generator/progressive_gan_generator/progressive_gan_block_1/conv0/conv2d/kernel/"
            "ExponentialMovingAverage")
    kernel = checkpoints.read(prefix, [name])[name].transpose(2, 0, 1, 3)[:256].reshape(256, -1)
    axes = data.directions()
    assert np.abs(kernel - axes.T @ (axes @ kernel)).max() < 1e-4 * np.abs(kernel).max()


def test_shipped_weights_are_in_tune_and_clean():
    model = Model.load_from_path("gansynth_starter")
    pitches = np.array([24, 39, 55, 72, 84])
    audio = model.generate_samples_from_z(model.generate_z(5, 7), pitches)
    for note, pitch in zip(audio, pitches):
        assert abs(evaluate.pitch_error(note, pitch)) < 50
        assert evaluate.noise_ratio(note, pitch) > 10


def test_shipped_figures_are_those_of_the_card():
    folder = checkpoints.CHECKPOINTS_DIR / "gansynth_starter"
    figures = json.loads((folder / "figures.json").read_text("utf-8"))
    assert evaluate.table(figures) in (folder / "README.md").read_text("utf-8")
    assert figures["seeds"] == list(evaluate.SEEDS)


def test_the_starters_card_names_all_its_instruments():
    card = (checkpoints.CHECKPOINTS_DIR / "gansynth_starter" / "README.md").read_text("utf-8")
    assert all(name in " ".join(card.split()) for name in data.INSTRUMENTS)


def test_shipped_weights_are_instruments_that_differ():
    model = Model.load_from_path("gansynth_starter")
    audio = model.generate_samples_from_z(model.generate_z(16, 3), np.full(16, 57))
    assert evaluate.distances(audio).mean() > 7


# The training code, where PyTorch is at hand ----------------------------------------------------

@pytest.fixture(scope="module")
def trainer():
    import torch

    from training.gansynth import train
    torch.set_num_threads(1)
    levels = []
    for pitch in data.PITCHES:
        steps = np.linspace(-12, -4, 24)
        levels.append(np.stack([falling(pitch, step) for step in steps]).astype(np.float32))
    targets = train.Targets(levels, torch.device("cpu"))
    return train.Trainer(targets, 128, 8, 0, compiled=False)


@pytest.mark.torch
def test_a_stopped_training_keeps_what_it_has_learned(trainer, tmp_path, monkeypatch, capsys):
    from training.gansynth import train

    def step(self, *_):
        if self.steps == 2:
            raise KeyboardInterrupt
        self.steps += 1
        return [1.0] * 4

    monkeypatch.setattr(train.Trainer, "step", step)
    monkeypatch.setattr(train, "Targets", lambda *_: trainer.targets)
    monkeypatch.setattr(train.data, "load", lambda path: None)
    (tmp_path / "notes.npz").touch()
    assert train.main(["--minutes", "1", "--fmap-base", "128", "--fmap-max", "8", "--threads", "1",
                       "--folder", str(tmp_path)]) == 130
    said = capsys.readouterr().err
    assert said.strip().count("\n") == 0 and "Stopped" in said
    with np.load(tmp_path / "state.npz") as state:
        assert state["steps"] == 2


@pytest.mark.torch
def test_a_window_is_a_part_of_the_whole(trainer):
    import torch
    z, pitch = torch.randn(2, 256), torch.tensor([0, 40])
    with torch.no_grad():
        whole = trainer.generator(z, pitch)
        for first, end in ((0, 16), (37, 53), (112, 128)):
            part = trainer.generator(z, pitch, (first, end))
            assert torch.allclose(part, whole[:, :, first:end], atol=1e-5)


@pytest.mark.torch
def test_torch_targets_are_the_documented_ones(trainer):
    import torch
    z = np.random.default_rng(6).standard_normal((1, 256))
    pitch = 58
    index, rows = torch.tensor([pitch - 24]), torch.arange(spectra.ROWS)
    timbre = trainer.targets.timbre(z, index)
    assert timbre.usable.item() == 1
    levels = trainer.targets.mixed(trainer.targets.levels, timbre, index, rows)
    wave = torch.sin(2 * np.pi * data.VIBRATO_TURN * rows)
    drawn = trainer.targets.draw(levels + timbre.tremolo * wave[None, :, None], index)[0].numpy()
    known = {pitch - 24: trainer.targets.levels[pitch - 24, :, :data.harmonics(pitch)].numpy()}
    wanted = data.target(known, z[0], pitch)
    assert np.allclose(drawn * spectra.MAGNITUDE_SCALE + spectra.MAGNITUDE_SHIFT, wanted[..., 0],
                       atol=1e-3)
    phase = trainer.targets.frequency[index] + (
        timbre.vibrato / data.DEEPEST * wave)[:, None] * trainer.targets.vibrato[index]
    assert np.allclose(phase[1:], wanted[1:, :, 1], atol=1e-5)


@pytest.mark.torch
def test_held_out_pairs_get_no_weight(trainer):
    import torch
    number, pitch = data.HELD_OUT[3]
    z = data.anchor(number, np.random.default_rng(8))[None]
    assert trainer.targets.timbre(z, torch.tensor([pitch - 24])).usable.item() == 0
    assert trainer.targets.timbre(z, torch.tensor([pitch - 23])).usable.item() == 1


@pytest.mark.torch
def test_stages_learn_and_a_run_goes_on_where_it_was(trainer, tmp_path):
    import torch

    from training.gansynth import train
    for stage in train.STAGES:
        trainer.enter(stage)
        # Shades differ from note to note, so the steady stage takes more steps to tell.
        figures = [trainer.step(0.02, 4) for _ in range(40 if stage == "steady" else 12)]
        assert np.isfinite([row[:3] for row in figures]).all()
        if stage == "steady":
            assert np.mean(figures[-5:], axis=0)[0] < 0.7 * np.mean(figures[:3], axis=0)[0]
    trainer.save(tmp_path / "state.npz", golden=True)
    other = train.Trainer(trainer.targets, 128, 8, 1, compiled=False)
    other.restore(tmp_path / "state.npz")
    assert (other.stage, other.steps, other.notes) == (trainer.stage, trainer.steps, trainer.notes)
    z, pitch = torch.randn(1, 256), torch.tensor([9])
    with torch.no_grad():
        assert torch.equal(other.generator(z, pitch, (0, 8)), trainer.generator(z, pitch, (0, 8)))
    other.rng, trainer.rng = np.random.default_rng(9), np.random.default_rng(9)
    assert other.step(0.01, 4) == pytest.approx(trainer.step(0.01, 4), nan_ok=True)
    with pytest.raises(ValueError, match="widths"):
        train.Trainer(trainer.targets, 256, 8, 0, compiled=False).restore(tmp_path / "state.npz")


@pytest.mark.torch
def test_training_starts_from_exported_weights(trainer, tmp_path):
    import torch

    pytest.importorskip("tensorflow")
    from training.gansynth import train
    trainer.save(tmp_path / "state.npz")
    prefix = export.export(tmp_path / "state.npz", tmp_path / "starter")
    other = train.Trainer(trainer.targets, 128, 8, 5, compiled=False)
    other.start(export.read(prefix))
    for name, value in other.generator.named_parameters():
        assert torch.allclose(value, trainer.average[name], atol=1e-4), name
    assert other.stage == "fine"
    with pytest.raises(ValueError, match="other widths"):
        train.Trainer(trainer.targets, 256, 8, 5, compiled=False).start(export.read(prefix))
