"""What stands around a run: folders, records, options, stops, printing."""

import json
import os
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from test_examples import ONE, ROOT, TWO, call, midi, run, tone, unix

from companion import example, inputs, options
from companion.clips import Clip
from companion.run import explained
from companion.start import HERE
from synths import InputError, nsynth
from synths.weights import checkpoints, downloads


def plan(**changes):
    given = {"clips": [Clip("a", "a", "mix", ("x", "y"), (0.5, 0.5), "s")],
             "checkpoint": checkpoints.find("nsynth_starter", "nsynth"),
             "settings": {"seconds": 2.0}, "files": [], "output": Path("nowhere"), "seed": 3}
    return example.Plan(**(given | changes))


# Folders and records ---------------------------------------------------------------------------


def test_new_folder_two_at_once_are_two(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(example.new_folder, [tmp_path / "new" / "out"] * 8))
    assert sorted(folder.name for folder in made) == ["out", *(f"out-{i}" for i in range(2, 9))]


def test_output_folder_default_is_in_the_project(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    parser = options.example_1_options("")
    assert example.output_folder(parser.parse_args([])) == HERE / "output" / "nsynth"
    assert example.output_folder(parser.parse_args(["--output", "mine"])) == Path("mine")


def stop(folder, this, stopped=True, started=1.0, seed=3):
    """Leave the record of a run."""
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(
        {**this.record(), "seed": seed, "started": started, "stopped": stopped}))


def test_continued_newest_stopped_run_that_fits_is_found_in_any_folder(tmp_path):
    this = plan(output=tmp_path / "out")
    stop(tmp_path / "out", this, seed=1)
    stop(tmp_path / "elsewhere", this, started=2.0, seed=2)
    stop(tmp_path / "finished", this, False, started=3.0)
    stop(tmp_path / "other", plan(settings={"seconds": 4.0}), started=4.0)
    found = example.continued(this, None)
    assert (found.folder, found.seed) == (tmp_path / "elsewhere", 2)
    assert example.continued(this, 1).folder == tmp_path / "out"


@pytest.mark.parametrize("changes", [{"settings": {}}, {"clips": []}, {"seed": 4}])
def test_continued_no_run_that_fits_is_an_input_error(tmp_path, changes):
    stop(tmp_path / "out", plan())
    wanted = plan(output=tmp_path / "out", **changes)
    with pytest.raises(InputError, match="--resume"):
        example.continued(wanted, changes.get("seed"))


def test_continued_unreadable_file_is_not_called_another_run(tmp_path):
    with pytest.raises(FileNotFoundError):
        example.continued(plan(output=tmp_path / "out", files=[tmp_path / "gone.wav"]), None)


def test_continued_record_of_another_program_is_skipped(tmp_path):
    this = plan(output=tmp_path / "out")
    stop(tmp_path / "out", this)
    for name, text in (("list", "[]"), ("other", '{"clips": 3}'), ("damaged", "{")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(text)
    assert example.continued(this, None).folder == tmp_path / "out"


def test_chosen_keeps_flags_and_leaves_out_neutral_values():
    given = SimpleNamespace(normalize=True, loop=False, gain=1.0, mode="auto", seconds=2.0, x=None)
    assert example.chosen(given, *vars(given)) == {"normalize": True, "seconds": 2.0}


@pytest.mark.parametrize("engine, lines", [("fast", 1), ("magenta", 0)])
def test_continue_line_names_the_model_and_the_folder_of_the_project(
        tmp_path, monkeypatch, engine, lines):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(ROOT / ONE)])
    tone(tmp_path / "a.wav")
    given = options.example_1_options("").parse_args([
        "--sounds", "a.wav", "--checkpoint", "nsynth_starter", "--output", "out",
        "--engine", engine])
    line = example.Example1(given, [], nsynth).plan.resume
    words = shlex.split(line) if lines else []
    assert bool(line) == bool(lines)
    if lines:
        assert words[:3] == ["cd", str(HERE), "&&"]
        for word in ("nsynth_starter", str(tmp_path / "a.wav"), str(tmp_path / "out")):
            assert word in words


def test_same_length_needs_equal_frames_and_channels():
    example.same_length([np.zeros((3, 16))] * 2)
    for other in ((4, 16), (3, 8)):
        with pytest.raises(InputError, match="shape"):
            example.same_length([np.zeros((3, 16)), np.zeros(other)])


def test_run_that_fails_before_a_clip_leaves_no_folder(tmp_path):
    with pytest.raises(InputError), example.Run(plan(output=tmp_path / "out")) as work:
        (work.output_dir / "source_x.wav").write_bytes(b"")
        raise InputError("wrong")
    assert not list(tmp_path.iterdir())


def test_run_that_is_stopped_has_a_page_of_the_finished_clips(tmp_path):
    clips = [Clip(name, name, "score") for name in "ab"]
    with pytest.raises(KeyboardInterrupt), example.Run(plan(
            clips=clips, output=tmp_path / "out")) as work:
        soundfile.write(work.output_dir / "a.wav", np.sin(np.arange(8000) / 5), 16000)
        raise KeyboardInterrupt
    text = (tmp_path / "out" / "index.html").read_text("utf-8")
    assert "did not finish 1 of 2 clips" in text and (tmp_path / "out" / "a.png").is_file()
    assert json.loads((tmp_path / "out" / "run.json").read_bytes())["stopped"] is True


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_run_that_is_stopped_while_it_draws_prints_how_to_continue(tmp_path, monkeypatch, capsys,
                                                                   error):
    def stop(*_):
        raise KeyboardInterrupt
    monkeypatch.setattr(example.Run, "_write_page", stop)
    clips = [Clip("a", "a", "mix")]
    with pytest.raises(KeyboardInterrupt), example.Run(plan(
            clips=clips, output=tmp_path / "out", resume="this command")) as work:
        (work.output_dir / "a.wav").write_bytes(b"")
        if error:
            raise error
    assert capsys.readouterr().out.endswith("Continue: this command\n")
    assert (tmp_path / "out" / "a.wav").is_file()
    assert json.loads((tmp_path / "out" / "run.json").read_bytes())["stopped"] is True


# Inputs ------------------------------------------------------------------------------------------


def test_choose_sounds_the_books_are_used_if_they_are_there(monkeypatch, tmp_path):
    (tmp_path / "sounds").mkdir()
    monkeypatch.setattr(inputs, "HERE", tmp_path)
    tone(tmp_path / "sounds" / "bass.wav")
    assert [path.name for path in inputs.choose_sounds(None, ["bass.wav"], False)] == ["bass.wav"]
    for name in downloads.BOOK_SOUNDS:
        tone(tmp_path / "sounds" / name)
    assert [path.name for path in inputs.choose_sounds(None, ["bass.wav"], False)] == list(
        downloads.BOOK_SOUNDS)


def test_choose_sounds_channels_that_cancel_are_reported(tmp_path, capsys):
    wave = 0.5 * np.sin(np.arange(4800) / 10)
    soundfile.write(tmp_path / "wide.wav", np.stack([wave, -wave], 1), 16000)
    inputs.choose_sounds([tmp_path / "wide.wav"], [], False)
    assert "wide.wav" in capsys.readouterr().out
    inputs.choose_sounds([tone(tmp_path / f"{index}.wav") for index in range(70)], [], False)
    assert "wide.wav" not in capsys.readouterr().out  # sentences stay with their own run


def test_unknown_notes_name_a_command_for_two_to_eight_sounds(monkeypatch):
    names = [f"s{index}" for index in range(11)]
    files = [Path(f"{name}.wav") for name in names]
    audios = np.tile(np.sin(np.arange(8000) / 3), (11, 1))
    audios[1] = 0
    nats = {index: 1.0 for index in range(11)} | {9: 3.3, 10: 4.6}
    monkeypatch.setattr(nsynth, "nll", lambda judged, _: [
        nats[index] for index in range(11) if index != 1][:len(judged)])
    checkpoint = checkpoints.find("nsynth_starter", "nsynth")
    first, command = example.unknown_notes(dict(zip(names, files)), audios, checkpoint)
    assert "s10 [4.6], s9 [3.3]" in first
    words = shlex.split(command.partition(": ")[2].strip("`"))
    assert words[:4] == ["python", "-m", "workshop", "finetune"]
    sounds = words[words.index("--sounds") + 1:]
    assert sounds[:2] == ["s10.wav", "s9.wav"] and len(sounds) == 8 and "s1.wav" not in sounds
    # the stand-in calls the first sound known
    assert not example.unknown_notes({names[10]: files[10]}, audios[10:], checkpoint)


def test_quiet_run_does_not_judge_the_sounds(tmp_path, monkeypatch):
    monkeypatch.setattr(nsynth, "nll", lambda *_: pytest.fail("was asked"))
    call(ONE, "--sounds", tone(tmp_path / "a.wav"), "--seconds", "0.1", "--quiet",
         "--output", tmp_path / "out")


def test_check_size_too_much_needs_yes():
    for count, seconds in ((501, 1), (1, 3601)):
        with pytest.raises(InputError, match="add --yes"):
            example.check_size(count, seconds, "add --yes")
        example.check_size(count, seconds, "add --yes", yes=True)
    example.check_size(500, 3600, "add --yes")


# Options and errors ----------------------------------------------------------------------------


@pytest.mark.parametrize("script", [ONE, TWO])
def test_script_help_lists_the_chapters_options_and_the_workshop(script):
    done = run(script, "--help")
    assert done.returncode == 0 and "python -m workshop" in done.stdout
    listed = {word for word in done.stdout.split() if word.startswith("--")}
    assert listed >= {"--checkpoint", "--download", "--engine", "--seed", "--output", "--quiet"}
    assert len(listed - {"--help"}) <= 9


def test_script_unknown_option_names_the_nearest():
    done = run(ONE, "--sound", "x.wav")
    assert done.returncode == 2 and "--sounds" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("words", [["--seconds", "0"], ["--seed", "-1"], ["--seconds", "x"]])
def test_script_number_out_of_range_is_one_sentence(words):
    done = run(ONE, *words)
    assert done.returncode == 2 and "from" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("error, code, says", [
    (InputError("wrong"), 1, "error: wrong"), (KeyboardInterrupt(), 130, "stopped"),
    (PermissionError(13, "Permission denied", "a.wav"), 1, "a.wav: Permission denied"),
    (OSError(28, "No space left on device"), 1, "No space left")])
def test_explained_error_has_its_code_and_sentence(error, code, says):
    found, sentence = explained(error)
    assert found == code and says in sentence


def test_quoted_command_fits_the_system():
    words = ["python", "a b/it's.py"]
    assert shlex.split(example.quoted(words, "posix")) == words
    assert example.quoted(words, "nt") == 'python "a b/it\'s.py"'


@unix
@pytest.mark.parametrize("which", ["SIGTERM", "SIGINT"])
def test_stop_before_the_imports_is_no_traceback(which):
    code = (f"import os, signal; from companion.start import start; start(); "
            f"os.kill(os.getpid(), signal.{which}); import numpy")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 130 and "Traceback" not in done.stderr


@pytest.mark.parametrize("package", ["google_crc32c", "soxr"])
def test_missing_package_is_named_with_the_command(package):
    code = (f"import importlib.util as u; real = u.find_spec; u.find_spec = lambda name, *rest: "
            f"None if name == {package!r} else real(name, *rest); "
            "from companion.start import start; start()")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1 and package in done.stderr and "pip install" in done.stderr


@unix
def test_closed_pipe_ends_the_run_without_a_traceback(tmp_path):
    wav = tone(tmp_path / "a.wav")
    done = subprocess.run(f"'{sys.executable}' '{ROOT / ONE}' --sounds '{wav}' "
                          f"--seconds 0.1 --output '{tmp_path}/out' | head -1", shell=True,
                          capture_output=True, text=True, timeout=120)
    assert done.stdout.count("\n") == 1 and "Traceback" not in done.stderr


def test_quiet_run_prints_nothing(tmp_path):
    score = midi(tmp_path / "ベル.mid", [(0, 1, 60, 90)])
    done = subprocess.run([sys.executable, str(ROOT / TWO), "--midi", str(score), "--quiet",
                           "--output", str(tmp_path / "o🎵")], capture_output=True,
                          env={**os.environ, "PYTHONIOENCODING": "cp1252"}, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert (tmp_path / "o🎵" / "index.html").is_file()


@pytest.mark.parametrize("script", [ONE, TWO])
def test_engine_magenta_without_tensorflow_says_what_to_install(tmp_path, monkeypatch, script):
    known = inputs.importlib.util.find_spec
    monkeypatch.setattr(inputs.importlib.util, "find_spec", lambda name, *rest: (
        None if name == "tensorflow" else known(name, *rest)))
    with pytest.raises(InputError, match="pip install"):
        call(script, "--engine", "magenta", "--output", tmp_path / "out")
    assert not (tmp_path / "out").exists()
