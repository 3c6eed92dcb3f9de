"""Fine-tuning on sounds of one's own: the data, the schedule, the command."""

import importlib.util
import json
import os
import re
import sys

import numpy as np
import pytest
from test_examples import ONE, good, tone

from companion import example
from companion.options import Parser
from companion.run import STOPPED
from companion.run import run as run_command
from synths import files
from synths.sounds import load_audio
from synths.weights import checkpoints
from training import measures
from training.nsynth import adapt, data, own
from workshop import finetune

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


@pytest.mark.parametrize("first, last", [(55, 55), (220, 233), (600, 420)])
def test_pitch_track_glide_follows_to_a_few_cents(first, last):
    audio, hertz = glide(first, last)
    track, clear = own.pitch_track(audio)
    assert clear.mean() > 0.8
    off = np.abs(measures.cents(track, hertz))[1000:-1000]
    assert np.median(off) < 3 and off.max() < 25


def test_pitch_track_hoarse_onset_follows_its_glide():
    (start, first), rest = glide(430, 600, 0.15), glide(600, 600)[0]
    noise = np.random.default_rng(1).standard_normal(start.size)
    audio = np.concatenate([start + 0.3 * noise, rest])
    track, clear = own.pitch_track(audio)
    assert clear[:start.size].mean() < 0.3 and clear[start.size:].mean() > 0.8
    off = np.abs(measures.cents(track[:start.size], first))[500:]
    assert np.median(off) < 50 and off.max() < 200


def test_take_apart_noise_has_bands_and_no_pitch():
    track, clear = own.pitch_track(hiss())
    assert track is None and not clear.any()
    audio = np.pad(hiss(), (0, own.TAIL))
    found = own.take_apart(audio, None)
    assert np.sum(found.rest ** 2) < 0.05 * np.sum(audio ** 2)


def test_morph_keeps_the_pitch_and_takes_on_the_timbre():
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


def hoarse(noise):
    return glide(600, 560)[0] + noise * np.random.default_rng(2).standard_normal(RATE)


def test_morph_noisy_sound_gives_a_periodic_mix():
    length, rough = own.row_length(1.0), hoarse(0.11)
    low = own.prepare(glide(60, 60, levels=(0.6, 0.2))[0], length)  # nothing where the other sounds
    _, before, _ = measures.f0_track(rough)
    _, clarity, _ = measures.f0_track(own.morph(own.prepare(rough, length), low, 1 / 3)[:15000])
    assert np.median(clarity) > 0.99 and np.median(before) < 0.95


@pytest.fixture(scope="module")
def rendered():
    sounds = {"tone": glide(220, 225)[0], "hiss": hiss(), "soft": 0.1 * glide(440, 440)[0]}
    return sounds, own.render(sounds, 1.0)


def test_render_has_every_pair_rehearsal_and_held_out_notes(rendered):
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
    assert len(pairs) == 6 + 4                              # and the quiet one's again
    ordered = {(a, b) for a in made["own"] for b in made["own"] if a != b}
    assert ordered <= pairs
    for pair in pairs:
        shares = made["morph_share"][(made["morph_sources"] == pair).all(1)]
        assert {20, 33, 40} <= {round(100 * float(share)) for share in shares}
    assert np.abs(made["morph_audio"]).max(axis=1).min() > 300
    assert made["morph_weight"].shape == made["morph_share"].shape
    track = made["track"][made["own"]]
    assert np.isnan(track[1]).all() and abs(np.nanmedian(track[2]) - 69) < 0.1


def test_render_mixes_with_a_noisy_sound_are_drawn_more_often():
    sounds = {"rough": 0.7 * hoarse(0.14), "tone": glide(220, 225)[0], "hiss": hiss()}
    made = own.render(sounds, 1.0)
    lead, second = (made["morph_sources"] == made["own"][0]).T
    third = made["morph_share"] == np.float32(1 / 3)
    assert made["morph_noisy"].tolist() == lead.tolist()
    weight = [made["morph_weight"][rows] for rows in (
        third & lead, third & second, third & ~lead & ~second, ~third & ~lead & ~second)]
    assert all(more.min() > less.max() for more, less in zip(weight, weight[1:]))


def test_read_notes_long_rows_hold_several_notes():
    notes = own.read_notes(own.row_length(2.5))
    assert notes["audio"].shape[1] == own.row_length(2.5)
    quiet = np.sqrt(np.mean(notes["audio"][:, -12000:-4000] ** 2, axis=1))
    assert (quiet > 1e-3).all()
    assert len(np.unique(notes["track"][0])) > 1


def test_read_notes_bundled_notes_have_their_pitch():
    assert own.NOTES_FILE.stat().st_size < 1.5e6
    assert not set(own.NOTES) & set(own.HELD_OUT_NOTES)
    notes = own.read_notes(data.SAMPLES)
    count = len(own.NOTES) + len(own.HELD_OUT_NOTES)
    assert np.abs(notes["audio"][:count]).max(axis=1).min() > 0.5
    for row, (_, pitch) in list(zip(notes["audio"], own.NOTES + own.HELD_OUT_NOTES))[::7]:
        hertz = 440 * 2 ** ((pitch - 69) / 12)
        f0, _, level = measures.f0_track(row, fmin=0.8 * hertz, fmax=1.3 * hertz)
        assert np.abs(measures.cents(np.nanmedian(f0[level > 0.05]), hertz)) < 40


# The schedule ------------------------------------------------------------------------------------


@pytest.mark.parametrize("since", [0.0, 600.0])
def test_schedule_rate_decays_at_the_end(since):
    total = 900.0
    start = max(since, (1 - adapt.DECAY) * total)
    assert adapt.schedule(start / 2, total, since) == 1.0
    rates = [adapt.schedule(t, total, since) for t in np.linspace(start, total, 20)]
    assert rates[0] == 1 and np.all(np.diff(rates) < 0) and abs(rates[-1] - adapt.END) < 1e-9


# The command -------------------------------------------------------------------------------------


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """Return a function that runs the command: exit code, output and error message."""
    def run(*words, packages=True):
        if packages:
            monkeypatch.setattr(finetune, "check_packages", lambda: None)
        if "--output" not in words:
            words = (*words, "--output", tmp_path / "checkpoints" / "mine")
        parser = Parser()
        finetune.add_options(parser)
        monkeypatch.setattr(sys, "argv", ["finetune", *map(str, words)])
        code = 0
        try:
            run_command(finetune.run, parser)
        except SystemExit as end:
            code = end.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err
    return run


@pytest.fixture
def pair(tmp_path):
    return (wav(tmp_path / "high.wav", glide(700, 500, 0.3)[0]),
            wav(tmp_path / "hiss.wav", hiss(0.3)))


def refused(result, says, code=1):
    found, _, message = result
    assert found == code and message.count("\n") == 1 and re.search(says, message), message


@pytest.mark.parametrize("words, says", [
    (["--sounds", "high.wav"], "not 1: add more"),
    (["--sounds", "high.wav", "high.wav"], "not 1"),
    (["--sounds", *"abcdefghi"], "not 9: leave some out"),
    (["--sounds", "high.wav", "silent.wav"], "not 1"),
    (["--sounds", "high.wav", "text.wav"], "text.wav"),
    (["--sounds", "high.wav", "none.wav"], "does not exist"),
    (["--name", "nsynth_starter"], "official model"),
    (["--name", "WaveNet-ckpt"], "official model"),
    (["--name", "../up"], "valid name"), (["--name", ""], "valid name"),
    (["--checkpoint", "nothing_here"], "no checkpoint"),
])
def test_finetune_unusable_input_is_one_sentence(tmp_path, call, pair, monkeypatch, words, says):
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    wav(tmp_path / "silent.wav", np.zeros(4000))
    (tmp_path / "text.wav").write_text("no sound")
    for place, name in enumerate("abcdefghi"):
        wav(tmp_path / name, glide(200 + place, 200, 0.3)[0])
    refused(call("--sounds", *pair, "--name", "mine", *words), says)
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize("words", [["--minutes", "0"], ["--minutes", "nan"], ["--seconds", "9"],
                                   ["--threads", "0"]])
def test_finetune_number_out_of_range_is_one_sentence(call, pair, words):
    refused(call("--sounds", *pair, "--name", "mine", *words), words[0], code=2)


def test_finetune_folder_of_something_different_stays(tmp_path, call, pair):
    pytest.importorskip("torch")
    folder = tmp_path / "checkpoints" / "mine"
    folder.mkdir(parents=True)
    (folder / "thesis.txt").write_text("")
    refused(call("--sounds", *pair, "--name", "mine"), "not made by this command")
    (folder / adapt.CARD).write_text(json.dumps({"sounds": {"c": "0" * 64}, "seconds": 1.0}))
    refused(call("--sounds", *pair, "--name", "mine"), "other sounds")


@pytest.mark.parametrize("package, says", [
    ("torch", "pip install -r training/requirements.txt"),
    ("tensorflow", "pip install --no-deps -r requirements.txt")])
def test_finetune_missing_package_names_the_command(call, monkeypatch, package, says):
    known = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else (
        known("numpy") if name in ("torch", "tensorflow") else known(name)))
    refused(call("--sounds", "a.wav", "b.wav", "--name", "mine", packages=False), says)


def test_finetune_stopped_run_resumes_and_its_result_is_used(tmp_path, call, pair, monkeypatch):
    pytest.importorskip("torch")
    pytest.importorskip("tensorflow")
    from synths import nsynth
    from training.nsynth import train

    folder = tmp_path / "checkpoints" / "mine"
    words = ["--sounds", *pair, "--name", "mine", "--seconds", 0.25, "--threads", 2]
    # The clock counts steps, so how long they take does not matter
    steps, batch = [], train.batch
    monkeypatch.setattr(adapt.time, "monotonic", lambda: float(len(steps)))

    def counted(crops, clips):
        steps.append(clips)
        if len(steps) == 8:
            raise KeyboardInterrupt
        return batch(crops, clips)

    monkeypatch.setattr(train, "batch", counted)
    monkeypatch.setattr(adapt, "EVALUATIONS", 4)
    monkeypatch.setattr(adapt, "RATE", 0.02)    # what 16 steps of the warm-up learn must show
    monkeypatch.setattr(adapt, "EMA", 0.5)
    code, output, _ = call(*words, "--minutes", 16 / 60)
    assert code == STOPPED and "same command" in output
    card = adapt.read_card(folder)
    half = card["progress"]
    (folder / adapt.CARD).write_text(json.dumps(card | {"progress": half | {"decay": None}}))
    assert not half["finished"] and half["samples"] == 7 * 2 * adapt.CROP

    code, output, _ = call(*words, "--minutes", 16 / 60)
    assert code == 0 and "Continuing after" in output
    assert re.search(r"high (known well|known|hardly known) \[\d\.\d\]", output)
    assert f"chapter_05_example_01.py --checkpoint {folder}" in output
    progress = adapt.read_card(folder)["progress"]
    assert progress["finished"] and progress["samples"] == 16 * 2 * adapt.CROP
    assert progress["best"][0] < progress["before"][0]
    audio = np.stack([load_audio(path, 4000) for path in pair])
    np.testing.assert_allclose(nsynth.nll(audio, checkpoints.find(folder, "nsynth")),
                               progress["best"], atol=2e-3)

    count = len(steps)
    figure = re.search(r"high [^\n]*\[\d\.\d\]", output)[0]
    words[1:3] = words[2], words[1]  # another order of the same sounds
    code, output, _ = call(*words, "--minutes", 16 / 60)
    assert code == 0 and "finished" in output and len(steps) == count
    assert figure in output

    code, output, _ = call(*words, "--minutes", 24 / 60)
    progress = adapt.read_card(folder)["progress"]
    assert code == 0 and progress["samples"] == 24 * 2 * adapt.CROP and progress["since"] == 16


def test_finetune_folder_of_sounds_leaves_out_silent_ones(tmp_path, pair, capsys):
    wav(tmp_path / "silent.wav", np.zeros(8000))
    found = finetune.audible(sorted(tmp_path.glob("*.wav")), 0.3)
    assert list(found) == list(pair) and "silent.wav" in capsys.readouterr().out


# Example 1's hint --------------------------------------------------------------------------------


def test_example_01_unknown_sound_prints_the_command(tmp_path):
    time = np.arange(RATE // 2) / RATE
    chord = sum(np.sin(2 * np.pi * hertz * k * time) / k for hertz in (220, 277.2, 329.6)
                for k in range(1, 9))
    strange = wav(tmp_path / "strange chord.wav", 0.15 * chord + hiss(0.5))
    words = ["--seconds", 0.2, "--output", tmp_path / "out"]
    lines = good(ONE, *words, "--sounds", tone(tmp_path / "known.wav"), strange)
    place, = [index for index, line in enumerate(lines) if "hardly knows" in line]
    assert re.search(r"strange-chord \[\d\.\d\]", lines[place])
    quote = '"' if os.name == "nt" else "'"
    assert "workshop finetune" in lines[place + 1]
    assert f"{quote}{strange}{quote}" in lines[place + 1]
    assert not any("hardly knows" in line for line in good(
        ONE, *words, "--sounds", "flute.wav", "metal.wav"))


def test_loudest_returns_the_loudest_part():
    audio = np.zeros(40000, np.float32)
    audio[30000:31000] = 0.5
    assert np.count_nonzero(example.loudest(audio)) == 1000
    assert np.array_equal(example.loudest(np.ones(100, np.float32)), [1] * 100)
