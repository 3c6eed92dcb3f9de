"""The results page in a headless browser: what a click, a key, the slider and a reload do.

Needs Chromium or Chrome.  The accessibility test needs axe-core, found by the variable AXE_CORE:

    npm install --prefix /tmp/node axe-core eslint
    AXE_CORE=/tmp/node/node_modules/axe-core/axe.min.js python -m pytest tests/test_page.py
    /tmp/node/node_modules/.bin/eslint -c companion/page/eslint.config.js companion/page/page.js
"""

import io
import json
import os
import re
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from browser import CHROMIUM, Browser
from test_reports import (
    bank_clips,
    built,
    crossfade_clips,
    mix_clips,
    preview_extras,
    score_extras,
    step_clips,
)

from companion.clips import Clip
from companion.page import write_index
from companion.page.pitch import pitch_of
from companion.page.reports import Extra

AXE = os.environ.get("AXE_CORE")
NAMES = ["bass", "flute", "<b>bell</b> & \"co\""]


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium or Chrome on this machine")
    browser = Browser()
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A page of each kind, by its name."""
    def page(name, clips, extras=None):
        return built(tmp_path_factory.mktemp(name), clips, extras)

    previews = [Clip(f"instrument{n}", f"instrument {n}", "preview") for n in (1, 2, 3)]
    songs = [Clip("air", "air", "score"), Clip("song", "song", "score")]
    return {
        "mixes": page("mixes", mix_clips(NAMES)),
        "steps": page("steps", step_clips()),
        "crossfade": page("crossfade", crossfade_clips()),
        "score": page("score", songs, {
            "air": score_extras(4, ["3", "7", "1"], [0, 1.2, 3]),
            "song": score_extras(100, [str(n) for n in range(22)], np.linspace(0, 99, 22))}),
        "preview": page("preview", previews, {
            clip.name: preview_extras() for clip in previews}),
        "bank": page("bank", bank_clips(3))}


KINDS = ["mixes", "steps", "crossfade", "score", "preview", "bank"]
MIX = 'const mix = $(".cell.mix"), index = mix.dataset.clip; mix.click(); await playing(index);'


def opened(browser, path, hash_="", **view):
    browser.console.clear()
    browser.open(path.as_uri() + hash_, **view)
    return browser


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("view", [
    {}, {"width": 768, "height": 1024}, {"width": 360, "height": 740, "scheme": "dark"}],
    ids=["wide", "tablet", "phone"])
def test_page_opens_without_messages_requests_or_sideways_scrolling(browser, pages, kind, view):
    opened(browser, pages[kind], **view)
    sizes = browser.run("""
      const player = $(".play, .cell, [data-seek-to]");
      player.click();
      await until(() => document.body.dataset.playing);
      return [document.documentElement.scrollWidth, innerWidth, $(".stage").offsetHeight,
              innerHeight];""")
    assert browser.console == [] and sizes[0] <= sizes[1]
    if view:  # docked, with its keyboard
        assert sizes[2] <= sizes[3] / 3


@pytest.mark.skipif(AXE is None, reason="axe-core is found by the variable AXE_CORE")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_axe_finds_nothing(browser, pages, kind, scheme):
    opened(browser, pages[kind], scheme=scheme)
    browser.run(Path(AXE).read_text("utf-8") + """; window.axe ??= axe;
      $("details").open = true;
      $("#loop").click(); $("#play").click();
      await until(() => document.body.dataset.playing);""")
    assert browser.run(
        "return (await axe.run()).violations.map(found => [found.id, found.nodes[0].html]);") == []


def test_cell_click_plays_and_moves_the_playhead(browser, pages):
    opened(browser, pages["mixes"])
    answer = browser.run(MIX + """
      const said = [$("#play").textContent];
      await until(() => Number($("#position").value) > 0.1);
      const head = getComputedStyle($(".cell.playing .playhead")).opacity;
      $("#play").click();
      const there = Number($("#position").value);
      said.push($("#play").textContent);
      $("#play").click(); await playing(index);
      const resumed = Number($("#position").value);
      await playing("");
      return {said, there, resumed, head, title: $("#title").textContent,
              compare: $$(".compare button").map(button => button.textContent)};""")
    assert answer["said"] == ["Pause", "Play"] and answer["head"] == "1"
    assert answer["there"] <= answer["resumed"] < answer["there"] + 0.2
    assert answer["title"] == "bass, flute"
    assert answer["compare"] == ["0 mix", "1 bass", "2 flute"]


def test_arrow_keys_walk_and_digits_compare_at_the_same_time(browser, pages):
    opened(browser, pages["mixes"])
    answer = browser.run("""
      $("#loop").click();""" + MIX + """
      mix.focus();
      const seen = [$("#title").textContent];
      for (const key of ["ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp"]) {
        press(key);
        await playing(document.activeElement.dataset.clip);
        seen.push($("#title").textContent);
      }
      await until(() => Number($("#position").value) > 0.3);
      press("1"); await playing(0);
      const kept = Number($("#position").value);
      press("0"); await playing(index);
      press("Escape"); await playing("");
      return {seen, kept, at: Number($("#position").value),
              stops: $$(".board .cell").filter(cell => cell.tabIndex === 0).length};""")
    bell = NAMES[2]
    assert answer["seen"] == ["bass, flute", f"bass, {bell}", f"flute, {bell}",
                              "flute, reconstructed", "bass, flute"]
    assert answer["kept"] > 0.25 and answer["at"] == 0 and answer["stops"] == 1


TAP = """
  const nodes = [], connect = AudioNode.prototype.connect;
  AudioNode.prototype.connect = function (to, ...rest) {
    if (to !== this.context.destination) return connect.call(this, to, ...rest);
    window.tap ??= new AnalyserNode(this.context, {fftSize: 16384});
    return connect.call(this, window.tap);
  };
  const samples = async () => { // of the last third of a second
    await wait(0.5);
    const found = new Float32Array(window.tap.fftSize);
    window.tap.getFloatTimeDomainData(found);
    return found;
  };
  const level = found => 10 * Math.log10(found.reduce((sum, x) => sum + x * x, 0) / found.length);
"""


def test_playback_matches_loudness_until_switched_off(browser, pages):
    opened(browser, pages["mixes"])
    answer = browser.run(TAP + """
      $("#loop").click();""" + MIX + """
      const matched = [level(await samples())];
      for (const key of ["1", "2"]) { press(key); matched.push(level(await samples())); }
      $("#level").click();
      const own = [level(await samples())];
      press("1"); own.push(level(await samples()));
      return {matched, own};""")
    assert max(answer["matched"]) - min(answer["matched"]) < 1 and min(answer["matched"]) > -40
    assert answer["own"][1] - answer["own"][0] == pytest.approx(12, abs=1)  # 4 times: the files'


# The page's own keyboard code renders into an OfflineAudioContext of two seconds.
OFFLINE = """
  const offline = new OfflineAudioContext(1, 32000, 16000);
  offline.resume = () => {};
  window.AudioContext = function () { return offline; };
  const rendered = async key => {
    if (key) press(key);
    await until(() => document.body.dataset.note);
    return [...(await offline.startRendering()).getChannelData(0)];
  };
"""


@pytest.mark.parametrize("kind, cell, key, pitch", [
    ("mixes", ".cell.mix", "a", 60), ("mixes", ".cell.source", "h", 69), ("bank", ".cell", "a", 60),
    ("bank", ".cell", "k", 72), ("preview", ".cell", "d", 64), ("steps", ".cell.step", "s", 62)])
def test_key_sounds_at_its_pitch(browser, pages, kind, cell, key, pitch):
    opened(browser, pages[kind])
    samples = browser.run(OFFLINE + f"""
      $('{cell}').dispatchEvent(new MouseEvent("click", {{bubbles: true}}));
      $("#play").click();
      press("Escape");
      return rendered("{key}");""")
    assert pitch_of(np.array(samples, np.float32)) == pytest.approx(pitch, abs=0.1)


def test_key_plays_an_unpitched_sound_at_its_own_speed(browser, tmp_path):
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, 16000).astype(np.float32)
    path = built(tmp_path, [Clip("source_wind", "wind", "source", ("wind",), (1.0,))],
                 {"source_wind": Extra(audio=noise)})
    opened(browser, path)
    samples = np.array(browser.run(OFFLINE + 'return rendered("k");'))
    assert np.flatnonzero(np.abs(samples) > 1e-3)[-1] == pytest.approx(16000, abs=200)


def test_octave_and_pointer_move_the_keys(browser, pages):
    opened(browser, pages["bank"])
    samples = browser.run(OFFLINE + """
      press("x");
      const key = $('[data-pitch="67"]');
      key.dispatchEvent(new PointerEvent("pointerdown", {bubbles: true, pointerId: 1}));
      return rendered();""")
    assert pitch_of(np.array(samples, np.float32)) == pytest.approx(67, abs=0.1)
    answer = browser.run("""
      press("z"); press("z"); press("z"); press("z"); press("z");
      return [Number($("[data-pitch]").dataset.pitch), $('[data-octave="-1"]').disabled];""")
    assert answer == [24, True]


@pytest.mark.parametrize("fault, word", [
    ("delete Navigator.prototype.requestMIDIAccess", "Web MIDI"),
    ("navigator.requestMIDIAccess = () => Promise.reject(new DOMException('', 'SecurityError'))",
     "SecurityError"),
    ("navigator.requestMIDIAccess = async () => ({inputs: new Map()})", "No MIDI keyboard")])
def test_midi_button_gives_the_reason(browser, pages, fault, word):
    opened(browser, pages["mixes"])
    said = browser.run(f"""{fault};
      $("#midi").click();
      await until(() => $("#midi-said").textContent);
      return $("#midi-said").textContent;""")
    assert word in said


def test_midi_note_plays_the_selected_sound(browser, pages):
    opened(browser, pages["mixes"])
    note = browser.run("""
      const input = {name: "keys"};
      navigator.requestMIDIAccess = async () => ({inputs: new Map([[1, input]])});
      $("#midi").click();
      await until(() => input.onmidimessage);
      input.onmidimessage({data: [0x90, 65, 100]});
      await until(() => document.body.dataset.note);
      return document.body.dataset.note;""")
    assert note.startswith("65 from ")


SLIDE = """
  const slider = $("[data-path]");
  const slide = value => {
    slider.value = value;
    slider.dispatchEvent(new Event("input"));
  };
"""


def test_slider_plays_both_neighbours_and_gives_the_weights(browser, pages):
    opened(browser, pages["steps"])
    answer = browser.run(TAP + SLIDE + """
      $("#loop").click();
      const found = [], said = [];
      for (const value of [0, 0.52, 1, 3.92]) {
        slide(value);
        await until(() => document.body.dataset.playing);
        found.push([...await samples()]);
        said.push(slider.getAttribute("aria-valuetext"));
      }
      return {said, found, rate: tap.context.sampleRate};""")
    assert answer["said"] == ["100 % bass, 0 % flute", "87 % bass, 13 % flute",
                              "75 % bass, 25 % flute", "2 % bass, 98 % flute"]
    levels = []
    for samples in answer["found"]:  # the steps are tones of 220, 275, 330, 385 and 440 Hz
        spectrum = np.abs(np.fft.rfft(np.array(samples) * np.hanning(len(samples))))
        at = np.arange(len(spectrum)) * answer["rate"] / len(samples)
        levels.append([spectrum[np.argmin(np.abs(at - hertz))] for hertz in (220, 275, 385, 440)])
    (a, b, *_), (c, d, *_), (e, f, *_), (*_, g, h) = levels
    assert a > 20 * b and c == pytest.approx(d, rel=0.2) and f > 20 * e and h > 4 * g > 0


def test_slider_keeps_its_position_in_the_sound(browser, pages):
    opened(browser, pages["steps"])
    answer = browser.run(SLIDE + """
      $("#loop").click();
      slide(1);
      await until(() => Number($("#position").value) > 0.4);
      slide(1.5); await wait(0.05);
      const there = Number($("#position").value);
      press("a");
      await until(() => document.body.dataset.note);
      return {there, note: document.body.dataset.note};""")
    assert answer["there"] > 0.4 and answer["note"].startswith("60 from ")


def test_reload_restores_sound_and_slider(browser, pages):
    opened(browser, pages["steps"])
    before = browser.run(SLIDE + """
      slide(2.4);
      await until(() => document.body.dataset.playing);
      return [location.hash, $("#title").textContent, slider.value];""")
    opened(browser, pages["steps"], before[0])
    assert before[1:] == browser.run(
        'return [$("#title").textContent, $("[data-path]").value];')
    assert browser.console == []


def test_reload_restores_the_selection_and_the_commands_are_complete(browser, pages):
    opened(browser, pages["preview"])
    before = browser.run("""
      for (const name of ["3", "1"]) $(`[data-tick="${name}"]`).click();
      $$(".cell")[1].click(); await playing(1);
      await until(() => Number($("#position").value) > 0.1);
      $("#play").click();
      return location.hash;""")
    opened(browser, pages["preview"], before)
    answer = browser.run("""
      return {ticked: $$("[data-tick]").filter(box => box.checked).map(box => box.dataset.tick),
              title: $("#title").textContent, at: Number($("#position").value),
              commands: $$("[data-command]").map(line => line.textContent)};""")
    assert answer["ticked"] == ["1", "3"] and answer["title"] == "instrument 2"
    assert answer["at"] > 0
    assert answer["commands"] == [
        "python -m workshop play --midi cs1-1pre-short.mid --instruments 3,1 --seed 7",
        "python -m workshop bank gansynth --instruments 3,1 --seed 7"]


def test_score_plays_from_where_it_is_clicked(browser, pages):
    opened(browser, pages["score"])
    answer = browser.run("""
      $$("[data-seek-to]")[1].click();
      await until(() => Number($("#position").value) > 0);
      const at = Number($("#position").value);
      const area = $(".sound"), box = area.getBoundingClientRect();
      area.dispatchEvent(new MouseEvent("click", {bubbles: true,
        clientX: box.left + box.width * 0.75}));
      await until(() => Number($("#position").value) >= 2.9);
      return at;""")
    assert 1.1 < answer < 2


def test_long_score_shows_loading_and_minutes(browser, pages):
    opened(browser, pages["score"])
    answer = browser.run("""
      $('[data-player="1"]').click();
      const busy = [$("#play").textContent, $("#play").ariaBusy];
      await playing(1);
      return {busy, time: $("#time").textContent, busyAfter: $("#play").ariaBusy,
              labels: $$(".axis[data-seconds]")[1].textContent};""")
    assert answer["busy"] == ["Loading", "true"] and answer["busyAfter"] == "false"
    assert answer["time"] == "0:00 / 1:40" and "0:20" in answer["labels"]


@pytest.mark.parametrize("width", [1280, 360])
def test_instrument_numbers_do_not_overlap(browser, pages, width):
    opened(browser, pages["score"], width=width)
    boxes = browser.run("""
      return $$(".marks")[1].querySelectorAll("button").values().toArray().filter(
        button => getComputedStyle(button).color !== "rgba(0, 0, 0, 0)").map(button => {
          const {left, right} = button.getBoundingClientRect();
          return [left, right];
        });""")
    assert all(right <= left + 1 for (_, right), (left, _) in zip(boxes, boxes[1:]))


def test_ten_sounds_fit_next_to_the_player(browser, tmp_path):
    names = [f"a-sound-with-a-long-name-{n * '0123456789'}" for n in range(10)]
    opened(browser, built(tmp_path, mix_clips(names, seconds=0.1)))
    answer = browser.run("""
      $$(".cell.mix").at(-1).click();
      const [board, stage] = [".board", ".stage"].map(name => $(name).getBoundingClientRect());
      return [board.bottom, board.right, stage.left, stage.bottom, stage.right,
              $(".compare").lastChild.getBoundingClientRect().right];""")
    assert answer[0] < 900 and answer[1] < answer[2] and answer[3] < 900
    assert answer[5] < answer[4]  # the buttons are not wider than the player


def test_list_has_a_player_for_every_clip(browser, pages):
    opened(browser, pages["mixes"])
    answer = browser.run("""
      $("details").open = true;
      const buttons = $$("[data-player]");
      buttons[3].click(); await playing(3);
      return [buttons.length, buttons[3].textContent, ...buttons.slice(3, 5).map(
        button => button.getAttribute("aria-label"))];""")
    assert answer == [12, "Pause", "Pause bass, reconstructed", "Play flute, reconstructed"]


def test_download_is_the_sound(browser, pages):
    opened(browser, pages["mixes"])
    name, content = browser.run("""
      const link = $("#download");
      addEventListener("click", event => event.preventDefault());
      link.click();
      return [link.download, [...new Uint8Array(await (await fetch(link.href)).arrayBuffer())]];""")
    assert name == "bass_flute.flac"
    audio, rate = soundfile.read(io.BytesIO(bytes(content)))
    assert rate == 16000 and len(audio) == 16000


def test_only_what_is_played_is_decoded(browser, pages):
    opened(browser, pages["mixes"])
    answer = browser.run("""
      const decode = BaseAudioContext.prototype.decodeAudioData;
      let decoded = 0;
      BaseAudioContext.prototype.decodeAudioData = function (bytes) {
        decoded++;
        return decode.call(this, bytes);
      };""" + MIX + """
      press("1"); await playing(0);
      press("0"); await playing(index);
      return decoded;""")
    assert answer == 3  # the mix and its two sources


def test_one_time_axis_has_one_playhead(browser, pages):
    opened(browser, pages["crossfade"])
    answer = browser.run("""
      $(".time .cell.crossfade").click();
      await until(() => Number($("#position").value) > 0.2);
      return $$(".time .cell").map(cell =>
        [getComputedStyle(cell.querySelector(".playhead")).opacity,
         Number(getComputedStyle(cell).getPropertyValue("--at"))]);""")
    assert len(answer) == 3 and {opacity for opacity, _ in answer} == {"1"}
    assert np.ptp([at for _, at in answer]) < 0.05


def test_index_lists_runs_newest_first(browser, tmp_path):
    clips = {"first": mix_clips([NAMES[0], "LongName" * 9]), "second": step_clips()}
    for number, (name, made) in enumerate(clips.items()):
        (tmp_path / name).mkdir()
        built(tmp_path / name, made)
        (tmp_path / name / "run.json").write_text(json.dumps({
            "command": "python x.py", "options": {"steps": 5}, "stopped": False,
            "started": f"2026-01-0{number + 1}T10:00:00",
            "clips": [clip.__dict__ for clip in made]}))
    (tmp_path / "empty").mkdir()
    opened(browser, write_index(tmp_path), width=360)
    assert browser.run("return document.documentElement.scrollWidth;") == 360
    links = browser.run('return $$(".runs a").map(link => [link.textContent, link.href]);')
    assert [title for title, _ in links] == ["bass, flute: 5 steps",
                                           f"bass, {'LongName' * 9}: 2 mixes"]
    opened(browser, Path(re.sub("^file://", "", links[0][1])))
    assert browser.run("return document.title;") == "bass, flute: 5 steps"
    assert browser.console == []


@pytest.mark.parametrize("clips", [60, 243])
def test_many_clips_open_in_under_two_seconds(browser, tmp_path, clips):
    if clips == 60:
        made = [Clip(f"i{n}", f"instrument {n}", "preview") for n in range(60)]
        path = built(tmp_path, made, {clip.name: preview_extras() for clip in made})
    else:
        path = built(tmp_path, bank_clips(9))
    began = time.monotonic()
    opened(browser, path)
    assert browser.run("""$(".cell").click(); await playing(0); return $$(".cell").length;""") in (
        60, 81)
    assert time.monotonic() - began < 2


def test_page_without_javascript_has_a_player_for_every_clip(pages):
    text = pages["mixes"].read_text("utf-8")
    players = re.findall(r'<noscript id="sound\d+"><audio controls [^>]*src="data:audio/flac', text)
    assert len(players) == 12


@pytest.mark.parametrize("key", ["a", " ", "Enter"])
def test_held_key_ends_when_it_is_released(browser, pages, key):
    opened(browser, pages["mixes"])
    answer = browser.run(f"""
      if ("{key}" !== "a") $('[data-pitch="60"]').focus();
      press("{key}");
      const held = $$(".down").length;
      press("{key}", "keyup");
      return [held, $$(".down").length];""")
    assert answer == [1, 0]
