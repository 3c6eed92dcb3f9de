"""Read standard MIDI files (even damaged ones) as events, and convert ticks into seconds."""

from __future__ import annotations

import bisect
import re
from collections import Counter
from collections.abc import Callable
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from synths import InputError

OFF, ON, CONTROLLER, PROGRAM, BEND = 0x80, 0x90, 0xB0, 0xC0, 0xE0  # status bytes
END, TEMPO, DRUM_PART, TWO_PERFORMANCES = 0, 1, 2, 3  # events that are not channel messages
_ONE_BYTE = (0xC0, 0xD0)  # channel messages with one data byte; the others have two
_SYSTEM_BYTES = {0xF1: 1, 0xF2: 2, 0xF3: 1}  # data bytes; the other system messages have none


class Event(NamedTuple):
    """A channel message, or another event that affects notes."""

    tick: int
    status: int  # without the channel, or one of the constants above
    channel: int
    first: int  # data bytes; for a tempo, microseconds per quarter note
    second: int


def read_tracks(data: bytes, path: Path, damage: Counter) -> tuple[int, int, list[list[Event]]]:
    """Return the format, the time division, and the events of each track."""
    start = data.find(b"MThd")
    header = data[start + 8:start + 14]
    division = int.from_bytes(header[4:6], "big")
    ticks = division & 0xFF if division & 0x8000 else division
    if start < 0 or len(header) < 6 or not ticks:
        raise InputError(f"{path} is not a valid MIDI file "
                         f"({'its header is damaged' if start >= 0 else 'it has no header'}): "
                         "choose another file.")
    if start and not data.startswith(b"RIFF"):
        damage["skipped byte"] = start
    tracks: list[list[Event]] = []
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
            if not right:  # the length is wrong: the track extends to the next one
                end = _find_track(data, body)
            events, whole, ended = _read_track(data[body:end])
            tracks.append(events)
            if not whole or not (right or ended):
                damage["track cut short"] += 1
        elif _is_chunk(data, position):
            damage["unknown chunk"] += 1
        else:
            end = _find_track(data, position + 1)
            damage["skipped byte"] += end - position
        position = end
    if not tracks:
        raise InputError(f"{path} has no tracks: choose another MIDI file.")
    missing = int.from_bytes(header[2:4], "big") - len(tracks)
    if missing > 0:
        damage["missing track"] = missing
    return int.from_bytes(header[:2], "big"), division, tracks


def _is_chunk(data: bytes, position: int) -> bool:
    """Return whether a chunk begins at this position, or the file ends."""
    name = data[position:position + 4]
    length = int.from_bytes(data[position + 4:position + 8], "big")
    return position == len(data) or name in (b"MTrk", b"MThd") or (
        name.isalnum() and name.isascii() and position + 8 + length <= len(data))


def _find_track(data: bytes, position: int) -> int:
    found = data.find(b"MTrk", position)
    return len(data) if found < 0 else found


def _read_track(data: bytes) -> tuple[list[Event], bool, bool]:
    """Return a track's events, whether all its data was read, and whether it had an end event.

    The last event returned marks the end of the track.
    """
    events: list[Event] = []
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
            elif byte >= 0xF0:  # undefined or not meant for files; keep the running status
                position += _SYSTEM_BYTES.get(byte, 0)
            else:
                status = byte if byte >= 0x80 else status
                if not status:
                    raise IndexError
                kind, first = status & 0xF0, data[position]
                second = 0 if kind in _ONE_BYTE else data[position + 1]
                if kind != CONTROLLER or max(first, second) < 0x80:  # such as bank 168: not drums
                    events.append(Event(tick, kind, status & 0x0F, min(first, 127),
                                         min(second, 127)))
                position += 1 if kind in _ONE_BYTE else 2
    except IndexError:  # the data ends within an event, or begins without a status byte
        whole = False
    events.append(Event(tick, END, 0, 0, 0))
    return events, whole, ended


def _number(data: bytes, position: int) -> tuple[int, int]:
    """Return a variable-length number (at most 5 bytes) and the position after it."""
    value = 0
    for end in range(position, position + 5):
        value = value << 7 | data[end] & 0x7F
        if data[end] < 0x80:
            break
    return value, end + 1


def _special(tick: int, what: int, content: bytes) -> list[Event]:
    """Return the events of a meta or system exclusive message that affect notes."""
    if what == 0x51 and len(content) >= 3 and any(content[:3]):
        return [Event(tick, TEMPO, 0, int.from_bytes(content[:3], "big"), 0)]
    if what == 0x7F and content[:3] == b"\0\0\x41":  # one for small devices, on channels 13 to 16
        return [Event(tick, TWO_PERFORMANCES, 0, 0, 0)]
    if what == 0xF0 and re.match(rb"\x41.\x42\x12\x40[\x10-\x1f]\x15.", content, re.DOTALL):
        part = content[5] & 0x0F  # GS numbers channel 10 first
        return [Event(tick, DRUM_PART, 9 if part == 0 else part - (part < 10),
                       int(content[7] > 0), 0)]
    return []


def clock(tracks: list[list[Event]], division: int) -> tuple[Callable[[float], float], int]:
    """Return a function from ticks to seconds, and the number of ticks per second at 120 bpm.

    The function uses the tempo changes of all tracks.  Its arithmetic is that of pretty_midi, so
    the results are the same floating-point numbers.
    """
    if division & 0x8000:  # SMPTE: frames per second, of which 29 stands for 29.97
        frames = 256 - (division >> 8)
        rate = (30000 / 1001 if frames == 29 else frames) * (division & 0xFF)
        return lambda tick: tick / rate, round(rate)
    starts, scales, seconds = [0], [60.0 / (120.0 * division)], [0.0]
    tempos = [event for track in tracks for event in track if event.status == TEMPO]
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
