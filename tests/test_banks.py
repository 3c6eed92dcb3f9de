"""Banks of notes: what is planned, what is made, and that nothing is lost or made twice."""

import contextlib
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
from workshop.bank.__main__ import main

from synths import InputError, nsynth
from synths.weights import checkpoints
from workshop.bank import cluster, manifest, plan, sfz, tasks
from workshop.bank.store import Store, StoreError

ROOT = Path(__file__).resolve().parent.parent
dask_only = pytest.mark.skipif(
    __import__("importlib.util").util.find_spec("distributed") is None,
    reason="dask.distributed is not installed (requirements-banks.txt)")


def tone(pitch, seconds=0.2, harmonics=(1.0, 0.5, 0.25)):
    time = np.arange(round(seconds * 16000)) / 16000
    f0 = 440 * 2 ** ((pitch - 69) / 12)
    return 0.4 * sum(gain * np.sin(2 * np.pi * f0 * number * time)
                     for number, gain in enumerate(harmonics, 1)) / sum(harmonics)


@pytest.fixture
def corners(tmp_path):
    """Four folders of two notes each, and the options of a small bank of them."""
    for place, name in enumerate("abcd"):
        (tmp_path / name).mkdir()
        for pitch in (48, 60):
            soundfile.write(tmp_path / name / f"{name}_{pitch}.wav",
                            tone(pitch, harmonics=np.eye(4)[place] + 0.1), 16000)
    return tmp_path


def bank(folder, output, *more, corners="abcd"):
    return main(["nsynth", "--corners", *(str(folder / name) for name in corners), "--grid", "2",
                 "--seconds", "0.1", "--output", str(output), "--quiet", "--checkpoint",
                 "nsynth_starter", *more, *(() if {"--workers", "--scheduler"} & set(more) else
                                         ("--workers", "0"))])


def files(output):
    return {file.name: file.read_bytes() for file in (Path(output) / "clips").iterdir()}


# The plan ------------------------------------------------------------------------------------


@pytest.mark.parametrize("corners, points", [(2, 5), (3, 15), (4, 25)])
def test_grid_has_each_corner_once_and_weights_sum_to_one(corners, points):
    grid = plan.grid(corners, 5)
    assert len(grid) == len({name for name, _, _ in grid}) == points
    weights = np.array([shares for _, _, shares in grid])
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    assert sorted(map(tuple, weights[weights.max(axis=1) == 1].tolist())) == sorted(
        map(tuple, np.eye(corners).tolist()))
    if corners == 4:  # bilinear: the middle has a quarter of each
        assert (0.25,) * 4 in [shares for _, place, shares in grid if place == (2, 2)]


def test_pitches_and_names():
    assert plan.parse_pitches("C4-D4,24-84:30") == [24, 54, 60, 61, 62, 84]
    assert plan.parse_pitches("Bb3 - B3, C-1-C#-1") == [0, 1, 58, 59]
    assert [plan.parse_pitch(word) for word in ("A4", "Cb4", "G9", "G#9", "x")] == [
        69, 59, 127, None, None]
    assert [plan.pitch_in_name(stem) for stem in (
        "bass_electronic_018-022-100", "piano-F#3", "meow", "x_60_61", "note_060_v100",
        "Célesta dur Bb3", "take-b-1", "kick_808", "loop 120bpm")] == [
        22, 54, None, None, 60, 58, None, None, None]
    for wrong in ("60-48", "", "60-", "C", "128", "48:0", "G#9"):
        with pytest.raises(InputError, match="Pitches are MIDI numbers"):
            plan.parse_pitches(wrong)


def test_a_folder_of_odd_names(corners):
    folder = corners / "Mes Échantillons (été)"
    folder.mkdir()
    sound = np.stack([tone(60, 0.5)] * 2, axis=1)
    soundfile.write(folder / "Célesta très dur C4.flac", sound, 44100)
    (folder / "._Célesta très dur C4.flac").write_bytes(b"what macOS leaves")
    (folder / "liesmich.txt").write_text("no sound")
    (folder / "72.wav").mkdir()
    found = plan.load_corners([str(folder) + "/", str(folder)], print)
    assert [corner.name for corner in found] == ["Mes-Échantillons-été", "Mes-Échantillons-été-2"]
    assert list(found[0].notes) == [60]


def test_a_pitch_that_no_name_says_is_heard_and_said(tmp_path, corners):
    soundfile.write(tmp_path / "a" / "high.wav", tone(72.1, 1.0), 16000)
    said = []
    found = plan.load_corners([str(corners / name) for name in "ab"], said.append)
    assert found[0].notes[72].name == "high.wav"
    assert len(said) == 1 and "C5, MIDI 72 (+1" in said[0]
    assert plan.pitch_by_ear(np.random.default_rng(0).normal(0, 0.1, 16000).astype("f4")) is None


def test_a_single_sound_is_played_faster_for_higher_pitches(tmp_path):
    soundfile.write(tmp_path / "one_60.wav", tone(60, 1.0), 16000)
    corner, = plan.load_corners([str(tmp_path / "one_60.wav")] * 2, print)[:1]
    assert plan.pitch_by_ear(plan.load_note(corner, 67, 8192)) == pytest.approx(67, abs=0.05)


def test_a_single_sound_is_tuned_by_what_is_heard(tmp_path):
    soundfile.write(tmp_path / "one.wav", tone(60.4, 1.0), 16000)
    lines = []
    found = plan.load_corners([str(tmp_path / "one.wav")] * 2, lines.append)
    assert "heard as C4, MIDI 60 (+40 cents)" in lines[0]
    assert plan.pitch_by_ear(plan.load_note(found[0], 60, 8192)) == pytest.approx(60, abs=0.06)
    assert plan.common_pitches(found, None, lines.append) == [48, 60, 72]
    assert "single sounds have every pitch" in lines[-1]


def test_clips_of_the_same_sound_are_made_once(corners):
    found = plan.load_corners([str(corners / name) for name in "abab"], print)
    made = plan.plan_nsynth(found, 3, [60], 1600, {"weights": {"digest": "0" * 64}, "seed": 0})
    # The columns are mixes of a and b; the rows are all alike.
    assert len(made.points) == 9 and len(made.clips) == 3
    assert len({made.files[f"x{x}y{y}", 60] for x in range(3) for y in range(3)}) == 3


# Bad input -----------------------------------------------------------------------------------


def said(capsys):
    return capsys.readouterr().err.strip()


def test_bad_corners_are_one_sentence_each(corners, capsys):
    (corners / "none").mkdir()
    soundfile.write(corners / "b" / "again_C4.wav", tone(60), 16000)
    (corners / "e").mkdir()
    soundfile.write(corners / "e" / "e_50.wav", tone(50), 16000)
    (corners / "f").mkdir()
    soundfile.write(corners / "f" / "f.wav", np.random.default_rng(0).normal(0, 0.1, 8000), 16000)
    for names, words in (("a",), "two, three or four"), (("a", "none"), "holds no sound"), (
            ("a", "b"), "has two of MIDI 60, again_C4.wav and b_60.wav"), (
            ("a", "e"), "there are none: a has 48 (C3), 60 (C4); e has 50 (D3)"), (
            ("a", "f"), "neither in its name nor heard"), (("a", "missing"), "does not exist"):
        assert bank(corners, corners / "out", corners=names) == 1
        line = said(capsys)
        assert line.startswith("error: ") and words in line and "\n" not in line
    assert not (corners / "out").exists()


def test_unequal_corners_make_what_they_share(corners, capsys):
    (corners / "b" / "b_48.wav").unlink()
    lines = []
    found = plan.load_corners([str(corners / name) for name in "ab"], lines.append)
    assert plan.common_pitches(found, None, lines.append) == [60]
    assert lines == ["b lacks 48 (C3)", "the pitches in common are made: 60 (C4)"]


def test_bad_gansynth_pitches_and_instruments(capsys):
    for more, words in ((["--pitches", "20"], "plays MIDI notes 24 to"), (
            ["--instruments", "0"], "Instruments are numbers from 1")):
        options = {"--instruments": "1", "--pitches": "60"} | dict([more])
        assert main(["gansynth", "--quiet", "--workers", "0", *(
            word for pair in options.items() for word in pair)]) == 1
        assert words in said(capsys)


# What is made --------------------------------------------------------------------------------


def test_a_bank_is_whole_and_resumes_where_it_stopped(corners, tmp_path, capsys):
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
    assert bank(corners, out, "--seed", "1") == 1
    assert "holds another bank" in said(capsys) and files(out) == whole
    assert bank(corners, out, "--seed", "1", "--overwrite") == 0
    assert files(out).keys() == whole.keys() and files(out) != whole


def test_another_bank_is_replaced_whole(corners, tmp_path):
    out = tmp_path / "bank"
    assert bank(corners, out, "--grid", "3", "--pitches", "60") == 0
    (out / "clips" / "mine.wav").write_bytes(b"not ours")
    assert bank(corners, out, "--pitches", "60", "--overwrite", "--seed", "1") == 0
    assert sorted(file.name for file in out.glob("*.sfz")) == [
        "x0y0.sfz", "x0y1.sfz", "x1y0.sfz", "x1y1.sfz"]
    assert sorted(files(out)) == ["mine.wav", *(f"x{x}y{y}_p060.wav" for x in (0, 1)
                                                for y in (0, 1))]
    assert len((out / "manifest.jsonl").read_text().splitlines()) == 4
    assert not (out / "finished").exists() and not (out / "sources").exists()


def test_a_damaged_encoding_is_made_again(corners, tmp_path):
    out = tmp_path / "bank"
    assert bank(corners, out, "--pitches", "60") == 0
    right = files(out)
    for place, encoding in enumerate(sorted((out / "encodings").iterdir())):
        encoding.write_bytes((b"", b"PK\3\4junk", encoding.read_bytes()[:-9], b"\x93NUMPY")[place])
    for clip in (out / "clips").iterdir():
        clip.unlink()
    assert bank(corners, out, "--pitches", "60") == 0
    assert files(out) == right


def test_auto_keeps_to_the_precision_of_what_is_there(corners, tmp_path, monkeypatch):
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
def test_a_stopped_run_leaves_a_page_and_goes_on(corners, tmp_path):
    out = tmp_path / "bank"
    command = [sys.executable, "-m", "workshop", "bank", "nsynth", "--corners", *(
        str(corners / name) for name in "abcd"), "--grid", "5", "--seconds", "0.3", "--checkpoint",
        "nsynth_starter", "--workers", "0", "--quiet", "--output", str(out)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 120
    while not list(out.glob("finished/*.jsonl")) and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=300)
    assert (process.returncode, errors.strip()) == (
        130, "stopped; what was finished is kept, and the same command goes on")
    page = (out / "index.html").read_text()
    left = 50 - len((out / "manifest.jsonl").read_text().splitlines())
    assert 0 < left < 50 and f"{left} clips are missing" in page
    subprocess.run(command, cwd=ROOT, check=True)
    assert len(files(out)) == 50 and "are missing" not in (out / "index.html").read_text()


def test_a_clip_depends_on_what_it_is_alone(corners, tmp_path):
    assert bank(corners, tmp_path / "both") == 0
    assert bank(corners, tmp_path / "one", "--pitches", "60", "--threads", "2") == 0
    assert bank(corners, tmp_path / "turned", corners="badc") == 0
    both, one, turned = (files(tmp_path / name) for name in ("both", "one", "turned"))
    assert one == {name: data for name, data in both.items() if "p060" in name}
    assert turned["x0y0_p060.wav"] == both["x1y0_p060.wav"]
    assert len(set(both.values())) == 8


def test_a_clip_is_what_the_library_decodes(corners, tmp_path):
    assert bank(corners, tmp_path / "bank", "--pitches", "60") == 0
    lines = map(json.loads, (tmp_path / "bank" / "manifest.jsonl").read_text().splitlines())
    line = next(line for line in lines if "x0y1" in line["file"])
    audio = soundfile.read(corners / "c" / "c_60.wav", dtype="float32")[0][:1536]
    prefix = checkpoints.find("nsynth_starter", "nsynth")
    wanted = nsynth.decode(nsynth.encode(audio, prefix), prefix,
                           nsynth.draw_uniforms(0, [line["identity"]], 1536))[0]
    found = soundfile.read(tmp_path / "bank" / line["file"])[0]
    np.testing.assert_allclose(found, nsynth.faded(wanted, tasks.FADE), atol=2 / 32768)


def test_a_poisoned_sound_fails_its_own_clips(corners, tmp_path, capsys):
    assert bank(corners, tmp_path / "right") == 0
    soundfile.write(corners / "b" / "b_60.wav", np.full(3200, np.nan), 16000, subtype="FLOAT")
    (corners / "d" / "d_48.wav").write_bytes(b"RIFF, not really")
    out = tmp_path / "bank"
    assert bank(corners, out) == 1
    listed = said(capsys).splitlines()
    assert len(listed) == 2 and all(line.startswith("not made: clips/") for line in listed)
    assert "x1y0_p060" in listed[0] and "NaN" in listed[0] and "x1y1_p048" in listed[1]
    right = files(tmp_path / "right")
    assert files(out) == {name: data for name, data in right.items()
                          if name not in ("x1y0_p060.wav", "x1y1_p048.wav")}
    assert "2 clips are missing" in (out / "index.html").read_text()


def test_a_full_disk_stops_and_the_same_command_goes_on(corners, tmp_path, capsys, monkeypatch):
    out, write, room = tmp_path / "bank", Store.write, [11]

    def full(self, name, data):
        room[0] -= 1
        if room[0] < 0:
            raise StoreError(f"{name} cannot be written (No space left on device): make room.")
        write(self, name, data)

    monkeypatch.setattr(Store, "write", full)
    assert bank(corners, out) == 1
    assert "No space left" in (line := said(capsys)) and "the same command goes on" in line
    monkeypatch.undo()
    assert bank(corners, out) == 0
    assert bank(corners, tmp_path / "other") == 0
    assert files(out) == files(tmp_path / "other")


def test_a_bank_too_large_for_the_disk_is_refused_at_once(corners, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Store, "free", lambda self: 1000)
    assert bank(corners, tmp_path / "bank") == 1
    assert "has room for 0 MB" in said(capsys)
    assert bank(corners, tmp_path / "bank", "--plan") == 1  # the plan is said first
    assert "has room for 0 MB" in said(capsys)
    assert not (tmp_path / "bank").exists()


def test_gansynth_bank_plays_the_scripts_instruments(tmp_path):
    from synths import gansynth

    out = tmp_path / "bank"
    assert main(["gansynth", "--instruments", "2,1", "--pitches", "60,72", "--seed", "5",
                 "--checkpoint", "gansynth_starter", "--workers", "0", "--quiet", "--output",
                 str(out)]) == 0
    assert len(files(out)) == 4 and (out / "instrument002.sfz").exists()
    model = gansynth.Model.load_from_path(checkpoints.find("gansynth_starter", "gansynth"))
    z = model.generate_z(2, 5)
    wanted = nsynth.faded(model.generate_samples_from_z(z[1:], [72])[0], tasks.FADE)
    wanted = wanted / max(1, np.abs(wanted).max())
    found = soundfile.read(out / "clips" / "instrument002_p072.wav")[0]
    np.testing.assert_allclose(found, wanted, atol=2 / 32768)


# What goes with it ---------------------------------------------------------------------------


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
    assert [float(region["volume"]) for region in regions] == [-4, -12, 0]


def test_page_has_every_point_and_its_files_lie_beside_it(corners, tmp_path):
    out = tmp_path / "bank"
    assert bank(corners, out) == 0
    page = (out / "index.html").read_text()
    named = json.loads(page.split("const files = ")[1].split(";\n")[0])
    assert sorted(named) == ["x0y0", "x0y1", "x1y0", "x1y1"]
    for name, of_pitch in named.items():
        assert f'data-name="{name}"' in page and list(of_pitch) == ["48", "60"]
        assert all((out / file).is_file() for file in of_pitch.values())
    assert "http" not in page and "100 % a" in page


def test_plan_says_what_it_takes_and_makes_nothing(corners, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tasks, "PROBE", 0.05)
    assert main(["nsynth", "--corners", str(corners / "a"), str(corners / "b"), "--grid", "3",
                 "--seconds", "0.5", "--workers", "0", "--plan", "--checkpoint", "nsynth_starter",
                 "--output", str(tmp_path / "bank")]) == 0
    text = capsys.readouterr().out
    assert "3 instruments, 2 pitches, 6 clips; 6 to be made: 3 s of sound" in text
    assert "here, 1 worker:" in text and "1000: " in text
    assert not (tmp_path / "bank").exists()


def test_manifest_lines_count_only_when_complete():
    record = {"file": "clips/a.wav", "recipe": "1", "digest": "2", "samples": 3, "peak": 0.5,
              "level": -20.0}
    data = manifest.to_lines([record, record | {"file": "ü"}])
    assert len(manifest.from_lines(data)) == 2
    assert manifest.from_lines(data[:-1]) == [record]
    assert manifest.from_lines(b"\xff{}\n" + data[:20] + b"\n{}\n[]\n") == []
    assert manifest.from_lines(None) == []


@dask_only
def test_a_bank_may_lie_at_any_address_of_fsspec(corners, tmp_path):
    address = f"memory://bank{os.getpid()}"
    assert bank(corners, address, "--pitches", "60") == 0
    assert bank(corners, tmp_path / "bank", "--pitches", "60") == 0
    store = Store(address)
    there = {name.split("/")[1]: store.read(name) for name in store.names("clips")}
    assert there == files(tmp_path / "bank")
    store.write("clips/x0y0_p060.wav", b"damaged")
    assert bank(corners, address, "--pitches", "60") == 0
    assert store.read("clips/x0y0_p060.wav") == there["x0y0_p060.wav"]


# On Dask -------------------------------------------------------------------------------------


def workers_of(pid):
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        return [child for child in psutil.Process(pid).children(recursive=True)
                if "spawn_main" in " ".join(child.cmdline())]
    return []


@dask_only
def test_killed_worker_and_killed_client_lose_nothing(corners, tmp_path):
    pytest.importorskip("psutil")
    out = tmp_path / "bank"
    command = [sys.executable, "-m", "workshop", "bank", "nsynth", "--corners", *(
        str(corners / name) for name in "abcd"), "--grid", "5", "--seconds", "0.2", "--checkpoint",
        "nsynth_starter", "--workers", "2", "--quiet", "--output"]

    def start():
        return subprocess.Popen([*command, str(out)], cwd=ROOT)

    def wait(clips, process):
        until = time.monotonic() + 300  # against a hang, not a measure
        while len(list(out.glob("clips/*.wav"))) < clips and process.poll() is None:
            assert time.monotonic() < until
            time.sleep(0.02)

    process = start()
    wait(4, process)
    for worker in workers_of(process.pid)[:1]:
        os.kill(worker.pid, signal.SIGTERM if os.name == "nt" else signal.SIGKILL)
    wait(20, process)
    process.kill()
    process.wait()
    finished = {file.name: file.stat().st_mtime_ns
                for line in manifest.read(Store(str(out))).values()
                for file in [out / line["file"]]}
    assert start().wait(600) == 0
    assert len(files(out)) == 50 and finished
    assert all((out / "clips" / name).stat().st_mtime_ns == made
               for name, made in finished.items())
    alone = [*command[:-3], "0", "--quiet", "--output", str(tmp_path / "alone")]
    subprocess.run(alone, cwd=ROOT, check=True)
    assert files(out) == files(tmp_path / "alone")


@contextlib.contextmanager
def dask_of_its_own(folder, port):
    """A scheduler at a port, and a worker of one thread: two processes; yields the scheduler's."""
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(open(folder / "dask.log", "ab"))
        started = []
        for words, where in (
                (["scheduler", "--host", "127.0.0.1", "--port", port], folder),
                (["worker", f"tcp://127.0.0.1:{port}", "--nthreads", "1", "--no-nanny",
                  "--local-directory", str(folder)], ROOT)):
            process = subprocess.Popen([sys.executable, "-m", "dask", *words, "--no-dashboard"],
                                       cwd=where, stdout=log, stderr=log)
            started.append(process)
            stack.callback(process.wait)
            stack.callback(process.kill)
        yield started[0]


@dask_only
def test_a_scheduler_that_is_killed_on_the_way_is_one_sentence(corners, tmp_path):
    """Killed while the client waits for it; with a new one there the same command goes on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    out = tmp_path / "bank"
    words = ["--grid", "4", "--seconds", "0.3", "--scheduler", f"tcp://127.0.0.1:{port}"]
    command = [sys.executable, "-m", "workshop", "bank", "nsynth", "--corners", *(
        str(corners / name) for name in "abcd"), "--checkpoint", "nsynth_starter", "--quiet",
        "--output", str(out), *words]
    with dask_of_its_own(tmp_path, port) as scheduler:
        client = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        until = time.monotonic() + 300  # against a hang, not a measure
        while not list(out.glob("finished/*.jsonl")) and client.poll() is None:
            assert time.monotonic() < until
            time.sleep(0.01)
        scheduler.kill()
        _, errors = client.communicate(timeout=120)
    assert (client.returncode, errors) == (
        1, "error: The scheduler has gone, and with it the work in hand; what is finished is kept: "
        "start one, and give the same command again.\n")
    kept = {file: (out / file).stat().st_mtime_ns for file in manifest.read(Store(str(out)))}
    assert 0 < len(kept) < 32 and not (out / "index.html").exists()

    with dask_of_its_own(tmp_path, port):
        assert bank(corners, out, *words) == 0
    assert {file: (out / file).stat().st_mtime_ns for file in kept} == kept
    assert len(files(out)) == 32 and (out / "index.html").is_file()
    assert sorted(file.name for file in out.iterdir() if file.is_dir()) == ["clips", "encodings"]
    assert bank(corners, tmp_path / "alone", *words[:4]) == 0
    assert files(out) == files(tmp_path / "alone")


@dask_only
def test_a_clip_that_kills_its_worker_fails_alone(monkeypatch):
    monkeypatch.setattr(cluster, "ALLOWED_FAILURES", 0)
    with cluster.engine(2, None, lambda line: None) as (_, client):
        def execute(task):
            if any(clip["file"] == "bad" for clip in task["clips"]):
                os._exit(1)
            return {"name": task["name"], "done": task["clips"], "failed": {}, "stop": None}

        work = [{"kind": "nsynth", "name": "t", "clips": [{"file": file}
                                                          for file in ("a", "bad", "c")]}]
        found = [result for _, result in cluster.distribute(client, work, execute)]
    done = [clip["file"] for result in found for clip in result["done"]]
    failed = {file: why for result in found for file, why in result["failed"].items()}
    assert sorted(done) == ["a", "c"] and list(failed) == ["bad"]
    assert "workers died" in failed["bad"]


@dask_only
def test_a_worker_without_the_weights_is_told_at_once():
    prefix = str(checkpoints.find("nsynth_starter", "nsynth"))
    with cluster.engine(1, None, lambda line: None) as (_, client):
        cluster.check_workers(client, prefix, tasks.weights_digest(prefix))
        with pytest.raises(InputError, match="The worker .* has no weights at"):
            cluster.check_workers(client, "/nowhere/model.ckpt-1", "0")
        with pytest.raises(InputError, match="The worker .* has other weights at"):
            cluster.check_workers(client, prefix, "0")


@dask_only
def test_a_worker_that_does_not_see_the_bank_is_told_at_once(corners, tmp_path, capsys):
    prefix = str(checkpoints.find("nsynth_starter", "nsynth"))
    digest, store = tasks.weights_digest(prefix), Store(str(tmp_path / "bank"))
    mark = tasks.mark(store)
    assert tasks.mark(store) == mark
    with cluster.engine(1, None, lambda line: None) as (execute, client):
        cluster.check_workers(client, prefix, digest, store.address, mark)
        with pytest.raises(InputError, match="The worker .* does not see the bank"):
            cluster.check_workers(client, prefix, digest, store.address, "another")
        # One that came later: its tasks stop the run, they do not write elsewhere.
        (_, result), = execute([{"kind": "nsynth", "name": "t", "bank": str(tmp_path / "else"),
                                 "mark": mark, "clips": [{"file": "a"}]}])
    assert "does not see the bank" in result["stop"] and not (tmp_path / "else").exists()
    # A bank in the memory of this process is none for others.
    assert bank(corners, "memory://nowhere", "--workers", "1") == 1
    assert "does not see the bank memory://nowhere" in said(capsys)


@dask_only
def test_a_scheduler_needs_no_code_of_ours(tmp_path):
    import cloudpickle

    sent = tmp_path / "sent"
    sent.write_bytes(cloudpickle.dumps(cluster.remote()))
    subprocess.run([sys.executable, "-c", "import pickle, sys; from pathlib import Path\n"
                    "pickle.loads(Path('sent').read_bytes())\nassert 'banks' not in sys.modules"],
                   cwd=tmp_path, check=True)


@dask_only
def test_a_scheduler_that_does_not_answer_is_one_sentence(corners, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cluster, "PATIENCE", 1)
    assert bank(corners, tmp_path / "bank", "--scheduler", "tcp://127.0.0.1:9") == 1
    line = said(capsys)
    assert "No Dask scheduler answers at tcp://127.0.0.1:9" in line and "\n" not in line


@dask_only
def test_a_scheduler_without_workers_is_one_sentence(corners, tmp_path, capsys, monkeypatch):
    import distributed

    monkeypatch.setattr(cluster, "PATIENCE", 1)
    with distributed.LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address=None) as alone:
        address = alone.scheduler_address
        assert bank(corners, tmp_path / "bank", "--scheduler", address) == 1
    assert said(capsys) == (
        f"error: The scheduler at {address} has no worker: start some with `python -m dask worker "
        f"{address}` in this project's folder.")
    assert not list((tmp_path / "bank").glob("clips/*"))
