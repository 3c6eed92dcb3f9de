"""Instruments as a user names them, the phrase that introduces one, and a score in words."""

import numpy as np
import pytest

from synths import InputError
from synths.gansynth import generate_util as score


class Latents:
    """What `score` needs of a model."""

    def generate_z(self, n, rng=None):
        return (rng or np.random.default_rng()).standard_normal((n, 256))


def choose(text, total_time=20.0, seed=5):
    return score.choose_instruments(Latents(), text, total_time, np.random.default_rng(seed))


def test_numbers_are_those_of_the_random_run():
    drawn, _ = score.get_random_instruments(Latents(), 20.0, 5.0, np.random.default_rng(5))
    chosen, times = choose("4,2,1@8,3")
    np.testing.assert_array_equal(chosen, drawn[[3, 1, 0, 2]])
    assert times[2] == 8 and times[0] < 0 < times[1] < 8 and times[3] == 20


def test_one_instrument_is_held_for_the_whole_piece_without_nan():
    z, t = choose("3")
    notes = score.get_z_notes(np.linspace(0, 20, 50), z, t)
    assert np.isfinite(notes).all()
    np.testing.assert_allclose(notes, np.tile(z[0], (50, 1)))


def test_saved_instruments_come_back_with_their_times(tmp_path):
    z, t = choose("3,7,1@8.0")
    score.save_instruments(tmp_path / "find.npz", z, t)
    again, times = choose(str(tmp_path / "find.npz"), seed=99)
    np.testing.assert_array_equal(again, z)
    np.testing.assert_allclose(times, t)


def test_saved_instruments_of_another_width_are_refused(tmp_path):
    score.save_instruments(tmp_path / "narrow.npz", np.zeros((2, 8)))
    with pytest.raises(InputError, match="256 numbers each.*are 8"):
        choose(str(tmp_path / "narrow.npz"))


@pytest.mark.parametrize("bad, word", [
    ("", ""), ("0", "0"), (" x ", "x"), ("1,,2", ""), ("1@", "1@"), ("1@-3", "1@-3"),
    ("3;4", "3;4"), ("2,3.5", "3.5"), ("99999", "99999"), ("2, 0@1 ", "0@1")])
def test_bad_choices_are_refused(bad, word):
    where = f" in {bad!r}" if "," in bad else ""
    with pytest.raises(InputError) as caught:
        choose(bad)
    assert str(caught.value) == (
        "Instruments are numbers from 1, with a time in seconds if wanted (3,7,1@8.0), or a .npz "
        f"file; found {word!r}{where}.")


@pytest.mark.parametrize("name", ["nowhere.npz", "nowhere.NPY"])
def test_a_choice_that_is_a_file_must_be_there(name):
    with pytest.raises(InputError, match=f"{name} is not there"):
        choose(name)


def test_saved_instruments_without_times_are_spread_over_the_piece(tmp_path):
    score.save_instruments(tmp_path / "a.npy", np.ones((3, 256)))
    z, times = choose(str(tmp_path / "a.npy"), total_time=8.0)
    assert z.shape == (3, 256)
    np.testing.assert_allclose(times, np.linspace(-0.0001, 8, 3))


def test_times_may_be_written_in_any_usual_way():
    _, times = choose(" 2 @ .5 , 3@1. ,4@12.25", total_time=20)
    np.testing.assert_allclose(times, [0.5, 1, 12.25])


def test_preview_phrase_is_a_chord_from_low_to_high_whose_last_note_is_held():
    notes = score.preview_phrase()
    assert score.summary(notes) == "6 notes, 4.0 s"
    assert notes["pitches"].tolist() == [48, 55, 60, 64, 67, 72]
    assert notes["velocities"].tolist() == [100] * 6
    np.testing.assert_allclose(notes["start_times"], [0, 0.4, 0.8, 1.2, 1.6, 2])
    np.testing.assert_allclose(notes["end_times"], [0.4, 0.8, 1.2, 1.6, 2, 4])


def test_a_summary_of_one_note():
    notes = {"pitches": [60], "end_times": [1.25], "left_out": {}}
    assert score.summary(notes) == "1 note, 1.2 s"


def test_summary_says_what_was_left_out():
    notes = {**score.preview_phrase(), "left_out": {"out_of_range": 3, "drums": 12}}
    assert score.summary(notes) == ("6 notes, 4.0 s (left out: 3 outside pitches 24 to 84, "
                                    "12 of drums)")
