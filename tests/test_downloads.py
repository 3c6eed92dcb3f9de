"""Downloads and archives, from a server on this machine that fails on request."""

import base64
import contextlib
import hashlib
import http.server
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
from leveldb_table import checkpoint

from synths import CheckpointError, InputError
from synths.weights import checkpoints, downloads

PROJECT = Path(__file__).resolve().parent.parent
CONTENT = np.random.default_rng(0).integers(0, 256, 3_000_000, np.uint8).tobytes()
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.requests.append(dict(self.headers))
        data = server.files.get(self.path)
        code = server.codes.pop(0) if server.codes else 0
        if data is None or code:
            self.send_error(code or 404)
            return
        start = 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if server.ranges and asked:
            start = int(asked[1])
        if start >= len(data):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        if server.length:
            self.send_header("Content-Length", str(len(data) - start))
        for header in server.headers:
            self.send_header(*header)
        self.end_headers()
        time.sleep(server.delay)
        end = len(data)
        if server.cuts:
            end = min(end, start + server.cuts.pop(0))
        with contextlib.suppress(ConnectionError):      # the client stopped
            for position in range(start, end, 50_000):
                self.wfile.write(data[position:min(position + 50_000, end)])
                time.sleep(server.pause)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    """Serves `files`; ends its answers after `cuts` bytes, or with `codes`, while there are any."""
    monkeypatch.setattr(downloads, "_PAUSES", (0.001,) * 4)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.requests, server.headers = {"/a/file": CONTENT}, [], []
    server.cuts, server.codes, server.pause = [], [], 0.0
    server.delay = 0.0
    server.ranges = server.length = True
    server.base = f"http://127.0.0.1:{server.server_port}"
    server.url = server.base + "/a/file"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


# Files


def test_fetch_complete_file_is_kept_under_its_name(server, tmp_path):
    target = tmp_path / "new folder" / "file"
    for sha256 in (SHA256.upper(), SHA256, None):
        assert downloads.fetch(server.url, target, sha256) == target
    assert target.read_bytes() == CONTENT and len(server.requests) == 1
    assert list(target.parent.iterdir()) == [target]
    target.write_bytes(b"other")
    downloads.fetch(server.url, target, SHA256)
    assert target.read_bytes() == CONTENT


def test_fetch_cut_connection_is_continued(server, tmp_path):
    server.cuts = [1_000_000, 0, 500_000, 1]
    downloads.fetch(server.url, tmp_path / "file", SHA256)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert [request.get("Range") for request in server.requests] == [
        None, "bytes=1000000-", "bytes=1000000-", "bytes=1500000-", "bytes=1500001-"]


def test_fetch_server_that_hangs_up_keeps_the_part_for_the_next_run(server, tmp_path):
    server.cuts = [700_000] + [0] * 5
    with pytest.raises(InputError, match="resume"):
        downloads.fetch(server.url, tmp_path / "file", SHA256)
    assert (tmp_path / "file.part").stat().st_size == 700_000
    downloads.fetch(server.url, tmp_path / "file", SHA256)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert server.requests[-1]["Range"] == "bytes=700000-"


@pytest.mark.parametrize("lacks", ["ranges", "length"])
def test_fetch_server_that_lacks_something_still_works(server, tmp_path, lacks):
    (tmp_path / "file.part").write_bytes(CONTENT[:1000])
    setattr(server, lacks, False)
    downloads.fetch(server.url, tmp_path / "file", SHA256)
    assert (tmp_path / "file").read_bytes() == CONTENT


@pytest.mark.parametrize("part", [b"x" * 1000, CONTENT + b"x"])
def test_fetch_damaged_part_is_removed_and_fetched_again(server, tmp_path, part):
    (tmp_path / "file.part").write_bytes(part)
    with contextlib.suppress(InputError):
        downloads.fetch(server.url, tmp_path / "file", SHA256)
    downloads.fetch(server.url, tmp_path / "file", SHA256)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_fetch_wrong_digest_leaves_nothing(server, tmp_path):
    with pytest.raises(InputError, match="damaged"):
        downloads.fetch(server.url, tmp_path / "file", "0" * 64)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("good", [True, False])
@pytest.mark.parametrize("kinds", ["crc32c", "md5", "crc32c md5"])
def test_fetch_verifies_the_hashes_of_google_cloud_storage(server, tmp_path, kinds, good):
    content = CONTENT if good else CONTENT + b"x"
    digests = {"md5": hashlib.md5(content).digest(),
               "crc32c": google_crc32c.value(content).to_bytes(4, "big")}
    server.headers = [("x-goog-hash", ",".join(
        f"{kind}={base64.b64encode(digests[kind]).decode()}" for kind in kinds.split()))]
    with contextlib.nullcontext() if good else pytest.raises(InputError, match="damaged"):
        downloads.fetch(server.url, tmp_path / "file")
    assert (tmp_path / "file").exists() == good


def test_fetch_missing_file_is_asked_for_once(server, tmp_path):
    with pytest.raises(InputError, match="Not Found"):
        downloads.fetch(server.base + "/nothing", tmp_path / "file")
    assert len(server.requests) == 1


def test_fetch_busy_server_is_asked_again(server, tmp_path):
    server.codes = [503, 429, 500]
    downloads.fetch(server.url, tmp_path / "file", SHA256)
    assert len(server.requests) == 4


def test_fetch_silent_server_times_out(server, tmp_path):
    server.delay = 1.0
    with pytest.raises(InputError, match="timed out"):
        downloads.fetch(server.url, tmp_path / "file", timeout=0.05)


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_fetch_killed_process_is_continued(server, tmp_path):
    server.pause = 0.02
    run = subprocess.Popen([sys.executable, "-c", "import sys; from synths.weights import downloads"
                            "; downloads.fetch(*sys.argv[1:])", server.url, tmp_path / "file"],
                           cwd=PROJECT)
    part = tmp_path / "file.part"
    while not part.exists() or part.stat().st_size < 200_000:
        time.sleep(0.01)
        assert run.poll() is None
    run.send_signal(signal.SIGKILL)
    run.wait()
    server.pause = 0.0
    downloads.fetch(server.url, tmp_path / "file", SHA256)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert "Range" in server.requests[-1]


def test_fetch_book_sounds_verifies_each(server, tmp_path):
    server.files = {"/sounds/a.wav": b"a", "/sounds/b.wav": b"b"}
    sounds = {name: hashlib.sha256(name[:1].encode()).hexdigest() for name in ("a.wav", "b.wav")}
    paths = downloads.fetch_book_sounds(tmp_path, sounds, server.base + "/sounds/")
    assert [path.read_bytes() for path in paths] == [b"a", b"b"]
    server.files["/sounds/b.wav"] = b"other"
    paths[1].unlink()
    with pytest.raises(InputError, match="b.wav"):
        downloads.fetch_book_sounds(tmp_path, sounds, server.base + "/sounds/")


# Archives


def make_tar(path, files, mode="w"):
    with tarfile.open(path, mode) as tar:
        for name, data in files.items():
            info = data if isinstance(data, tarfile.TarInfo) else tarfile.TarInfo(name)
            if not isinstance(data, tarfile.TarInfo):
                info.size = len(data)
            tar.addfile(info, None if isinstance(data, tarfile.TarInfo) else io.BytesIO(data))
    return path


def make_zip(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, data in files.items():
            zipped.writestr(name, data)
    return path


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*")) if path.is_file()}


GOOD = {"ckpt/a.index": b"index", "ckpt/deep/er/b": b"x" * 100_000, "ckpt/empty": b""}


@pytest.mark.parametrize("make, name", [
    (make_tar, "a.tar"), (lambda path, files: make_tar(path, files, "w:gz"), "a.tar.gz"),
    (make_zip, "a.zip")])
def test_unpack_archive_loses_its_only_folder_and_replaces_an_earlier_one(tmp_path, make, name):
    archive = make(tmp_path / name, GOOD)
    downloads.unpack(archive, tmp_path / "out", lambda root: None)
    assert contents(tmp_path / "out") == {key[5:]: data for key, data in GOOD.items()}
    archive = make(tmp_path / name, {"top": b"1", "ckpt/a": b"2"})
    downloads.unpack(archive, tmp_path / "out", lambda root: None)
    assert contents(tmp_path / "out") == {"top": b"1", "ckpt/a": b"2"}
    assert sorted(path.name for path in tmp_path.iterdir()) == [name, "out"]


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize("kind, files", [
    ("tar", {"ok": b"1", "../evil": b"2"}), ("tar", {"ok": b"1", "a/../../evil": b"2"}),
    ("tar", {"ok": b"1", "/evil": b"2"}), ("zip", {"ok": b"1", "../evil": b"2"}),
    ("zip", {"ok": b"1", "/evil": b"2"}),
    ("tar", {"ok": b"1", "l": special("l", tarfile.SYMTYPE, "/etc/passwd")}),
    ("tar", {"ok": b"1", "l": special("l", tarfile.SYMTYPE, ".."), "l/evil": b"2"}),
    ("tar", {"ok": b"1", "l": special("l", tarfile.LNKTYPE, "../x")}),
    ("tar", {"ok": b"1", "l": special("l", tarfile.FIFOTYPE)})])
def test_unpack_hostile_archive_writes_nothing_outside(tmp_path, kind, files):
    inner = tmp_path / "inner"
    inner.mkdir()
    archive = (make_tar if kind == "tar" else make_zip)(inner / f"archive.{kind}", files)
    with contextlib.suppress(CheckpointError):
        downloads.unpack(archive, inner / "out", lambda root: None)
    assert [path.name for path in tmp_path.iterdir()] == ["inner"]
    assert {path.name for path in inner.iterdir()} <= {archive.name, "out"}
    assert not any(path.is_symlink() for path in inner.rglob("*"))


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.zip"])
@pytest.mark.parametrize("content", [b"", b"no archive", b"x" * 5000])
def test_unpack_damaged_archive_is_a_checkpoint_error_and_keeps_the_folder(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    (tmp_path / "out").mkdir()
    with pytest.raises(CheckpointError):
        downloads.unpack(tmp_path / name, tmp_path / "out",
                         lambda root: checkpoints.resolve(root))
    assert (tmp_path / "out").is_dir()


# Official models


NSYNTH = checkpoint({"ae_bottleneck/W": np.ones((1, 1, 8, 16))})
GANSYNTH = checkpoint({"Generator/progressive_gan_generator/x/conv2d/kernel": np.ones([3] * 4)})


@pytest.fixture
def mirror(server, tmp_path, monkeypatch):
    """The server as the buckets of the official weights."""
    monkeypatch.setenv("SYNTHS_MIRROR", server.base)
    nsynth = {f"wavenet-ckpt/model.ckpt-200000.{end}": data for end, data in
              zip(("index", "data-00000-of-00001"), NSYNTH)}
    gansynth = {f"stage_00012/model.ckpt-11000000.{end}": data for end, data in
                zip(("index", "data-00000-of-00001"), GANSYNTH)}
    gansynth["experiment.json"] = b"{}"
    pack = tmp_path / "pack"
    pack.mkdir()
    server.files = {
        "/download.magenta.tensorflow.org/models/nsynth/wavenet-ckpt.tar":
            make_tar(pack / "a", nsynth).read_bytes(),
        "/download.magenta.tensorflow.org/models/nsynth/wavenet-voice-ckpt.tar.gz":
            make_tar(pack / "b", nsynth, "w:gz").read_bytes(),
        "/magentadata/models/gansynth/acoustic_only.zip":
            make_zip(pack / "c", gansynth).read_bytes(),
        "/magentadata/models/gansynth/all_instruments.zip":
            make_zip(pack / "d", {"all_instruments/" + key: data
                                  for key, data in gansynth.items()}).read_bytes(),
    }
    return server


@pytest.mark.parametrize("name, model, prefix", [
    ("wavenet-ckpt", "nsynth", "model.ckpt-200000"),
    ("wavenet-voice-ckpt", "nsynth", "model.ckpt-200000"),
    ("acoustic_only", "gansynth", "stage_00012/model.ckpt-11000000"),
    ("all_instruments", "gansynth", "stage_00012/model.ckpt-11000000")])
def test_download_official_model_is_found_by_its_name(mirror, tmp_path, name, model, prefix):
    target = tmp_path / "checkpoints"
    found = checkpoints.download(name, target)
    assert found == target / name / prefix
    assert checkpoints.find(name, model, target_dir=target) == found
    assert checkpoints.download(name, target) == found
    assert len(mirror.requests) == 1
    assert [path.name for path in target.iterdir()] == [name]
    assert checkpoints.describe(found, model, target).startswith(f"official {name} (")


@pytest.mark.parametrize("break_it", [
    lambda folder: (folder / "model.ckpt-200000.data-00000-of-00001").unlink(),
    lambda folder: (folder / "model.ckpt-200000.data-00000-of-00001").write_bytes(b"x"),
    lambda folder: (folder / "model.ckpt-200000.index").write_bytes(NSYNTH[0][:40]),
    lambda folder: shutil.rmtree(folder),
    lambda folder: [path.unlink() for path in folder.iterdir()]])
def test_download_incomplete_model_is_replaced(mirror, tmp_path, break_it):
    target = tmp_path / "c"
    found = checkpoints.download("wavenet-ckpt", target)
    break_it(target / "wavenet-ckpt")
    with pytest.raises(CheckpointError):
        checkpoints.find("wavenet-ckpt", "nsynth", target_dir=target)
    assert checkpoints.download("wavenet-ckpt", target) == found
    assert contents(target / "wavenet-ckpt") == dict(zip(
        ("model.ckpt-200000.index", "model.ckpt-200000.data-00000-of-00001"), NSYNTH))


@pytest.mark.parametrize("inside", [
    {"wavenet-ckpt/readme": b"moved"}, {"model.ckpt-1.index": NSYNTH[0]},
    {"m.index": GANSYNTH[0], "m.data-00000-of-00001": GANSYNTH[1]}])
def test_download_archive_of_something_else_leaves_nothing(mirror, tmp_path, inside):
    path = "/download.magenta.tensorflow.org/models/nsynth/wavenet-ckpt.tar"
    mirror.files[path] = make_tar(tmp_path / "x", inside).read_bytes()
    with pytest.raises(CheckpointError):
        checkpoints.download("wavenet-ckpt", tmp_path / "c")
    assert list((tmp_path / "c").iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_download_killed_before_the_rename_is_completed_by_the_next(mirror, tmp_path):
    target = tmp_path / "c"
    program = ("import os, signal, sys; from synths.weights import checkpoints; "
               "os.replace = lambda *a: os.kill(os.getpid(), signal.SIGKILL) "
               "if '.part' in str(a[0]) and os.path.isdir(a[0]) else os.rename(*a); "
               "checkpoints.download('wavenet-ckpt', sys.argv[1])")
    result = subprocess.run([sys.executable, "-c", program, str(target)], cwd=PROJECT)
    assert result.returncode == -signal.SIGKILL and not (target / "wavenet-ckpt").exists()
    checkpoints.download("wavenet-ckpt", target)
    assert [path.name for path in target.iterdir()] == ["wavenet-ckpt"]
    assert len(mirror.requests) == 1


def test_download_name_without_an_address_lists_the_others(tmp_path):
    for name in ("nsynth_starter", "nothing"):
        with pytest.raises(CheckpointError, match="acoustic_only"):
            checkpoints.download(name, tmp_path)


def test_download_without_a_network_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "_PAUSES", ())
    monkeypatch.setenv("SYNTHS_MIRROR", "http://127.0.0.1:9")
    with pytest.raises(InputError, match="network"):
        checkpoints.download("acoustic_only", tmp_path)
    assert list(tmp_path.iterdir()) == []
