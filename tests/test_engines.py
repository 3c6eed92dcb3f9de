"""Both engines through the scripts: ours loads no TensorFlow, Magenta's plays the same."""

import json
import subprocess
import sys

import magenta_nsynth
import numpy as np
import soundfile
from test_examples import ONE, ROOT, TWO, bad, midi, tone

from synths import nsynth

# A script as a program, and then the packages that it has loaded.
RUN = """
import json, os, runpy, sys
from pathlib import Path
sys.path.insert(0, os.getcwd())
script, log, prepare, *words = sys.argv[1:]
exec(prepare)
sys.argv = [script, *words]
try:
    runpy.run_path(script, run_name="__main__")  # it ends by its exit code
finally:
    Path(log).write_text(json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
"""
CHAPTERS = {"numpy", "librosa", "matplotlib", "soundfile"}
SIZES = {"width": 24, "skip_width": 16, "num_layers": 12, "num_z": 16, "ae_width": 12,
         "ae_num_layers": 12}
# Magenta's code carries the official sizes in its source; here it gets smaller ones.
SMALL = f"""
from synths.engines import tensorflow_v1
tensorflow_v1.load()
from magenta.models.nsynth.wavenet import h512_bo16
from benchmarks import magenta_nsynth
magenta_nsynth.configure(h512_bo16, {SIZES})
from synths.nsynth import magenta
magenta.WIDTH = {SIZES["width"]}
"""


def loaded(tmp_path, script, *words, prepare=""):
    """Run a script; return the packages that were loaded at its end."""
    log = tmp_path / "loaded.json"
    done = subprocess.run([sys.executable, "-c", RUN, script, str(log), prepare,
                           *map(str, words)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return set(json.loads(log.read_text("utf-8")))


def decibels(wanted, found):
    """How far the difference of two sounds lies below the sound."""
    return 10 * np.log10(np.sum(wanted ** 2) / max(np.sum((wanted - found) ** 2), 1e-30))


def test_example_01_needs_no_tensorflow_and_plays_the_same_in_magentas_code(tmp_path):
    prefix = tmp_path / "small" / "model.ckpt-200000"
    magenta_nsynth.save_checkpoint(prefix, magenta_nsynth.random_weights(SIZES))
    wavs = [tone(tmp_path / "a.wav"), tone(tmp_path / "b.wav", 330)]
    words = ["--sounds", *wavs, "--checkpoint", prefix, "--seconds", "0.1", "--seed", 4, "--quiet",
             "--output"]
    fast = loaded(tmp_path, ONE, *words, tmp_path / "fast")
    assert CHAPTERS <= fast and not {"magenta", "tensorflow"} & fast
    slow = loaded(tmp_path, ONE, *words, tmp_path / "slow", "--engine", "magenta", prepare=SMALL)
    assert CHAPTERS | {"magenta", "tensorflow"} <= slow
    ours, theirs = (np.stack([np.load(tmp_path / engine / "encodings" / f"{name}.npy")
                              for name in "ab"]) for engine in ("fast", "slow"))
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())

    # fastgen draws from NumPy's global generator, one number for each clip at each sample.
    mixes = np.stack([*theirs, (2 * theirs[0] + theirs[1]) / 3, (2 * theirs[1] + theirs[0]) / 3])
    length = mixes.shape[1] * 512
    uniforms = np.random.RandomState(4).rand(length, 4).T
    wanted = nsynth.decode(np.float32(mixes), prefix, uniforms, "float32")
    names = ("a_reconstructed", "b_reconstructed", "a_b", "b_a")
    for name, samples in zip(names, wanted):
        heard, rate = soundfile.read(tmp_path / "slow" / f"{name}_seed4.wav")
        assert rate == 16000 and len(heard) == length
        assert decibels(nsynth.faded(samples, 0.005), heard) > 40, name  # of 16 bits


def test_example_02_plays_the_same_clip_through_magentas_networks(tmp_path):
    score = midi(tmp_path / "score.mid", [(0, 1, 60, 90), (1, 2, 64, 80), (2, 4, 45, 100)])
    words = ["--midi", score, "--seed", 3, "--quiet", "--output"]
    fast = loaded(tmp_path, TWO, *words, tmp_path / "fast")
    assert CHAPTERS | {"note_seq"} <= fast and not {"magenta", "tensorflow"} & fast
    slow = loaded(tmp_path, TWO, *words, tmp_path / "slow", "--engine", "magenta")
    assert CHAPTERS | {"note_seq", "magenta", "tensorflow"} <= slow
    ours, theirs = (soundfile.read(tmp_path / engine / "score_seed3.wav")[0]
                    for engine in ("fast", "slow"))
    assert ours.shape == theirs.shape and np.abs(theirs).max() > 0.1
    assert decibels(theirs, ours) > 60


def test_what_magentas_engine_cannot_do_is_refused_before_any_work(tmp_path):
    out = ["--engine", "magenta", "--output", tmp_path / "out"]
    for words, says in ((["--precision", "int8"], "--precision"), (["--threads", 2], "--threads"),
                        (["--resume"], "--resume"), (["--temperature", "0.5"], "temperature")):
        bad(ONE, *out, *words, says=says)
    bad(TWO, *out, "--threads", 2, says="--threads")
    assert not (tmp_path / "out").exists()
