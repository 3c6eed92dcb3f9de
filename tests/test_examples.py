"""Both scripts as a user runs them, from the command line and in this process."""

import importlib
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import mido
import numpy as np
import pytest
import soundfile
from check_results import check_gansynth, check_nsynth, check_sound
from PIL import Image

from companion import options

ROOT = Path(__file__).resolve().parent.parent
ONE, TWO = "chapter_05_example_01.py", "chapter_05_example_02.py"
PARSERS = {ONE: options.example_1_options, TWO: options.example_2_options}

unix = pytest.mark.skipif(os.name == "nt", reason="SIGINT cannot be sent to a process on Windows")


def run(script, *words, cwd=None):
    return subprocess.run([sys.executable, str(ROOT / script), *map(str, words)],
                          capture_output=True, text=True, cwd=cwd or ROOT, timeout=300)


def good(script, *words, **more):
    done = run(script, *words, **more)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout.splitlines()


def bad(script, *words, says):
    done = run(script, *words)
    assert done.returncode == 1, (done.returncode, done.stdout, done.stderr)
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("error: "), done.stderr
    assert says in done.stderr, done.stderr
    return done


def call(script, *words):
    """Run a script in this process."""
    module = importlib.import_module(script.removesuffix(".py"))
    module.app(PARSERS[script](module.__doc__).parse_args([*map(str, words)]))


def tone(path, frequency=220.0, seconds=0.3, rate=16000, channels=1, **options):
    wave = 0.5 * np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate)
    soundfile.write(path, np.repeat(wave[:, None], channels, 1), rate, **options)
    return path


def midi(path, *tracks):
    """A file of tracks of (start, end, pitch, velocity), in beats of half a second."""
    file = mido.MidiFile(ticks_per_beat=480)
    for notes in tracks:
        track = mido.MidiTrack()
        events = sorted([(start, 1, pitch, velocity) for start, _, pitch, velocity in notes] +
                        [(end, 0, pitch, 0) for _, end, pitch, _ in notes])
        now = 0
        for beat, on, pitch, velocity in events:
            ticks = round(beat * 480)
            track.append(mido.Message("note_on" if on else "note_off", note=pitch,
                                      velocity=velocity, time=ticks - now))
            now = ticks
        file.tracks.append(track)
    file.save(path)
    return path


def overview(folder):
    """The size of a run's overview, which is not blank."""
    picture = np.asarray(Image.open(folder / "overview.png").convert("RGB")).astype(int)
    assert np.ptp(picture, axis=2).max() > 100
    return picture.shape


def stopped(script, words, when):
    """Start a script, send it Ctrl-C once `when()`, and return what it printed."""
    process = subprocess.Popen(
        [sys.executable, *script, *map(str, words)], stderr=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True, cwd=ROOT)
    deadline = time.monotonic() + 300
    while not when() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    said, errors = process.communicate(timeout=300)
    assert process.returncode == 130 and "Traceback" not in errors, (said, errors)
    return said


# Example 1 -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def default_mixes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nsynth") / "out"
    return folder, good(ONE, "--output", folder, "--seed", 7, cwd=tmp_path_factory.getbasetemp())


def test_example_01_default_run_makes_twelve_mixes_of_four_sounds(default_mixes):
    folder, lines = default_mixes
    check_nsynth(folder)
    overview(folder)
    assert any("seed 7" in line for line in lines) and max(map(len, lines)) < 200
    assert (folder / "index.html").stat().st_size < 3e6
    assert {"bass_flute", "flute_bass", "source_meow", "metal_reconstructed"} <= {
        wav.stem for wav in folder.glob("*.wav")}


def test_example_01_printed_command_repeats_the_run(tmp_path, default_mixes):
    wav = tone(tmp_path / "a tone.wav")
    lines = good(ONE, "--sounds", wav, "--seconds", "0.16", "--output", tmp_path / "out")
    command = next(line for line in lines if line.startswith("Repeat: python "))
    good(*shlex.split(command.removeprefix("Repeat: python ")))
    first, again = (tmp_path / folder / "a-tone_reconstructed.wav" for folder in ("out", "out-2"))
    assert first.read_bytes() == again.read_bytes()


def test_example_01_same_clip_has_the_same_bytes_in_any_run(tmp_path, default_mixes):
    folder, _ = default_mixes
    call(ONE, "--sounds", "flute.wav", "bass.wav", "--seed", 7, "--output", tmp_path / "two")
    name = "bass_flute.wav"
    assert (tmp_path / "two" / name).read_bytes() == (folder / name).read_bytes()
    call(ONE, "--sounds", "flute.wav", "bass.wav", "--seed", 8, "--output", tmp_path / "other")
    assert (tmp_path / "other" / name).read_bytes() != (folder / name).read_bytes()


@pytest.mark.parametrize("name, options", [
    ("stereo.wav", {"channels": 2}), ("24.wav", {"subtype": "PCM_24", "rate": 48000}),
    ("long.wav", {"seconds": 2.0}), ("short.wav", {"seconds": 0.05}),
    ("a.flac", {"rate": 44100}), ("a.mp3", {"rate": 44100})])
def test_example_01_any_sound_becomes_a_source_of_the_length(tmp_path, name, options):
    call(ONE, "--sounds", tone(tmp_path / name, **options), "--seconds", "0.16",
         "--output", tmp_path / "out")
    source, = (tmp_path / "out").glob("source_*.wav")
    assert len(check_sound(source)) == 2560


def test_example_01_folder_leaves_out_and_names_what_cannot_be_read(tmp_path, capsys):
    folder = tmp_path / "in"
    (folder / "loops").mkdir(parents=True)
    tone(folder / "a.wav")
    tone(folder / "b.flac", 300)
    for name in ("broken.ogg", "voice.m4a", ".hidden.wav"):
        (folder / name).write_bytes(b"no sound")
    soundfile.write(folder / "empty.wav", np.zeros(0), 16000)
    soundfile.write(folder / "nan.wav", np.append(np.zeros(16000), np.nan), 16000, "FLOAT")
    call(ONE, "--sounds", folder, "--seconds", "0.1", "--output", tmp_path / "out")
    check_nsynth(tmp_path / "out", 2, 2)
    said = capsys.readouterr().out
    for name in ("broken.ogg", "voice.m4a", "empty.wav", "nan.wav", "loops"):
        assert name in said
    assert "hidden" not in said


def test_example_01_wrong_input_is_one_sentence_and_leaves_no_folder(tmp_path):
    (tmp_path / "text.wav").write_text("this is no sound")
    (tmp_path / "a\x1b[2J.wav").write_text("no sound")
    for words in (["--sounds", tmp_path / "text.wav"], ["--sounds", tmp_path / "a\x1b[2J.wav"],
                  ["--sounds", "n" * 12_700 + ".wav"], ["--checkpoint", "gansynth_starter"],
                  ["--checkpoint", "acoustic_only"]):
        done = bad(ONE, *words, "--output", tmp_path / "out", says="")
        assert "\x1b" not in done.stderr and len(done.stderr) < 700
    assert "meow.wav" in bad(ONE, "--sounds", "meo.wav", says="did you mean").stderr
    assert not (tmp_path / "out").exists()


def test_example_01_official_model_without_download_names_the_option(tmp_path):
    bad(ONE, "--checkpoint", "wavenet-ckpt", "--output", tmp_path / "out", says="--download")


def test_example_01_too_many_clips_name_the_workshop(tmp_path):
    for index in range(30):
        tone(tmp_path / f"s{index}.wav", seconds=0.05)
    bad(ONE, "--sounds", tmp_path, "--output", tmp_path / "out", says="workshop")


@unix
def test_example_01_stopped_run_is_continued_by_the_printed_command(tmp_path):
    wav, out = tone(tmp_path / "a.wav"), tmp_path / "out"
    words = ["--sounds", wav, "--seconds", "4", "--seed", 5, "--output", out]
    said = stopped([ONE], words, lambda: list(out.glob("*.partial.wav")))
    assert not (out / "a_reconstructed.wav").exists()
    codes = (out / "a_reconstructed.partial.codes").stat().st_size
    assert codes > 10_000
    command = next(line for line in said.splitlines() if line.startswith("Continue: python "))
    done = subprocess.run([sys.executable, *shlex.split(command)[2:]], cwd=ROOT, timeout=300)
    assert done.returncode == 0
    call(ONE, *words[:-1], tmp_path / "whole")
    assert (out / "a_reconstructed.wav").read_bytes() == (
        tmp_path / "whole" / "a_reconstructed.wav").read_bytes()
    assert not list(out.glob("*.partial*")) and (out / "index.html").is_file()


# Example 2 -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def default_clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gansynth") / "out"
    return folder, good(TWO, "--output", folder, "--seed", 7, cwd=tmp_path_factory.getbasetemp())


def test_example_02_default_run_plays_the_prelude(default_clip):
    folder, lines = default_clip
    check_gansynth(folder)
    assert any("210 notes" in line and "5 instruments" in line for line in lines)
    assert soundfile.info(folder / "cs1-1pre-short.wav").frames == 30 * 16000
    overview(folder)


def test_example_02_same_seed_same_bytes(tmp_path, default_clip):
    folder, _ = default_clip
    for seed in (7, 8):
        call(TWO, "--seed", seed, "--output", tmp_path / str(seed))
    clip = "cs1-1pre-short.wav"
    assert (tmp_path / "7" / clip).read_bytes() == (folder / clip).read_bytes()
    assert (tmp_path / "8" / clip).read_bytes() != (folder / clip).read_bytes()


@pytest.mark.parametrize("tracks, seconds", [
    ([[(0, 1, 60, 90)]], 3), ([[(2 * i, 2 * i + 2, 60 + i, 90) for i in range(9)]], 12),
    ([[(0, 8, 60, 90)], [(0, 1, 64, 90)]], 7), ([[(0, 1, 60, 90), (1, 2, 10, 90)]], 3)])
def test_example_02_scores_of_every_kind_play(tmp_path, tracks, seconds):
    call(TWO, "--midi", midi(tmp_path / "score.mid", *tracks), "--seed", 1,
         "--output", tmp_path / "out")
    assert len(check_sound(tmp_path / "out" / "score.wav")) == seconds * 16000
    overview(tmp_path / "out")


def test_example_02_score_name_of_many_bytes_fits(tmp_path):
    score = midi(tmp_path / f"{'音' * 80}.mid", [(0, 1, 60, 90)])
    call(TWO, "--midi", score, "--seed", 1, "--output", tmp_path / "out")
    check_gansynth(tmp_path / "out")


@pytest.mark.parametrize("content, says", [
    (b"this is no score", "MIDI"), ([(0, 1, 100, 90)], "24 to 84"), (None, "does not exist")])
def test_example_02_wrong_score_is_one_sentence(tmp_path, content, says):
    path = tmp_path / "score.mid"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        midi(path, content)
    bad(TWO, "--midi", path, "--output", tmp_path / "out", says=says)
    assert not (tmp_path / "out").exists()
