"""Make the score of example 2: `python -m midi.engrave [--output FILE]`.

Reads `cs1-1pre-short.abc` (ABC notation, abcnotation.com) and writes the MIDI file beside it.
Only as much of ABC is understood as that score uses; anything else is an error.
"""

from __future__ import annotations

import argparse
import re
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import mido

from synths import InputError
from synths.files import writing

SCORE = Path(__file__).with_name("cs1-1pre-short.abc")
TICKS_PER_QUARTER = 480
VELOCITY, OPEN_STRING_VELOCITY = 100, 85
CELLO = 42  # General MIDI program, counted from 0

SEMITONES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
ACCIDENTALS = {"^": 1, "=": 0, "_": -1}
SHARPS = {"C": "", "G": "F", "D": "FC", "A": "FCG"}  # by major key
TOKEN = re.compile(r"(?P<symbols>[h-w]*)(?:\[(?P<chord>[^]]+)\]|(?P<note>[\^=_]?[A-G],*))"
                   r"(?P<length>\d+)?|(?P<bar>\|\]?)|\s+")
PITCH = re.compile(r"([\^=_]?)([A-G])(,*)")


class Note(NamedTuple):
    """A note of the cello."""

    pitch: int  # MIDI
    start: Fraction  # in quarters
    length: Fraction
    open_string: bool


class Score(NamedTuple):
    """A score and what stands at its head."""

    title: str
    composer: str
    key: str
    meter: tuple[int, int]
    quarters_per_minute: int
    notes: list[Note]


def read_abc(text: str) -> Score:
    """Read a score in ABC notation; refuse what is not understood, and bars of a wrong length."""
    text = re.sub(r"%.*", "", text)
    fields = re.findall(r"^([A-Z]):\s*(.*?)\s*$", text, re.MULTILINE)
    header = dict(fields)
    symbols = dict(re.findall(r"([h-w])\s*=\s*!(\w+)!",
                              "\n".join(value for name, value in fields if name == "U")))
    beats, unit = map(int, header["M"].split("/"))
    sixteenth = Fraction(header["L"]) * 4  # in quarters
    key = header["K"].split()[0]
    music = re.sub(r"^[A-Z]:.*$", "", text, flags=re.MULTILINE)

    notes: list[Note] = []
    position, time, bars = 0, Fraction(0), 0
    while position < len(music):
        token = TOKEN.match(music, position)
        if token is None:
            raise InputError("The score must be in the part of ABC that this script reads; after "
                             f"bar {bars} it has {music[position:position + 10]!r}.")
        position = token.end()
        if token["bar"]:
            bars += 1
            if time != Fraction(4 * beats, unit) * bars:
                raise InputError(f"Every bar must be {header['M']} long, and bar {bars} of the "
                                 f"score ends after {time} quarters.")
        elif token["chord"] or token["note"]:
            marks = {symbols.get(symbol, symbol) for symbol in token["symbols"]}
            if marks - {"open", "tenuto"}:
                raise InputError(f"Notes are marked o or t here, not {sorted(marks)}.")
            length = int(token["length"] or 1) * sixteenth
            held = length * Fraction(3, 2) if "tenuto" in marks else length
            for accidental, letter, commas in PITCH.findall(token["chord"] or token["note"]):
                sharp = ACCIDENTALS[accidental] if accidental else int(letter in SHARPS[key])
                pitch = 60 + SEMITONES[letter] + sharp - 12 * len(commas)
                notes.append(Note(pitch, time, held, "open" in marks))
            time += length
    return Score(header["T"], header["C"], key, (beats, unit),
                 int(header["Q"].removeprefix("1/4=")), notes)


def to_midi(score: Score) -> mido.MidiFile:
    """Return a MIDI file of format 1, with title, tempo, meter and key in the first track.

    The second track has the notes.  Each note ends one tick before the next begins, so that a
    repeated note is struck again.
    """
    conductor = mido.MidiTrack([
        mido.MetaMessage("track_name", name=score.title),
        mido.MetaMessage("text", text=score.composer),
        mido.MetaMessage("copyright", text="Public domain"),
        mido.MetaMessage("time_signature", numerator=score.meter[0], denominator=score.meter[1]),
        mido.MetaMessage("key_signature", key=score.key),
        mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(score.quarters_per_minute)),
        mido.MetaMessage("end_of_track"),
    ])
    events = []
    for pitch, start, length, open_string in score.notes:
        velocity = OPEN_STRING_VELOCITY if open_string else VELOCITY
        on = int(start * TICKS_PER_QUARTER)
        off = int((start + length) * TICKS_PER_QUARTER) - 1
        events.append((on, 1, mido.Message("note_on", note=pitch, velocity=velocity)))
        events.append((off, 0, mido.Message("note_off", note=pitch, velocity=0)))
    events.sort(key=lambda event: event[:2])
    cello = mido.MidiTrack([mido.MetaMessage("track_name", name="Violoncello"),
                            mido.Message("program_change", program=CELLO)])
    now = 0
    for tick, _, message in events:
        cello.append(message.copy(time=tick - now))
        now = tick
    end = int(max(note.start + note.length for note in score.notes) * TICKS_PER_QUARTER)
    cello.append(mido.MetaMessage("end_of_track", time=end - now))
    return mido.MidiFile(type=1, ticks_per_beat=TICKS_PER_QUARTER, tracks=[conductor, cello])


def main() -> None:
    """Write the MIDI file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=SCORE.with_suffix(".mid"),
                        help="the MIDI file (default: beside the score)")
    output = parser.parse_args().output
    midi = to_midi(read_abc(SCORE.read_text(encoding="utf-8")))
    with writing(output) as file:
        midi.save(file=file)
    print(f"{output}: {midi.length:.1f} s")


if __name__ == "__main__":
    main()
