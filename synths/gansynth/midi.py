"""Read MIDI files as people have them: with pedals, drums, damage, and notes that never end.

note_seq (through pretty_midi and mido) reads notes alone, and refuses files that players accept.
This reader yields the same notes, one by one and in the same order, from files without the cases
below, and puts them into note_seq's own ``NoteSequence``.  Otherwise it follows these rules:

* The sustain and sostenuto pedals hold a note until they go up or its key is struck again.
* If a key is struck again before its note-off, as many note-offs as note-ons pair first in, first
  out.  If note-offs are missing, the new note ends the old one.
* A note without a note-off ends at All Notes Off, or at the end of its track.
* A note of no length lasts one tick, unless another note of its key begins at that moment.
* Drums are left out by `generate_util.load_midi`: channel 10, and the parts that XG, GM2 and GS
  make drums.
* Volume and expression at a note's start scale its velocity.  Pitch bends are only counted.
* A damaged file is read as far as possible.
"""

from __future__ import annotations

import bisect
import re
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from synths import InputError
from synths.files import shortened

_MOST_BYTES = 1 << 25  # read from a file: more is no MIDI file
_LONGEST_TAIL = 60  # seconds at 120 bpm after the last note event in which a note can still sound
_DRUM_BANKS = (120, 126, 127)  # bank MSB: GM2's drums, XG's effects, XG's drums
_ONE_BYTE = (0xC0, 0xD0)  # channel messages with one data byte; the others have two
_SYSTEM_BYTES = {0xF1: 1, 0xF2: 2, 0xF3: 1}  # data bytes; the other system messages have none
_OFF, _ON, _CONTROLLER, _PROGRAM, _BEND = 0x80, 0x90, 0xB0, 0xC0, 0xE0  # status bytes
_TEMPO, _DRUM_PART, _TWO_PERFORMANCES = 1, 2, 3  # events that are not channel messages
_RESET_ALL = 121  # the controller that resets the others
_NEVER = float("inf")

_CHANGES = {  # what a report counts, in words
    "held": "pedal held {} longer",
    "restruck": "{} struck again while sounding",
    "stopped": "{} ended by All Notes Off",
    "hanging": "{} without an end",
    "short": "{} of no length made audible",
    "softer": "volume lowered {}",
    "drums": "{} left out",
    "range": "{} outside the model's range left out",
    "doubled": "{} of no length left out",
    "muted": "{} at volume 0 left out",
    "second": "{} of a second performance left out",
    "bent": "{} bent (bends are not played)",
    "patterns": "{} played one after another",
}


@dataclass
class Report:
    """What reading a file left out or changed: counts by kind, and the parts not read."""

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


class _Event(NamedTuple):
    """A channel message, or what else matters for notes."""

    tick: int
    status: int  # without the channel, or one of the constants above; 0: the track's end
    channel: int
    first: int  # data bytes; of a tempo, microseconds per quarter note
    second: int


@dataclass
class _Note:
    track: int
    channel: int
    pitch: int
    velocity: int
    start: int  # ticks
    end: float = _NEVER
    closed: float = _NEVER  # index in its track of the event that ended it: note_seq's order
    program: int = 0


def read_notes(path: str | Path, pedal: bool = True) -> tuple[Any, Report]:
    """Read the notes of a MIDI file.

    Parameters
    ----------
    path : str or Path
        A standard MIDI file, also one inside a RIFF file.
    pedal : bool
        Whether pedals hold notes.  Magenta ignores them.

    Returns
    -------
    sequence : note_seq.NoteSequence
        The notes, in the order in which note_seq lists them.
    report : Report
        What was left out or changed.

    Raises
    ------
    InputError
        If the file is not MIDI.
    OSError
        If it cannot be read.
    """
    with open(path, "rb") as file:
        data = file.read(_MOST_BYTES)
    report = Report()
    kind, division, tracks = _read_chunks(data, Path(path), report)
    parts = [[track] for track in tracks] if kind == 2 else [tracks]
    report.counts["patterns"] = len(parts) if len(parts) > 1 else 0
    sequence = _empty_sequence()
    instruments: dict[tuple, int] = {}
    begin = 0.0  # seconds at which a pattern starts
    for number, part in enumerate(parts):
        seconds, second = _clock(part, division)
        last = max((event.tick for track in part for event in track
                    if event.status in (_ON, _OFF)), default=0)
        ends = [min(track[-1].tick, last + _LONGEST_TAIL * second) for track in part]
        channels = _read_channels(part, report)
        notes = _without_doubles(_pair(part, report), report)
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


# The file --------------------------------------------------------------------------------------


def _read_chunks(data: bytes, path: Path, report: Report) -> tuple[int, int, list[list[_Event]]]:
    """Return the format, the time division, and the events of each track."""
    start = data.find(b"MThd")
    header = data[start + 8:start + 14]
    division = int.from_bytes(header[4:6], "big")
    ticks = division & 0xFF if division & 0x8000 else division
    if start < 0 or len(header) < 6 or not ticks:
        raise InputError(f"The score must be a MIDI file, and {shortened(path)} is none "
                         f"({'its header is damaged' if start >= 0 else 'it has no header'}): "
                         "choose another file.")
    if start and not data.startswith(b"RIFF"):
        report.damage["skipped byte"] = start
    tracks: list[list[_Event]] = []
    position = start + 8 + int.from_bytes(data[start + 4:start + 8], "big")
    if not _is_chunk(data, position):
        position = start + 14
    while position < len(data):
        name = data[position:position + 4]
        if name == b"MThd":  # another file begins
            break
        body = position + 8
        end = body + int.from_bytes(data[position + 4:body], "big")
        if name == b"MTrk":
            right = _is_chunk(data, end)
            if not right:  # the length is wrong: the track goes on to the next one
                end = _find_track(data, body)
            events, whole, ended = _read_track(data[body:end])
            tracks.append(events)
            if not whole or not (right or ended):
                report.damage["track cut short"] += 1
        elif _is_chunk(data, position):
            report.damage["unknown chunk"] += 1
        else:
            end = _find_track(data, position + 1)
            report.damage["skipped byte"] += end - position
        position = end
    if not tracks:
        raise InputError(f"{shortened(path)} has no tracks: choose another MIDI file.")
    missing = int.from_bytes(header[2:4], "big") - len(tracks)
    if missing > 0:
        report.damage["missing track"] = missing
    return int.from_bytes(header[:2], "big"), division, tracks


def _is_chunk(data: bytes, position: int) -> bool:
    """Whether a chunk begins here, or the file ends."""
    name = data[position:position + 4]
    length = int.from_bytes(data[position + 4:position + 8], "big")
    return position == len(data) or name in (b"MTrk", b"MThd") or (
        name.isalnum() and name.isascii() and position + 8 + length <= len(data))


def _find_track(data: bytes, position: int) -> int:
    found = data.find(b"MTrk", position)
    return len(data) if found < 0 else found


def _read_track(data: bytes) -> tuple[list[_Event], bool, bool]:
    """Return a track's events, whether all its data could be read, and whether its end was there.

    The last event stands for the end.
    """
    events: list[_Event] = []
    tick = position = status = 0
    whole, ended = True, False
    try:
        while position < len(data) and not ended:
            delta, position = _number(data, position)
            tick += delta
            byte = data[position]
            position += byte >= 0x80
            if byte in (0xFF, 0xF0, 0xF7):
                what = data[position] if byte == 0xFF else byte
                size, position = _number(data, position + (byte == 0xFF))
                events += _special(tick, what, data[position:position + size])
                position += size
                whole = position <= len(data)
                ended = (byte, what) == (0xFF, 0x2F)
            elif byte >= 0xF0:  # undefined, or not meant for files: the running status stays
                position += _SYSTEM_BYTES.get(byte, 0)
            else:
                status = byte if byte >= 0x80 else status
                if not status:
                    raise IndexError
                second = 0 if status & 0xF0 in _ONE_BYTE else min(data[position + 1], 127)
                events.append(_Event(tick, status & 0xF0, status & 0x0F,
                                     min(data[position], 127), second))
                position += 1 if status & 0xF0 in _ONE_BYTE else 2
    except IndexError:  # the data end within an event, or begin without a status
        whole = False
    events.append(_Event(tick, 0, 0, 0, 0))
    return events, whole, ended


def _number(data: bytes, position: int) -> tuple[int, int]:
    """Return a number of variable length (at most 5 bytes) and the position after it."""
    value = 0
    for end in range(position, position + 5):
        value = value << 7 | data[end] & 0x7F
        if data[end] < 0x80:
            break
    return value, end + 1


def _special(tick: int, what: int, content: bytes) -> list[_Event]:
    """Return what matters for notes among meta events and system exclusive messages."""
    if what == 0x51 and len(content) >= 3 and any(content[:3]):
        return [_Event(tick, _TEMPO, 0, int.from_bytes(content[:3], "big"), 0)]
    if what == 0x7F and content[:3] == b"\0\0\x41":  # one for small devices, on channels 13 to 16
        return [_Event(tick, _TWO_PERFORMANCES, 0, 0, 0)]
    if what == 0xF0 and re.match(rb"\x41.\x42\x12\x40[\x10-\x1f]\x15.", content, re.DOTALL):
        part = content[5] & 0x0F  # GS counts channel 10 first
        return [_Event(tick, _DRUM_PART, 9 if part == 0 else part - (part < 10),
                       int(content[7] > 0), 0)]
    return []


def _clock(tracks: list[list[_Event]], division: int) -> tuple[Callable[[float], float], int]:
    """Return the function from ticks to seconds, and the ticks of a second at 120 bpm.

    The tempo changes of all tracks count.  The arithmetic is pretty_midi's, so that the seconds
    are the same floating-point numbers.
    """
    if division & 0x8000:  # SMPTE: frames per second, of which 29 stands for 29.97
        frames = 256 - (division >> 8)
        rate = (30000 / 1001 if frames == 29 else frames) * (division & 0xFF)
        return lambda tick: tick / rate, round(rate)
    starts, scales, seconds = [0], [60.0 / (120.0 * division)], [0.0]
    tempos = [event for track in tracks for event in track if event.status == _TEMPO]
    for event in sorted(tempos, key=itemgetter(0)):
        scale = 60.0 / (6e7 / event.first * division)
        if event.tick == 0:
            scales[0] = scale
        elif scale != scales[-1]:
            seconds.append(seconds[-1] + scales[-1] * (event.tick - starts[-1]))
            starts.append(event.tick)
            scales.append(scale)

    def to_seconds(tick: float) -> float:
        index = bisect.bisect_right(starts, tick) - 1
        return seconds[index] + scales[index] * (tick - starts[index])
    return to_seconds, 2 * division


# Notes -----------------------------------------------------------------------------------------


def _pair(tracks: list[list[_Event]], report: Report) -> list[_Note]:
    """Pair note-ons with note-offs, in the order of note_seq."""
    keys: dict[tuple[int, int], dict[int, list]] = defaultdict(lambda: defaultdict(list))
    programs: dict[tuple[int, int], list[tuple[float, int]]] = defaultdict(lambda: [(-1, 0)])
    for number, track in enumerate(tracks):
        for index, event in enumerate(track):
            if event.status in (_ON, _OFF):
                keys[event.channel, event.first][number].append((number, index, event))
            elif event.status == _PROGRAM:
                programs[number, event.channel].append((index, event.first))
    notes = []
    for by_track in keys.values():
        balances = [sum(1 if _strikes(event) else -1 for *_, event in strikes)
                    for strikes in by_track.values()]
        groups = list(by_track.values())
        if min(balances) < 0 < max(balances):  # one track ends the notes of another
            groups = [sorted((strike for group in groups for strike in group),
                             key=lambda strike: (strike[2].tick, _strikes(strike[2])))]
        for strikes in groups:
            notes += _pair_key(strikes, report)
    for note in notes:
        changes = programs[note.track, note.channel]
        note.program = changes[bisect.bisect_left(changes, (note.closed, 0)) - 1][1]
    notes.sort(key=lambda note: (note.track, note.closed, note.start))
    order: dict[tuple[int, int, int], int] = {}  # instruments by the end of their first note
    for note in notes:
        order.setdefault((note.track, note.program, note.channel), len(order))
    return sorted(notes, key=lambda note: order[note.track, note.program, note.channel])


def _strikes(event: _Event) -> bool:
    return event.status == _ON and event.second > 0


def _pair_key(strikes: list[tuple[int, int, _Event]], report: Report) -> list[_Note]:
    """Pair the note-ons and note-offs of one key: track, index in the track, event."""
    # Up to the last moment at which no note sounds, notes end first in, first out.  After it
    # there are too few note-offs, so that a new note ends the one before.
    sounding = paired = 0
    for place, (*_, event) in enumerate(strikes, 1):
        sounding = max(0, sounding + (1 if _strikes(event) else -1))
        paired = paired if sounding else place
    notes: list[_Note] = []
    waiting: deque[_Note] = deque()
    for place, (track, index, event) in enumerate(strikes):
        if waiting and (not _strikes(event) or place >= paired):
            note = waiting.popleft()
            note.end = event.tick
            note.closed = index if note.track == track else _NEVER
            report.counts["restruck"] += _strikes(event)
        if _strikes(event):
            notes.append(_Note(track, event.channel, event.first, event.second, event.tick))
            waiting.append(notes[-1])
    report.counts["restruck"] += sum(
        note.end > after.start for note, after in zip(notes, notes[1:]))
    return notes


def _without_doubles(notes: list[_Note], report: Report) -> list[_Note]:
    """Drop the notes of no length where another of their key begins at that moment."""
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
    """A controller of a channel along time."""

    def __init__(self, value: int) -> None:
        self.ticks, self.values = [-1], [value]

    def set(self, tick: int, value: int) -> None:
        """Add a change; ticks ascend."""
        self.ticks.append(tick)
        self.values.append(value)

    def during(self, start: int, end: float) -> list[int]:
        """Return the values from `start` on, the one in force first, to before `end`."""
        first = bisect.bisect_right(self.ticks, start)
        return self.values[first - 1:max(first, bisect.bisect_left(self.ticks, end))]

    def next(self, tick: int) -> float:
        """Return the tick of the next change."""
        later = bisect.bisect_right(self.ticks, tick)
        return self.ticks[later] if later < len(self.ticks) else _NEVER


class _Channel:
    """What happens on a channel besides notes, on all tracks."""

    def __init__(self, number: int) -> None:
        self.volume, self.expression, self.level = _Line(100), _Line(127), _Line(100 * 127)
        self.bank, self.bend, self.drums = _Line(0), _Line(0), _Line(number == 9)
        self.sustain, self.sostenuto = _Line(0), _Line(0)
        self.notes_off, self.sound_off = _Line(0), _Line(0)
        self.controllers = {
            0: self.bank, 7: self.volume, 11: self.expression, 64: self.sustain,
            66: self.sostenuto, 120: self.sound_off, 123: self.notes_off, 124: self.notes_off,
            125: self.notes_off, 126: self.notes_off, 127: self.notes_off}

    def control(self, tick: int, number: int, value: int) -> None:
        """Set a controller."""
        if number == _RESET_ALL:
            self.bend.set(tick, 0)
            for each, reset in ((64, 0), (66, 0), (11, 127)):
                self.control(tick, each, reset)
        elif number in self.controllers:
            self.controllers[number].set(tick, value)
            self.level.set(tick, self.volume.values[-1] * self.expression.values[-1])


def _read_channels(tracks: list[list[_Event]], report: Report) -> list[_Channel]:
    channels = [_Channel(number) for number in range(16)]
    events = sorted((event for track in tracks for event in track), key=itemgetter(0))
    for tick, status, number, first, second in events:
        channel = channels[number]
        if status == _CONTROLLER:
            channel.control(tick, first, second)
        elif status == _BEND:
            channel.bend.set(tick, first + 128 * second - 8192)
        elif status == _PROGRAM and len(channel.bank.ticks) > 1 and number != 9:
            channel.drums.set(tick, channel.bank.values[-1] in _DRUM_BANKS)
        elif status == _DRUM_PART:
            channel.drums.set(tick, first)
        elif status == _TWO_PERFORMANCES:
            report.counts["performances"] = 2
    return channels


def _let_go(notes: list[_Note], ends: list[int], channels: list[_Channel], report: Report) -> None:
    """End notes at All Notes (or Sound) Off and, without a note-off, with their track."""
    for note in notes:
        channel = channels[note.channel]
        stop = min(channel.notes_off.next(note.start), channel.sound_off.next(note.start))
        if stop < note.end:
            report.counts["stopped"] += 1
            note.end = stop
        elif note.end == _NEVER:
            report.counts["hanging"] += 1
            note.end = max(note.start, ends[note.track])


def _hold(notes: list[_Note], end_of_piece: int, channels: list[_Channel], report: Report) -> None:
    """Let the pedals hold notes until they go up, or until the key is struck again."""
    sustains = [_presses(channel.sustain, end_of_piece) for channel in channels]
    sostenutos = [_presses(channel.sostenuto, end_of_piece) for channel in channels]
    strikes: dict[tuple[int, int], list[int]] = defaultdict(list)
    for note in sorted(notes, key=lambda note: note.start):
        strikes[note.channel, note.pitch].append(note.start)
    for note in notes:
        end = note.end
        for down, up in sostenutos[note.channel]:  # holds what sounds as it goes down
            if note.start <= down < note.end:
                end = max(end, up)
        sustain = sustains[note.channel]
        place = bisect.bisect_right(sustain, end, key=itemgetter(0)) - 1
        if place >= 0:
            end = max(end, sustain[place][1])
        again = strikes[note.channel, note.pitch]
        place = bisect.bisect_left(again, max(note.end, note.start + 1))
        if place < len(again):
            end = max(note.end, min(end, again[place]))
        report.counts["held"] += end > note.end
        note.end = end


def _presses(pedal: _Line, end_of_piece: int) -> list[tuple[int, float]]:
    """Return the spans, in ticks, in which a pedal is down."""
    spans: list[tuple[int, float]] = []
    down = None
    for tick, value in zip(pedal.ticks, pedal.values):
        if value >= 64 and down is None:
            down = tick
        elif value < 64 and down is not None:
            spans.append((down, min(tick, end_of_piece)))
            down = None
    return spans if down is None else [*spans, (down, end_of_piece)]


def _voiced(notes: list[_Note], channels: list[_Channel], report: Report
            ) -> list[tuple[_Note, int, bool]]:
    """Return notes, their velocities at their channel's volume, and whether they are drums.

    The loudest channel's velocities stay as they are.
    """
    if report.counts.pop("performances", 0) and any(note.channel < 10 for note in notes):
        report.counts["second"] += sum(note.channel > 11 for note in notes)
        notes = [note for note in notes if note.channel <= 11]
    found = []
    for note in notes:
        channel = channels[note.channel]
        note.end = min(note.end, channel.sound_off.next(note.start))
        if note.end <= note.start:
            report.counts["short"] += 1
            note.end = note.start + 1
        levels = channel.level.during(note.start, note.end)
        # A note that fades in from silence takes the level that it reaches.
        found.append((note, levels[0] or max(levels), channel.drums.during(note.start, 0)[0],
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
