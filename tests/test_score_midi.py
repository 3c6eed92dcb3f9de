"""MIDI files as people have them: each case in a file of a few dozen bytes."""

import random
import resource
import struct
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pretty_midi
import pytest

from synths import InputError
from synths.gansynth import generate_util, load_midi, midi, summary

ROOT = Path(__file__).parent.parent
BEAT = 480  # ticks; half a second at 120 bpm
END = b"\x00\xff\x2f\x00"


def delta(ticks):
    """A number of variable length."""
    septets = [ticks & 0x7F]
    while ticks := ticks >> 7:
        septets.insert(0, ticks & 0x7F | 0x80)
    return bytes(septets)


def on(pitch, after=0, velocity=100, channel=0):
    return delta(after) + bytes([0x90 | channel, pitch, velocity])


def off(pitch, after=BEAT, channel=0):
    return delta(after) + bytes([0x80 | channel, pitch, 64])


def note(pitch, channel=0, length=BEAT):
    return on(pitch, channel=channel) + off(pitch, length, channel)


def control(number, value, after=0, channel=0):
    return delta(after) + bytes([0xB0 | channel, number, value])


def meta(kind, content=b"", after=0):
    return delta(after) + bytes([0xFF, kind, len(content)]) + content


def track(*events, end=END, length=None):
    body = b"".join(events) + end
    return b"MTrk" + struct.pack(">I", len(body) if length is None else length) + body


def file(*tracks, kind=1, division=BEAT, count=None):
    tracks = [each if each[:4] == b"MTrk" else track(each) for each in tracks]
    return (b"MThd" + struct.pack(">IHHH", 6, kind, len(tracks) if count is None else count,
                                  division) + b"".join(tracks))


@pytest.fixture
def read(tmp_path):
    """Read bytes as a score: [(pitch, start, end)] in beats, and the report."""
    def reader(data, beat=0.5, **options):
        path = tmp_path / "score.mid"
        path.write_bytes(data)
        notes = load_midi(path, **options)
        times = [(notes[key] / beat).round(3).tolist() for key in ("start_times", "end_times")]
        reader.velocities = notes["velocities"].tolist()
        return list(zip(notes["pitches"].tolist(), *times)), notes["report"]
    return reader


PEDAL, UP = control(64, 127), control(64, 0, 2 * BEAT)
ONE = [(60, 0, 1)]

CASES = {  # name: the file, the notes, words of the report
    "pedal": (file(PEDAL + note(60) + note(64) + UP), [(60, 0, 4), (64, 1, 4)], "held 2 notes"),
    "pedal on another track": (file(PEDAL + UP, note(60)), [(60, 0, 2)], "held 1 note longer"),
    "pedal of another channel": (file(control(64, 127, channel=1) + note(60) + UP), ONE, ""),
    "pedal until the key is struck again": (
        file(PEDAL + note(60) + on(60, BEAT) + off(60) + UP), [(60, 0, 2), (60, 2, 5)], "held 2"),
    "pedal that never goes up": (file(PEDAL + note(60) + meta(1, after=BEAT)), [(60, 0, 2)],
                                 "held 1"),
    "pedal up and down at once": (
        file(PEDAL + note(60) + control(64, 0, BEAT) + control(64, 127) + note(64) + UP),
        [(60, 0, 2), (64, 2, 5)], "held 2"),
    "pedal down after the off at one tick": (file(note(60) + PEDAL + UP), ONE, ""),
    "pedal down after the off of an earlier track": (
        file(note(60), control(64, 127, BEAT) + UP), ONE, ""),
    "pedal changed before the off at one tick": (
        file(PEDAL + on(60) + control(64, 0, BEAT) + control(64, 127) + off(60, 0) + UP),
        [(60, 0, 3)], "held 1"),
    "pedal changed after the off at one tick": (
        file(PEDAL + note(60) + control(64, 0) + control(64, 127) + UP), ONE, ""),
    "pedal down before the off": (file(on(60) + PEDAL + off(60) + UP), [(60, 0, 3)], "held 1"),
    "reset of the pedal": (file(PEDAL + note(60) + control(121, 0, BEAT)), [(60, 0, 2)], "held 1"),
    "sostenuto": (file(on(60) + control(66, 127, 1) + on(64, 1) + off(60) + off(64, 0)
                       + control(66, 0, 2 * BEAT - 2)), [(64, 0.004, 1.004), (60, 0, 3)], "held 1"),
    "struck again": (file(on(60) + on(60, BEAT) + off(60, 3) + off(60, BEAT - 3)),
                     [(60, 0, 1.006), (60, 1, 2)], "1 note struck again"),
    "struck again with fewer offs": (file(on(60) + on(60, BEAT) + on(60, BEAT) + off(60)),
                                     [(60, 0, 1), (60, 1, 2), (60, 2, 3)], "2 notes struck again"),
    "struck again, later with fewer offs": (
        file(on(60) + on(60, 240) + off(60, 240) + off(60, 240) + on(60) + on(60, 720) + off(60)),
        [(60, 0, 1), (60, 0.5, 1.5), (60, 1.5, 3), (60, 3, 4)], "2 notes struck again"),
    "an off missing and another left over much later": (
        file(note(62) * 6 + on(60) + on(60, BEAT) + off(60)
             + 5 * (on(60, BEAT) + off(60)) + off(60)),
        [*((62, beat, beat + 1) for beat in range(6)),
         *((60, beat, beat + 1) for beat in (6, 7, 9, 11, 13, 15, 17))], "1 note struck again"),
    "on before off at one tick": (file(on(60) + on(60, BEAT) + off(60, 0) + off(60)),
                                  [(60, 0, 1), (60, 1, 2)], ""),
    "no off": (file(note(60) + on(64) + meta(1, after=2 * BEAT)), [*ONE, (64, 1, 3)],
               "a note-off"),
    "no off in a track that ends much later": (
        file(on(60) + b"\xff\xff\xff\x7f\xff\x2f\x00"), [(60, 0, 120)], "without a note-off"),
    "all notes off": (file(on(60) + on(64) + control(123, 0, BEAT) + on(67)
                           + control(123, 0, BEAT)), [*ONE, (64, 0, 1), (67, 1, 2)], "ended by"),
    "all sound off with the pedal": (file(PEDAL + on(60) + control(120, 0, BEAT) + UP), ONE,
                                     "ended by"),
    "off on another track": (file(on(60) + on(60, 2 * BEAT), off(60) + off(60, 2 * BEAT)),
                             [*ONE, (60, 2, 3)], ""),
    "no length": (file(note(60) + note(62, length=0) + note(64)),
                  [*ONE, (62, 1, 1.002), (64, 1, 2)], "1 note of zero length lengthened"),
    "no length where another begins": (file(note(60, length=0) + note(60)), ONE, "left out"),
    "short meta events": (file(meta(0x58, b"\4\2") + meta(0x59) + meta(0x51) + meta(0x20)
                               + meta(0x54, b"\xff") + meta(0x00, b"x") + note(60)), ONE, ""),
    "tempo of nothing": (file(meta(0x51, bytes(3)) + note(60)), ONE, ""),
    "unknown meta event with time": (file(note(60) + meta(8, b"x", BEAT) + note(62)),
                                     [*ONE, (62, 2, 3)], ""),
    "text after hundreds of hours": (file(note(60) + b"\xff\xff\xff\x7f\xff\x01\x01x"), ONE, ""),
    "tempo after hundreds of hours": (
        file(note(60) + b"\xff\xff\xff\x7f\xff\x51\x03\x01\x01\x01"), ONE, ""),
    "length too long": (file(track(note(60), length=999), note(62)), [*ONE, (62, 0, 1)], ""),
    "length too short": (file(track(note(60), length=3), note(62)), [*ONE, (62, 0, 1)], ""),
    "length of nothing": (file(track(note(60), length=0)), ONE, ""),
    "length without end": (file(track(note(60), length=0xFFFFFFFF)), ONE, ""),
    "padding": (file(track(note(60), end=END + bytes(9)), note(62)), [*ONE, (62, 0, 1)], ""),
    "padding between tracks": (file(note(60)) + b"\0" + track(note(62)), [*ONE, (62, 0, 1)], ""),
    "events after the end": (file(track(note(60), END, note(62))), ONE, ""),
    "no end of track": (file(track(note(60), end=b"")), ONE, ""),
    "alien chunk": (file(note(60)) + b"JUNK\0\0\0\3abc" + track(note(62)), [*ONE, (62, 0, 1)],
                    "1 unknown chunk"),
    "more tracks than announced": (file(note(60), note(62), count=1), [*ONE, (62, 0, 1)], ""),
    "fewer tracks than announced": (file(note(60), count=3), ONE, "2 missing tracks"),
    "tracks in format 0": (file(note(60), note(62), kind=0), [*ONE, (62, 0, 1)], ""),
    "longer header": (file(note(60)).replace(b"\0\0\0\6", b"\0\0\0\x0a", 1).replace(
        b"MTrk", bytes(4) + b"MTrk"), ONE, ""),
    "running status": (file(on(60) + delta(BEAT) + b"\x3c\x00"), ONE, ""),
    "running status after sysex": (file(on(60) + b"\x00\xf0\x02\x7d\xf7" + delta(BEAT)
                                        + b"\x3c\x00"), ONE, ""),
    "undefined status": (file(b"\0\xf4\0\xf5\0\xf9\0\xfd\0\xf8\0\xf2\1\2" + note(60)), ONE, ""),
    "velocity over 127": (file(b"\x00\x90\x3c\xe4" + off(60)), ONE, ""),
    "controller over 127": (file(control(0, 168) + on(60) + control(200, 0, BEAT) + off(60, 0)),
                            ONE, ""),
    "junk before": (bytes(512) + file(note(60)), ONE, "512 skipped bytes"),
    "long RIFF list": (b"RIFF" + bytes(4) + b"RMIDLIST" + bytes(300) + b"data" + bytes(4)
                       + file(note(60)) + b"LIST\x04\0\0\0abcd", ONE, ""),
    "two files": (file(note(60)) + file(note(62)), ONE, ""),
    "cut end": (file(note(60) + note(62))[:-9], [*ONE, (62, 1, 1.002)], "cut short"),
    "SMPTE division": (file(note(60, length=500), division=(256 - 25) << 8 | 40), ONE, ""),
    "format 2": (file(note(60), meta(0x51, b"\x03\xd0\x90") + note(62), kind=2),
                 [*ONE, (62, 1, 1.5)], "2 patterns"),
    "drums": (file(note(60) + note(36, channel=9)), ONE, "1 drum note left out"),
    "XG drums": (file(note(60) + control(0, 127, channel=4) + b"\0\xc4\0" + note(36, 4)
                      + control(0, 0, channel=4) + b"\0\xc4\0" + note(62, 4)),
                 [*ONE, (62, 2, 3)], "1 drum note"),
    "XG effects": (file(note(60) + control(0, 126, channel=4) + b"\0\xc4\0" + note(36, 4)),
                   ONE, "1 drum note"),
    "GM2 drums": (file(note(60) + control(0, 120, channel=10) + b"\0\xca\0" + note(36, 10)),
                  ONE, "1 drum note"),
    "GS drums on channel 11, melody on 10": (
        file(b"\0\xf0\x0a\x41\x10\x42\x12\x40\x1a\x15\x02\x0f\xf7" + control(0, 0, channel=10)
             + b"\0\xca\0"
             b"\0\xf0\x0a\x41\x10\x42\x12\x40\x10\x15\x00\x1b\xf7" + note(60, 9) + note(36, 10)),
        ONE, "1 drum note"),
    "two performances": (file(meta(0x7F, b"\0\0\x41") + note(60) + note(60, 12)), ONE, "copy"),
    "volume of nothing": (file(control(7, 0, channel=1) + note(62, 1), note(60)), ONE, "volume 0"),
    "out of range": (file(note(60) + note(23) + note(108)), ONE, "2 notes outside"),
    "pitch bend": (file(note(60) + b"\x00\xe0\x00\x60" + note(62) + b"\x00\xe0\x00\x40" + note(64)),
                   [*ONE, (62, 1, 2), (64, 2, 3)], "bends of 1 note"),
}


@pytest.mark.parametrize("name", CASES)
def test_read_notes_unusual_file_plays_what_is_there(read, name):
    data, notes, words = CASES[name]
    found, report = read(data)
    assert sorted(found) == sorted(notes)
    assert words in str(report) if words else not str(report)


def test_read_notes_without_pedal_plays_as_printed(read):
    data = CASES["pedal"][0]
    assert read(data, pedal=False)[0] == [(60, 0, 1), (64, 1, 2)]


@pytest.mark.parametrize("controls, channel, expected", [
    (control(7, 50), 0, [50, 100]),                       # against the other channel's 100
    (control(11, 64), 0, [50, 100]),
    (control(7, 127), 0, [100, 79]),
    (control(7, 64) + control(7, 64, channel=1), 0, [100, 100]),
    (control(7, 1, channel=9) + control(11, 1, channel=9), 9, [100, 100]),
    (control(7, 0) + control(7, 0, channel=1), 0, [100, 100]),    # all silent: no one is
    (control(11, 0) + control(11, 127, 10), 0, [100, 100]),
])
def test_read_notes_volume_scales_velocities(read, controls, channel, expected):
    read(file(controls + note(60), note(62, 1)))
    assert read.velocities == expected


def test_read_notes_that_fade_in_keep_the_level_they_reach(read):
    read(file(control(11, 0) + on(60) + control(11, 64, 9) + off(60), note(62, 1)))
    assert read.velocities == [50, 100]


@pytest.mark.parametrize("data, word", [
    (b"", "header"), (b"just text", "header"), (b"MThd", "header"), (bytes(1000), "header"),
    (file(note(60), division=0), "header"), (file(note(60))[:14], "no tracks"),
    (file(b""), "no notes"), (file(note(60, 9) + note(100)), "1 drum note"),
    (file(b"\xff\xff\xff\x7f" + off(60)), "cut short"),
])
def test_load_midi_unusable_file_is_refused_in_one_sentence(read, data, word):
    with pytest.raises(InputError, match=word) as caught:
        read(data)
    assert "score.mid" in str(caught.value) and "\n" not in str(caught.value)


def test_load_midi_missing_file_raises_oserror(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_midi(tmp_path / "nowhere.mid")


def test_load_midi_limits_pitches(read):
    found, report = read(file(note(24) + note(60) + note(84)), max_pitch=60)
    assert [pitch for pitch, *_ in found] == [24, 60] and report.counts["range"] == 1


def test_summary_is_one_line(read, tmp_path):
    read(file(PEDAL + note(60) + UP, note(36, 9) * 12))
    assert summary(load_midi(tmp_path / "score.mid")) == (
        "1 note, 1.5 s; pedal held 1 note longer; 12 drum notes left out")


# Against note_seq --------------------------------------------------------------------------------


def plain_file(path, seed):
    """Write a piece without any of the cases above, by another library."""
    rng = np.random.default_rng(seed)
    score = pretty_midi.PrettyMIDI(initial_tempo=rng.uniform(30, 250),
                                   resolution=int(rng.choice([24, 96, 220, 480, 1920])))
    for program in rng.integers(0, 128, rng.integers(1, 5)):
        instrument = pretty_midi.Instrument(int(program), bool(rng.random() < 0.2))
        free = np.zeros(128)  # each key's time from which it is free
        for start in np.sort(rng.uniform(0, 20, rng.integers(1, 60))):
            pitch, length = int(rng.integers(24, 85)), rng.uniform(0.05, 2)
            if free[pitch] <= start:
                free[pitch] = start + length + 0.1
                instrument.notes.append(pretty_midi.Note(int(rng.integers(1, 128)), pitch, start,
                                                         start + length))
        score.instruments.append(instrument)
    score.write(str(path))


def test_read_notes_plain_files_are_note_seqs(tmp_path):
    from note_seq import midi_io

    paths = [ROOT / "midi" / "cs1-1pre-short.mid"]
    for seed in range(60):
        paths.append(tmp_path / f"{seed}.mid")
        plain_file(paths[-1], seed)
    for path in paths:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = midi_io.midi_file_to_note_sequence(str(path))
        sequence, report = midi.read_notes(path)
        assert list(sequence.notes) == list(expected.notes) and not str(report)
        assert sequence.total_time == expected.total_time


def test_read_notes_tempo_on_any_track_counts(read):
    half, whole = (meta(0x51, struct.pack(">I", tempo)[1:], BEAT) for tempo in (500000, 1000000))
    found, _ = read(file(meta(1, after=BEAT) + whole, half + whole, note(60) * 5))
    assert [start for _, start, _ in found] == [0, 1, 2, 4, 6]


def test_read_notes_instruments_of_a_track_stay_together(read):
    program = lambda number: bytes([0, 0xC0, number])  # noqa: E731
    found, _ = read(file(note(60) + program(5) + note(62) + program(0) + note(64) + program(5)
                         + note(66)))
    assert [pitch for pitch, *_ in found] == [60, 64, 62, 66]


# Size and damage ---------------------------------------------------------------------------------

_LOAD = """
import re, sys, time
from pathlib import Path
from synths.gansynth import load_midi
begin = time.process_time()
notes = load_midi(sys.argv[1])
peak = re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())
print(len(notes["pitches"]), time.process_time() - begin, int(peak[1]) / 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the memory from Linux")
def test_load_midi_long_file_is_quick_and_small(tmp_path):
    rng = random.Random(1)
    notes = b"".join(control(64, rng.randrange(128), 30) + control(11, rng.randrange(1, 128))
                     + note(rng.randrange(24, 85), length=90) for _ in range(20_000))
    (tmp_path / "long.mid").write_bytes(file(notes, division=32767))
    done = subprocess.run([sys.executable, "-c", _LOAD, str(tmp_path / "long.mid")], cwd=ROOT,
                          capture_output=True, text=True, check=True)
    count, seconds, megabytes = map(float, done.stdout.split())
    assert count == 20_000 and seconds < 5 and megabytes < 200


def test_load_midi_damaged_files_play_or_are_refused(tmp_path):
    rng = random.Random(2)
    whole = [data for data, *_ in CASES.values()]
    path = tmp_path / "damaged.mid"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    played = 0
    for _ in range(500):
        data = bytearray(rng.choice(whole))
        for _ in range(rng.randint(1, 4)):
            place = rng.randrange(14, len(data) + 1)
            new = rng.choice([b"", bytes([rng.randrange(256)]), b"\xff" * 4, rng.randbytes(3),
                              b"MTrk", b"\xff\xff\xff\x7f", bytes(data[place:place + 9]) * 2])
            data[place:place + rng.randrange(4)] = new
        path.write_bytes(data[:rng.choice([len(data), rng.randrange(len(data) + 1)])])
        try:
            notes = load_midi(path)
        except InputError:
            continue
        played += 1
        assert (notes["start_times"] >= 0).all() and generate_util.summary(notes)
        assert (notes["end_times"] > notes["start_times"]).all()
        assert ((1 <= notes["velocities"]) & (notes["velocities"] <= 127)).all()
    assert played > 100
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB
