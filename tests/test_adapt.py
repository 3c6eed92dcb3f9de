"""Teaching the NSynth starter sounds of one's own, and example 1's hint at it."""

import importlib.util
import json
import os
import re

import numpy as np
import pytest
from test_examples import ONE, good, tone

from companion import plan
from synths import CheckpointError, files
from synths.weights import checkpoints
from training import measures
from training.nsynth import adapt, data, own

RATE = own.SAMPLE_RATE


def glide(first, last, seconds=1.0, levels=(0.4, 0.2, 0.1)):
    """A tone that glides, and its frequency."""
    time = np.arange(round(seconds * RATE)) / RATE
    hertz = first * (last / first) ** (time / seconds)
    phase = 2 * np.pi * np.cumsum(hertz) / RATE
    return sum(a * np.sin((k + 1) * phase + k) for k, a in enumerate(levels)), hertz


def hiss(seconds=1.0, seed=0):
    noise = np.random.default_rng(seed).standard_normal(round(seconds * RATE))
    return 0.2 * noise * np.exp(-4 * np.arange(noise.size) / RATE)


def wav(path, audio):
    files.write_wav(path, np.float32(audio))
    return path


# -- data ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("first, last", [(55, 55), (220, 233), (600, 420)])
def test_a_pitch_is_followed_to_a_few_cents(first, last):
    audio, hertz = glide(first, last)
    track, clear = own.pitch_track(audio)
    assert clear.mean() > 0.8
    off = np.abs(measures.cents(track, hertz))[1000:-1000]
    assert np.median(off) < 3 and off.max() < 25


def test_noise_has_no_pitch_and_its_bands_are_all_of_it():
    track, clear = own.pitch_track(hiss())
    assert track is None and not clear.any()
    audio = np.pad(hiss(), (0, own.TAIL))
    found = own.take_apart(audio, None)
    assert np.sum(found.rest ** 2) < 0.05 * np.sum(audio ** 2)


def test_morphs_keep_what_leads_and_take_on_the_others_colour():
    length = own.row_length(1.0)
    dull = own.prepare(glide(220, 220, levels=(0.6, 0.02, 0.01))[0], length)
    bright = own.prepare(glide(330, 330, levels=(0.3, 0.3, 0.3, 0.2))[0], length)
    noise = own.prepare(hiss(), length)
    assert dull.frequency is not None and noise.frequency is None
    for other in (bright, noise):
        f0, clarity, level = measures.f0_track(own.morph(dull, other, 1 / 3)[:8000])
        assert np.abs(measures.cents(np.nanmedian(f0[level > 0.02]), 220)) < 20

    def high(audio):
        power = np.abs(np.fft.rfft(audio[2000:10000])) ** 2
        return power[300:].sum() / power.sum()      # over 600 Hz

    assert high(own.morph(dull, bright, 1 / 3)) > 10 * high(dull.audio)
    shares = [own.morph(noise, bright, share) for share in (0.2, 0.4)]
    heard = [np.abs(data.partials(made, bright.frequency[None], 150.0).amplitude[0, 8000])
             for made in shares]
    assert heard[1] > heard[0] > np.abs(
        data.partials(noise.audio, bright.frequency[None], 150.0).amplitude[0, 8000])


def test_a_noisy_sound_leads_a_clear_mix():
    length = own.row_length(1.0)
    rough = glide(600, 560)[0] + 0.11 * np.random.default_rng(2).standard_normal(RATE)
    low = own.prepare(glide(60, 60, levels=(0.6, 0.2))[0], length)  # nothing where the other sounds
    _, before, _ = measures.f0_track(rough)
    _, clarity, _ = measures.f0_track(own.morph(own.prepare(rough, length), low, 1 / 3)[:15000])
    assert np.median(clarity) > 0.99 and np.median(before) < 0.95


def test_a_bass_darkens_a_high_sound_and_makes_no_buzz_of_it():
    length = own.row_length(1.0)
    levels = (0.2, 0.15, 0.15, 0.1, 0.1, 0.1, 0.05, 0.05)
    high = own.prepare(glide(600, 560, levels=levels)[0], length)
    low = own.prepare(glide(55, 55, levels=(0.2, 0.5, 0.2))[0], length)
    made = own.morph(high, low, 1 / 3)
    f0, clarity, _ = measures.f0_track(made[:15000])
    assert np.median(clarity) > 0.98
    assert np.abs(measures.cents(f0, measures.f0_track(high.audio[:15000])[0])).max() < 20

    def fall(audio):
        found = np.abs(data.partials(audio, high.found.frequency, 500.0).amplitude[:, 8000])
        return 20 * np.log10(found[1] / found[7])

    assert fall(made) > fall(high.audio) + 15


def test_what_flickers_in_one_sound_is_no_noise_in_another():
    length = own.row_length(1.0)
    clear = own.prepare(glide(100, 100, levels=(0.6, 0.4, 0.3, 0.2, 0.1, 0.1, 0.1))[0], length)
    noise = 0.11 * np.random.default_rng(2).standard_normal(RATE)
    rough = own.prepare(glide(130, 130, levels=(0.5,))[0] + noise, length)
    _, clarity, _ = measures.f0_track(own.morph(clear, rough, 1 / 3)[:15000])
    assert np.min(clarity[2:-2]) > 0.9995


@pytest.fixture(scope="module")
def rendered():
    sounds = {"tone": glide(220, 225)[0], "hiss": hiss(), "soft": 0.1 * glide(440, 440)[0]}
    return sounds, own.render(sounds, 1.0)


def test_a_data_set_has_every_pair_notes_and_rows_that_are_held_out(rendered):
    sounds, made = rendered
    assert made["audio"].shape[1] == own.row_length(1.0) == 64 * made["track"].shape[1]
    assert list(made["pitched"]) == [True, False, True]
    for row, sound in zip(made["own"], sounds.values()):    # as loud as the file
        assert np.abs(made["audio"][row][:RATE] / 32767 - sound).max() < 1e-4
    counts = np.bincount(made["split"])
    assert counts[data.TRAIN] == len(own.NOTES) + 4 and counts[data.HELD_OUT_NOTE] == 12
    assert counts[data.SHIPPED] == 4                        # the quiet one twice
    loud = made["audio"][made["own"][2] - 1]
    assert np.abs(loud).max() > 0.89 * 32767
    pairs = {tuple(pair) for pair in made["morph_sources"]}
    assert len(pairs) == 6 + 4                              # and the quiet one's anew
    ordered = {(a, b) for a in made["own"] for b in made["own"] if a != b}
    assert ordered <= pairs
    for pair in pairs:
        shares = made["morph_share"][(made["morph_sources"] == pair).all(1)]
        assert {20, 33, 40} <= {round(100 * float(share)) for share in shares}
    assert np.abs(made["morph_audio"]).max(axis=1).min() > 300
    assert made["morph_weight"].shape == made["morph_share"].shape
    track = made["track"][made["own"]]
    assert np.isnan(track[1]).all() and abs(np.nanmedian(track[2]) - 69) < 0.1


def test_rows_longer_than_a_note_hold_several():
    notes = own.read_notes(own.row_length(2.5))
    assert notes["audio"].shape[1] == own.row_length(2.5)
    quiet = np.sqrt(np.mean(notes["audio"][:, -12000:-4000] ** 2, axis=1))
    assert (quiet > 1e-3).all()
    assert len(np.unique(notes["track"][0])) > 1


def test_the_notes_that_ship_are_small_and_have_their_pitch():
    assert own.NOTES_FILE.stat().st_size < 1.5e6
    assert not set(own.NOTES) & set(own.HELD_OUT_NOTES)
    notes = own.read_notes(data.SAMPLES)
    count = len(own.NOTES) + len(own.HELD_OUT_NOTES)
    assert np.abs(notes["audio"][:count]).max(axis=1).min() > 0.5
    for row, (_, pitch) in list(zip(notes["audio"], own.NOTES + own.HELD_OUT_NOTES))[::7]:
        hertz = 440 * 2 ** ((pitch - 69) / 12)
        f0, _, level = measures.f0_track(row, fmin=0.8 * hertz, fmax=1.3 * hertz)
        assert np.abs(measures.cents(np.nanmedian(f0[level > 0.05]), hertz)) < 40


# -- schedule -----------------------------------------------------------------------------------
def test_the_rate_falls_at_the_end_and_early_where_nothing_gets_better():
    total = 900.0
    assert adapt.pace(0, total, None) == (1.0, adapt.NOISE, False)
    start = (1 - adapt.COOLING) * total
    rates = [adapt.pace(t, total, start)[0] for t in np.linspace(start, total, 20)]
    assert rates[0] == 1 and np.all(np.diff(rates) < 0) and abs(rates[-1] - adapt.END) < 1e-9
    assert adapt.pace(total, total, start)[1:] == (adapt.CLEAN_NOISE, True)
    assert not adapt.pace(total - 1, total, start)[2]
    assert adapt.pace(151, total, 60.0)[2] and not adapt.pace(149, total, 60.0)[2]


def test_it_is_flat_when_nothing_was_gained_for_a_while():
    assert not adapt.flat([3.0, 2.5, 2.3])
    assert not adapt.flat(list(np.linspace(3, 2, 12)))
    assert adapt.flat([3.0, 2.0] + [2.0] * adapt.PATIENCE)


# -- what is refused ----------------------------------------------------------------------------
@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """The command in a folder of its own; returns its exit code, output and complaint."""
    def run(*words, packages=True):
        if packages:
            monkeypatch.setattr(adapt, "check_packages", lambda: None)
        code = adapt.main([*map(str, words), "--target", str(tmp_path / "checkpoints"),
                           "--runs", str(tmp_path / "runs")])
        said = capsys.readouterr()
        return code, said.out, said.err
    return run


def refused(result, says):
    code, _, complaint = result
    assert code == 1 and complaint.count("\n") == 1 and complaint.startswith("error: ")
    assert re.search(says, complaint), complaint


def test_bad_input_is_refused_in_a_sentence(tmp_path, call):
    a, b = (wav(tmp_path / f"{name}.wav", glide(hertz, hertz, 0.3)[0])
            for name, hertz in (("a", 220), ("b", 330)))
    silent = wav(tmp_path / "silent.wav", np.zeros(4000))
    (tmp_path / "text.wav").write_text("no sound")
    sounds = ["--sounds", a, b, "--name", "mine"]
    refused(call("--sounds", a, "--name", "mine"), "2 to 8 sounds .* not 1 sound: name more")
    refused(call("--sounds", *[a] * 9, "--name", "mine"), "not 9 sounds: leave some out")
    refused(call("--sounds", a, a, "--name", "mine"), "there twice")
    refused(call("--sounds", a, silent, "--name", "mine"), "silent.wav are silent")
    refused(call("--sounds", a, tmp_path / "text.wav", "--name", "mine"), "cannot be read")
    refused(call("--sounds", a, tmp_path / "none.wav", "--name", "mine"), "does not exist")
    for name, says in (("nsynth_starter", "the starter that ships"), ("WaveNet-ckpt", "official"),
                       ("../up", "not a name"), (".hidden", "not a name"), ("", "not a name")):
        refused(call("--sounds", a, b, "--name", name), says)
    refused(call(*sounds, "--minutes", 0), "--minutes must be over 0")
    refused(call(*sounds, "--minutes", "nan"), "--minutes must be over 0")
    refused(call(*sounds, "--seconds", 9), "--seconds must be")
    refused(call(*sounds, "--threads", 0), "--threads must be")
    refused(call(*sounds, "--start", "nothing_here"), "no checkpoint 'nothing_here'")
    (tmp_path / "checkpoints" / "mine").mkdir(parents=True)
    refused(call(*sounds), "not made by this command")
    card = {"sounds": {"c.wav": "0" * 64}, "seconds": 1.0}
    (tmp_path / "checkpoints" / "mine" / adapt.CARD).write_text(json.dumps(card))
    refused(call(*sounds), "taught other sounds")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("package, says", [
    ("torch", "pip install -r training/requirements.txt"),
    ("tensorflow", "pip install --no-deps -r requirements.txt")])
def test_what_is_not_installed_is_named(tmp_path, call, monkeypatch, package, says):
    known = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else (
        known("numpy") if name in ("torch", "tensorflow") else known(name)))
    refused(call("--sounds", "a.wav", "b.wav", "--name", "mine", packages=False), says)


# -- teaching -----------------------------------------------------------------------------------
def test_a_checkpoint_is_found_by_its_folders_name(tmp_path):
    starter = checkpoints.find("nsynth_starter", "nsynth")
    (tmp_path / "mine").mkdir()
    for part in starter.parent.glob("model.ckpt-*"):
        (tmp_path / "mine" / part.name).write_bytes(part.read_bytes())
    assert checkpoints.find("mine", "nsynth", target_dir=tmp_path).parent == tmp_path / "mine"
    with pytest.raises(CheckpointError, match="nsynth_starter"):
        checkpoints.find("yours", "nsynth", target_dir=tmp_path)


def test_teaching_stops_goes_on_and_is_used_by_its_name(tmp_path, call, monkeypatch):
    pytest.importorskip("torch")
    pytest.importorskip("tensorflow")
    from synths import nsynth
    from training.nsynth import train

    sounds = [wav(tmp_path / "high.wav", glide(700, 500, 0.25)[0]),
              wav(tmp_path / "hiss.wav", hiss(0.25))]
    words = ["--sounds", *sounds, "--name", "mine", "--seconds", 0.25, "--threads", 2]
    # The clock stands for the steps: how long they take does not matter.
    steps, batch = [], train.batch
    monkeypatch.setattr(adapt.time, "monotonic", lambda: float(len(steps)))

    def counted(crops, clips):
        steps.append(clips)
        if len(steps) == 8:
            raise KeyboardInterrupt
        return batch(crops, clips)

    monkeypatch.setattr(train, "batch", counted)
    monkeypatch.setattr(adapt, "LOOKS", 4)
    code, said, _ = call(*words, "--minutes", 16 / 60)
    assert code == adapt.STOPPED and "the same command goes on" in said
    folder = tmp_path / "checkpoints" / "mine"
    half = json.loads((folder / adapt.CARD).read_text("utf-8"))
    assert not half["finished"] and half["samples"] == 7 * 2 * 6144

    code, said, _ = call(*words, "--minutes", 16 / 60)
    assert code == 0 and "Going on after 0:07" in said and "--checkpoint mine" in said
    assert re.search(r"left, .* million samples: likelihood \d\.\d+ nats", said)
    card = json.loads((folder / adapt.CARD).read_text("utf-8"))
    assert card["finished"] and card["samples"] == 16 * 2 * 6144
    assert card["nats"][str(sounds[1])]["after"] <= card["nats"][str(sounds[1])]["before"]
    assert "| hiss.wav |" in (folder / "README.md").read_text("utf-8")
    prefix = checkpoints.find("mine", "nsynth", target_dir=tmp_path / "checkpoints")
    audio = np.stack([own.load(path, 0.25) for path in sounds])
    found = nsynth.nll(np.float32(audio), prefix)
    wanted = [row["after"] for row in card["nats"].values()]
    np.testing.assert_allclose(found, wanted, atol=2e-3)

    count = len(steps)
    code, said, _ = call(*words, "--minutes", 16 / 60)
    assert code == 0 and "taught already" in said and len(steps) == count

    # Where nothing gets better it ends long before its time.  Seen after two looks, since after
    # five the rate would be falling by the clock.
    monkeypatch.setattr(adapt, "LEAST_GAIN", 9.0)
    monkeypatch.setattr(adapt, "PATIENCE", 2)
    monkeypatch.setattr(adapt, "LOOKS", 40)
    code, said, _ = call(*words, "--minutes", 1)
    assert code == 0 and "fine work begins early" in said and len(steps) < count + 40
    refused(call("--sounds", sounds[0], wav(tmp_path / "c.wav", hiss(0.25, 1)), "--name", "mine",
                 "--seconds", 0.25), "taught other sounds")


def test_without_a_compiler_it_says_that_it_is_slower(tmp_path, call, monkeypatch):
    pytest.importorskip("torch")
    from training.nsynth import fused

    monkeypatch.setattr(fused.shutil, "which", lambda name: None)
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(adapt, "export", lambda lesson, best, progress: lesson.folder)
    monkeypatch.setattr(adapt.Teaching, "look", lambda self, show: setattr(
        self.progress, "best", self.progress.before))
    monkeypatch.setattr(adapt.time, "monotonic", lambda count=[0]: count.append(0) or len(count))
    sounds = [wav(tmp_path / "a.wav", glide(700, 500, 0.25)[0]),
              wav(tmp_path / "b.wav", hiss(0.25))]
    code, said, _ = call("--sounds", *sounds, "--name", "slow", "--seconds", 0.25, "--threads", 1,
                         "--minutes", 2 / 60)
    assert code == 0 and "no C compiler" in said


# -- example 1 ----------------------------------------------------------------------------------
def test_example_01_says_that_the_starter_does_not_know_a_sound(tmp_path):
    time = np.arange(RATE // 2) / RATE
    chord = sum(np.sin(2 * np.pi * hertz * k * time) / k for hertz in (220, 277.2, 329.6)
                for k in range(1, 9))
    strange = wav(tmp_path / "strange chord.wav", 0.15 * chord + hiss(0.5))
    words = ["--seconds", 0.2, "--output", tmp_path / "out"]
    lines = good(ONE, *words, "--sounds", tone(tmp_path / "known.wav"), strange)
    hints = [line for line in lines if "does not know" in line]
    assert len(hints) == 1
    assert re.search(r"^The starter does not know strange-chord \(\d\.\d nats per sample, and what "
                     r"it knows has under 2\.8\), so expect noise: --download, or teach it(, in "
                     r".*)?: python -m training\.nsynth\.adapt ", hints[0])
    quote = '"' if os.name == "nt" else "'"
    assert f"{quote}{strange}{quote}" in hints[0]
    assert not any("does not know" in line for line in good(
        ONE, *words, "--sounds", "flute.wav", "metal.wav"))


def test_a_sound_is_judged_by_its_loudest_part():
    audio = np.zeros(40000, np.float32)
    audio[30000:31000] = 0.5
    found = plan.loudest(audio)
    assert found.size == plan.JUDGED_SAMPLES and np.count_nonzero(found) == 1000
    assert np.array_equal(plan.loudest(np.ones(100, np.float32)), [1] * 100)
