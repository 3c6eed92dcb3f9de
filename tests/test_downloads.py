"""Downloads and archives, against a server on this machine that misbehaves on request."""

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

import numpy as np
import pytest
from leveldb_table import checkpoint

from synths import CheckpointError, InputError, files
from synths.weights import archives, checkpoints, downloads
from synths.weights.tensor_bundle import crc32c

HOUSE = Path(__file__).resolve().parent.parent
CONTENT = np.random.default_rng(0).integers(0, 256, 3_000_000, np.uint8).tobytes()


def digest(data):
    return hashlib.sha256(data).hexdigest()


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
        etag = server.etag or f'"{hashlib.md5(data).hexdigest()}"'
        if server.ranges and asked and self.headers.get("If-Range", etag) == etag:
            start = int(asked[1])
        if start >= len(data):
            self.send_error(416)
            return
        self.send_response(server.status or (206 if start else 200))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        if server.length:
            self.send_header("Content-Length", server.claim or str(len(data) - start))
        if server.validator:
            self.send_header("ETag", etag)
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
    monkeypatch.setattr(downloads, "_PAUSE", 0.001)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.requests, server.headers = {"/a/file": CONTENT}, [], []
    server.cuts, server.codes, server.pause = [], [], 0.0
    server.delay, server.status, server.claim = 0.0, None, None
    server.ranges = server.validator = server.length = True
    server.etag = None
    server.base = f"http://127.0.0.1:{server.server_port}"
    server.url = server.base + "/a/file"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def left_beside(target):
    return sorted(path.name for path in target.parent.iterdir() if path != target)


# Files


def test_a_file_comes_whole_with_its_progress(server, tmp_path):
    seen = []
    target = tmp_path / "new folder" / "file"
    assert downloads.fetch(server.url, target, sha256=digest(CONTENT).upper(),
                           progress=lambda done, total: seen.append((done, total))) == target
    assert target.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT)) and seen == sorted(seen)
    assert left_beside(target) == []


def test_what_is_there_is_not_fetched_again(server, tmp_path):
    target = tmp_path / "file"
    downloads.fetch(server.url, target, sha256=digest(CONTENT))
    downloads.fetch(server.url, target, sha256=digest(CONTENT))
    downloads.fetch(server.url, target)
    assert len(server.requests) == 1
    target.write_bytes(b"other")
    downloads.fetch(server.url, target, sha256=digest(CONTENT))
    assert target.read_bytes() == CONTENT


def test_cut_connections_are_taken_up_again(server, tmp_path):
    server.cuts = [1_000_000, 0, 500_000, 1]
    downloads.fetch(server.url, tmp_path / "file", sha256=digest(CONTENT))
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert [request.get("Range") for request in server.requests] == [
        None, "bytes=1000000-", "bytes=1000000-", "bytes=1500000-", "bytes=1500001-"]


def test_a_server_that_always_hangs_up_is_given_up_and_the_part_kept(server, tmp_path):
    server.cuts = [700_000] + [0] * 100
    with pytest.raises(InputError, match=r"cannot be downloaded.*\(700,000 bytes\) is kept"):
        downloads.fetch(server.url, tmp_path / "file")
    assert not (tmp_path / "file").exists()
    assert len(server.requests) == 1 + downloads._TRIES - 1
    server.cuts, server.requests = [], []
    downloads.fetch(server.url, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert server.requests[0]["Range"] == "bytes=700000-"
    assert left_beside(tmp_path / "file") == []


def interrupt(server, target, after=700_000):
    """Leave a part of the file, as a run that was stopped does."""
    def stop(done, total):
        if done >= after:
            raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        downloads.fetch(server.url, target, progress=stop)
    server.requests.clear()


def test_a_stopped_run_is_continued_by_the_next(server, tmp_path):
    interrupt(server, tmp_path / "file")
    downloads.fetch(server.url, tmp_path / "file")
    assert int(server.requests[0]["Range"][6:-1]) >= 700_000
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_changed_file_is_fetched_from_the_start(server, tmp_path):
    interrupt(server, tmp_path / "file")
    server.files["/a/file"] = CONTENT[::-1]
    downloads.fetch(server.url, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT[::-1]
    assert len(server.requests) == 1


def test_a_part_of_another_address_is_not_continued(server, tmp_path):
    interrupt(server, tmp_path / "file")
    server.files["/b"] = CONTENT[::-1]
    downloads.fetch(server.base + "/b", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT[::-1]
    assert "Range" not in server.requests[0]


@pytest.mark.parametrize("lacks", ["ranges", "validator", "length"])
def test_a_server_that_cannot_continue_starts_over(server, tmp_path, lacks):
    setattr(server, lacks, False)
    interrupt(server, tmp_path / "file")
    downloads.fetch(server.url, tmp_path / "file", sha256=digest(CONTENT))
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_weak_etag_is_not_enough_to_continue(server, tmp_path):
    server.etag = 'W/"same"'
    interrupt(server, tmp_path / "file")
    server.files["/a/file"] = CONTENT[::-1]
    downloads.fetch(server.url, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize("damage", [
    lambda part: part.write_bytes(CONTENT[:1000] + bytes(700_000)),     # lost in a power cut
    lambda part: part.write_bytes(CONTENT + b"more"),
    lambda part: part.with_name("file.part.json").write_text("{"),
    lambda part: part.unlink()])
def test_a_damaged_part_does_not_stand_in_the_way(server, tmp_path, damage):
    interrupt(server, tmp_path / "file")
    damage(tmp_path / "file.part")
    downloads.fetch(server.url, tmp_path / "file", sha256=digest(CONTENT))
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert left_beside(tmp_path / "file") == []


def test_a_killed_run_that_had_everything_only_needs_its_rename(server, tmp_path):
    interrupt(server, tmp_path / "file", after=len(CONTENT))
    assert (tmp_path / "file.part").read_bytes() == CONTENT
    downloads.fetch(server.url, tmp_path / "file", sha256=digest(CONTENT))
    assert (tmp_path / "file").read_bytes() == CONTENT and server.requests == []


def test_wrong_digest(server, tmp_path):
    with pytest.raises(InputError, match="not the file it should be.*sha256.*was removed"):
        downloads.fetch(server.url, tmp_path / "file", sha256="0" * 64)
    assert list(tmp_path.iterdir()) == []


def google_hashes(data):
    crc = base64.b64encode(crc32c(data).to_bytes(4, "big")).decode()
    md5 = base64.b64encode(hashlib.md5(data).digest()).decode()
    return crc, md5


@pytest.mark.parametrize("kinds", ["crc32c", "md5", "crc32c md5"])
@pytest.mark.parametrize("good", [True, False])
def test_hashes_of_google_cloud_storage(server, tmp_path, kinds, good):
    crc, md5 = google_hashes(CONTENT if good else b"else")
    server.headers = [("x-goog-hash", f"{kind}={crc if kind == 'crc32c' else md5}")
                      for kind in kinds.split()]
    if good:
        downloads.fetch(server.url, tmp_path / "file")
        assert (tmp_path / "file").read_bytes() == CONTENT
    else:
        with pytest.raises(InputError, match=kinds.split()[-1]):
            downloads.fetch(server.url, tmp_path / "file")
        assert list(tmp_path.iterdir()) == []


def test_hashes_on_one_line_and_of_what_is_stored_compressed(server, tmp_path):
    crc, md5 = google_hashes(CONTENT)
    server.headers = [("x-goog-hash", f"crc32c={crc},md5={md5}")]
    downloads.fetch(server.url, tmp_path / "one")
    crc, md5 = google_hashes(b"the compressed bytes")
    server.headers = [("x-goog-hash", f"crc32c={crc},md5={md5}"),
                      ("x-goog-stored-content-encoding", "gzip")]
    downloads.fetch(server.url, tmp_path / "two")
    assert (tmp_path / "two").read_bytes() == CONTENT


def test_the_hash_is_remembered_over_a_stop(server, tmp_path):
    server.headers = [("x-goog-hash", f"md5={google_hashes(b'else')[1]}")]
    interrupt(server, tmp_path / "file", after=len(CONTENT))
    server.headers = [("x-goog-hash", f"md5={google_hashes(CONTENT)[1]}")]
    downloads.fetch(server.url, tmp_path / "file")      # the part was wrong: fetched once more
    assert (tmp_path / "file").read_bytes() == CONTENT and len(server.requests) == 1


def test_no_such_file(server, tmp_path):
    with pytest.raises(InputError, match=r"/nothing cannot be downloaded, the server answers 404"):
        downloads.fetch(server.base + "/nothing", tmp_path / "file")
    assert len(server.requests) == 1 and list(tmp_path.iterdir()) == []


def test_a_busy_server_is_asked_again(server, tmp_path):
    server.codes = [503, 429, 500]
    downloads.fetch(server.url, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    server.codes = [503] * 100
    with pytest.raises(InputError, match="answers 503.*try again later"):
        downloads.fetch(server.url, tmp_path / "other")


def test_no_network_is_said_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("waited for a network"))
    for url in ("http://127.0.0.1:9/file", "http://no-such-host.invalid/file"):
        with pytest.raises(InputError, match=f"{url} cannot be downloaded .*check the network"):
            downloads.fetch(url, tmp_path / "file")
        assert list(tmp_path.iterdir()) == []


def test_a_silent_server_is_not_waited_for_forever(server, tmp_path):
    server.delay = 30
    with pytest.raises(InputError, match="timed out"):
        downloads.fetch(server.url, tmp_path / "file", timeout=0.1)


def test_no_space(server, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=2_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(InputError, match="has 2 MB free, and file.part needs 3 MB"):
        downloads.fetch(server.url, tmp_path / "file")


def test_a_folder_that_cannot_be_made(server, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        downloads.fetch(server.url, tmp_path / "taken" / "file")


def test_two_runs_at_once(server, tmp_path):
    server.pause = 0.005
    outcomes = []

    def run():
        try:
            outcomes.append(downloads.fetch(server.url, tmp_path / "file"))
        except InputError as error:
            outcomes.append(str(error))
    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count(tmp_path / "file") >= 1
    assert all(outcome == tmp_path / "file" or "Another run is fetching" in outcome
               for outcome in outcomes)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert left_beside(tmp_path / "file") == []


def test_a_killed_process_leaves_no_lock_and_is_continued(server, tmp_path):
    server.pause = 0.05
    program = ("import sys; from synths.weights import downloads; "
               "downloads.fetch(sys.argv[1], sys.argv[2], "
               "progress=lambda done, total: print(done, flush=True))")
    process = subprocess.Popen([sys.executable, "-c", program, server.url, str(tmp_path / "file")],
                               stdout=subprocess.PIPE, text=True, cwd=HOUSE)
    process.stdout.readline()
    with pytest.raises(InputError, match="Another run is fetching"):
        downloads.fetch(server.url, tmp_path / "file")
    process.kill()
    process.wait()
    process.stdout.close()
    server.pause = 0
    server.requests.clear()
    downloads.fetch(server.url, tmp_path / "file")
    assert "Range" in server.requests[0]
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert left_beside(tmp_path / "file") == []


def test_the_mirror_replaces_scheme_and_host(server, tmp_path, monkeypatch):
    monkeypatch.setenv("SYNTHS_MIRROR", server.base + "/")
    downloads.fetch("https://storage.example/a/file", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


# The book's files


def test_sounds_of_the_book(server, tmp_path):
    files = {"1__a b.wav": b"one", "2__c.wav": b"two"}
    server.files = {"/sounds/1__a%20b.wav": b"one", "/sounds/2__c.wav": b"two"}
    digests = {name: digest(data) for name, data in files.items()}
    seen = []
    for _ in range(2):
        paths = downloads.fetch_book_sounds(
            tmp_path, lambda *counts: seen.append(counts), files=digests,
            base_url=server.base + "/sounds/")
        assert paths == [tmp_path / name for name in files]
        assert [path.read_bytes() for path in paths] == [b"one", b"two"]
    assert seen == [(3, 3), (6, 6)] and len(server.requests) == 2
    server.files["/sounds/2__c.wav"] = b"TWO"
    paths[1].unlink()
    with pytest.raises(InputError, match="2__c.wav.*not the file it should be"):
        downloads.fetch_book_sounds(tmp_path, files=digests, base_url=server.base + "/sounds/")


def test_addresses_of_the_book(server, tmp_path, monkeypatch):
    monkeypatch.setenv("SYNTHS_MIRROR", server.base)
    root = "/PacktPublishing/hands-on-music-generation-with-magenta/master/Chapter05/"
    for folder, call in (("sounds/" + next(iter(downloads.BOOK_SOUNDS)),
                          downloads.fetch_book_sounds),
                         ("midi/cs1-1pre-short.mid", downloads.fetch_book_score)):
        server.files = {root + folder: b"not the book's"}
        with pytest.raises(InputError, match="sha256"):      # found, and told from the real one
            call(tmp_path)
    assert all(re.fullmatch("[0-9a-f]{64}", value) for value in downloads.BOOK_SOUNDS.values())


# Archives


def make_tar(path, files, mode="w"):
    with tarfile.open(path, mode) as tar:
        for name, data in files.items():
            if isinstance(data, tarfile.TarInfo):
                tar.addfile(data)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
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
def test_archives_lose_their_only_folder(tmp_path, make, name):
    archive = make(tmp_path / name, GOOD)
    downloads.unpack(archive, tmp_path / "out")
    assert contents(tmp_path / "out") == {key[5:]: data for key, data in GOOD.items()}
    archive = make(tmp_path / name, {"top": b"1", "ckpt/a": b"2"})
    downloads.unpack(archive, tmp_path / "out")         # replaces what was there
    assert contents(tmp_path / "out") == {"top": b"1", "ckpt/a": b"2"}
    assert sorted(path.name for path in tmp_path.iterdir()) == [name, "out"]


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def zip_link(path):
    with zipfile.ZipFile(path, "w") as zipped:
        info = zipfile.ZipInfo("link")
        info.external_attr = 0o120777 << 16
        zipped.writestr(info, "/etc/passwd")
    return path


@pytest.mark.parametrize("kind, make", [
    ("tar", lambda path: make_tar(path, {"ok": b"1", "../evil": b"2"})),
    ("tar", lambda path: make_tar(path, {"ok": b"1", "a/../../evil": b"2"})),
    ("tar", lambda path: make_tar(path, {"/evil": b"2"})),
    ("zip", lambda path: make_zip(path, {"ok": b"1", "../evil": b"2"})),
    ("zip", lambda path: make_zip(path, {"..\\evil": b"2"})),
    ("zip", lambda path: make_zip(path, {"C:\\evil": b"2", "C:evil": b"2"})),
    ("zip", lambda path: make_zip(path, {"/evil": b"2"})),
    ("tar", lambda path: make_tar(path, {"l": special("l", tarfile.SYMTYPE, "/etc/passwd")})),
    ("tar", lambda path: make_tar(path, {"l": special("l", tarfile.SYMTYPE, ".."),
                                         "l/evil": b"2"})),
    ("tar", lambda path: make_tar(path, {"l": special("l", tarfile.LNKTYPE, "../x")})),
    ("tar", lambda path: make_tar(path, {"l": special("l", tarfile.FIFOTYPE)})),
    ("tar", lambda path: make_tar(path, {"l": special("l", tarfile.CHRTYPE)})),
    ("zip", zip_link)])
def test_archives_that_reach_outside_are_refused(tmp_path, kind, make):
    inner = tmp_path / "inner"
    inner.mkdir()
    archive = make(inner / f"archive.{kind}")
    (inner / "out").mkdir()
    (inner / "out" / "old").write_text("old")
    with pytest.raises(downloads.ArchiveError, match="was not unpacked"):
        downloads.unpack(archive, inner / "out")
    assert contents(tmp_path) == {f"inner/archive.{kind}": archive.read_bytes(),
                                  "inner/out/old": b"old"}


def test_archives_that_are_too_large_are_refused(tmp_path, monkeypatch):
    archive = make_tar(tmp_path / "a.tar.gz", {"a": bytes(300_000), "b": bytes(300_000)}, "w:gz")
    monkeypatch.setattr(archives, "_MOST_BYTES", 500_000)
    with pytest.raises(downloads.ArchiveError, match="more than"):
        downloads.unpack(archive, tmp_path / "out")
    monkeypatch.setattr(archives, "_MOST_BYTES", 10 ** 9)
    monkeypatch.setattr(archives, "_MOST_FILES", 1)
    with pytest.raises(downloads.ArchiveError, match="more than"):
        downloads.unpack(archive, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar.gz"]


@pytest.mark.parametrize("make, name", [
    (make_tar, "a.tar"), (lambda path, files: make_tar(path, files, "w:gz"), "a.tar.gz"),
    (make_zip, "a.zip")])
def test_damaged_archives(tmp_path, make, name):
    data = make(tmp_path / name, {"a/x": CONTENT[:50_000], "a/y": CONTENT[:50_000]}).read_bytes()
    for damaged in (b"", b"text", data[:60_000]):
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(downloads.ArchiveError, match=f"{name} is damaged or not an archive"):
            downloads.unpack(tmp_path / name, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_failed_check_keeps_the_old_folder(tmp_path):
    archive = make_tar(tmp_path / "a.tar", GOOD)
    (tmp_path / "out").mkdir()

    def check(folder):
        assert (folder / "a.index").read_bytes() == b"index"
        raise InputError("no good")
    with pytest.raises(InputError, match="no good"):
        downloads.unpack(archive, tmp_path / "out", check=check)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "out"]
    assert contents(tmp_path / "out") == {}


# Official weights


NSYNTH = checkpoint({"ae_bottleneck/W": np.ones((1, 1, 8, 16))})
GANSYNTH = checkpoint({"Generator/progressive_gan_generator/x/conv2d/kernel": np.ones([3] * 4)})


def listed(folder):
    """What a folder holds, but for the kept digests."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".sha256")


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
def test_official_weights(mirror, tmp_path, name, model, prefix):
    target = tmp_path / "checkpoints"
    found = checkpoints.download(name, target)
    assert found == target / name / prefix
    assert checkpoints.find(name, model, target_dir=target) == found
    assert checkpoints.download(name, target) == found
    assert len(mirror.requests) == 1
    assert listed(target) == [name]
    assert checkpoints.describe(found, model, target).startswith(f"official {name} (")


@pytest.mark.parametrize("break_it", [
    lambda folder: (folder / "model.ckpt-200000.data-00000-of-00001").unlink(),
    lambda folder: (folder / "model.ckpt-200000.data-00000-of-00001").write_bytes(b"x"),
    lambda folder: (folder / "model.ckpt-200000.index").write_bytes(NSYNTH[0][:40]),
    lambda folder: shutil.rmtree(folder),
    lambda folder: [path.unlink() for path in folder.iterdir()]])
def test_broken_weights_are_fetched_again(mirror, tmp_path, break_it):
    target = tmp_path / "c"
    found = checkpoints.download("wavenet-ckpt", target)
    break_it(target / "wavenet-ckpt")
    with pytest.raises(CheckpointError, match="--download"):
        checkpoints.find("wavenet-ckpt", "nsynth", target_dir=target)
    assert checkpoints.download("wavenet-ckpt", target) == found
    assert contents(target / "wavenet-ckpt") == dict(zip(
        ("model.ckpt-200000.index", "model.ckpt-200000.data-00000-of-00001"), NSYNTH))


def test_an_archive_without_the_weights(mirror, tmp_path):
    path = "/download.magenta.tensorflow.org/models/nsynth/wavenet-ckpt.tar"
    for inside in ({"wavenet-ckpt/readme": b"moved"},
                   {"model.ckpt-1.index": NSYNTH[0]},
                   {"m.index": GANSYNTH[0], "m.data-00000-of-00001": GANSYNTH[1]}):
        mirror.files[path] = make_tar(tmp_path / "x", inside).read_bytes()
        with pytest.raises(CheckpointError, match="wavenet-ckpt.tar no longer holds the weights"):
            checkpoints.download("wavenet-ckpt", tmp_path / "c")
        assert list((tmp_path / "c").iterdir()) == []


def test_a_kill_before_unpacking_costs_no_second_download(mirror, tmp_path, monkeypatch):
    target = tmp_path / "c"

    def killed(*_, **__):
        raise KeyboardInterrupt
    with monkeypatch.context() as patch:
        patch.setattr(downloads, "unpack", killed)
        with pytest.raises(KeyboardInterrupt):
            checkpoints.download("wavenet-ckpt", target)
    assert [path.name for path in target.iterdir()] == ["wavenet-ckpt.tar"]
    checkpoints.download("wavenet-ckpt", target)
    assert listed(target) == ["wavenet-ckpt"]
    assert len(mirror.requests) == 1


def test_a_broken_archive_put_there_by_hand_is_removed(mirror, tmp_path):
    target = tmp_path / "c"
    target.mkdir()
    (target / "wavenet-ckpt.tar").write_bytes(b"half")
    with pytest.raises(downloads.ArchiveError, match="wavenet-ckpt.tar is damaged"):
        checkpoints.download("wavenet-ckpt", target)
    checkpoints.download("wavenet-ckpt", target)


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL in the middle of a rename")
def test_killed_while_unpacking(mirror, tmp_path):
    target = tmp_path / "c"
    program = ("import os, signal, sys; from synths.weights import checkpoints, downloads; "
               "os.replace = lambda *a: (sys.stdout.flush(), "
               "os.kill(os.getpid(), signal.SIGKILL)) if '.unpacking' in str(a[0]) "
               "else os.rename(*a); checkpoints.download('wavenet-ckpt', sys.argv[1])")
    result = subprocess.run([sys.executable, "-c", program, str(target)], cwd=HOUSE,
                            env=dict(os.environ))
    assert result.returncode == -signal.SIGKILL
    assert (target / "wavenet-ckpt.unpacking").is_dir() and not (target / "wavenet-ckpt").exists()
    with pytest.raises(CheckpointError, match="--download"):
        checkpoints.find("wavenet-ckpt", "nsynth", target_dir=target)
    checkpoints.download("wavenet-ckpt", target)
    assert listed(target) == ["wavenet-ckpt"]
    assert len(mirror.requests) == 1


def test_two_runs_of_one_download(mirror, tmp_path):
    mirror.pause = 0.1
    target = tmp_path / "c"
    program = ("import sys; from synths.weights import checkpoints; "
               "checkpoints.download(*sys.argv[1:])")
    runs = [subprocess.Popen([sys.executable, "-c", program, "wavenet-ckpt", str(target)],
                             cwd=HOUSE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    errors = [run.communicate()[1] for run in runs]
    assert any(run.returncode == 0 for run in runs)
    for run, error in zip(runs, errors):
        assert run.returncode == 0 or "Another run is fetching" in error
    assert checkpoints.download("wavenet-ckpt", target).name == "model.ckpt-200000"
    assert len(mirror.requests) == 1
    assert listed(target) == ["wavenet-ckpt"]


def test_names_without_an_address(tmp_path):
    for name in ("nsynth_starter", "nothing"):
        with pytest.raises(CheckpointError, match="there are wavenet-ckpt, .*acoustic_only"):
            checkpoints.download(name, tmp_path)


def test_without_a_network_nothing_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.setenv("SYNTHS_MIRROR", "http://127.0.0.1:9")
    with pytest.raises(InputError, match="cannot be downloaded"):
        checkpoints.download("acoustic_only", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_every_official_address_ends_in_an_archive():
    for known in checkpoints.CHECKPOINTS.values():
        assert known.url is None or known.url.startswith("https://") and known.url.endswith(
            (".tar", ".tar.gz", ".zip"))


# Servers at fault


@pytest.mark.parametrize("fault, message", [
    ({"claim": "abc"}, "says that the file has abc bytes"),
    ({"claim": "-5"}, "says that the file has -5 bytes"),
    ({"claim": "9" * 5000}, "says that the file has 9+ ... 9+ bytes"),
    ({"claim": "9" * 14}, "where .* MB are the most"),
    ({"status": 206}, "sent a part where all of the file was asked for"),
    ({"headers": [("x-goog-hash", "crc32c=abc")]}, "sends a crc32c that is none, abc"),
    ({"headers": [("x-goog-hash", "md5=AAAA")]}, "sends a md5 that is none")])
def test_servers_that_contradict_themselves(server, tmp_path, fault, message):
    for name, value in fault.items():
        setattr(server, name, value)
    with pytest.raises(InputError, match=f"cannot be downloaded, its server .*{message}"):
        downloads.fetch(server.url, tmp_path / "file")
    assert list(tmp_path.iterdir()) == [] and len(server.requests) == 1


def test_a_file_without_end(server, tmp_path):
    server.length = False
    with pytest.raises(InputError, match="sends more than 1 MB"):
        downloads.fetch(server.url, tmp_path / "file", most=1_000_000)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_is_too_slow(server, tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "_PATIENCE", 0.2)
    monkeypatch.setattr(downloads, "_SLOWEST", 10_000_000)
    server.pause = 0.05
    with pytest.raises(InputError, match="bytes a second.*is kept"):
        downloads.fetch(server.url, tmp_path / "file")
    assert len(server.requests) == 1


def test_redirects_stay_on_https(server, tmp_path):
    handler = downloads._SafeRedirects()
    request = downloads.urllib.request.Request("https://storage.example/a")
    for url in ("http://storage.example/a", "ftp://storage.example/a", "file:///etc/passwd"):
        with pytest.raises(downloads._ServerError, match="not safe"):
            handler.redirect_request(request, None, 302, "Found", {}, url)
    moved = handler.redirect_request(request, None, 302, "Found", {}, "https://other.example/b")
    assert moved.full_url == "https://other.example/b"
    server.status, server.headers = 302, [("Location", "ftp://127.0.0.1/x")]
    with pytest.raises(InputError, match="server sends on to an address that is not safe"):
        downloads.fetch(server.url, tmp_path / "file")


def test_a_link_in_the_place_of_the_part_is_not_followed(server, tmp_path):
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    folder = tmp_path / "c"
    folder.mkdir()
    for name in ("file.part", "file.part.json"):
        (folder / name).symlink_to(victim)
    downloads.fetch(server.url, folder / "file")
    assert victim.read_bytes() == b"mine" and left_beside(folder / "file") == []


# Archives that cannot be unpacked


def damaged_bz2(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as zipped:
        zipped.writestr("a", CONTENT[:10_000])
    data = bytearray(path.read_bytes())
    data[2000:2100] = bytes(100)
    path.write_bytes(data)
    return path


def huge_header(path):
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 1 << 28
    with tarfile.open(path, "w:gz") as tar:
        tar.fileobj.write(info.tobuf(tarfile.PAX_FORMAT))
        tar.fileobj.write(bytes(1 << 28))
    return path


BAD_ARCHIVES = {
    "file, then folder.tar": lambda path: make_tar(path, {"a": b"1", "a/b": b"2"}),
    "file, then folder.zip": lambda path: make_zip(path, {"a": b"1", "a/b": b"2"}),
    "long name.tar": lambda path: make_tar(path, {"n" * 300: b"1"}),
    "long name.zip": lambda path: make_zip(path, {"n" * 300: b"1"}),
    "bz2.zip": damaged_bz2,
    "zeros.tar": lambda path: path.write_bytes(bytes(100_000)),
    "zeros.tar.gz": lambda path: path.write_bytes(bytes(100_000)),
    "zip by name.zip": lambda path: make_tar(path, GOOD),
    "tar by name.tar": lambda path: make_zip(path, GOOD),
    "gz in a tar by name.tar": lambda path: make_tar(path, GOOD, "w:gz"),
    "header.tar.gz": huge_header,
}


@pytest.mark.parametrize("name", BAD_ARCHIVES)
def test_whatever_cannot_be_unpacked_is_the_archive_s_fault(tmp_path, name):
    BAD_ARCHIVES[name](tmp_path / name)
    with pytest.raises(downloads.ArchiveError):
        downloads.unpack(tmp_path / name, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["file, then folder.tar", "long name.tar", "zeros.tar"])
def test_a_bad_archive_does_not_stay(mirror, tmp_path, name):
    path = "/download.magenta.tensorflow.org/models/nsynth/wavenet-ckpt.tar"
    good = mirror.files[path]
    BAD_ARCHIVES[name](tmp_path / "bad.tar")
    mirror.files[path] = (tmp_path / "bad.tar").read_bytes()
    with pytest.raises(downloads.ArchiveError):
        checkpoints.download("wavenet-ckpt", tmp_path / "c")
    assert list((tmp_path / "c").iterdir()) == []
    mirror.files[path] = good
    checkpoints.download("wavenet-ckpt", tmp_path / "c")


def test_a_full_disk_keeps_the_archive(mirror, tmp_path, monkeypatch):
    import errno

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")
    with monkeypatch.context() as patch:
        patch.setattr(tarfile.TarFile, "extract", full)
        with pytest.raises(InputError, match="No space left on device.*make space"):
            checkpoints.download("wavenet-ckpt", tmp_path / "c")
    assert listed(tmp_path / "c") == ["wavenet-ckpt.tar"]
    checkpoints.download("wavenet-ckpt", tmp_path / "c")
    assert len(mirror.requests) == 1


def test_other_weights_under_the_same_name_are_refused(mirror, tmp_path):
    path = "/download.magenta.tensorflow.org/models/nsynth/wavenet-ckpt.tar"
    target = tmp_path / "c"
    checkpoints.download("wavenet-ckpt", target)
    record = target / "wavenet-ckpt.tar.sha256"
    assert record.read_text() == f"{digest(mirror.files[path])}  wavenet-ckpt.tar\n"
    shutil.rmtree(target / "wavenet-ckpt")
    mirror.files[path] += bytes(1024)
    with pytest.raises(InputError, match="not the file that was fetched here before"):
        checkpoints.download("wavenet-ckpt", target)
    assert listed(target) == []
    record.unlink()
    checkpoints.download("wavenet-ckpt", target)


def test_a_lock_that_a_killed_download_left_is_swept(server, tmp_path):
    """Killed between the file's name and the end: the file is whole, and its lock still there."""
    target = tmp_path / "file"
    target.write_bytes(CONTENT)
    for end in (".lock", ".part"):
        (tmp_path / f"file{end}").write_bytes(b"")
    downloads.fetch(server.url, target)
    assert left_beside(target) == [] and not server.requests
    (tmp_path / "file.part").write_bytes(b"")
    with files.lock(tmp_path / "file.lock"):    # another run's
        downloads.fetch(server.url, target)
        assert (tmp_path / "file.part").exists()


def test_what_a_killed_download_left_is_swept(mirror, tmp_path):
    target = tmp_path / "c"
    checkpoints.download("wavenet-ckpt", target)
    for name in ("wavenet-ckpt.tar", "wavenet-ckpt.tar.part", "wavenet-ckpt.tar.part.json",
                 "wavenet-ckpt.lock", "wavenet-ckpt.tar.lock"):
        (target / name).write_bytes(b"left")
    for name in ("wavenet-ckpt.unpacking", "wavenet-ckpt.replaced"):
        (target / name).mkdir()
    checkpoints.download("wavenet-ckpt", target)
    assert listed(target) == ["wavenet-ckpt"]


def test_killed_while_the_digest_is_written(mirror, tmp_path):
    """The weights are there, the archive still is: its digest is kept all the same."""
    target = tmp_path / "c"
    checkpoints.download("wavenet-ckpt", target)
    record = target / "wavenet-ckpt.tar.sha256"
    kept = record.read_bytes()
    record.rename(target / f".{record.name}.{'0' * 16}.part")
    path = "/download.magenta.tensorflow.org/models/nsynth/wavenet-ckpt.tar"
    (target / "wavenet-ckpt.tar").write_bytes(mirror.files[path])
    checkpoints.download("wavenet-ckpt", target)
    assert record.read_bytes() == kept
    assert sorted(path.name for path in target.iterdir()) == ["wavenet-ckpt", record.name]
