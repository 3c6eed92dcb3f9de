"""Both engines through the scripts: ours loads no TensorFlow, Magenta's plays the same."""

import json
import subprocess
import sys
from pathlib import Path

import magenta_nsynth
import numpy as np
import pretty_midi
import pytest
import soundfile
from test_examples import ONE, ROOT, TWO, midi, tone

from synths import InputError, gansynth, nsynth
from synths.gansynth import magenta as gansynth_magenta
from synths.nsynth import Decoding, magenta

# A script as a program, and then the packages that it has loaded.
RUN = """
import json, os, runpy, sys
from pathlib import Path
sys.path.insert(0, os.getcwd())
script, log, *words = sys.argv[1:]
sys.argv = [script, *words]
try:
    runpy.run_path(script, run_name="__main__")  # it ends by its exit code
finally:
    Path(log).write_text(json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
"""
CHAPTERS = {"numpy", "librosa", "matplotlib", "soundfile"}
SIZES = {"width": 24, "skip_width": 16, "num_layers": 12, "num_z": 16, "ae_width": 12,
         "ae_num_layers": 12}


def loaded(tmp_path, script, *words):
    """Run a script; return the packages that were loaded at its end."""
    log = tmp_path / "loaded.json"
    done = subprocess.run([sys.executable, "-c", RUN, script, str(log), *map(str, words)],
                          cwd=ROOT, capture_output=True, text=True)
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
    slow = loaded(tmp_path, ONE, *words, tmp_path / "slow", "--engine", "magenta")
    assert CHAPTERS | {"magenta", "tensorflow"} <= slow
    ours, theirs = (np.stack([np.load(tmp_path / engine / "encodings" / f"{name}.npy")
                              for name in "ab"]) for engine in ("fast", "slow"))
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())
    for name in ("a_reconstructed", "b_reconstructed", "a_b", "b_a"):
        clips = [soundfile.read(tmp_path / engine / f"{name}.wav")[0]
                 for engine in ("fast", "slow")]
        assert decibels(*clips) > 40, name


def test_example_02_plays_the_same_clip_through_magentas_code(tmp_path):
    score = midi(tmp_path / "score.mid", [(0, 1, 60, 90), (1, 2, 64, 80), (2, 4, 45, 100)])
    words = ["--midi", score, "--seed", 3, "--seconds-per-instrument", 1, "--quiet", "--output"]
    fast = loaded(tmp_path, TWO, *words, tmp_path / "fast")
    assert CHAPTERS | {"note_seq"} <= fast and not {"magenta", "tensorflow"} & fast
    slow = loaded(tmp_path, TWO, *words, tmp_path / "slow", "--engine", "magenta")
    assert CHAPTERS | {"note_seq", "magenta", "tensorflow"} <= slow
    ours, theirs = (soundfile.read(tmp_path / engine / "score.wav")[0]
                    for engine in ("fast", "slow"))
    # Magenta sets a note's level by its highest sample, ours also by its lowest: notes differ in
    # level, not in sound.
    assert ours.shape == theirs.shape and np.corrcoef(ours, theirs)[0, 1] > 0.95


@pytest.mark.parametrize("no_pedal", [[], ["--no-pedal"]])
def test_workshop_play_on_magenta_ignores_pedals(no_pedal, tmp_path):
    score = pretty_midi.PrettyMIDI()
    score.instruments = [pretty_midi.Instrument(0)]
    score.instruments[0].notes = [pretty_midi.Note(90, 60, 0.0, 0.5)]
    score.instruments[0].control_changes = [pretty_midi.ControlChange(64, 127, 0.0),
                                            pretty_midi.ControlChange(64, 0, 2.0)]
    score.write(str(tmp_path / "score.mid"))
    loaded(tmp_path, "workshop/__main__.py", "play", "--midi", tmp_path / "score.mid", "--engine",
           "magenta", "--instruments", "7", "--seed", 3, "--output", tmp_path / "run", *no_pedal)
    clip, rate = soundfile.read(tmp_path / "run" / "score.wav")
    assert 0.4 < np.flatnonzero(np.abs(clip) > 0.01)[-1] / rate < 1.5  # with the pedal: 2 s


def test_magenta_model_generates_the_same_notes_on_the_bundled_model():
    z = np.random.default_rng(0).normal(size=(3, 256))
    ours, theirs = (np.asarray(engine.Model.load_from_path(None, 2).generate_samples_from_z(
        z, [36, 60, 84])) for engine in (gansynth, gansynth_magenta))
    for note, reference in zip(ours, theirs):
        assert decibels(reference[:len(note)], note) > 60


@pytest.mark.parametrize("decoding", [
    Decoding(temperature=0.5), Decoding(precision="int8"), Decoding(threads=2),
    Decoding(resume=True)])
def test_magenta_synthesize_refuses_what_magenta_cannot_do(tmp_path, decoding):
    with pytest.raises(InputError, match="Magenta"):
        magenta.synthesize(np.zeros([1, 1, 16]), [tmp_path / "a.wav"], decoding=decoding)


def test_magenta_synthesize_gives_the_same_samples_on_the_bundled_model(tmp_path):
    audio = np.stack([soundfile.read(Path(ROOT) / "sounds" / f"{name}.wav", dtype="float32")[0]
                      for name in ("bass", "flute")])[:, 4000:5024]
    encodings = nsynth.encode(audio, None)
    np.testing.assert_allclose(magenta.encode(audio), encodings, atol=1e-5)
    for engine in (nsynth, magenta):
        engine.synthesize(encodings, [tmp_path / f"{engine.__name__}{clip}.wav" for clip in (0, 1)],
                          decoding=Decoding(seed=5, streams=["one", "two"]))
    for clip in (0, 1):
        ours, theirs = (soundfile.read(tmp_path / f"{engine.__name__}{clip}.wav")[0]
                        for engine in (nsynth, magenta))
        assert decibels(theirs, ours) > 40
