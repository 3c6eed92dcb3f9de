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
from synths.gansynth import score

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
    assert notes["left_out"] == {"out_of_range": 0, "silent": 0, "drums": 0}


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
    assert notes["left_out"] == {"out_of_range": 3, "silent": 0, "drums": 2}
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
    midi_of(_NOTE, kind=0),
], ids=["key", "tempo", "late", "velocity", "empty", "riff", "type 0"])
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
    assert not recwarn.list


def test_tempo_scale():
    notes = {"pitches": np.array([60]), "start_times": np.array([1.0]),
             "end_times": np.array([3.0])}
    fast = score.tempo_scale(notes, 2)
    assert (fast["start_times"], fast["end_times"]) == ([0.5], [1.5])
    assert notes["end_times"] == [3.0]
    for factor in (0, -1, np.nan, np.inf):
        with pytest.raises(InputError):
            score.tempo_scale(notes, factor)


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
    clip = score.combine_notes(given["audio_notes"], starts, ends, given["velocities"])
    assert clip.dtype == np.float32 and clip.shape == expected["clip"].shape
    np.testing.assert_allclose(clip, expected["clip"], atol=1e-6)
    # Magenta's function takes our model for its own.
    assert expected["z_drawn"].shape == (4, 256) and np.isfinite(expected["z_drawn"]).all()
    # Audio cut to what is heard of each note makes the same clip.
    cut = [audio[:score.note_samples(end - start)]
           for audio, start, end in zip(given["audio_notes"], starts, ends)]
    np.testing.assert_array_equal(
        score.combine_notes(cut, starts, ends, given["velocities"]), clip)


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
    with pytest.raises(InputError):
        score.get_random_instruments(Latents(), total_time, seconds)


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
    for times in ([1.0], [3.0, 2.0, 4.0, 5.0], [0, np.nan, 2, 3]):
        with pytest.raises(InputError):
            score.place_instruments(z, times, 9.0)
    with pytest.raises(InputError):
        score.place_instruments(z[:0], None, 9.0)
    with pytest.raises(InputError):
        score.get_z_notes([0.0], z, np.arange(3))


def test_clips_of_short_pieces_are_finite_and_of_the_right_length():
    for starts, ends, seconds in (([0.0], [0.4], 3), ([0.0, 1.0], [1.0, 3.0], 6),
                                  ([0.0, 4.5], [9.0, 5.0], 12)):  # the first listed ends last
        starts, ends = np.array(starts), np.array(ends)
        clip = score.combine_notes(tones(range(60, 60 + len(starts))), starts, ends,
                                   np.full(len(starts), 90))
        assert clip.shape == (seconds * 16000,) and np.isfinite(clip).all()
        assert clip.max() == pytest.approx(0.5)


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
    usual = score.combine_notes(audio, starts, ends, velocities)
    longer = score.combine_notes(audio, starts, ends, velocities,
                                 max_note_length=score.WHOLE_NOTE_LENGTH)
    assert score.note_samples(6.0, max_note_length=score.WHOLE_NOTE_LENGTH) == 64000
    assert np.flatnonzero(usual)[-1] < 52800 and 63900 < np.flatnonzero(longer)[-1] < 64000


def test_audio_shorter_than_the_note_is_mixed():
    clip = score.combine_notes(tones([60], 5000), np.array([0.5]), np.array([3.5]), np.array([90]))
    assert clip.shape == (96000,) and clip[8000:13000].any() and not clip[13000:].any()


def test_notes_that_do_not_fit_are_refused():
    good = dict(audio_notes=tones([60, 61], 9000), start_times=np.array([0.0, 1.0]),
                end_times=np.array([1.0, 2.0]), velocities=np.array([90, 90]))
    for change in (dict(velocities=np.array([90])), dict(start_times=np.array([-1.0, 0])),
                   dict(end_times=np.array([1.0, np.nan])), dict(audio_notes=tones([60], 9000))):
        with pytest.raises(InputError):
            score.combine_notes(**{**good, **change})
    with pytest.raises(InputError, match="at least one"):
        score.combine_notes([], np.array([]), np.array([]), np.array([]))


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
    with pytest.raises(InputError, match="npz or .npy"):
        score.save_instruments(tmp_path / "a.txt", np.zeros((1, 4)))
    with pytest.raises(InputError, match="cannot be written"):
        score.save_instruments(tmp_path / "no" / "where.npz", np.zeros((1, 4)))
