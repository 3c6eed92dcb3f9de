"""The page's weight: size, time to load, tab stops, memory; of this version beside an earlier one.

    python -m benchmarks.page                     # beside the first version of the page
    python -m benchmarks.page --before HEAD~3

Both versions make the same pages, of the same sounds and seed; Chromium or Chrome opens each in
turn, by its DevTools protocol.  Raw results in results/page.json.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

import numpy as np
import soundfile
import tornado.websocket

from benchmarks.common import RESULTS, ROOT, machine

BEFORE = "65ca8c7"  # a report: a player for each clip, below an overview
ONE, TWO = "chapter_05_example_01.py", "chapter_05_example_02.py"
ROUNDS = 5
JOBS = {
    "default of example 1": (ONE, []),
    "default of example 2": (TWO, []),
    "60 previews": (TWO, ["--preview", "60"]),
    "156 clips": (ONE, ["--seconds", "1", "--sounds", "SOUNDS"]),
}
LOADED = """(() => { const [entry] = performance.getEntriesByType("navigation");
  return entry.loadEventEnd / 1000; })()"""
FOCUSED = "document.activeElement !== document.body"
FIRST = """(() => { const first = document.querySelector("audio, .cell, .roll");
  return Math.round(first.getBoundingClientRect().top); })()"""
HEIGHT = "document.documentElement.scrollHeight"
SCROLL = """new Promise(done => { const step = () => { scrollBy(0, 700);
  if (scrollY + innerHeight < document.documentElement.scrollHeight - 1) setTimeout(step, 15);
  else setTimeout(done, 300); }; step(); })"""


class Browser:
    """A headless Chromium with one tab, driven by its DevTools protocol."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0

    async def __aenter__(self) -> Browser:
        program = next(filter(None, map(shutil.which, (
            "chromium", "chromium-browser", "google-chrome", "chrome"))), None)
        if program is None:
            sys.exit("Chromium or Chrome is not installed; this benchmark needs one.")
        self.process = subprocess.Popen(
            [program, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
             "--disable-background-networking", "--remote-debugging-port=0",
             f"--user-data-dir={self.folder}", "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        port = self.folder / "DevToolsActivePort"
        while not (port.is_file() and port.read_text().strip()):
            await asyncio.sleep(0.05)
        address = f"http://127.0.0.1:{port.read_text().split()[0]}/json"
        with urllib.request.urlopen(address) as tabs:
            tab = next(tab for tab in json.load(tabs) if tab["type"] == "page")
        self.socket = await tornado.websocket.websocket_connect(
            tab["webSocketDebuggerUrl"], max_message_size=1 << 28)
        await self.send("Page.enable")
        return self

    async def __aexit__(self, *_: object) -> None:
        self.socket.close()
        self.process.terminate()
        self.process.wait(30)

    async def send(self, method: str, **parameters: object) -> dict:
        """Send a command and wait for its answer."""
        self.count += 1
        await self.socket.write_message(json.dumps(
            {"id": self.count, "method": method, "params": parameters}))
        while True:
            answer = json.loads(await self.socket.read_message())
            if answer.get("id") == self.count:
                return answer.get("result", {})

    async def value(self, expression: str) -> object:
        """The value of an expression in the page."""
        answer = await self.send("Runtime.evaluate", expression=expression, awaitPromise=True,
                                 returnByValue=True)
        return answer["result"].get("value")

    async def open(self, page: Path, width: int, height: int) -> float:
        """Open a page; returns the seconds until it was loaded."""
        await self.send("Emulation.setDeviceMetricsOverride", width=width, height=height,
                        deviceScaleFactor=1, mobile=width < 600)
        await self.send("Page.navigate", url=page.as_uri())
        while not (seconds := await self.value(LOADED)):
            await asyncio.sleep(0.02)
        return float(seconds)

    async def tab_stops(self) -> int:
        """How often Tab is pressed from the top of the page until it is left."""
        await self.send("Page.bringToFront")
        for count in range(5000):
            for kind in ("rawKeyDown", "keyUp"):
                await self.send("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab",
                                windowsVirtualKeyCode=9)
            if not await self.value(FOCUSED):
                return count
        raise RuntimeError("the focus never leaves the page")

    def memory_mb(self) -> float:
        """Memory of the process that shows the page, shared parts by their share (Linux)."""
        sizes = [0.0]
        for status in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if b"--type=renderer" in (words := status.read_bytes()) and (
                        str(self.folder).encode() in words):
                    lines = (status.parent / "smaps_rollup").read_text().splitlines()
                    sizes += [int(line.split()[1]) / 1024 for line in lines
                              if line.startswith("Pss:")]
        return max(sizes)


async def measure(pages: dict[str, Path], folder: Path) -> dict[str, dict]:
    """Measure the same page of several versions, in turn."""
    results: dict[str, dict] = {name: {"bytes": page.stat().st_size, "load_s": []}
                                for name, page in pages.items()}
    for turn in range(ROUNDS):
        for name, page in pages.items():
            async with Browser(folder / f"{name}{turn}") as browser:
                results[name]["load_s"].append(await browser.open(page, 1280, 900))
                if turn:
                    continue
                results[name]["first_player_px"] = await browser.value(FIRST)
                results[name]["tab_stops"] = await browser.tab_stops()
            async with Browser(folder / f"{name}phone") as browser:
                await browser.open(page, 360, 740)
                before = await browser.value(HEIGHT)
                await browser.value(SCROLL)
                results[name].update(phone_px=[before, await browser.value(HEIGHT)],
                                     memory_mb=browser.memory_mb())
    for result in results.values():
        result["load_median_s"] = statistics.median(result["load_s"])
    return results


def twelve_sounds(folder: Path) -> list[str]:
    """Twelve sounds, harmonics of one tone each that die away at different rates."""
    folder.mkdir()
    time = np.arange(16000) / 16000
    for place in range(12):
        tone = sum(np.sin(2 * np.pi * 110 * 1.12 ** place * k * time) * np.exp(-k * place * time)
                   / k for k in range(1, 6))
        soundfile.write(folder / f"tone{chr(97 + place)}.wav", 0.3 * tone, 16000)
    return [str(path) for path in sorted(folder.iterdir())]


def main() -> None:
    """Make the pages, measure them, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", default=BEFORE, help="the version to compare with: %(default)s")
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=list(JOBS))
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the pages there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        old = folder / "before"
        subprocess.run(["git", "worktree", "add", "--detach", old, options.before], cwd=ROOT,
                       check=True, capture_output=True)
        try:
            sounds = twelve_sounds(folder / "sounds")
            results = {}
            for number, job in enumerate(options.jobs):
                script, words = JOBS[job]
                words = [part for word in words
                         for part in (sounds if word == "SOUNDS" else [word])]
                pages = {}
                for version, root in (("before", old), ("after", ROOT)):
                    output = (options.keep or folder).absolute() / f"{version}{number}"
                    subprocess.run([sys.executable, root / script, *words, "--seed", "7",
                                    "--output", output, "--quiet"], check=True)
                    pages[version] = output / "index.html"
                results[job] = asyncio.run(measure(pages, folder / f"profiles{number}"))
                for version, found in results[job].items():
                    print(f"{job:22} {version:7} {found['bytes'] / 1e6:6.2f} MB, "
                          f"load {found['load_median_s']:.2f} s, {found['tab_stops']} tab stops, "
                          f"first player at {found['first_player_px']} px, "
                          f"on a phone {found['phone_px']} px, {found['memory_mb']:.0f} MB")
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", old], cwd=ROOT, check=True)
    (RESULTS / "page.json").write_text(json.dumps(
        {"machine": machine(), "before": options.before, "jobs": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
