"""What stands around a run, piece by piece: plans, sentences, folders, the record, stops."""

import argparse
import io
import json
import math
import os
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from test_examples import midi, tone

from companion import inputs, options, plan, progress, results, run, start
from companion.record import Planned, Record
from synths import InputError, files, gansynth, nsynth
from synths.nsynth import mixing
from synths.weights import checkpoints, downloads

STARTER = checkpoints.find("nsynth_starter", "nsynth")
DEFAULTS = {"checkpoint": None, "download": False, "output": "out", "overwrite": False,
            "seed": None, "engine": "fast", "many": False, "labels": False, "threads": None,
            "quiet": False}
ONE = {**DEFAULTS, "sounds": None, "seconds": 1.0, "trim": False, "level": False, "mix": "lean",
       "ratio": None, "pairs": None, "steps": None, "crossfade": False, "stretch": 1.0,
       "scale": 1.0, "temperature": 1.0, "precision": "auto", "resume": False}
TWO = {**DEFAULTS, "midi": ["cs1-1pre-short.mid"], "tempo": 1.0, "seconds_per_instrument": 5.0,
       "instruments": None, "preview": None}


def asked(defaults, **changed):
    """Options as a script's parser gives them."""
    return argparse.Namespace(**{**defaults, "seed": 5, **changed}, defaults=defaults)


def refused(message, function, *words, **named):
    """The function refuses, in exactly this sentence."""
    with pytest.raises(InputError) as caught:
        function(*words, **named)
    assert str(caught.value) == message


def sounds(count):
    return [Path(f"s{place:03}.wav") for place in range(count)]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Each test stands in a folder of its own; there is room on its disk."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: argparse.Namespace(free=10**12))
    return tmp_path


# The plan of example 1 -------------------------------------------------------------------------


def names_of(sounds, **changed):
    return [mix.name for mix in plan.plan_mixes(asked(ONE, **changed), sounds, STARTER).mixes]


def test_what_example_01_will_make():
    three = [Path("a.wav"), Path("b.wav"), Path("c.wav")]
    alone = [f"{name}_reconstructed" for name in "abc"]
    assert names_of(three) == [*alone, "a_b", "a_c", "b_a", "b_c", "c_a", "c_b"]
    assert names_of(three, mix="mean") == [*alone, "a_b", "a_c", "b_c"]
    assert names_of(three, ratio=0.5) == [*alone, "a_b", "a_c", "b_c"]
    assert names_of(three, ratio=0.6)[3:] == ["a_b", "a_c", "b_a", "b_c", "c_a", "c_b"]
    assert names_of(three, crossfade=True)[3:5] == ["a_to_b", "a_to_c"]
    assert names_of(three, crossfade=True)[5:] == ["b_to_a", "b_to_c", "c_to_a", "c_to_b"]
    assert names_of(three, steps=2) == [
        f"{pair}_step{step}of2" for pair in ("a_b", "a_c", "b_c") for step in (1, 2)]
    assert names_of(three[:1], steps=2) == ["a_reconstructed"]
    assert names_of(three, pairs=["c+a"]) == ["a_reconstructed", "c_reconstructed", "c_a"]
    assert names_of(three, pairs=["c+a", "a+c"], crossfade=True)[2:] == ["c_to_a", "a_to_c"]


def test_a_job_holds_what_is_used_and_nothing_else():
    three = [Path("x/a.wav"), Path("x/b.wav"), Path("x/c.wav")]
    job = plan.plan_mixes(asked(ONE, pairs=["c+a"], mix="book"), three, STARTER)
    assert (job.wav_filenames, job.names, job.weights, job.pairs) == (
        [Path("x/a.wav"), Path("x/c.wav")], ["a", "c"], (1.0, 0.5), [(1, 0)])
    assert job.mixes[2] == mixing.mixes(["a", "c"], (1.0, 0.5), [(1, 0)])[0]
    job = plan.plan_mixes(asked(ONE), three, STARTER)
    assert (job.wav_filenames, job.names, job.weights) == (three, ["a", "b", "c"], (2 / 3, 1 / 3))
    assert job.pairs == mixing.pairs(3)


def test_pairs_are_named_as_shown_or_as_on_disk():
    files = [Path(f"{name}.wav") for name in ("1__u__big_bell", "2__u__big_tone", "3__u__low_x")]
    for pair in ("big-bell+low-x", "1__u__big_bell.wav+3__u__low_x.wav"):
        job = plan.plan_mixes(asked(ONE, pairs=[pair]), files, STARTER)
        assert (job.names, job.wav_filenames) == (["big-bell", "low-x"], files[::2])
        # of these two alone the names would be others: all are named in what repeats the run
        assert job.named_by == files
    job = plan.plan_mixes(asked(ONE, pairs=["s000+s002"]), sounds(3), STARTER)
    assert job.named_by == sounds(3)[::2]


@pytest.mark.parametrize("defaults, check, changed, first, second", [
    *((ONE, "mixes", changed, first, second) for changed, first, second in (
        ({"steps": 3, "crossfade": True}, "steps", "crossfade"),
        ({"steps": 3, "ratio": 0.5}, "steps", "ratio"),
        ({"steps": 3, "mix": "mean"}, "steps", "mix"),
        ({"crossfade": True, "ratio": 0.5}, "crossfade", "ratio"),
        ({"crossfade": True, "mix": "mean"}, "crossfade", "mix"),
        ({"mix": "mean", "ratio": 0.5}, "mix", "ratio"))),
    *((TWO, "preview", changed, first, second) for changed, first, second in (
        ({"preview": 2, "instruments": "1"}, "preview", "instruments"),
        ({"preview": 2, "midi": ["a.mid"]}, "preview", "midi"),
        ({"preview": 2, "tempo": 2.0}, "preview", "tempo"),
        ({"preview": 2, "seconds_per_instrument": 2.0}, "preview", "seconds-per-instrument"),
        ({"instruments": "1", "seconds_per_instrument": 2.0}, "instruments",
         "seconds-per-instrument")))])
def test_options_that_contradict_each_other(defaults, check, changed, first, second):
    message = f"--{first} and --{second} contradict each other: leave one out."
    if check == "mixes":
        refused(message, plan.plan_mixes, asked(defaults, **changed), sounds(2), STARTER)
    else:
        refused(message, plan.check_preview, asked(defaults, **changed))
        for name, value in changed.items():
            plan.check_preview(asked(defaults, **{name: value}))


@pytest.mark.parametrize("count, changed, clips", [
    (22, {}, None), (23, {}, 529), (31, {"mix": "mean"}, None), (32, {"mix": "mean"}, 528),
    (23, {"crossfade": True}, 529), (10, {"steps": 11}, None), (10, {"steps": 12}, 540),
    (1000, {"steps": 99}, 49_450_500), (200, {"pairs": ["s000+s199"]}, None)])
def test_many_clips_ask_for_a_word(count, changed, clips):
    if clips is None:
        assert len(names_of(sounds(count), **changed)) <= 500
        return
    refused(f"{count} sounds make {clips:,} clips: name the pairs that you want with --pairs, or "
            "add --many to make them all.", names_of, sounds(count), **changed)
    if clips < 1000:
        assert len(names_of(sounds(count), **changed, many=True)) == clips


def test_many_pairs_ask_for_a_word():
    pairs = [f"s{a:03}+s{b:03}" for a in range(22) for b in range(23) if a != b]
    assert len(pairs) + 23 == 507
    refused("These are 507 clips: ask for fewer, or add --many to make them all.",
            names_of, sounds(23), pairs=pairs)
    assert len(names_of(sounds(23), pairs=pairs, many=True)) == 507
    assert len(names_of(sounds(23), pairs=pairs[:477])) == 500


def test_two_clips_of_one_name_are_refused():
    refused("Two clips would have the name x_a_b: rename one of the sounds.",
            plan._settle_names, ["x_a_b", "y", "X_A_b"])
    plan._settle_names(["x_a_b", "y"])
    # "_seed4294967295.partial.codes" has 29 characters, and a name 255
    plan._settle_names(["n" * 226])
    with pytest.raises(InputError, match="_seed4294967295.partial.codes"):
        plan._settle_names(["n" * 227])


def test_what_will_be_made_is_said_and_must_fit_the_disk(here, monkeypatch, capsys):
    names_of(sounds(4), seconds=2.5, output=str(here / "no" / "where"))
    assert capsys.readouterr().out == (
        "To make: 16 clips of 2.5 s (12 mixes, and 4 sounds decoded again), about 17 s of work, "
        "10.2 MB on disk, 2.5 MB of it the page; seed 5.\n")
    for changed, says in (({"ratio": 0.5}, "3 clips of 1 s (1 mix, and 2 sounds decoded again)"), (
            {"crossfade": True}, "4 clips of 1 s (2 cross-fades, and 2 sounds decoded again)"), (
            {"pairs": ["s000+s001"], "crossfade": True},
            "3 clips of 1 s (1 cross-fade, and 2 sounds decoded again)"), (
            {"steps": 3}, "3 clips of 1 s")):
        names_of(sounds(2), **changed)
        assert f"To make: {says}, about " in capsys.readouterr().out
    names_of(sounds(1), stretch=3.0, seed=None)
    assert capsys.readouterr().out == (
        "To make: 1 clip of 3 s, about 9 s of work, 0.7 MB on disk, 0.2 MB of it the page; "
        "seed as before.\n")
    asked_for = []
    # sounds, pictures of two sizes, and on the page the sounds again
    needed = 16 * (32_000 + 400_000 + 32_000 * 4 / 3 + 50_000)

    def disk_usage(path):
        asked_for.append(path)
        return argparse.Namespace(free=math.floor(needed))
    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    refused(f"16 clips need 8.4 MB, and {here} has 8.4 MB left: make room, or ask for less.",
            names_of, sounds(4), output=str(here / "no" / "where"))
    assert asked_for == [here]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: argparse.Namespace(free=0))
    refused(f"1 clip needs 0.5 MB, and {here} has 0.0 MB left: make room, or ask for less.",
            names_of, sounds(1))
    monkeypatch.setattr(shutil, "disk_usage",
                        lambda path: argparse.Namespace(free=math.ceil(needed)))
    names_of(sounds(4))


def test_decoding_takes_longer_for_more_clips_seconds_and_weights(monkeypatch):
    shapes = {"res_1/W": (1, 1, 1000, 1000), "skip/W": (1, 1, 1000, 1000), "res_1/biases": (9**9,),
              "ae_res_1/W": (9**9,)}
    monkeypatch.setattr(checkpoints, "shapes", lambda prefix: shapes)
    # a look at two million weights for each dozen, and a multiplication for each clip
    for clips, groups in ((1, 1), (12, 1), (13, 2), (24, 2), (25, 3)):
        step = groups * (1e-4 + 4e-4) + clips * 4e-5
        assert plan._decoding_time(STARTER, clips, 3.0) == pytest.approx(2 + step * 48000)


def test_magentas_own_engine_takes_its_time(capsys):
    names_of(sounds(4), seconds=2.5, engine="magenta")
    assert "), about 2 minutes of work on Magenta's own engine, " in capsys.readouterr().out


def test_how_long_magentas_engine_takes_is_what_was_measured():
    def seconds(rounds):
        return np.median([one["seconds"] / one.get("steps", 1) for one in rounds])

    folder = Path(__file__).parent.parent / "benchmarks" / "results"
    rounds = json.loads((folder / "nsynth.json").read_text())["rounds"]
    score = json.loads((folder / "gansynth.json").read_text())["score"]
    ratios = [seconds(rounds[f"magenta decode {clips}"])
              / seconds(rounds[f"ours decode {clips} float32"]) for clips in (1, 12)]
    for ratio in (*ratios, seconds(score["magenta"]) / seconds(score["ours"])):
        assert ratio == pytest.approx(plan.MAGENTA_TIMES, rel=0.15)


def test_times_sizes_and_counts_in_words():
    assert [plan.in_words(seconds) for seconds in (0.2, 1.6, 89.4, 90, 150, 5399, 5400, 9000)] == [
        "1 s", "2 s", "89 s", "2 minutes", "2 minutes", "90 minutes", "1.5 hours", "2.5 hours"]
    assert [plan.in_bytes(size) for size in (0, 2.26e6, 999e6, 1e9, 12.44e9)] == [
        "0.0 MB", "2.3 MB", "999.0 MB", "1.0 GB", "12.4 GB"]
    assert [plan.counted(count, "note") for count in (0, 1, 2, 1234)] == [
        "0 notes", "1 note", "2 notes", "1,234 notes"]


def test_planned_mixes_have_their_files(here):
    job = plan.plan_mixes(asked(ONE), [Path("a.wav"), Path("b.wav")], STARTER)
    record = Record(9, here, "", False, "", {})
    assert plan.planned_mixes(record, job)[2] == Planned(
        here / "a_b_seed9.wav", "a with b", "mix", (0, 1), (2 / 3, 1 / 3),
        "0.666667 a + 0.333333 b")


def test_what_is_done_to_each_sound_is_said(here, capsys):
    for name, seconds in (("a", 0.995), ("b", 0.994), ("c", 1.006), ("d", 1.0049)):
        tone(here / f"{name}.wav", seconds=seconds)
    (here / "e.wav").write_text("no sound")
    np.save("f.npy", np.zeros((31, 16)))

    def said(*names, **changed):
        paths = [Path(name) for name in names]
        plan.say_sounds(asked(ONE, **changed), plan.Job(
            paths, [path.stem for path in paths], (1, 0), [], [], paths))
        return capsys.readouterr().out

    assert said("a.wav", "b.wav", "c.wav", "d.wav", "e.wav", "f.npy") == (
        "Sounds, 1 s of each: a (0.99 s, then silence), b (0.99 s, then silence), c (1 s, cut), d "
        "(1 s), f (a saved encoding).\n")
    assert said("e.wav", "d.wav", trim=True, level=True) == (
        "Sounds, 1 s of each: d (1 s); silence at the beginning left out; peaks brought to 0.9.\n")
    assert said(*["d.wav"] * 6, level=True).count("d (1 s)") == 6
    assert said(*["d.wav"] * 3, "b.wav", "f.npy", "c.wav", "f.npy") == (
        "Sounds, 1 s of each: 7, 1 then silence, 2 saved encodings, 1 cut.\n")
    assert said(*["c.wav"] * 7) == "Sounds, 1 s of each: 7, 7 cut.\n"
    tone(here / "g.flac")
    streamed = bytearray((here / "g.flac").read_bytes())
    streamed[21] &= 0xF0  # the 36 bits of the number of samples
    streamed[22:26] = bytes(4)
    (here / "g.flac").write_bytes(streamed)
    assert said("g.flac", "d.wav") == (
        "Sounds, 1 s of each: g (its file does not say how long it is), d (1 s).\n")
    for seconds, says in (200.04, "200 s"), (10.4, "10 s"), (9.96, "10 s"), (1.26, "1.3 s"):
        tone(here / "long.wav", seconds=seconds)
        assert said("long.wav") == f"Sounds, 1 s of each: long ({says}, cut).\n"


def test_sounds_that_the_starter_does_not_know_are_named(here, monkeypatch, capsys):
    judged = []

    def nll(sounds, checkpoint):
        judged.append((sounds, checkpoint))
        return np.array([3.04, 2.8, 2.81])[:len(sounds)]
    monkeypatch.setattr(nsynth, "nll", nll)
    names = ["a", "b", "c", "bass"]
    paths = [*(Path(f"{name}.wav") for name in names[:3]), start.HERE / "sounds" / "bass.wav"]
    audio = np.zeros(9000, np.float32)
    audio[3000:7096] = 0.5
    job = plan.Job(paths, names, (1, 0), [], [], paths)
    plan.say_unknown(asked(ONE), job, STARTER, [audio] * 4, ["bass.wav"])
    assert capsys.readouterr().out == (
        "The starter does not know a, c (3.0 nats per sample, and what it knows has under 2.8), so "
        f"expect noise: --download, or teach it, in {start.HERE}: python -m training.nsynth.adapt "
        f"--name mine --sounds {here / 'a.wav'} {here / 'b.wav'} {here / 'c.wav'} {paths[3]}\n")
    (heard, checkpoint), = judged
    assert checkpoint == STARTER
    np.testing.assert_array_equal(heard, np.full((3, 4096), 0.5))
    loud = np.full(9000, 0.1, np.float32)
    loud[4000:8096] = -0.5  # what is loud below zero is loud, too
    np.testing.assert_array_equal(plan.loudest(loud), np.full(4096, -0.5, np.float32))
    monkeypatch.chdir(start.HERE)
    plan.say_unknown(asked(ONE), job, STARTER, [audio] * 4, ["bass.wav"])
    assert capsys.readouterr().out.endswith(
        "or teach it: python -m training.nsynth.adapt --name mine --sounds a.wav b.wav c.wav "
        f"{paths[3]}\n")
    judged.pop()
    for audios, weights in (([None, 0 * audio, None, audio], STARTER),
                            ([audio] * 4, here / "model.ckpt-1")):
        plan.say_unknown(asked(ONE), job, weights, audios, ["bass.wav"])
    assert len(judged) == 1 and capsys.readouterr().out == ""


# The plan of example 2 -------------------------------------------------------------------------


def notes(*ends):
    return {"pitches": np.arange(len(ends)), "start_times": np.zeros(len(ends)),
            "end_times": np.array(ends, float), "velocities": np.full(len(ends), 9),
            "left_out": {}}


def test_scores_get_names_of_their_own():
    paths = [Path("x/a.mid"), Path("y/A.mid"), Path("Overview.mid"), Path("n" * 99 + ".mid"),
             Path("caf\udce9.mid")]
    assert plan.score_names(asked(TWO), paths) == ["a", "A-2", "Overview-2", "n" * 80, "caf?"]
    names = plan.score_names(asked(TWO, preview=10), [])
    assert names == [f"instrument{place:02}" for place in range(1, 11)]
    record = Record(9, Path("out"), "", False, "", {})
    assert plan.planned_scores(asked(TWO), record, ["my_score"]) == [
        Planned(Path("out/my_score_seed9.wav"), "my score", "score")]
    assert record.files == [*plan.PAGE_FILES, "my_score_seed9.wav", "my_score_seed9.png",
                            "my_score_seed9_instruments.npz"]
    assert plan.planned_scores(asked(TWO, preview=1), record, ["instrument01"])[0].kind == "preview"
    assert plan.score_names(asked(TWO), [Path("overview.mid")]) == ["overview-2"]


def test_the_bar_says_what_plays():
    for changed, count, says in (({}, 1, "a"), ({}, 2, "2 scores"),
                                 ({"preview": 1}, 1, "1 instrument"),
                                 ({"preview": 3}, 3, "3 instruments")):
        assert plan.what_plays(asked(TWO, **changed), list("abc")[:count]) == says


def test_what_will_be_played_is_said(capsys):
    plan.check_scores(asked(TWO), ["a", "b", "c"], [notes(1, 2), notes(4, 5), notes(5, 6)])
    assert capsys.readouterr().out.splitlines() == [
        "a: 2 notes, 2.0 s, on 2 instruments, 2.0 s apart, about 1 s of work, 0.9 MB on disk; "
        "seed 5.",
        "b: 2 notes, 5.0 s, on 2 instruments, 5.0 s apart, about 1 s of work, 1.2 MB on disk; "
        "seed 5.",
        "1 note is held longer than the 4 s that the model makes, and ends early.",
        "c: 2 notes, 6.0 s, on 2 instruments, 6.0 s apart, about 1 s of work, 1.2 MB on disk; "
        "seed 5.",
        "2 notes are held longer than the 4 s that the model makes, and end early."]
    plan.check_scores(asked(TWO, preview=1), ["a"], [gansynth.preview_phrase()])
    assert capsys.readouterr().out == (
        "To make: a phrase on each of 1 instrument, 6 notes, and 7 notes for the keyboard on the "
        "page, about 1 s of work; seed 5.\n")
    plan.check_scores(asked(TWO, preview=200), ["a"] * 200, [gansynth.preview_phrase()] * 200)
    assert capsys.readouterr().out == (
        "To make: a phrase on each of 200 instruments, 1,200 notes, and 1,400 notes for the "
        "keyboard on the page, about 79 s of work; seed 5.\n")


def test_long_scores_ask_for_a_word(here, monkeypatch):
    plan.check_scores(asked(TWO), ["a", "b"], [notes(3600), notes(*[1] * 20000)])
    refused("b has 1 note in 1.5 hours, and a score is at most 20,000 notes in 60 minutes: add "
            "--many to play it all the same.",
            plan.check_scores, asked(TWO), ["a", "b"], [notes(1), notes(5400)])
    with pytest.raises(InputError):
        plan.check_scores(asked(TWO), ["a"], [notes(3600.1)])
    refused("a has 20,001 notes in 1 s, and a score is at most 20,000 notes in 60 minutes: add "
            "--many to play it all the same.",
            plan.check_scores, asked(TWO), ["a"], [notes(*[1] * 20001)])
    plan.check_scores(asked(TWO, many=True), ["a"], [notes(*[3601] * 20001)])
    # a second of sound, the same on the page, two pictures
    free = argparse.Namespace(free=800_000 + 20 * 32_000 * 7 / 3)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free if path == here else None)
    plan.check_scores(asked(TWO), ["a"], [notes(20)])
    refused(f"21 s of sound need 2.4 MB, and {here} has 2.3 MB left: make room, or ask for less.",
            plan.check_scores, asked(TWO), ["a"], [notes(21)])
    free.free *= 2
    plan.check_scores(asked(TWO), ["a", "b"], [notes(20)] * 2)
    refused(f"41 s of sound need 4.7 MB, and {here} has 4.6 MB left: make room, or ask for less.",
            plan.check_scores, asked(TWO), ["a", "b"], [notes(20), notes(21)])


def test_too_many_scores_ask_for_a_word():
    plan.check_scores(asked(TWO), ["a"] * 500, [notes(1)] * 500)
    plan.check_scores(asked(TWO, many=True), ["a"] * 501, [notes(1)] * 501)
    refused("These are 501 scores: give fewer, or add --many for all.",
            plan.check_scores, asked(TWO), ["a"] * 501, [notes(1)] * 501)


def test_what_the_memory_does_not_hold_asks_for_a_word(monkeypatch):
    free = []
    monkeypatch.setattr(plan, "free_memory", lambda: free[0])

    def needs(size, function, *words):
        free[:] = [plan.PACKAGES_BYTES + size]
        function(*words)
        free[0] -= 1
        refused(f"This needs {plan.in_bytes(free[0] + 1)} of memory, and {plan.in_bytes(free[0])} "
                "are free: ask for less, or add --many to try it.", function, *words)
        free[0] = None  # the system does not tell
        function(*words)

    # the longest in double numbers, all of them for the page
    needs(16000 * (8 * 900 + 4 * 1200), plan.check_scores, asked(TWO), ["a", "b"],
          [notes(900), notes(300)])
    needs(16000 * 25 * (12 * 3 + 12 * 4 + 9 * 4),
          lambda: names_of(sounds(3), seconds=25.0, stretch=4.0))
    free[:] = [1]
    names_of(sounds(3), many=True)
    plan.check_scores(asked(TWO, many=True), ["a"], [notes(1)])


def test_the_free_memory_is_what_the_system_tells(monkeypatch):
    def opened(path, encoding):
        assert (path, encoding) == ("/proc/meminfo", "ascii")
        return io.StringIO("MemTotal: 99 kB\nMemAvailable:   5 kB\nSwap: 7 kB\n")
    monkeypatch.setattr(plan, "open", opened, raising=False)
    assert plan.free_memory() == 5120

    def missing(*words, **named):
        raise FileNotFoundError
    monkeypatch.setattr(plan, "open", missing, raising=False)
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 7, "SC_PAGE_SIZE": 4096}.__getitem__,
                        raising=False)
    assert plan.free_memory() == 7 * 4096
    monkeypatch.setattr(os, "sysconf", missing)
    assert plan.free_memory() is None


class Model:
    def generate_z(self, n, rng=None):
        return (rng or np.random.default_rng(0)).standard_normal((n, 4))


def test_instruments_are_tried_before_any_work(here, monkeypatch):
    asked_for = []
    monkeypatch.setattr(inputs, "gansynth_model", lambda *words: asked_for.append(words) or Model())
    scores = [notes(2), notes(9)]
    assert plan.instruments(asked(TWO), STARTER, scores) == [None, None]
    assert plan.instruments(asked(TWO, preview=2), STARTER, scores) == ["1", "2"] and not asked_for
    assert plan.instruments(asked(TWO, instruments="2,1", threads=3), STARTER,
        scores) == ["2,1"] * 2
    assert asked_for == [(gansynth, STARTER, 16, 3)]
    with pytest.raises(InputError, match="found 'x'.$"):
        plan.instruments(asked(TWO, instruments="x"), STARTER, scores)
    drawn = []
    monkeypatch.setattr(plan.gansynth, "choose_instruments", lambda model, chosen, seconds, rng:
                        drawn.append((chosen, seconds, rng.random())))
    plan.instruments(asked(TWO, instruments="1"), STARTER, scores)
    assert drawn == [("1", seconds, np.random.default_rng(5).random()) for seconds in (2.0, 9.0)]


def test_instruments_are_placed_where_they_were_saved(here):
    z = np.zeros((2, 4))
    gansynth.save_instruments("a.npz", z, [0.5, 8])
    gansynth.save_instruments("b.npz", z)
    placed = plan.placed_instruments
    assert placed(None, Path("a.npz")) == ((1, 2), [0.5, 8.0])
    assert placed("b.NPZ", Path("a.npz")) == placed("c.npy", Path("a.npz")) == ((), [0.5, 8.0])
    assert placed("7,3@8.0", Path("a.npz")) == ((7, 3), [0.5, 8.0])
    assert placed("7@2", Path("a.npz")) == ((7, 7), [0.5, 8.0])
    assert placed(None, Path("b.npz")) == ((1,), [0.0])


# Inputs ----------------------------------------------------------------------------------------


def test_sounds_are_found(here, monkeypatch):
    home = here / "home"
    (home / "sounds").mkdir(parents=True)
    fetched = []
    monkeypatch.setattr(inputs, "HERE", home)
    monkeypatch.setattr(downloads, "fetch_book_sounds", lambda *words: fetched.append(words))

    def find(*words, **changed):
        return inputs.find_sounds(asked(ONE, sounds=words or None, **changed), ["bass.wav",
            "b.wav"])

    shipped = [home / "sounds" / "bass.wav", home / "sounds" / "b.wav"]
    tone(home / "sounds" / "bass.wav")
    assert find() == shipped
    assert find("bass.wav") == [home / "sounds" / "bass.wav"]
    tone(here / "bass.wav")
    assert find("bass.wav") == [Path("bass.wav")] and not fetched
    refused("no.wav does not exist: check its name and folder.", find, "bass.wav", "no.wav")
    refused("no/no.wav does not exist: check its name and folder.", find, "no/no.wav")
    refused("bas.wav does not exist; did you mean bass.wav?", find, "bas.wav")
    refused("my does not exist: check its name and folder, and put a name with spaces in quotes.",
            find, "my", "kick.wav")
    (here / "mine").mkdir()
    refused("mine holds no sound: give a folder with files that end in .wav, .flac, .ogg, .oga, "
            ".opus, .mp3, .aif, .aiff, .au, .caf, .w64, .npy.", find, "mine")
    for name in ("b.WAV", "a.flac", ".hidden.wav", "notes.txt"):
        (here / "mine" / name).touch()
    assert find("mine", "bass.wav") == [Path("mine/a.flac"), Path("mine/b.WAV"), Path("bass.wav")]
    assert not fetched
    book = [home / "sounds" / name for name in downloads.BOOK_SOUNDS]
    refused(f"{book[0].name} does not exist: check its name and folder.", find, book[0].name)
    assert len(fetched) == 1 and fetched[0][0] == home / "sounds" and callable(fetched[0][1])
    for path in book[1:]:
        path.touch()
    assert find() == shipped
    book[0].touch()
    assert find() == book and len(fetched) == 1
    assert find(book[0].name) == [book[0]]
    find("bass.wav", download=True)
    assert len(fetched) == 3


def test_scores_are_found(here, monkeypatch):
    home = here / "home"
    (home / "midi").mkdir(parents=True)
    monkeypatch.setattr(inputs, "HERE", home)

    def find(*words, **changed):
        return inputs.find_scores(asked(TWO, midi=words, **changed))

    midi(home / "midi" / "a.mid", [(0, 1, 60, 90)])
    assert find("a.mid") == [home / "midi" / "a.mid"]
    midi(here / "a.mid", [(0, 1, 60, 90)])
    assert find("a.mid", home / "midi" / "a.mid") == [Path("a.mid"), home / "midi" / "a.mid"]
    refused("no.mid does not exist: check its name and folder.", find, "a.mid", "no.mid")
    midi(home / "midi" / "prelude.mid", [(0, 1, 60, 90)])
    refused("preludes.mid does not exist; did you mean prelude.mid?", find, "preludes.mid")
    refused("home is a folder: name a MIDI file in it.", find, "home")
    if hasattr(os, "mkfifo"):
        os.mkfifo(here / "pipe.mid")
        refused("pipe.mid is no file: name a MIDI file.", find, "pipe.mid")
    (here / "long.mid").write_bytes(bytes(1_000_000))
    assert find("long.mid") == [Path("long.mid")]
    (here / "long.mid").write_bytes(bytes(1_000_001))
    refused("long.mid is larger than 1 MB, far more than a score of an hour: add --many to read it "
            "all the same.", find, "long.mid")
    assert find("long.mid", many=True) == [Path("long.mid")]


def test_sounds_are_loaded_and_what_was_done_is_said_once(here, capsys):
    wave = 0.5 * np.sin(2 * np.pi * 220 * np.arange(3200) / 16000)
    soundfile.write("wide.wav", np.stack([wave, -wave], 1), 16000)
    np.save("c.npy", np.zeros((5, 16)))
    wide, none = inputs.load_sounds(asked(ONE), [Path("wide.wav"), Path("c.npy")], 3200, 0.9)
    assert none is None and wide.shape == (3200,) and wide.max() == pytest.approx(0.9, abs=1e-3)
    assert capsys.readouterr().out == (
        "The channels of wide.wav are in opposite phase and would cancel each other out: the left "
        "channel is used.\n")
    inputs.load_sounds(asked(ONE), [Path("wide.wav")], 3200, 0.9)
    assert capsys.readouterr().out == ""
    with pytest.raises(ValueError):
        wide[0] = 1
    late = np.concatenate([np.zeros(800), wave])
    soundfile.write("late.wav", late, 16000)
    trimmed, = inputs.load_sounds(asked(ONE, trim=True), [Path("late.wav")], 3200, None)
    assert np.abs(trimmed[80:200]).max() > 0.4
    again, = inputs.load_sounds(asked(ONE), [Path("late.wav")], 3200, None)
    assert not again[:800].any() and capsys.readouterr().out == ""
    soundfile.write("none.wav", 0 * wave, 16000)
    for words, says in ({"seconds": 0.2}, ": --trim leaves it out, if sound follows."), (
            {"seconds": 0.2, "trim": True}, "."):
        inputs.load_sounds(asked(ONE, **words), [Path("none.wav")], 3200, None)
        assert capsys.readouterr().out == (
            f"There is only silence in the first 0.2 s of none.wav{says}\n")
    assert len(inputs.load_sound("bass.wav", 100)) == 100


def test_weights_are_found_and_said(capsys, monkeypatch):
    assert inputs.find_weights(asked(ONE, checkpoint="nsynth_starter"), "nsynth") == STARTER
    said = capsys.readouterr().out
    assert said == (f"Weights: {checkpoints.describe(STARTER, 'nsynth')}; it is small, so it "
                     "hisses "
                    "and knows little; --download fetches Google's (1 GB).\n")
    monkeypatch.setattr(checkpoints, "find", lambda name, model: Path(f"mine/{name}/{model}"))
    monkeypatch.setattr(checkpoints, "describe", lambda prefix, model: f"{prefix} of {model}")
    inputs.find_weights(asked(TWO, checkpoint="x"), "gansynth")
    assert capsys.readouterr().out == "Weights: mine/x/gansynth of gansynth.\n"


def test_magentas_engine_is_refused_where_it_is_not_installed(monkeypatch):
    there = {"magenta", "tensorflow"}
    monkeypatch.setattr(inputs.importlib.util, "find_spec", lambda name: name in there or None)
    monkeypatch.setattr(inputs.sys, "version_info", (3, 13, 9))
    chosen = asked(ONE, engine="magenta", checkpoint="nsynth_starter")
    assert inputs.find_weights(chosen, "nsynth") == STARTER
    for missing in ("magenta", "tensorflow"):
        there.remove(missing)
        refused("Magenta's own engine needs Magenta and TensorFlow, which are not installed "
                "(pip install --no-deps -r requirements.txt): leave out --engine.",
                inputs.find_weights, chosen, "nsynth")
        assert inputs.find_weights(asked(ONE, checkpoint="nsynth_starter"), "nsynth") == STARTER
        there.add(missing)
    there.remove("tensorflow")
    for version in ((3, 14), (3, 14, 0), (3, 15, 1)):
        monkeypatch.setattr(inputs.sys, "version_info", version)
        refused("Magenta's own engine needs TensorFlow, which has no build for Python 3.14: take "
                "Python 3.13, or leave out --engine.", inputs.find_weights, chosen, "nsynth")


def test_wanted_downloads():
    for defaults, model, official, changed, wanted in (
            (ONE, "nsynth", "wavenet-ckpt", {}, None),
            (ONE, "nsynth", "wavenet-ckpt", {"download": True}, "wavenet-ckpt"),
            (ONE, "nsynth", "wavenet-ckpt", {"checkpoint": "wavenet-voice-ckpt"},
             "wavenet-voice-ckpt"),
            (ONE, "nsynth", "wavenet-ckpt", {"checkpoint": "acoustic_only"}, None),
            (ONE, "nsynth", "wavenet-ckpt", {"checkpoint": "nsynth_starter", "download": True},
             None),
            (ONE, "nsynth", "wavenet-ckpt", {"checkpoint": "some/where", "download": True}, None),
            (TWO, "gansynth", "acoustic_only", {"download": True}, "acoustic_only")):
        assert inputs.wanted_download(asked(defaults, **changed), model, official) == wanted


def test_magentas_engine_refuses_what_it_cannot_do(monkeypatch):
    from synths.nsynth import magenta

    assert inputs.nsynth_engine(asked(ONE, threads=2), STARTER) is nsynth
    for name, value in (("precision", "int8"), ("threads", 2), ("resume", True)):
        refused(f"Magenta's own engine has no --{name}: leave it out.", inputs.nsynth_engine,
                asked(ONE, engine="magenta", **{name: value}), STARTER)
    given = []
    monkeypatch.setattr(magenta, "official", lambda *words: given.append(words))
    assert inputs.nsynth_engine(asked(ONE, engine="magenta", temperature=0.5), STARTER) is magenta
    assert given == [(STARTER, 0.5)]
    refused("Magenta's own engine has no --threads: leave it out.", inputs.gansynth_engine,
            asked(TWO, engine="magenta", threads=2))
    assert inputs.gansynth_engine(asked(TWO, threads=2)) is gansynth
    assert inputs.gansynth_engine(asked(TWO,
        engine="magenta")).__name__ == "synths.gansynth.magenta"


# Folders and the record ------------------------------------------------------------------------


def test_a_record_says_what_made_the_run(here, monkeypatch):
    wav = tone(here / "a.wav")
    monkeypatch.setattr(sys, "argv", ["some/script.py"])
    record = results.new_record(
        asked(ONE, sounds=["a.wav"], pairs=["a+b", "b+a"], trim=True, many=True, labels=True,
              quiet=True, output=str(here / "out"), precision="int8", threads=3), STARTER,
        "nsynth", [wav])
    assert (record.seed, record.output_dir, record.weights) == (
        5, here / "out", checkpoints.describe(STARTER, "nsynth"))
    assert (record.starter, record.labels, record.quiet, record.stopped) == (True, True, True,
        False)
    assert record.settings == {"pairs": "a+b, b+a", "trim": "yes", "precision": "int8"}
    assert record.command == (
        f"python {here}/some/script.py --many --labels --trim --pairs a+b b+a --precision int8 "
        f"--sounds {wav} --checkpoint nsynth_starter --seed 5 --output {here}/out")
    kept = json.loads((here / "out" / "run.json").read_text("ascii"))
    assert (here / "out" / "run.json").read_text().startswith('{\n "command"')
    import hashlib
    index = STARTER.with_name(STARTER.name + ".index")
    assert record.resume == f"{record.command} --resume"  # into the folder that it got
    results._claimed.close()
    again = results.new_record(asked(ONE, output=str(here / "out"), overwrite=True), STARTER,
                               "nsynth", [wav])
    assert again.resume.endswith(f" --seed 5 --output {here}/out --resume")
    (here / "out" / "a.wav").touch()
    other = results.new_record(asked(ONE, output=str(here / "out")), STARTER, "nsynth", [wav])
    assert other.command.endswith(f" --sounds {wav} --checkpoint nsynth_starter --seed 5 --output "
                                  f"{here}/out")
    assert other.resume == f"{other.command}-2 --resume"
    assert results.new_record(asked(TWO), STARTER, "gansynth", []).resume == ""
    assert kept == {"command": record.command, "seed": 5,
                    "made": {"pairs": ["a+b", "b+a"], "trim": True, "many": True, "labels": True,
                             "precision": "int8"},
                    "weights": hashlib.sha256(index.read_bytes()).hexdigest(),
                    "sources": {str(wav): hashlib.sha256(wav.read_bytes()).hexdigest()},
                    "files": []}
    shown = results.shown_settings(asked(TWO, seconds_per_instrument=2.0))
    assert shown == {"seconds per instrument": 2.0}
    (here / "caf\u00e9 \u30d9.wav").write_bytes(wav.read_bytes())
    results.new_record(asked(ONE, output="odd"), STARTER, "nsynth", [here / "caf\u00e9 \u30d9.wav"])
    assert "caf\\u00e9 \\u30d9.wav" in (here / "odd" / "run.json").read_text("ascii")


def test_the_command_names_what_would_change_by_itself(here, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["script.py"])
    gansynth.save_instruments("mine.npz", np.zeros((2, 4)))
    command = results.command_line(asked(TWO, instruments="mine.npz", tempo=2.0),
                                   here / "w" / "model.ckpt-1", [Path("a.mid")])
    assert command == (f"python {here}/script.py --tempo 2.0 --instruments {here}/mine.npz --midi "
                       f"{here}/a.mid --checkpoint {here}/w/model.ckpt-1 --seed 5 "
                       f"--output {here}/out")
    command = results.command_line(asked(TWO, instruments="3,1", preview=2, midi=["b.mid"]),
                                   STARTER, [])
    assert command == (f"python {here}/script.py --instruments 3,1 --preview 2 --checkpoint "
                       f"nsynth_starter --seed 5 --output {here}/out")
    command = results.command_line(asked(TWO), STARTER, [], here / "elsewhere")
    assert command == (f"python {here}/script.py --checkpoint nsynth_starter --seed 5 --output "
                       f"{here}/elsewhere")
    assert results.quoted(["python", "it's a.py"], "nt") == 'python "it\'s a.py"'
    assert results.quoted(["python", "it's a.py"], "posix") == "python 'it'\"'\"'s a.py'"
    assert results.quoted(["python", "it's a.py"]) == results.quoted(["python", "it's a.py"],
                                                                     os.name)


def test_a_run_that_was_stopped_goes_on(here):
    wav = tone(here / "a.wav")
    results.new_record(asked(ONE, scale=0.5, output="first"), STARTER, "nsynth", [wav])
    shutil.copytree("first", "out", ignore=shutil.ignore_patterns(".run.lock"))
    (here / "out" / "encodings").mkdir()
    for left in (f".a.wav.{'0' * 16}.part", f"encodings/.a.npy.{'0' * 16}.part"):
        (here / "out" / left).touch()

    def go_on(sources=(wav,), **changed):
        chosen = asked(ONE, **{"scale": 0.5, "output": "out", "resume": True, "seed": None,
                               **changed})
        return results.new_record(chosen, STARTER, "nsynth", list(sources)), chosen

    command = json.loads((here / "out" / "run.json").read_bytes())["command"]
    other = (f"The run in {here / 'out'} was another one (other options, sounds or weights): "
              "repeat "
             f"its command with --resume: {command}")
    refused(other, go_on, scale=0.6)
    refused(other, go_on, seed=6)
    refused(other, go_on, sources=[])
    nothing = f"There is no run to go on with in {here / 'no'}: leave out --resume."
    refused(nothing, go_on, output="no")
    record, chosen = go_on(seed=5)
    assert (record.seed, chosen.seed, record.output_dir) == (5, 5, here / "out")
    assert not list((here / "out").rglob("*.part"))
    refused(f"Another run is using {here / 'out'} at this moment: wait until it is done.", go_on)
    for content in ("{", "[]", '{"seed": 5}'):
        (here / "out" / "run.json").write_text(content)
        refused(nothing.replace(str(here / "no"), str(here / "out")), go_on)


def test_results_get_a_folder_of_their_own(here, capsys):
    refused("/ cannot hold the results: name a folder of its own.", results.results_dir,
            asked(ONE, output="/"))
    assert results.results_dir(asked(ONE, output="out")) == here / "out"
    assert results.results_dir(asked(ONE, output="out")) == here / "out-2"  # both run at once
    said = capsys.readouterr().out
    assert said == "out holds another run, so this one goes to out-2 (--overwrite replaces it).\n"
    for count, ending in enumerate(("wav", "png", "html", "txt")):
        folder = here / f"kept{count}"
        folder.mkdir()
        (folder / f"a.{ending}").touch()
        (folder / f".a.{'0' * 16}.part").touch()
        expected = folder if ending == "txt" else here / f"kept{count}-2"
        assert results.results_dir(asked(ONE, output=folder.name)) == expected
        assert (folder / f".a.{'0' * 16}.part").exists() == (ending != "txt")
        if ending != "txt":
            assert results.results_dir(asked(ONE, output=folder.name, overwrite=True)) == folder
    capsys.readouterr()
    (here / "half").mkdir()
    for ending in ("codes", "wav", "png"):
        (here / "half" / f"a_b.partial.{ending}").touch()
    (here / "half" / "b_a.partial.codes").touch()
    assert results.results_dir(asked(ONE, output="half")) == here / "half-2"
    assert capsys.readouterr().out == ("half holds another run, so this one goes to half-2 "
                                       "(--overwrite replaces it, --resume goes on with it).\n")
    assert results.results_dir(asked(TWO, output="half")) == here / "half-3"
    assert capsys.readouterr().out == ("half holds another run, so this one goes to half-3 "
                                       "(--overwrite replaces it).\n")
    assert results.results_dir(asked(ONE, output="half", overwrite=True)) == here / "half"
    assert [path.name for path in (here / "half").iterdir()] == [".run.lock"]
    (here / "x" / "deep").mkdir(parents=True)
    assert results.results_dir(asked(ONE, output="x/deep/../new")) == (here / "x" / "new").resolve()
    (here / "file").touch()
    with pytest.raises(InputError, match="file is a file, and the output needs a folder"):
        results.results_dir(asked(ONE, output="file"))


def test_a_run_that_is_replaced_leaves_nothing_of_its_own(here, monkeypatch):
    monkeypatch.setattr(results.spectra, "warm_up", lambda report: None)

    def make(names, **changed):
        chosen = asked(ONE, **changed)
        job = plan.plan_mixes(chosen, [tone(here / f"{name}.wav") for name in names], STARTER)
        record = results.new_record(chosen, STARTER, "nsynth", job.named_by)
        plan.planned_mixes(record, job)
        with results.page_at_end(record, lambda *parts: None):
            for name in record.files:
                (record.output_dir / name).parent.mkdir(exist_ok=True)
                (record.output_dir / name).write_text(str(record.seed))
        results._claimed.close()
        return record

    first = make("ab")
    assert {"a_b_seed5.wav", "a_b_seed5.png", "source_b.png", "encodings/b.npy",
            "index.html", "overview.png"} <= set(first.files)
    out = first.output_dir
    (out / "mine_seed5.wav").write_text("mine")
    (out / "encodings" / "mine.npy").write_text("mine")
    again = make("ac", seed=6, overwrite=True)
    found = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert again.output_dir == out
    assert found == {*again.files, "run.json", "mine_seed5.wav", "encodings/mine.npy"}
    assert (out / "source_a.wav").read_text() == "6"
    assert json.loads((out / "run.json").read_bytes())["files"] == again.files


def test_what_a_run_uses_of_the_one_that_it_replaces_stays(here):
    first = results.new_record(asked(TWO), STARTER, "gansynth", [])
    results._claimed.close()
    gansynth.save_instruments(first.output_dir / "x_instruments.npz", np.zeros((2, 4)))
    sound = tone(first.output_dir / "x_seed5.wav")
    listed = json.loads((first.output_dir / "run.json").read_bytes())
    listed["files"] = ["x_instruments.npz", "x_seed5.wav", "y.png", "../z.wav", "/z.wav",
                       "encodings/../z.npy", "notes.txt", 7, "encodings/y.npy"]
    (first.output_dir / "run.json").write_text(json.dumps(listed))
    # 7 is no name: not a list of ours
    assert results._files_of_run(results._read_run(first.output_dir)) == []
    listed["files"].remove(7)
    (first.output_dir / "run.json").write_text(json.dumps(listed))
    results.new_record(asked(TWO, overwrite=True, instruments="out/x_instruments.npz"), STARTER,
                       "gansynth", [sound])
    kept = json.loads((first.output_dir / "run.json").read_bytes())["files"]
    assert kept == ["y.png", "encodings/y.npy"]
    results._claimed.close()
    (first.output_dir / "run.json").write_text('["files"]')  # somebody's, not ours
    results.new_record(asked(TWO, overwrite=True), STARTER, "gansynth", [])
    assert json.loads((first.output_dir / "run.json").read_bytes())["files"] == []


def test_what_cannot_be_removed_is_left(here, monkeypatch):
    monkeypatch.setattr(results.spectra, "warm_up", lambda report: None)
    out = results.new_record(asked(TWO), STARTER, "gansynth", []).output_dir
    run = json.loads((out / "run.json").read_bytes())
    listed = ["a.wav", "gone.wav", "encodings/b.npy", "c.wav", "Mine.wav"]
    (out / "run.json").write_text(json.dumps(run | {"files": listed}))
    (out / "a.wav").mkdir()
    (out / "c.wav").touch()
    (out / "mine.wav").touch()
    (here / "elsewhere").mkdir()
    (here / "elsewhere" / "b.npy").touch()
    (out / "encodings").symlink_to(here / "elsewhere")
    record = Record(9, out, "", False, "python x.py", {}, files=["mine.wav"])
    with results.page_at_end(record, lambda *parts: None):
        pass
    assert (out / "a.wav").is_dir() and not (out / "c.wav").exists()
    assert (here / "elsewhere" / "b.npy").exists() and (out / "mine.wav").exists()


def test_a_folder_that_cannot_be_locked_is_said(here, monkeypatch):
    def lock(path):
        assert path == here / "out" / ".run.lock"
        raise PermissionError(13, "Permission denied")
    monkeypatch.setattr(files, "lock", lock)
    refused(f"{here / 'out'} cannot be written (Permission denied): name another folder.",
            results.results_dir, asked(ONE, output="out"))


def test_a_source_that_is_gone_is_said(here):
    refused(f"{here / 'no.wav'} cannot be read: No such file or directory.", results.new_record,
            asked(ONE), STARTER, "nsynth", [here / "no.wav"])
    (here / "long").write_bytes(bytes((1 << 20) + 5))
    import hashlib
    assert results._digest(here / "long") == hashlib.sha256(bytes((1 << 20) + 5)).hexdigest()


def test_paths_are_shown_from_where_one_stands(here, monkeypatch):
    assert results.shown(here / "out") == "out" and results.shown(here / "a" / "b") == "a/b"
    assert results.shown(here.parent) == str(here.parent) and results.shown(Path("/")) == "/"

    def another_drive(path):
        raise ValueError
    monkeypatch.setattr(os.path, "relpath", another_drive)
    assert results.shown(here / "out") == str(here / "out")


@pytest.fixture
def record(here):
    return Record(9, here / "out", "", False, "python x.py", {})


def test_the_page_is_made_at_the_end(here, record, capsys, monkeypatch):
    monkeypatch.setattr(results.spectra, "warm_up", lambda report: None)
    made = []

    def page(*parts):
        made.append(parts)
        return here / "out" / "index.html"

    with results.page_at_end(record, page, 1, 2):
        assert not made
    assert made == [(record, 1, 2)] and not record.stopped
    end = f"Open in a browser: {(here / 'out' / 'index.html').as_uri()}\n"
    assert capsys.readouterr().out == (
        f"To repeat this run: python x.py\nThe results are in out.\n{end}")
    with results.page_at_end(record, lambda *parts: None):
        pass
    assert capsys.readouterr().out == "To repeat this run: python x.py\nThe results are in out.\n"

    with pytest.raises(ValueError), results.page_at_end(record, page, 3):
        raise ValueError
    said = capsys.readouterr()
    assert record.stopped and made[-1] == (record, 3) and said.err == ""
    assert said.out == f"What was finished is in out.\n{end}"
    record.resume = "python x.py --resume"
    with pytest.raises(ValueError), results.page_at_end(record, page, 3):
        raise ValueError
    assert capsys.readouterr().out == (
        f"What was finished is in out.\nTo go on with it: python x.py --resume\n{end}")
    with pytest.raises(ValueError), results.page_at_end(record, lambda *parts: None):
        raise ValueError
    assert capsys.readouterr().out == ""
    with pytest.raises(ValueError), results.page_at_end(record, lambda *parts: 1 / 0):
        raise ValueError
    assert capsys.readouterr().out == ""


def test_a_stop_is_said_while_the_page_is_made(here, record, capsys, monkeypatch):
    monkeypatch.setattr(results.spectra, "warm_up", lambda report: None)
    monkeypatch.setattr(run, "_stopped", True)
    with pytest.raises(KeyboardInterrupt), results.page_at_end(record, lambda *parts: None):
        raise KeyboardInterrupt
    assert capsys.readouterr().err == (
        "\nstopping: making the page of what is finished (Ctrl-C again: without)\n")
    record.stopped = False
    calls = []

    def page(*parts):
        calls.append(parts)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return here / "index.html"

    with pytest.raises(KeyboardInterrupt), results.page_at_end(record, page, "part"):
        pass
    assert calls == [(record, "part")] * 2 and record.stopped
    said = capsys.readouterr()
    assert "What was finished is in out.\n" in said.out
    assert said.err == "\nstopping: making the page of what is finished (Ctrl-C again: without)\n"


# The net around a run --------------------------------------------------------------------------


class Script:
    """What `run` needs of a script: a parser, and an app that writes its options down."""

    def __init__(self, *words, fails=None, resume=True):
        self.parser = options.Parser()
        self.parser.add_argument("--seed", type=int)
        self.parser.add_argument("--quiet", action="store_true")
        if resume:
            self.parser.add_argument("--resume", action="store_true")
        self.words, self.fails = list(words), fails

    def app(self, chosen):
        self.options = chosen
        self.handlers = [signal.getsignal(which) for which in (signal.SIGINT, signal.SIGTERM)]
        if self.fails:
            raise self.fails

    def run(self, monkeypatch):
        monkeypatch.setattr(sys, "argv", ["script.py", *self.words])
        before = [signal.getsignal(which) for which in (signal.SIGINT, signal.SIGTERM)]
        try:
            with pytest.raises(SystemExit) as ended:
                run.run(self.app, self.parser)
            self.code = ended.value.code
        finally:
            for which, handler in zip((signal.SIGINT, signal.SIGTERM), before):
                signal.signal(which, handler)
        return self

    def succeed(self, monkeypatch):
        assert self.run(monkeypatch).code == 0
        return self


def test_a_run_gets_a_seed_and_knows_its_defaults(monkeypatch):
    monkeypatch.setattr(run.secrets, "randbelow", lambda most: most - 1)
    done = Script().succeed(monkeypatch)
    assert done.options.seed == 999_999
    assert done.options.defaults == {"seed": None, "quiet": False, "resume": False}
    done = Script("--seed", "3").succeed(monkeypatch)
    assert done.options.seed == 3 and done.options.defaults["seed"] is None
    assert Script("--resume").succeed(monkeypatch).options.seed is None
    assert Script(resume=False).succeed(monkeypatch).options.seed == 999_999
    assert not run.stopped()


def test_both_signals_stop_a_run(monkeypatch, capsys):
    monkeypatch.setattr(run, "_stopped", False)
    handlers = Script().succeed(monkeypatch).handlers
    assert handlers[0] is handlers[1]
    with pytest.raises(KeyboardInterrupt):
        handlers[0](signal.SIGTERM, None)
    assert run.stopped()
    # a library may have turned the interrupt into an error of its own
    assert run.explained(ValueError()) == (130, "\nstopped; what was finished is kept")


def test_a_closed_terminal_stops_a_run_unless_nohup_keeps_it_off(monkeypatch):
    handled, hangup = [], 91
    monkeypatch.setattr(run.signal, "SIGHUP", hangup, raising=False)
    monkeypatch.setattr(run.signal, "signal", lambda *words: handled.append(words))
    usual = [(signal.SIGINT, len), (signal.SIGTERM, len)]
    monkeypatch.setattr(run.signal, "getsignal", {hangup: signal.SIG_DFL}.get)
    run.stops(len)
    assert handled == [*usual, (hangup, len)]
    handled.clear()
    monkeypatch.setattr(run.signal, "getsignal", {hangup: signal.SIG_IGN}.get)
    run.stops(len)
    assert handled == usual
    handled.clear()
    monkeypatch.delattr(run.signal, "SIGHUP")  # Windows
    run.stops(len)
    assert handled == usual


def test_what_comes_after_the_end_ends_at_once(monkeypatch):
    ended = []
    monkeypatch.setattr(os, "_exit", ended.append)
    before = signal.getsignal(signal.SIGTERM)
    after = []
    known = sys.exit
    monkeypatch.setattr(sys, "exit", lambda code: after.append(
        signal.getsignal(signal.SIGTERM)) or known(code))
    Script().succeed(monkeypatch)
    assert signal.getsignal(signal.SIGTERM) is before
    after[0](signal.SIGTERM, None)
    assert ended == [130]


@pytest.mark.parametrize("error, code, says", [
    (KeyboardInterrupt(), 130, "\nstopped; what was finished is kept\n"),
    (InputError("That is no sound."), 1, "error: That is no sound.\n"),
    (MemoryError(), 1,
     "error: The memory is full: close other programs, or ask for less at a time.\n"),
    (OSError(28, "No space left on device", "a.wav"), 1,
     "error: The system refused: No space left on device (a.wav).\n"),
    (OSError(28, "No space left on device"), 1,
     "error: The system refused: No space left on device.\n"),
    (OSError("odd"), 1, "error: The system refused: odd.\n")])
def test_whatever_goes_wrong_is_one_sentence_and_a_code(error, code, says, monkeypatch, capsys):
    monkeypatch.setattr(run, "_stopped", False)
    assert Script(fails=error).run(monkeypatch).code == code
    assert capsys.readouterr() == ("", says)


def test_a_fault_of_ours_is_logged(here, monkeypatch, capsys):
    monkeypatch.setattr(run, "_stopped", False)
    monkeypatch.setattr(run.tempfile, "tempdir", str(here))
    failed = Script(fails=TypeError("two\n  lines \u30d9 " + "x" * 300)).run(monkeypatch)
    log, = here.glob("chapter_05_*.log")
    text = "two lines \u30d9 " + "x" * 300
    assert failed.code == 1
    assert run.explained(TypeError("two\n  lines"))[1].startswith(
        "error: Something failed that should not (TypeError: two lines); the details are in ")
    written = log.read_text("utf-8")
    assert written.startswith("Traceback (most recent call last):\n") and "in app" in written
    assert "\u30d9" in written
    odd = run.explained(TypeError("caf\udce9"))[1].split("the details are in ")[1][:-1]
    assert "caf\\udce9" in Path(odd).read_text("utf-8")
    assert run.explained(TypeError(text))[1].split("; the details are in ")[0] == (
        f"error: Something failed that should not (TypeError: {text[:200]})")

    def full(*words, **named):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(run.tempfile, "NamedTemporaryFile", full)
    assert run.explained(TypeError("x"))[1] == (
        "error: Something failed that should not (TypeError: x); the details could not be written.")


def test_nobody_needs_to_read_the_error(monkeypatch):
    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError
    monkeypatch.setattr(sys, "stderr", Closed())
    progress.say_error("error: x")
    closed = io.TextIOWrapper(io.BytesIO())
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    progress.say_error("error: x")

    class Kept(io.StringIO):
        flushed = False

        def flush(self):
            self.flushed = True
    monkeypatch.setattr(sys, "stderr", Kept())
    progress.say_error("error: x")
    assert sys.stderr.getvalue() == "error: x\n" and sys.stderr.flushed


def test_what_cannot_be_muted_is_let_be(monkeypatch):
    closed = open(os.devnull)
    closed.close()
    progress.mute(closed)           # ValueError
    progress.mute(io.StringIO())    # both: it has no number

    def full(*words):
        raise OSError(24, "Too many open files")
    monkeypatch.setattr(os, "open", full)
    progress.mute(sys.__stdout__)


# What a run says -------------------------------------------------------------------------------


class Talker:
    quiet = False


def test_saying_is_quiet_if_asked_and_where_nobody_reads(capsys, monkeypatch):
    talker = Talker()
    progress.say(talker, "heard")
    talker.quiet = True
    progress.say(talker, "unheard")
    assert capsys.readouterr().out == "heard\n"
    told = Record(1, Path(), "", False, "", {})
    told.say("by the record")
    assert capsys.readouterr().out == "by the record\n"

    class Pipe(io.StringIO):
        flushed = False

        def flush(self):
            raise BrokenPipeError

        def fileno(self):
            return 77
    moved = []
    monkeypatch.setattr(os, "dup2", lambda *words: moved.append(words))
    monkeypatch.setattr(os, "open", lambda path, flags: (path, flags))
    monkeypatch.setattr(sys, "stdout", Pipe())
    talker.quiet = False
    progress.say(talker, "into a closed pipe")
    assert talker.quiet and moved == [((os.devnull, os.O_WRONLY), 77)]


def test_a_bar_counts_in_its_unit(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    import tqdm
    made = []

    class Bar(tqdm.tqdm):
        """One that has lasted long enough to be shown."""

        def __init__(self, **named):
            made.append(named)
            super().__init__(**named)
            self.delay = self.mininterval = 0

    monkeypatch.setattr(tqdm, "tqdm", Bar)
    quiet = type("Quiet", (), {"quiet": True})
    for talker, stream in ((Talker, io.StringIO()), (quiet, Terminal()), (Talker, Terminal())):
        monkeypatch.setattr(sys, "stderr", stream)
        update = progress.bar(talker, "decoding", 1 / 16000, "s of sound")
        assert made[-1]["disable"] == (talker is quiet or not stream.isatty())
        assert made[-1]["delay"] == 2  # seconds: short work shows none
        update(16000, 64000)
        update(32000, 64000)
        if made[-1]["disable"]:
            assert stream.getvalue() == ""
    said = stream.getvalue()
    assert "\rdecoding:  25% |######                  | 1.0/4.0 s of sound, " in said
    assert "\rdecoding:  50% |############            | 2.0/4.0 s of sound, " in said
    assert said.endswith(" left")
    update(64000, 64000)
    assert stream.getvalue().endswith(" \r")  # the bar goes when all is done
    progress.bar(Talker, "counting")(1, 4)
    assert "\rcounting:  25% |######                  | 1.0/4.0, " in stream.getvalue()


def test_several_pieces_of_work_have_one_bar(monkeypatch):
    made = []

    def one(talker, label, unit):
        return lambda *done: made.append((label, unit, done))
    monkeypatch.setattr(progress, "bar", one)
    for update in progress.bars(Talker, "playing", [3, 4, 5], "notes"):
        update(2, 99)
    assert made == [("playing", "notes", (done, 12)) for done in (2, 5, 9)]
    next(progress.bars(Talker, "counting", [1]))(1, 1)
    assert made[-1] == ("counting", "", (1, 1))


# The first moment ------------------------------------------------------------------------------


def test_start_makes_printing_safe_and_names_what_is_missing(monkeypatch):
    before = [signal.getsignal(which) for which in (signal.SIGINT, signal.SIGTERM)]
    stream = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", None)
    try:
        start.start()
        handlers = [signal.getsignal(which) for which in (signal.SIGINT, signal.SIGTERM)]
    finally:
        for which, handler in zip((signal.SIGINT, signal.SIGTERM), before):
            signal.signal(which, handler)
    assert handlers[0] is handlers[1] and handlers[0] not in before
    print("ベル")
    sys.stdout.flush()
    assert stream.buffer.getvalue() == b"\\u30d9\\u30eb\n"
    assert sys.stderr.write("ベル") == 2 and sys.stderr.name == os.devnull
    find = start.importlib.util.find_spec
    monkeypatch.setattr(start.importlib.util, "find_spec", lambda name: None if name in (
        "mido", "tqdm") else find(name))
    with pytest.raises(SystemExit) as ended:
        start.start()
    for which, handler in zip((signal.SIGINT, signal.SIGTERM), before):
        signal.signal(which, handler)
    assert ended.value.code == (
        f"mido, tqdm not installed; type this first, in {start.HERE}: pip install --no-deps -r "
        "requirements.txt")
    ended = []
    monkeypatch.setattr(os, "_exit", ended.append)
    monkeypatch.setattr(os, "write", lambda *words: ended.append(words))
    handlers[0](2, None)
    assert ended == [(2, b"\nstopped before anything was begun\n"), 130]
