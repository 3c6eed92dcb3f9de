"""The page to listen on: whole in one file, and an instrument in a browser.

The browser tests need Chromium or Chrome; the one of accessibility also axe-core, whose file
`axe.min.js` is found by the variable AXE_CORE:

    npm install --prefix /tmp/node axe-core eslint
    AXE_CORE=/tmp/node/node_modules/axe-core/axe.min.js python -m pytest tests/test_page.py
    cd companion/page && /tmp/node/node_modules/.bin/eslint page.js
"""

import base64
import html.parser
import http.server
import importlib
import io
import json
import os
import queue
import re
import shutil
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image
from test_examples import ONE, TWO, call, midi
from test_examples import tone as wav

import audio_utils
from companion import page as room
from companion.page import reports, rolls
from companion.record import Planned, Record

BROWSER = next(filter(None, map(shutil.which, (
    "chromium", "chromium-browser", "google-chrome", "chrome"))), None)
AXE = os.environ.get("AXE_CORE")
NAMES = ["bass", "flute", "<b>bell</b> & \"co\""]

# What stands around a probe: its result, or what went wrong, goes to the test's own server.
HARNESS = """
<script>
addEventListener("load", async () => {
  const $ = selector => document.querySelector(selector);
  const $$ = selector => [...document.querySelectorAll(selector)];
  const wait = seconds => new Promise(resolve => setTimeout(resolve, 1000 * seconds));
  const press = key => document.activeElement.dispatchEvent(
    new KeyboardEvent("keydown", {key, bubbles: true, cancelable: true}));
  const until = async (what, seconds = 20) => {
    const end = performance.now() + 1000 * seconds;
    while (!what()) {
      if (performance.now() > end) throw Error("waited for " + what);
      await wait(0.02);
    }
  };
  const playing = place => until(() => document.body.dataset.playing === String(place));
  const requests = () => performance.getEntriesByType("resource").filter(
    entry => !/^(data|blob):/.test(entry.name)).map(entry => entry.name);
  let answer;
  try {
    answer = await (async () => { PROBE })();
  } catch (error) {
    answer = {error: String(error)};
  }
  answer.requests = requests();
  fetch("ADDRESS", {method: "POST", mode: "no-cors", body: JSON.stringify(answer)});
});
</script>
"""


class Parsed(html.parser.HTMLParser):
    """Tags with their attributes."""

    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def all(self, tag, **wanted):
        return [found for name, found in self.tags if name == tag
                and all(found.get(key) == value for key, value in wanted.items())]


def tone(hertz, seconds=1.0, level=0.5):
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(16000 * seconds)) / 16000)
            ).astype(np.float32)


def new_record(folder, starter=True, **settings):
    return Record(7, folder, "shipped starter", starter, "python example.py --sounds 'a & b.wav'",
                  {"sounds typed": "<script>alert(1)</script>", **settings}, quiet=True)


def planned(folder, name, title, kind, sources=(), shares=(), audio=None):
    path = folder / f"{name}.wav"
    if audio is not None:
        audio_utils.save_wav(audio, path, 16000)
    return Planned(path, title, kind, sources, shares)


def reconstructions(folder, names):
    return [planned(folder, f"r{place}", f"{name}, reconstructed", "reconstruction", (place,), (1,),
                    tone(220 + 50 * place, level=0.1)) for place, name in enumerate(names)]


@pytest.fixture(scope="module")
def default(tmp_path_factory):
    """A page of three sounds and their six mixes, from -26 to -3 dB."""
    folder = tmp_path_factory.mktemp("nsynth")
    audios = [tone(110 * (place + 1), level=0.7 / 4 ** place) for place in range(3)]
    pairs = [(a, b) for a in range(3) for b in range(3) if a != b]
    clips = reconstructions(folder, NAMES) + [
        planned(folder, f"m{a}{b}", f"{NAMES[a]} with {NAMES[b]}", "mix", (a, b), (2 / 3, 1 / 3),
                tone(330 + 20 * a + b, level=0.9 / (1 + 3 * b))) for a, b in pairs]
    return reports.nsynth_page(new_record(folder), NAMES, audios, clips)


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    folder = tmp_path_factory.mktemp("steps")
    clips = [planned(folder, f"s{step}", title, "step", (0, 1), (1 - step / 4, step / 4),
                     tone(220 + 55 * step))
             for step, title in enumerate(("100 % bass", "75 % bass, 25 % flute",
                                           "50 % bass, 50 % flute", "25 % bass, 75 % flute",
                                           "100 % flute"))]
    return reports.nsynth_page(new_record(folder), NAMES[:2], [tone(230), tone(450)], clips)


@pytest.fixture(scope="module")
def crossfade(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crossfade")
    clips = reconstructions(folder, NAMES[:2]) + [
        planned(folder, "c", "bass becomes flute", "crossfade", (0, 1), (1, 1), tone(300))]
    return reports.nsynth_page(new_record(folder), NAMES[:2], [tone(220), None], clips)


NOTES = {"pitches": np.array([48, 60, 67]), "velocities": np.array([100, 60, 20]),
         "start_times": np.array([0.0, 1.0, 2.0]), "end_times": np.array([1.0, 2.0, 3.0])}


@pytest.fixture(scope="module")
def score(tmp_path_factory):
    folder = tmp_path_factory.mktemp("score")
    clips = [planned(folder, "prelude", "prelude", "score", audio=tone(220, 4))]
    return reports.gansynth_page(new_record(folder, starter=False), clips, [NOTES], [tone(220, 4)],
                                 [((3, 7, 1), (0.0, 1.2, 3.0))])


@pytest.fixture(scope="module")
def preview(tmp_path_factory):
    folder = tmp_path_factory.mktemp("preview")
    audios = [np.pad(tone(110 * (number + 1), 1.5), (0, 48000)) for number in range(3)]
    clips = [planned(folder, f"i{number}", f"instrument {number + 1}", "preview", audio=audio)
             for number, audio in enumerate(audios)]
    keys = [[(48, tone(131, 4 - k)), (56, tone(208, 4 - k)), (64, tone(330, 4 - k))]
            for k in (0, 2.5, 3)]
    return reports.gansynth_page(new_record(folder), clips, [NOTES] * 3, audios,
                                 [((number,), (0.0, 3.0)) for number in (1, 2, 3)], keys)


PAGES = ["default", "steps", "crossfade", "score", "preview"]


@pytest.fixture
def page(request):
    return request.getfixturevalue(request.param)


def text_of(path):
    return path.read_text("utf-8")


def data_of(path):
    found = re.search(r'<script type="application/json" id="clips">(.*?)</script>', text_of(path))
    return json.loads(found[1])


def embedded(path):
    """The sounds in the page."""
    found = re.findall(r'src="data:audio/(?:wav|flac);base64,([^"]+)"', text_of(path))
    return [soundfile.read(io.BytesIO(base64.b64decode(part)))[0] for part in found]


# The file ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("page", PAGES, indirect=True)
def test_the_page_needs_nothing_but_itself(page):
    for _, attributes in Parsed(text_of(page)).tags:
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith(("data:", "#")), attributes
    assert "http" not in re.sub(r"base64,[^\"]+", "", text_of(page))
    assert not list(page.parent.glob("*.part"))


@pytest.mark.parametrize("page", PAGES, indirect=True)
def test_every_sound_and_every_picture_is_there_once(page):
    contents = re.findall(r"base64,([^\"]{40,})", text_of(page))
    assert len(contents) == len(set(contents)) >= 2 * len(data_of(page))
    assert len(embedded(page)) == len(data_of(page))


@pytest.mark.parametrize("page", PAGES, indirect=True)
def test_pictures_are_webp_of_the_size_they_say(page):
    for image in Parsed(text_of(page)).all("img"):
        if "src" not in image:
            continue
        assert image["src"].startswith("data:image/webp;base64,")
        content = base64.b64decode(image["src"].split(",")[1])
        assert Image.open(io.BytesIO(content)).size == (int(image["width"]), int(image["height"]))


@pytest.mark.parametrize("page", PAGES, indirect=True)
def test_no_two_sounds_share_a_name(page):
    names = [button["aria-label"] for button in Parsed(text_of(page)).all("button")
             if "data-clip" in button]
    titles = [clip["title"] for clip in data_of(page)]
    assert len(set(titles)) == len(titles) and set(names) <= set(titles)


def test_what_the_user_typed_is_text_and_not_markup(default):
    text = text_of(default)
    assert "<script>alert(1)</script>" not in text and "&lt;script&gt;alert(1)" in text
    assert "<b>bell</b>" not in text and data_of(default)[2]["title"].startswith("<b>bell</b>")


@pytest.mark.parametrize("page", PAGES, indirect=True)
def test_playback_is_levelled_within_a_decibel_and_never_above_full_scale(page):
    levels = []
    for audio, clip in zip(embedded(page), data_of(page)):
        assert np.abs(audio).max() * clip["gain"] <= 1
        levels.append(20 * np.log10(np.sqrt(np.mean(audio ** 2)) * clip["gain"]))
    assert max(levels) - min(levels) < 1


def test_silence_and_sharp_sounds_are_levelled_without_clipping():
    click = np.zeros(16000, np.float32)
    click[100:110] = 0.9
    gains = room.playback_gains([np.zeros(16000, np.float32), click, tone(220)])
    assert gains[0] == 1 and gains[1] * 0.9 <= 1
    assert np.isclose(gains[1] * np.sqrt(np.mean(click ** 2)),
                      gains[2] * np.sqrt(np.mean(tone(220) ** 2)), rtol=1e-3)


def test_titles_shares_and_durations_are_words(default, steps):
    assert {clip["note"] for clip in data_of(default)[6:]} >= {"67 % bass, 33 % flute · 1.0 s"}
    assert [clip["title"] for clip in data_of(steps)][3] == "bass to flute: 75 % bass, 25 % flute"
    assert "0:00" not in text_of(default)


def test_the_hiss_is_explained_only_where_the_starter_plays(default, score):
    assert "small network that ships" in text_of(default) and "--temperature" in text_of(default)
    assert "small network that ships" not in text_of(score)


def test_one_sound_without_a_mix_does_not_become_two(tmp_path):
    made = reports.nsynth_page(new_record(tmp_path, stretch=2), ["bass"], [tone(110)],
                               reconstructions(tmp_path, ["bass"]))
    assert "two sounds become one" not in text_of(made) and "1 sound was encoded" in text_of(made)


def test_a_clip_that_was_not_finished_is_left_out(tmp_path):
    clips = reconstructions(tmp_path, ["a", "b"]) + [
        planned(tmp_path, "gone", "a with b", "mix", (0, 1), (0.5, 0.5)),
        planned(tmp_path, "half", "b with a", "mix", (1, 0), (0.5, 0.5))]
    audio_utils.save_wav(tone(220, 0.4), tmp_path / "half.partial.wav", 16000)
    record = new_record(tmp_path)
    record.stopped, record.resume = True, "python example.py --resume"
    made = reports.nsynth_page(record, ["a", "b"], [tone(110), tone(220)], clips)
    data = data_of(made)
    assert [clip["title"] for clip in data][4:] == ["b with a"]
    assert data[4]["note"] == "as far as it got · 0.4 s"
    text = text_of(made)
    assert "2 of 4 clips are finished; 1 as far as it got, framed in dashes; missing: a with b" in (
        text)
    assert re.findall(r'class="(cell [^"]*partial)" data-clip="(\d)"', text) == [
        ("cell mix partial", "4")]
    assert "To go on with this run:" in text and "--resume" in text.split('id="command"')[1][:200]
    assert reports.nsynth_page(record, ["a"], [tone(110)], clips[2:3]) is None
    assert (tmp_path / "overview.png").is_file()


def test_instruments_have_the_numbers_and_times_of_the_run(score):
    labels = [button["aria-label"] for button in Parsed(text_of(score)).all("button")
              if "data-seek-to" in button]
    assert labels == ["instrument 3 0.0 s", "instrument 7 1.2 s", "instrument 1 3.0 s"]
    marks = rolls.instrument_marks([0, 4], ["5", "5"], 6.0)
    assert [(time, mark.name) for time, mark in marks] == [(0.0, "5")]


def test_a_single_note_is_one_note(tmp_path):
    notes = {key: value[:1] for key, value in NOTES.items()}
    made = reports.gansynth_page(
        new_record(tmp_path), [planned(tmp_path, "a", "a", "score", audio=tone(220))], [notes],
        [tone(220)], [((), (0.0, 1.0))])
    assert "1 note ·" in text_of(made) and "1 notes" not in text_of(made)


def test_previews_end_where_their_sound_ends(preview):
    assert [round(len(audio) / 16000, 1) for audio in embedded(preview)] == [1.6, 1.6, 1.6]


def test_a_path_is_one_row_for_each_pair(tmp_path):
    clips = [planned(tmp_path, f"{a}{b}{step}", f"{a}{b}{step}", "step", (a, b),
                     (1 - step / 8, step / 8), tone(220 + step))
             for a, b in ((0, 1), (1, 2)) for step in range(9)]
    made = reports.nsynth_page(new_record(tmp_path), list("abc"), [tone(99 + i) for i in range(3)],
                               clips)
    rows = re.findall(r"<tr>(.*?)</tr>", text_of(made).split('class="settings"')[0], re.S)
    assert [row.count("data-clip=") for row in rows] == [11, 11]


def test_a_page_of_twelve_sounds_is_one_board(tmp_path, monkeypatch):
    drawn = reports.rainbowgram(tone(200, 0.1), 16000)     # one for all: drawing 144 takes long
    monkeypatch.setattr(reports, "rainbowgram", lambda audio, rate: drawn)
    names = [f"n{place}" for place in range(12)]
    clips = [planned(tmp_path, f"m{a}-{b}", f"{names[a]} with {names[b]}", "mix", (a, b),
                     (2 / 3, 1 / 3), tone(200 + a * 12 + b, 0.1))
             for a in range(12) for b in range(12) if a != b]
    made = reports.nsynth_page(new_record(tmp_path), names,
                               [tone(100 + place, 0.1) for place in range(12)], clips)
    assert text_of(made).count('role="grid"') == 1 and len(data_of(made)) == 144


# As the command line makes them ------------------------------------------------------------------


def made_by(folder, script, *words):
    call(importlib.import_module(script.removesuffix(".py")), *words, "--seed", 7,
         "--output", folder)
    return folder / "index.html"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Two sounds with numbers in their names, as a sampler saves them."""
    folder = tmp_path_factory.mktemp("recorded")
    return [wav(folder / "01_kick.wav", 110), wav(folder / "02_snare.wav", 220)]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory, recorded):
    return made_by(tmp_path_factory.mktemp("mixed"), ONE, "--sounds", *recorded, "--seconds", 0.3)


@pytest.fixture(scope="module")
def stretched(tmp_path_factory, recorded):
    return made_by(tmp_path_factory.mktemp("stretched"), ONE, "--sounds", recorded[0],
                   "--seconds", 0.2, "--stretch", 2)


@pytest.fixture(scope="module")
def walked(tmp_path_factory, recorded):
    return made_by(tmp_path_factory.mktemp("walked"), ONE, "--sounds", *recorded, "--seconds", 0.1,
                   "--steps", 9)


@pytest.fixture(scope="module")
def encoded(tmp_path_factory, mixed):
    return made_by(tmp_path_factory.mktemp("encoded"), ONE, "--sounds", mixed.parent / "encodings",
                   "--seconds", 0.3)


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    folder = tmp_path_factory.mktemp("played")
    scores = [midi(folder / f"{name}.mid", [(beat, beat + 1, low + beat, 90) for beat in range(20)])
              for name, low in (("air", 48), ("song", 60))]
    return made_by(folder / "out", TWO, "--midi", *scores, "--instruments", "3,7,1@8.0")


@pytest.fixture(scope="module")
def tried(tmp_path_factory):
    return made_by(tmp_path_factory.mktemp("tried"), TWO, "--preview", 2)


MADE = ["mixed", "stretched", "walked", "encoded", "played", "tried"]


@pytest.mark.parametrize("page", MADE, indirect=True)
def test_a_page_is_whole_light_and_says_no_zero_seconds(page):
    text = text_of(page)
    assert "0:00" not in text and "http" not in re.sub(r"base64,[^\"]+", "", text)
    pictures = [image for image in Parsed(text).all("img") if "src" in image]
    contents = [image["src"] for image in pictures]
    assert len(set(contents)) == len(contents) == len(data_of(page))
    for image in pictures:
        picture = Image.open(io.BytesIO(base64.b64decode(image["src"].split(",")[1])))
        assert picture.format == "WEBP"
        assert picture.size == (int(image["width"]), int(image["height"]))
    titles = [clip["title"] for clip in data_of(page)]
    assert len(set(titles)) == len(titles)  # a sound and its reconstruction are told apart
    assert "come from the small network that ships" in text and "--download" in text


@pytest.mark.parametrize("page", MADE, indirect=True)
def test_without_javascript_each_picture_leads_to_a_player(page):
    tags = Parsed(text_of(page))
    players = [player["aria-label"] for player in tags.all("audio")]
    assert players == [clip["title"] for clip in data_of(page)]
    places = {item["id"] for item in tags.all("li") if "id" in item}
    links = {link["href"][1:] for link in tags.all("a") if link.get("class") == "jump"}
    assert links == places and tags.all("details", open=None)


def test_sounds_keep_their_words_and_not_their_numbers(mixed):
    assert [clip["title"] for clip in data_of(mixed)] == [
        "kick", "snare", "kick, decoded again", "snare, decoded again", "kick with snare",
        "snare with kick"]


def test_the_books_sounds_have_words_for_names(tmp_path):
    sounds = [wav(tmp_path / f"{name}.wav", hertz) for name, hertz in (
        ("160045__jorickhoofd__metal-hit-with-metal-bar-resonance", 220),
        ("412017__skymary__cat-meow-short", 330))]
    made = made_by(tmp_path / "out", ONE, "--sounds", *sounds, "--seconds", 0.1)
    assert "metal with cat" in [clip["title"] for clip in data_of(made)]
    assert "160045" not in text_of(made).split('id="command"')[0].split("</style>")[1]


def test_settings_are_those_that_played_a_part(mixed, walked, played):
    def settings(page):
        table = text_of(page).split('class="settings"')[1].split("</table>")[0]
        return re.findall(r'<th scope="row">(.*?)</th>', table)
    assert settings(mixed) == ["sounds", "seconds", "weights", "seed"]
    assert settings(walked) == ["sounds", "seconds", "steps", "weights", "seed"]
    assert settings(played) == ["instruments", "weights", "seed"]


def test_labels_are_in_the_files_and_not_on_the_page(tmp_path, recorded, mixed):
    labelled = made_by(tmp_path / "out", ONE, "--sounds", *recorded, "--seconds", 0.3, "--labels")
    pictures = [[image["src"] for image in Parsed(text_of(page)).all("img") if "src" in image]
                for page in (mixed, labelled)]
    assert pictures[0] == pictures[1]
    assert (labelled.parent / "source_kick.png").read_bytes() != (
        mixed.parent / "source_kick.png").read_bytes()


def test_a_stretched_sound_is_one_sound_and_twice_as_wide(stretched):
    text = text_of(stretched)
    assert "two sounds become one" not in text and "1 sound was encoded" in text
    assert "in every mix" not in text and "2 times as long" in text
    sound, decoded = data_of(stretched)
    assert re.findall(r'data-clip="(\d)"[^>]*width: ([\d.]+)%', text) == [
        ("0", f"{100 * sound['seconds'] / decoded['seconds']:.2f}"), ("1", "100.00")]
    assert decoded["seconds"] > 1.9 * sound["seconds"] and decoded["sources"] == [0]


def test_steps_say_their_shares_and_stand_in_one_line(browse, walked):
    titles = [clip["title"] for clip in data_of(walked)][2:]
    assert titles[0] == "kick to snare: 100 % kick"
    assert titles[2] == "kick to snare: 75 % kick, 25 % snare"
    answer = browse(walked, """
      return {tops: $$("tr").map(row => new Set($$(".cell").filter(cell => row.contains(cell))
                .map(cell => cell.getBoundingClientRect().top)).size),
              cells: $$(".cell").length};""")
    assert answer["tops"][0] == 1 and answer["cells"] == 11


def test_saved_encodings_are_named_and_compared_with_what_was_decoded(encoded):
    data = data_of(encoded)
    assert [clip["title"] for clip in data] == ["kick, decoded again", "snare, decoded again",
                                                "kick with snare", "snare with kick"]
    assert [clip["sources"] for clip in data] == [[], [], [0, 1], [1, 0]]
    assert text_of(encoded).count('<span class="words">kick</span>') == 2  # its row, its column


def test_instruments_are_those_that_were_asked_for(played):
    labels = [button["aria-label"] for button in Parsed(text_of(played)).all("button")
              if "data-seek-to" in button]
    assert labels == ["instrument 3 0.0 s", "instrument 7 4.0 s", "instrument 1 8.0 s"] * 2
    assert [clip["note"] for clip in data_of(played)] == [
        "20 notes · 3 instruments, 4.0 s apart · 13.0 s"] * 2


def test_a_preview_ends_with_its_sound_and_its_keyboard_has_notes(tried):
    for audio in embedded(tried):
        assert np.abs(audio[-4000:]).max() > 1e-3  # of at most a quarter of a second of silence
        assert 4 < len(audio) / 16000 < 5
    keys = [json.loads(found) for found in re.findall(r'id="keys\d">(.*?)</script>',
                                                      text_of(tried), re.S)]
    assert [[pitch for pitch, _ in notes] for notes in keys] == [list(range(36, 85, 8))] * 2


def test_what_an_instrument_list_of_the_page_says_is_taken(browse, tried, tmp_path):
    answer = browse(tried, """
      for (const name of ["2", "1"]) $(`[data-tick="${name}"]`).click();
      return {list: $("#list").textContent};""")
    notes = midi(tmp_path / "air.mid", [(beat, beat + 1, 60, 90) for beat in range(6)])
    call(importlib.import_module("chapter_05_example_02"), "--midi", notes, "--output",
         tmp_path / "out", *answer["list"].split())
    assert "instrument 2 0.0 s" in text_of(tmp_path / "out" / "index.html")


def test_a_preview_has_one_bar(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr("companion.progress.bar", lambda talker, label, *_, **__: (
        shown.append([label]) or (lambda *done: shown[-1].append(done))))
    made_by(tmp_path / "out", TWO, "--preview", 2)
    (label, *steps), = [entry for entry in shown if entry[0].startswith("playing")]
    assert label == "playing 2 instruments" and steps[-1] == (12, 12)
    assert steps == sorted(steps) and steps[0][1] == 12


# In a browser ------------------------------------------------------------------------------------

@pytest.fixture
def browse(tmp_path):
    """Returns a function that opens a page, runs a probe in it and returns what it returned."""
    if BROWSER is None:
        pytest.skip("no Chromium or Chrome on this machine")
    answers = queue.Queue()

    class Listener(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            answers.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Listener)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def run(page, probe, before=""):
        address = f"http://127.0.0.1:{server.server_port}/"
        inside = HARNESS.replace("PROBE", probe).replace("ADDRESS", address)
        probed = tmp_path / "probe.html"
        probed.write_text(text_of(page).replace("</body>", before + inside + "</body>"), "utf-8")
        with open(tmp_path / "log", "wb") as log:
            browser = subprocess.Popen(
                [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
                 "--no-first-run", "--disable-background-networking",
                 "--disable-component-update", "--disable-sync",
                 "--autoplay-policy=no-user-gesture-required", "--enable-logging=stderr",
                 "--remote-debugging-port=0", "--window-size=1280,900",
                 f"--user-data-dir={tmp_path / 'profile'}", probed.as_uri()],
                stdout=log, stderr=log)
            try:
                answer = answers.get(timeout=120)
            except queue.Empty:
                answer = None
            finally:
                browser.terminate()
                browser.wait(30)
        errors = (tmp_path / "log").read_text("utf-8", "replace")
        assert answer is not None, errors[-2000:]
        assert "error" not in answer, answer["error"]
        assert "CONSOLE" not in errors, errors
        assert answer["requests"] == []
        return answer

    yield run
    server.shutdown()


def test_a_click_sounds_and_the_playhead_moves(browse, default):
    answer = browse(default, """
      $('[data-clip="6"]').click();
      await playing(6);
      await until(() => Number($("#position").value) > 0.1);
      const first = Number($("#position").value);
      await until(() => Number($("#position").value) > first);
      const head = getComputedStyle($('.cell.playing .playhead')).opacity;
      await until(() => document.body.dataset.playing === "");
      return {title: $("#title").textContent, head, where: $("#where").textContent,
              compare: $$(".compare button").map(button => button.textContent)};""")
    assert answer["title"] == "bass with flute" and answer["head"] == "1"
    assert answer["where"] == "7 of 12"
    assert answer["compare"] == ["0 mix", "1 bass", "2 flute"]


def test_arrows_walk_and_digits_compare_in_place(browse, default):
    answer = browse(default, """
      $("#loop").click();
      const start = $('.cell[data-clip="6"]');
      start.focus(); start.click();
      await playing(6);
      const seen = [];
      for (const key of ["ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp"]) {
        press(key);
        const place = Number(document.activeElement.dataset.clip);
        await playing(place);
        seen.push(place);
      }
      await until(() => Number($("#position").value) > 0.3);
      press("1"); await playing(0);
      const kept = Number($("#position").value);
      press("2"); await playing(1);
      press("0"); await playing(seen[3]);
      press("Escape"); await playing("");
      return {seen, kept, stops: $$(".board .cell").filter(cell => cell.tabIndex === 0).length,
              looping: $("#loop").getAttribute("aria-pressed")};""")
    assert answer["seen"] == [7, 9, 4, 6] and answer["kept"] > 0.25
    assert answer["stops"] == 1 and answer["looping"] == "true"


def test_the_slider_walks_the_path_while_it_sounds(browse, steps):
    answer = browse(steps, """
      const slider = $("[data-path]"), said = [];
      for (const value of [0, 1, 4]) {
        slider.value = value;
        slider.dispatchEvent(new Event("input"));
        await playing(2 + value);
        said.push(slider.getAttribute("aria-valuetext"));
      }
      return {said, max: slider.max};""")
    assert answer["max"] == "4" and answer["said"] == [
        "bass to flute: 100 % bass", "bass to flute: 75 % bass, 25 % flute",
        "bass to flute: 100 % flute"]


def test_the_keyboard_plays_and_the_list_is_written(browse, preview):
    answer = browse(preview, """
      $('.cell[data-clip="1"]').click(); await playing(1);
      press("a");
      await until(() => document.body.dataset.note);
      const first = document.body.dataset.note;
      document.dispatchEvent(new KeyboardEvent("keyup", {key: "a"}));
      $('[data-pitch="49"]').dispatchEvent(
        new PointerEvent("pointerover", {bubbles: true, buttons: 1}));
      await until(() => document.body.dataset.note !== first);
      const second = document.body.dataset.note;
      press("z");
      press("a");
      await until(() => document.body.dataset.note !== second);
      const lower = document.body.dataset.note, moved = $('[data-letter="a"]').ariaLabel;
      $('[data-octave="1"]').click(); $('[data-octave="1"]').click();
      for (const name of ["3", "1"]) $(`[data-tick="${name}"]`).click();
      return {first, second, lower, moved, list: $("#list").textContent,
              highest: Math.max(...$$("[data-pitch]").map(key => Number(key.dataset.pitch))),
              down: $$(".down").length};""")
    assert answer["first"] == "60 from 56" and answer["second"] == "49 from 48"
    assert answer["lower"] == "48 from 48" and answer["moved"] == "C3"
    assert answer["highest"] == 84 and answer["down"] == 0
    assert answer["list"] == "--instruments 3,1 --seed 7"


def test_a_score_is_heard_from_where_it_is_clicked(browse, score):
    answer = browse(score, """
      $$("[data-seek-to]")[1].click();
      await until(() => Number($("#position").value) > 0);
      const at = Number($("#position").value);
      const box = $(".sound").getBoundingClientRect();
      $(".sound").dispatchEvent(new MouseEvent("click", {bubbles: true,
        clientX: box.left + box.width * 0.75}));
      await until(() => Number($("#position").value) >= 2.9);
      return {at};""")
    assert 1.1 < answer["at"] < 2


TAP = """
      const tap = {}, connect = AudioNode.prototype.connect;
      AudioNode.prototype.connect = function (to, ...rest) {
        if (to !== this.context.destination) return connect.call(this, to, ...rest);
        tap.node ??= new AnalyserNode(this.context, {fftSize: 16384});
        return connect.call(this, tap.node);
      };
      const level = async () => {  // of the last third of a second that went to the loudspeakers
        await wait(0.5);
        const samples = new Float32Array(tap.node.fftSize);
        tap.node.getFloatTimeDomainData(samples);
        return 10 * Math.log10(samples.reduce((sum, x) => sum + x * x, 0) / samples.length);
      };
"""


def test_a_mix_and_its_sounds_are_played_at_one_loudness_and_each_sounds(browse, default):
    answer = browse(default, TAP + """
      $("#loop").click();
      $('[data-clip="6"]').click(); await playing(6);
      const levels = [await level()];
      for (const key of ["1", "2"]) { press(key); levels.push(await level()); }
      $("#level").click();
      const own = [await level()];
      press("1"); own.push(await level());
      return {levels, own};""")
    assert max(answer["levels"]) - min(answer["levels"]) < 1 and min(answer["levels"]) > -40
    assert answer["own"][1] - answer["own"][0] == pytest.approx(12, abs=1)  # 4 times: the files'


def test_a_crossfade_has_one_playhead_over_all_three(browse, crossfade):
    answer = browse(crossfade, """
      $('.time [data-clip="3"]').click(); await playing(3);
      await until(() => Number($("#position").value) > 0.2);
      const cells = $$(".time .cell");
      return {shown: cells.map(cell => getComputedStyle(cell.querySelector(".playhead")).opacity),
              at: cells.map(cell => Number(getComputedStyle(cell).getPropertyValue("--at")))};""")
    assert answer["shown"] == ["1"] * len(answer["at"]) and len(answer["at"]) >= 2
    assert min(answer["at"]) > 0.1 and max(answer["at"]) - min(answer["at"]) < 0.05


def test_a_download_is_the_sound_itself(browse, default):
    answer = browse(default, """
      const link = $('[data-download="6"]');
      addEventListener("click", event => event.preventDefault());
      link.click();
      const sound = new Uint8Array(await (await fetch(link.href)).arrayBuffer());
      return {name: link.download, bytes: sound.length,
              head: String.fromCharCode(...sound.slice(0, 4))};""")
    path = default.parent / answer["name"]
    assert answer["bytes"] == path.stat().st_size and answer["head"] == "RIFF"


def test_only_what_is_played_is_decoded(browse, default):
    """A page of hundreds of clips holds in memory what was listened to."""
    answer = browse(default, """
      const decode = BaseAudioContext.prototype.decodeAudioData, decoded = [];
      BaseAudioContext.prototype.decodeAudioData = function (bytes) {
        decoded.push(bytes.byteLength);
        return decode.call(this, bytes);
      };
      const images = $$("img[id^=picture]");
      $('[data-clip="6"]').click(); await playing(6);
      press("1"); await playing(0);
      press("0"); await playing(6);
      return {decoded, players: $$("audio").length, images: images.length,
              lazy: images.filter(image => image.loading === "lazy").length};""")
    assert len(answer["decoded"]) == 3  # the mix and its two sounds, once each
    assert answer["players"] == 0 and answer["lazy"] == answer["images"] == 12


@pytest.mark.parametrize("page", ["walked", "played"], indirect=True)
def test_the_page_keeps_its_height_while_it_is_scrolled(browse, page):
    answer = browse(page, """
      const height = () => document.documentElement.scrollHeight, heights = [height()];
      for (let at = 0; at < height(); at += 400) {
        scrollTo(0, at);
        await wait(0.05);
        heights.push(height());
      }
      await until(() => $$("img[src]").every(image => image.complete));
      return {heights: [...new Set([...heights, height()])]};""")
    assert len(answer["heights"]) == 1


@pytest.mark.skipif(AXE is None, reason="axe-core is found by the variable AXE_CORE")
@pytest.mark.parametrize("page", PAGES + MADE, indirect=True)
def test_axe_finds_nothing(browse, page):
    answer = browse(page, "return {found: (await axe.run()).violations.map(v => v.id)};",
                    f"<script>{Path(AXE or '').read_text('utf-8')}</script>")
    assert answer["found"] == []
