"""Encodings mixed, walked between and faded; the names that come of it."""

import importlib

import numpy as np
import pytest

from synths import InputError
from synths.nsynth import mixing


def encodings(count, frames=31):
    return np.random.default_rng(0).normal(size=(count, frames, 16)).astype(np.float32)


def test_pairs_come_in_the_books_order():
    assert mixing.pairs(3) == [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]
    assert mixing.pairs(3, both_orders=False) == [(0, 1), (0, 2), (1, 2)]
    assert len(mixing.pairs(4)) == 12


@pytest.mark.parametrize("name, first, second", [("lean", 2 / 3, 1 / 3), ("mean", 1 / 2, 1 / 2),
                                                 ("book", 1, 1 / 2)])
def test_the_chapters_central_line(name, first, second):
    example = importlib.import_module("chapter_05_example_01")
    sounds = encodings(3)
    mixes, names = example.mix_encoding_pairs(sounds, ["a.wav", "b.wav", "c.wav"],
                                              mixing.WEIGHTS[name])
    assert names == ["a_b", "a_c", "b_a", "b_c", "c_a", "c_b"] and mixes.shape == (6, 31, 16)
    np.testing.assert_allclose(mixes[0], first * sounds[0] + second * sounds[1], atol=1e-6)
    np.testing.assert_allclose(mixes[5], first * sounds[2] + second * sounds[1], atol=1e-6)
    one, = example.mix_encoding_pairs(sounds, ["a", "b", "c"], mixing.WEIGHTS[name], [(2, 0)])[0]
    np.testing.assert_allclose(one, first * sounds[2] + second * sounds[0], atol=1e-6)


def test_planned_mixes_are_the_chapters():
    example = importlib.import_module("chapter_05_example_01")
    sounds, names = encodings(4), ["bass", "metal", "meow", "flute"]
    mixes, mixes_name = example.mix_encoding_pairs(sounds, names)
    planned = mixing.mixes(names, mixing.WEIGHTS["lean"], mixing.pairs(4))
    assert [mix.name for mix in planned] == mixes_name and len(planned) == 12
    for mix, array in zip(planned, mixes):
        np.testing.assert_allclose(mixing.encoding(mix, sounds), array, atol=1e-6)


def test_path_starts_and_ends_at_the_sounds_and_is_even():
    first, second = sounds = encodings(2)
    steps = np.array([mixing.encoding(mix, sounds) for mix in mixing.paths("ab", 5, [(0, 1)])])
    assert steps.shape == (5, 31, 16)
    np.testing.assert_array_equal(steps[0], first)
    np.testing.assert_array_equal(steps[-1], second)
    np.testing.assert_allclose(np.diff(steps, axis=0), np.tile((second - first) / 4, (4, 1, 1)),
                               atol=1e-6)


def test_paths_are_named_in_playing_order_and_in_words():
    mixes = mixing.paths(["a", "b", "c"], 10, [(2, 0)])
    names = [mix.name for mix in mixes]
    assert names[0] == "c_a_step01of10" and names[-1] == "c_a_step10of10"
    assert names == sorted(names)
    titles = [mix.title for mix in mixing.paths(["bass", "flute"], 5, [(0, 1)])]
    assert titles == ["100 % bass", "75 % bass, 25 % flute", "50 % bass, 50 % flute",
                      "25 % bass, 75 % flute", "100 % flute"]


def test_small_shares_are_said_more_exactly():
    assert [mixing.percent(share) for share in (0.0151515, 0.0999, 0.1, 0.104, 2 / 3, 1)] == [
        "1.52 %", "9.99 %", "10 %", "10 %", "67 %", "100 %"]


def test_clips_say_what_they_are():
    assert mixing.reconstructions(["bass", "flute"])[1] == mixing.Mix(
        "flute_reconstructed", "flute, reconstructed", "reconstruction", (1,), (1.0,),
        "1.000000 flute")
    assert mixing.mixes(["bass", "flute"], (0.75, 0.25), [(1, 0)]) == [mixing.Mix(
        "flute_bass", "flute with bass", "mix", (1, 0), (0.75, 0.25),
        "0.750000 flute + 0.250000 bass")]
    assert mixing.paths(["bass", "flute"], 5, [(1, 0)])[1] == mixing.Mix(
        "flute_bass_step2of5", "75 % flute, 25 % bass", "step", (1, 0), (0.75, 0.25),
        "0.750000 flute + 0.250000 bass")
    assert mixing.crossfades(["bass", "flute"], [(1, 0)]) == [mixing.Mix(
        "flute_to_bass", "flute becomes bass", "crossfade", (1, 0), (1.0, 1.0),
        "flute becomes bass")]


def test_a_crossfade_weighs_both_sounds_by_a_hann_windows_flanks():
    first, second = encodings(2, 5)
    fade = mixing.crossfade(first, second)
    share = np.array([0, 0.5 - np.sqrt(0.125), 0.5, 0.5 + np.sqrt(0.125), 1])[:, None]
    np.testing.assert_allclose(fade, first + share * (second - first), atol=1e-6)
    assert fade.dtype == np.float32


def test_crossfade_goes_from_one_to_the_other_and_never_beyond():
    sounds = np.zeros((31, 16), np.float32), np.ones((31, 16), np.float32)
    mix, = mixing.crossfades(["a", "b"], [(0, 1)])
    fade = mixing.encoding(mix, sounds)
    assert mix.name == "a_to_b" and mix.title == "a becomes b"
    np.testing.assert_allclose(fade[[0, 15, 30], 0], [0, 0.5, 1], atol=1e-6)
    assert (np.diff(fade[:, 0]) > 0).all()


def test_what_a_clip_is_does_not_depend_on_its_place():
    alone, = mixing.mixes(["bass", "flute"], (0.25, 0.75), [(0, 1)])
    among = mixing.mixes(["x", "flute", "bass"], (0.25, 0.75), [(0, 1), (2, 1)])[1]
    step = mixing.paths(["bass", "flute"], 5, [(0, 1)])[3]
    assert alone.identity == among.identity == step.identity
    others = [*mixing.mixes(["bass", "flute"], (0.75, 0.25), [(0, 1)]),
              *mixing.mixes(["flute", "bass"], (0.25, 0.75), [(0, 1)]),
              *mixing.crossfades(["bass", "flute"], [(0, 1)]),
              *mixing.reconstructions(["bass", "flute"])]
    assert len({mix.identity for mix in [alone, *others]}) == 6
    assert mixing.paths(["bass", "flute"], 5, [(0, 1)])[0].identity == others[3].identity


def test_chosen_pairs():
    names = ["bass", "metal", "flute"]
    files = ["x/83249__zgump__bass-0205__crop.wav", "metal hit.wav", "flute.wav"]
    assert mixing.chosen_pairs(names, ["bass+flute", "Flute+bass"]) == [(0, 2), (2, 0)]
    assert mixing.chosen_pairs(names, ["metal hit+83249__zgump__bass-0205__crop",
                                       "flute.wav+metal"], files) == [(1, 0), (2, 1)]
    for bad in ("bass", "bass+bass", "bass+drum", "bass+metal+flute"):
        refused(f"{bad!r} is no pair: join two of the sounds bass, metal, flute by '+', for "
                 "example "
                "bass+flute.", mixing.chosen_pairs, names, [bad])
    refused("The pair BASS+flute is named twice: name each once.", mixing.chosen_pairs, names,
            ["bass+flute", "BASS+flute"])
    for count in (12, 13):
        many = [f"s{place}" for place in range(count)]
        refused(f"'x' is no pair: join two of the sounds {', '.join(many[:12])}"
                f"{', ...' if count > 12 else ''} by '+', for example s0+s{count - 1}.",
                mixing.chosen_pairs, many, ["x"])


def refused(message, function, *words):
    """The function refuses, in exactly this sentence."""
    with pytest.raises(InputError) as caught:
        function(*words)
    assert str(caught.value) == message


@pytest.mark.parametrize("files, names", [
    (["160045__jorickhoofd__metal-hit-with-metal-bar__crop.wav",
      "412017__skymary__cat-meow-short__crop.wav"], ["metal", "cat"]),
    (["1__me__bass-a.wav", "2__me__bass-b.wav"], ["bass-a", "bass-b"]),
    (["01_kick.wav", "02_snare.wav"], ["kick", "snare"]),
    (["01.wav", "02.wav"], ["01", "02"]),
    (["trumpet_A4.wav", "trumpet_B4.wav"], ["trumpet_A4", "trumpet_B4"]),
    (["kick.v1.wav", "kick.v2.wav"], ["kick.v1", "kick.v2"]),
    (["A/Kick.wav", "B/kick.wav"], ["Kick", "kick-2"]),
    (["kick.wav", "kick_snare.wav", "snare_hat.wav", "hat.wav"],
     ["kick", "kick-snare", "snare-hat", "hat"]),
    (["../my sounds/a b?.wav", "..wav"], ["a-b", "sound"]),
    (["X-ray.wav", "-.x.-.wav"], ["X-ray", "x"]), (["a,b (1).wav", "c.wav"], ["a-b-1", "c"])])
def test_short_names_tell_sounds_apart_and_stay_as_they_are(files, names):
    assert mixing.short_names(files) == names
    assert mixing.short_names(names) == names
    assert mixing.short_names(names[1:]) == names[1:]
    joined = [f"{a}_{b}".casefold() for a in names for b in names if a != b]
    assert len(set(joined)) == len(joined)


@pytest.mark.parametrize("stems, names", [
    (["1__u__big_bell", "2__u__big_tone"], ["big-bell", "big-tone"]),
    (["12", "ab_c"], ["12", "ab_c"]),
    # a_b_c with d_e would be a_b with c_d_e
    (["a_b_c", "d_e", "a_b", "c_d_e"], ["a-b-c", "d-e", "a-b", "c-d-e"])])
def test_names_are_the_shortest_that_differ(stems, names):
    assert mixing.short_names([f"{stem}.wav" for stem in stems]) == names


def test_names_fit_a_disk():
    name, = mixing.short_names(["ベル" * 100 + ".wav"])
    mix, = mixing.paths([name, name + "2"], 99, [(0, 1)])[-1:]
    assert len(f"{mix.name}_seed4294967295.wav".encode()) < 255
    assert mixing.short_names(["caf\udce9.wav"])[0].isprintable()


def test_ratio_overrides_the_named_weights():
    assert mixing.weights("book") == (1.0, 0.5)
    assert mixing.weights("book", 0.8) == pytest.approx((0.8, 0.2))


def test_encodings_of_unlike_length_do_not_stack():
    assert mixing.stacked(list(encodings(3))).shape == (3, 31, 16)
    assert len(mixing.stacked([])) == 0
    assert mixing.stacked([np.ones(3)]).dtype == np.float32
    refused("Encodings to be mixed need the same length, and these have 31 and 62 frames of 512 "
            "samples: choose --seconds to fit the saved ones.", mixing.stacked,
            [encodings(1, 62)[0], encodings(1, 31)[0]])
