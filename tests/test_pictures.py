"""What is seen of a sound: the transform, its colours, and the sheets of a whole run."""

from __future__ import annotations

import dataclasses
import math
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import pictures
from audio_utils import draw_rainbowgram, save_picture, save_rainbowgram_plot, save_spectrogram_plot
from pictures import sheets, spectra
from pictures.sheets import Cell, Score
from pictures.spectra import RAINBOWGRAM, SPECTROGRAM, constant_q, phase_and_brightness
from synths import InputError

ROOT = Path(__file__).parents[1]
RATE = 16000


def tone(frequency, seconds=1.0, rate=RATE, amplitude=0.5):
    return amplitude * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)


def chirp(low, high, seconds=1.0, rate=RATE, amplitude=0.5):
    t = np.arange(round(seconds * rate)) / rate
    return amplitude * np.sin(2 * np.pi * (low * t + (high - low) * t * t / (2 * seconds)))


def read_png(path):
    from matplotlib.image import imread

    return imread(path)[..., :3]


# The constant-Q transform


TRANSFORMS = {"rainbowgram": (RAINBOWGRAM, 64), "spectrogram": (SPECTROGRAM, 2048)}


def three_kinds_of_sound():
    noise = np.random.default_rng(3).normal(size=RATE) * 0.1
    return np.concatenate([chirp(80, 4000), tone(440) + tone(1234.5), noise]).astype(np.float32)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_constant_q_is_librosas_with_the_numbers_in_print(name):
    import librosa

    printed = {"spectrogram": {"fmin": librosa.midi_to_hz(36), "n_bins": 5 * 32,
                               "bins_per_octave": 32, "filter_scale": 1.0},
               "rainbowgram": {"fmin": librosa.note_to_hz("C2"), "n_bins": 6 * 40,
                               "bins_per_octave": 40, "filter_scale": 0.8}}
    transform, hop = TRANSFORMS[name]
    theirs = librosa.cqt(three_kinds_of_sound(), sr=RATE, hop_length=hop, **printed[name])
    ours = constant_q(three_kinds_of_sound(), RATE, hop, transform)
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6 * np.abs(theirs).max())


@pytest.mark.parametrize("samples", [1, 100, 5000])
def test_constant_q_of_a_short_sound_is_that_of_a_sound_before_silence(samples, recwarn):
    sound = three_kinds_of_sound()[:samples]
    short = constant_q(sound, RATE, 64, RAINBOWGRAM)
    longer = constant_q(np.pad(sound, (0, 2**16)), RATE, 64, RAINBOWGRAM)[:, :short.shape[1]]
    assert short.shape == (240, 1 + samples // 64) and not recwarn.list
    np.testing.assert_allclose(short, longer, atol=0.01 * np.abs(longer).max())


def test_constant_q_of_a_sine_is_what_the_definition_says():
    for octave in range(6):
        frequency = 440 * 2 ** (-2.75 + octave)
        transform = np.abs(constant_q(tone(frequency, 3), RATE, 256, RAINBOWGRAM))
        column = transform[:, transform.shape[1] // 2]
        window = 0.8 * (2**0.05 + 1) / (2**0.05 - 1) * RATE / frequency
        assert column.argmax() == 40 * octave
        assert column.max() == pytest.approx(0.5 / 2 * math.sqrt(window), rel=0.02)


@pytest.mark.parametrize("rate", [60, 150, 4000, 8000])
def test_constant_q_has_nothing_above_half_the_sample_rate(rate):
    transform = constant_q(tone(30, rate=rate), rate, 256, RAINBOWGRAM)
    frequencies = 440 * 2 ** (-2.75 + np.arange(240) / 40)
    assert not transform[frequencies > rate / 2].any()
    noise = np.random.default_rng(1).normal(size=3 * rate)
    assert constant_q(noise, rate, 256, RAINBOWGRAM)[frequencies < 0.45 * rate].any(1).all()


# What librosa compiles


def ran(code, **environment):
    """What a fresh process prints."""
    return subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", code], cwd=ROOT,
                          check=True, env={**os.environ, **environment}, capture_output=True,
                          text=True).stdout


@pytest.mark.parametrize(("kept", "seconds", "sentences"), [
    (False, 2.5, 1), (True, 2.5, 0), (False, 0, 0)])
def test_warming_up_says_once_that_librosa_compiles(monkeypatch, tmp_path, kept, seconds,
                                                    sentences):
    transform, said, runs = spectra.constant_q, [], []

    def slow(*arguments):
        runs.append(1)
        time.sleep(seconds)
        return transform(*arguments)

    if kept:
        (tmp_path / "core_1").mkdir()
        (tmp_path / "core_1" / "constantq.f-1.py3.nbi").touch()
    monkeypatch.setattr(spectra, "_cache_folders", lambda: [tmp_path])
    monkeypatch.setattr(spectra, "constant_q", slow)
    spectra._first_transform.cache_clear()
    threads = [threading.Thread(target=pictures.warm_up, args=[said.append]) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pictures.warm_up(said.append)
    assert len(runs) == 1 and len(said) == sentences
    assert all("once after it was installed" in sentence for sentence in said)


def test_a_picture_waits_for_what_is_being_made_ready(monkeypatch):
    """Two threads that compile the same function make Numba 0.68 warn, on stderr."""
    spectra.rainbowgram(np.zeros(16, np.float32))   # from here on it takes a moment
    compiling, go_on, order = threading.Event(), threading.Event(), []

    def first():
        compiling.set()
        go_on.wait(10)
        order.append("made ready")

    def draw():
        spectra.rainbowgram(np.zeros(16, np.float32))
        order.append("drawn")

    monkeypatch.setattr(spectra, "_first_transform", first)
    threads = [threading.Thread(target=pictures.warm_up), threading.Thread(target=draw)]
    threads[0].start()
    assert compiling.wait(10)
    threads[1].start()
    threads[1].join(1)
    go_on.set()
    for thread in threads:
        thread.join()
    assert order == ["made ready", "drawn"]


def test_what_numba_keeps_is_found():
    pictures.warm_up()
    assert spectra._is_kept()


def test_librosa_works_where_no_folder_keeps_what_numba_compiles(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way of every folder below")
    code = ("import pathlib\n"
            "from pictures import spectra\n"
            f"spectra._cache_folders = lambda: [pathlib.Path({str(blocked / 'below')!r})]\n"
            "print(spectra._librosa().__name__)\n"
            "import numba\n"
            "print(numba.config.CACHE_DIR)")
    name, folder = ran(code, NUMBA_CACHE_DIR=str(blocked / "below")).split()
    assert name == "librosa" and "numba-" in folder
    assert not Path(folder).exists()  # gone with the process


def test_an_unknown_backend_of_pyplots_does_no_harm(tmp_path):
    code = ("import os, numpy, audio_utils\n"
            "audio = numpy.sin(numpy.arange(16000) / 5)\n"
            f"save = dict(output_dir={str(tmp_path)!r}, labelled=True)\n"
            "audio_utils.save_rainbowgram_plot(audio, filename='a', **save)\n"
            "audio_utils.save_encoding_plot(numpy.zeros((2, 9, 16)), 'b', **save)\n"
            "print(os.environ['MPLBACKEND'])")
    assert ran(code, MPLBACKEND="junk").strip() == "junk"
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "b.png"}


# Rainbowgrams


@pytest.mark.parametrize("frequency", [110.0, 440.0, 1000.0, 2637.0])
def test_a_steady_tone_keeps_one_colour(frequency):
    dphase, brightness = phase_and_brightness(tone(frequency, 2))
    middle = slice(dphase.shape[1] // 4, -dphase.shape[1] // 4)
    bright = brightness[:, middle] > 0.8
    assert bright.all(1).sum() >= 3  # a line through the whole picture
    expected = (frequency * 2 * 256 / RATE + 1) % 2 - 1  # half turns
    assert np.abs(dphase[:, middle][bright] - expected).max() < 0.02


@pytest.mark.parametrize("frequency", [440.0, 531.25, 593.75])
def test_a_steady_tone_is_painted_in_one_colour(tmp_path, frequency):
    # 531.25 and 593.75 Hz advance by exactly half a turn: 8.5 and 9.5 turns in 256 samples
    noise = np.random.default_rng(6).normal(size=2 * RATE) * 1e-3
    picture = read_png(save_rainbowgram_plot(tone(frequency, 2) + noise, RATE, "t", tmp_path))
    row = round(960 * (1 - math.log2(frequency / spectra.lowest(RAINBOWGRAM)) / 6))
    colours = picture[row, 100:-100]
    assert colours.max(1).min() > 0.5 and np.ptp(colours, axis=0).max() < 0.1


def test_a_gliding_tone_runs_through_the_colours():
    dphase, brightness = phase_and_brightness(chirp(400, 1600, 2))
    bin_, column = np.nonzero(brightness > 0.9)
    values = dphase[bin_, column]
    assert np.histogram(values, 8, (-1, 1))[0].min() > 0.05 * len(values) / 2


def test_silence_is_black_and_a_quiet_hum_is_not_amplified_to_full_brightness():
    assert phase_and_brightness(np.zeros(RATE))[1].max() == 0
    assert phase_and_brightness(tone(440, amplitude=1e-5))[1].max() < 0.7
    loud, quiet = (phase_and_brightness(tone(440, amplitude=a))[1] for a in (0.5, 0.05))
    np.testing.assert_allclose(loud, quiet, atol=1e-3)  # brightness is relative to the loudest


def test_rainbowgram_picture_shows_tones_where_they_are(tmp_path):
    sound = np.concatenate([tone(130.8), np.zeros(RATE), tone(2093.0)])
    picture = read_png(save_rainbowgram_plot(sound, RATE, "three", tmp_path))
    assert picture.shape == (960, 1280, 3)
    brightness = picture.max(2)
    low, high = int(960 * (1 - 1.5 / 6 + 0.5 / 6)), int(960 * (1 - 5 / 6))
    first, second, third = brightness[:, 100:330], brightness[:, 600:680], brightness[:, 950:1180]
    assert abs(first.mean(1).argmax() - low) <= 8 and abs(third.mean(1).argmax() - high) <= 8
    assert second.max() < 0.5 < first.max()


def test_spectrogram_picture_shows_tones_where_they_are(tmp_path):
    sound = np.concatenate([tone(130.8, 4), tone(1046.5, 4)])
    picture = read_png(save_spectrogram_plot(sound, RATE, "two.png", tmp_path)).sum(2)
    first, second = picture[:, 200:400].mean(1), picture[:, 900:1100].mean(1)
    assert abs(first.argmax() - 960 * 4 / 5) <= 8 and abs(second.argmax() - 960 * 1 / 5) <= 8


# Colours


def test_the_colours_are_matplotlibs():
    import matplotlib

    table = matplotlib.colormaps["magma"](np.arange(256), bytes=True)[:, :3]
    assert np.array_equal(spectra.magma(), table)
    theirs = 255 * matplotlib.colormaps["rainbow"](np.linspace(0, 1, 232))[:, :3]
    ours = spectra.rainbow()
    assert np.abs(ours[12:-12] - theirs).max() < 3
    assert np.abs(np.diff(ours, axis=0, append=ours[:1])).max() < 11  # and round without a jump


def test_a_spectrogram_is_as_bright_as_the_transform_is_loud():
    sound = tone(440, 2) + tone(1000, 2, amplitude=0.005)
    spectrum = spectra.spectrogram(sound, RATE, 512)
    level = np.abs(constant_q(sound, RATE, 512, SPECTROGRAM))
    level = 20 * np.log10(level / level.max())
    shown = spectra.magma().astype(int)
    for row, column in ((88, 30), (126, 30), (110, 20), (20, 40)):
        nearest = np.abs(shown - spectrum.pixels[row, column]).sum(1).argmin()
        assert nearest == pytest.approx(255 * np.clip(level[row, column] / 80 + 1, 0, 1), abs=1.5)
    assert (spectrum.length, spectrum.seconds) == (2 * RATE / 512, 2)


def test_a_long_sound_costs_no_more_columns_than_are_drawn():
    assert spectra.rainbowgram(tone(440, 1)).pixels.shape == (240, 252, 3)
    assert spectra.rainbowgram(tone(440, 20)).pixels.shape[1] < 1.1 * spectra.COLUMNS


def test_a_rainbowgram_on_matplotlibs_axes_knows_its_seconds_and_octaves():
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    draw_rainbowgram(axes, tone(440, 2), RATE)
    image, = axes.get_images()
    left, right, bottom, top = image.get_extent()
    assert axes.get_xlim() == (0, 2) and left < 0 and right > 2
    row = (math.log2(440 / spectra.lowest(RAINBOWGRAM)) - bottom) / (top - bottom) * 240
    assert abs(image.get_array()[..., :3].max(2)[:, 250].argmax() - math.floor(row)) <= 1


# Sheets


def cells(*sounds, kind="mix", titles=None):
    titles = titles or [str(place) for place in range(len(sounds))]
    return [Cell(spectra.rainbowgram(sound), title, kind) for sound, title in zip(sounds, titles)]


def drawn(sheet, *arguments, **options):
    """The Matplotlib figure of which a sheet is the image."""
    with sheets.styled():
        figure = sheet.__wrapped__(*arguments, **options)
        figure.canvas.draw()
    return figure


def texts(figure):
    from matplotlib.text import Text

    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text()]


def frames(picture, colour=(1, 0.498, 0.055)):
    """Left, top, right and bottom of every frame of that colour."""
    from scipy import ndimage

    marks, _ = ndimage.label(np.abs(picture - np.array(colour)).max(2) < 0.02)
    return [(box[1].start, box[0].start, box[1].stop, box[0].stop)
            for box in ndimage.find_objects(marks) if box[0].stop - box[0].start > 20]


def tones_in(cell, pitches):
    """Which of the pitches a rainbowgram shows."""
    level = cell.max(2)[:, 8:-8].mean(1)
    rows = [round(len(level) * (1 - math.log2(pitch / 65.4) / 6)) for pitch in pitches]
    return [pitch for pitch, row in zip(pitches, rows) if level[row - 4:row + 5].max() > 0.5]


def test_the_square_has_every_cell_in_its_place(tmp_path):
    pitches = (130.8, 523.3, 2093.0)
    sources = [tone(pitch) for pitch in pitches]
    mixes = {(i, j): spectra.rainbowgram((sources[i] + sources[j]) / 2)
             for i in range(3) for j in range(3) if i != j and (i, j) != (2, 0)}
    image = sheets.square(cells(*sources, kind="source"), ["low", "mid_$x^2", "high" * 20],
                          mixes)
    picture = read_png(save_picture(image, "overview", tmp_path))
    places = sorted(frames(picture))
    assert len(places) == 3
    for i, (_, top, _, bottom) in enumerate(places):
        for j, (left, _, right, _) in enumerate(places):
            cell = picture[top:bottom, left:right]
            if (i, j) == (2, 0):
                assert np.abs(cell[8:-8, 8:-8] - 0.94).max() < 0.01
                continue
            assert tones_in(cell, pitches) == [pitches[k] for k in sorted({i, j})]


def test_strips_show_each_row_in_order(tmp_path):
    low, middle, high = 130.8, 523.3, 2093.0
    row = [*cells(tone(low), kind="source"), *cells(tone(low) + tone(high), tone(middle)),
           *cells(tone(high), kind="source")]
    for rows in ([row], [row] * 5):
        picture = read_png(save_picture(sheets.strips(rows, "a note"), "strips", tmp_path))
        places = sorted(frames(picture), key=lambda box: (box[1], box[0]))
        assert len(places) == 2 * len(rows)
        first, last = places[:2]
        width = last[2] - last[0]
        step = (last[0] - first[0]) / 3
        found = []
        for place in range(4):
            left = round(first[0] + place * step)
            found.append(tones_in(picture[first[1]:first[3], left:left + width],
                                  (low, middle, high)))
        assert found == [[low], [low, high], [middle], [high]]


def test_a_long_path_goes_on_in_the_next_line():
    sound = cells(tone(440, 0.2))[0]
    image = sheets.strips([[Cell(sound.spectrum, f"{i} of 40") for i in range(1, 41)]])
    assert 0.5 < image.width / image.height < 3


@pytest.mark.parametrize("count", [1, 2, 3, 7, 12, 50, 200])
def test_a_contact_sheet_of_any_number_is_neither_a_tower_nor_a_ribbon(count):
    spectrum = spectra.spectrogram(tone(440, 0.5), RATE, 512)
    image = sheets.strips([[Cell(spectrum, str(i))] for i in range(count)])
    assert count < 3 or 0.6 < image.width / image.height < 2.4
    assert max(image.size) < 4000


def test_names_too_long_for_their_cells_become_numbers_that_are_explained():
    sound = cells(tone(440, 0.2), kind="source")[0]
    short, long = (sheets.square([sound] * 9, [f"{i}{word}" for i in range(9)], {})
                   for word in ("", "-a-name-that-no-cell-can-hold"))
    assert long.width == short.width and long.height > short.height + 15  # room for the legend


def test_sheets_refuse():
    sound = cells(tone(440, 0.2))[0]
    with pytest.raises(InputError, match="1 sounds and 2 names"):
        sheets.square([sound], ["a", "b"], {})
    for pair in ((0, 0), (0, 2), (-1, 0)):
        with pytest.raises(InputError, match="A mix is of two"):
            sheets.square([sound, sound], ["a", "b"], {pair: sound.spectrum})


def test_seconds_are_round_and_not_too_many():
    spectrum = spectra.rainbowgram(tone(440, 0.2))
    for seconds in (0.003, 0.7, 1, 4.99, 28, 61, 3600):
        axes = drawn(sheets.labelled, dataclasses.replace(spectrum, seconds=seconds)).axes[0]
        marks = dict(zip([label.get_text() for label in axes.get_xticklabels()],
                         axes.get_xticks()))
        assert 2 <= len(marks) <= 8 and axes.get_xlim() == (0, seconds)
        assert all(0 <= place <= seconds * (1 + 1e-9) for place in marks.values())
        assert all(float(words) == pytest.approx(place, rel=1e-5, abs=1e-9)
                   for words, place in marks.items())
        if seconds == 1:
            assert list(marks) == ["0", "0.2", "0.4", "0.6", "0.8", "1"]


NOTES = {"pitches": np.array([60, 64, 67, 72]), "velocities": np.array([127, 127, 127, 20]),
         "start_times": np.array([0.0, 1.0, 2.0, 3.0]), "end_times": np.array([1.0, 2.0, 3.0, 4.0])}


def test_score_sheet_draws_each_note_in_its_instruments_colour(tmp_path):
    sound = np.concatenate([tone(440 * 2 ** ((p - 69) / 12)) for p in NOTES["pitches"]])
    image = sheets.score_sheet([Score(NOTES, sound, [0, 2], ["3", "$7_"], "a_$b")])
    picture = np.asarray(image)[:430].astype(int)

    def area(colour):
        return (np.abs(picture - np.array(colour)).max(2) <= 2).sum()

    first, second = sheets.INSTRUMENT_COLOURS[:2]
    between = np.rint((np.array(first) + second) / 2)
    note = area(first)
    assert note > 2000
    assert area(between) == pytest.approx(note, rel=0.1)
    assert area(second) == pytest.approx(note, rel=0.1)
    pale = 255 - (255 - np.array(second)) * (0.35 + 0.65 * 20 / 127)
    assert area(pale) == pytest.approx(note, rel=0.1)


LONG = [f"{place} a name that no cell can hold, ${name}_^"
        for place, name in enumerate("abcdefghi")]
NOTE = "framed orange: the sounds; elsewhere: the row's sound mixed with the column's"


def every_kind_of_sheet():
    spectrum = spectra.rainbowgram(tone(440, 1))
    level = spectra.spectrogram(tone(440, 3.3), RATE, 512)
    source, mix = Cell(spectrum, "a_$b^2", "source"), Cell(spectrum, "with")
    everything = {(i, j): spectrum for i in range(9) for j in range(9) if i != j}
    few = {(i, j): spectrum for i, j in everything if max(i, j) < 4}
    yield drawn(sheets.labelled, spectrum, "a_$b^2"), ["a_$b^2", "C2", "2093", "Hz", "seconds"]
    yield drawn(sheets.labelled, level, "w" * 200), ["C2", "1047", "\u221280"]
    yield drawn(sheets.square, [source] * 4, ["a_$b^2", *"bcd"], few, NOTE), [
        "a_$b^2", "d", "0.5", "C4", NOTE]
    yield drawn(sheets.square, [source, None], ["a", "b"], {}, NOTE), ["b", "0.5"]
    yield drawn(sheets.square, [source] * 9, LONG, everything, NOTE), ["9", *LONG]
    steps = [source, *[Cell(spectrum, f"{step} of 5") for step in range(1, 6)], source]
    for row, count in ((steps, 1), (steps, 6), ([source, mix, source], 12), ([source, mix], 1),
                       ([source, *[mix] * 40, source], 1)):
        yield drawn(sheets._strips, [row] * count, NOTE), ["a_$b^2", row[-1].title, "C2", "0"]
    yield drawn(sheets._strips, [[Cell(level, words)] for words in LONG], NOTE), ["9", *LONG]
    for count in (1, 4, 100):
        yield drawn(sheets._strips, [[Cell(level, str(i))] for i in range(count)], NOTE), [
            str(count - 1), "dB below the loudest"]
    sound = tone(440, 4)
    five = Score(NOTES, sound, [0, 1, 2, 3, 4], ["1", "$x_", "long" * 12, "left-out", "the-end"])
    yield drawn(sheets.score_sheet, [five]), ["1", "$x_", "long" * 12, "the-end", "score", "C4"]
    yield drawn(sheets.score_sheet, [Score(NOTES, sound, np.linspace(0, 4, 300))]), ["1"]
    for count in (2, 3, 8):
        yield drawn(sheets.score_sheet, [Score(NOTES, sound, [0, 4], title="a_$b")] * count), [
            "a_$b", "1", "2", "seconds"]


def test_every_sheet_says_what_it_shows_legibly():
    for figure, words in every_kind_of_sheet():
        found = texts(figure)
        whole = " ".join(text.get_text() for text in found).replace("\xa0", " ").split()
        assert all(word in whole for line in words for word in line.split())
        boxes = np.array([text.get_window_extent().padded(1).extents for text in found])
        width, height = figure.canvas.get_width_height()
        assert boxes.min() >= 0 and boxes[:, 2].max() <= width and boxes[:, 3].max() <= height
        left, low, right, high = boxes.T[..., None]
        over = np.triu((left < right.T) & (left.T < right) & (low < high.T) & (low.T < high), 1)
        assert not over.any(), [[found[place].get_text() for place in pair]
                                for pair in np.argwhere(over)]
        assert min(text.get_fontsize() for text in found) >= 7


def test_score_sheet_of_odd_scores():
    nothing = {key: np.array([]) for key in NOTES}
    many = np.linspace(0, 4, 300)
    for notes, times in ((nothing, ()), (NOTES, many), (NOTES, [1.0]), (NOTES, [0, 0, 9])):
        image = sheets.score_sheet([Score(notes, tone(440, 4), times)], dpi=60)
        assert image.size == (720, 450)
    for count in (2, 3, 8):
        image = sheets.score_sheet([Score(NOTES, tone(440, 4), title="a")] * count, dpi=60)
        assert 0.6 < image.width / image.height < 2.5
    with pytest.raises(InputError, match="2 instruments and 1 names"):
        Score(NOTES, tone(440), [0, 1], ["a"])


def test_dark_sheets_are_dark_and_show_the_same():
    cell = cells(tone(440), kind="source")[0]
    score = Score(NOTES, tone(440, 4), [0, 2], title="a")
    for sheet, arguments in ((sheets.square, [[cell] * 2, ["a", "b"], {}]),
                             (sheets.strips, [[[cell]]]), (sheets.score_sheet, [[score]]),
                             (sheets.labelled, [cell.spectrum, "a"])):
        light, dark = (np.asarray(sheet(*arguments, dark=which), int) for which in (False, True))
        assert light.shape == dark.shape
        assert (light[0] == 255).all() and (dark[0] < 30).all()  # the margin
        words = dark[(light < 60).all(2)]  # black words and black pictures
        assert (words > 200).all(1).sum() > 50
    assert (np.asarray(sheets.square([cell], ["a"], {})) == 255).all(2).any()  # no setting stays


def test_a_labelled_picture_has_its_scale_only_where_wanted():
    spectrum = spectra.rainbowgram(tone(440))
    full, bare = (drawn(sheets.labelled, spectrum, "a", scale=scale) for scale in (True, False))
    assert len(full.axes) == len(bare.axes) + 1
    assert any("gliding" in text.get_text() for text in texts(full))
    assert not any("gliding" in text.get_text() for text in texts(bare))
    # in a card 320 pixels wide a letter of that size is 9 pixels high or more
    assert min(text.get_fontsize() for text in texts(bare)) * 320 / (6.4 * 72) >= 9


# Long sounds, and many ------------------------------------------------------------------------


@pytest.mark.parametrize("transform, hop", [(RAINBOWGRAM, 256), (SPECTROGRAM, 2048)])
def test_a_long_sound_is_transformed_in_parts_with_the_same_result(monkeypatch, transform, hop):
    times = np.arange(200_000) / 16000
    audio = np.float32(0.3 * np.sin(2 * np.pi * (100 + 30 * times) * times)
                       + 0.02 * np.random.default_rng(0).normal(size=len(times)))
    whole = constant_q(audio, 16000, hop, transform)
    for columns, samples in ((61, 1 << 30), (1 << 30, 50_000)):
        monkeypatch.setattr(spectra, "_AT_ONCE", columns)
        monkeypatch.setattr(spectra, "_SAMPLES_AT_ONCE", samples)
        assert np.abs(constant_q(audio, 16000, hop, transform) - whole).max() < 1e-5 * np.abs(
            whole).max()


def test_a_smaller_spectrum_shows_the_same():
    pixels = np.repeat(np.arange(240, dtype=np.uint8)[:, None, None], 640, axis=1).repeat(3, axis=2)
    small = spectra.smaller(spectra.Spectrum(pixels, 639.5, 10.0, RAINBOWGRAM))
    assert small.pixels.shape == (120, 160, 3) and small.seconds == 10.0
    assert small.length == pytest.approx(639.5 / 4)
    assert np.abs(small.pixels[:, 80, 0] - (2 * np.arange(120) + 0.5)).max() <= 0.5


def test_very_many_strips_are_sheets_below_each_other():
    spectrum = spectra.Spectrum(np.full((240, 9, 3), 200, np.uint8), 8.0, 1.0, RAINBOWGRAM)
    rows = [[Cell(spectrum, f"{row}"), Cell(spectrum, "with")] for row in range(7)]
    several = sheets.strips(rows, "a note", most=6)
    parts = [sheets.strips(rows[first:first + 3], "a note" if first == 6 else "")
             for first in (0, 3, 6)]
    assert several.height == sum(part.height for part in parts)
    assert several.width == max(part.width for part in parts)
    bottom = several.crop((0, several.height - parts[2].height, parts[2].width, several.height))
    assert np.array_equal(np.asarray(bottom), np.asarray(parts[2]))
