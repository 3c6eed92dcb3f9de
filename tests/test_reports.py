"""What stands on the page and on the sheets, word by word; the drawing is a stand-in."""

import base64
import io
import json
import re
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

import audio_utils
from companion import page as room
from companion.page import Board, Clip, Heard, Page, reports, rolls
from companion.record import Planned, Record

RATE = 16000
HISS = ("The hiss and the roughness come from the small network that ships with this code, not "
        "from "
        "the method. What helps: <code>--temperature 0.7</code> takes away hiss, and "
        "<code>--download</code> fetches the large network that Google trained (about 1 GB).")
BLURRED = ("The blurred attacks and the noise come from the small network that ships with this "
           "code, "
           "not from the method. What helps: <code>--download</code> fetches the large network "
           "that "
           "Google trained.")
LEVELLED = ("All sounds are played at one loudness, so that they can be compared; the files keep "
            "their own. \"One loudness\" switches this off.")
RAINBOWGRAM = ("Time runs from left to right and pitch from bottom to top; what is brighter is "
               "louder. A tone that holds its pitch keeps its colour, one that glides runs through "
               "the rainbow, and noise is speckled.")
SPECTROGRAM = ("Time runs from left to right and pitch from bottom to top; what is brighter is "
               "louder.")

Drawn = namedtuple("Drawn", "name transform", defaults=[{"octaves": 2, "lowest": "C2"}])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder; what is drawn goes by the sound's first sample, and the page is handed back."""
    calls = []

    def note(name):
        return lambda *words, **named: calls.append((name, words, named)) or (name, *words)

    def level(audio):
        return Drawn(f"{float(np.asarray(audio)[0]):.2f}")

    for place, name in ((reports, "square"), (reports, "strips"), (reports, "score_sheet"),
                        (audio_utils, "save_picture"), (audio_utils, "spectrum_image")):
        monkeypatch.setattr(place, name, note(name))
    monkeypatch.setattr(reports, "rainbowgram", lambda audio, rate: level(audio))
    monkeypatch.setattr(reports, "spectrogram", lambda *words: calls.append(
        ("spectrogram", words, {})) or level(words[0]))
    monkeypatch.setattr(reports.Score, "spectrum", property(lambda self: level(self.audio)))
    monkeypatch.setattr(reports, "scaled", lambda spectrum, *size: (spectrum.name, size))
    monkeypatch.setattr(reports, "smaller", lambda spectrum: spectrum._replace(
        name=f"smaller {spectrum.name}"))
    monkeypatch.setattr(reports, "webp", lambda image: f"{image[0]} {image[1]}")
    monkeypatch.setattr(reports, "octave_name", lambda transform, octave: f"{octave}")
    monkeypatch.setattr(reports, "bar", lambda *words: calls.append(("bar", words, {})) or (
        lambda *done: calls.append(("done", done, {}))))
    monkeypatch.setattr(reports, "write_page", lambda path, page: (path, page))
    return namedtuple("Folder", "path calls")(tmp_path, calls)


def of(calls, name):
    return [(words, named) for called, words, named in calls if called == name]


def record(folder, **more):
    return Record(7, folder, "some weights", more.pop("starter", True), "python x.py",
                  {"mix": "book"}, **more)


def clip(folder, name, title, kind, sources, shares, level=None, seconds=1.0):
    path = folder / f"{name}.wav"
    if level is not None:
        audio_utils.save_wav(np.full(round(seconds * RATE), level), path, RATE)
    return Planned(path, title, kind, sources, shares)


def alone(folder, names):
    return [clip(folder, f"r{place}", f"{name}, reconstructed", "reconstruction", (place,), (1.0,),
                 0.1 + place / 100) for place, name in enumerate(names)]


def sounds(count):
    return [np.full(RATE, 0.5 + place / 100, np.float32) for place in range(count)]


# Example 1 -------------------------------------------------------------------------------------


def test_the_page_of_a_default_run(folder):
    names = ["bass", "bell", "flute"]
    pairs = [(a, b) for a in range(3) for b in range(3) if a != b]
    clips = alone(folder.path, names) + [
        clip(folder.path, f"m{a}{b}", f"{names[a]} with {names[b]}", "mix", (a, b), (2 / 3, 1 / 3),
             0.2 + a / 10 + b / 100) for a, b in pairs]
    path, page = reports.nsynth_page(record(folder.path), names, sounds(3), clips)
    assert path == folder.path / "index.html"
    assert (page.title, page.introduction) == (
        "NSynth: two sounds become one",
        "3 sounds were encoded by a WaveNet autoencoder, the encodings mixed, and the mixes "
        "decoded, sample by sample.")
    assert page.settings == {"sounds": "bass, bell, flute", "mix": "book", "weights": "some "
                                                                                      "weights",
                             "seed": 7} and list(page.settings) == ["sounds", "mix", "weights",
                                 "seed"]
    assert (page.command, page.picture_words, page.octaves, page.hints, page.seed) == (
        "python x.py", RAINBOWGRAM, ["0", "1"], [HISS, LEVELLED], None)
    for place, name in enumerate(names):
        source = page.clips[place]
        assert (source.title, source.name, source.note, source.kind, source.sources, source.caption,
                source.size, source.picture, source.media) == (
            name, f"source_{name}.wav", "the sound itself · 1.0 s", "source", (), name, (480, 320),
            f"0.5{place} (480, 320)", "audio/wav")
        assert source.sound == folder.path / f"source_{name}.wav"
        heard, rate = soundfile.read(source.sound)
        assert rate == RATE and heard[0] == pytest.approx(0.5 + place / 100, abs=1e-4)
        assert source.audio == Heard.of(sounds(3)[place])
        assert (source.audio.samples, source.audio.level, source.audio.peak) == (
            RATE, pytest.approx(0.5 + place / 100), pytest.approx(0.5 + place / 100))
        again = page.clips[3 + place]
        assert (again.title, again.name, again.note, again.kind, again.sources, again.caption) == (
            f"{name}, decoded again", f"r{place}.wav", "encoded and decoded again · 1.0 s",
            "reconstruction", (place,), f"{name}, decoded again")
        assert again.sound == folder.path / f"r{place}.wav"
        assert again.audio == Heard.of(audio_utils.load_audio(again.sound))
    mix = page.clips[6]
    assert (mix.title, mix.name, mix.note, mix.kind, mix.sources, mix.caption, mix.picture) == (
        "bass with bell", "m01.wav", "67 % bass, 33 % bell · 1.0 s", "mix", (0, 1), "bass with "
                                                                                    "bell",
        "0.21 (480, 320)")
    assert page.boards == [Board(
        "Play the mixes", [["rows lead, columns colour", 0, 1, 2], [0, 3, 6, 7], [1, 8, 4, 9],
                           [2, 10, 11, 5]],
        "The sound at the left leads, the one at the top colours it. Framed orange: the "
        "sounds; blue: the same, encoded and decoded again. What is lost there is lost in every "
        "mix.")]
    (cells, sheet_names, mixes, note), _ = of(folder.calls, "square")[0]
    assert [(cell.spectrum.name, cell.title, cell.kind) for cell in cells] == [
        (f"0.5{place}", name, "source") for place, name in enumerate(names)]
    assert sheet_names == names and {pair: drawn.name for pair, drawn in mixes.items()} == {
        (a, b): f"{0.2 + a / 10 + b / 100:.2f}" for a, b in pairs}
    assert note == "framed orange: the sounds; elsewhere: the row's sound mixed with the column's"
    saved = of(folder.calls, "save_picture")
    assert [words[1:] for words, _ in saved] == [
        *((f"{found.name[:-4]}.png", folder.path, 200) for found in page.clips),
        ("overview.png", folder.path)]
    assert saved[0][0][0] == ("spectrum_image", Drawn("0.50"), False)
    assert saved[-1][0][0][0] == "square"
    assert of(folder.calls, "bar")[0][0] == (record(folder.path), "drawing 12 pictures")
    assert [words for words, _ in of(folder.calls, "done")] == [
        (done, 12) for done in range(1, 13)]


def test_labels_reach_the_pictures_and_large_networks_do_not_hiss(folder):
    _, page = reports.nsynth_page(record(folder.path, starter=False, labels=True), ["a"], sounds(1),
                                  alone(folder.path, ["a"]))
    assert page.hints == [LEVELLED]
    assert {words[1] for words, _ in of(folder.calls, "spectrum_image")} == {True}
    assert page.title == "NSynth: a sound through the network"
    assert page.introduction == ("1 sound was encoded by a WaveNet autoencoder and decoded again, "
                                 "sample by sample.")
    assert page.boards == [Board("Each sound alone", [[0, 1]],
                                 "The sound itself, and encoded and decoded again.", "strip")]
    (rows, note), _ = of(folder.calls, "strips")[0]
    assert [[(cell.spectrum.name, cell.title, cell.kind) for cell in row] for row in rows] == [
        [("0.50", "a", "source"), ("0.10", "a, decoded", "mix")]]
    assert note == "framed orange: the sounds"


def test_sounds_alone_stand_three_to_a_row(folder):
    _, page = reports.nsynth_page(record(folder.path), list("abcd"), sounds(4),
                                  alone(folder.path, "abcd"))
    assert page.boards[0].rows == [[0, 4, 1, 5, 2, 6], [3, 7]]


@pytest.mark.parametrize("count, matrix", [(2, True), (3, True), (24, True), (25, False)])
def test_all_mixes_stand_in_a_square_where_they_fit(folder, count, matrix, monkeypatch):
    monkeypatch.setattr(audio_utils, "load_audio", lambda path: np.full(16, 0.2, np.float32))
    names = [f"n{place}" for place in range(count)]
    pairs = [(a, b) for a in range(count) for b in range(count) if a != b]
    clips = [Planned(folder.path / "a.wav", f"{a} with {b}", "mix", (a, b), (0.5, 0.5))
             for a, b in pairs]
    (folder.path / "a.wav").touch()
    _, page = reports.nsynth_page(record(folder.path), names, sounds(count), clips)
    board = page.boards[0]
    assert (board.title == "Play the mixes") == matrix and len(page.boards) == 2 - matrix
    if not matrix:
        last = count + len(pairs) - 1  # they are all one file here
        assert board == Board("The mixes", [[a, last, b] for a, b in pairs],
                              "Between two sounds stands their mix; the left one leads.", "strip")
        assert page.boards[1].rows[0] == [0, None, 1, None, 2, None]


@pytest.mark.parametrize("count, size", [(48, (480, 320)), (49, (300, 200))])
def test_many_clips_have_smaller_pictures(folder, count, size):
    clips = [clip(folder.path, f"s{step}", "a step", "step", (0, 1), (0.5, 0.5), 0.3, 0.001)
             for step in range(count - 2)]
    _, page = reports.nsynth_page(record(folder.path), ["a", "b"], sounds(2), clips)
    assert {found.size for found in page.clips} == {size}
    # the page's own pictures are of the whole spectra; only what the overview keeps is smaller
    assert [found.picture for found in page.clips[1:3]] == [f"0.51 {size}", f"0.30 {size}"]
    (rows, _), _ = of(folder.calls, "strips")[0]
    less = "" if count == 48 else "smaller "
    assert [cell.spectrum.name for cell in rows[0]] == [
        f"{less}0.50", *[f"{less}0.30"] * (count - 2), f"{less}0.51"]


def test_one_order_of_each_pair_is_everyone_too(folder):
    clips = [clip(folder.path, f"m{a}{b}", "a mix", "mix", (a, b), (0.5, 0.5), 0.2)
             for a, b in ((0, 1), (0, 2), (1, 2))]
    _, page = reports.nsynth_page(record(folder.path), list("abc"), sounds(3), clips)
    assert page.boards[0].rows == [["rows lead, columns colour", 0, 1, 2], [0, None, 3, 4],
                                   [1, None, None, 5], [2, None, None, None]]
    assert of(folder.calls, "square")


def test_chosen_pairs_stand_in_rows(folder):
    names = ["a", "b", "c"]
    clips = alone(folder.path, names) + [
        clip(folder.path, "ca", "c with a", "mix", (2, 0), (1.0, 0.5), 0.3)]
    _, page = reports.nsynth_page(record(folder.path), names, sounds(3), clips)
    assert page.boards == [
        Board("The mixes", [[2, 6, 0]], "Between two sounds stands their mix; the left one leads.",
              "strip"),
        Board("Each sound alone", [[0, 3, 1, 4, 2, 5]],
              "The sound itself, and encoded and decoded again. What is lost here is lost in every "
              "mix.", "strip")]
    assert page.clips[6].note == "100 % c, 50 % a · 1.0 s" and page.clips[6].sources == (2, 0)
    (rows, note), _ = of(folder.calls, "strips")[0]
    assert [[(cell.spectrum.name, cell.title, cell.kind) for cell in row] for row in rows] == [
        [("0.52", "c", "source"), ("0.30", "with", "mix"), ("0.50", "a", "source")]]
    # two sounds with a mix in one order only
    _, page = reports.nsynth_page(record(folder.path), ["a", "b"], sounds(2), [
        clip(folder.path, "ab", "a with b", "mix", (0, 1), (1.0, 0.5), 0.3)])
    assert page.boards[0].title == "The mixes"


def test_a_path_is_a_row_with_a_slider(folder):
    clips = [clip(folder.path, f"s{a}{b}{step}", f"title {step}", "step", (a, b),
                  (1 - step / 2, step / 2), 0.2 + step / 100)
             for a, b in ((0, 1), (1, 2)) for step in range(3)]
    _, page = reports.nsynth_page(record(folder.path), ["a", "b", "c"], sounds(3), clips)
    text = ("Each row goes from the sound at its left to the sound at its right. The numbers are "
            "the right one's share; 100 % is a sound encoded and decoded again. The slider walks "
            "the path.")
    assert page.boards == [
        Board("From a to b", [[0, 3, 4, 5, 1]], text, "strip", True, 1),
        Board("From b to c", [[1, 6, 7, 8, 2]], "", "strip", True, 1)]
    assert [(step.title, step.caption, step.note) for step in page.clips[3:6]] == [
        ("a to b: title 0", "title 0", "1.0 s"), ("a to b: title 1", "50 %", "1.0 s"),
        ("a to b: title 2", "title 2", "1.0 s")]
    (rows, _), _ = of(folder.calls, "strips")[0]
    assert [[cell.title for cell in row] for row in rows] == [
        ["a", "0 %", "50 %", "100 %", "b"], ["b", "0 %", "50 %", "100 %", "c"]]


def test_what_was_stretched_stands_below_its_sound_on_one_time_axis(folder):
    clips = [clip(folder.path, f"r{place}", f"{name}, reconstructed", "reconstruction", (place,),
                  (1.0,), 0.1, 2.0) for place, name in enumerate("ab")]
    made = record(folder.path)
    made.settings["stretch"] = 2.0
    _, page = reports.nsynth_page(made, ["a", "b"], sounds(2), clips)
    assert page.clips[2].note == "encoded and decoded again, 2 times as long · 2.0 s"
    assert page.boards == [Board("Each sound alone", [[0], [2], [1], [3]], "The sound itself, and "
                                 "encoded and decoded again.", "time")]
    _, page = reports.nsynth_page(made, ["a", "b"], [None, sounds(1)[0]], clips)
    assert page.boards[0].rows == [["a"], [1], [0], [2]]
    # a little longer is as long
    clips = [clip(folder.path, "r0", "a, reconstructed", "reconstruction", (0,), (1.0,), 0.1, 1.04)]
    _, page = reports.nsynth_page(record(folder.path), ["a"], sounds(1), clips)
    assert page.boards[0].layout == "strip"


def test_a_crossfade_stands_between_its_sounds_on_one_time_axis(folder):
    clips = alone(folder.path, ["a", "b"]) + [
        clip(folder.path, f"f{a}{b}", "one becomes another", "crossfade", (a, b), (1.0, 1.0), 0.4)
        for a, b in ((0, 1), (1, 0))]
    _, page = reports.nsynth_page(record(folder.path), ["a", "b"], [sounds(1)[0], None], clips)
    text = "The two sounds, and below them, on the same time, what became of them."
    assert page.boards[:2] == [Board("a becomes b", [[0], [2], [3]], text, "time"),
                               Board("b becomes a", [[2], [0], [4]], "", "time")]
    assert page.boards[2].rows == [[0, 1, "b", 2]]
    assert (page.clips[3].note, page.clips[3].caption, page.clips[3].sources) == (
        "one becomes the other over time · 1.0 s", "one becomes another", (0, 2))
    (rows, note), _ = of(folder.calls, "strips")[0]
    assert [[(cell.title, cell.kind) for cell in row] for row in rows] == [
        [("a", "source"), ("to", "mix"), ("b", "reconstruction")],
        [("b", "reconstruction"), ("to", "mix"), ("a", "source")]]


def test_encodings_that_were_given_have_no_sound_of_their_own(folder):
    clips = alone(folder.path, ["a", "b"]) + [
        clip(folder.path, f"m{a}{b}", "a mix", "mix", (a, b), (0.5, 0.5), 0.3)
        for a, b in ((0, 1), (1, 0))]
    _, page = reports.nsynth_page(record(folder.path), ["a", "b"], [None, None], clips)
    assert page.boards[0].rows == [["rows lead, columns colour", "a", "b"], ["a", 0, 2],
                                   ["b", 3, 1]]
    assert page.boards[0].text == (
        "The sound at the left leads, the one at the top colours it. Framed blue: a sound alone, "
        "encoded and decoded again. What is lost there is lost in every mix.")
    assert [found.sources for found in page.clips] == [(), (), (0, 1), (1, 0)]
    assert len(page.clips) == 4
    (cells, _, _, note), _ = of(folder.calls, "square")[0]
    assert note.startswith("framed blue: the encodings given, decoded; elsewhere")
    # one that was neither given as a sound nor decoded is a word, and a gap on the sheet
    _, page = reports.nsynth_page(record(folder.path), ["a", "b"], [None, None], [clips[0],
        *clips[2:]])
    assert page.boards[0].rows == [["rows lead, columns colour", "a", "b"], ["a", 0, 1],
                                   ["b", 2, None]]
    assert [found.sources for found in page.clips] == [(), (0,), (0,)]
    assert [cell and cell.kind for cell in of(folder.calls, "square")[1][0][0]] == [
        "reconstruction", None]


def test_a_stopped_run_shows_what_was_finished_and_how_far_the_rest_got(folder):
    names = ["a", "b"]
    clips = alone(folder.path, names) + [
        clip(folder.path, "half.partial", "b with a", "mix", (1, 0), (0.5, 0.5), 0.3, 0.5)]
    clips[2] = clip(folder.path, "half", "b with a", "mix", (1, 0), (0.5, 0.5))
    clips.append(clip(folder.path, "gone", "a with b", "mix", (0, 1), (0.5, 0.5)))
    _, page = reports.nsynth_page(record(folder.path, stopped=True), names, sounds(2), clips)
    assert [found.name for found in page.clips[2:]] == ["r0.wav", "r1.wav", "half.partial.wav"]
    assert page.clips[4].note == "as far as it got · 0.5 s"
    assert page.clips[3].note == "encoded and decoded again · 1.0 s"
    assert page.introduction.endswith(
        "sample by sample. The run was stopped: 2 of 4 clips are finished; 1 as far as it got, "
        "framed in dashes; missing: a with b.")
    assert [found.partial for found in page.clips] == [False] * 4 + [True]
    assert (page.command, page.goes_on) == ("python x.py", False)
    _, page = reports.nsynth_page(record(folder.path, stopped=True, resume="python x.py --resume"),
                                  names, sounds(2), clips[:3])
    assert (page.command, page.goes_on) == ("python x.py --resume", True)
    assert page.introduction.endswith(
        "The run was stopped: 2 of 3 clips are finished; 1 as far as it got, framed in dashes.")
    others = [clip(folder.path, f"g{place}", f"mix {place}", "mix", (0, 1), (0.5, 0.5))
              for place in range(9)]
    for planned, says in (
            ([clips[0], *others[:2]], "1 of 3 clips is finished; missing: mix 0; mix 1."),
            ([clips[0], *others[:6]], "missing: mix 0; mix 1; mix 2; mix 3; mix 4; mix 5."),
            ([clips[0], *others[:7]], "1 of 8 clips is finished; 7 are missing."),
            ([clips[2], replace(clips[2], title="c with a")], "0 of 2 clips are finished; 2 as far "
             "as they got, framed in dashes.")):
        _, page = reports.nsynth_page(record(folder.path, stopped=True), names, sounds(2), planned)
        assert page.introduction.endswith(says)
    # stopped while the page was made: all is there
    _, page = reports.nsynth_page(record(folder.path, stopped=True, resume="python x.py --resume"),
                                  names, sounds(2), clips[:2])
    assert page.introduction.endswith("sample by sample.") and not page.goes_on
    assert reports.nsynth_page(record(folder.path, stopped=True), names, sounds(2),
                               clips[3:]) is None
    # the next run that ends well clears the picture of the part away
    partial = folder.path / "r0.partial.png"
    partial.touch()
    reports.nsynth_page(record(folder.path), names, sounds(2), clips[:2])
    assert not partial.exists()


def test_a_run_without_anything_has_no_page(folder):
    assert reports.nsynth_page(record(folder.path), ["a"], sounds(1), [
        clip(folder.path, "gone", "a", "reconstruction", (0,), (1.0,))]) is None
    assert not list(folder.path.iterdir())


# Example 2 -------------------------------------------------------------------------------------


def notes(*ends):
    return {"pitches": np.array([60] * len(ends)), "velocities": np.array([100] * len(ends)),
            "start_times": np.zeros(len(ends)), "end_times": np.array(ends, float)}


def planned_score(folder, name, kind="score", seconds=1.0):
    return clip(folder, name, f"the {name}", kind, (), (), 0.4, seconds)


def test_the_page_of_a_score(folder, monkeypatch):
    rolls_asked = []
    monkeypatch.setattr(reports, "piano_roll", lambda *words: rolls_asked.append(words) or "a roll")
    audio = np.full(20 * RATE, 0.25, np.float32)
    played = notes(3.0, 5.0)
    path, page = reports.gansynth_page(
        record(folder.path), [planned_score(folder.path, "prelude")], [played], [audio],
        [((3, 7), (-0.0001, 9.0))])
    assert path == folder.path / "index.html"
    assert (page.title, page.introduction) == (
        "GANSynth: instruments that never existed",
        "Every note was generated by a network, on an instrument drawn at random from all those it "
        "can imagine.")
    assert page.settings == {"mix": "book", "weights": "some weights", "seed": 7}
    assert (page.command, page.picture_words, page.octaves, page.hints, page.seed) == (
        "python x.py", SPECTROGRAM, ["0", "1"], [BLURRED, LEVELLED], None)
    assert page.boards == [Board(
        "The score", [[0]], "Above, the notes in the colours of the instruments, between two of "
                            "them "
        "in colours between; below, what became of them. Click to hear it from there.", "score")]
    found, = page.clips
    assert (found.title, found.name, found.note, found.size, found.picture, found.score,
            found.media) == (
        "the prelude", "prelude.wav", "2 notes · 2 instruments, 9.0 s apart · 20.0 s", (800, 320),
        "0.25 (800, 320)", "a roll", "audio/wav")
    assert found.sound == folder.path / "prelude.wav" and found.audio == Heard.of(audio)
    assert [(seconds, mark.name) for seconds, mark in found.marks] == [(0.0, "3"), (5.0, "7")]
    assert rolls_asked == [(played, (-0.0001, 9.0), ["3", "7"], 20.0)]
    (sheets,), _ = of(folder.calls, "score_sheet")[0]
    assert (sheets[0].notes, sheets[0].title, list(sheets[0].t_instruments),
            sheets[0].instrument_names) == (played, "", [0.0, 5.0], ["3", "7"])
    assert sheets[0].audio is audio
    assert of(folder.calls, "save_picture")[0][0] == (
        ("score_sheet", sheets), "overview.png", folder.path)
    assert of(folder.calls, "bar")[0][0] == (record(folder.path), "drawing 1 score")
    assert of(folder.calls, "done")[0][0] == (1, 1)


@pytest.mark.parametrize("seconds, width", [(2, 480), (12, 480), (13, 520), (30, 1200), (99, 1200)])
def test_long_scores_have_wider_pictures(folder, seconds, width):
    _, page = reports.gansynth_page(record(folder.path), [planned_score(folder.path, "a")],
                                    [notes(1.0)], [np.full(seconds * RATE, 0.1)], [((), (0.0,
                                        1.0))])
    assert page.clips[0].size == (width, 320)
    assert page.clips[0].note == f"1 note · 2 instruments, 1.0 s apart · {seconds}.0 s"


@pytest.mark.parametrize("times, words", [
    ((0.0, 7.0, 14.04), "3 instruments, 7.0 s apart"), ((0.0, 7.0, 14.06), "3 instruments"),
    ((0.0,), "1 instrument")])
def test_instruments_are_equally_far_apart_or_nothing_is_said(folder, times, words):
    _, page = reports.gansynth_page(record(folder.path), [planned_score(folder.path, "a")],
                                    [notes(1.0)], [np.full(RATE, 0.1)], [((), times)])
    assert page.clips[0].note == f"1 note · {words} · 1.0 s"


def test_several_scores_of_a_stopped_run(folder):
    items = [planned_score(folder.path, name) for name in ("a", "b", "c")]
    items[1].path.unlink()
    _, page = reports.gansynth_page(
        record(folder.path, starter=False, stopped=True), items, [notes(1.0)] * 3,
        [np.full(RATE, 0.1)] * 3, [((4,), (0.0, 1.0)), ((), ()), ((5, 5), (0.0, 1.0))])
    assert [found.title for found in page.clips] == ["the a", "the c"]
    assert [found.note for found in page.clips] == ["1 note · 1 instrument · 1.0 s"] * 2
    assert page.boards[0].title == "The scores" and page.boards[0].rows == [[0], [1]]
    assert page.introduction.endswith(
        "can imagine. The run was stopped: 2 of 3 clips are finished; missing: the b.")
    assert page.hints == [LEVELLED]
    (sheets,), _ = of(folder.calls, "score_sheet")[0]
    assert [(sheet.title, sheet.instrument_names) for sheet in sheets] == [
        ("the a", ["4", "4"]), ("the c", ["5", "5"])]
    assert reports.gansynth_page(record(folder.path), items[1:2], [notes(1.0)], [np.zeros(9)],
                                 [((), ())]) is None


def test_the_page_of_a_preview(folder):
    items = [planned_score(folder.path, name, "preview") for name in ("i1", "i2")]
    audios = [np.pad(np.full(RATE, 0.25, np.float32), (0, 9 * RATE)),
              np.pad(np.full(2 * RATE, 0.5, np.float32), (0, 9 * RATE))]
    key = np.pad(np.full(3 * RATE, 0.25, np.float32), (0, RATE))
    _, page = reports.gansynth_page(record(folder.path), items, [notes(1.0)] * 2, audios,
                                    [((1,), (0.0, 1.0))] * 2, [[(48, key), (56, 0 * key)], []])
    assert (page.title, page.introduction, page.seed) == (
        "GANSynth: instruments that never existed",
        "Each instrument was drawn at random from all those that a network can imagine.", 7)
    assert (page.settings, page.command, page.picture_words, page.octaves, page.hints) == (
        {"mix": "book", "weights": "some weights", "seed": 7}, "python x.py", SPECTROGRAM,
        ["0", "1"], [BLURRED, LEVELLED])
    assert page.boards == [Board(
        "The instruments", [[0, 1]], "The same phrase on each. Tick those that you like: the list "
        "plays a score with them, in that order.", "cells", ticks=True)]
    heard = 2 * RATE - 1 + RATE // 10  # a tenth of a second after the longest is last heard
    for place, found in enumerate(page.clips):
        assert (found.title, found.name, found.note, found.caption, found.media, found.size,
                found.picture) == (
            f"instrument {place + 1}", f"i{place + 1}.flac", "2.1 s", f"{place + 1}", "audio/flac",
            (480, 320), f"{0.25 * (place + 1):.2f} (480, 320)")
        assert found.audio == Heard.of(audios[place][:heard]) and len(found.audio) == heard
        flac, rate = soundfile.read(io.BytesIO(found.sound))
        assert found.sound[:4] == b"fLaC" and rate == RATE
        np.testing.assert_allclose(flac, audios[place][:heard], atol=1e-4)
    for (audio, rate, hop), _ in of(folder.calls, "spectrogram"):
        assert len(audio) == heard and (rate, hop) == (RATE, 512)
    (low, note), (middle, silence) = page.clips[0].keys
    assert (low, middle) == (48, 56) and page.clips[1].keys == []
    note, rate = soundfile.read(io.BytesIO(note))
    assert len(note) == 2 * RATE and note[0] == pytest.approx(0.5, abs=1e-3)
        # at half of full scale
    np.testing.assert_allclose(note[:-RATE // 10], 0.5, atol=1e-3)
    np.testing.assert_allclose(note[-RATE // 10:], np.linspace(0.5, 0, RATE // 10), atol=1e-3)
    assert not soundfile.read(io.BytesIO(silence))[0].any()
    (rows, words), _ = of(folder.calls, "strips")[0]
    assert [[(cell.spectrum.name, cell.title) for cell in row] for row in rows] == [
        [("0.25", "1")], [("0.50", "2")]]
    assert words == "the phrase on each instrument, under its number"
    assert of(folder.calls, "save_picture")[0][0][1:] == ("overview.png", folder.path)


@pytest.mark.parametrize("count, seconds, size", [(12, 2.0, (480, 320)), (13, 0.8, (480, 320)),
                                                  (24, 0.8, (480, 320)), (25, 0.8, (300, 200))])
def test_many_instruments_are_smaller(folder, count, seconds, size):
    items = [planned_score(folder.path, f"i{place}", "preview", 0.01) for place in range(count)]
    tone = np.full(4 * RATE, 0.25, np.float32)
    _, page = reports.gansynth_page(record(folder.path, stopped=True), items, [notes(1.0)] * count,
                                    [tone[:9]] * count, [((1,), (0.0, 1.0))] * count,
                                    [[(48, tone)]])
    assert page.clips[0].size == size and page.introduction.endswith("imagine.")
    missing = [planned_score(folder.path, f"x{place}", "preview") for place in range(7)]
    for item in missing:
        item.path.unlink()
    _, stopped = reports.gansynth_page(
        record(folder.path, stopped=True), items + missing, [notes(1.0)] * count,
        [tone[:9]] * count, [((1,), (0.0, 1.0))] * count)
    assert stopped.introduction.endswith(
        f"imagine. The run was stopped: {count} of {count + 7} clips are finished; 7 are missing.")
    assert soundfile.info(io.BytesIO(page.clips[0].keys[0][1])).duration == seconds
    assert page.clips[1].keys == []  # stopped before its keyboard was played
    _, page = reports.gansynth_page(record(folder.path), items, [notes(1.0)] * count,
                                    [tone[:9]] * count, [((1,), (0.0, 1.0))] * count)
    assert page.clips[0].keys == []


def test_a_silent_preview_is_a_tenth_of_a_second(folder):
    _, page = reports.gansynth_page(
        record(folder.path), [planned_score(folder.path, "i1", "preview")], [notes(1.0)],
        [np.full(RATE, 0.001, np.float32)], [((1,), (0.0,))])
    assert len(page.clips[0].audio) == RATE // 10


# Rolls -----------------------------------------------------------------------------------------


def test_marks_have_the_colours_of_their_instruments_and_say_how_much_room_they_have():
    colours = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00"]
    marks = rolls.instrument_marks(np.arange(8.0), list("abcdefga"), 100.0)
    assert [(seconds, mark.name, mark.colour) for seconds, mark in marks] == [
        (float(place), name, colour) for place, (name, colour) in enumerate(
            zip("abcdefga", [*colours, colours[0], colours[0]]))]
    marks = rolls.instrument_marks([0, 9.1, 18, 21.1, 24, 24], list("abcdee"), 100.0)
    assert [(seconds, mark.name, mark.room) for seconds, mark in marks] == [
        (0.0, "a", ""), (9.1, "b", "number"), (18.0, "c", "number"), (21.1, "d", "tight"),
        (24.0, "e", "")]
    assert rolls.instrument_marks([0, 9, 12], list("abc"), 100.0)[0][1].room == "number"
    assert rolls.instrument_marks([0, 3, 12], list("abc"), 100.0)[0][1].room == "tight"
    assert rolls.instrument_marks([], [], 5.0) == []


def drawn(notes, times, names, seconds):
    """Colour, opacity and path of each group of notes, and the whole drawing."""
    svg = str(rolls.piano_roll(notes, times, names, seconds))
    return re.findall(r'<path fill="(#\w+)" fill-opacity="([\d.]+)" d="([^"]+)"/>', svg), svg


def test_a_roll_is_drawn_note_by_note():
    notes = {"pitches": [60, 62, 48], "velocities": [127, 95, 10], "start_times": [0.0, 1.0, 2.0],
             "end_times": [1.0, 1.001, 4.0]}
    groups, svg = drawn(notes, [], [], 4.0)
    # 16 rows from 63 down to 47, of ten units each; 10000 units across
    assert groups == [("#7f7f7f", "1.0", "M0 31h2492v8H0z"), ("#7f7f7f", "0.8", "M2500 "
                                                                                "11h12v8H2500z"),
                      ("#7f7f7f", "0.4", "M5000 151h4992v8H5000z")]
    assert svg.startswith(
        '<svg viewBox="0 0 10000 170" preserveAspectRatio="none" role="img" aria-label="The notes, '
        'from C3 to D4"><path d="M0 160h10000M0 40h10000" stroke="#8884" stroke-width="0.6" '
        'vector-effect="non-scaling-stroke" fill="none"/><path ')
    assert svg.endswith(
        '</svg><span class="pitches" aria-hidden="true"><span style="top: 91.18%">C3</span>'
        '<span style="top: 20.59%">C4</span></span>')


def test_softer_notes_are_paler_in_four_steps():
    levels = [0, 31, 32, 63, 64, 95, 96, 127]
    for velocity, opacity in zip(levels, (0.4, 0.4, 0.6, 0.6, 0.8, 0.8, 1.0, 1.0)):
        groups, _ = drawn({"pitches": [60], "velocities": [velocity], "start_times": [0],
                           "end_times": [1]}, [], [], 4.0)
        assert groups[0][1] == str(opacity)


def test_colours_move_from_one_instrument_to_the_next_in_eight_steps():
    starts = np.array([0.0, 1.0, 1.1, 4.0, 8.0, 9.0, 20.0])
    notes = {"pitches": np.arange(60, 67), "velocities": [100] * 7, "start_times": starts,
             "end_times": starts + 1}
    groups, _ = drawn(notes, [0.0, 8.0, 10.0], ["a", "b", "a"], 30.0)
    blue, orange = np.array([0, 114, 178]), np.array([213, 94, 0])

    def mixed(share):
        return "#" + "".join(f"{int(part):02x}" for part in np.rint(
            (1 - share) * blue + share * orange))
    paths = {colour: path.count("M") for colour, _, path in groups}
    assert paths == {mixed(0): 2, mixed(1 / 8): 2, mixed(0.5): 2, mixed(1): 1}
    same, _ = drawn(notes, [0.0, 8.0], ["a", "a"], 30.0)
    assert [colour for colour, _, _ in same] == ["#0072b2"]


# The file --------------------------------------------------------------------------------------


def a_clip(title, level=0.5, seconds=0.5, **more):
    audio = np.full(round(RATE * seconds), level, np.float32)
    return Clip(title, room.encoded(audio), f"{title}.wav", audio, **more)


def a_page(clips, boards=(), **more):
    return Page("A title", "An introduction.", clips, boards, {"seed": 7}, "python x.py", **more)


def text_of(tmp_path, page):
    path = room.write_page(tmp_path / "index.html", page)
    assert path == tmp_path / "index.html"
    return path.read_text("utf-8")


def test_the_page_holds_what_its_script_needs(tmp_path):
    clips = [a_clip("a", note="a note", kind="source"),
             a_clip("b", 0.25, 1 / 3, sources=(0,), media="audio/flac")]
    text = text_of(tmp_path, a_page(clips, [Board("Board", [[0, 1]], layout="strip")]))
    data = json.loads(re.search(r'id="clips">(.*?)</script>', text)[1])
    assert data == [
        {"title": "a", "note": "a note", "kind": "source", "gain": 0.2, "seconds": 0.5,
         "sources": [], "name": "a.wav", "media": "audio/wav"},
        {"title": "b", "note": "", "kind": "clip", "gain": 0.4, "seconds": 0.3333, "sources": [0],
         "name": "b.wav", "media": "audio/flac"}]
    assert "\n\n\n\n" not in text.split("<style>")[0] and "  {%" not in text
    for part in ("page.css", "page.js"):
        assert (Path(room.__file__).parent / part).read_text("utf-8").strip() in text


def test_a_sound_that_lies_in_a_file_is_in_the_page_byte_by_byte(tmp_path):
    contents = [np.random.default_rng(place).bytes(size)
                for place, size in enumerate((1, (3 << 18) - 1, (3 << 18) + 1))]
    clips = [a_clip("in memory")]
    for place, content in enumerate(contents):
        sound = tmp_path / f"{place}.flac"
        sound.write_bytes(content)
        audio = np.zeros(9, np.float32)
        clips.append(Clip(f"file {place}", sound, sound.name, audio, media="audio/flac"))
    text = text_of(tmp_path, a_page(clips, [Board("B", [[0, 1, 2, 3]], layout="strip")]))
    found = re.findall(r' src="(data:audio[^"]*)"', text)
    assert found == [room.data_uri(clips[0].sound, "audio/wav"),
                     *(room.data_uri(content, "audio/flac") for content in contents)]


def test_sounds_on_one_time_axis_are_as_wide_as_they_are_long(tmp_path):
    clips = [a_clip(f"clip {seconds}", seconds=seconds) for seconds in (0.5, 2, 1)]
    for rows, widths, axis in (([[0, "words"], [1], [2]], ["25.00", "100.00", "50.00"], "2.0"),
                               ([["words"], [0]], ["100.00"], "0.5"), ([["words"]], [], "1.0")):
        text = text_of(tmp_path, a_page(clips, [Board("B", rows, layout="time")]))
        assert re.findall(r'style="width: ([\d.]+)%"', text) == widths
        assert re.findall(r'data-seconds="([\d.]+)"', text) == [axis]


def test_a_picture_is_in_the_page_once_where_its_clip_stands_first(tmp_path):
    clips = [a_clip(name, picture=f"picture {name}".encode(), size=(8, 4)) for name in "abc"]
    boards = [Board("One", [["words", 1, None], [2, 0, 2]]), Board("Two", [[1, 0]], layout="strip")]
    text = text_of(tmp_path, a_page(clips, boards))
    assert [re.findall(rf'<img (id="picture{place}"|data-same="{place}")', text)
            for place in range(3)] == [
        [f'id="picture{place}"', f'data-same="{place}"'] for place in range(3)]
    for name in "abc":
        assert text.count(base64.b64encode(f"picture {name}".encode()).decode()) == 1
    # in the order in which the rows are read
    assert re.findall(r'id="picture(\d)"', text) == ["1", "2", "0"]


def test_the_keyboard_goes_from_c3_to_c5_where_a_clip_has_notes(tmp_path):
    assert 'class="piano"' not in text_of(tmp_path, a_page([a_clip("a")]))
    text = text_of(tmp_path, a_page([a_clip("a"), a_clip("b", keys=[(48, b"note")])]))
    found = re.findall(r'<button type="button" class="(black|white)" data-pitch="(\d+)" '
                       r'(?:data-name="(\w+)")? (?:data-letter="(\w)"|data-low) '
                       r'aria-label="([^"]+)" tabindex="(0|-1)">'
                       r'<span aria-hidden="true">(\w?)</span>', text)
    assert [(pitch, name) for _, pitch, name, *_ in found if name] == [
        ("48", "C3"), ("60", "C4"), ("72", "C5")]
    assert [pitch for _, pitch, *_, tab, _ in found if tab == "0"] == ["60"]
    assert [shown for *_, shown in found] == [letter for _, _, _, letter, *_ in found]
    assert text.count(" data-low aria-label=") == 12
    keys = [(colour, pitch, letter, name) for colour, pitch, _, letter, name, _, _ in found]
    assert [int(pitch) for _, pitch, _, _ in keys] == list(range(48, 73))
    assert "".join("b" if colour == "black" else "w" for colour, *_ in keys) == (
        "wbwbwwbwbwbw" * 2 + "w")
    assert "".join(letter for _, _, letter, _ in keys) == "awsedftgyhujk"
    assert [letter for _, pitch, letter, _ in keys if pitch in ("59", "60", "72")] == ["", "a", "k"]
    names = [name for *_, name in keys]
    assert names[:13] == ["C3", "C sharp3", "D3", "D sharp3", "E3", "F3", "F sharp3", "G3",
                          "G sharp3", "A3", "A sharp3", "B3", "C4"] and names[-1] == "C5"


def test_what_is_typed_is_escaped_and_strange_names_are_replaced(tmp_path):
    text = text_of(tmp_path, a_page([a_clip("<b>caf\udce9</b>")], [Board("B", [[0]],
        layout="strip")]))
    assert "&lt;b&gt;caf?&lt;/b&gt;" in text and "<b>caf" not in text
    assert list(tmp_path.iterdir()) == [tmp_path / "index.html"]


def test_all_sounds_are_played_at_one_loudness():
    loud, quiet = np.full(100, 0.8), np.full(100, 0.02)
    assert room.playback_gains([loud, quiet]) == pytest.approx([0.125, 5])
    assert room.playback_gains([quiet, np.zeros(9), np.full(9, 1e-4),
        np.zeros(0)]) == pytest.approx(
        [5, 1, 1, 1])
    # a click: ten times as high as it is loud; so all of them stay at what it can reach
    click = np.zeros(400)
    click[0] = -0.5
    level = 0.5 / 20
    assert room.playback_gains([click, loud]) == pytest.approx(
        [0.98 / 0.5, 0.98 / 0.5 * level / 0.8])
    assert room.playback_gains([np.full(9, 1.01e-4)]) == pytest.approx([0.1 / 1.01e-4])
    assert Heard.of(np.array([0.5], np.float32)) == Heard(1, 0.5, 0.5)
    # measured in double numbers: the squares of small float16 are none
    assert Heard.of(np.full(9, 2e-4, np.float16)).level == pytest.approx(2e-4, rel=1e-3)
    assert room.playback_gains([np.full(10**5, 0.1, np.float16)]) == pytest.approx([1], rel=1e-3)


def test_sounds_and_pictures_as_files():
    content = room.encoded(np.array([0.5, 2.0, -2.0, 0.00002]))
    audio, rate = soundfile.read(io.BytesIO(content), dtype="int16")
    assert rate == RATE and audio.tolist() == [16384, 32767, -32767, 1] and content[:4] == b"RIFF"
    assert soundfile.info(io.BytesIO(room.encoded(np.zeros(9), "FLAC"))).subtype == "PCM_16"
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    whole, small = room.webp(image, 95), room.webp(image)
    assert Image.open(io.BytesIO(small)).format == "WEBP" and len(small) < 0.8 * len(whole)
    expected = io.BytesIO()
    image.save(expected, "WEBP", quality=80, method=4)
    assert small == expected.getvalue()
    assert room.data_uri(b"\x00\xff", "audio/wav") == "data:audio/wav;base64,AP8="
