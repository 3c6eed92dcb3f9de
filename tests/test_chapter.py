"""The chapter's functions: called as in the book, by themselves."""

import inspect
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from test_examples import midi, tone

import chapter_05_example_01 as example_01
import chapter_05_example_02 as example_02
from companion import clips
from synths import InputError
from synths.nsynth import Decoding, fastgen

BOOK = {  # the arguments in the book
    example_01.download_checkpoint: ["checkpoint_name", "target_dir"],
    example_01.encode: ["wav_filenames", "checkpoint", "sample_length", "sample_rate"],
    example_01.mix_encoding_pairs: ["encodings", "encodings_name"],
    example_01.synthesize: ["encodings_mix", "encodings_mix_name", "checkpoint"],
    example_02.download_checkpoint: ["checkpoint_name", "target_dir"],
    example_02.get_midi_notes: ["midi_filename"],
    example_02.generate_audio: ["notes", "seconds_per_instrument", "batch_size", "checkpoint_dir"],
    example_02.save_audio: ["audio_clip"],
}


@pytest.mark.parametrize("function", BOOK, ids=lambda function: function.__name__)
def test_chapter_function_arguments_begin_with_the_books(function):
    arguments = list(inspect.signature(function).parameters)
    assert arguments[:len(BOOK[function])] == BOOK[function]
    assert len(arguments) - len(BOOK[function]) <= 3


def test_encode_short_and_long_sounds_have_one_length(tmp_path):
    sounds = [tone(tmp_path / "short.wav", seconds=0.05), tone(tmp_path / "long.wav", seconds=1.0)]
    assert example_01.encode(sounds, sample_length=2560).shape == (2, 5, 16)
    assert example_01.encode(["bass.wav"], sample_length=2560).shape == (1, 5, 16)


def test_encode_replaced_file_is_read_again(tmp_path):
    sound = tone(tmp_path / "a.wav", 220)
    first = example_01.encode([sound], sample_length=2560)
    tone(tmp_path / "a.wav", 1000)
    assert np.abs(first - example_01.encode([sound], sample_length=2560)).max() > 0.1


def test_mix_encoding_pairs_has_the_weights_of_the_plan():
    encodings = np.random.default_rng(0).normal(size=(3, 2, 16)).astype(np.float32)
    names = ["a", "b", "c"]
    mixed, mixed_names = example_01.mix_encoding_pairs(encodings, names)
    planned = [clips.mix(pair) for pair in clips.pairs(names)]
    assert mixed_names == [clip.name for clip in planned] and mixed.dtype == np.float32
    by_name = dict(zip(names, encodings))
    for encoding, clip in zip(mixed, planned):
        np.testing.assert_allclose(encoding, clips.encoding_of(clip, by_name), atol=1e-6)


def test_mix_encoding_pairs_files_are_named_by_their_words():
    encodings = np.zeros((2, 1, 16), np.float32)
    _, names = example_01.mix_encoding_pairs(encodings, ["1__x__bass-02__crop.wav", "my_kick.wav"])
    assert names == ["bass_my-kick", "my-kick_bass"]


def test_synthesize_same_seed_same_bytes(tmp_path):
    encoding = example_01.encode(["flute.wav"], sample_length=1536)
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        example_01.synthesize(encoding, ["flute"], seed=seed, output_dir=tmp_path / folder)
    first, again, other = ((tmp_path / folder / "flute.wav").read_bytes() for folder in "abc")
    assert first == again != other
    assert soundfile.info(tmp_path / "a" / "flute.wav").subtype == "PCM_16"


def test_synthesize_fastgen_gets_seed_and_names(tmp_path):
    calls = []
    stand_in = SimpleNamespace(synthesize=lambda *words, **named: calls.append((words, named)))
    example_01.synthesize([np.zeros((1, 16))], ["a_b"], "name", 5, tmp_path, stand_in)
    (encodings, paths), named = calls[0]
    assert encodings.shape == (1, 1, 16) and paths == [str(tmp_path / "a_b.wav")]
    assert named == {"checkpoint_path": "name",
                     "decoding": Decoding(seed=5, streams=["a_b"], fade=0.005)}
    assert inspect.signature(example_01.encode).parameters["fastgen"].default is fastgen


def test_generate_audio_same_seed_same_clip_and_new_model_each_time(tmp_path):
    notes = example_02.get_midi_notes(midi(tmp_path / "a.mid", [(0, 1, 60, 90), (1, 2, 64, 90)]))
    loaded = []

    class Model:
        @staticmethod
        def load_from_path(path, batch_size):
            loaded.append((path, batch_size))
            return example_02.lib_model.Model.load_from_path(path, batch_size)
    first, again = (example_02.generate_audio(notes, 5, seed=3,
                                              lib_model=SimpleNamespace(Model=Model))
                    for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert len(first) == 4 * 16000 and first.max() == pytest.approx(0.5)
    assert loaded == [(None, 16)] * 2  # so a checkpoint that was downloaded since then is found


def test_save_audio_writes_sound_and_plot(tmp_path):
    example_02.save_audio(np.sin(np.arange(8000) / 5).astype(np.float32), "a", tmp_path / "new")
    assert soundfile.info(tmp_path / "new" / "a.wav").frames == 8000
    assert (tmp_path / "new" / "a.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("call", [
    lambda: example_01.encode(["nowhere.wav"]), lambda: example_02.get_midi_notes("nowhere.mid"),
    lambda: example_01.download_checkpoint("baseline-ckpt")])
def test_chapter_function_wrong_name_is_an_input_error(call):
    with pytest.raises(InputError):
        call()
