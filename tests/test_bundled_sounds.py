"""The four shipped sounds: what the scripts, the starter and the README take for granted."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from sounds import make_sounds
from training import measures

FOLDER = Path(make_sounds.__file__).parent


@pytest.fixture(scope="module")
def sounds():
    return {name: soundfile.read(FOLDER / f"{name}.wav")[0] for name in make_sounds.SOUNDS}


@pytest.mark.parametrize("name", make_sounds.SOUNDS)
def test_format_and_level(name, sounds):
    info = soundfile.info(FOLDER / f"{name}.wav")
    assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
    assert info.frames >= 16000
    assert 0.5 < np.abs(sounds[name]).max() < 0.95
    assert abs(np.mean(sounds[name])) < 0.01
    # No click at either end.
    assert np.abs(sounds[name][[0, -1]]).max() < 0.01


@pytest.mark.parametrize("name, pitch", [("bass", make_sounds.BASS_PITCH),
                                         ("flute", make_sounds.FLUTE_PITCH)])
def test_bass_and_flute_are_in_tune(name, pitch, sounds):
    f0, clarity, level = measures.f0_track(sounds[name])
    sure = (level > 0.05) & (clarity > 0.9)
    assert np.mean(sure[level > 0.05]) > 0.9
    off = measures.cents(f0[sure], 440 * 2 ** ((pitch - 69) / 12))
    assert np.mean(np.abs(off) < 35) > 0.9
    assert abs(np.median(off)) < 15


def test_meow_glides_up_and_down(sounds):
    f0, clarity, level = measures.f0_track(sounds["meow"])
    voiced = f0[(level > 0.05) & (clarity > 0.9)]
    top = int(np.argmax(voiced))
    assert voiced[0] < 500 < 600 < voiced[top] < 660
    assert 0 < top < len(voiced) - 1 and voiced[-1] < 500
    wanted = make_sounds.meow_pitch()[::512][:len(f0)]
    assert wanted.min() > 370 and wanted.max() < 645


def test_metal_rings_without_a_pitch(sounds):
    _, clarity, level = measures.f0_track(sounds["metal"])
    assert np.median(clarity) < 0.95 < np.median(measures.f0_track(sounds["bass"])[1])
    fall = measures.decay(sounds["metal"], 0.05, 0.9)
    assert 8 < fall < 30  # a tail that can still be heard at the end
    peaks = np.argsort(np.abs(np.fft.rfft(sounds["metal"] * np.hanning(16000))))[::-1][:40]
    assert any(abs(p - 311) < 5 for p in peaks) and any(abs(p - 857) < 5 for p in peaks)


def test_sounds_are_really_unlike(sounds):
    names = list(sounds)
    for i, a in enumerate(names):
        for b in names[i + 1:]:
            assert measures.log_spectral_distance(sounds[a], sounds[b]) > 6, (a, b)


@pytest.mark.parametrize("name", ["meow", "metal"])
def test_computed_sounds_are_what_the_script_makes(name, sounds):
    assert np.abs(make_sounds.SOUNDS[name]() - sounds[name]).max() < 2 / 32768


def test_rendered_sounds_are_what_the_script_makes(sounds):
    try:
        made = {name: make_sounds.SOUNDS[name]() for name in ("bass", "flute")}
    except make_sounds.InputError as error:
        pytest.skip(str(error))
    for name, audio in made.items():
        # Other versions of fluidsynth interpolate a little differently.
        assert measures.log_spectral_distance(audio, sounds[name]) < 3


def test_readme_names_origin_and_the_books_sounds():
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    for word in ("MIT", "FluidR3", "83249", "160045", "412017", "427567", "zgump", "jorickhoofd",
                 "skymary", "Maria_Mannone", *(f"{name}.wav" for name in make_sounds.SOUNDS)):
        assert word in text
