"""NSynth against Magenta's own code, and what `synths.nsynth` promises beyond it."""

import json
import subprocess
import sys
import wave
from pathlib import Path

import magenta_nsynth
import numpy as np
import pytest
import soundfile

from synths import CheckpointError, InputError, nsynth
from synths.engines import tensorflow_v1
from synths.nsynth import saving
from synths.nsynth.decoding import Decoding, Uniforms

SOUNDS = Path(__file__).resolve().parent.parent / "sounds"
SMALL = {"width": 24, "skip_width": 20, "num_layers": 21, "num_z": 5, "ae_width": 12,
         "ae_num_layers": 11}


def our_sounds(length, *names):
    return np.stack([soundfile.read(SOUNDS / f"{name}.wav", dtype="float32")[0][:length]
                     for name in names])


def reference(folder, sizes, audio, rows, steps):
    """Weights and what Magenta makes of them, in a process of its own.

    Three of twelve random clips are taken: those (`rows`) where no random number comes within
    3e-6 of an edge between two codes.  Closer than that, float32's rounding decides, and two
    correct implementations may part.
    """
    rng = np.random.default_rng(3)
    frames = -(-steps // 512)
    case = {"prefix": str(folder / "model.ckpt-7"), "audio": audio,
            "encodings": rng.standard_normal([12, frames, sizes["num_z"]], dtype=np.float32)[rows],
            "uniforms": rng.random([12, frames * 512])[rows]}
    np.savez(folder / "data.npz", audio=audio, encodings=case["encodings"],
             uniforms=case["uniforms"][:, :steps])
    (folder / "settings.json").write_text(json.dumps(
        {"sizes": sizes, "prefix": case["prefix"], "data": str(folder / "data.npz"),
         "loss": sizes is SMALL}))
    program = [sys.executable, magenta_nsynth.__file__, str(folder / "settings.json"),
               str(folder / "reference.npz")]
    done = subprocess.run(program, capture_output=True, text=True, encoding="utf-8",
                          errors="replace")
    assert done.returncode == 0, done.stderr[-2000:]
    return case | dict(np.load(folder / "reference.npz"), given=case["encodings"])


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Few channels, but more layers than one cycle of dilations and sounds longer than one."""
    return reference(tmp_path_factory.mktemp("small"), SMALL, our_sounds(9000, "meow", "bass"),
                     rows=[0, 2, 10], steps=2000)


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """The official shapes: 61.8 million parameters."""
    return reference(tmp_path_factory.mktemp("official"), magenta_nsynth.OFFICIAL,
                     our_sounds(2048, "flute", "metal"), rows=[3, 8, 9], steps=400)


def decode(case, *rows, **options):
    rows = list(rows or range(len(case["given"])))
    options.setdefault("precision", "float32")
    return nsynth.decode(case["given"][rows], case["prefix"], case["uniforms"][rows], **options)


# Parity --------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["small", "official"])
def test_encodings_are_magentas(which, request):
    case = request.getfixturevalue(which)
    result = nsynth.encode(case["audio"], case["prefix"])
    expected = case["encodings"]
    assert result.shape == expected.shape and result.dtype == np.float32
    assert np.abs(result - expected).max() <= 1e-4 * np.abs(expected).max()
    assert expected.std() > 0.01


@pytest.mark.parametrize("which", ["small", "official"])
def test_samples_are_magentas(which, request):
    """The very samples of fastgen's loop; in the small case across edges of blocks and frames."""
    case = request.getfixturevalue(which)
    expected = case["samples"]
    audio = decode(case)
    np.testing.assert_allclose(audio[:, :expected.shape[1]], expected, rtol=1e-6, atol=1e-9)
    assert len(np.unique(expected)) > 100       # the probabilities are spread out


def test_likelihood_is_magentas_loss(small):
    result = nsynth.nll(small["audio"], small["prefix"])
    assert result.shape == (2,) and result.dtype == np.float64
    assert result.mean() == pytest.approx(float(small["loss"]), rel=1e-5)


def test_mu_law_is_magentas():
    codes = np.arange(-128, 128)
    samples = nsynth.inverse_mu_law(codes)
    assert np.array_equal(nsynth.mu_law(samples), codes)
    assert samples[128] == 0 and np.abs(samples).max() < 0.98
    tf = tensorflow_v1.load()
    from magenta.models.nsynth import utils
    np.testing.assert_allclose(samples, utils.inv_mu_law_numpy(codes), rtol=1e-5)
    audio = np.linspace(-1, 0.999, 9999).astype(np.float32)
    with tf.Graph().as_default(), tf.Session() as session:
        assert np.array_equal(nsynth.mu_law(audio), session.run(utils.mu_law(audio)))
    assert list(nsynth.mu_law(np.array([-1, 0, 1, 1e-9, -1e-9]))) == [-128, 0, 127, 0, -1]


# Properties ----------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_a_clip_does_not_depend_on_its_neighbours(small, precision):
    together = decode(small, precision=precision)
    assert together.shape == (3, 2048) and together.dtype == np.float32
    assert np.array_equal(decode(small, 2, 0, precision=precision), together[[2, 0]])
    assert np.array_equal(decode(small, 1, precision=precision), together[[1]])
    many = decode(small, *[0, 1, 2] * 5, 1, precision=precision)
    assert np.array_equal(many, together[[0, 1, 2] * 5 + [1]])


def test_groups_do_not_change_samples(small, monkeypatch):
    from synths.nsynth import decoder

    together = decode(small)
    assert decoder.groups(24, 21, 3) == [slice(0, 3)]
    monkeypatch.setattr(decoder, "_MOST_CLIPS", 2)
    assert decoder.groups(24, 21, 3) == [slice(0, 1), slice(1, 3)]
    assert np.array_equal(decode(small), together)


def test_threads_do_not_change_samples(small):
    assert np.array_equal(decode(small, threads=1), decode(small, threads=2))


def test_a_shorter_decode_is_the_beginning_of_a_longer(small):
    short = nsynth.decode(small["given"][:, :2], small["prefix"], small["uniforms"][:, :1024],
                          "float32")
    assert np.array_equal(short, decode(small)[:, :1024])


def test_long_sounds_are_encoded_in_chunks_with_the_same_result(small, monkeypatch):
    from synths.nsynth import wavenet_encoder

    sound = np.concatenate(list(our_sounds(16000, "bass", "flute", "meow", "metal")))
    whole = nsynth.encode(sound, small["prefix"])
    assert whole.shape == (1, 125, 5)
    for frames in (1, 7, 50):
        monkeypatch.setattr(wavenet_encoder, "_CHUNK_FRAMES", frames)
        assert np.array_equal(nsynth.encode(sound, small["prefix"]), whole)
    # One sound's encodings do not depend on the others' either.
    assert np.array_equal(nsynth.encode(np.stack([sound[::-1], sound]), small["prefix"])[1:],
                          whole)


def test_lengths(small):
    sound = our_sounds(16000, "bass")
    assert nsynth.encode(sound, small["prefix"]).shape == (1, 31, 5)
    assert nsynth.encode(sound[0], small["prefix"], sample_length=1500).shape == (1, 2, 5)
    encoding = nsynth.encode(sound, small["prefix"], sample_length=512)
    flat = nsynth.decode(encoding[0], small["prefix"], np.full([1, 512], 0.5))
    assert flat.shape == (1, 512)


def test_low_temperature_prefers_the_likely(small):
    # A code with a probability above 0.5 contains the median of the distribution.
    cold = decode(small, 0, temperature=1e-4)
    other = nsynth.decode(small["given"][:1], small["prefix"],
                          np.full([1, 2048], 0.5), "float32", temperature=1e-4)
    assert np.array_equal(cold, other)
    assert not np.array_equal(cold, decode(small, 0))


def test_a_uniform_above_all_cumulated_odds_means_the_last_code(small):
    top = np.nextafter(1, 0)
    audio = nsynth.decode(small["given"][:1, :1], small["prefix"], np.full([1, 512], top))
    assert audio.max() <= nsynth.inverse_mu_law(np.array([127]))[0]


def test_uniforms_are_the_same_drawn_as_they_are_read():
    for clips in (3, ["a", "b", "c"]):
        whole = nsynth.draw_uniforms(5, clips, 2048)
        for first in (0, 512, 1024):
            drawn = Uniforms(5, clips)
            assert np.array_equal(drawn[:, first:first + 512], whole[:, first:first + 512])
            assert np.array_equal(drawn[:, 1536:2048], whole[:, 1536:2048])
    assert np.array_equal(Uniforms(5, [2, 0])[:, 0:99], nsynth.draw_uniforms(5, 3, 99)[[2, 0]])


def test_uniforms_have_a_stream_for_each_clip():
    four = nsynth.draw_uniforms(5, 4, 100)
    assert np.array_equal(nsynth.draw_uniforms(5, 2, 50), four[:2, :50])
    assert len(np.unique(four)) == 400 and not np.array_equal(nsynth.draw_uniforms(6, 4, 100), four)
    with pytest.raises(InputError, match="seed"):
        nsynth.draw_uniforms(-1, 1, 1)


# Precision -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """Wide enough for int8: weights that quantise well, and the same network in a bad form."""
    sizes = SMALL | {"width": 128, "num_layers": 10}
    variables = magenta_nsynth.random_weights(sizes)
    good = tmp_path_factory.mktemp("good") / "model.ckpt-1"
    magenta_nsynth.save_checkpoint(good, variables)
    # Channel 0 is made to be silent, and its weights huge: no difference in float32, but the
    # scales of int8 must stretch over them.
    variables["startconv/W"][..., 0] = variables["startconv/biases"][0] = 0
    for i in range(1, 11):
        variables[f"res_{i}/W"][..., 0] = variables[f"res_{i}/biases"][0] = 0
        variables[f"dilatedconv_{i}/W"][:, :, 0] = 1000
    bad = tmp_path_factory.mktemp("bad") / "model.ckpt-1"
    magenta_nsynth.save_checkpoint(bad, variables)
    return str(good), str(bad)


def test_auto_chooses_both_ways(wide):
    audio = our_sounds(8000, "flute", "metal")
    good, bad = (nsynth.choose_precision(audio, path, samples=1024) for path in wide)
    assert good.precision == "int8" and abs(good.int8 - good.float32) <= nsynth.TOLERANCE
    assert good.int8 != good.float32
    assert bad.precision == "float32" and abs(bad.int8 - bad.float32) > nsynth.TOLERANCE
    assert f"{bad.int8:.4f}" in bad.reason and bad.reason.startswith("float32")


def test_synthesize_auto_gives_what_the_chosen_precision_gives(wide, small, tmp_path):
    audio = our_sounds(2048, "flute")
    for path, expected in zip(wide, ("int8", "float32")):
        written = set()
        for precision in ("auto", expected):
            nsynth.synthesize(nsynth.encode(audio, path, 512), [tmp_path / "a.wav"], path,
                              decoding=Decoding(precision=precision), reference_audio=audio)
            written.add((tmp_path / "a.wav").read_bytes())
        assert len(written) == 1
    assert nsynth.choose_precision(audio, small["prefix"]).precision == "float32"


# Files ---------------------------------------------------------------------------------------


def read_wav(path):
    with wave.open(str(path)) as wav:
        assert (wav.getnchannels(), wav.getsampwidth(), wav.getframerate()) == (1, 2, 16000)
        return np.frombuffer(wav.readframes(wav.getnframes()), "<i2")


def test_synthesize_writes_what_decode_gives(small, tmp_path):
    paths = [tmp_path / f"{i}.wav" for i in range(3)]
    nsynth.synthesize(small["given"], [str(path) for path in paths], small["prefix"],
                      decoding=Decoding(seed=4))
    audio = nsynth.decode(small["given"], small["prefix"], nsynth.draw_uniforms(4, 3, 2048))
    for path, clip in zip(paths, audio):
        assert np.array_equal(read_wav(path), np.rint(clip * 32767))
    assert sorted(tmp_path.iterdir()) == paths
    plain = tmp_path / "plain"
    plain.touch()
    assert paths[0].stat().st_mode == plain.stat().st_mode      # the rights of any new file


class Bar:
    """A progress bar that calls a function with the samples done so far."""

    def __init__(self, call, done):
        self.call, self.done = call, done

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def update(self, samples):
        self.done += samples
        self.call(self.done)


@pytest.fixture
def watch(monkeypatch):
    """Set the function that is called with the samples done so far."""
    def watch(call):
        monkeypatch.setattr(saving, "progress_bar", lambda _, total, done: Bar(call, done))
    return watch


def test_synthesize_interrupted_keeps_what_is_done(small, tmp_path, watch):
    path = tmp_path / "clip.wav"
    lengths = []

    def stop(done):
        partial = nsynth.partial_path(path)
        lengths.append(len(read_wav(partial)) if partial.exists() else 0)
        if done == 1536:
            raise KeyboardInterrupt

    watch(stop)
    with pytest.raises(KeyboardInterrupt):
        nsynth.synthesize(small["given"][:1], [path], small["prefix"], 1000)
    # Written after 1024 samples, and again when interrupted: as long as what is done, no longer.
    assert lengths == [0, 1024, 1024]
    whole = nsynth.decode(small["given"][:1], small["prefix"], nsynth.draw_uniforms(0, 1, 2048))
    partial = nsynth.partial_path(path)
    assert np.array_equal(read_wav(partial), np.rint(whole[0, :1536] * 32767))
    assert sorted(tmp_path.iterdir()) == [nsynth.codes_path(path), partial]
    watch(lambda done: None)
    nsynth.synthesize(small["given"][:1], [path], small["prefix"], 1000)
    assert np.array_equal(read_wav(path), np.rint(whole[0] * 32767))
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture
def stopped_at(watch):
    """Synthesize up to so many samples of all clips, then as if killed; return what was done."""
    def stopped_at(case, paths, samples, samples_per_save=10000, **options):
        calls = []

        def stop(done):
            calls.append(done)
            if done >= samples:
                raise RuntimeError("killed")
        watch(stop)
        try:
            nsynth.synthesize(case["given"][[i % 3 for i in range(len(paths))]], paths,
                              case["prefix"], samples_per_save, decoding=Decoding(**options))
        except RuntimeError:
            pass
        return calls
    return stopped_at


@pytest.mark.parametrize("most", [1, 2, 64])
def test_synthesize_killed_and_resumed_gives_the_same_bytes(
        small, tmp_path, monkeypatch, stopped_at, most):
    from synths.nsynth import decoder

    monkeypatch.setattr(decoder, "_MOST_CLIPS", most)
    paths = [tmp_path / f"{i}.wav" for i in range(5)]
    names = [f"clip {i}" for i in range(5)]
    options = {"seed": 4, "streams": names, "fade": 0.005, "temperature": 0.9}
    stopped_at(small, paths, 1e9, **options)
    whole = [path.read_bytes() for path in paths]
    assert sorted(tmp_path.iterdir()) == paths
    for path in paths:
        path.unlink()
    samples = 512
    while len([path for path in paths if path.is_file()]) < 5:  # killed over and over
        finished = {path: path.stat().st_mtime_ns for path in paths if path.is_file()}
        calls = stopped_at(small, paths, samples, resume=True, **options)
        assert calls and calls[0] > samples - 512 * 5 or samples == 512     # not from the start
        assert finished.items() <= {path: path.stat().st_mtime_ns for path in paths
                                    if path.is_file()}.items()
        samples = calls[-1] + 1024
    assert [path.read_bytes() for path in paths] == whole
    assert sorted(tmp_path.iterdir()) == paths


def test_synthesize_needs_one_stream_for_each_clip(small, tmp_path):
    with pytest.raises(InputError, match="stream"):
        nsynth.synthesize(np.zeros((2, 1, 16), np.float32),
                          [tmp_path / f"{name}.wav" for name in "ab"], small,
                          decoding=nsynth.Decoding(streams=["a"]))


def test_synthesize_kept_codes_are_used_as_far_as_they_are_whole(small, tmp_path, stopped_at):
    path = tmp_path / "a.wav"
    codes = nsynth.codes_path(path)
    stopped_at(small, [path], 1e9, seed=1)
    whole = path.read_bytes()
    path.unlink()
    stopped_at(small, [path], 1536, seed=1)
    kept = codes.read_bytes()
    assert len(kept) < 1536 * 1.02 + 100    # 16 kB for each second

    def first(data, seed=1):
        """Return the progress at the first block of a run resumed from this file; its result."""
        codes.write_bytes(data)
        path.unlink(missing_ok=True)
        calls = stopped_at(small, [path], 1e9, seed=seed, resume=True)
        assert list(tmp_path.iterdir()) == [path]
        return calls[0], path.read_bytes() == whole

    assert first(kept) == (2048, True)
    assert first(kept[:-1]) == (1536, True)                 # cut short in a frame
    assert first(kept + b"more") == (2048, True)
    assert first(kept[:-600] + b"!" + kept[-599:]) == (1024, True)
    assert first(kept[:20]) == first(b"") == (512, True)
    assert first(kept, seed=2) == (512, False)
    assert first(kept[:50] + kept[50 + 516:]) == (512, True)   # frames in another order


def test_synthesize_without_resume_forgets_an_earlier_run(small, tmp_path, stopped_at):
    path = tmp_path / "a.wav"
    path.write_bytes(b"of an earlier run")
    stopped_at(small, [path], 512, seed=1)
    assert not path.exists()    # else a run that goes on would take it for its own
    stopped_at(small, [path], 1e9, seed=1, resume=True)
    assert len(read_wav(path)) == 2048


def test_synthesize_link_in_place_of_kept_codes_is_not_followed(small, tmp_path, stopped_at):
    path, victim = tmp_path / "a.wav", tmp_path / "victim"
    victim.write_bytes(b"mine")
    nsynth.codes_path(path).symlink_to(victim)
    nsynth.partial_path(path).symlink_to(victim)
    stopped_at(small, [path], 1024, samples_per_save=512)
    assert victim.read_bytes() == b"mine" and not nsynth.codes_path(path).is_symlink()


_MEMORY = """
import gc, sys, tempfile, tracemalloc
import numpy as np
from synths import nsynth
from synths.nsynth import decoder

decoder._MOST_CLIPS = 2
decoder.Decoder.generate = lambda self, encodings, uniforms, made=None: (
    np.uint8(256 * uniforms[:, 512 * frame:512 * (frame + 1)])
    for frame in range(encodings.shape[1]))
for clips in (4, 4, 24):    # the first imports what it needs
    gc.collect()
    tracemalloc.start()
    with tempfile.TemporaryDirectory() as folder:
        nsynth.synthesize(np.zeros((clips, 100, 5), np.float32),
                          [f"{folder}/{i}.wav" for i in range(clips)], sys.argv[1],
                          decoding=nsynth.Decoding(threads=1))
    print(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
"""


def test_synthesize_memory_holds_the_clips_being_decoded_and_no_others(small):
    """Random numbers and samples of all clips would be 12 bytes for each sample."""
    done = subprocess.run([sys.executable, "-c", _MEMORY, small["prefix"]], cwd=SOUNDS.parent,
                          capture_output=True, text=True, check=True)
    _, few, many = map(int, done.stdout.split())
    assert many - few < 3 * 20 * 51200  # three bytes for each sample of twenty clips


# Bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize("audio, message", [
    (np.zeros(511, np.float32), "shorter|only 511"),
    (np.zeros([1, 2, 600]), "shape"),
    (np.zeros([0, 600]), "shape"),
    (np.full(600, np.nan), "finite"),
    (np.zeros(600, np.int16), "floating point"),
    (np.array(["a"] * 600), "numbers"),
])
def test_bad_audio(audio, message, small):
    for function in (nsynth.encode, nsynth.nll):
        with pytest.raises(InputError, match=message):
            function(audio, small["prefix"])


@pytest.mark.parametrize("change, message", [
    ({"encodings": np.zeros([1, 2, 16])}, "5 channels"),
    ({"encodings": np.zeros([2])}, "shape"),
    ({"encodings": np.zeros([1, 0, 5])}, "shape"),
    ({"encodings": [[[1.0] * 5], [[1.0] * 4]]}, "array of numbers"),
    ({"encodings": np.full([1, 2, 5], np.inf)}, "finite"),
    ({"uniforms": np.zeros([1, 1000])}, r"\(1, 1024\)"),
    ({"uniforms": np.zeros([2, 1024])}, r"\(1, 1024\)"),
    ({"uniforms": np.ones([1, 1024])}, "less than 1"),
    ({"uniforms": np.full([1, 1024], np.nan)}, "less than 1"),
    ({"uniforms": np.zeros([1, 1024], int)}, "int"),
    ({"precision": "int4"}, "int4"),
    ({"temperature": 0.0}, "above 0"),
    ({"threads": 0}, "at least 1"),
])
def test_bad_arguments_of_decode(change, message, small):
    arguments = {"encodings": np.zeros([1, 2, 5]), "uniforms": np.zeros([1, 1024])} | change
    with pytest.raises(InputError, match=message):
        nsynth.decode(checkpoint_path=small["prefix"], **arguments)


def test_bad_paths(small, tmp_path):
    encodings = small["given"][:2]
    with pytest.raises(InputError, match="2 encodings and 1 paths"):
        nsynth.synthesize(encodings, [tmp_path / "a.wav"], small["prefix"])
    with pytest.raises(InputError, match="same file"):
        nsynth.synthesize(encodings, [tmp_path / "a.wav"] * 2, small["prefix"])
    with pytest.raises(InputError, match="folder"):
        nsynth.synthesize(encodings, [tmp_path / "no/a.wav", tmp_path / "b.wav"], small["prefix"])
    with pytest.raises(InputError, match="samples_per_save"):
        nsynth.synthesize(encodings, [tmp_path / "a.wav", tmp_path / "b.wav"], small["prefix"], 0)
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_with_a_wrong_variable_is_named(small, tmp_path):
    variables = magenta_nsynth.random_weights(SMALL)
    variables["res_3/W"] = variables["res_3/W"][..., :-1]
    variables["ae_res_2/biases"] = variables["ae_res_2/biases"][:-1]
    magenta_nsynth.save_checkpoint(tmp_path / "model.ckpt-1", variables)
    with pytest.raises(CheckpointError, match="res_3/W"):
        nsynth.decode(small["given"], tmp_path, small["uniforms"])
    with pytest.raises(CheckpointError, match="ae_res_2/biases"):
        nsynth.encode(small["audio"], tmp_path)
    del variables["skip_start/biases"]
    magenta_nsynth.save_checkpoint(tmp_path / "model.ckpt-1", variables)
    with pytest.raises(CheckpointError, match="lacks the variable skip_start/biases"):
        nsynth.decode(small["given"], tmp_path, small["uniforms"])


def test_nothing_slow_is_imported():
    program = "import sys; from synths import nsynth; from synths.nsynth import wavenet; " \
              "sys.exit(any(n in sys.modules for n in ('tensorflow', 'librosa', 'magenta')))"
    root = Path(__file__).resolve().parent.parent
    assert subprocess.run([sys.executable, "-c", program], cwd=root).returncode == 0


def test_faded_ends_at_nothing_and_leaves_the_middle():
    audio = np.ones(1000, np.float32)
    faded = nsynth.faded(audio, 0.005)
    assert faded[0] == faded[-1] == 0 and (np.diff(faded[:81]) > 0).all()
    np.testing.assert_array_equal(faded[80:-80], audio[80:-80])
    np.testing.assert_array_equal(nsynth.faded(audio, 0.0), audio)
    assert nsynth.faded(audio[:3], 1.0)[1] == 1


# Killed, and side by side --------------------------------------------------------------------

_RUN = """
import sys
import numpy as np
from synths import nsynth
from synths.nsynth import decoder

prefix, out, die = sys.argv[1:]
if die:     # as the system would kill it: in the middle of preparing, with no way to tidy up
    import os
    build = decoder.Code
    def killed(*arguments):
        build(*arguments)
        os._exit(9)
    decoder.Code = killed
encodings = np.random.default_rng(1).standard_normal([3, 1, 5]).astype(np.float32)
nsynth.synthesize(encodings, [f"{out}/{i}.wav" for i in range(3)], prefix,
                  decoding=nsynth.Decoding(seed=2))
"""


def test_a_killed_run_leaves_nothing_and_two_runs_do_not_meet(small, tmp_path):
    import os

    home, temporary = tmp_path / "home", tmp_path / "temporary"
    names = ("killed", "alone", "first", "second")
    for folder in (home, temporary, *(tmp_path / name for name in names)):
        folder.mkdir()
    before = sorted(Path(small["prefix"]).parent.iterdir())
    places = {name: str(home) for name in ("HOME", "USERPROFILE", "LOCALAPPDATA", "APPDATA",
                                           "XDG_CACHE_HOME", "XDG_DATA_HOME")}
    places |= {name: str(temporary) for name in ("TMPDIR", "TEMP", "TMP")}
    root = str(SOUNDS.parent)

    def start(name, die=""):
        return subprocess.Popen(
            [sys.executable, "-c", _RUN, small["prefix"], str(tmp_path / name), die], cwd=root,
            env=os.environ | places, stderr=subprocess.PIPE, text=True)

    def result(name):
        return [(tmp_path / name / f"{i}.wav").read_bytes() for i in range(3)]

    killed = start("killed", "die")
    killed.communicate()
    assert killed.returncode == 9
    for folder in (home, temporary, tmp_path / "killed"):
        assert not list(folder.iterdir())
    assert sorted(Path(small["prefix"]).parent.iterdir()) == before
    alone = start("alone")
    assert not alone.communicate()[1] and alone.returncode == 0
    both = [start("first"), start("second")]
    assert [(run.communicate()[1], run.returncode) for run in both] == [("", 0)] * 2
    assert result("alone") == result("first") == result("second")
