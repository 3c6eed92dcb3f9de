"""Collect the 67 sounds that the NSynth starter was not trained on, for `training.nsynth.unseen`.

`python -m training.nsynth.collect FOLDER` downloads Debian packages (about 270 MB, kept in
FOLDER/packages) with `apt-get download`, and writes FOLDER/sounds/GROUP/NAME.wav.  Each file has
the first second from the onset, at 16 kHz, mono, with a peak of 0.9.  `unseen.tsv` lists the sounds
and their SHA-256.  The command needs apt, dpkg, fluidsynth and espeak-ng.  The sounds' licences
(GPL, CC-BY-SA and others) differ from this repository's: do not commit them, and never train on
them.
"""

from __future__ import annotations

import hashlib
import io
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import mido
import numpy as np
import soundfile
import soxr

from training import command, make_parser

RATE = 16000
LIST = Path(__file__).with_name("unseen.tsv")


def unpacked(package: str, folder: Path) -> Path:
    """The folder with a Debian package's files, downloaded if it is missing."""
    target = folder / package
    if not target.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", "-q", package], cwd=folder, check=True)
        file = next(folder.glob(f"{package}_*.deb"))
        subprocess.run(["dpkg", "-x", str(file), str(target)], check=True)
    return target


def resource(data: bytes, name: str) -> bytes:
    """A file out of a Qt resource collection (.rcc)."""
    version, tree, blobs, names = struct.unpack(">4I", data[4:20])
    size, todo = 14 if version == 1 else 22, [0]
    while todo:
        at = tree + todo.pop() * size
        offset, flags = struct.unpack(">IH", data[at:at + 6])
        if flags & 2:                                   # a folder
            count, first = struct.unpack(">II", data[at + 6:at + 14])
            todo += range(first, first + count)
            continue
        length, = struct.unpack(">H", data[names + offset:names + offset + 2])
        label = data[names + offset + 6:][:2 * length].decode("utf-16-be")
        if label == name:
            blob = blobs + struct.unpack(">I", data[at + 10:at + 14])[0]
            raw = data[blob + 4:][:struct.unpack(">I", data[blob:blob + 4])[0]]
            return zlib.decompress(raw[4:]) if flags & 1 else raw
    raise KeyError(name)


def patch(data: bytes) -> tuple[np.ndarray, int]:
    """The first waveform of a Gravis patch, its loop repeated to 1.5 seconds, and its rate."""
    at = 129 + 63 + 47
    size, start, end, rate = struct.unpack("<IIIH", data[at + 8:at + 22])
    modes, raw = data[at + 55], data[at + 96:][:size]
    unit, unsigned = (2 if modes & 1 else 1), modes & 2
    kind = ("<u2" if unsigned else "<i2") if unit == 2 else ("u1" if unsigned else "i1")
    full = 32768 if unit == 2 else 128
    audio = np.frombuffer(raw, kind).astype(float) - (full if unsigned else 0)
    start, end = start // unit, end // unit
    while modes & 4 and len(audio) < 1.5 * rate and end > start + 1:
        audio = np.concatenate([audio[:end], audio[start:end]])
        end = len(audio)
    return audio / full, rate


def note(font: Path, program: int, pitch: int) -> tuple[np.ndarray, int]:
    """One note of a SoundFont, without reverb and chorus."""
    midi = mido.MidiFile(ticks_per_beat=480)
    midi.add_track().extend([
        mido.Message("program_change", program=program),
        mido.Message("note_on", note=pitch, velocity=100),
        mido.Message("note_off", note=pitch, velocity=0, time=912),
        mido.MetaMessage("end_of_track", time=432)])
    with tempfile.TemporaryDirectory() as folder:
        score, file = Path(folder, "note.mid"), Path(folder, "note.wav")
        midi.save(score)
        subprocess.run(["fluidsynth", "-ni", "-R", "0", "-C", "0", "-g", "0.7", "-r", "44100", "-F",
                        str(file), str(font), str(score)], check=True, capture_output=True)
        return soundfile.read(file)


def spoken(text: str) -> tuple[np.ndarray, int]:
    """A sentence by espeak-ng."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "speech.wav")
        subprocess.run(["espeak-ng", "-v", "en-us+f3", "-w", str(file), text], check=True)
        return soundfile.read(file)


def read(root: Path, what: str) -> tuple[np.ndarray, int]:
    """Audio and sample rate of an entry of the list."""
    kind, _, rest = what.partition(":")
    if kind == "rcc":
        collection, name = rest.split("/")
        return soundfile.read(io.BytesIO(resource(
            next(root.rglob(collection)).read_bytes(), name)))
    if kind == "pat":
        return patch(next(root.rglob(Path(rest).name)).read_bytes())
    if kind == "sf2":
        return note(next(root.rglob("*.sf2")), *map(int, rest.split(":")))
    if kind == "say":
        return spoken(rest)
    return soundfile.read(next(root.rglob(Path(rest or what).name)))


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Collect; see the module's head."""
    parser = make_parser("training.nsynth.collect", __doc__)
    parser.add_argument("folder", type=Path, help="folder of the packages and the sounds")
    folder = parser.parse_args(arguments).folder
    differ = []
    for line in LIST.read_text("utf-8").splitlines()[1:]:
        group, name, package, what, digest = line.split("\t")
        said = what.startswith("say:")
        audio, rate = read(folder if said else unpacked(package, folder / "packages"), what)
        audio = audio.mean(1) if audio.ndim == 2 else audio
        audio = soxr.resample(audio, rate, RATE, quality="VHQ") if rate != RATE else audio
        onset = int(np.argmax(np.abs(audio) > 0.01 * np.abs(audio).max()))
        audio = audio[max(0, onset - 80):][:RATE]
        audio = np.pad(audio, (0, RATE - len(audio))) * (0.9 / np.abs(audio).max())
        path = folder / "sounds" / group / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, audio, RATE, subtype="PCM_16")
        if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            differ.append(f"{group}/{name}")
    if differ:
        print("These sounds differ from those in unseen.tsv, because the packages have other "
              f"versions: {', '.join(differ)}.", file=sys.stderr)


if __name__ == "__main__":
    raise SystemExit(main())
