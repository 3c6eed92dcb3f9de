"""What stands around a run: options that are heard, budget, folders, stops, printing."""

import contextlib
import functools
import hashlib
import http.server
import importlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from test_examples import ONE, ROOT, TWO, bad, call, good, midi, run, tone, unix

import audio_utils
from companion import inputs, plan, results
from companion.run import explained
from synths import InputError, files, gansynth, nsynth
from synths.nsynth import mixing


@pytest.fixture
def decoded(monkeypatch):
    """Example 1 with what its decoder is given, instead of a decoder."""
    given = []

    def synthesize(encodings, save_paths, checkpoint, **options):
        given.append((encodings, [path.stem for path in save_paths], options))
        for path in save_paths:
            files.write_wav(path, np.full(512, 0.1, np.float32))

    monkeypatch.setattr(nsynth, "synthesize", synthesize)
    example = importlib.import_module("chapter_05_example_01")

    def make(folder, *words):
        call(example, "--output", folder / f"out{len(given)}", *words)
        return given[-1]
    return make


def test_the_encodings_that_are_decoded_are_those_asked_for(tmp_path, decoded):
    wavs = tone(tmp_path / "a.wav"), tone(tmp_path / "b.wav", 330)
    words = ["--sounds", *wavs, "--seconds", "0.16"]
    plain, names, options = decoded(tmp_path, *words)
    assert [name.split("_seed")[0] for name in names] == [
        "a_reconstructed", "b_reconstructed", "a_b", "b_a"]
    sounds = nsynth.encode(np.array([audio_utils.load_audio(wav, 2560) for wav in wavs]), None)
    np.testing.assert_allclose(plain[:2], sounds, atol=1e-6)
    np.testing.assert_allclose(plain[2], 2 / 3 * sounds[0] + 1 / 3 * sounds[1], atol=1e-6)
    assert options["temperature"] == 1 and options["fade"] == 0.005

    np.testing.assert_allclose(decoded(tmp_path, *words, "--scale", "0.5")[0], plain / 2,
                               atol=1e-6)
    book = decoded(tmp_path, *words, "--mix", "book")[0]
    np.testing.assert_allclose(book[3], sounds[1] + 0.5 * sounds[0], atol=1e-6)
    ratio = decoded(tmp_path, *words, "--ratio", "0.9")[0]
    np.testing.assert_allclose(ratio[2], 0.9 * sounds[0] + 0.1 * sounds[1], atol=1e-6)
    _, _, options = decoded(tmp_path, *words, "--temperature", "0.5", "--precision", "float32",
                            "--threads", "1")
    assert (options["temperature"], options["precision"], options["threads"]) == (
        0.5, "float32", 1)
    stretched = decoded(tmp_path, *words, "--stretch", "2")[0]
    np.testing.assert_allclose(stretched[0], audio_utils.timestretch(sounds[0], 2), atol=1e-6)


def test_trim_and_level_change_what_is_encoded(tmp_path, decoded):
    late = tmp_path / "late.wav"
    wave = 0.25 * np.sin(2 * np.pi * 220 * np.arange(4800) / 16000)
    soundfile.write(late, np.concatenate([np.zeros(8000), wave]), 16000)
    words = ["--sounds", late, "--seconds", "0.16", "--quiet"]
    plain = decoded(tmp_path, *words)[0]
    trimmed = decoded(tmp_path, *words, "--trim")[0]
    levelled = decoded(tmp_path, *words, "--trim", "--level")[0]
    for name, place in (("out0", 0.0), ("out1", 0.25), ("out2", 0.9)):
        audio = soundfile.read(tmp_path / name / "source_late.wav")[0]
        assert np.abs(audio).max() == pytest.approx(place, abs=0.01)
    assert np.abs(plain - trimmed).max() > 0.1 and np.abs(levelled - trimmed).max() > 0.1


def test_a_decoded_file_is_faded(tmp_path):
    wav = tone(tmp_path / "a.wav")
    good(ONE, "--sounds", wav, "--seconds", "0.1", "--seed", 1, "--output", tmp_path / "out")
    whole = nsynth.decode(
        np.load(tmp_path / "out" / "encodings" / "a.npy")[None], None,
        nsynth.draw_uniforms(1, [mixing.reconstructions(["a"])[0].identity], 1536))[0]
    heard = soundfile.read(tmp_path / "out" / "a_reconstructed_seed1.wav")[0]
    ramp = np.ones(1536)
    ramp[:80] = np.arange(80) / 80
    ramp[-80:] = ramp[:80][::-1]
    np.testing.assert_allclose(heard, whole * ramp, atol=1e-4)


def test_seconds_per_instrument_moves_the_instruments(tmp_path):
    score = midi(tmp_path / "score.mid", [(i, i + 1, 60, 90) for i in range(24)])
    counts = []
    for seconds in (2, 6):
        good(TWO, "--midi", score, "--seed", 1, "--seconds-per-instrument", seconds,
             "--output", tmp_path / str(seconds))
        z, times = gansynth.load_instruments(
            tmp_path / str(seconds) / "score_seed1_instruments.npz")
        counts.append(len(z))
    assert counts[0] > counts[1]


def test_the_same_clip_has_the_same_bytes_in_any_run(tmp_path):
    name = "bass_flute_seed1823.wav"
    words = ["--pairs", "bass+flute", "--ratio", "0.25", "--seed", 1823, "--seconds", "0.2",
             "--output"]
    good(ONE, *words, tmp_path / "all")
    good(ONE, *words, tmp_path / "two", "--sounds", ROOT / "sounds" / "flute.wav",
         ROOT / "sounds" / "bass.wav")
    assert (tmp_path / "all" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


# Only what was asked ---------------------------------------------------------------------------


def test_pairs_make_only_what_they_name(tmp_path, decoded):
    encodings, names, _ = decoded(tmp_path, "--pairs", "bass+flute", "--steps", "5",
                                  "--seconds", "0.1")
    assert [name.split("_seed")[0] for name in names] == [
        f"bass_flute_step{step}of5" for step in range(1, 6)]
    assert sorted(path.name for path in (tmp_path / "out0").glob("source_*.wav")) == [
        "source_bass.wav", "source_flute.wav"]


@pytest.mark.parametrize("script, words", [
    (ONE, ["--steps", 3, "--crossfade"]), (ONE, ["--steps", 3, "--ratio", 0.5]),
    (ONE, ["--steps", 3, "--mix", "mean"]), (ONE, ["--crossfade", "--ratio", 0.5]),
    (ONE, ["--mix", "mean", "--ratio", 0.5]), (TWO, ["--preview", 2, "--instruments", "1"]),
    (TWO, ["--preview", 2, "--midi", "a.mid"]), (TWO, ["--preview", 2, "--tempo", 2])])
def test_contradictions_are_refused(tmp_path, script, words):
    out = tmp_path / "out"
    bad(script, *words, "--output", out, says=f"{words[0]} and {words[-2]}|contradict")
    assert not out.exists()


def test_a_pair_named_twice_is_refused(tmp_path):
    bad(ONE, "--pairs", "bass+flute", "bass+flute", "--output", tmp_path / "out", says="twice")


def test_the_encodings_of_a_run_can_be_given_as_a_folder(tmp_path):
    wavs = tone(tmp_path / "a.wav"), tone(tmp_path / "b.wav", 330)
    words = ["--seconds", "0.1", "--seed", 1, "--output"]
    good(ONE, "--sounds", *wavs, *words, tmp_path / "out")
    good(ONE, "--sounds", tmp_path / "out" / "encodings", *words, tmp_path / "again")
    for name in ("a_b_seed1.wav", "b_reconstructed_seed1.wav"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_dot_files_in_a_folder_are_passed_over(tmp_path):
    (tmp_path / "mine").mkdir()
    tone(tmp_path / "mine" / "a.wav")
    (tmp_path / "mine" / "._a.wav").write_bytes(b"of another system")
    good(ONE, "--sounds", tmp_path / "mine", "--seconds", "0.1", "--output", tmp_path / "out")


def test_a_note_that_dies_early_is_said(tmp_path):
    score = midi(tmp_path / "score.mid", [(0, 24, 60, 90), (24, 25, 60, 90)])
    lines = good(TWO, "--midi", score, "--output", tmp_path / "out")
    assert "1 note is held longer than the 4 s that the model makes, and ends early." in (
        lines) or any("1 note is held longer than the 4 s" in line for line in lines)


# A budget before work --------------------------------------------------------------------------


def test_too_many_clips_ask_for_a_word(tmp_path):
    for i in range(30):
        tone(tmp_path / f"s{i}.wav", seconds=0.05)
    out = tmp_path / "out"
    bad(ONE, "--sounds", tmp_path, "--output", out, says="30 sounds make 900 clips: .*--many")
    assert not out.exists()


def test_two_hundred_sounds_with_three_pairs_are_three_pairs(tmp_path, decoded):
    (tmp_path / "in").mkdir()
    for i in range(200):
        tone(tmp_path / "in" / f"s{i:03}.wav", 200 + i, seconds=0.05)
    _, names, _ = decoded(tmp_path, "--sounds", tmp_path / "in", "--seconds", "0.1", "--pairs",
                          "s000+s199", "s010+s020", "s020+s010")
    assert len(names) == 3 + 4


def test_what_the_disk_does_not_hold_is_refused(tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 1_000_000})
    monkeypatch.setattr(plan.shutil, "disk_usage", lambda path: usage)
    example = importlib.import_module("chapter_05_example_01")
    with pytest.raises(InputError, match="16 clips need 8.4 MB, and .* has 1.0 MB left"):
        call(example, "--output", tmp_path / "out")
    score = midi(tmp_path / "score.mid", [(0, 1, 60, 90), (100, 101, 60, 90)])
    example = importlib.import_module("chapter_05_example_02")
    with pytest.raises(InputError, match="50 s of sound need 4.6 MB, and .* has 1.0 MB left"):
        call(example, "--midi", score, "--output", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_the_memory_does_not_hold_asks_for_a_word(tmp_path, monkeypatch, decoded):
    monkeypatch.setattr(plan, "free_memory", lambda: 4.05e8)
    wavs = tone(tmp_path / "a.wav"), tone(tmp_path / "b.wav", 330)
    words = ["--sounds", *wavs, "--seconds", "30"]
    with pytest.raises(InputError, match="needs 4.* MB of memory, and 405.0 MB are free.*--many"):
        decoded(tmp_path, *words)
    decoded(tmp_path, "--sounds", *wavs, "--seconds", "0.1")
    decoded(tmp_path, "--sounds", *wavs, "--seconds", "0.1", "--many")
    monkeypatch.setattr(plan, "free_memory", lambda: None)
    decoded(tmp_path, "--sounds", *wavs, "--seconds", "0.1")


def test_the_free_memory_is_known_where_the_system_tells(monkeypatch):
    assert plan.free_memory() > 1e7
    monkeypatch.setattr("builtins.open", lambda *_, **__: (_ for _ in ()).throw(OSError))
    assert plan.free_memory() is None or plan.free_memory() > 1e7


def test_the_plan_says_time_size_and_page(tmp_path):
    wav = tone(tmp_path / "a.wav")
    lines = good(ONE, "--sounds", wav, "--seconds", "0.1", "--output", tmp_path / "out")
    assert any(re.search("To make: 1 clip of 0.1 s, about .* s of work, 0.5 MB on disk, 0.1 MB of "
                         "it the page; seed", line) for line in lines)
    score = midi(tmp_path / "score.mid", [(0, 1, 60, 90)])
    lines = good(TWO, "--midi", score, "--output", tmp_path / "two")
    assert any(re.search("score: 1 note, .*about 1 s of work, 0.8 MB on disk; seed", line)
               for line in lines)


def test_a_score_of_hours_is_refused(tmp_path):
    score = midi(tmp_path / "score.mid", [(0, 1, 60, 90), (18000, 18001, 60, 90)])
    assert score.stat().st_size < 100
    bad(TWO, "--midi", score, "--output", tmp_path / "out", says="2 notes in 2.5 hours.*--many")
    assert not (tmp_path / "out").exists()


# Folders ---------------------------------------------------------------------------------------


def test_two_runs_at_once_get_a_folder_each(tmp_path):
    wav = tone(tmp_path / "a.wav")
    words = [sys.executable, ROOT / ONE, "--sounds", wav, "--seconds", "0.3", "--quiet",
             "--overwrite", "--output", tmp_path / "out"]
    both = [subprocess.Popen([*map(str, words), "--seed", str(seed)]) for seed in (1, 2)]
    assert [process.wait(120) for process in both] == [0, 0]
    for folder in (tmp_path / "out", tmp_path / "out-2"):
        seed = json.loads((folder / results.RUN_FILE).read_bytes())["seed"]
        assert [wav.name for wav in folder.glob("*_seed*.wav")] == [
            f"a_reconstructed_seed{seed}.wav"]
        assert (folder / "index.html").is_file() and not list(folder.glob(".*"))


@pytest.mark.parametrize("output", [".", ""])
def test_the_folder_where_one_stands_can_hold_the_results(tmp_path, output):
    wav = tone(tmp_path / "a.wav")
    here = tmp_path / "here"
    here.mkdir()
    words = ["--sounds", wav, "--seconds", "0.1", "--seed", 1, "--output", output]
    good(ONE, *words, cwd=here)
    assert (here / "index.html").is_file()
    good(ONE, *words, cwd=here)
    assert (tmp_path / "here-2" / "index.html").is_file()


def test_leftovers_of_a_killed_run_are_swept(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / f".index.html.{'0' * 16}.part").write_bytes(b"half")
    wav = tone(tmp_path / "a.wav")
    good(ONE, "--sounds", wav, "--seconds", "0.1", "--output", out)
    assert not list(out.glob(".*"))


def test_what_made_a_run_is_kept_beside_it(tmp_path):
    wav = tone(tmp_path / "a.wav")
    good(ONE, "--sounds", wav, "--seconds", "0.1", "--seed", 3, "--output", tmp_path / "out")
    kept = json.loads((tmp_path / "out" / "run.json").read_bytes())
    assert kept["sources"] == {str(wav): hashlib.sha256(wav.read_bytes()).hexdigest()}
    assert kept["seed"] == 3 and len(kept["weights"]) == 64


def test_the_command_is_quoted_for_the_system(tmp_path):
    example = importlib.import_module("chapter_05_example_01")
    parser = example.parse_options()
    options = parser.parse_args(["--seed", "1", "--output", "a b", "--pairs", "x+y"])
    options.defaults = vars(parser.parse_args([]))
    weights = ROOT / "checkpoints" / "nsynth_starter" / "model.ckpt-1"
    command = results.command_line(options, weights, [tmp_path / "it's.wav"])
    assert "--checkpoint nsynth_starter" in command and "--pairs x+y" in command
    words = ["python", "a b/it's.py"]
    assert shlex.split(results.quoted(words, "posix")) == words
    assert results.quoted(words, "nt") == 'python "a b/it\'s.py"'


def test_what_repeats_a_run_names_the_sounds_as_they_were_named(tmp_path):
    """Alone with the flute, kick_1 would be kick: another name, and other random numbers."""
    wavs = [tone(tmp_path / name, 200 + 50 * i)
            for i, name in enumerate(("kick_1.wav", "kick_2.wav", "flute.wav", "bell.wav"))]
    for pair, named in (("kick_1+flute", 4), ("flute+bell", 2)):
        out = tmp_path / pair
        lines = good(ONE, "--sounds", *wavs, "--pairs", pair, "--seconds", "0.1", "--output", out)
        command = next(line for line in lines if line.startswith("To repeat this run: python "))
        words = shlex.split(command.split("run: python ")[1])
        assert sum(word.endswith(".wav") for word in words) == named
        good(ONE, *words[1:], cwd=tmp_path)
        for wav in out.glob("*.wav"):
            assert (tmp_path / f"{pair}-2" / wav.name).read_bytes() == wav.read_bytes()


def test_names_that_would_be_one_file_are_settled_before_any_work(tmp_path):
    for folder, name in (("A", "Kick"), ("B", "kick")):
        (tmp_path / folder).mkdir()
        tone(tmp_path / folder / f"{name}.wav")
    wavs = [tmp_path / "A" / "Kick.wav", tmp_path / "B" / "kick.wav"]
    good(ONE, "--sounds", *wavs, "--seconds", "0.1", "--seed", 1, "--output", tmp_path / "out")
    names = [wav.name.casefold() for wav in (tmp_path / "out").glob("*.wav")]
    assert len(set(names)) == 2 + 4
    clash = [tone(tmp_path / f"{name}.wav") for name in ("kick", "kick_snare", "snare_hat", "hat")]
    good(ONE, "--sounds", *clash, "--seconds", "0.1", "--seed", 1, "--output", tmp_path / "clash",
         "--pairs", "kick+snare_hat", "kick_snare+hat")
    assert len(list((tmp_path / "clash").glob("*_seed1.wav"))) == 6
    long = [tone(tmp_path / f"{letter * 114}.wav") for letter in "xy"]
    good(ONE, "--sounds", *long, "--seconds", "0.1", "--seed", 1, "--output", tmp_path / "long")
    assert len(list((tmp_path / "long").glob("*_seed1.wav"))) == 4


@unix
def test_a_folder_above_is_a_folder(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    wav = tone(tmp_path / "a" / "s.wav")
    good(ONE, "--sounds", wav, "--seconds", "0.1", "--output", "..", cwd=tmp_path / "a" / "b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "a-2"]
    assert (tmp_path / "a-2" / "index.html").is_file()


def test_a_stopped_run_is_not_overwritten_unless_asked(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    for name in ("x_seed1.partial.codes", "x_seed1.partial.wav"):
        (out / name).write_bytes(b"kept")
    words = ["--sounds", tone(tmp_path / "a.wav"), "--seconds", "0.1", "--output", out]
    lines = good(ONE, *words)
    assert any("--resume goes on with it" in line for line in lines)
    assert sorted(path.name for path in out.iterdir()) == [
        "x_seed1.partial.codes", "x_seed1.partial.wav"]
    good(ONE, *words, "--overwrite")
    assert not list(out.glob("x_*")) and (out / "index.html").is_file()


# Stops and faults ------------------------------------------------------------------------------


@unix
@pytest.mark.parametrize("which", [signal.SIGTERM, signal.SIGHUP] if os.name != "nt" else [])
def test_a_stopped_run_keeps_what_is_done_and_goes_on(tmp_path, which):
    wav, out = tone(tmp_path / "a.wav"), tmp_path / "out"
    words = ["--sounds", wav, "--seconds", "8", "--seed", 5, "--output", out]
    before = signal.signal(which, signal.SIG_DFL)  # where these tests run under nohup
    process = subprocess.Popen([sys.executable, str(ROOT / ONE), *map(str, words)],
                               stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    signal.signal(which, before)
    while not list(out.glob("*.partial.wav")) and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(which)
    said, errors = process.communicate(timeout=300)
    assert process.returncode == 130 and "Traceback" not in errors, errors
    assert (out / "index.html").is_file()
    part = soundfile.read(out / "a_reconstructed_seed5.partial.wav", dtype="int16")[0]
    codes = (out / "a_reconstructed_seed5.partial.codes").stat().st_size
    assert len(part) < codes < 1.01 * len(part) + 100
    command = next(line for line in said.splitlines() if line.startswith("To go on with it: "))
    goes_on = shlex.split(command.split("with it: python ")[1])
    assert goes_on[-1] == "--resume" and str(out) in goes_on
    good(ONE, *goes_on[1:])
    whole = soundfile.read(out / "a_reconstructed_seed5.wav", dtype="int16")[0]
    assert 512 < len(part) < len(whole) == 8 * 16000
    assert np.array_equal(part[:-80], whole[:len(part) - 80]) and not list(out.glob("*.partial*"))


def test_resume_refuses_another_run(tmp_path):
    wav = tone(tmp_path / "a.wav")
    words = ["--sounds", wav, "--seconds", "0.1", "--output", tmp_path / "out"]
    bad(ONE, *words, "--resume", says="no run to go on with")
    good(ONE, *words, "--seed", 1)
    bad(ONE, *words, "--resume", "--scale", "0.5", says="another one")
    bad(ONE, *words, "--resume", "--seed", "2", says="another one")
    good(ONE, *words, "--resume")


@unix
@pytest.mark.parametrize("which", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_in_the_first_moment_is_no_traceback(which):
    code = (f"import os; from companion.start import start; start(); "
            f"os.kill(os.getpid(), {int(which)}); import numpy")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 130 and done.stderr == "\nstopped before anything was begun\n"


def test_a_full_disk_is_one_sentence_and_loses_no_finished_sound(tmp_path, monkeypatch):
    example = importlib.import_module("chapter_05_example_02")
    score = midi(tmp_path / "score.mid", [(0, 1, 60, 90)])

    def full(*_, **__):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(audio_utils, "save_picture", full)
    with pytest.raises(OSError) as caught:
        call(example, "--midi", score, "--output", tmp_path / "out")
    assert explained(caught.value) == (1, "error: The system refused: No space left on device.")
    assert soundfile.info(tmp_path / "out" / "score_seed1.wav").frames > 16000


def test_a_stop_between_a_sound_and_its_picture_loses_nothing(tmp_path, monkeypatch):
    example = importlib.import_module("chapter_05_example_02")
    score = midi(tmp_path / "score.mid", [(0, 1, 60, 90)])
    drawn, draw = [], audio_utils.save_picture

    def stopped(image, name, *words, **named):
        drawn.append(name)
        if len(drawn) == 1:
            raise KeyboardInterrupt
        return draw(image, name, *words, **named)
    monkeypatch.setattr(audio_utils, "save_picture", stopped)
    with pytest.raises(KeyboardInterrupt):
        call(example, "--midi", score, score, "--output", tmp_path / "out")
    assert drawn == ["score_seed1.png", "overview.png"]
    page = (tmp_path / "out" / "index.html").read_text("utf-8")
    assert "score_seed1.wav" in page and "1 of 2 clips is finished; missing: score-2" in page


def test_a_fault_of_ours_is_one_sentence_with_a_log():
    try:
        raise TypeError("not ours " * 100)
    except TypeError as error:
        code, sentence = explained(error)
    log = Path(sentence.split("the details are in ")[1].rstrip("."))
    assert code == 1 and "TypeError: not ours" in sentence and len(sentence) < 500
    assert "Traceback" in log.read_text("utf-8")
    log.unlink()


# Printing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("script, words", [(ONE, ["--seconds", "0.1"]), (TWO, [])])
def test_printing_never_fails(tmp_path, script, words):
    kind, source = ("--sounds", tone(tmp_path / "ベル.wav")) if script == ONE else (
        "--midi", midi(tmp_path / "ベル.mid", [(0, 1, 60, 90)]))
    done = subprocess.run([sys.executable, str(ROOT / script), kind, str(source), *words,
                           "--output", str(tmp_path / "o🎵")], capture_output=True,
                          env={**os.environ, "PYTHONIOENCODING": "cp1252"}, timeout=120)
    assert done.returncode == 0 and done.stderr == b"", done.stderr
    assert (tmp_path / "o🎵" / "index.html").is_file()


@unix
@pytest.mark.skipif(sys.platform == "darwin", reason="its file names are UTF-8 always")
def test_names_that_are_not_utf8(tmp_path):
    score = os.fsencode(midi(tmp_path / "cafe.mid", [(0, 1, 60, 90)]))
    strange = score.replace(b"cafe", b"caf\xe9")
    os.rename(score, strange)
    out = os.fsencode(tmp_path) + b"/o_\xe9"
    done = subprocess.run([sys.executable, str(ROOT / TWO), "--midi", strange, "--output", out],
                          capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert any(name.endswith(b".wav") for name in os.listdir(out))


@unix
def test_a_closed_pipe_ends_well(tmp_path):
    wav = tone(tmp_path / "a.wav")
    done = subprocess.run(f"'{sys.executable}' '{ROOT / ONE}' --sounds '{wav}' --seconds 0.1 "
                          f"--output '{tmp_path}/out' | head -1", shell=True, capture_output=True,
                          text=True, timeout=120)
    assert done.stdout.count("\n") == 1 and done.stderr == ""
    assert (tmp_path / "out" / "index.html").is_file()


@unix
@pytest.mark.parametrize("words", ["--help | head -1", "--help > /dev/full"])
def test_help_that_nobody_reads(words):
    if "full" in words and not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    done = subprocess.run(["bash", "-c", f"'{sys.executable}' '{ROOT / ONE}' {words}; "
                           "exit ${PIPESTATUS[0]}"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@unix
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_where_lines_are_kept_does_not_end_the_run(tmp_path):
    wav = tone(tmp_path / "a.wav")
    done = subprocess.run(f"'{sys.executable}' '{ROOT / ONE}' --sounds '{wav}' --seconds 0.1 "
                          f"--output '{tmp_path}/out' > /dev/full", shell=True,
                          capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "out" / "index.html").is_file()


@unix
def test_a_closed_stderr_and_no_docstrings(tmp_path):
    done = subprocess.run(f"'{sys.executable}' -OO '{ROOT / ONE}' --help 2>&-", shell=True,
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "--sounds" in done.stdout


def test_an_option_that_is_nearly_right_is_named():
    done = run(ONE, "--sound", "x.wav")
    assert done.returncode == 2 and done.stderr == (
        "error: --sound is no option; did you mean --sounds?\n")


@pytest.mark.parametrize("script, words, says", [
    (TWO, ["--midi", "nosuch.mid"], "error: nosuch.mid does not exist: check its name and folder."),
    (ONE, ["--sounds", "meo.wav"], "error: meo.wav does not exist; did you mean meow.wav?")])
def test_a_missing_file_is_said_plainly(script, words, says, tmp_path):
    done = bad(script, *words, "--output", tmp_path / "out", says="does not exist")
    assert done.stderr == says + "\n"
    assert not (tmp_path / "out").exists()


@unix
@pytest.mark.parametrize("script, words, says", [
    (TWO, ["--midi", "pipe.mid"], "is no file"),
    (TWO, ["--midi", "a\x1b[2J.mid"], "a .2J.mid"),
    (ONE, ["--sounds", "n" * 12_700 + ".wav"], "File name too long"),
    (TWO, ["--instruments", "n" * 12_700], "Instruments are"),
    (ONE, ["--checkpoint", "~nouser/x"], "There is no checkpoint '~nouser/x'")])
def test_odd_names_are_one_short_sentence(tmp_path, script, words, says):
    os.mkfifo(tmp_path / "pipe.mid")
    (tmp_path / "a\x1b[2J.mid").write_bytes(b"no score")
    if words[0] == "--midi":
        words = [words[0], tmp_path / words[1]]
    done = bad(script, *words, "--output", tmp_path / "out", says=says)
    assert "\x1b" not in done.stderr and len(done.stderr) < 600
    assert not (tmp_path / "out").exists()


def test_a_file_in_the_place_of_a_folder_is_said_plainly(tmp_path):
    out = tone(tmp_path / "out.wav")
    done = bad(ONE, "--output", out, says="is a file")
    assert done.stderr == f"error: {out} is a file, and the output needs a folder: name another.\n"


@pytest.mark.parametrize("version, says", [((3, 13), "Magenta and TensorFlow, which are not"),
                                           ((3, 14), "no build for Python 3.14")])
@pytest.mark.parametrize("script", [ONE, TWO])
def test_without_tensorflow_magentas_engine_says_why_not(tmp_path, monkeypatch, script, version,
                                                         says):
    known = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: (
        None if name == "tensorflow" else known(name, *rest)))
    monkeypatch.setattr(inputs.sys, "version_info", version)
    with pytest.raises(InputError, match=says):
        call(importlib.import_module(script.removesuffix(".py")), "--engine", "magenta",
             "--output", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pairs_take_the_names_that_are_shown_and_those_on_disk(tmp_path, decoded):
    for name in ("kick drum 01", "trumpet_A4", "trumpet_B4"):
        tone(tmp_path / f"{name}.wav")
    words = ["--sounds", tmp_path, "--seconds", "0.1", "--pairs"]
    for pair in ("trumpet_A4+trumpet_B4", "kick drum 01+trumpet_A4.wav"):
        decoded(tmp_path, *words, pair)
    page = (tmp_path / "out0" / "index.html").read_text("utf-8")
    assert "trumpet_A4 with trumpet_B4" in page


def test_many_sounds_are_counted(tmp_path):
    for i in range(8):
        tone(tmp_path / f"s{i}.wav", seconds=0.05 if i else 0.3)
    lines = good(ONE, "--sounds", tmp_path, "--seconds", "0.1", "--pairs", "s0+s1", "s2+s3",
                 "s4+s5", "s6+s7", "--output", tmp_path / "out")
    assert "Sounds, 0.1 s of each: 8, 1 cut, 7 then silence." in lines


# Downloads -------------------------------------------------------------------------------------


@contextlib.contextmanager
def served(folder):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        handler.log_message = lambda *_: None
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_only_official_weights_are_fetched():
    example = importlib.import_module("chapter_05_example_01")
    parser = example.parse_options()
    for words, wanted in ((["--download"], "wavenet-ckpt"), ([], None),
                          (["--checkpoint", "wavenet-voice-ckpt"], "wavenet-voice-ckpt"),
                          (["--checkpoint", "nsynth_starter", "--download"], None),
                          (["--checkpoint", "acoustic_only"], None)):
        options = parser.parse_args(words)
        assert inputs.wanted_download(options, "nsynth", "wavenet-ckpt") == wanted
