"""Scores: MIDI files read, instruments placed in time, notes mixed; against Magenta's own code."""

import struct
import subprocess
import sys
from pathlib import Path

import mido
import numpy as np
import pretty_midi
import pytest

from synths import InputError
from synths.gansynth import generate_util as score

ROOT = Path(__file__).parent.parent

_MAGENTA = """
import sys
from pathlib import Path
import numpy as np
from magenta.models.gansynth.lib import generate_util
from synths.gansynth import Model

folder = Path(sys.argv[1])
for path in folder.glob("*.mid"):
    _, notes = generate_util.load_midi(str(path), min_pitch=24)
    np.savez(path.with_suffix(".npz"), **notes)

given = dict(np.load(folder / "given.npz"))
class Latents:
    def generate_z(self, n):
        return given["z"][:n]
out = {}
out["z"], out["t"] = generate_util.get_random_instruments(
    Latents(), given["total_time"].item(), 3.0)
out["z_notes"] = generate_util.get_z_notes(given["start_times"], out["z"], out["t"])
out["clip"] = generate_util.combine_notes(
    given["audio_notes"], given["start_times"], given["end_times"], given["velocities"])
out["z_drawn"], out["t_drawn"] = generate_util.get_random_instruments(
    Model.load_from_path("tests/data/gansynth_small"), 20.0, 5.0)
np.savez(folder / "out.npz", **out)
"""


def two_hands(path):
    """A piece as programs write them: a tempo track, two instruments, a change of tempo."""
    midi = pretty_midi.PrettyMIDI(initial_tempo=97)
    rng = np.random.default_rng(0)
    for program, low in ((0, 60), (32, 30)):
        instrument = pretty_midi.Instrument(program, name=f"hand {program}")
        start = 0.0
        for _ in range(40):
            length = rng.uniform(0.05, 0.8)
            instrument.notes.append(pretty_midi.Note(
                int(rng.integers(1, 128)), int(low + rng.integers(0, 24)), start, start + length))
            start += rng.uniform(0.0, 0.6)
        midi.instruments.append(instrument)
    midi.key_signature_changes.append(pretty_midi.KeySignature(2, 0.0))
    midi.time_signature_changes.append(pretty_midi.TimeSignature(3, 4, 0.0))
    midi.write(str(path))


def tempo_changes(path):
    """Running status, overlapping notes of one pitch, tempo changes; written event by event."""
    midi = mido.MidiFile(ticks_per_beat=384)
    track = midi.add_track("all in one")
    track.append(mido.MetaMessage("set_tempo", tempo=600_000, time=0))
    for step in range(30):
        track.append(mido.Message("note_on", note=40 + step % 7, velocity=30 + step, time=96))
        if step % 10 == 9:
            track.append(mido.MetaMessage("set_tempo", tempo=300_000 + 10_000 * step, time=48))
        track.append(mido.Message("note_on", note=40 + (step - step % 2) % 7, velocity=0, time=96))
    for note in range(40, 47):
        track.append(mido.Message("note_off", note=note, time=10))
    midi.save(str(path))


def tones(pitches, samples=64000):
    """Notes that ring: uneven waves, so that highest and lowest sample differ."""
    seconds = np.arange(samples) / 16000
    turns = 440.0 * 2.0 ** ((np.asarray(pitches)[:, None] - 69) / 12) * seconds
    waves = np.sin(2 * np.pi * turns) + 0.4 * np.sin(4 * np.pi * turns + 1.0)
    return (waves * np.exp(-seconds)).astype(np.float32)


@pytest.fixture(scope="module")
def magenta(tmp_path_factory):
    """A folder of MIDI files, latent vectors and audio, and what Magenta makes of them."""
    folder = tmp_path_factory.mktemp("magenta")
    two_hands(folder / "two_hands.mid")
    tempo_changes(folder / "tempo_changes.mid")
    (folder / "prelude.mid").write_bytes((ROOT / "midi" / "cs1-1pre-short.mid").read_bytes())
    rng = np.random.default_rng(3)
    starts = np.sort(rng.uniform(0, 19, 60))
    ends = starts + rng.uniform(0.02, 4.0, 60)
    ends[-1] = 23.7
    np.savez(folder / "given.npz", z=rng.standard_normal((20, 256)), total_time=ends[-1],
             start_times=starts, end_times=ends, velocities=rng.integers(1, 128, 60),
             audio_notes=tones(rng.integers(24, 85, 60)))
    # In a process of its own: it brings TensorFlow along.
    done = subprocess.run([sys.executable, "-c", _MAGENTA, str(folder)], cwd=ROOT,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.parametrize("name", ["two_hands", "tempo_changes", "prelude"])
def test_notes_are_those_that_magenta_reads(magenta, name):
    notes = score.load_midi(magenta / f"{name}.mid")
    with np.load(magenta / f"{name}.npz") as expected:
        assert len(expected["pitches"]) >= 20
        for key in expected.files:
            np.testing.assert_array_equal(notes[key], expected[key])
    assert notes["left_out"] == {"out_of_range": 0, "drums": 0}


def write(path, notes, drums=(), tempo=120):
    """A MIDI file of notes (pitch, velocity, start, end), and of drums."""
    midi = pretty_midi.PrettyMIDI(initial_tempo=tempo)
    for part, is_drum in ((notes, False), (drums, True)):
        if part:
            instrument = pretty_midi.Instrument(0, is_drum)
            for pitch, velocity, start, end in part:
                instrument.notes.append(pretty_midi.Note(velocity, pitch, start, end))
            midi.instruments.append(instrument)
    midi.write(str(path))
    return path


def test_notes_left_out_are_counted(tmp_path):
    path = write(tmp_path / "some.mid",
                 [(23, 90, 0, 1), (24, 90, 1, 2), (84, 90, 2, 3), (85, 90, 3, 4), (108, 9, 4, 5)],
                 drums=[(36, 100, 0, 0.1), (38, 100, 0.5, 0.6)])
    notes = score.load_midi(path)
    assert notes["pitches"].tolist() == [24, 84]
    assert notes["left_out"] == {"out_of_range": 3, "drums": 2}
    assert score.load_midi(path, max_pitch=60)["left_out"]["out_of_range"] == 4


def test_scores_without_notes_in_range_are_refused(tmp_path):
    with pytest.raises(InputError, match="24 to 84.*2 outside, 0 drums"):
        score.load_midi(write(tmp_path / "high.mid", [(100, 90, 0, 1), (101, 90, 1, 2)]))
    with pytest.raises(InputError, match="1 drums"):
        score.load_midi(write(tmp_path / "drums.mid", [], drums=[(36, 100, 0, 1)]))
    with pytest.raises(InputError, match="needs notes"):
        score.load_midi(write(tmp_path / "empty.mid", []))


@pytest.mark.parametrize("content", [
    b"", b"just text", b"MThd", b"\x00" * 1000,
    b"MThd\x00\x00\x00\x06\x00\x01\x00\x05\x00\x60MTrk\x00\x00\x00\x04\x00\xff\x2f\x00",
    b"MThd\x00\x00\x00\x06\x00\x01\x00\x01\x00\x00MTrk\x00\x00\x00\x04\x00\xff\x2f\x00",
    bytes(253) + b"MThd",
])
def test_other_files_are_refused_in_one_sentence(tmp_path, content):
    path = tmp_path / "song.mid"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        score.load_midi(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(InputError, match="nowhere.mid"):
        score.load_midi(tmp_path / "nowhere.mid")
    with pytest.raises(InputError, match="cannot be read"):
        score.load_midi(tmp_path)


def test_a_score_cut_short_is_refused(tmp_path):
    whole = (ROOT / "midi" / "cs1-1pre-short.mid").read_bytes()
    path = tmp_path / "half.mid"
    path.write_bytes(whole[:len(whole) // 2])
    with pytest.raises(InputError, match="ends too early"):
        score.load_midi(path)


def refused(message, function, *words):
    """The function refuses, in exactly this sentence."""
    with pytest.raises(InputError) as caught:
        function(*words)
    assert str(caught.value) == message


def test_what_is_wrong_with_a_score_is_said(tmp_path):
    for name, content, reason in (
            ("a", b"just text", "it has no MIDI header"), ("b", b"MThd", "it ends too early"),
            ("e", bytes(300) + midi_of(_NOTE), "it has no MIDI header"),
            ("c", midi_of(_NOTE, division=-6360),
             "its time is counted in frames (SMPTE), not in beats"),
            ("d", midi_of(_NOTE, division=0),
             "its time is counted in frames (SMPTE), not in beats")):
        path = tmp_path / f"{name}.mid"
        path.write_bytes(content)
        refused(f"The score must be a MIDI file, and {path} cannot be read as one ({reason}): "
                 "choose"
                " another file or save it anew.", score.load_midi, path)
    path.write_bytes(midi_of(_NOTE, division=1))
    assert score.load_midi(path)["end_times"] == pytest.approx([240])
    refused(f"{tmp_path / 'no.mid'} does not exist.", score.load_midi, tmp_path / "no.mid")
    with pytest.raises(InputError, match=f"must be a MIDI file, and {tmp_path} cannot be read"):
        score.load_midi(tmp_path)
    write(path, [])
    refused(f"A score needs notes, and {path} has none: choose another MIDI file.",
            score.load_midi, path)
    write(path, [(100, 90, 0, 1)], drums=[(36, 100, 0, 1)])
    refused(f"A score needs notes from 24 to 84 (MIDI note numbers, drums aside), and {path} has "
            "none (1 outside, 1 drums): choose another MIDI file, or transpose this one in an "
            "editor.",
            score.load_midi, path)


@pytest.mark.parametrize("count", [1, 2, 7, 9, 10])
def test_a_clip_becomes_single_numbers_in_its_own_memory(count, monkeypatch):
    monkeypatch.setattr(score, "_BLOCK", 3)
    single = score._as_float32(np.arange(count) + 1.5)
    assert single.dtype == np.float32 and single.tolist() == [n + 1.5 for n in range(count)]
    assert single.base.nbytes == 8 * ((count + 1) // 2)  # the other half is given back


def track_of(*events):
    body = b"".join(events) + b"\x00\xff\x2f\x00"
    return b"MTrk" + struct.pack(">L", len(body)) + body


def midi_of(*tracks, kind=1, division=480):
    return (b"MThd" + struct.pack(">LHHh", 6, kind, len(tracks), division)
            + b"".join(track_of(*track) for track in tracks))


_NOTE = (b"\x00\x90\x3c\x64", b"\x83\x60\x80\x3c\x00")  # middle C, 480 ticks


@pytest.mark.parametrize("data", [
    midi_of((b"\x00\xff\x59\x02\x0b\x07", *_NOTE)),                # impossible key signature
    midi_of((b"\x00\xff\x51\x03\x00\x00\x00", *_NOTE)),            # tempo of no time
    midi_of((*_NOTE, b"\xff\xff\xff\x7f\xff\x01\x01x")),           # text after hundreds of hours
    midi_of((b"\x00\x90\x3c\xe4", b"\x83\x60\x80\x3c\x00")),       # velocity over 127
    midi_of((), _NOTE, ()),                                        # tracks without anything
    b"RIFF\x00\x00\x00\x00RMIDdata\x00\x00\x00\x00" + midi_of(_NOTE),
    bytes(252) + midi_of(_NOTE) + midi_of(_NOTE),
    midi_of(_NOTE) + midi_of((b"\x00\x90\x3e\x64", b"\x83\x60\x80\x3e\x00")),
    midi_of(_NOTE, kind=0),
    midi_of((b"\x00\xff\x59\x02\x0a\x0a", *_NOTE)),                # one with line feeds in it
], ids=["key", "tempo", "late", "velocity", "empty", "riff", "riff 2", "two", "type 0", "key 2"])
def test_odd_files_play_where_the_notes_are_clear(tmp_path, data):
    path = tmp_path / "odd.mid"
    path.write_bytes(data)
    notes = score.load_midi(path)
    assert notes["pitches"].tolist() == [60] and notes["start_times"].tolist() == [0.0]
    assert notes["end_times"] == pytest.approx([0.5])


def test_tempo_counts_on_whatever_track_it_is(tmp_path, recwarn):
    path = tmp_path / "tempo.mid"
    path.write_bytes(midi_of((), (b"\x00\xff\x51\x03\x03\xd0\x90", *_NOTE)))  # 240 bpm
    assert score.load_midi(path)["end_times"] == pytest.approx([0.25])
    # two at one moment: the later one counts
    path.write_bytes(midi_of((b"\x00\xff\x51\x03\x0f\x42\x40", b"\x00\xff\x51\x03\x03\xd0\x90"),
                             _NOTE))
    assert score.load_midi(path)["end_times"] == pytest.approx([0.25])
    assert not recwarn.list


def test_tempo_changes_of_several_tracks_are_put_in_order(tmp_path):
    path = tmp_path / "tempo.mid"
    half, whole = b"\xff\x51\x03\x07\xa1\x20", b"\xff\x51\x03\x0f\x42\x40"  # seconds per beat
    beats = [b"\x00\x90\x3c\x64", *[b"\x83\x60\x90\x3c\x00", b"\x00\x90\x3c\x64"] * 4]
    path.write_bytes(midi_of((b"\x87\x40" + whole,), (b"\x00" + whole, b"\x83\x60" + half,
                                                      b"\x87\x40" + half), beats))
    notes = score.load_midi(path)
    np.testing.assert_allclose(notes["start_times"], [0, 1, 1.5, 2.5])
    np.testing.assert_allclose(notes["end_times"], [1, 1.5, 2.5, 3])


def test_each_instrument_of_a_track_keeps_its_notes_together(tmp_path):
    path = tmp_path / "programs.mid"
    note = lambda pitch: (bytes([0, 0x90, pitch, 100]), bytes([0x60, 0x80, pitch, 0]))  # noqa: E731
    path.write_bytes(midi_of((*note(60), b"\x00\xc0\x05", *note(62), b"\x00\xc0\x00", *note(64),
                              b"\x00\xc0\x05", *note(66)), division=96))
    notes = score.load_midi(path)
    assert notes["pitches"].tolist() == [60, 64, 62, 66]
    np.testing.assert_allclose(notes["start_times"], [0, 1, 0.5, 1.5])
    assert notes["velocities"].tolist() == [100] * 4
    assert notes["start_times"].dtype == notes["end_times"].dtype == np.float64


def test_tempo_scale():
    notes = {"pitches": np.array([60]), "start_times": np.array([1.0]),
             "end_times": np.array([3.0])}
    fast = score.tempo_scale(notes, 2)
    assert (fast["start_times"], fast["end_times"]) == ([0.5], [1.5])
    assert notes["end_times"] == [3.0]
    assert score.tempo_scale(notes, 0.5)["end_times"] == [6.0]
    for factor in (0, -1, np.nan, np.inf):
        refused(f"The tempo factor must be over 0 (1 keeps the tempo), not {factor}.",
                score.tempo_scale, notes, factor)


# Against Magenta's generate_util -------------------------------------------------------------


def test_instruments_and_mix_are_magentas(magenta):
    given, expected = (dict(np.load(magenta / name)) for name in ("given.npz", "out.npz"))
    starts, ends = given["start_times"], given["end_times"]

    class Model:
        def generate_z(self, n):
            return given["z"][:n]

    z, t = score.get_random_instruments(Model(), ends[-1], 3.0)
    np.testing.assert_array_equal(z, expected["z"])
    np.testing.assert_array_equal(t, expected["t"])
    z_notes = score.get_z_notes(starts, z, t)
    np.testing.assert_allclose(z_notes, expected["z_notes"], atol=1e-12)
    clip = score.combine_notes(given["audio_notes"], starts, ends, given["velocities"],
                               max_note_length=score.MAX_NOTE_LENGTH)
    assert clip.dtype == np.float32 and clip.shape == expected["clip"].shape
    np.testing.assert_allclose(clip, expected["clip"], atol=1e-6)
    # Magenta's function takes our model for its own.
    assert expected["z_drawn"].shape == (4, 256) and np.isfinite(expected["z_drawn"]).all()
    # Audio cut to what is heard of each note makes the same clip.
    cut = [audio[:score.note_samples(end - start)]
           for audio, start, end in zip(given["audio_notes"], starts, ends)]
    np.testing.assert_array_equal(score.combine_notes(
        cut, starts, ends, given["velocities"], max_note_length=score.MAX_NOTE_LENGTH), clip)


# Where Magenta fails --------------------------------------------------------------------------


class Latents:
    def generate_z(self, n, rng=None):
        return (rng or np.random.default_rng()).standard_normal((n, 256))


def test_slerp_of_like_opposite_and_zero_vectors():
    rng = np.random.default_rng(0)
    for p in rng.standard_normal((200, 256)):
        np.testing.assert_allclose(score.slerp(p, p, 0.3), p)
        np.testing.assert_allclose(score.slerp(p, 2 * p, 0.5), 1.5 * p)
        path = np.array([score.slerp(p, -p, t) for t in np.linspace(0, 1, 9)])
        np.testing.assert_allclose(np.linalg.norm(path, axis=1), np.linalg.norm(p))
        np.testing.assert_allclose(path[[0, -1]], [p, -p], atol=1e-12)
        almost = p + 1e-9 * rng.standard_normal(256)
        assert np.isfinite(score.slerp(p, almost, 0.7)).all()
        np.testing.assert_allclose(score.slerp(p, 0 * p, 0.25), 0.75 * p)
    a, b = np.eye(3)[:2]
    np.testing.assert_allclose(score.slerp(a, b, 0.5), [np.sqrt(0.5), np.sqrt(0.5), 0])


def test_slerp_turns_evenly_whatever_the_lengths():
    for turn in (0.3, 1.0, 2.0, 3.0):  # radians
        p0, p1 = np.array([3.0, 0.0]), 0.5 * np.array([np.cos(turn), np.sin(turn)])
        for t in (0.0, 0.25, 0.5, 1.0):
            # along the arc, the two lengths weighted as Magenta weights them
            expected = (np.sin((1 - t) * turn) * p0 + np.sin(t * turn) * p1) / np.sin(turn)
            np.testing.assert_allclose(score.slerp(p0, p1, t), expected, atol=1e-12)
    np.testing.assert_allclose(score.slerp([3, 0], [0, 1], 1 / 3),  # whole numbers
                               [3 * np.cos(np.pi / 6), 0.5])


def test_slerp_of_opposite_vectors_turns_through_a_fixed_direction():
    middle = score.slerp(np.array([2.0, 0.0, 1.0]), np.array([-2.0, 0.0, -1.0]), 0.5)
    np.testing.assert_allclose(middle, [0, np.sqrt(5), 0], atol=1e-12)
    np.testing.assert_allclose(score.slerp([0.0, 2.0], [0.0, -1.0], 0.5), [1.5, 0], atol=1e-12)
    np.testing.assert_allclose(score.slerp([2.0], [-1.0], 0.5), [0.5])


@pytest.mark.parametrize("total_time", [0.4, 3.0, 9.0])
def test_short_pieces_have_two_instruments(total_time):
    z, t = score.get_random_instruments(Latents(), total_time, 5.0, np.random.default_rng(1))
    assert z.shape == (2, 256) and t[0] < 0 and t[-1] == total_time
    starts = np.linspace(0, total_time, 5)
    notes = score.get_z_notes(starts, z, t)
    assert np.isfinite(notes).all()
    np.testing.assert_allclose(notes[-1], z[1])
    np.testing.assert_allclose(score.get_z_notes([-1.0, 99.0], z, t), z)


@pytest.mark.parametrize("seconds, total_time", [(0, 5), (-1, 5), (np.nan, 5), (5, 0), (5, np.inf)])
def test_impossible_times_are_refused(seconds, total_time):
    refused(f"A piece must be longer than 0 seconds, not {total_time}." if seconds == 5 else
            f"The seconds per instrument must be a number over 0, not {seconds}.",
            score.get_random_instruments, Latents(), total_time, seconds)


def test_random_instruments_come_every_two_seconds_as_magentas():
    class Model:
        def generate_z(self, *words):
            drawn.append(words)
            return np.zeros((words[0], 4))

    drawn, rng = [], np.random.default_rng(0)
    z, t = score.get_random_instruments(Model(), 12.5)
    np.testing.assert_allclose(t, np.linspace(-0.0001, 12.5, 6))
    assert len(score.get_random_instruments(Model(), 2.0, 0.5, rng)[1]) == 4
    assert drawn == [(6,), (4, rng)]


def test_instruments_placed_in_time():
    z = np.random.default_rng(2).standard_normal((4, 8))
    placed, t = score.place_instruments(z, None, 9.0)
    np.testing.assert_array_equal(placed, z)
    np.testing.assert_allclose(t, np.linspace(-0.0001, 9.0, 4))
    _, t = score.place_instruments(z, [None, 2.0, None, 8.0], 20.0)
    np.testing.assert_allclose(t, [-0.0001, 2.0, 5.0, 8.0])
    # One timbre for the whole piece, alone or repeated; a step where two share a time.
    for alone in (z[0], z[:1]):
        held = score.place_instruments(alone, None, 9.0)
        np.testing.assert_array_equal(score.get_z_notes([0, 4, 9], *held), z[[0, 0, 0]])
    held = score.place_instruments(z[[0, 0, 1]], [0, 5, 5], 9.0)
    np.testing.assert_allclose(score.get_z_notes([0, 2, 5, 5.01, 9], *held), z[[0, 0, 0, 1, 1]])
    for times, message in (
            ([1.0], "Each instrument needs one time: 4 instruments came with 1 times."),
            ([3.0, 2.0, 4.0, 5.5], "The times of the instruments must ascend, in seconds, not be "
                                   "3, "
                                   "2, 4, 5.5."),
            ([0, np.nan, 2, 3], "The times of the instruments must ascend, in seconds, not be 0, "
                                "nan, 2, 3.")):
        refused(message, score.place_instruments, z, times, 9.0)
    for wrong in (z[:0], z[None], np.full((2, 3), np.nan)):
        refused("Instruments must be one or more rows of finite numbers, not an array of shape "
                f"{list(wrong.shape)}.", score.place_instruments, wrong, None, 9.0)
    for wrong, times in ((z, np.arange(3)), (z[:0], []), (z[0], np.arange(8))):
        refused("Each instrument needs one time: instruments of shape "
                f"{list(wrong.shape)} came with times of shape {list(np.shape(times))}.",
                score.get_z_notes, [0.0], wrong, times)
    two, t = score.place_instruments(z[:2], [None, 3.0], 9.0)
    np.testing.assert_array_equal(two, z[:2])
    np.testing.assert_allclose(t, [-0.0001, 3.0])
    for placed in (score.place_instruments(np.array([[1, 2]]), None, 9.0)[0],
                   score.get_z_notes([2], [[1, 2], [3, 4]], [0, 5])):
        assert placed.dtype == np.float64


def test_one_instrument_at_a_time_of_its_own():
    np.testing.assert_allclose(score.place_instruments(np.ones(3), [12.0], 9.0)[1], [12, 12])
    np.testing.assert_allclose(score.place_instruments(np.ones(3), [2.0], 9.0)[1], [2, 9])
    # the last of several ends the piece, or comes with the one before it
    np.testing.assert_allclose(score.place_instruments(np.ones((2, 3)), [12.0, None], 9.0)[1], 12)


def test_a_note_takes_its_place_between_the_two_instruments_around_it():
    z = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    t = np.array([0.0, 1.0, 3.0, 7.0])
    times = [0.5, 1.0, 1.5, 3.0, 4.0, 7.0]
    angle = np.pi / 2 * np.interp(times, t, np.arange(4))
    np.testing.assert_allclose(score.get_z_notes(times, z, t),
                               np.stack([np.cos(angle), np.sin(angle)], 1), atol=1e-12)
    at_once = score.get_z_notes([1.0], z, [0.0, 1.0, 1.0, 2.0])  # where two share a time, the first
    np.testing.assert_allclose(at_once, z[[1]], atol=1e-12)


def test_clips_of_short_pieces_are_finite_and_of_the_right_length():
    for starts, ends, seconds in (([0.0], [0.4], 3), ([0.0, 1.0], [1.0, 3.0], 6),
                                  ([0.0, 4.5], [9.0, 5.0], 12)):  # the first listed ends last
        starts, ends = np.array(starts), np.array(ends)
        clip = score.combine_notes(tones(range(60, 60 + len(starts))), starts, ends,
                                   np.full(len(starts), 90))
        assert clip.shape == (seconds * 16000,) and np.isfinite(clip).all()
        assert clip.max() == pytest.approx(0.5)


def test_notes_add_up_at_the_level_of_their_velocity():
    ones = np.ones((3, 64000))
    clip = score.combine_notes([ones[0], 5 * ones[1], 0.1 * ones[2]], [0, 0.5, 4], [1, 1.5, 5],
                               [127, 64, 32])
    # flat notes, after the attack and before the release; the loudest moment comes to 0.5
    both = 1 + 64 / 127
    moments = [clip[round(second * 16000)] for second in (0.25, 0.75, 1.4, 4.5)]
    assert moments[:2] == pytest.approx([0.5 / both, 0.5], abs=1e-6)
    assert moments[3] == pytest.approx(0.5 * 32 / 127 / both, abs=1e-6)
    assert len(clip) == 8 * 16000 and clip.dtype == np.float32


def test_a_note_without_any_audio_is_passed_over():
    one = score.combine_notes([np.ones(64000)], [0.0], [1.0], [90])
    two = score.combine_notes([np.ones(0), np.zeros(9), np.ones(64000)], [0.0] * 3, [1.0] * 3,
                              [90] * 3)
    np.testing.assert_array_equal(one, two)


def test_a_note_that_ends_before_it_starts_sounds_for_its_release():
    assert score.note_samples(-2.0) == 4800 and score.note_samples(0.5) == 12800
    assert score.note_samples(0.5, 8000) == 6400 and score.note_samples(9.0, 8000, 1.0) == 10400
    clip = score.combine_notes([np.ones(64000)], [2], [1], [90])
    assert len(clip) == 5 * 16000 and np.flatnonzero(clip)[[0, -1]].tolist() == [32001, 36798]


def test_the_envelope_is_magentas():
    envelope = score.get_envelope(1.0)
    np.testing.assert_allclose(envelope[:160], np.linspace(0, 1, 160))
    np.testing.assert_array_equal(envelope[160:16000], 1)
    np.testing.assert_allclose(envelope[16000:], np.linspace(1, 0, 4800))


def test_silence_stays_silent():
    starts, ends = np.array([0.0, 1.0, 2.0]), np.array([0.9, 1.9, 2.9])
    audio = tones([60, 62, 64])
    audio[1] = 0
    clip = score.combine_notes(audio, starts, ends, np.array([100, 100, 0]))
    assert np.isfinite(clip).all() and clip[:16000].any()
    assert not clip[21000:].any()
    assert not score.combine_notes(audio * 0, starts, ends, np.array([1, 2, 3])).any()


def test_lopsided_audio_stays_within_range():
    audio = -np.abs(tones([60, 70]))  # its highest sample is 0
    audio[1] += 0.01
    clip = score.combine_notes(audio, np.array([0.0, 0.5]), np.array([2.0, 2.0]),
                               np.array([100, 127]))
    assert np.isfinite(clip).all() and clip.min() == pytest.approx(-1.0)


def test_notes_start_and_end_without_a_click():
    for seconds in (0.0, 0.001, 0.009, 0.02, 1.0, 5.0):
        envelope = score.get_envelope(seconds)
        assert len(envelope) == score.note_samples(seconds)
        assert envelope[0] == 0 and envelope[-1] == 0
        assert np.abs(np.diff(envelope)).max() < 0.01
        assert envelope.max() > 0.9
    assert score.note_samples(9) == score.note_samples(3) == 52800
    assert len(score.get_envelope(1.0, sr=8000)) == 10400


def test_notes_can_be_held_as_long_as_the_model_can():
    starts, ends, velocities = np.array([0.0]), np.array([6.0]), np.array([100])
    audio = tones([60])
    usual = score.combine_notes(audio, starts, ends, velocities, max_note_length=3.0)
    longer = score.combine_notes(audio, starts, ends, velocities)
    assert score.note_samples(6.0, max_note_length=score.WHOLE_NOTE_LENGTH) == 64000
    assert np.flatnonzero(usual)[-1] < 52800 and 63900 < np.flatnonzero(longer)[-1] < 64000


def test_audio_shorter_than_the_note_is_mixed():
    clip = score.combine_notes(tones([60], 5000), np.array([0.5]), np.array([3.5]), np.array([90]))
    assert clip.shape == (96000,) and clip[8000:13000].any() and not clip[13000:].any()


def test_notes_that_do_not_fit_are_refused():
    good = dict(audio_notes=tones([60, 61], 9000), start_times=np.array([0.0, 1.0]),
                end_times=np.array([1.0, 2.0]), velocities=np.array([90, 90]))
    times = "The times of the notes must be finite, and no note can start before 0 s."
    counts = ("Every note needs audio, a start, an end and a velocity: got {}, {}, {} and {} of "
              "them.")
    for change, message in ((dict(velocities=np.array([90])), counts.format(2, 2, 2, 1)),
                            (dict(audio_notes=tones([60], 9000)), counts.format(1, 2, 2, 2)),
                            (dict(start_times=np.array([0.0])), counts.format(2, 1, 2, 2)),
                            (dict(end_times=np.array([0.0])), counts.format(2, 2, 1, 2)),
                            (dict(start_times=np.array([-1.0, 0])), times),
                            (dict(start_times=np.array([np.inf, 0])), times),
                            (dict(end_times=np.array([1.0, np.nan])), times)):
        refused(message, lambda change=change: score.combine_notes(**{**good, **change}))
    refused("A clip needs at least one note.", score.combine_notes, [], [], [], [])


# Instruments on disk --------------------------------------------------------------------------


def test_instruments_are_kept(tmp_path):
    z, t = score.get_random_instruments(Latents(), 20, 5)
    for name, times in (("a.npz", t), ("b.npz", None), ("c.npy", t)):
        score.save_instruments(tmp_path / name, z, times)
        again, again_t = score.load_instruments(tmp_path / name)
        np.testing.assert_array_equal(again, z)
        if name == "a.npz":
            np.testing.assert_array_equal(again_t, t)
        else:
            assert again_t is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz", "b.npz", "c.npy"]


def test_other_files_are_no_instruments(tmp_path):
    np.savez(tmp_path / "other.npz", y=np.zeros(3))
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object))
    np.save(tmp_path / "nan.npy", np.full((2, 256), np.nan))
    np.save(tmp_path / "cube.npy", np.zeros((2, 2, 2)))
    np.savez(tmp_path / "times.npz", z=np.zeros((2, 4)), t=np.zeros(3))
    (tmp_path / "text.npy").write_text("text")
    np.savez(tmp_path / "cut.npz", z=np.ones((9, 256)))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "cut.npz").read_bytes()[:999])
    for name in ("other.npz", "objects.npy", "nan.npy", "cube.npy", "times.npz", "text.npy",
                 "cut.npz", "nowhere.npz"):
        with pytest.raises(InputError, match=name):
            score.load_instruments(tmp_path / name)
    refused("Instruments are saved as .npz or .npy, not as a.txt.", score.save_instruments,
            tmp_path / "a.txt", np.zeros((1, 4)))
    with pytest.raises(InputError, match="cannot be written"):
        score.save_instruments(tmp_path / "no" / "where.npz", np.zeros((1, 4)))


def test_instruments_without_end_are_refused_by_their_size(tmp_path):
    np.savez_compressed(tmp_path / "many.npz", z=np.zeros((40_000, 256)))
    assert (tmp_path / "many.npz").stat().st_size < 1e6
    with pytest.raises(InputError, match="over 64 MB"):
        score.load_instruments(tmp_path / "many.npz")


def test_what_is_said_of_a_damaged_file_is_short(tmp_path):
    fields = [(f"field{i}", "<f4") for i in range(900)]
    np.savez(tmp_path / "fields.npz", z=np.zeros(3, fields))
    np.savez(tmp_path / "axes.npz", z=np.ones((2, 4)), t=np.zeros((1,) * 32))
    for name in ("fields.npz", "axes.npz"):
        with pytest.raises(InputError) as caught:
            score.load_instruments(tmp_path / name)
        assert len(str(caught.value)) < 600


def test_what_is_wrong_with_saved_instruments_is_said(tmp_path):
    path = tmp_path / "a.npz"
    rule = f"Instruments are rows of latent vectors in a .npz or .npy file; {path}"
    refused(f"{rule} is not there.", score.load_instruments, path)
    for z, what in ((np.zeros((2, 2, 2)), "float64 of shape [2, 2, 2]"),
                    (np.zeros((0, 2)), "float64 of shape [0, 2]"),
                    (np.full((1, 2), np.nan), "float64 of shape [1, 2]"),
                    (np.array([["x"]]), "<U1 of shape [1, 1]")):
        np.savez(path, z=z)
        refused(f"{rule} holds {what}.", score.load_instruments, path)
    for times in (np.zeros(3), np.zeros((2, 1)), np.array(["x", "y"])):
        np.savez(path, z=np.zeros((2, 4)), t=times)
        refused(f"{rule} has 2 instruments and times of shape {list(times.shape)}.",
                score.load_instruments, path)
    np.savez(path, z=np.zeros(4, np.int16), t=np.zeros(1, np.uint8))
    z, times = score.load_instruments(path)
    assert z.shape == (1, 4) and z.dtype == times.dtype == np.float64
    path.write_bytes(b"")
    with pytest.raises(InputError) as caught:
        score.load_instruments(path)
    assert str(caught.value).startswith(f"{rule} cannot be read (No data left in file")
    np.savez(path, z=np.ones((9, 256)))
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(InputError) as caught:
        score.load_instruments(path)
    assert str(caught.value).startswith(f"{rule} is damaged (File is not a zip file).")


def test_no_instrument_is_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return print, ("unpickled",)

    path = tmp_path / "a.npy"
    np.save(path, np.array([Trap()], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="cannot be read"):
        score.load_instruments(path)
    with pytest.raises(ValueError, match="Object arrays"):
        score.save_instruments(tmp_path / "b.npy", np.array([Trap()], dtype=object))


def test_times_are_saved_as_float64(tmp_path):
    score.save_instruments(tmp_path / "a.npz", np.zeros((2, 4)), [1, 2])
    with np.load(tmp_path / "a.npz") as saved:
        assert saved["t"].dtype == np.float64
