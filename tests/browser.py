"""A headless Chromium under the DevTools protocol, over the pipe that Chromium opens itself."""

import base64
import fcntl
import json
import os
import shutil
import subprocess
import tempfile

CHROMIUM = next(filter(None, map(shutil.which, (
    "chromium", "chromium-browser", "google-chrome", "chrome"))), None)

# What the expressions of `Browser.run` may use
HELPERS = """
  const $ = selector => document.querySelector(selector);
  const $$ = selector => [...document.querySelectorAll(selector)];
  const wait = seconds => new Promise(resolve => setTimeout(resolve, 1000 * seconds));
  const press = (key, type = "keydown") => document.activeElement.dispatchEvent(
    new KeyboardEvent(type, {key, bubbles: true, cancelable: true}));
  const until = async (what, seconds = 20) => {
    const end = performance.now() + 1000 * seconds;
    while (!what()) {
      if (performance.now() > end) throw Error("waited for " + what);
      await wait(0.02);
    }
  };
  const playing = index => until(() => document.body.dataset.playing === String(index));
"""


class Browser:
    """One tab; `console` collects what the page prints, requests and throws."""

    def __init__(self):
        # Chromium may still write to its profile when it ends
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        read_end, self.write = os.pipe()
        self.read, write_end = os.pipe()

        def connect():  # Chromium reads from descriptor 3 and writes to 4
            ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (read_end, write_end)]
            for number, end in enumerate(ends, 3):
                os.dup2(end, number)

        self.process = subprocess.Popen(
            [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
             "--disable-background-networking", "--autoplay-policy=no-user-gesture-required",
             "--remote-debugging-pipe", f"--user-data-dir={self.folder.name}"],
            preexec_fn=connect, pass_fds=(3, 4), stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        os.close(read_end)
        os.close(write_end)
        self.number, self.buffer, self.console, self.session = 0, b"", [], None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target,
                                 flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]

    def _next(self):
        while b"\0" not in self.buffer:
            part = os.read(self.read, 1 << 16)
            assert part, "Chromium has ended"
            self.buffer += part
        message, _, self.buffer = self.buffer.partition(b"\0")
        answer = json.loads(message)
        kind, details = answer.get("method", ""), answer.get("params", {})
        if kind in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
            self.console.append(details)
        elif kind == "Network.requestWillBeSent" and details["request"]["url"].startswith("http"):
            self.console.append(details["request"]["url"])
        elif kind == "Page.loadEventFired":
            self.loaded = True
        return answer

    def open(self, address, width=1280, height=900, media="", scheme="light"):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=width < 600)
        self.call("Emulation.setEmulatedMedia", media=media, features=[
            {"name": "prefers-color-scheme", "value": scheme}])
        for url in ("about:blank", str(address)):  # the first, so that a new # loads the page again
            self.loaded = False
            self.call("Page.navigate", url=url)
            while not self.loaded:
                self._next()

    def run(self, body):
        """Run the body of an async function in the page; return what it returns."""
        answer = self.call("Runtime.evaluate", awaitPromise=True, returnByValue=True,
                           expression=f"(async () => {{ {HELPERS} {body} }})()", userGesture=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def screenshot(self, path, whole=False):
        options = {"captureBeyondViewport": True} if whole else {}
        if whole:
            size = self.call("Page.getLayoutMetrics")["cssContentSize"]
            options["clip"] = {"x": 0, "y": 0, "scale": 1, "width": size["width"],
                               "height": min(size["height"], 4000)}
        with open(path, "wb") as file:
            file.write(base64.b64decode(self.call("Page.captureScreenshot", **options)["data"]))

    def close(self):
        self.process.terminate()
        self.process.wait(30)
        os.close(self.read)
        os.close(self.write)
        self.folder.cleanup()
