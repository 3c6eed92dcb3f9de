"""Both examples in this process: what each call of `app` is given, what it prints, what is kept.

The networks and the page are stand-ins that write down what they were asked for, so that values can
be compared, and a run takes a moment.
"""

import importlib
import shutil
import sys
import time
import types

import numpy as np
import pytest
import soundfile
from test_examples import midi, tone

import audio_utils
from companion import inputs, plan, progress, results
from companion.start import HERE
from pictures import spectra
from synths import InputError, files, gansynth, nsynth
from synths.nsynth import mixing
from synths.weights import checkpoints, downloads

STARTER_01 = checkpoints.find(None, "nsynth")
STARTER_02 = checkpoints.find(None, "gansynth")


class Run:
    """A run of an example, and what its parts were given."""

    def __init__(self, example):
        self.example, self.calls, self.bars = example, [], []

    def __call__(self, *words, seed=7):
        self.calls.clear()
        self.bars.clear()
        parser = self.example.parse_options()
        options = parser.parse_args(list(map(str, words)))
        options.defaults = vars(parser.parse_args([]))
        if options.seed is None and not getattr(options, "resume", False):
            options.seed = seed
        self.options = options
        self.example.app(options)
        return self

    def note(self, name, *words, **named):
        self.calls.append((name, words, named))

    def all(self, name):
        return [(words, named) for called, words, named in self.calls if called == name]

    def one(self, name):
        (call,) = self.all(name)
        return call


def watched(monkeypatch, name):
    """Return a run of the example, whose bars and page are written down."""
    example = importlib.import_module(name)
    run = Run(example)

    def bar(talker, label, scale=1.0, unit=""):
        assert talker.quiet in (True, False)
        run.bars.append((label, scale, unit))
        return lambda done, total: run.note("progress", label, done, total)

    def page(record, *parts):
        run.note("page", record, *parts)
        return record.output_dir / "index.html"

    page_name, = {"nsynth_page", "gansynth_page"} & set(vars(example))
    for module in (example, inputs, progress):  # of the last, `bars` makes its own
        monkeypatch.setattr(module, "bar", bar)
    monkeypatch.setattr(example, page_name, page)
    monkeypatch.setattr(spectra, "warm_up", lambda report=None: run.note("warm_up", report))
    monkeypatch.setattr(checkpoints, "download", lambda *words, **named: run.note(
        "download", *words, **named))
    monkeypatch.setattr(downloads, "fetch_book_sounds", lambda *words, **named: run.note(
        "sounds", *words, **named))
    monkeypatch.setattr(sys, "argv", [f"{name}.py"])
    return run


def encoded(audio):
    """What the stand-in for the encoder makes of sounds: their own samples."""
    return np.asarray(audio)[:, :audio.shape[1] // 512 * 512].reshape(len(audio), -1, 512)[..., :16]


# Example 1 -------------------------------------------------------------------------------------


@pytest.fixture
def one(monkeypatch):
    run = watched(monkeypatch, "chapter_05_example_01")

    def encode(audio, checkpoint, sample_length, **named):
        run.note("encode", audio, checkpoint, sample_length, **named)
        named["progress"](1, 2)
        return encoded(audio)

    def synthesize(encodings, save_paths, checkpoint, **named):
        run.note("synthesize", encodings, save_paths, checkpoint, **named)
        named["report"]("The decoder says this.")
        named["progress"](3, 4)
        for path in save_paths:
            files.write_wav(path, np.full(512, 0.1, np.float32))

    monkeypatch.setattr(nsynth, "nll", lambda sounds, checkpoint: np.zeros(len(sounds)))
    monkeypatch.setattr(nsynth, "encode", encode)
    monkeypatch.setattr(nsynth, "synthesize", synthesize)
    return run


@pytest.fixture
def pair(tmp_path):
    """Two sounds of 0.3 s, and the options that use 0.16 s of them."""
    return ["--sounds", tone(tmp_path / "a.wav"), tone(tmp_path / "b.wav", 330.0),
            "--seconds", "0.16"]


def loaded(words, **options):
    return np.array([audio_utils.load_audio(wav, 2560, **options) for wav in words[1:3]])


def test_example_01_hands_the_chapters_calls_what_they_need(tmp_path, one, capsys):
    out = tmp_path / "out"
    one("--output", out)
    sounds = ["bass", "metal", "meow", "flute"]
    audio = np.array([audio_utils.load_audio(HERE / "sounds" / f"{name}.wav", 16000)
                      for name in sounds])
    (given, checkpoint, length), named = one.one("encode")
    np.testing.assert_array_equal(given, audio)
    assert (checkpoint, length) == (STARTER_01, 16000)

    (encodings, paths, checkpoint), named = one.one("synthesize")
    alone = encoded(audio)
    pairs = [(i, j) for i in range(4) for j in range(4) if i != j]
    np.testing.assert_allclose(encodings, [*alone, *(2 / 3 * alone[i] + 1 / 3 * alone[j]
                                                     for i, j in pairs)], atol=1e-6)
    assert paths == [out / f"{name}_seed7.wav" for name in [
        *(f"{name}_reconstructed" for name in sounds),
        *(f"{sounds[i]}_{sounds[j]}" for i, j in pairs)]]
    assert checkpoint == STARTER_01
    assert named["identities"] == [
        *(f"1.000000 {name}" for name in sounds),
        *(f"0.666667 {sounds[i]} + 0.333333 {sounds[j]}" for i, j in pairs)]
    np.testing.assert_array_equal(named["reference_audio"], audio)
    assert {name: named[name] for name in ("fade", "seed", "temperature", "precision", "threads",
                                           "resume")} == {
        "fade": 0.005, "seed": 7, "temperature": 1.0, "precision": "auto", "threads": None,
        "resume": False}
    assert one.bars == [("encoding 4 sounds", 1 / 16000, "s of sound"),
                        ("decoding 16 clips", 1 / 16000, "s of sound")]
    assert [words for words, _ in one.all("progress")] == [
        ("encoding 4 sounds", 1, 2), ("decoding 16 clips", 3, 4)]
    for name, encoding in zip(sounds, alone):
        np.testing.assert_array_equal(np.load(out / "encodings" / f"{name}.npy"), encoding)

    (record, names, heard, planned), _ = one.one("page")
    assert names == sounds and [clip.path for clip in planned] == paths
    np.testing.assert_array_equal(heard, audio)
    assert (record.seed, record.output_dir, record.labels, record.quiet, record.stopped) == (
        7, out, False, False, False)
    weights = checkpoints.describe(STARTER_01, "nsynth")
    assert record.weights == weights and record.starter and record.settings == {}
    assert abs(record.began - time.time()) < 60
    printed = capsys.readouterr().out.splitlines()
    readme = (HERE / "README.md").read_text("utf-8").splitlines()
    assert all(line in readme for line in printed[:3])
    assert printed == [
        f"Weights: {weights}; it is small, so it hisses and knows little; --download fetches "
        "Google's (1 GB).",
        "To make: 16 clips of 1 s (12 mixes, and 4 sounds decoded again), about 8 s of work, 8.4 "
        "MB on disk, 1.5 MB of it the page; seed 7.",
        "Sounds, 1 s of each: bass (1 s), metal (1 s), meow (1 s), flute (1 s).",
        "The decoder says this.",
        f"To repeat this run: {record.command}",
        f"The results are in {results.shown(out)}.",
        f"Open in a browser: {(out / 'index.html').as_uri()}"]


def test_every_option_of_the_mix_reaches_the_decoder(tmp_path, one, pair):
    a, b = alone = encoded(loaded(pair))

    def mixed(*words):
        (encodings, paths, _), _ = one(*pair, *words, "--output", tmp_path /
            "out").one("synthesize")
        return dict(zip((path.stem.removesuffix("_seed7") for path in paths), encodings))

    def same(result, expected):
        assert list(result) == list(expected)
        for name, encoding in expected.items():
            np.testing.assert_allclose(result[name], encoding, atol=1e-6)

    sounds = {"a_reconstructed": a, "b_reconstructed": b}
    same(mixed(), {**sounds, "a_b": 2 / 3 * a + 1 / 3 * b, "b_a": 2 / 3 * b + 1 / 3 * a})
    same(mixed("--mix", "book"), {**sounds, "a_b": a + b / 2, "b_a": b + a / 2})
    same(mixed("--mix", "mean"), {**sounds, "a_b": a / 2 + b / 2})
    same(mixed("--ratio", "0.9"), {**sounds, "a_b": 0.9 * a + 0.1 * b, "b_a": 0.9 * b + 0.1 * a})
    same(mixed("--pairs", "b+a"), {**sounds, "b_a": 2 / 3 * b + 1 / 3 * a})
    same(mixed("--scale", "-0.5", "--mix", "mean"), {
        "a_reconstructed": -a / 2, "b_reconstructed": -b / 2, "a_b": -a / 4 - b / 4})
    long = audio_utils.timestretch(alone, 2)
    assert long.shape == (2, 10, 16)
    same(mixed("--stretch", "2", "--mix", "mean"), {
        "a_reconstructed": long[0], "b_reconstructed": long[1], "a_b": long.sum(0) / 2})
    same(mixed("--steps", "3"), {"a_b_step1of3": a, "a_b_step2of3": (a + b) / 2,
                                 "a_b_step3of3": b})
    same(mixed("--crossfade"), {**sounds, "a_to_b": mixing.crossfade(a, b),
                                "b_to_a": mixing.crossfade(b, a)})


def test_every_option_of_the_decoder_reaches_it(tmp_path, one, pair, capsys):
    one(*pair, "--output", tmp_path / "out", "--seed", 99, "--temperature", "0.5", "--precision",
        "int8", "--threads", 3, "--quiet")
    (_, paths, _), named = one.one("synthesize")
    assert (named["seed"], named["temperature"], named["precision"], named["threads"]) == (
        99, 0.5, "int8", 3)
    assert paths[0].name == "a_reconstructed_seed99.wav"
    assert capsys.readouterr().out == ""
    kept = shutil.copytree(tmp_path / "out", tmp_path / "kept",
                           ignore=shutil.ignore_patterns(".run.lock"))
    one(*pair, "--output", kept, "--temperature", "0.5", "--precision", "int8", "--resume")
    _, named = one.one("synthesize")
    assert named["resume"] is True and named["seed"] == 99 and named["threads"] is None


def test_the_engine_that_is_asked_for_encodes_and_decodes(tmp_path, one, pair, monkeypatch):
    asked, engine = [], types.SimpleNamespace(encode=nsynth.encode, synthesize=nsynth.synthesize)
    monkeypatch.setattr(nsynth, "encode", None)
    monkeypatch.setattr(nsynth, "synthesize", None)
    monkeypatch.setattr(inputs, "nsynth_engine", lambda *words: asked.append(words) or engine)
    one(*pair, "--output", tmp_path / "out")
    assert asked == [(one.options, STARTER_01)] and one.one("encode") and one.one("synthesize")


def test_sounds_that_are_not_known_are_named_if_one_may_speak(tmp_path, one, pair, monkeypatch,
                                                              capsys):
    monkeypatch.setattr(nsynth, "nll", lambda sounds, checkpoint: np.full(len(sounds), 5.0))
    one(*pair, "--output", tmp_path / "out")
    assert "The starter does not know a, b " in capsys.readouterr().out
    one(*pair, "--output", tmp_path / "out", "--quiet")
    assert capsys.readouterr().out == ""


def test_trim_level_and_seconds_reach_the_encoder(tmp_path, one, capsys):
    wav = tmp_path / "late.wav"
    wave = 0.25 * np.sin(2 * np.pi * 220 * np.arange(3200) / 16000)
    soundfile.write(wav, np.concatenate([np.zeros(1600), wave]), 16000, subtype="FLOAT")

    def heard(*words):
        one("--sounds", wav, "--seconds", "0.2", *words, "--output",
            tmp_path / "-".join(["out", *words]))
        (audio, _, length), _ = one.one("encode")
        (_, _, (page_audio,), _), _ = one.one("page")
        assert length == 3200 and audio.shape == (1, 3200)
        np.testing.assert_array_equal(audio[0], page_audio)
        np.testing.assert_array_equal(one.one("synthesize")[1]["reference_audio"], audio)
        return audio[0]

    plain, trimmed, level = heard(), heard("--trim"), heard("--trim", "--level")
    assert not plain[:1600].any() and plain[1600:].max() == pytest.approx(0.25, abs=1e-3)
    start = 79  # 5 ms before the first sample that is heard
    np.testing.assert_allclose(trimmed, np.concatenate([np.zeros(start), wave])[:3200], atol=1e-6)
    np.testing.assert_allclose(level, trimmed * 3.6, atol=1e-3)
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Sounds")]
    assert said == [
        "Sounds, 0.2 s of each: late (0.3 s, cut).",
        "Sounds, 0.2 s of each: late (0.3 s, cut); silence at the beginning left out.",
        "Sounds, 0.2 s of each: late (0.3 s, cut); silence at the beginning left out; peaks "
        "brought "
        "to 0.9."]


def test_saved_encodings_take_the_place_of_their_sounds(tmp_path, one, pair, capsys):
    a, b = encoded(loaded(pair))
    np.save(tmp_path / "c.npy", 3 * a)
    one(pair[0], tmp_path / "c.npy", *pair[2:], "--mix", "mean", "--output", tmp_path / "out")
    (encodings, _, _), named = one.one("synthesize")
    np.testing.assert_allclose(encodings, [3 * a, b, 1.5 * a + b / 2], atol=1e-6)
    np.testing.assert_array_equal(named["reference_audio"], loaded(pair)[1:])
    (_, _, audios, _), _ = one.one("page")
    assert audios[0] is None and len(audios[1]) == 2560
    assert "Sounds, 0.16 s of each: c (a saved encoding), b (0.3 s, cut)." in (
        capsys.readouterr().out)
    one("--sounds", tmp_path / "c.npy", "--seconds", "0.16", "--output", tmp_path / "out2")
    assert not one.all("encode")


def test_example_01_downloads_what_the_book_used_only_if_asked(tmp_path, one, pair):
    out = ["--output", tmp_path / "out"]
    one(*pair, *out)
    assert not one.all("download") and not one.all("sounds")
    one(*pair, *out, "--download")
    (name, folder), named = one.one("download")
    assert (name, folder) == ("wavenet-ckpt", HERE / "checkpoints")
    named["progress"](5, 6)
    assert ("progress", ("fetching wavenet-ckpt", 5, 6), {}) in one.calls
    (folder, progress), _ = one.one("sounds")
    assert folder == HERE / "sounds"
    assert one.bars[:2] == [("fetching wavenet-ckpt", 1e-6, "MB"),
                            ("fetching the book's sounds", 1e-6, "MB")]
    with pytest.raises(InputError):  # the stand-in fetched nothing
        one(*pair, *out, "--checkpoint", "wavenet-voice-ckpt")
    assert one.one("download")[0][0] == "wavenet-voice-ckpt"
    name = next(iter(downloads.BOOK_SOUNDS))
    with pytest.raises(InputError, match=f"^{name} does not exist: check its name"):
        one("--sounds", name, *out)
    assert one.all("sounds")
    one.example.download_checkpoint("wavenet-ckpt", tmp_path, print)
    assert one.all("download")[-1] == (("wavenet-ckpt", tmp_path), {"progress": print})


def test_the_books_functions_work_by_themselves(tmp_path, one, pair):
    example = one.example
    one.bars.clear()
    with pytest.raises(TypeError):  # the stand-in asks for progress
        example.encode(["bass.wav"])
    (audio, checkpoint, length), named = one.one("encode")
    assert checkpoint is None and length == 16000 and named == {"progress": None}
    np.testing.assert_array_equal(audio[0], audio_utils.load_audio(HERE / "sounds" / "bass.wav",
                                                                   16000))
    one.calls.clear()
    encodings = np.zeros((2, 5, 16), np.float32)
    paths = example.synthesize(encodings, ["a", "b"], output_dir=tmp_path / "x" / "y",
                               report=print, progress=lambda *_: None)
    assert paths == [tmp_path / "x" / "y" / "a.wav", tmp_path / "x" / "y" / "b.wav"]
    (given, paths_given, checkpoint), named = one.one("synthesize")
    assert given is encodings and paths_given == paths and checkpoint is None
    del named["report"], named["progress"]
    assert named == {"fade": 0.005, "seed": 0, "identities": None, "temperature": 1.0,
                     "precision": "auto", "threads": None, "resume": False,
                     "reference_audio": None}
    again = example.synthesize(encodings, ["a", "b"], output_dir=tmp_path / "x" / "y",
                               report=print, progress=lambda *_: None)
    assert again == paths


def test_mixes_of_the_chapters_function_are_float32_and_named_apart(one):
    mixes, names = one.example.mix_encoding_pairs(
        np.eye(2, 16)[:, None], ["kick_1.wav", "kick_2.wav"], (0.75, 0.25))
    assert names == ["kick_1_kick_2", "kick_2_kick_1"] and mixes.dtype == np.float32
    np.testing.assert_array_equal(mixes[:, 0, :2], [[0.75, 0.25], [0.25, 0.75]])


# Example 2 -------------------------------------------------------------------------------------


class Model:
    """A GANSynth of four latent numbers, whose notes are constant."""

    def __init__(self, run):
        self.run = run

    def generate_z(self, n, rng=None):
        return (rng or np.random.default_rng(0)).standard_normal((n, 4))

    def generate_samples_from_z(self, z, pitches, **named):
        self.run.note("generate", z, pitches, **named)
        if "progress" in named:
            named["progress"](len(z), len(z))
        return np.outer(np.asarray(pitches) / 100, np.ones(64000)).astype(np.float32)


@pytest.fixture
def two(monkeypatch):
    run = watched(monkeypatch, "chapter_05_example_02")

    def model(*words):
        run.note("model", *words)
        return Model(run)

    monkeypatch.setattr(inputs, "gansynth_model", model)
    monkeypatch.setattr(audio_utils, "save_spectrogram_plot", lambda *words, **named: run.note(
        "picture", *words, **named))
    return run


@pytest.fixture
def melody(tmp_path):
    """Three notes a second apart, of three velocities; the last is held for 5 s."""
    return midi(tmp_path / "my score.mid", [(0, 1, 60, 127), (2, 3, 62, 64), (4, 14, 64, 32)])


def heard(path):
    return soundfile.read(path)[0]


def test_example_02_hands_the_chapters_calls_what_they_need(tmp_path, two, capsys):
    out = tmp_path / "out"
    two("--output", out)
    notes = gansynth.load_midi(HERE / "midi" / "cs1-1pre-short.mid")
    assert two.one("model")[0] == (gansynth, STARTER_02, 16, None)
    z, times = gansynth.get_random_instruments(Model(two), max(notes["end_times"]), 5.0,
                                               np.random.default_rng(7))
    (z_notes, pitches), named = two.one("generate")
    np.testing.assert_allclose(z_notes, gansynth.get_z_notes(notes["start_times"], z, times))
    np.testing.assert_array_equal(pitches, notes["pitches"])
    np.testing.assert_allclose(named["note_lengths"], notes["end_times"] - notes["start_times"])
    assert named["max_note_length"] == gansynth.WHOLE_NOTE_LENGTH
    name = "cs1-1pre-short_seed7"
    clip = gansynth.combine_notes(
        np.outer(pitches / 100, np.ones(64000)), notes["start_times"], notes["end_times"],
        notes["velocities"], max_note_length=gansynth.WHOLE_NOTE_LENGTH)
    np.testing.assert_allclose(heard(out / f"{name}.wav"), clip, atol=1e-4)
    assert soundfile.info(out / f"{name}.wav").samplerate == 16000
    (audio, rate, picture, folder), named = two.one("picture")
    assert (rate, picture, folder, named) == (16000, f"{name}.png", out, {"labelled": False})
    np.testing.assert_allclose(audio, clip, atol=1e-6)
    saved = gansynth.load_instruments(out / f"{name}_instruments.npz")
    np.testing.assert_array_equal(saved[0], z)
    np.testing.assert_array_equal(saved[1], times)
    count = len(pitches)
    assert two.bars == [("playing cs1-1pre-short", 1.0, "notes")]
    assert two.one("progress")[0] == ("playing cs1-1pre-short", count, count)

    (record, planned, scores, audios, instruments, keys), _ = two.one("page")
    assert [(clip.path, clip.title, clip.kind) for clip in planned] == [
        (out / f"{name}.wav", "cs1-1pre-short", "score")]
    assert len(scores) == 1 and scores[0]["pitches"] is not None
    np.testing.assert_array_equal(audios, [audio])
    assert instruments == [(tuple(range(1, len(z) + 1)), [float(t) for t in times])]
    assert keys == [[]]
    weights = checkpoints.describe(STARTER_02, "gansynth")
    assert (record.weights, record.starter, record.settings) == (weights, True, {})
    assert capsys.readouterr().out.splitlines() == [
        f"Weights: {weights}; it is small and knows 24 instruments; --download fetches "
        "Google's (0.1 GB).",
        f"cs1-1pre-short: {gansynth.summary(notes)}, on 5 instruments, 7.0 s apart, about 8 s of "
        "work, 2.9 MB on disk; seed 7.",
        f"To repeat this run: {record.command}",
        f"The results are in {results.shown(out)}.",
        f"Open in a browser: {(out / 'index.html').as_uri()}"]


def test_velocity_and_tempo_are_heard(tmp_path, two, melody):
    two("--midi", melody, "--output", tmp_path / "out")
    clip = heard(tmp_path / "out" / "my score_seed7.wav")
    levels = [clip[round(second * 16000)] for second in (0.25, 1.25, 3.0)]
    assert levels == pytest.approx([0.5, 0.5 * 64 / 127, 0.5 * 32 / 127], abs=1e-3)
    assert len(clip) == 16000 * (7 + 3)
    two("--midi", melody, "--tempo", 2, "--output", tmp_path / "fast")
    _, named = two.one("generate")
    np.testing.assert_allclose(named["note_lengths"], [0.25, 0.25, 2.5])
    clip = heard(tmp_path / "fast" / "my score_seed7.wav")
    levels = [clip[round(second * 16000)] for second in (0.125, 0.625, 1.5)]
    assert levels == pytest.approx([0.5, 0.5 * 64 / 127, 0.5 * 32 / 127], abs=1e-3)


def test_seconds_per_instrument_place_the_instruments(tmp_path, two, melody):
    for seconds, count in (("1", 7), ("2", 3), ("6", 2)):
        two("--midi", melody, "--seconds-per-instrument", seconds, "--output", tmp_path / seconds)
        z, times = gansynth.load_instruments(
            tmp_path / seconds / "my score_seed7_instruments.npz")
        np.testing.assert_allclose(times, np.linspace(-0.0001, 7, count), atol=1e-9)
        np.testing.assert_array_equal(z, np.random.default_rng(7).standard_normal((count, 4)))
        (z_notes, _), _ = two.one("generate")
        np.testing.assert_allclose(z_notes, gansynth.get_z_notes([0, 1, 2], z, times))


def test_chosen_instruments_play(tmp_path, two, melody):
    drawn = np.random.default_rng(7).standard_normal((3, 4))
    two("--midi", melody, "--instruments", "3,1@2", "--output", tmp_path / "out")
    (z_notes, _), _ = two.one("generate")
    np.testing.assert_allclose(z_notes[[0, 2]], [
        gansynth.get_z_notes([0.0], drawn[[2, 0]], [-0.0001, 2])[0], drawn[0]])
    assert [words[0] for words, _ in two.all("model")] == [gansynth, gansynth]
    (_, _, _, _, instruments, _), _ = two.one("page")
    assert instruments == [((3, 1), [-0.0001, 2.0])]
    saved = tmp_path / "out" / "my score_seed7_instruments.npz"
    two("--midi", melody, "--instruments", saved, "--output", tmp_path / "again", seed=8)
    again = gansynth.load_instruments(tmp_path / "again" / "my score_seed8_instruments.npz")
    np.testing.assert_array_equal(again[0], drawn[[2, 0]])
    (_, _, _, _, instruments, _), _ = two.one("page")
    assert instruments == [((), [-0.0001, 2.0])]
    two("--midi", melody, "--instruments", "2", "--output", tmp_path / "alone")
    (_, _, _, _, instruments, _), _ = two.one("page")
    assert instruments == [((2, 2), [-0.0001, 7.0])]


def test_a_preview_plays_a_phrase_and_a_keyboard_on_each_instrument(tmp_path, two, capsys):
    out = tmp_path / "out"
    two("--preview", 2, "--output", out, "--threads", 2)
    drawn = np.random.default_rng(7).standard_normal((2, 4))
    phrase, keyboard = two.all("generate")[2:]
    np.testing.assert_allclose(phrase[0][0], np.repeat(drawn[1:], 6, 0))
    np.testing.assert_allclose(keyboard[0][0], np.repeat(drawn[1:], 7, 0))
    assert list(keyboard[0][1]) == [36, 44, 52, 60, 68, 76, 84] and keyboard[1] == {}
    assert {words for words, _ in two.all("model")} == {(gansynth, STARTER_02, 16, 2)}
    (record, planned, scores, audios, instruments, keys), _ = two.one("page")
    assert [(clip.path.name, clip.title, clip.kind) for clip in planned] == [
        ("instrument01_seed7.wav", "instrument01", "preview"),
        ("instrument02_seed7.wav", "instrument02", "preview")]
    assert len(scores) == len(audios) == 2 and record.settings == {"preview": 2, }
    assert instruments == [((1, 1), [-0.0001, 4.0]), ((2, 2), [-0.0001, 4.0])]
    assert [[pitch for pitch, _ in each] for each in keys] == [[36, 44, 52, 60, 68, 76, 84]] * 2
    assert keys[0][3][1][0] == pytest.approx(0.6)
    assert capsys.readouterr().out.splitlines()[1] == (
        "To make: a phrase on each of 2 instruments, 12 notes, and 14 notes for the keyboard on "
        "the "
        "page, about 2 s of work; seed 7.")


def test_labels_engine_and_downloads_of_example_02(tmp_path, two, melody, capsys):
    two("--midi", melody, "--labels", "--engine", "magenta", "--download",
        "--output", tmp_path / "out", "--quiet")
    engine, *words = two.one("model")[0]
    assert engine.__name__ == "synths.gansynth.magenta" and words == [STARTER_02, 16, None]
    assert two.one("picture")[1] == {"labelled": True}
    (name, folder), named = two.one("download")
    assert (name, folder) == ("acoustic_only", HERE / "checkpoints")
    named["progress"](5, 6)
    assert two.calls[-1] == ("progress", ("fetching acoustic_only", 5, 6), {})
    assert two.bars[0] == ("fetching acoustic_only", 1e-6, "MB")
    assert capsys.readouterr().out == ""
    record = two.one("page")[0][0]
    assert record.labels and record.quiet and record.settings == {"engine": "magenta"}
    two.example.download_checkpoint("all_instruments", tmp_path, print)
    assert two.all("download")[-1] == (("all_instruments", tmp_path), {"progress": print})


def test_weights_of_example_02_are_those_that_were_found(tmp_path, two, melody, monkeypatch):
    tried, described = [], []
    monkeypatch.setattr(plan, "instruments", lambda options, checkpoint, scores: tried.append(
        checkpoint) or [None] * len(scores))
    monkeypatch.setattr(checkpoints, "describe", lambda *words: described.append(words) or "x")
    two("--midi", melody, "--output", tmp_path / "out")
    assert tried == [STARTER_02] and set(described) == {(STARTER_02, "gansynth")}


def test_generate_audio_works_by_itself(two, melody, tmp_path):
    example = two.example
    notes = example.get_midi_notes()
    np.testing.assert_array_equal(
        notes["pitches"], gansynth.load_midi(HERE / "midi" / "cs1-1pre-short.mid")["pitches"])
    notes = example.get_midi_notes(melody)
    assert notes["pitches"].tolist() == [60, 62, 64]
    with pytest.raises(InputError, match="^nowhere.mid does not exist.$"):
        example.get_midi_notes("nowhere.mid")
    done = []
    example.generate_audio(notes, seed=3, progress=lambda *words: done.append(words))
    assert two.one("model")[0] == (gansynth, None, 16, None) and done == [(3, 3)]
    z = np.random.default_rng(3).standard_normal((2, 4))
    np.testing.assert_allclose(two.one("generate")[0][0], gansynth.get_z_notes(
        [0, 1, 2], z, [-0.0001, 7]))
    path = example.save_audio(np.full(100, 0.5, np.float32), "mine", tmp_path)
    assert path == tmp_path / "mine.wav" and len(heard(path)) == 100
    assert two.one("picture")[0][1:] == (16000, "mine.png", tmp_path)
