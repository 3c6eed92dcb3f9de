"""Encodings mixed, walked between and faded; the names that come of it."""

import doctest

import numpy as np
import pytest

from synths import InputError
from synths.nsynth import mixing


def encodings(count, frames=31):
    return np.random.default_rng(0).normal(size=(count, frames, 16)).astype(np.float32)


def test_doctests():
    failed, tried = doctest.testmod(mixing)
    assert tried and not failed


def test_pairs_come_in_the_books_order():
    assert list(mixing.pairs(3)) == [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]
    assert list(mixing.pairs(3, both_orders=False)) == [(0, 1), (0, 2), (1, 2)]
    assert len(list(mixing.pairs(4))) == 12


@pytest.mark.parametrize("name, total", [("lean", 1.0), ("mean", 1.0), ("book", 1.5)])
def test_weights(name, total):
    assert sum(mixing.WEIGHTS[name]) == pytest.approx(total)


def test_path_starts_and_ends_at_the_sounds_and_is_even():
    first, second = encodings(2)
    steps = mixing.path(first, second, 5)
    assert steps.shape == (5, 31, 16)
    np.testing.assert_array_equal(steps[0], first)
    np.testing.assert_array_equal(steps[-1], second)
    np.testing.assert_allclose(np.diff(steps, axis=0), np.tile((second - first) / 4, (4, 1, 1)),
                               atol=1e-6)


def test_crossfade_goes_from_one_to_the_other_and_never_beyond():
    first, second = np.zeros((31, 16), np.float32), np.ones((31, 16), np.float32)
    fade = mixing.crossfade(first, second)
    np.testing.assert_allclose(fade[[0, 15, 30], 0], [0, 0.5, 1], atol=1e-6)
    assert (np.diff(fade[:, 0]) > 0).all()


def test_chosen_pairs():
    names = ["bass", "metal", "flute"]
    assert mixing.chosen_pairs(names, ["bass+flute", "flute+bass"]) == [(0, 2), (2, 0)]
    for bad in ("bass", "bass+bass", "bass+drum", "bass+metal+flute"):
        with pytest.raises(InputError, match="two of the sounds bass, metal, flute"):
            mixing.chosen_pairs(names, [bad])


def test_names_that_would_escape_the_folder_are_tamed():
    assert mixing.short_names(["../my sounds/a b?.wav", "..wav"]) == ["a-b", "sound"]


def test_paths_are_named_in_playing_order():
    mixes, names = mixing.paths(encodings(3), ["a", "b", "c"], 10, [(2, 0)])
    assert len(mixes) == len(names) == 10
    assert names[0] == "c_a_step01of10" and names[-1] == "c_a_step10of10"
    assert names == sorted(names)
    assert len(mixing.paths(encodings(3), ["a", "b", "c"], 5)[0]) == 3 * 5


def test_crossfades_in_both_orders():
    assert mixing.crossfades(encodings(2), ["a", "b"])[1] == ["a_to_b", "b_to_a"]


def test_ratio_overrides_the_named_weights():
    assert mixing.weights("book") == (1.0, 0.5)
    assert mixing.weights("book", 0.8) == pytest.approx((0.8, 0.2))


def test_encodings_of_unlike_length_do_not_stack():
    assert mixing.stacked(list(encodings(3))).shape == (3, 31, 16)
    assert mixing.stacked([]) is None
    with pytest.raises(InputError, match="have 31 and 62 frames"):
        mixing.stacked([encodings(1, 62)[0], encodings(1, 31)[0]])
