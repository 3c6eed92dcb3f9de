"""Scores: instruments along time, latent vectors and the mix, compared with Magenta's own code."""

import subprocess
import sys
from pathlib import Path

import mido
import numpy as np
import pretty_midi
import pytest

from synths import InputError
from synths.gansynth import generate_util as score
from synths.gansynth import instruments

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
        for step in range(40):  # no key is struck again while it sounds
            start = 0.3 * step
            instrument.notes.append(pretty_midi.Note(
                int(rng.integers(1, 128)), int(low + step * 7 % 24), start,
                start + rng.uniform(0.05, 0.8)))
        midi.instruments.append(instrument)
    midi.key_signature_changes.append(pretty_midi.KeySignature(2, 0.0))
    midi.time_signature_changes.append(pretty_midi.TimeSignature(3, 4, 0.0))
    midi.write(str(path))


def tempo_changes(path):
    """Running status and tempo changes; written event by event."""
    midi = mido.MidiFile(ticks_per_beat=384)
    track = midi.add_track("all in one")
    track.append(mido.MetaMessage("set_tempo", tempo=600_000, time=0))
    for step in range(30):
        track.append(mido.Message("note_on", note=40 + step % 7, velocity=30 + step, time=96))
        if step % 10 == 9:
            track.append(mido.MetaMessage("set_tempo", tempo=300_000 + 10_000 * step, time=48))
        if step:
            track.append(mido.Message("note_on", note=40 + (step - 1) % 7, velocity=0, time=96))
    track.append(mido.Message("note_off", note=41, time=10))
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
    assert not notes["report"].damage


class Latents:
    """A model's latent space."""

    def generate_z(self, n, rng=None):
        return (rng or np.random.default_rng()).standard_normal((n, 256))


def test_instruments_and_mix_are_magentas(magenta):
    given, expected = (dict(np.load(magenta / name)) for name in ("given.npz", "out.npz"))
    starts, ends = given["start_times"], given["end_times"]

    class Given:
        def generate_z(self, n):
            return given["z"][:n]

    z, t = score.get_random_instruments(Given(), ends[-1], 3.0)
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


def test_tempo_scale_divides_the_times():
    notes = {"pitches": np.array([60]), "start_times": np.array([1.0]),
             "end_times": np.array([3.0])}
    fast = score.tempo_scale(notes, 2)
    assert (fast["start_times"], fast["end_times"]) == ([0.5], [1.5])
    assert notes["end_times"] == [3.0]


# Instruments -----------------------------------------------------------------------------------


def test_slerp_like_and_zero_vectors_gives_a_straight_line():
    for p in np.random.default_rng(0).standard_normal((20, 256)):
        np.testing.assert_array_equal(score.slerp(p, p, 0.3), p)
        np.testing.assert_allclose(score.slerp(p, 2 * p, 0.5), 1.5 * p)
        for other in (-p, 0 * p, p + 1e-9):
            assert np.isfinite(score.slerp(p, other, 0.7)).all()


@pytest.mark.parametrize("turn", [0.3, 1.0, 2.0, 3.0])
@pytest.mark.parametrize("t", [0.0, 0.25, 0.5, 1.0])
def test_slerp_turns_evenly_whatever_the_lengths(turn, t):
    p0, p1 = np.array([3.0, 0.0]), 0.5 * np.array([np.cos(turn), np.sin(turn)])
    expected = (np.sin((1 - t) * turn) * p0 + np.sin(t * turn) * p1) / np.sin(turn)
    np.testing.assert_allclose(score.slerp(p0, p1, t), expected, atol=1e-12)


@pytest.mark.parametrize("total_time", [0.4, 3.0, 9.0])
def test_get_random_instruments_short_piece_has_two(total_time):
    z, t = score.get_random_instruments(Latents(), total_time, 5.0, np.random.default_rng(1))
    assert z.shape == (2, 256) and t[0] < 0 and t[-1] == total_time
    notes = score.get_z_notes(np.linspace(0, total_time, 5), z, t)
    assert np.isfinite(notes).all()
    np.testing.assert_allclose(notes[-1], z[1])
    np.testing.assert_allclose(score.get_z_notes([-1.0, 99.0], z, t), z)


def test_get_z_notes_takes_the_place_between_two_instruments():
    z = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    t = np.array([0.0, 1.0, 3.0, 7.0])
    times = [0.5, 1.0, 1.5, 2.9, 4.0, 7.0]
    angle = np.pi / 2 * np.interp(times, t, np.arange(4))
    np.testing.assert_allclose(score.get_z_notes(times, z, t),
                               np.stack([np.cos(angle), np.sin(angle)], 1), atol=1e-12)
    at_once = score.get_z_notes([1.0], z, [0.0, 1.0, 1.0, 2.0])  # where two share a time, the first
    np.testing.assert_allclose(at_once, z[[1]], atol=1e-12)


def test_place_instruments_spaces_those_without_a_time():
    z = np.random.default_rng(2).standard_normal((4, 8))
    placed, t = instruments.place_instruments(z, None, 9.0)
    np.testing.assert_array_equal(placed, z)
    np.testing.assert_allclose(t, np.linspace(-0.0001, 9.0, 4))
    _, t = instruments.place_instruments(z, [None, 2.0, None, 8.0], 20.0)
    np.testing.assert_allclose(t, [-0.0001, 2.0, 5.0, 8.0])
    _, t = instruments.place_instruments(z[:2], [12.0, None], 9.0)
    np.testing.assert_allclose(t, 12)
    with pytest.raises(InputError, match="ascend"):
        instruments.place_instruments(z, [3.0, 2.0, 4.0, 5.5], 9.0)


@pytest.mark.parametrize("times, expected", [(None, [-0.0001, 9]), ([2.0], [2, 9]),
                                             ([12.0], [12, 12])])
def test_place_instruments_holds_one_for_the_whole_piece(times, expected):
    z = np.random.default_rng(2).standard_normal((1, 8))
    held = instruments.place_instruments(z, times, 9.0)
    np.testing.assert_allclose(held[1], expected)
    np.testing.assert_array_equal(score.get_z_notes([0, 4, 9, 20], *held), z[[0, 0, 0, 0]])


def choose(text, total_time=20.0, seed=5):
    return instruments.choose_instruments(Latents(), text, total_time, np.random.default_rng(seed))


def test_choose_instruments_numbers_are_those_of_the_random_run():
    drawn, _ = score.get_random_instruments(Latents(), 20.0, 5.0, np.random.default_rng(5))
    chosen, times = choose(" 4,2 , 1 @ 8.,3@12.25")
    np.testing.assert_array_equal(chosen, drawn[[3, 1, 0, 2]])
    np.testing.assert_allclose(times, [-0.0001, 4, 8, 12.25], atol=1e-3)


@pytest.mark.parametrize("bad", ["", "0", " x ", "1,,2", "1@", "1@-3", "3;4", "2,3.5", "99999"])
def test_choose_instruments_bad_choice_is_refused(bad):
    with pytest.raises(InputError, match="numbers"):
        choose(bad)


def test_choose_instruments_saved_ones_keep_their_times(tmp_path):
    z, t = choose("3,7,1@8.0")
    instruments.save_instruments(tmp_path / "find.npz", z, t)
    again, times = choose(str(tmp_path / "find.npz"), seed=99)
    np.testing.assert_array_equal(again, z)
    np.testing.assert_array_equal(times, t)
    np.save(tmp_path / "a.npy", z.astype(np.float32))
    again, times = choose(str(tmp_path / "a.npy"), total_time=8.0)
    np.testing.assert_allclose(times, np.linspace(-0.0001, 8, 3))
    assert again.shape == (3, 256) and again.dtype == np.float64


def test_choose_instruments_of_another_width_are_refused(tmp_path):
    instruments.save_instruments(tmp_path / "narrow.npz", np.zeros((2, 8)), [0, 1])
    with pytest.raises(InputError, match="256 numbers.*has 8"):
        choose(str(tmp_path / "narrow.npz"))


class Trap:
    """An object that tells when it is unpickled."""

    def __reduce__(self):
        return pytest.fail, ("unpickled",)


@pytest.mark.parametrize("arrays", [
    {"y": np.zeros(3)}, {"z": np.array([Trap()], dtype=object)}, {"z": np.full((2, 4), np.nan)},
    {"z": np.zeros((2, 2, 2))}, {"z": np.zeros((0, 2))}, {"z": np.array([["x"]])},
    {"z": np.zeros((2, 4)), "t": np.zeros(3)}, {"z": np.zeros((2, 4)), "t": np.array(["a", "b"])},
    {"z": np.zeros((2, 4)), "t": np.array([0, np.nan])}, b"", b"text"])
def test_load_instruments_other_file_is_refused(tmp_path, arrays):
    path = tmp_path / "a.npz"
    if isinstance(arrays, bytes):
        path.write_bytes(arrays)
    else:
        np.savez(path, **arrays)
    with pytest.raises(InputError, match="a.npz contains no instruments"):
        instruments.load_instruments(path)


def test_preview_phrase_is_a_chord_whose_last_note_is_held():
    notes = instruments.preview_phrase()
    assert score.summary(notes) == "6 notes, 4.0 s"
    assert notes["pitches"].tolist() == [48, 55, 60, 64, 67, 72]
    np.testing.assert_allclose(notes["end_times"] - notes["start_times"], [0.4] * 5 + [2])


# The mix ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("starts, ends, seconds", [
    ([0.0], [0.4], 3), ([0.0, 1.0], [1.0, 3.0], 6), ([0.0, 4.5], [9.0, 5.0], 12),
    ([2.0], [1.0], 5)])
def test_combine_notes_clip_lasts_to_the_end_of_the_last_note(starts, ends, seconds):
    clip = score.combine_notes(tones(range(60, 60 + len(starts))), starts, ends, [90] * len(starts))
    assert clip.shape == (seconds * 16000,) and np.isfinite(clip).all()
    assert clip.max() == pytest.approx(0.5)


def test_combine_notes_velocities_set_the_levels():
    ones = np.ones((3, 64000))
    clip = score.combine_notes([ones[0], 5 * ones[1], 0.1 * ones[2]], [0, 0.5, 4], [1, 1.5, 5],
                               [127, 64, 32])
    # flat notes, after the attack and before the release; the loudest moment comes to 0.5
    both = 1 + 64 / 127
    moments = [clip[round(second * 16000)] for second in (0.25, 0.75, 4.5)]
    assert moments == pytest.approx([0.5 / both, 0.5, 0.5 * 32 / 127 / both], abs=1e-6)


def test_combine_notes_silence_stays_silent():
    starts, ends = np.array([0.0, 1.0, 2.0]), np.array([0.9, 1.9, 2.9])
    audio = tones([60, 62, 64])
    audio[1] = 0
    clip = score.combine_notes([audio[0], audio[1], np.ones(0)], starts, ends, [100, 100, 90])
    assert np.isfinite(clip).all() and clip[:16000].any() and not clip[21000:].any()
    assert not score.combine_notes(audio * 0, starts, ends, [1, 2, 3]).any()


def test_combine_notes_lopsided_audio_stays_within_range():
    audio = -np.abs(tones([60, 70]))  # its highest sample is 0
    audio[1] += 0.01
    clip = score.combine_notes(audio, [0.0, 0.5], [2.0, 2.0], [100, 127])
    assert np.isfinite(clip).all() and clip.min() == pytest.approx(-1.0)


@pytest.mark.parametrize("seconds", [-2.0, 0.0, 0.001, 0.009, 0.02, 1.0, 5.0])
def test_get_envelope_starts_and_ends_without_a_click(seconds):
    envelope = score.get_envelope(seconds)
    assert len(envelope) == score.note_samples(seconds) == int(16000 * max(0, seconds)) + 4800
    assert envelope[0] == 0 and envelope[-1] == 0 and envelope.max() > 0.9
    assert np.abs(np.diff(envelope)).max() < 0.01


def test_combine_notes_holds_a_note_as_long_as_it_says():
    sounding = {}
    for limit, held in ((3.0, 6.0), (None, 3.5), (None, 3.9), (None, 6.0)):
        clip = score.combine_notes(tones([60]), [0.0], [held], [100], max_note_length=limit)
        sounding[limit, held] = np.flatnonzero(clip)[-1] / 16000
    assert list(sounding.values()) == pytest.approx([3.3, 3.8, 4.0, 6.3], abs=1e-3)


def test_combine_notes_audio_shorter_than_the_note_is_mixed():
    clip = score.combine_notes(tones([60], 5000), [0.5], [3.5], [90])
    assert clip.shape == (96000,) and clip[8000:13000].any() and not clip[13000:].any()


@pytest.mark.parametrize("kind", ["steady", "decaying", "vibrato", "noise", "silence"])
def test_lengthen_keeps_level_and_phase_at_the_joints(kind):
    seconds = np.arange(64000) / 16000
    turns = 220 * seconds + (0.3 * np.sin(2 * np.pi * 5 * seconds) if kind == "vibrato" else 0)
    audio = np.sin(2 * np.pi * turns)
    audio *= np.exp(-seconds / 2) if kind == "decaying" else 1.0
    audio = np.random.default_rng(0).standard_normal(64000) if kind == "noise" else audio
    audio = np.where(seconds < 3, audio, 0) * (kind != "silence")  # let go after 3 s
    long = score.lengthen(audio, 200_000)
    np.testing.assert_array_equal(long[:44000], audio[:44000])
    assert len(long) == 200_000 and np.isfinite(long).all()
    if kind == "silence":
        return
    levels = 10 * np.log10(np.mean(long[3200:].reshape(-1, 1600) ** 2, axis=1))
    falls = np.diff(levels)
    assert np.abs(falls - (-0.87 / 2 if kind == "decaying" else 0)).max() < 1
    if kind != "noise":
        assert np.abs(np.diff(long)).max() < 1.05 * np.abs(np.diff(audio[:44000])).max()  # no click
        crossings = np.flatnonzero(np.diff(np.signbit(long))) / 16000
        spacing = np.diff(crossings)
        bend = 2 ** (75 / 1200) if kind == "vibrato" else 2 ** (5 / 1200)
        pitch = 0.5 / np.convolve(spacing, np.ones(20) / 20, "valid")
        assert pitch.max() / pitch.min() < bend ** 2
