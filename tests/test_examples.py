"""Both examples as a user runs them: from the command line, on the starters, and gone wrong."""

import importlib
import os
import re
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
from scipy import ndimage

import audio_utils

ROOT = Path(__file__).resolve().parent.parent
ONE, TWO = "chapter_05_example_01.py", "chapter_05_example_02.py"


def run(script, *words, cwd=None):
    return subprocess.run([sys.executable, str(ROOT / script), *map(str, words)],
                          capture_output=True, text=True, cwd=cwd or ROOT, timeout=300)


def good(script, *words, **options):
    done = run(script, *words, **options)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.splitlines()


def bad(script, *words, says):
    done = run(script, *words)
    assert done.returncode == 1, (done.returncode, done.stdout, done.stderr)
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("error: "), done.stderr
    assert re.search(says, done.stderr), done.stderr
    return done


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


# Example 1 -------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def default_mixes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nsynth") / "out"
    return folder, good(ONE, "--output", folder, "--seed", 7, cwd=tmp_path_factory.getbasetemp())


def test_example_01_makes_twelve_mixes_of_four_sounds(default_mixes):
    folder, lines = default_mixes
    check_nsynth(folder)
    assert framed(overview(folder, 7)) == 4
    assert lines[0].startswith("Weights: shipped starter nsynth_starter")
    assert any("16 clips of 1 s" in line and "seed 7" in line for line in lines)
    assert lines[-1] == f"Open in a browser: {(folder / 'index.html').as_uri()}"
    assert not any("float32" in line for line in lines)  # there was no choice of precision
    assert (folder / "index.html").stat().st_size < 2.5e6
    assert {"bass_flute_seed7.wav", "flute_bass_seed7.wav", "source_meow.wav",
            "metal_reconstructed_seed7.wav"} <= {wav.name for wav in folder.glob("*.wav")}


def test_example_01_repeats_a_run_from_its_seed_and_changes_with_it(tmp_path, default_mixes):
    words = ["--pairs", "bass+flute", "--seconds", "0.2", "--output"]
    good(ONE, *words, tmp_path / "a", "--seed", 7)
    good(ONE, *words, tmp_path / "b", "--seed", 7)
    good(ONE, *words, tmp_path / "c", "--seed", 8)
    first, again = (tmp_path / run / "bass_flute_seed7.wav" for run in "ab")
    assert first.read_bytes() == again.read_bytes()
    assert first.read_bytes() != (tmp_path / "c" / "bass_flute_seed8.wav").read_bytes()


def test_the_printed_command_repeats_the_run(tmp_path):
    wav = tone(tmp_path / "a tone.wav")
    score = midi(tmp_path / "a score.mid", [(0, 1, 60, 90)])
    for script, words, clip in ((ONE, ["--sounds", wav, "--seconds", "0.16"], "a-tone_*.wav"),
                                (TWO, ["--midi", score], "a score_*.wav")):
        out = tmp_path / script
        lines = good(script, *words, "--output", out)
        command = next(line for line in lines if line.startswith("To repeat this run: python "))
        words = shlex.split(command.split("run: python ")[1])
        assert Path(words[0]) == ROOT / script and "_starter" in words[words.index(
            "--checkpoint") + 1]
        good(script, *words[1:], cwd=tmp_path)
        first, = out.glob(clip)
        again, = (tmp_path / f"{script}-2").glob(clip)
        assert first.name == again.name and first.read_bytes() == again.read_bytes()


def test_example_01_overwrites_nothing_unless_asked(tmp_path):
    wav = tone(tmp_path / "tone.wav")
    words = ["--sounds", wav, "--seconds", "0.1", "--seed", 1, "--output", tmp_path / "out"]
    good(ONE, *words)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    assert any("out-2" in line for line in good(ONE, *words))
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    assert (tmp_path / "out-2" / "tone_reconstructed_seed1.wav").is_file()
    good(ONE, *words, "--overwrite")
    assert not (tmp_path / "out-3").exists()


@pytest.mark.parametrize("name, options", [
    ("stereo.wav", {"channels": 2}), ("eight.wav", {"subtype": "PCM_U8"}),
    ("24.wav", {"subtype": "PCM_24", "rate": 48000}), ("fast.wav", {"rate": 44100}),
    ("long.wav", {"seconds": 2.0}), ("short.wav", {"seconds": 0.05}),
    ("a.flac", {"rate": 44100}), ("a.ogg", {"rate": 44100}), ("a.mp3", {"rate": 44100})])
def test_example_01_takes_whatever_libsndfile_reads(tmp_path, name, options):
    wav = tone(tmp_path / name, **options)
    good(ONE, "--sounds", wav, "--seconds", "0.16", "--output", tmp_path / "out", "--quiet")
    source, = (tmp_path / "out").glob("source_*.wav")
    assert len(check_sound(source)) == 2560


def test_example_01_plays_a_folder_and_saved_encodings(tmp_path):
    (tmp_path / "mine").mkdir()
    for name, frequency in (("a.wav", 200), ("b.flac", 300), ("notes.txt", 0)):
        tone(tmp_path / "mine" / name, frequency, format=None) if frequency else (
            tmp_path / "mine" / name).write_text("no sound")
    words = ["--seconds", "0.16", "--seed", 2]
    good(ONE, "--sounds", tmp_path / "mine", *words, "--output", tmp_path / "out")
    assert {wav.name for wav in (tmp_path / "out").glob("?_?_*.wav")} == {
        "a_b_seed2.wav", "b_a_seed2.wav"}
    good(ONE, "--sounds", tmp_path / "out" / "encodings" / "a.npy", tmp_path / "mine" / "b.flac",
         *words, "--output", tmp_path / "again")
    for name in ("a_b_seed2.wav", "a_reconstructed_seed2.wav"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_example_01_walks_fades_stretches_and_scales(tmp_path):
    a, b = tone(tmp_path / "a.wav"), tone(tmp_path / "b.wav", 330.0)
    words = ["--sounds", a, b, "--seconds", "0.16", "--seed", 1, "--output"]
    good(ONE, *words, tmp_path / "steps", "--steps", 5)
    assert len(list((tmp_path / "steps").glob("a_b_step?of5_seed1.wav"))) == 5
    good(ONE, *words, tmp_path / "fade", "--crossfade", "--pairs", "b+a")
    assert (tmp_path / "fade" / "b_to_a_seed1.wav").is_file()
    lines = good(ONE, *words, tmp_path / "long", "--stretch", 2, "--scale", "0.8", "--labels",
                 "--ratio", "0.9", "--temperature", "0.5", "--trim", "--level", "--threads", 1)
    assert lines[2] == ("Sounds, 0.16 s of each: a (0.3 s, cut), b (0.3 s, cut); silence at the "
                        "beginning left out; peaks brought to 0.9.")
    assert soundfile.info(tmp_path / "long" / "a_b_seed1.wav").frames == 2 * 5 * 512
    good(ONE, *words, tmp_path / "mean", "--mix", "mean", "--precision", "float32")
    assert len(list((tmp_path / "mean").glob("?_?_seed1.wav"))) == 1


def test_example_01_refuses_what_it_cannot_use(tmp_path):
    out = ["--output", tmp_path / "out"]
    text, empty = tmp_path / "text.wav", tmp_path / "empty.wav"
    text.write_text("this is no sound")
    soundfile.write(empty, np.zeros(0), 16000)
    wav = tone(tmp_path / "tone.wav")
    bad(ONE, *out, "--sounds", tmp_path / "nowhere.wav", says="nowhere.wav")
    bad(ONE, *out, "--sounds", text, says="text.wav")
    bad(ONE, *out, "--sounds", empty, says="empty.wav")
    bad(ONE, *out, "--sounds", wav, "--checkpoint", "wavnet", says="wavnet.*nsynth_starter")
    bad(ONE, *out, "--sounds", wav, "--checkpoint", "gansynth_starter", says="GANSynth")
    bad(ONE, *out, "--sounds", wav, "--pairs", "tone+drum", says="drum")
    bad(ONE, *out, "--sounds", wav, "--engine", "magenta", says="512")
    bad(ONE, *out, "--sounds", wav, "--engine", "magenta", "--temperature", "0.5",
        says="temperature 1 only")
    assert not list((tmp_path / "out").glob("*.wav"))
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    bad(ONE, "--sounds", wav, "--output", in_the_way, says="file")
    broken = tmp_path / "broken"
    broken.mkdir()
    for part in (ROOT / "checkpoints" / "nsynth_starter").glob("model.ckpt*"):
        data = part.read_bytes()
        (broken / part.name).write_bytes(data[:len(data) // 2] if ".data" in part.name else data)
    bad(ONE, *out, "--sounds", wav, "--checkpoint", broken, says="broken")


def test_bad_options_say_the_rule(tmp_path):
    for words, says in ((["--seconds", "0"], "from 0.1 to 60"), (["--ratio", "x"], "from 0 to 1"),
                        (["--mix", "more"], "lean"), (["--seed", "-1"], "from 0")):
        done = run(ONE, *words)
        assert done.returncode == 2 and says in done.stderr and "Traceback" not in done.stderr


def overview(folder, seed):
    """The run's one overview sheet, more than a blank one."""
    sheets = list(folder.glob("overview*.png"))
    assert [sheet.name for sheet in sheets] == ["overview.png"]
    assert f"<td>{seed}</td>" in (folder / "index.html").read_text("utf-8")
    picture = np.asarray(Image.open(sheets[0]).convert("RGB")).astype(int)
    assert np.ptp(picture, axis=2).max() > 100
    return picture


def framed(picture, colour=(255, 127, 14)):
    """How many cells of a sheet are framed in that colour."""
    return ndimage.label((picture == colour).all(2))[1]


@pytest.mark.parametrize("words, frames, ratio", [
    ([], 3, 1.2), (["--mix", "mean"], 3, 1.2), (["--stretch", 1.5, "--scale", 0.9], 3, 1.2),
    (["--steps", 3], 6, 1.7), (["--steps", 14, "--pairs", "a+c"], 2, 1.2),
    (["--crossfade"], 12, 2.2), (["--pairs", "c+a", "b+c"], 4, 1.7)])
def test_example_01_leaves_one_overview_whatever_is_asked(tmp_path, words, frames, ratio):
    wavs = [tone(tmp_path / f"{name}.wav", frequency, 0.16)
            for name, frequency in (("a", 220), ("b", 440), ("c", 1200))]
    good(ONE, "--sounds", *wavs, "--seconds", "0.16", "--seed", 3, "--output", tmp_path / "out",
         *words)
    picture = overview(tmp_path / "out", 3)
    assert framed(picture) == frames
    assert picture.shape[1] / picture.shape[0] == pytest.approx(ratio, rel=0.35)


def test_example_01_leaves_an_overview_of_one_sound_of_many_and_of_encodings(tmp_path):
    (tmp_path / "many").mkdir()
    for i in range(8):
        tone(tmp_path / "many" / f"{'a-name-of-some-length' * (i == 3)}{i}.wav", 200 + 90 * i, 0.1)
    words = ["--seconds", "0.1", "--seed", 3, "--output"]
    good(ONE, "--sounds", tmp_path / "many", *words, tmp_path / "out")
    many = overview(tmp_path / "out", 3)
    assert framed(many) == 8 and max(many.shape) < 2500
    good(ONE, "--sounds", tmp_path / "many" / "0.wav", *words, tmp_path / "one", "--stretch", 2)
    assert framed(overview(tmp_path / "one", 3)) == 1
    good(ONE, "--sounds", tmp_path / "out" / "encodings" / "0.npy", tmp_path / "many" / "1.wav",
         *words, tmp_path / "both")
    both = overview(tmp_path / "both", 3)
    assert framed(both) == framed(both, (86, 180, 233)) == 1


def test_example_01_says_when_channels_cancel_each_other_out_and_uses_the_left_one(tmp_path):
    wave = 0.5 * np.sin(2 * np.pi * 220 * np.arange(4800) / 16000)
    soundfile.write(tmp_path / "wide.wav", np.stack([wave, -wave], 1), 16000)
    tone(tmp_path / "left.wav")
    for name in ("wide", "left"):
        lines = good(ONE, "--sounds", tmp_path / f"{name}.wav", "--seconds", "0.16", "--seed", 1,
                     "--output", tmp_path / name)
        said = [line for line in lines if "opposite phase" in line]
        assert len(said) == (name == "wide") and all("left channel" in line for line in said)
    wide, left = (soundfile.read(tmp_path / name / f"source_{name}.wav")[0]
                  for name in ("wide", "left"))
    assert np.array_equal(wide, left) and np.abs(left).max() > 0.4


def test_example_01_loads_each_sound_once(tmp_path, monkeypatch):
    example = importlib.import_module("chapter_05_example_01")
    loaded, load = [], audio_utils.load_audio
    monkeypatch.setattr(audio_utils, "load_audio", lambda path, *rest, **more: (
        loaded.append(path) or load(path, *rest, **more)))
    wavs = [tone(tmp_path / "a.wav"), tone(tmp_path / "b.wav", 330)]
    call(example, "--sounds", *wavs, "--seconds", "0.1", "--output", tmp_path / "out")
    assert [path for path in loaded if path in wavs] == wavs
    encodings = example.encode(wavs, sample_length=1600)
    assert encodings.shape == (2, 3, 16)


def call(example, *words):
    """Run an example in this process, so that parts of it can be watched or exchanged."""
    parser = example.parse_options()
    options = parser.parse_args([*map(str, words), "--quiet"])
    options.defaults = vars(parser.parse_args([]))
    if options.seed is None:
        options.seed = 1
    example.app(options)


def stopped(script, words, when, seconds=0.0):
    """Start a script, send it Ctrl-C once `when()`, and return what it said."""
    process = subprocess.Popen(
        [sys.executable, str(ROOT / script), *map(str, words)], stderr=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300  # against a hang, not a measure
    while not when() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    said, errors = process.communicate(timeout=300)
    assert process.returncode == 130 and "Traceback" not in errors, (said, errors)
    assert "stopped" in errors
    return said


unix = pytest.mark.skipif(os.name == "nt", reason="SIGINT cannot be sent to a process on Windows")


@unix
def test_example_01_keeps_what_is_done_when_stopped(tmp_path):
    wavs = [tone(tmp_path / f"{name}.wav", seconds=1.0) for name in "ab"]
    out = tmp_path / "out"
    said = stopped(ONE, ["--sounds", *wavs, "--seconds", "60", "--seed", 1, "--output", out],
                   lambda: list(out.glob("*.partial.wav")), 0.5)
    clips = ["a_b", "a_reconstructed", "b_a", "b_reconstructed"]
    assert sorted(out.glob("*_seed1*.wav")) == [out / f"{clip}_seed1.partial.wav"
                                                for clip in clips]
    for clip in clips:
        assert 512 < soundfile.info(out / f"{clip}_seed1.partial.wav").frames < 60 * 16000
    page = (out / "index.html").read_text("utf-8")
    # each once in its card, and once in what the script reads
    assert page.count("<audio") == 6 and page.count("as far as it got") in (4, 8)
    assert "The run was stopped" in page and "index.html" in said
    overview(out, 1)
    assert not list(out.glob("*.part"))


def test_a_run_stopped_before_its_first_sound_has_no_page(tmp_path):
    from companion.record import Planned, Record

    from companion.page import reports

    record = Record(1, tmp_path, "", True, "", {}, began=time.time() + 60, stopped=True)
    clip = Planned(tmp_path / "a_reconstructed_seed1.wav", "a", "reconstruction", (0,), (1.0,))
    assert reports.nsynth_page(record, ["a"], [np.zeros(16000, np.float32)], [clip]) is None
    assert reports.gansynth_page(record, [clip], [], [], []) is None
    assert not list(tmp_path.iterdir())


# Example 2 -------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def default_clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gansynth") / "out"
    return folder, good(TWO, "--output", folder, "--seed", 7, cwd=tmp_path_factory.getbasetemp())


def test_example_02_plays_the_prelude(default_clip):
    folder, lines = default_clip
    check_gansynth(folder)
    assert lines[0].startswith("Weights: shipped starter gansynth_starter")
    assert ("cs1-1pre-short: 210 notes, 28.0 s, on 5 instruments, 7.0 s apart, about 8 s of work, "
            "2.9 MB on disk; seed 7.") in lines
    assert (folder / "index.html").stat().st_size < 2.5e6
    assert soundfile.info(folder / "cs1-1pre-short_seed7.wav").frames == 30 * 16000
    assert overview(folder, 7).shape == (1125, 1800, 3)


def test_example_02_repeats_a_lucky_find(tmp_path, default_clip):
    folder, _ = default_clip
    clip = "cs1-1pre-short_seed7.wav"
    good(TWO, "--seed", 7, "--output", tmp_path / "seed")
    good(TWO, "--seed", 7, "--instruments", folder / "cs1-1pre-short_seed7_instruments.npz",
         "--output", tmp_path / "file")
    for again in ("seed", "file"):
        assert (tmp_path / again / clip).read_bytes() == (folder / clip).read_bytes()


def test_example_02_previews_instruments_and_places_them(tmp_path):
    score = midi(tmp_path / "score.mid", [(i, i + 1, 60, 90) for i in range(8)])
    lines = good(TWO, "--preview", 3, "--seed", 5, "--output", tmp_path / "preview")
    check_gansynth(tmp_path / "preview", clips=3)
    assert lines[1].startswith("To make: a phrase on each of 3 instruments, 18 notes, and 21 ")
    assert len(lines) == 5  # none for each instrument
    sheet = overview(tmp_path / "preview", 5)
    assert sheet.shape[1] / sheet.shape[0] == pytest.approx(1.6, rel=0.5)
    words = ["--midi", score, "--seed", 5, "--output"]
    good(TWO, *words, tmp_path / "two", "--instruments", "3,1@2.0")
    good(TWO, *words, tmp_path / "one", "--instruments", "3")
    two, one = (check_sound(tmp_path / run / "score_seed5.wav") for run in ("two", "one"))
    assert not np.array_equal(two, one)


@pytest.mark.parametrize("name, tracks, seconds, says", [
    ("one note", [[(0, 1, 60, 90)]], 3, "1 note,"),
    ("3 s", [[(i, i + 1, 60 + i, 90) for i in range(6)]], 6, "6 notes"),
    ("9 s", [[(2 * i, 2 * i + 2, 60 + i, 90) for i in range(9)]], 12, "9 notes"),
    ("last listed ends first", [[(0, 8, 60, 90)], [(0, 1, 64, 90)]], 7, "2 notes, 4.0 s"),
    ("out of range", [[(0, 1, 60, 90), (1, 2, 10, 90), (2, 3, 100, 90)]], 3,
     "1 note,.*left out: 2 outside pitches 24 to 84"),
    ("silent", [[(0, 1, 60, 90), (1, 2, 62, 1)]], 4, "2 notes")])
def test_example_02_plays_scores_of_every_kind(tmp_path, name, tracks, seconds, says):
    score = midi(tmp_path / "score.mid", *tracks)
    lines = good(TWO, "--midi", score, "--seed", 1, "--output", tmp_path / "out")
    assert any(re.search(says, line) for line in lines), lines
    assert len(check_sound(tmp_path / "out" / "score_seed1.wav")) == seconds * 16000


def test_example_02_lets_a_long_note_sound_as_long_as_the_model_can(tmp_path):
    score = midi(tmp_path / "score.mid", [(0, 20, 60, 90)])
    good(TWO, "--midi", score, "--seed", 1, "--instruments", "1", "--output", tmp_path / "out")
    clip = check_sound(tmp_path / "out" / "score_seed1.wav")
    assert np.abs(clip[int(3.4 * 16000):int(3.6 * 16000)]).max() > 50
    assert not clip[4 * 16000:].any()


def test_example_02_scales_the_tempo_and_plays_several_scores(tmp_path):
    a = midi(tmp_path / "a.mid", [(i, i + 1, 60, 90) for i in range(8)])
    b = midi(tmp_path / "b.mid", [(i, i + 1, 64, 90) for i in range(4)])
    (tmp_path / "more").mkdir()
    c = midi(tmp_path / "more" / "a.mid", [(0, 1, 67, 90)])
    lines = good(TWO, "--midi", a, b, c, "--tempo", 2, "--labels", "--seed", 2,
                 "--output", tmp_path / "out")
    assert any(line.startswith("a: 8 notes, 2.0 s") for line in lines)
    check_gansynth(tmp_path / "out", clips=3)
    assert {wav.name for wav in (tmp_path / "out").glob("*.wav")} == {
        "a_seed2.wav", "b_seed2.wav", "a-2_seed2.wav"}
    overview(tmp_path / "out", 2)


def test_a_score_called_overview_does_not_overwrite_the_overview(tmp_path):
    score = midi(tmp_path / "Overview.mid", [(0, 1, 60, 90)])
    good(TWO, "--midi", score, "--seed", 2, "--output", tmp_path / "out")
    assert (tmp_path / "out" / "Overview-2_seed2.wav").is_file()
    overview(tmp_path / "out", 2)


@unix
def test_example_02_leaves_a_page_of_the_scores_that_were_finished(tmp_path):
    scores = [midi(tmp_path / f"score{i}.mid", [(j / 4, j / 4 + 1, 60 + j % 12, 90)
                                                for j in range(100)]) for i in range(8)]
    out = tmp_path / "out"
    said = stopped(TWO, ["--midi", *scores, "--seed", 1, "--output", out],
                   lambda: (out / "score1_seed1.wav").is_file(), 0.2)
    page = (out / "index.html").read_text("utf-8")
    finished = sorted(set(re.findall(r"(score\d)_seed1.wav", page)))
    assert finished[:2] == ["score0", "score1"] and len(finished) < 8
    assert all((out / f"{name}_seed1.wav").is_file() for name in finished)
    assert "The run was stopped" in page and "index.html" in said
    overview(out, 1)


def test_example_02_refuses_what_it_cannot_use(tmp_path):
    out = ["--output", tmp_path / "out"]
    text, high = tmp_path / "text.mid", midi(tmp_path / "high.mid", [(0, 1, 100, 90)])
    text.write_text("this is no score")
    bad(TWO, *out, "--midi", tmp_path / "nowhere.mid", says="nowhere.mid")
    bad(TWO, *out, "--midi", text, says="text.mid")
    bad(TWO, *out, "--midi", high, says="24 to 84")
    bad(TWO, *out, "--checkpoint", "acustic", says="acustic.*gansynth_starter")
    bad(TWO, *out, "--instruments", "3;4", says="3;4")
    assert not list((tmp_path / "out").glob("*.wav"))
