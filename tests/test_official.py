"""`python -m benchmarks.official` on stand-ins: random weights of Google's layout, served here."""

import functools
import http.server
import re
import subprocess
import sys
import tarfile
import threading
import zipfile
from pathlib import Path

import magenta_nsynth
import pytest

HOUSE = Path(__file__).resolve().parent.parent
SIZES = {"width": 24, "skip_width": 16, "num_layers": 12, "num_z": 16, "ae_width": 12,
         "ae_num_layers": 12}


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def mirror(tmp_path):
    pytest.importorskip("magenta")
    root, made = tmp_path / "mirror", tmp_path / "made"
    prefix = made / "wavenet-ckpt" / "model.ckpt-200000"
    magenta_nsynth.save_checkpoint(prefix, magenta_nsynth.random_weights(SIZES))
    subprocess.run([sys.executable, "-m", "benchmarks.magenta_gansynth", "make",
                    str(made / "gan"), "--config", '{"fmap_max": 8}'],
                   cwd=HOUSE, check=True, capture_output=True)
    nsynth = root / "download.magenta.tensorflow.org" / "models" / "nsynth"
    gansynth = root / "magentadata" / "models" / "gansynth"
    for folder in (nsynth, gansynth):
        folder.mkdir(parents=True)
    with tarfile.open(nsynth / "wavenet-ckpt.tar", "w") as tar:
        tar.add(made / "wavenet-ckpt", "wavenet-ckpt")
    with zipfile.ZipFile(gansynth / "acoustic_only.zip", "w") as zipped:
        for path in sorted((made / "gan").rglob("*")):
            if path.is_file():
                zipped.write(path, path.relative_to(made / "gan"))
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(root)))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_the_comparison_runs_on_stand_ins(mirror, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.official", "--url-base", mirror, "--folder",
         str(tmp_path / "weights"), "--samples", "60", "--seconds", "0.3"],
        cwd=HOUSE, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "official wavenet-ckpt (" in done.stdout and "official acoustic_only (" in done.stdout
    difference = re.search(r"NSynth, encodings \|.*\| (\S+) \|", done.stdout)
    assert float(difference[1]) < 1e-4
    assert len(re.findall(r"\| 60 of 60 \|", done.stdout)) >= 3, done.stdout
    levels = re.findall(r"GANSynth, note \d+ \|.*\| (\d+) dB", done.stdout)
    assert len(levels) == 4 and min(map(int, levels)) >= 60
    assert len(re.findall("nats per sample", done.stdout)) == 4
