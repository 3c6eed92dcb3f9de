"""The score of example 2: our engraving sounds what the book's file sounds."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import warnings
from pathlib import Path

import mido
import pretty_midi
import pytest

from midi.engrave import SCORE, read_abc, to_midi
from synths import InputError

ROOT = Path(__file__).parents[1]
MIDI = ROOT / "midi" / "cs1-1pre-short.mid"


@pytest.fixture(scope="module")
def notes():
    """(start, end) in ticks of 1/960 s, pitch, velocity, in the order they are heard."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the book's own file makes pretty_midi warn
        midi = pretty_midi.PrettyMIDI(str(MIDI))
    assert len(midi.instruments) == 1 and midi.instruments[0].program == 42
    assert not midi.instruments[0].is_drum
    return sorted((round(note.start * 960), round(note.end * 960), note.pitch, note.velocity)
                  for note in midi.instruments[0].notes)


def test_the_notes_are_the_books(notes):
    text = "".join(f"{start} {end} {pitch} {velocity}\n" for start, end, pitch, velocity in notes)
    assert hashlib.sha256(text.encode()).hexdigest() == (
        "81611e5af58f5b6a1ac7602bd89f67ca2e1e3bca13c6631ed23310f1010d12d7")


def test_the_file_is_not_the_books():
    assert hashlib.sha256(MIDI.read_bytes()).hexdigest() != (
        "2f95d2b22e2b363ce1928d02dac4c15aaca60e63c14035b8c9dc1fcb5a3164bc")


def test_length_and_range(notes):
    pitches = [pitch for _, _, pitch, _ in notes]
    assert (len(notes), min(pitches), max(pitches)) == (210, 38, 67)
    assert mido.MidiFile(MIDI).length == pytest.approx(28.0)
    assert max(end for _, end, _, _ in notes) == 28 * 960 - 1


def test_one_voice_but_for_the_last_chord_and_one_held_string(notes):
    assert notes[-3:] == [(26 * 960, 28 * 960 - 1, pitch, 100) for pitch in (43, 59, 67)]
    overlaps = [(first, second) for first, second in zip(notes[:-3], notes[1:-2])
                if second[0] < first[1]]
    assert [(first[2], second[2]) for first, second in overlaps] == [(57, 50)]
    assert all(second[0] == first[0] + (240 if first[2] == 38 else 120)
               for first, second in zip(notes[:-4], notes[1:-3]))


def test_open_strings_are_softer(notes):
    soft = [(start, pitch) for start, _, pitch, velocity in notes if velocity == 85]
    assert {pitch for _, pitch in soft} == {57} and len(soft) == 47
    assert all(velocity in (85, 100) for *_, velocity in notes)


def test_the_chromatic_climb(notes):
    climb = [pitch for start, _, pitch, _ in notes if 131 * 120 <= start < 161 * 120]
    assert climb[1::2] == list(range(53, 68)) and set(climb[2::2]) == {50}


def test_tempo_meter_and_key_stand_in_the_first_track():
    midi = mido.MidiFile(MIDI)
    assert (midi.type, len(midi.tracks)) == (1, 2)
    first = {message.type: message for message in midi.tracks[0]}
    assert first["set_tempo"].tempo == 500000 and first["key_signature"].key == "G"
    assert (first["time_signature"].numerator, first["time_signature"].denominator) == (4, 4)
    assert "BWV 1007" in first["track_name"].name
    assert [message.type for message in midi.tracks[1] if message.is_meta] == [
        "track_name", "end_of_track"]


def test_the_script_makes_the_file(tmp_path):
    output = tmp_path / "again.mid"
    subprocess.run([sys.executable, "-m", "midi.engrave", "--output", output], cwd=ROOT,
                   check=True, capture_output=True)
    assert output.read_bytes() == MIDI.read_bytes() and list(tmp_path.iterdir()) == [output]


def test_the_score_is_read_by_the_rules_of_abc():
    header = "X: 1\nT: t\nC: c\nM: 2/4\nL: 1/16\nQ: 1/4=60\nU: o = !open!\nK: D\n"
    score = read_abc(header + "C4 =F,2^G,2 | [_B,,D]8 |]")
    assert [(note.pitch, float(note.start), float(note.length)) for note in score.notes] == [
        (61, 0, 1), (53, 1, 0.5), (56, 1.5, 0.5), (46, 2, 2), (62, 2, 2)]
    assert to_midi(score).length == 4
    for music, reason in (("C7 |]", "2/4 long"), ("z8 |]", "part of ABC"), ("pC8 |]", "marked")):
        with pytest.raises(InputError, match=reason):
            read_abc(header + music)
    assert read_abc(SCORE.read_text(encoding="utf-8")).title.startswith("Suite I")
