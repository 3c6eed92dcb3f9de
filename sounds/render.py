"""Notes of the FluidR3 General MIDI font (MIT licence), rendered by fluidsynth without effects."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import mido
import numpy as np
import soundfile

from synths import InputError

# Where Debian, Fedora, Homebrew and Chocolatey users commonly have it; TRAINING_SOUNDFONT wins.
SOUNDFONT_PATHS = (
    "/usr/share/sounds/sf2/FluidR3_GM.sf2",
    "/usr/share/soundfonts/FluidR3_GM.sf2",
    "/usr/local/share/soundfonts/FluidR3_GM.sf2",
    "/opt/homebrew/share/soundfonts/FluidR3_GM.sf2",
)
_TICKS_PER_SECOND = 1000
_GAP = 0.1


def soundfont() -> Path:
    """Return the path in TRAINING_SOUNDFONT, or the first of `SOUNDFONT_PATHS` that exists."""
    named = os.environ.get("TRAINING_SOUNDFONT")
    for path in [named] if named else SOUNDFONT_PATHS:
        if Path(path).is_file():
            return Path(path)
    raise InputError(
        f"No FluidR3_GM.sf2 at {named or ', '.join(SOUNDFONT_PATHS)}: install it (Debian package "
        "fluid-soundfont-gm) or set TRAINING_SOUNDFONT to its path."
    )


def _midi(programs: Sequence[int], pitches: Sequence[int], velocity: int, hold: float,
          length: float, bank: int) -> mido.MidiFile:
    """A score that plays notes one after the other, each cut off before the next."""
    midi = mido.MidiFile(ticks_per_beat=_TICKS_PER_SECOND)
    track = mido.MidiTrack()
    midi.tracks.append(track)
    track.append(mido.MetaMessage("set_tempo", tempo=1_000_000))
    # Bank 128, the drum kits', cannot be said in MIDI: channel 10 plays from it.
    channel = 9 if bank == 128 else 0
    if bank < 128:
        track.append(mido.Message("control_change", control=0, value=bank))
    events = []
    for i, (program, pitch) in enumerate(zip(programs, pitches)):
        start = _GAP + i * (length + _GAP)
        if i == 0 or program != programs[i - 1]:
            events.append((start - _GAP / 2, mido.Message("program_change", program=program,
                                                          channel=channel)))
        events.append((start, mido.Message("note_on", note=int(pitch), velocity=velocity,
                                            channel=channel)))
        events.append((start + hold, mido.Message("note_off", note=int(pitch),
                                                   channel=channel)))
        # "All sound off": the tail of one note must not ring into the next.
        events.append((start + length, mido.Message("control_change", control=120, value=0,
                                                     channel=channel)))
    events.sort(key=lambda event: event[0])
    now = 0
    for second, message in events:
        tick = round(second * _TICKS_PER_SECOND)
        track.append(message.copy(time=tick - now))
        now = tick
    return midi


def render_notes(program: int | Sequence[int], pitches: Sequence[int], *,
                 velocity: int = 100, hold: float = 1.0, length: float = 1.5,
                 sample_rate: int = 16000, bank: int = 0, font: Path | None = None) -> np.ndarray:
    """Render notes of General MIDI programs, each alone, dry and mono, [notes, samples].

    `program` counts from 0 (33 is the fingered electric bass), for all notes or for each.  `hold`
    and `length` are the seconds from a note's start to its release and to the end of its sound.
    Bank 128 has the drum kits.  The notes are as loud as the font makes them (peaks around
    0.1..0.5).
    """
    pitches = [int(pitch) for pitch in pitches]
    programs = [int(each) for each in np.broadcast_to(program, len(pitches))]
    font, command = font or soundfont(), shutil.which("fluidsynth")
    if command is None:
        raise InputError("The program fluidsynth is not installed: install it (Debian package "
                         "fluidsynth) and run again.")
    samples = round(length * sample_rate)
    with tempfile.TemporaryDirectory() as folder:
        score, sound = Path(folder, "notes.mid"), Path(folder, "notes.wav")
        _midi(programs, pitches, velocity, hold, length, bank).save(score)
        done = subprocess.run(
            [command, "-n", "-i", "-q", "-R", "0", "-C", "0", "-g", "0.5", "-r", str(sample_rate),
             "-O", "float", "-T", "wav", "-F", str(sound), str(font), str(score)],
            capture_output=True, text=True)
        if done.returncode or not sound.is_file():
            raise InputError(f"fluidsynth could not render {font}: {done.stderr.strip()[-300:]}")
        audio = soundfile.read(sound, dtype="float32", always_2d=True)[0].mean(axis=1)
    starts = [round((_GAP + i * (length + _GAP)) * sample_rate) for i in range(len(pitches))]
    audio = np.pad(audio, (0, max(0, starts[-1] + samples - len(audio))))
    return np.stack([audio[s:s + samples] for s in starts])
