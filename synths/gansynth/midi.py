"""Read real-world MIDI files, which may have pedals, drums, damage, and notes that never end.

note_seq (through pretty_midi and mido) reads only the notes, and refuses files that players accept.
This parser returns note_seq's ``NoteSequence``.  Where none of the following
rules applies, the notes and their order are the same as note_seq's:

* The sustain and sostenuto pedals hold a note until they are released or its key is struck again.
  If a note-off and a pedal event are at the same tick, they take effect in the order of the file.
* If a key is struck again before its note-off, note-ons and note-offs are paired first in, first
  out.  If note-offs are missing, the new note ends the old one.  The same applies if one note-off
  is missing and another is left over much later.
* A note without a note-off ends at All Notes Off, or at the end of its track.
* A note of zero length lasts one tick, unless another note of its key begins at the same time.
* `generate_util.load_midi` leaves out drums: channel 10, and the parts that XG, GM2 or GS messages
  turn into drums.
* Volume and expression at a note's start scale its velocity.  Pitch bends are only counted.
* A damaged file is read as far as possible.
"""

from __future__ import annotations

import bisect
import contextlib
import gc
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from statistics import median
from typing import Any

from synths.gansynth import smf
from synths.gansynth.smf import Event

_MOST_BYTES = 1 << 25  # bytes read from a file; larger files are not MIDI files
_LONGEST_TAIL = 60  # seconds at 120 bpm for which a note can sound after the last note event
_DRUM_BANKS = (120, 126, 127)  # bank MSB: GM2's drums, XG's effects, XG's drums
_RESET_ALL = 121  # the controller that resets the others
_ENOUGH = 6  # minimum number of notes for comparing lengths
_NEVER = float("inf")
_AFTER = (_NEVER, _NEVER)  # after all events of the same tick

Strike = tuple[int, int, Event]  # a note-on or note-off: track, index in the track, event
Place = tuple[float, float, float]  # tick, track, index: the order in which players read events

_CHANGES = {  # descriptions of what a report counts
    "held": "pedal held {} longer",
    "restruck": "{} struck again while sounding",
    "stopped": "{} ended by All Notes Off",
    "hanging": "{} without a note-off",
    "short": "{} of zero length lengthened to be audible",
    "softer": "{} made softer by the channel volume",
    "drums": "{} left out",
    "range": "{} outside the model's range left out",
    "doubled": "{} of zero length left out",
    "muted": "{} at volume 0 left out",
    "second": "{} on channels 13 to 16 left out (a copy for simpler devices)",
    "bent": "pitch bends of {} not played",
    "patterns": "{} played one after another",
}


@dataclass
class Report:
    """Notes that were left out or changed while reading a file, and parts that were not read."""

    counts: Counter = field(default_factory=Counter)
    damage: Counter = field(default_factory=Counter)

    def __str__(self) -> str:
        """Return one line: "pedal held 31 notes longer; 12 drum notes left out"."""
        nouns = {"drums": "drum note", "patterns": "pattern"}
        words = [text.format(_counted(self.counts[kind], nouns.get(kind, "note")))
                 for kind, text in _CHANGES.items() if self.counts[kind]]
        if self.damage:
            words.append("damaged file read as far as possible (" + ", ".join(
                _counted(number, what) for what, number in self.damage.items()) + ")")
        return "; ".join(words)


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


@dataclass(slots=True)
class _Note:
    track: int
    channel: int
    pitch: int
    velocity: int
    start: int  # ticks
    end: float = _NEVER
    closed: tuple[float, float] = _AFTER  # track and index of the event that ended it
    program: int = 0

    @property
    def closing_index(self) -> float:
        """The index, within the note's track, of the event that ended it; note_seq sorts by it."""
        track, index = self.closed
        return index if track == self.track else _NEVER


@contextlib.contextmanager
def _without_collecting() -> Iterator[None]:
    """Suspend the garbage collector, which takes 40 % of a long file's time and finds nothing."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@_without_collecting()
def read_notes(path: str | Path, pedal: bool = True) -> tuple[Any, Report]:
    """Return the notes of a MIDI file as a NoteSequence, in note_seq's order, and a report.

    The file may be inside a RIFF file.  `pedal` states whether pedals sustain notes; Magenta
    ignores pedals.
    """
    with open(path, "rb") as file:
        data = file.read(_MOST_BYTES)
    report = Report()
    kind, division, tracks = smf.read_tracks(data, Path(path), report.damage)
    parts = [[track] for track in tracks] if kind == 2 else [tracks]
    report.counts["patterns"] = len(parts) if len(parts) > 1 else 0
    sequence = _empty_sequence()
    instruments: dict[tuple, int] = {}
    begin = 0.0  # seconds at which a pattern starts
    for number, part in enumerate(parts):
        seconds, second = smf.clock(part, division)
        last = max((event.tick for track in part for event in track
                    if event.status in (smf.ON, smf.OFF)), default=0)
        ends = [min(track[-1].tick, last + _LONGEST_TAIL * second) for track in part]
        channels = _read_channels(part)
        notes = _without_doubles(_one_performance(_pair(part, report), part, report), report)
        _let_go(notes, ends, channels, report)
        if pedal:
            _hold(notes, max(ends), channels, report)
        for note, velocity, drum in _voiced(notes, channels, report):
            out = sequence.notes.add()
            out.pitch, out.velocity, out.program, out.is_drum = (
                note.pitch, velocity, note.program, drum)
            out.instrument = instruments.setdefault(
                (number, note.track, note.channel, note.program), len(instruments))
            out.start_time, out.end_time = begin + seconds(note.start), begin + seconds(note.end)
            sequence.total_time = max(sequence.total_time, out.end_time)
        begin += seconds(max(ends))
    return sequence, report


def _empty_sequence():
    import warnings

    with warnings.catch_warnings():  # pydub, which note_seq imports, asks for ffmpeg
        warnings.simplefilter("ignore")
        from note_seq.protobuf import music_pb2  # takes a second
    return music_pb2.NoteSequence()


# Notes -----------------------------------------------------------------------------------------


def _pair(tracks: list[list[Event]], report: Report) -> list[_Note]:
    """Pair note-ons with note-offs, and return the notes in note_seq's order."""
    keys: dict[tuple[int, int], dict[int, list]] = defaultdict(lambda: defaultdict(list))
    programs: dict[tuple[int, int], list[tuple[float, int]]] = defaultdict(lambda: [(-1, 0)])
    for number, track in enumerate(tracks):
        for index, event in enumerate(track):
            if event.status in (smf.ON, smf.OFF):
                keys[event.channel, event.first][number].append((number, index, event))
            elif event.status == smf.PROGRAM:
                programs[number, event.channel].append((index, event.first))
    passages = []
    for by_track in keys.values():
        balances = [sum(1 if _strikes(event) else -1 for *_, event in strikes)
                    for strikes in by_track.values()]
        groups = list(by_track.values())
        if min(balances) < 0 < max(balances):  # one track ends the notes of another
            groups = [sorted((strike for group in groups for strike in group),
                             key=lambda strike: (strike[2].tick, _strikes(strike[2])))]
        passages += [passage for strikes in groups for passage in _passages(strikes)]
    usual = _usual_lengths(passages)
    notes = [note for passage in passages
             for note in _pair_passage(passage, usual.get(_part(passage), 0), report)]
    for note in notes:
        changes = programs[note.track, note.channel]
        note.program = changes[bisect.bisect_left(changes, (note.closing_index, 0)) - 1][1]
    notes.sort(key=lambda note: (note.track, note.closing_index, note.start))
    order: dict[tuple[int, int, int], int] = {}  # instruments by the end of their first note
    for note in notes:
        order.setdefault((note.track, note.program, note.channel), len(order))
    return sorted(notes, key=lambda note: order[note.track, note.program, note.channel])


def _strikes(event: Event) -> bool:
    return event.status == smf.ON and event.second > 0


def _passages(strikes: list[Strike]) -> Iterator[list[Strike]]:
    """Split a key's events at the times when no note sounds.

    The last passage has too few note-offs if notes sound at its end.
    """
    passage: list[Strike] = []
    sounding = 0
    for strike in strikes:
        sounding += 1 if _strikes(strike[2]) else -1
        if sounding < 0:  # a note-off without a note
            sounding = 0
            continue
        passage.append(strike)
        if not sounding:
            yield passage
            passage = []
    if passage:
        yield passage


def _part(passage: list[Strike]) -> tuple[int, int]:
    """Return the track and the channel of a passage."""
    return passage[0][0], passage[0][2].channel


def _usual_lengths(passages: list[list[Strike]]) -> dict[tuple[int, int], float]:
    """Return the median length, in ticks, of single notes on each track and channel."""
    lengths = defaultdict(list)
    for passage in passages:
        if len(passage) == 2 and (length := passage[1][2].tick - passage[0][2].tick):
            lengths[_part(passage)].append(length)
    return {part: median(each) for part, each in lengths.items() if len(each) >= _ENOUGH}


def _pair_passage(passage: list[Strike], usual: float, report: Report) -> list[_Note]:
    """Pair the note-ons and note-offs of a passage.

    Notes end first in, first out.  If note-offs are missing, a new note ends the previous one.
    """
    if len(passage) == 2 and not _strikes(passage[1][2]):  # nearly all passages
        (track, _, begin), (other, index, stop) = passage
        return [_Note(track, begin.channel, begin.first, begin.second, begin.tick, stop.tick,
                      (other, index))]
    in_order = _is_in_order(passage, usual)
    notes: list[_Note] = []
    waiting: deque[_Note] = deque()
    for track, index, event in passage:
        strikes = _strikes(event)
        if waiting and not (strikes and in_order):
            note = waiting.popleft()
            note.end, note.closed = event.tick, (track, index)
            report.counts["restruck"] += strikes
        if strikes:
            notes.append(_Note(track, event.channel, event.first, event.second, event.tick))
            waiting.append(notes[-1])
    report.counts["restruck"] += sum(
        note.end > after.start for note, after in zip(notes, notes[1:]))
    return notes


def _is_in_order(passage: list[Strike], usual: float) -> bool:
    """Return whether each note-on has its note-off, first in, first out.

    If one note-off is missing and another is left over much later, all notes between them would
    last until the next note's end.  They would then be much longer than `usual`, but have about
    the usual length if each one ended at the first event after it.
    """
    ticks = [strike[2].tick for strike in passage]
    ons = [_strikes(strike[2]) for strike in passage]
    if 2 * sum(ons) > len(ons):
        return False
    if sum(ons) < _ENOUGH or not usual:
        return True
    starts = [tick for tick, on in zip(ticks, ons) if on]
    ends = [tick for tick, on in zip(ticks, ons) if not on]
    paired = median(end - start for start, end in zip(starts, ends))
    to_next = median(after - tick for tick, after, on in zip(ticks, ticks[1:], ons) if on)
    return paired <= 2 * usual or not usual / 2 <= to_next <= 2 * usual


def _one_performance(notes: list[_Note], tracks: list[list[Event]], report: Report
                     ) -> list[_Note]:
    """Drop the second performance (channels 13 to 16) of files made for two kinds of devices."""
    marked = any(event.status == smf.TWO_PERFORMANCES for track in tracks for event in track)
    if not marked or all(note.channel > 11 for note in notes):
        return notes
    first = [note for note in notes if note.channel <= 11]
    report.counts["second"] += len(notes) - len(first)
    return first


def _without_doubles(notes: list[_Note], report: Report) -> list[_Note]:
    """Drop notes of zero length if another note of the same key begins at the same time."""
    begins = Counter((note.channel, note.pitch, note.start) for note in notes)
    kept = []
    for note in notes:
        key = (note.channel, note.pitch, note.start)
        if note.end == note.start and begins[key] > 1:
            begins[key] -= 1
            report.counts["doubled"] += 1
        else:
            kept.append(note)
    return kept


class _Line:
    """The values of a channel's controller over time."""

    def __init__(self, value: int) -> None:
        self.ticks: list[float] = [-1]
        self.values = [value]
        self.places: list[Place] = [(-1, 0, 0)]

    def set(self, place: Place, value: int) -> None:
        """Add a change, which must not be earlier than the last one."""
        self.ticks.append(place[0])
        self.places.append(place)
        self.values.append(value)

    def at(self, tick: int) -> int:
        """Return the value at a tick, including changes at that tick."""
        return self.values[bisect.bisect_right(self.ticks, tick) - 1]

    def during(self, start: int, end: float) -> list[int]:
        """Return the value at `start` and all later values before `end`."""
        first = bisect.bisect_right(self.ticks, start)
        return self.values[first - 1:bisect.bisect_left(self.ticks, end)]

    def next(self, tick: int) -> float:
        """Return the tick of the next change."""
        later = bisect.bisect_right(self.ticks, tick)
        return self.ticks[later] if later < len(self.ticks) else _NEVER


class _Channel:
    """The controllers and other settings of a channel, from all tracks."""

    def __init__(self, number: int) -> None:
        self.volume, self.expression, self.level = _Line(100), _Line(127), _Line(100 * 127)
        self.bank, self.bend, self.drum_part = _Line(0), _Line(0), _Line(number == 9)
        self.sustain, self.sostenuto = _Line(0), _Line(0)
        self.notes_off, self.sound_off = _Line(0), _Line(0)
        self.controllers = {
            0: self.bank, 7: self.volume, 11: self.expression, 64: self.sustain,
            66: self.sostenuto, 120: self.sound_off, 123: self.notes_off, 124: self.notes_off,
            125: self.notes_off, 126: self.notes_off, 127: self.notes_off}

    def control(self, place: Place, number: int, value: int) -> None:
        """Set a controller."""
        if number == _RESET_ALL:
            self.bend.set(place, 0)
            for each, reset in ((64, 0), (66, 0), (11, 127)):
                self.control(place, each, reset)
        elif number in self.controllers:
            self.controllers[number].set(place, value)
            self.level.set(place, self.volume.values[-1] * self.expression.values[-1])


def _read_channels(tracks: list[list[Event]]) -> list[_Channel]:
    channels = [_Channel(number) for number in range(16)]
    events = sorted((event.tick, number, index) for number, track in enumerate(tracks)
                    for index, event in enumerate(track)
                    if event.status in (smf.CONTROLLER, smf.BEND, smf.DRUM_PART))
    for place in events:
        _, status, number, first, second = tracks[place[1]][place[2]]
        channel = channels[number]
        if status == smf.CONTROLLER:
            channel.control(place, first, second)
        elif status == smf.BEND:
            channel.bend.set(place, first + 128 * second - 8192)
        else:
            channel.drum_part.set(place, first)
    return channels


def _let_go(notes: list[_Note], ends: list[int], channels: list[_Channel], report: Report) -> None:
    """End notes at All Notes Off or All Sound Off, or if never released, at the track's end."""
    for note in notes:
        channel = channels[note.channel]
        stop = min(channel.notes_off.next(note.start), channel.sound_off.next(note.start))
        if stop < note.end:
            report.counts["stopped"] += 1
            note.end, note.closed = stop, _AFTER
        elif note.end == _NEVER:
            report.counts["hanging"] += 1
            note.end, note.closed = max(note.start, ends[note.track]), _AFTER


def _hold(notes: list[_Note], end_of_piece: int, channels: list[_Channel], report: Report) -> None:
    """Extend notes until the pedals that hold them are released or their key is struck again."""
    sustains = [_presses(channel.sustain, end_of_piece) for channel in channels]
    sostenutos = [_presses(channel.sostenuto, end_of_piece) for channel in channels]
    strikes: dict[tuple[int, int], list[int]] = defaultdict(list)
    for note in sorted(notes, key=lambda note: note.start):
        strikes[note.channel, note.pitch].append(note.start)
    for note in notes:
        end = note.end
        closed: Place = (end, *note.closed)  # at the same tick, the order in the file counts
        sostenuto = sostenutos[note.channel]  # it holds the notes that sound when it is pressed
        place = bisect.bisect_left(sostenuto, closed, key=itemgetter(0)) - 1
        if place >= 0 and sostenuto[place][0][0] >= note.start and sostenuto[place][1] > end:
            end = sostenuto[place][1]
            closed = (end, *_AFTER)
        sustain = sustains[note.channel]
        place = bisect.bisect_left(sustain, closed, key=itemgetter(0)) - 1
        if place >= 0:
            end = max(end, sustain[place][1])
        again = strikes[note.channel, note.pitch]
        place = bisect.bisect_left(again, max(note.end, note.start + 1))
        if place < len(again):
            end = max(note.end, min(end, again[place]))
        report.counts["held"] += end > note.end
        note.end = end


def _presses(pedal: _Line, end_of_piece: int) -> list[tuple[Place, float]]:
    """Return the spans in which a pedal is down: the place where it begins, and its last tick."""
    spans: list[tuple[Place, float]] = []
    down = None
    for place, value in zip(pedal.places, pedal.values):
        if value >= 64 and down is None:
            down = place
        elif value < 64 and down is not None:
            spans.append((down, min(place[0], end_of_piece)))
            down = None
    return spans if down is None else [*spans, (down, end_of_piece)]


def _voiced(notes: list[_Note], channels: list[_Channel], report: Report
            ) -> list[tuple[_Note, int, bool]]:
    """Return the notes, their velocities scaled by channel volume, and whether they are drums.

    The loudest channel's velocities do not change.
    """
    found = []
    for note in notes:
        channel = channels[note.channel]
        note.end = min(note.end, channel.sound_off.next(note.start))
        if note.end <= note.start:
            report.counts["short"] += 1
            note.end = note.start + 1
        drum = channel.drum_part.at(note.start) or channel.bank.at(note.start) in _DRUM_BANKS
        levels = channel.level.during(note.start, note.end)
        # A note that fades in from silence takes the level that it reaches.
        found.append((note, levels[0] or max(levels), bool(drum),
                      any(channel.bend.during(note.start, note.end))))
    loudest = max((level for _, level, drum, _ in found if not drum), default=0)
    voiced = []
    for note, level, drum, bent in found:
        if drum or not loudest:
            voiced.append((note, note.velocity, drum))
        elif not level:
            report.counts["muted"] += 1
        else:
            voiced.append((note, max(1, round(note.velocity * level / loudest)), drum))
            report.counts["softer"] += level < loudest
            report.counts["bent"] += bent
    return voiced
