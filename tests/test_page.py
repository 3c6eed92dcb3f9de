"""The page to listen on: whole in one file, and it plays in a browser."""

import html.parser
import http.server
import json
import queue
import re
import shutil
import subprocess
import threading

import numpy as np
import pytest

import audio_utils
from companion.page import Clip, Section, write_page

BROWSER = next(filter(None, map(shutil.which, (
    "chromium", "chromium-browser", "google-chrome", "chrome"))), None)

PROBE = """
<script>
window.addEventListener("load", async () => {
  const audios = [...document.querySelectorAll("audio")];
  const lengths = await Promise.all(audios.map(async audio => {
    audio.muted = true;
    try { await audio.play(); } catch (error) { if (error.name !== "AbortError") return error.name; }
    return audio.error ? "error " + audio.error.code : audio.duration.toFixed(2);
  }));
  const pictures = [...document.querySelectorAll("img")];
  pictures.forEach(picture => picture.loading = "eager");
  await Promise.all(pictures.map(picture => picture.decode()));
  const widths = pictures.map(picture => picture.naturalWidth);
  fetch("ADDRESS", {method: "POST", mode: "no-cors", body: JSON.stringify({lengths, widths})});
});
</script>
"""


class Page(html.parser.HTMLParser):
    """Tags with their attributes, and every address the page refers to."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.addresses = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append((tag, attributes))
        self.addresses += [attributes[name] for name in ("src", "href") if name in attributes]


@pytest.fixture
def page(tmp_path):
    """A page of two tones, one of them under a name that HTML would take amiss."""
    clips = []
    for number, title in enumerate(("flute", "<b>bass</b> & \"co\"")):
        wav = tmp_path / f"tone {number}#.wav"
        tone = 0.5 * np.sin(2 * np.pi * 220 * (number + 1) * np.arange(8000) / 16000)
        audio_utils.save_wav(tone, wav)
        picture = audio_utils.save_rainbowgram_plot(tone, 16000, f"{number}.png", tmp_path)
        clips.append(Clip(title, wav, picture, f"Rainbowgram of {title}", "a note", "mix"))
    return write_page(tmp_path / "index.html", "Two tones", "An introduction.",
                      [Section("Grid", [clips[0], None, clips[1], clips[0]], 2, "text",
                               ("one", "two"), ("one", "two"))],
                      {"seed": 3, "sounds": "<script>alert(1)</script>"},
                      "python example.py --sounds 'a & b.wav' --seed 3")


def test_the_page_needs_nothing_but_itself(page):
    parsed = Page(page.read_text("utf-8"))
    for address in parsed.addresses:
        assert address.startswith("data:") or (page.parent / re.sub(
            r"%(..)", lambda m: chr(int(m[1], 16)), address)).is_file(), address
    assert [path.name for path in page.parent.glob("*.part")] == []


def test_every_sound_has_a_name_and_every_picture_a_description(page):
    tags = Page(page.read_text("utf-8")).tags
    audios = [attributes for tag, attributes in tags if tag == "audio"]
    assert [audio["aria-label"] for audio in audios] == [
        "flute", "<b>bass</b> & \"co\"", "flute"]
    assert all("controls" in audio for audio in audios)
    assert all(attributes["alt"] for tag, attributes in tags if tag == "img")
    assert ("html", {"lang": "en"}) in tags
    assert any(attributes.get("name") == "viewport" for tag, attributes in tags if tag == "meta")


def test_what_the_user_typed_is_text_and_not_markup(page):
    text = page.read_text("utf-8")
    assert "<script>alert(1)</script>" not in text and "&lt;script&gt;alert(1)" in text
    assert "<b>bass</b>" not in text


@pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome on this machine")
def test_it_plays_in_a_browser(page, tmp_path):
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
    address = f"http://127.0.0.1:{server.server_port}/"
    probe = tmp_path / "probe.html"
    probe.write_text(page.read_text("utf-8").replace(
        "</body>", PROBE.replace("ADDRESS", address) + "</body>"), "utf-8")
    with open(tmp_path / "log", "wb") as log:
        browser = subprocess.Popen(
            [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
             "--no-first-run", "--disable-background-networking", "--disable-component-update",
             "--disable-sync", "--autoplay-policy=no-user-gesture-required",
             "--enable-logging=stderr", "--remote-debugging-port=0",
             f"--user-data-dir={tmp_path / 'profile'}", probe.as_uri()], stdout=log, stderr=log)
        try:
            answer = answers.get(timeout=120)
        except queue.Empty:
            answer = None
        finally:
            browser.terminate()
            browser.wait(30)
            server.shutdown()
    errors = (tmp_path / "log").read_text("utf-8", "replace")
    assert answer is not None, errors[-2000:]
    assert answer["lengths"] == ["0.50", "0.50", "0.50"]
    assert len(answer["widths"]) == 3 and min(answer["widths"]) > 100
    assert "CONSOLE" not in errors, errors
