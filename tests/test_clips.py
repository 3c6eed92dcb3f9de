"""Names, pairs and clips of a run."""

import numpy as np
import pytest

from companion import clips
from synths import InputError


@pytest.mark.parametrize("files, names", [
    (["83249__zgump__bass-0205__crop.wav", "427567__maria-mannone__flute__crop.wav"],
     ["bass", "flute"]),
    (["kick_1.wav", "kick 2.flac", "01_kick.wav"], ["kick-1", "kick-2", "01-kick"]),
    (["a/flute.wav", "b/Flute.flac"], ["flute", "Flute-2"]),
    (["take.1.wav", "take.2.wav"], ["take.1", "take.2"]),
    (["ベル.wav", "..wav", "a.npy"], ["ベル", "sound", "a"]),
    (["loop.mp3.wav", "loop.WAV"], ["loop", "loop-2"]),
    (["source.wav", "Reconstructed.wav"], ["source-2", "Reconstructed-2"]),
])
def test_short_names_files_give_different_names_that_stay(files, names):
    assert clips.short_names(files) == names
    assert clips.short_names(names) == names


def test_short_names_long_name_fits_a_disk_in_bytes():
    name, = clips.short_names(["音" * 80 + ".mid"])
    assert 70 < len(name.encode("utf-8")) <= 80


def test_scores_named_overview_does_not_replace_the_overview():
    assert [clip.name for clip in clips.scores(["Overview.mid", "a.mid"])] == ["Overview-2", "a"]


def test_pairs_book_order():
    assert clips.pairs("abc") == [("a", "b"), ("a", "c"), ("b", "a"), ("b", "c"), ("c", "a"),
                                  ("c", "b")]
    assert clips.pairs("abc", both_orders=False) == [("a", "b"), ("a", "c"), ("b", "c")]


def test_chosen_pairs_take_short_and_file_names():
    files = ["my_kick.wav", "bell.wav"]
    names = clips.short_names(files)
    for word in ("my-kick+bell", "my_kick+Bell.wav", "MY_KICK.WAV+bell"):
        assert clips.chosen_pairs([word], names, files) == [("my-kick", "bell")]


@pytest.mark.parametrize("word", ["bell", "bell+bell", "bell+drum", "a+b+c", ""])
def test_chosen_pairs_wrong_word_is_refused(word):
    with pytest.raises(InputError, match="two of the sounds"):
        clips.chosen_pairs([word], ["bell", "kick"], ["bell.wav", "kick.wav"])


def test_steps_go_evenly_from_sound_to_sound():
    made = clips.steps(("a", "b"), 5)
    assert [clip.name for clip in made] == [f"a_b_step{step}of5" for step in range(1, 6)]
    np.testing.assert_allclose([clip.weights for clip in made],
                               np.transpose([np.linspace(1, 0, 5), np.linspace(0, 1, 5)]))
    assert made[0].stream == clips.reconstruction("a").stream  # the same sound in both kinds of run


def test_stream_depends_on_sounds_and_weights_alone():
    assert clips.mix(("bass", "flute"), (2 / 3, 1 / 3)).stream == "0.666667 bass + 0.333333 flute"
    assert clips.crossfade(("a", "b")).stream == "a becomes b"


def test_encoding_of_mixes_and_crossfades():
    sounds = {"a": np.ones((5, 2), np.float32), "b": np.full((5, 2), 3, np.float32)}
    mixed = clips.encoding_of(clips.mix(("a", "b"), (1.0, 0.5)), sounds)
    np.testing.assert_allclose(mixed, 2.5)
    faded = clips.encoding_of(clips.crossfade(("a", "b")), sounds)
    assert faded[0, 0] == 1 and faded[-1, 0] == 3 and (np.diff(faded[:, 0]) > 0).all()
