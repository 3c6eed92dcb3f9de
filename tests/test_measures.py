"""The measures on sounds whose answers are known."""

import numpy as np
import pytest

from training import measures

RATE = 16000


def tone(frequency, seconds=1.0, partials=6, tilt=1.0):
    time = np.arange(int(seconds * RATE)) / RATE
    numbers = np.arange(1, partials + 1)
    numbers = numbers[numbers * frequency < RATE / 2]
    waves = [np.sin(2 * np.pi * frequency * n * time + n) / n ** tilt for n in numbers]
    return 0.2 * np.sum(waves, axis=0)


@pytest.mark.parametrize("frequency", [55.0, 110.3, 220.0, 440.7, 987.8])
def test_pitch_of_a_tone_within_three_cents(frequency):
    found, clarity, rms = measures.f0_track(tone(frequency))
    assert np.abs(measures.cents(found, frequency)).max() < 3
    assert clarity.min() > 0.95
    assert rms.min() > 0.05


def test_pitch_of_the_lowest_note():
    found, _, _ = measures.f0_track(tone(32.703, 2.0, 30), fmin=20, fmax=400)
    assert np.abs(measures.cents(found, 32.703)).max() < 3


def test_a_weak_fundamental_is_still_the_pitch():
    time = np.arange(RATE) / RATE
    sound = sum(level * np.sin(2 * np.pi * 150 * n * time)
                for n, level in ((1, 0.02), (2, 0.3), (3, 0.3), (4, 0.2)))
    found, _, _ = measures.f0_track(sound)
    assert np.abs(measures.cents(np.median(found), 150)) < 5


def test_a_tone_off_pitch_is_seen_as_off():
    found, _, _ = measures.f0_track(tone(440 * 2 ** (70 / 1200)))
    assert np.median(measures.cents(found, 440)) == pytest.approx(70, abs=3)


def test_noise_and_silence_have_no_clear_pitch():
    noise = np.random.default_rng(1).standard_normal(RATE)
    assert np.median(measures.f0_track(noise)[1]) < 0.5
    found, clarity, rms = measures.f0_track(np.zeros(RATE))
    assert np.isnan(found).all() and (clarity == 0).all() and (rms == 0).all()


@pytest.mark.parametrize("frequency", [65.4, 261.6, 1046.5])
@pytest.mark.parametrize("ratio", [5, 15, 25])
def test_harmonic_to_noise_is_the_ratio_that_was_mixed(frequency, ratio):
    sound = tone(frequency, 2.0)
    noise = np.random.default_rng(2).standard_normal(len(sound))
    noise *= np.sqrt(np.mean(sound ** 2) / np.mean(noise ** 2)) * 10 ** (-ratio / 20)
    assert measures.harmonic_to_noise(sound + noise, frequency) == pytest.approx(ratio, abs=1.0)


def test_harmonic_to_noise_at_the_ends_of_its_scale():
    assert measures.harmonic_to_noise(tone(200, 2.0), 200) > 38
    assert measures.harmonic_to_noise(tone(200, 2.0), 225) < 0
    noise = np.random.default_rng(3).standard_normal(2 * RATE)
    assert measures.harmonic_to_noise(noise, 200) < 0
    assert np.isnan(measures.harmonic_to_noise(np.zeros(RATE), 200))


def test_distance_of_a_sound_to_itself_and_to_a_softer_copy():
    noise = 0.1 * np.random.default_rng(4).standard_normal(RATE)
    assert measures.log_spectral_distance(noise, noise) == 0
    # Noise fills the spectrum, so the whole of it is 6 dB lower, but for what is near the floor.
    assert measures.log_spectral_distance(noise, noise / 2) == pytest.approx(6.02, abs=0.1)


def test_distance_grows_with_the_difference_and_both_ways_alike():
    bright, dull, other = tone(220, tilt=0.5), tone(220, tilt=2.0), tone(311, tilt=0.5)
    near = measures.log_spectral_distance(bright, dull)
    far = measures.log_spectral_distance(bright, other)
    assert 1 < near < far
    assert near == pytest.approx(measures.log_spectral_distance(dull, bright))


def test_decay_is_the_slope_of_an_exponential():
    time = np.arange(3 * RATE) / RATE
    sound = tone(220, 3.0) * 10 ** (-7.5 * time / 20)
    assert measures.decay(sound) == pytest.approx(15.0, abs=0.3)
    assert measures.decay(tone(220, 3.0)) == pytest.approx(0.0, abs=0.1)


def test_envelope_follows_the_level():
    levels = measures.envelope(np.concatenate([np.zeros(RATE), np.ones(RATE)]))
    assert levels[:49].max() < -100 and levels[51:].min() == pytest.approx(0, abs=1e-6)


def test_noise_floor_follows_the_noise_under_a_tone():
    noise = np.random.default_rng(0).standard_normal(RATE)
    clean = tone(220)
    quiet, loud = (measures.noise_floor(clean + level * noise) for level in (1e-4, 1e-3))
    assert abs(loud - quiet - 20) < 1
    assert measures.noise_floor(clean) < quiet < -50
    assert abs(measures.noise_floor(3 * clean + 3e-3 * noise) - loud) < 0.1
    assert -25 < measures.noise_floor(noise) < -15
