"""The results page as a file: which clips, panels and words it has."""

import base64
import io
import itertools
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from PIL import Image

from companion import page as pages
from companion.clips import Clip
from companion.page import rolls, write_index, write_page
from companion.page.pitch import pitch_of
from companion.page.reports import Extra, Run, Score, page_of

IMAGE = Image.radial_gradient("L").convert("RGB")
RUN = Run("python example.py --sounds 'a & b.wav' --seed 7", {"typed": "<script>alert(1)</script>"},
          7, bundled=True, notes=["Unknown: <choir>. Type `python -m workshop finetune`."])


def tone(hertz, seconds=1.0, level=0.3):
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(16000 * seconds)) / 16000)
            ).astype(np.float32)


def built(folder, clips, extras=None, run=RUN):
    """Write the page of clips that are tones; return its path."""
    given = {clip.name: Extra(
        IMAGE if clip.kind != "bank" else None,
        tone(220 + 7 * number if clip.kind != "bank" else 440 * 2 ** ((clip.pitch - 69) / 12),
             level=0.8 / 4 ** (number % 3)))
        for number, clip in enumerate(clips)}
    for clip in clips:
        if clip.kind == "step":
            given[clip.name] = Extra(IMAGE, tone(220 + 220 * clip.weights[1]))
    return write_page(folder, page_of(folder, clips, run, {**given, **(extras or {})}))


def sources(names):
    return [Clip(f"source_{name.strip('<>/')[:4]}", name, "source", (name,), (1.0,))
            for name in names]


def reconstructions(names):
    return [Clip(f"{name.strip('<>/')[:4]}_reconstructed", f"{name}, reconstructed",
                 "reconstruction", (name,), (1.0,)) for name in names]


def mix_clips(names, seconds=1.0):
    if len(names) > 4:  # names that begin alike
        return [Clip(f"source_{n}", name, "source", (name,), (1.0,))
                for n, name in enumerate(names)] + [
            Clip(f"{names.index(a)}_{names.index(b)}", f"{a}, {b}", "mix", (a, b), (2 / 3, 1 / 3))
            for a, b in itertools.permutations(names, 2)]
    return [*sources(names), *reconstructions(names), *[
        Clip(f"{a}_{b}", f"{a}, {b}", "mix", (a, b), (2 / 3, 1 / 3))
        for a, b in itertools.permutations(names, 2)]]


def step_clips():
    return [*sources(["bass", "flute"]), *[
        Clip(f"bass_flute_{step}", f"{100 - 25 * step} % bass, {25 * step} % flute", "step",
             ("bass", "flute"), (1 - step / 4, step / 4)) for step in range(5)]]


def crossfade_clips():
    return [*sources(["bass", "flute"]), *reconstructions(["bass", "flute"]),
            Clip("bass_to_flute", "bass becomes flute", "crossfade", ("bass", "flute"), (1.0, 1.0))]


def bank_clips(size):
    """A grid between four corners, at three pitches."""
    share = [number / (size - 1) for number in range(size)]
    return [Clip(f"clips/x{share.index(x)}y{share.index(y)}_p{pitch:03d}", f"{x:.3f} {y:.3f}",
                 "bank", ("bass", "flute", "choir", "bell"),
                 ((1 - x) * (1 - y), x * (1 - y), (1 - x) * y, x * y), "", pitch)
            for y in share for x in share for pitch in (48, 60, 72)]


def score_extras(seconds, names, times):
    return Extra(IMAGE, tone(220, seconds), score=Score(
        {"pitches": np.array([48, 60, 67]), "velocities": np.array([100, 60, 20]),
         "start_times": np.array([0.0, 1.0, 2.0]), "end_times": np.array([1.0, 2.0, seconds])},
        names, times))


def preview_extras():
    return Extra(IMAGE, tone(220, 1.5), [
        (pitch, tone(440 * 2 ** ((pitch - 69) / 12), 4)) for pitch in range(36, 85, 8)])


def page(tmp_path, clips, extras=None, run=RUN):
    """Return the `Page` of clips that are all one tone."""
    return page_of(tmp_path, clips, run, extras or {
        clip.name: Extra(audio=tone(220, 0.2)) for clip in clips})


def rows(panel, found):
    """The rows of a panel, with the names of clips in place of their indices."""
    return [[found.sounds[cell].clip.name if isinstance(cell, int) else cell for cell in cells]
            for cells in panel.rows]


# The file ----------------------------------------------------------------------------------------


def test_write_page_embeds_everything_once(tmp_path):
    path = built(tmp_path, mix_clips(["bass", "flute"]))
    text = path.read_text("utf-8")
    assert [file.name for file in tmp_path.iterdir()] == ["index.html"]
    assert not re.search(r'(src|href)="(?!data:|#)', text)
    sounds = re.findall(r'src="data:audio/flac;base64,([^"]+)"', text)
    assert len(sounds) == 6 == text.count("data:image/webp")
    audio, rate = soundfile.read(io.BytesIO(base64.b64decode(sounds[0])))
    assert rate == 16000 and np.abs(audio - tone(220, level=0.8)).max() < 1e-4


def test_write_page_escapes_what_the_user_typed(tmp_path):
    text = built(tmp_path, sources(["<b>bell</b>"])).read_text()
    assert "<script>alert(1)" not in text and "&lt;script&gt;alert(1)" in text
    assert "<b>bell" not in text and "&lt;choir&gt;" in text


def test_write_page_reads_the_wav_files_of_the_folder_without_loss(tmp_path):
    samples = np.arange(-8000, 8000, dtype=np.int16)
    soundfile.write(tmp_path / "a.wav", samples, 16000)
    found = page_of(tmp_path, [Clip("a", "a", "source", ("a",), (1.0,))], RUN)
    assert (soundfile.read(io.BytesIO(found.sounds[0].flac), dtype="int16")[0] == samples).all()


# Sounds ------------------------------------------------------------------------------------------


def test_page_of_gives_sounds_equal_loudness_without_clipping(tmp_path):
    click = np.zeros(16000, np.float32)
    click[100:110] = 0.9
    clips = sources(["quiet", "loud", "silent", "click"])
    found = page(tmp_path, clips, {clip.name: Extra(audio=audio) for clip, audio in zip(
        clips, (tone(220, level=0.01), tone(220, level=0.9), np.zeros(16000, np.float32), click))})
    quiet, loud, silent, sharp = (sound.gain for sound in found.sounds)
    assert quiet * 0.01 == pytest.approx(loud * 0.9) and silent == 1 and sharp * 0.9 <= 1


@pytest.mark.parametrize("hertz, pitch", [(65.4, 36), (110, 45), (261.6, 60), (1046.5, 84)])
def test_pitch_of_tone_returns_its_midi_pitch(hertz, pitch):
    harmonics = sum(tone(hertz * part, level=0.2 / part) for part in range(1, 5))
    assert pitch_of(harmonics) == pytest.approx(pitch, abs=0.1)


@pytest.mark.parametrize("audio", [
    np.random.default_rng(0).normal(0, 0.1, 16000), np.zeros(800),
    0.5 * np.sin(2 * np.pi * 200 * np.cumsum(np.geomspace(1, 3, 16000)) / 16000)],
    ids=["noise", "silence", "glide"])
def test_pitch_of_sound_without_steady_pitch_returns_none(audio):
    assert pitch_of(audio.astype(np.float32)) is None


def test_page_of_measures_the_keyboard_root_unless_the_clip_has_a_pitch(tmp_path):
    clips = sources(["bass", "bell"])
    clips[1] = replace(clips[1], pitch=72.5)
    found = page(tmp_path, clips)
    assert found.sounds[0].keys == ((pytest.approx(57, abs=0.1), b""),)
    assert found.sounds[1].keys == ((72.5, b""),)
    assert "A3" in found.sounds[0].note


def test_page_of_compares_a_mix_with_its_sources_or_their_reconstructions(tmp_path):
    clips = mix_clips(["bass", "flute"])
    assert page(tmp_path, clips).sounds[4].sources == (0, 1)
    encodings = clips[1:]  # the bass was given as an encoding
    assert page(tmp_path, encodings).sounds[3].sources == (1, 0)


# Panels ------------------------------------------------------------------------------------------


def test_page_of_all_mixes_is_a_matrix(tmp_path):
    found = page(tmp_path, mix_clips(["bass", "flute"]))
    panel, = found.panels
    assert rows(panel, found)[1:] == [
        ["source_bass", "bass_reconstructed", "bass_flute"],
        ["source_flut", "flute_bass", "flut_reconstructed"]]
    assert panel.layout == "matrix" and found.title == "bass, flute: 2 mixes"


def test_page_of_chosen_pairs_lists_each_between_its_sounds(tmp_path):
    clips = mix_clips(["bass", "bell", "flute"])
    found = page(tmp_path, [clip for clip in clips if clip.name not in (
        "bell_bass", "flute_bass", "flute_bell", "bell_flute", "bass_bell")])
    assert rows(found.panels[0], found) == [["source_bass", "bass_flute", "source_flut"]]
    assert found.panels[1].title == "Each sound alone"


def test_page_of_steps_has_a_slider_and_captions_with_the_weights(tmp_path):
    found = page(tmp_path, step_clips())
    assert found.panels[0].slider and len(found.panels[0].rows[0]) == 7
    assert [sound.caption for sound in found.sounds[2:5]] == ["100 : 0", "75 : 25", "50 : 50"]


def test_page_of_crossfade_has_one_time_axis(tmp_path):
    found = page(tmp_path, crossfade_clips())
    panel = found.panels[0]
    assert panel.layout == "time"
    assert rows(panel, found) == [["source_bass"], ["source_flut"], ["bass_to_flute"]]


def test_page_of_bank_places_instruments_by_their_weights(tmp_path):
    found = page(tmp_path, bank_clips(3))
    grid = rows(found.panels[0], found)
    assert [[name[6:10] for name in row] for row in grid] == [
        [f"x{x}y{y}" for x in range(3)] for y in range(3)]
    first = found.sounds[0]
    assert sorted(pitch for pitch, _ in first.keys) == [48, 60, 72]
    assert (60, b"") in first.keys and first.sfz == "x0y0.sfz" and first.caption == "bass"
    assert found.title == "bass, flute, choir, bell: bank of 27 clips"


def test_page_of_bank_of_three_corners_is_a_triangle(tmp_path):
    clips = [Clip(f"x{x}y{y}_p060", f"{x} {y}", "bank", ("a", "b", "c"),
                  (1 - x / 2 - y / 2, x / 2, y / 2), "", 60)
             for y in range(3) for x in range(3 - y)]
    found = page(tmp_path, clips)
    assert rows(found.panels[0], found)[2] == ["x0y2_p060", None, None]


def test_page_of_preview_selects_instruments_for_whole_commands(tmp_path):
    clips = [Clip(f"i{n}", f"instrument {n}", "preview") for n in (1, 2)]
    found = page(tmp_path, clips, {clip.name: preview_extras() for clip in clips})
    assert found.panels[0].choose and [pitch for pitch, _ in found.sounds[0].keys] == list(
        range(36, 85, 8))
    assert [command for _, command in found.commands] == [
        "python -m workshop play --midi cs1-1pre-short.mid --instruments {} --seed 7",
        "python -m workshop bank gansynth --instruments {} --seed 7"]


@pytest.mark.parametrize("model", ["all_instruments", "'my models/it'\"'\"'s'", '"C:\\my models"'])
def test_page_of_preview_of_another_model_names_it_in_the_commands(tmp_path, model):
    run = replace(RUN, command=f"python -m workshop preview --checkpoint {model} --seed 7")
    found = page(tmp_path, [Clip("i1", "instrument 1", "preview")], None, run)
    assert {command.rpartition(" --checkpoint ")[2] for _, command in found.commands} == {model}


@pytest.mark.parametrize("count, seconds", [(1, 4.0), (5, 4.0), (30, 200 / 210)])
def test_page_of_many_previews_shortens_the_keyboard_notes(tmp_path, count, seconds):
    clips = [Clip(f"i{n}", f"instrument {n}", "preview") for n in range(count)]
    found = page(tmp_path, clips, {clip.name: preview_extras() for clip in clips})
    note, _ = soundfile.read(io.BytesIO(found.sounds[0].keys[0][1]))
    assert len(note) / 16000 == pytest.approx(seconds, abs=0.01)


# Scores ------------------------------------------------------------------------------------------


def test_page_of_score_shows_instruments_and_minutes(tmp_path):
    found = page(tmp_path, [Clip("song", "song", "score")], {
        "song": score_extras(130, ["3", "7", "7"], [0, 60, 120])})
    sound, = found.sounds
    assert sound.note == "3 notes · 2 instruments · 2:10" and not sound.keys
    assert [(time, name) for time, name, *_ in sound.marks] == [(0.0, "3"), (60.0, "7")]
    assert "<svg" in sound.roll


def test_note_colours_blend_between_instruments():
    first, middle, last, after = rolls.note_colours(np.arange(4.0), [0, 2], ["1", "2"])
    assert (middle == (first + last) / 2).all() and (after == last).all()
    assert (rolls.note_colours(np.array([5.0]), [0], ["1"]) == rolls.PALETTE[0]).all()


# Words -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds, words", [
    (4.44, "4.4 s"), (59.99, "1:00"), (60, "1:00"), (1674, "27:54")])
def test_clock_returns_seconds_or_minutes(seconds, words):
    assert pages.clock(seconds) == words


@pytest.mark.parametrize("clips, title", [
    (step_clips(), "bass, flute: 5 steps"), (crossfade_clips(), "bass, flute: crossfade"),
    (sources(["bass"]) + reconstructions(["bass"]), "bass: reconstruction"),
    ([Clip("air", "Air", "score")], "Air: score"), ([], ""),
    ([Clip("i", "instrument 1", "preview")] * 12, "preview: 12 instruments"),
    ([Clip(f"i{n}", f"instrument {n}", "bank", pitch=60) for n in (3, 7)],
     "instrument 3, instrument 7: bank of 2 clips"),
    (mix_clips(list("abcdefg")), "a, b, c, d, 3 more: 42 mixes")])
def test_run_title_tells_runs_apart(clips, title):
    assert pages.run_title(clips) == title


def test_page_of_stopped_run_reports_what_is_missing_and_how_to_continue(tmp_path):
    clips = mix_clips(["bass", "flute"])
    run = replace(RUN, resume="python x.py --resume")
    extras = {clip.name: Extra(audio=tone(220, 0.1)) for clip in clips[:5]}
    found = page(tmp_path, clips, extras, run)
    assert len(found.sounds) == 5 and "flute, bass" in found.text and "1 of 6" in found.text
    assert found.stopped and found.command == run.resume
    assert not page(tmp_path, clips, None, run).stopped


@pytest.mark.parametrize("bundled", [True, False])
def test_page_of_explains_hiss_only_for_the_bundled_model(tmp_path, bundled):
    found = page(tmp_path, sources(["bass"]), None, replace(RUN, bundled=bundled))
    assert any("--download" in hint for hint in found.hints) == bundled
    assert found.notes == RUN.notes and found.settings["seed"] == 7


def test_write_index_lists_runs_with_a_page(tmp_path):
    for name, started in (("nsynth-2", "2026-03-01T10:20:30"), ("a b", 1.7e9), ("bank/x", None)):
        (tmp_path / name).mkdir(parents=True)
        built(tmp_path / name, step_clips())
        (tmp_path / name / "run.json").write_text(json.dumps(
            {"started": started, "clips": [clip.__dict__ for clip in step_clips()],
             "options": {"steps": 5, "no_pedal": True, "instruments": ["a", "b"]}}
            if started else {"command": "python old.py"}))
    (tmp_path / "run.json").write_text("{}")  # of a run without a page
    text = write_index(tmp_path).read_text("utf-8")
    links = re.findall(r'<a href="([^"]+)">([^<]+)</a>', text)
    assert links == [("nsynth-2/index.html", "bass, flute: 5 steps"),
                     ("a%20b/index.html", "bass, flute: 5 steps"), ("bank/x/index.html", "x")]
    assert "steps 5, no pedal yes, instruments a, b" in text and "2026-03-01 10:20" in text


def test_write_index_without_runs_writes_nothing(tmp_path):
    assert write_index(tmp_path) is None and not list(tmp_path.iterdir())
