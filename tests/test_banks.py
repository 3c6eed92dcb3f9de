"""Sound banks: what is planned, what is made, and that nothing is lost or made twice."""

import contextlib
import importlib.util
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from companion.options import Parser
from companion.run import run
from synths import InputError, nsynth
from synths.weights import checkpoints
from workshop.bank import add_options, cluster, manifest, plan, sfz, tasks
from workshop.bank import run as run_bank
from workshop.bank.store import Store, StoreError

ROOT = Path(__file__).resolve().parent.parent
dask_only = pytest.mark.skipif(
    importlib.util.find_spec("distributed") is None,
    reason="dask.distributed is not installed (requirements-banks.txt)")


def tone(pitch, seconds=0.2, harmonics=(1.0, 0.5, 0.25)):
    time = np.arange(round(seconds * 16000)) / 16000
    f0 = 440 * 2 ** ((pitch - 69) / 12)
    return 0.4 * sum(gain * np.sin(2 * np.pi * f0 * number * time)
                     for number, gain in enumerate(harmonics, 1)) / sum(harmonics)


@pytest.fixture
def corners(tmp_path):
    """Return a folder with four folders of two notes each."""
    for place, name in enumerate("abcd"):
        (tmp_path / name).mkdir()
        for pitch in (48, 60):
            soundfile.write(tmp_path / name / f"{name}_p{pitch}.wav",
                            tone(pitch, harmonics=(1, *0.5 * np.eye(4)[place])), 16000)
    return tmp_path


def main(*words):
    """Run the command; return its exit code."""
    parser, argv = Parser(), sys.argv
    add_options(parser)
    sys.argv = ["bank", *map(str, words)]
    try:
        run(run_bank, parser)
    except SystemExit as end:
        return end.code
    finally:
        sys.argv = argv
    return 0


def words_of(folder, output, *more, corners="abcd"):
    return ["nsynth", "--corners", *(str(folder / name) for name in corners), "--grid", "2",
            "--seconds", "0.1", "--output", str(output), "--quiet", "--checkpoint",
            "nsynth_starter", "--workers", "0", *more]


def bank(folder, output, *more, corners="abcd"):
    return main(*words_of(folder, output, *more, corners=corners))


def process(folder, output, *more, **options):
    """Start the command as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "workshop", "bank", *words_of(folder, output, *more)], cwd=ROOT,
        stderr=subprocess.PIPE, text=True, **options)


def wait(running, ready):
    """Wait until something is there, or the process has ended."""
    until = time.monotonic() + 300  # against a hang, not a measure
    while not ready() and running.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.02)


def files(output):
    return {file.name: file.read_bytes() for file in (Path(output) / "clips").iterdir()}


def error_of(capsys):
    message = capsys.readouterr().err.strip()
    assert message.startswith("error: ") and "\n" not in message
    return message


# The plan -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("corners, points", [(2, 5), (3, 15), (4, 25)])
def test_grid_has_each_corner_once_and_weights_sum_to_one(corners, points):
    grid = plan.grid(corners, 5)
    assert len(grid) == len(dict(grid)) == points
    weights = np.array(list(dict(grid).values()))
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    assert sorted(map(tuple, weights[weights.max(axis=1) == 1].tolist())) == sorted(
        map(tuple, np.eye(corners).tolist()))
    if corners == 4:  # bilinear: the middle has a quarter of each
        assert dict(grid)["x2y2"] == (0.25,) * 4


@pytest.mark.parametrize("text, pitches", [
    ("C4-D4,24-84:30", [24, 54, 60, 61, 62, 84]), ("Bb3 - B3, C-1-C#-1", [0, 1, 58, 59]),
    ("As2", None), ("60-48", None), ("", None), ("60-", None), ("C", None), ("128", None),
    ("48:0", None), ("G#9", None)])
def test_parse_pitches_lists_and_ranges(text, pitches):
    if pitches is None:
        with pytest.raises(InputError, match="Pitches"):
            plan.parse_pitches(text)
    else:
        assert plan.parse_pitches(text) == pitches


@pytest.mark.parametrize("stem, pitch", [
    ("bass_electronic_018-022-100", 22), ("piano-F#3", 54), ("cello_As2_025_forte", 46),
    ("horn_Cs4", 61), ("note_060_v100", 60), ("Célesta dur Bb3", 58), ("x_p48", 48),
    ("meow", None), ("x_60_61", None), ("take-b-1", None), ("kick_808", None),
    ("SH-101 bass", None), ("juno 106 pad", None), ("take 12", None), ("loop 120bpm", None)])
def test_pitch_in_name_only_what_states_a_pitch(stem, pitch):
    assert plan.pitch_in_name(stem) == pitch


@pytest.mark.parametrize("stated, sounds, expected, printed", [
    (None, 60.4, 60.4, "+40 cents"), (60, 60.2, 60.0, "as its name states"),
    (48, 60.0, 60.0, "octave"), (101, 33.0, 33.0, "measured"), (None, None, None, "no steady"),
    (60, None, 60, "no steady")])
def test_note_pitch_sound_decides_beyond_a_semitone(tmp_path, capsys, stated, sounds, expected,
                                                    printed):
    noise = np.random.default_rng(0).normal(0, 0.1, 16000)
    soundfile.write(tmp_path / "a.wav", noise if sounds is None else tone(sounds, 1.0), 16000)
    found = plan.note_pitch(tmp_path / "a.wav", stated)
    assert found == (None if expected is None else pytest.approx(expected, abs=0.11))
    assert printed in capsys.readouterr().out


def test_load_corners_numbers_that_rise_with_the_pitch_count(tmp_path):
    for name, step in (("rising", 1), ("takes", -1)):
        (tmp_path / name).mkdir()
        for number, pitch in ((48, 48), (50, 48 + 2 * step)):
            soundfile.write(tmp_path / name / f"x {number}.wav", tone(pitch + 0.3, 1.0), 16000)
    rising, takes = plan.load_corners([str(tmp_path / "rising"), str(tmp_path / "takes")])
    assert list(rising.notes) == [48, 50] and sorted(takes.notes) == [46, 48]


def test_load_corners_odd_names_and_unreadable_files_are_left_out(corners, capsys):
    folder = corners / "Mes Échantillons (été)"
    folder.mkdir()
    soundfile.write(folder / "Célesta très dur C4.flac", np.stack([tone(60, 0.5)] * 2, axis=1),
                    44100)
    soundfile.write(folder / "Célesta C6.opus", tone(84, 0.5), 16000, format="OGG", subtype="OPUS")
    (folder / "._Célesta très dur C4.flac").write_bytes(b"from macOS")
    (folder / "broken C5.wav").write_bytes(b"RIFF, not really")
    (folder / "72.wav").mkdir()
    found = plan.load_corners([str(folder) + "/", str(folder)])
    assert [corner.name for corner in found] == ["Mes-Échantillons-été", "Mes-Échantillons-été-2"]
    assert list(found[0].notes) == [84, 78] and "broken C5.wav" in capsys.readouterr().out


def test_load_note_single_sound_is_resampled_to_the_pitch(tmp_path):
    soundfile.write(tmp_path / "one.wav", tone(60.4, 1.0), 16000)
    corner = plan.load_corners([str(tmp_path / "one.wav")] * 2)[0]
    for pitch in (60, 67):
        assert plan.pitch_of(plan.load_note(corner, pitch, 8192)) == pytest.approx(pitch, abs=0.06)


def test_common_pitches_single_sounds_have_their_own(tmp_path):
    for pitch in (48, 62):
        soundfile.write(tmp_path / f"{pitch}.wav", tone(pitch, 1.0), 16000)
    found = plan.load_corners([str(tmp_path / f"{pitch}.wav") for pitch in (48, 62)])
    assert plan.common_pitches(found, None) == [48, 62]
    assert plan.common_pitches(found, [55]) == [55]


def test_common_pitches_unequal_folders_make_what_they_share(corners, capsys):
    (corners / "b" / "b_p48.wav").unlink()
    found = plan.load_corners([str(corners / name) for name in "ab"])
    assert plan.common_pitches(found, None) == [60]
    assert "b lacks C3 (48)" in capsys.readouterr().out


def test_plan_nsynth_clips_of_the_same_sound_are_made_once(corners):
    found = plan.load_corners([str(corners / name) for name in "abab"])
    made = plan.plan_nsynth(found, 3, [60], 1600, {"weights": {"digest": "0" * 64}, "seed": 0})
    assert len(made.points) == 9 and len(made.clips) == 3
    assert len({made.files[f"x{x}y{y}", 60] for x in range(3) for y in range(3)}) == 3


# Unusable input -----------------------------------------------------------------------------------


@pytest.mark.parametrize("names, says", [
    (["a"], "two, three or four"), (["a", "none"], "no sound"), (["a", "b"], "both have"),
    (["a", "e"], "common"), (["a", "f"], "no steady pitch"), (["a", "missing"], "does not exist")])
def test_bank_unusable_corners_are_one_sentence(corners, capsys, names, says):
    (corners / "none").mkdir()
    soundfile.write(corners / "b" / "again_C4.wav", tone(60), 16000)
    (corners / "e").mkdir()
    soundfile.write(corners / "e" / "e_p50.wav", tone(50), 16000)
    (corners / "f").mkdir()
    soundfile.write(corners / "f" / "f.wav", np.random.default_rng(0).normal(0, 0.1, 8000), 16000)
    assert bank(corners, corners / "out", corners=names) == 1
    assert says in error_of(capsys) and not (corners / "out").exists()


@pytest.mark.parametrize("instruments, pitches, says", [("1", "20", "plays MIDI pitches"),
                                                        ("0", "60", "numbers")])
def test_bank_unusable_instruments_are_one_sentence(capsys, instruments, pitches, says):
    assert main("gansynth", "--quiet", "--workers", "0", "--instruments", instruments,
                "--pitches", pitches) == 1
    assert says in error_of(capsys)


def test_bank_corner_that_is_not_finite_is_left_out(corners, tmp_path, capsys):
    soundfile.write(corners / "b" / "b_p60.wav", np.full(3200, np.nan), 16000, subtype="FLOAT")
    assert bank(corners, tmp_path / "bank") == 0
    assert {name[-8:] for name in files(tmp_path / "bank")} == {"p048.wav"}


# What is made -------------------------------------------------------------------------------------


def test_bank_makes_again_only_what_is_missing_or_damaged(corners, tmp_path, capsys):
    out = tmp_path / "bank"
    assert bank(corners, out) == 0
    whole = files(out)
    assert len(whole) == 8
    lines = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    assert {Path(line["file"]).name: line["digest"] for line in lines} == {
        name: manifest.digest(data) for name, data in whole.items()}
    for line in lines:
        assert line["pitch"] in (48, 60) and line["seed"] == 0
        assert sum(source["share"] for source in line["sources"]) == pytest.approx(1)

    # One clip lost, one damaged, one whose line was cut off: these three alone are made again.
    (out / "clips" / "x0y0_p048.wav").unlink()
    (out / "clips" / "x1y0_p060.wav").write_bytes(whole["x1y0_p060.wav"][:-2])
    cut = [line for line in lines if "x1y1_p060" in line["file"]]
    rest = [line for line in lines if line not in cut]
    (out / "manifest.jsonl").write_bytes(manifest.to_lines(rest) + manifest.to_lines(cut)[:-9])
    before = {file.name: file.stat().st_mtime_ns for file in (out / "clips").iterdir()}
    assert bank(corners, out) == 0
    assert files(out) == whole
    after = {file.name: file.stat().st_mtime_ns for file in (out / "clips").iterdir()}
    assert {name for name in after if after[name] != before.get(name)} == {
        "x0y0_p048.wav", "x1y0_p060.wav", "x1y1_p060.wav"}

    # Another seed is another bank, and does not replace this one unasked.
    capsys.readouterr()
    assert bank(corners, out, "--seed", "1") == 1
    assert "another bank" in error_of(capsys) and files(out) == whole
    assert bank(corners, out, "--seed", "1", "--overwrite") == 0
    assert files(out).keys() == whole.keys() and files(out) != whole


def test_bank_overwrite_replaces_all_of_another_bank(corners, tmp_path):
    out = tmp_path / "bank"
    assert bank(corners, out, "--grid", "3", "--pitches", "60") == 0
    (out / "clips" / "mine.wav").write_bytes(b"not ours")
    (out / "sources").mkdir()
    (out / "sources" / "0.npy").write_bytes(b"of a run that was killed")
    assert bank(corners, out, "--pitches", "60", "--overwrite", "--seed", "1") == 0
    assert sorted(file.name for file in out.glob("*.sfz")) == [
        "x0y0.sfz", "x0y1.sfz", "x1y0.sfz", "x1y1.sfz"]
    assert sorted(files(out)) == ["mine.wav", *(f"x{x}y{y}_p060.wav" for x in (0, 1)
                                                for y in (0, 1))]
    assert len((out / "manifest.jsonl").read_text().splitlines()) == 4
    assert not (out / "finished").exists() and not (out / "sources").exists()


def test_bank_damaged_encoding_is_made_again(corners, tmp_path):
    out = tmp_path / "bank"
    assert bank(corners, out, "--pitches", "60") == 0
    right = files(out)
    for place, encoding in enumerate(sorted((out / "encodings").iterdir())):
        encoding.write_bytes((b"", b"PK\3\4junk", encoding.read_bytes()[:-9], b"\x93NUMPY")[place])
    for clip in (out / "clips").iterdir():
        clip.unlink()
    assert bank(corners, out, "--pitches", "60") == 0
    assert files(out) == right


def test_bank_auto_keeps_the_precision_of_finished_clips(corners, tmp_path, monkeypatch):
    choices = []

    def choose(*_):
        choices.append("int8")
        return nsynth.Choice("int8", "int8, says the test")

    monkeypatch.setattr(nsynth, "choose_precision", choose)
    out = tmp_path / "bank"
    assert bank(corners, out, "--pitches", "60") == 0 and choices == ["int8"]
    (out / "clips" / "x0y0_p060.wav").unlink()
    assert bank(corners, out, "--pitches", "60") == 0 and choices == ["int8"]
    lines = map(json.loads, (out / "manifest.jsonl").read_text().splitlines())
    assert {line["precision"] for line in lines} == {"int8"}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for another process")
def test_bank_stopped_leaves_a_page_and_resumes(corners, tmp_path):
    out = tmp_path / "bank"
    running = process(corners, out, "--grid", "5", "--seconds", "0.3")
    wait(running, lambda: list(out.glob("finished/*.jsonl")))
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=300)
    assert running.returncode == 130
    left = 50 - len((out / "manifest.jsonl").read_text().splitlines())
    assert 0 < left < 50 and "did not finish" in (out / "index.html").read_text()
    assert json.loads((out / "run.json").read_text())["stopped"] is True
    assert bank(corners, out, "--grid", "5", "--seconds", "0.3") == 0
    assert len(files(out)) == 50 and "did not finish" not in (out / "index.html").read_text()
    assert json.loads((out / "run.json").read_text())["stopped"] is False


def test_bank_clip_does_not_depend_on_its_batch(corners, tmp_path):
    assert bank(corners, tmp_path / "both") == 0
    assert bank(corners, tmp_path / "one", "--pitches", "60", "--threads", "2") == 0
    assert bank(corners, tmp_path / "turned", corners="badc") == 0
    both, one, turned = (files(tmp_path / name) for name in ("both", "one", "turned"))
    assert one == {name: data for name, data in both.items() if "p060" in name}
    assert turned["x0y0_p060.wav"] == both["x1y0_p060.wav"]
    assert len(set(both.values())) == 8


def level_to_peak(audio):
    """Return a sound as a clip of a bank: normalised, faded, without the silence at its end."""
    return soundfile.read(io.BytesIO(tasks.wav_bytes(audio)))[0]


def test_bank_clip_is_what_the_library_decodes(corners, tmp_path):
    assert bank(corners, tmp_path / "bank", "--pitches", "60") == 0
    lines = map(json.loads, (tmp_path / "bank" / "manifest.jsonl").read_text().splitlines())
    line = next(line for line in lines if "x0y1" in line["file"])
    audio = soundfile.read(corners / "c" / "c_p60.wav", dtype="float32")[0][:1536]
    prefix = checkpoints.find("nsynth_starter", "nsynth")
    wanted = nsynth.decode(nsynth.encode(audio, prefix), prefix,
                           nsynth.draw_uniforms(0, [line["identity"]], 1536))[0]
    found = soundfile.read(tmp_path / "bank" / line["file"])[0]
    np.testing.assert_allclose(found, level_to_peak(wanted), atol=2 / 32768)


def test_bank_gansynth_plays_the_instruments_of_the_scripts(tmp_path):
    from synths import gansynth

    out = tmp_path / "bank"
    assert main("gansynth", "--instruments", "2,1", "--pitches", "60,72", "--seed", "5",
                "--checkpoint", "gansynth_starter", "--workers", "0", "--quiet", "--output",
                out) == 0
    assert len(files(out)) == 4 and (out / "instrument002.sfz").exists()
    model = gansynth.Model.load_from_path(checkpoints.find("gansynth_starter", "gansynth"))
    wanted = model.generate_samples_from_z(model.generate_z(2, 5)[1:], [72])[0]
    found = soundfile.read(out / "clips" / "instrument002_p072.wav")[0]
    np.testing.assert_allclose(found, level_to_peak(wanted), atol=2 / 32768)


def test_wav_bytes_normalises_and_cuts_silence():
    audio = np.concatenate([0.01 * tone(60, 0.5), np.zeros(16000)])
    made = level_to_peak(audio)
    assert len(made) < 9600 and 20 * np.log10(np.abs(made).max()) == pytest.approx(-1, abs=0.01)


@pytest.mark.parametrize("audio, cents", [(tone(60.3, 1.0), 30), (np.zeros(16000), None)])
def test_cents_off_measures_from_the_wanted_pitch(audio, cents):
    found = tasks.cents_off(np.float32(audio), 60)
    assert found is None if cents is None else found == pytest.approx(cents, abs=5)


def test_bank_out_of_tune_clips_stay_out_of_the_instruments(corners, tmp_path, monkeypatch):
    monkeypatch.setattr(tasks, "cents_off", lambda audio, pitch: 0.0 if pitch == 60 else 300.0)
    for more, regions in ((), 1), (("--keep-all",), 2):
        assert bank(corners, tmp_path / "bank", *more) == 0
        assert (tmp_path / "bank" / "x0y0.sfz").read_text().count("<region>") == regions


@pytest.mark.parametrize("failing, regions, words", [(1, [1, 2], "kept"), (4, [], "0 of 0")])
def test_bank_clips_that_fail_do_not_change_what_is_printed(corners, tmp_path, monkeypatch, capsys,
                                                            failing, regions, words):
    encode, sounds = nsynth.encode, {}

    def fail(audio, *rest, **more):
        if sounds.setdefault(audio.tobytes(), len(sounds)) < failing:
            raise ValueError("cannot be encoded")
        return encode(audio, *rest, **more)
    monkeypatch.setattr(nsynth, "encode", fail)
    monkeypatch.setattr(tasks, "cents_off", lambda audio, pitch: 300.0)
    given = words_of(corners, tmp_path / "bank", corners="ab")
    assert main(*[word for word in given if word != "--quiet"]) == 1
    printed = capsys.readouterr()
    assert printed.err.count("cannot be encoded") == failing
    assert words in printed.out and "left out" not in printed.out
    assert sorted(file.read_text().count("<region>")
                  for file in (tmp_path / "bank").glob("*.sfz")) == regions


def test_bank_full_disk_stops_and_the_command_continues(corners, tmp_path, capsys, monkeypatch):
    out, write, room = tmp_path / "bank", Store.write, [11]

    def full(self, name, data):
        room[0] -= 1
        if room[0] < 0:
            raise StoreError(f"{name} cannot be written (No space left on device): make room.")
        write(self, name, data)

    monkeypatch.setattr(Store, "write", full)
    assert bank(corners, out) == 1
    assert "No space left" in error_of(capsys)
    monkeypatch.undo()
    assert bank(corners, out) == 0
    assert bank(corners, tmp_path / "other") == 0
    assert files(out) == files(tmp_path / "other")


# SFZ, page and manifest ---------------------------------------------------------------------------


def test_sfz_covers_every_key_and_only_turns_down():
    text = sfz.instrument("a\nb", {pitch: {"file": f"clips/p{pitch}.wav", "level": level}
                                   for pitch, level in ((48, -20.0), (53, -12.0), (72, -50.0))})
    regions = [dict(word.split("=") for word in line.split()[1:])
               for line in text.splitlines() if line.startswith("<region>")]
    keys = [key for region in regions
            for key in range(int(region["lokey"]), int(region["hikey"]) + 1)]
    assert keys == list(range(128)) and text.startswith("// a b\n")
    for region in regions:
        assert int(region["lokey"]) <= int(region["pitch_keycenter"]) <= int(region["hikey"])
    assert [float(region["volume"]) for region in regions] == [0, -6, 0]


def test_bank_page_and_record_have_every_instrument(corners, tmp_path):
    out = tmp_path / "bank"
    assert bank(corners, out) == 0
    page, record = (out / "index.html").read_text(), json.loads((out / "run.json").read_text())
    for name in ("x0y0", "x0y1", "x1y0", "x1y1"):
        assert f"{name}.sfz" in page
    assert len(record["clips"]) == 8 and record["clips"][0]["kind"] == "bank"
    assert {clip["pitch"] for clip in record["clips"]} == {48, 60}
    assert "--seed 0" in record["command"]


def test_bank_plan_prints_what_it_takes_and_makes_nothing(corners, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tasks, "PROBE", 0.05)
    words = [word for word in words_of(corners, tmp_path / "bank", "--plan") if word != "--quiet"]
    assert main(*words) == 0
    assert "4 instruments, 2 pitches, 8 clips; still to make: 8 clips" in capsys.readouterr().out
    assert not (tmp_path / "bank").exists()


def failing_probe(*_):
    raise ValueError("no room for the weights")


def test_bank_plan_whose_estimate_fails_says_why(corners, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(tasks._WORK, "probe", failing_probe)
    assert bank(corners, tmp_path / "bank", "--plan") == 1
    assert error_of(capsys).endswith("no room for the weights")


@dask_only
def test_bank_plan_whose_workers_fail_says_why(corners, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cluster, "remote", lambda: failing_probe)
    words = words_of(corners, tmp_path / "bank", "--plan")
    words[words.index("--workers") + 1] = "1"
    assert main(*words) == 1
    assert error_of(capsys).endswith("no room for the weights")


@dask_only
def test_bank_worker_processes_that_do_not_start_name_the_remedy(corners, tmp_path, capsys,
                                                                 monkeypatch):
    import distributed

    def late(*_, **__):
        raise TimeoutError
    monkeypatch.setattr(distributed.Client, "wait_for_workers", late)
    words = words_of(corners, tmp_path / "bank")
    words[words.index("--workers") + 1] = "1"
    assert main(*words) == 1
    message = error_of(capsys)
    assert "--workers 0" in message and "None" not in message


def test_manifest_cut_or_damaged_lines_do_not_count():
    record = {"file": "clips/a.wav", "recipe": "1", "digest": "2", "cents": 1.5, "level": -20.0}
    data = manifest.to_lines([record, record | {"file": "ü"}])
    assert len(manifest.from_lines(data)) == 2
    assert manifest.from_lines(data[:-1]) == [record]
    assert manifest.from_lines(b"\xff{}\n" + data[:20] + b"\n{}\n[]\n") == []
    assert manifest.from_lines(None) == []


@dask_only
def test_bank_address_of_fsspec_holds_the_same_files(corners, tmp_path):
    address = f"memory://bank{os.getpid()}"
    assert bank(corners, address, "--pitches", "60") == 0
    assert bank(corners, tmp_path / "bank", "--pitches", "60") == 0
    store = Store(address)
    there = {name.split("/")[1]: store.read(name) for name in store.names("clips")}
    assert there == files(tmp_path / "bank")
    store.write("clips/x0y0_p060.wav", b"damaged")
    assert bank(corners, address, "--pitches", "60") == 0
    assert store.read("clips/x0y0_p060.wav") == there["x0y0_p060.wav"]


# Dask ---------------------------------------------------------------------------------------------


def workers_of(pid):
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        return [child for child in psutil.Process(pid).children(recursive=True)
                if "spawn_main" in " ".join(child.cmdline())]
    return []


@dask_only
def test_bank_killed_worker_and_killed_client_lose_nothing(corners, tmp_path):
    pytest.importorskip("psutil")
    out, words = tmp_path / "bank", ("--grid", "4", "--seconds", "0.2", "--workers", "2")
    running = process(corners, out, *words)
    wait(running, lambda: len(list(out.glob("clips/*.wav"))) > 3)
    for worker in workers_of(running.pid)[:1]:
        os.kill(worker.pid, signal.SIGTERM if os.name == "nt" else signal.SIGKILL)
    wait(running, lambda: len(list(out.glob("clips/*.wav"))) > 13)
    running.kill()
    running.wait()
    finished = {file: (out / file).stat().st_mtime_ns for file in manifest.read(Store(str(out)))}
    again = process(corners, out, *words)
    assert again.wait(600) == 0, again.stderr.read()
    assert len(files(out)) == 32 and finished
    assert finished == {file: (out / file).stat().st_mtime_ns for file in finished}
    assert bank(corners, tmp_path / "alone", *words[:4]) == 0
    assert files(out) == files(tmp_path / "alone")


@dask_only
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for other processes")
def test_bank_stopped_in_a_terminal_ends_its_workers_silently(corners, tmp_path):
    out = tmp_path / "bank"
    running = process(corners, out, "--grid", "5", "--seconds", "0.3", "--workers", "2",
                      start_new_session=True)
    wait(running, lambda: list(out.glob("finished/*.jsonl")))
    os.killpg(running.pid, signal.SIGINT)  # Ctrl-C reaches the workers too
    _, errors = running.communicate(timeout=300)
    assert running.returncode == 130 and errors.startswith("\nstopped; ")
    assert errors.count("\n") == 2


@dask_only
def test_distribute_clip_that_kills_its_worker_fails_alone():
    import dask
    import distributed

    with dask.config.set({"distributed.scheduler.allowed-failures": 0}), \
            cluster.engine(2, None) as (_, count):
        def execute(task):
            if any(clip["file"] == "bad" for clip in task["clips"]):
                os._exit(1)
            return {"name": task["name"], "done": task["clips"], "failed": {}, "stop": None}

        work = [{"kind": "nsynth", "name": "t", "clips": [{"file": file}
                                                          for file in ("a", "bad", "c")]}]
        found = [result for _, result in cluster.distribute(distributed.default_client(), work,
                                                            execute)]
    done = [clip["file"] for result in found for clip in result["done"]]
    assert sorted(done) == ["a", "c"] and count == 2
    assert [file for result in found for file in result["failed"]] == ["bad"]


@contextlib.contextmanager
def scheduler_of_its_own(folder, workers=1):
    """Yield the process and the address of a scheduler, with workers in this project's folder."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    address = f"tcp://127.0.0.1:{port}"
    with contextlib.ExitStack() as stack:
        log, started = stack.enter_context(open(folder / "dask.log", "ab")), []
        for words, where in [
                (["scheduler", "--host", "127.0.0.1", "--port", port], folder),
                *[(["worker", address, "--nthreads", "1", "--no-nanny", "--local-directory",
                    str(folder)], ROOT)] * workers]:
            started.append(subprocess.Popen([sys.executable, "-m", "dask", *words,
                                             "--no-dashboard"], cwd=where, stdout=log, stderr=log))
            stack.callback(started[-1].wait)
            stack.callback(started[-1].kill)
        yield started[0], address


@dask_only
def test_bank_scheduler_that_dies_is_one_sentence_and_the_bank_resumes(corners, tmp_path, capsys):
    out, words = tmp_path / "bank", ["--grid", "4", "--seconds", "0.3"]
    with scheduler_of_its_own(tmp_path) as (scheduler, address):
        words_there = [word for word in words_of(corners, out, *words)]
        at = words_there.index("--workers")
        words_there[at:at + 2] = ["--scheduler", address]
        client = subprocess.Popen([sys.executable, "-m", "workshop", "bank", *words_there],
                                  cwd=ROOT, stderr=subprocess.PIPE, text=True)
        wait(client, lambda: list(out.glob("finished/*.jsonl")))
        scheduler.kill()
        _, errors = client.communicate(timeout=120)
    assert client.returncode == 1 and errors.startswith("error: The scheduler no longer")
    assert errors.count("\n") == 1
    kept = {file: (out / file).stat().st_mtime_ns for file in manifest.read(Store(str(out)))}
    assert 0 < len(kept) < 32
    assert bank(corners, out, *words) == 0
    assert {file: (out / file).stat().st_mtime_ns for file in kept} == kept
    assert len(files(out)) == 32 and (out / "index.html").is_file()


@dask_only
@pytest.mark.parametrize("there", [False, True])
def test_bank_scheduler_without_answer_or_workers_is_one_sentence(corners, tmp_path, capsys,
                                                                  monkeypatch, there):
    monkeypatch.setattr(cluster, "PATIENCE", 1)
    words = [word for word in words_of(corners, tmp_path / "bank")
             if word not in ("--workers", "0")]
    with contextlib.ExitStack() as stack:
        address = "tcp://127.0.0.1:9"
        if there:
            monkeypatch.setattr(cluster, "PATIENCE", 8)
            _, address = stack.enter_context(scheduler_of_its_own(tmp_path, workers=0))
            time.sleep(4)
        assert main(*words, "--scheduler", address) == 1
    assert ("no worker" if there else "No Dask scheduler") in error_of(capsys)


@pytest.mark.parametrize("task, says", [
    ({"checkpoint": "/nowhere/model.ckpt-1"}, "weights"), ({"weights": "0"}, "weights"),
    ({"mark": "another"}, "does not see the bank"), ({}, None)])
def test_lack_worker_without_weights_or_bank_stops(tmp_path, task, says):
    prefix = str(checkpoints.find("nsynth_starter", "nsynth"))
    store = Store(str(tmp_path / "bank"))
    task = {"checkpoint": prefix, "weights": tasks.weights_digest(prefix), "kind": "nsynth",
            "bank": store.address, "mark": tasks.mark(store), "name": "t", "clips": []} | task
    found = tasks.lack(task)
    assert found is None if says is None else says in found and tasks.run(task)["stop"]


@dask_only
def test_remote_scheduler_needs_no_code_of_this_project(tmp_path):
    import cloudpickle

    sent = tmp_path / "sent"
    sent.write_bytes(cloudpickle.dumps(cluster.remote()))
    subprocess.run([sys.executable, "-c", "import pickle, sys; from pathlib import Path\n"
                    "pickle.loads(Path('sent').read_bytes())\n"
                    "assert 'workshop' not in sys.modules"],
                   cwd=tmp_path, check=True)
