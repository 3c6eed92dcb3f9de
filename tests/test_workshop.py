"""The workshop's mix, play and preview."""

import json
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from check_results import check_nsynth, check_run, check_sound
from test_examples import ROOT, midi, overview, stopped, tone, unix

import audio_utils
from companion import example
from synths import InputError, gansynth
from workshop.__main__ import parser


def call(*words):
    options = parser().parse_args([*map(str, words)])
    options.run(options)


def mixed(tmp_path, *words, output="out"):
    """Mix two tones; return the folder."""
    if not (tmp_path / "a.wav").exists():
        tone(tmp_path / "a.wav")
        tone(tmp_path / "b.wav", 330)
    sounds = () if "--sounds" in words else ("--sounds", tmp_path / "a.wav", tmp_path / "b.wav")
    call("mix", *sounds, "--seconds", "0.16", "--seed", 1, "--output", tmp_path / output, *words)
    return tmp_path / output


@pytest.fixture
def decoded(monkeypatch):
    """What the decoder is given, in place of decoding."""
    given = []

    class Fastgen:
        from synths.nsynth.fastgen import encode
        encode = staticmethod(encode)

        @staticmethod
        def synthesize(encodings, paths, checkpoint, samples_per_save, *, decoding,
                       reference_audio):
            given.append((dict(zip((str(path).rpartition("/")[2][:-4] for path in paths),
                                   np.asarray(encodings))), decoding))
            for path in paths:
                soundfile.write(path, np.full(512, 0.1), 16000)
    monkeypatch.setattr(example, "engine_of", lambda *_: Fastgen)
    return given


def test_mix_makes_the_clips_of_the_script(tmp_path):
    check_nsynth(mixed(tmp_path), 2, 2)
    overview(tmp_path / "out")


@pytest.mark.parametrize("words, names", [
    (["--steps", 3], ["a_b_step1of3", "a_b_step2of3", "a_b_step3of3"]),
    (["--crossfade", "--pairs", "b+a"], ["a_reconstructed", "b_reconstructed", "b_to_a"]),
    (["--weights", 0.5, 0.5], ["a_b", "a_reconstructed", "b_reconstructed"])])
def test_mix_options_decide_the_clips(tmp_path, decoded, words, names):
    folder = mixed(tmp_path, *words)
    assert sorted(decoded[0][0]) == names and len(decoded) == 1
    check_run(folder)


def test_mix_options_change_the_encodings(tmp_path, decoded):
    mixed(tmp_path, output="plain")
    plain = decoded[0][0]
    mixed(tmp_path, "--weights", 0.75, 0.25, output="weights")
    np.testing.assert_allclose(decoded[1][0]["a_b"], 0.75 * plain["a_reconstructed"]
                               + 0.25 * plain["b_reconstructed"], atol=1e-5)
    mixed(tmp_path, "--scale", 0.5, "--stretch", 2, output="scaled")
    np.testing.assert_allclose(
        decoded[2][0]["a_reconstructed"],
        0.5 * audio_utils.timestretch(plain["a_reconstructed"][None], 2)[0], atol=1e-6)


def test_mix_options_reach_the_decoder(tmp_path, decoded):
    mixed(tmp_path, "--temperature", 0.5, "--precision", "float32", "--threads", 1)
    decoding = decoded[0][1]
    assert (decoding.temperature, decoding.precision, decoding.threads, decoding.seed,
            decoding.fade) == (0.5, "float32", 1, 1, 0.005)
    assert "1.000000 a + 0.500000 b" in decoding.streams


def test_mix_trim_and_level_change_the_source(tmp_path, decoded):
    wave = 0.25 * np.sin(2 * np.pi * 220 * np.arange(4800) / 16000)
    soundfile.write(tmp_path / "late.wav", np.concatenate([np.zeros(8000), wave]), 16000)
    for index, (words, peak) in enumerate([([], 0), (["--trim"], 0.25),
                                           (["--trim", "--level"], 0.9)]):
        folder = mixed(tmp_path, "--sounds", tmp_path / "late.wav", *words, output=str(index))
        audio = soundfile.read(folder / "source_late.wav")[0]
        assert np.abs(audio).max() == pytest.approx(peak, abs=0.01)


def test_mix_saved_encodings_take_the_place_of_their_sounds(tmp_path):
    first = mixed(tmp_path)
    again = mixed(tmp_path, "--sounds", first / "encodings" / "a.npy", tmp_path / "b.wav",
                  output="again")
    for name in ("a_b.wav", "a_reconstructed.wav"):
        assert (first / name).read_bytes() == (again / name).read_bytes()
    assert not (again / "source_a.wav").exists()


def test_mix_encodings_of_other_length_are_an_input_error(tmp_path):
    mixed(tmp_path)
    np.save(tmp_path / "c.npy", np.zeros((9, 16), np.float32))
    with pytest.raises(InputError, match="--seconds"):
        mixed(tmp_path, "--sounds", tmp_path / "c.npy", tmp_path / "b.wav", output="other")
    assert not (tmp_path / "other").exists()


def test_mix_many_sounds_with_pairs_use_only_these(tmp_path, decoded):
    (tmp_path / "in").mkdir()
    for index in range(60):
        tone(tmp_path / "in" / f"s{index}.wav", 200 + index, 0.05)
    folder = mixed(tmp_path, "--sounds", tmp_path / "in", "--pairs", "s0+s59")
    assert sorted(decoded[0][0]) == ["s0_reconstructed", "s0_s59", "s59_reconstructed"]
    assert len(list(folder.glob("source_*.wav"))) == 2
    with pytest.raises(InputError, match="--yes"):
        mixed(tmp_path, "--sounds", tmp_path / "in", output="all")


def test_mix_labels_draw_axes(tmp_path, decoded):
    sizes = [soundfile and (mixed(tmp_path, *words, output=name) / "a_b.png").read_bytes()
             for name, words in (("bare", []), ("labels", ["--labels"]))]
    assert sizes[0] != sizes[1]


@unix
def test_mix_stopped_run_continues_with_yes_added(tmp_path):
    wav = tone(tmp_path / "a.wav")
    words = ["--sounds", wav, "--seconds", 8, "--output", tmp_path / "out"]
    stopped(["-m", "workshop", "mix"], words, lambda: list(
        (tmp_path / "out").glob("*.partial.wav")))
    seed = json.loads((tmp_path / "out" / "run.json").read_bytes())["seed"]
    call("mix", *words, "--resume", "--yes")
    assert json.loads((tmp_path / "out" / "run.json").read_bytes())["seed"] == seed
    assert len(check_sound(tmp_path / "out" / "a_reconstructed.wav")) == 8 * 16000
    assert not (tmp_path / "out-2").exists()


# Scores ------------------------------------------------------------------------------------------


@pytest.fixture
def score(tmp_path):
    return midi(tmp_path / "score.mid", [(i, i + 1, 60 + i, 90) for i in range(8)])


def test_preview_and_play_without_seed_take_the_previews_instruments(tmp_path, score, capsys):
    call("preview", "--count", 3, "--output", tmp_path / "preview")
    assert check_run(tmp_path / "preview") == ["instrument01", "instrument02", "instrument03"]
    seed = json.loads((tmp_path / "preview" / "run.json").read_bytes())["seed"]
    capsys.readouterr()
    call("play", "--midi", score, "--instruments", "3,1@2", "--output", tmp_path / "play")
    assert f"seed {seed}" in capsys.readouterr().out
    assert json.loads((tmp_path / "play" / "run.json").read_bytes())["seed"] == seed
    z, times = gansynth.load_instruments(tmp_path / "play" / "score_instruments.npz")
    drawn = np.random.default_rng(seed).normal(size=(3, 256))
    np.testing.assert_allclose(z, drawn[[2, 0]])
    assert times[1] == 2


def test_preview_sound_has_no_silent_tail(tmp_path):
    call("preview", "--count", 1, "--seed", 5, "--output", tmp_path / "preview")
    audio = check_sound(tmp_path / "preview" / "instrument01.wav")
    assert np.abs(audio[-3000:]).max() > 0 and len(audio) < 5 * 16000


def test_play_saved_instruments_repeat_the_clip(tmp_path, score):
    call("play", "--midi", score, "--seed", 3, "--output", tmp_path / "one")
    call("play", "--midi", score, "--instruments", tmp_path / "one" / "score_instruments.npz",
         "--output", tmp_path / "two")
    first, again = (tmp_path / folder / "score.wav" for folder in ("one", "two"))
    assert first.read_bytes() == again.read_bytes()


def test_play_random_instruments_are_those_of_the_script(tmp_path):
    import chapter_05_example_02 as chapter

    call("play", "--seed", 7, "--output", tmp_path / "out")
    clip = chapter.generate_audio(chapter.get_midi_notes(), seed=7)
    heard = soundfile.read(tmp_path / "out" / "cs1-1pre-short.wav", dtype="float32")[0]
    np.testing.assert_allclose(heard, clip, atol=1e-4)


def test_play_tempo_and_several_scores(tmp_path, score):
    (tmp_path / "more").mkdir()
    other = midi(tmp_path / "more" / "score.mid", [(0, 1, 67, 90)])
    call("play", "--midi", score, other, "--tempo", 2, "--seed", 2, "--labels",
         "--output", tmp_path / "out")
    assert check_run(tmp_path / "out") == ["score", "score-2"]
    assert soundfile.info(tmp_path / "out" / "score.wav").frames == 5 * 16000
    overview(tmp_path / "out")


@pytest.mark.parametrize("words", [
    ["mix", "--steps", "3", "--crossfade"], ["mix", "--steps", "3", "--weights", "1", "0"],
    ["play", "--instruments", "1", "--seconds-per-instrument", "2"], ["mix", "--ratio", "1"]])
def test_workshop_contradicting_options_are_one_sentence(words):
    done = subprocess.run([sys.executable, "-m", "workshop", *words], cwd=ROOT, text=True,
                          capture_output=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["mix", "play", "preview"])
def test_workshop_examples_of_the_help_parse(name):
    done = subprocess.run([sys.executable, "-m", "workshop", name, "--help"], cwd=ROOT, text=True,
                          capture_output=True)
    lines = [line.partition("(")[0].split()[3:] for line in done.stdout.splitlines()
             if line.startswith("  python -m workshop")]
    assert len(lines) >= 2
    for words in lines:
        parser().parse_args(words)
