"""Count the MIDI files of a folder that can be read, and the seconds for which their notes sound.

    python -m benchmarks.scores FOLDER

The command compares our `load_midi` with Magenta's, which uses note_seq, and with note_seq's
`apply_sustain_control_changes`.  The latter is independent of our code, and applies the sustain
pedal by track, not by channel.  Drums and pitches outside the model's range do not count.  Each
note counts for at most 3.7 s.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np

from synths import InputError
from synths.gansynth.generate_util import MAX_PITCH, MIN_PITCH, WHOLE_NOTE_LENGTH, load_midi


def sounding(lengths: list[float]) -> float:
    """Return the seconds that notes sound in total."""
    return float(np.minimum(lengths, WHOLE_NOTE_LENGTH).sum())


def held(sequence) -> list[float]:
    """Return the lengths of a NoteSequence's notes that the model can play."""
    return [note.end_time - note.start_time for note in sequence.notes
            if not note.is_drum and MIN_PITCH <= note.pitch <= MAX_PITCH]


def compare(path: Path) -> dict:
    """Return a file's notes and sounding seconds by each reader, or why a reader refuses it."""
    import note_seq

    row: dict = {"name": path.name}
    try:
        notes = load_midi(path)
        lengths = notes["end_times"] - notes["start_times"]
        row.update(ours=(len(lengths), sounding(lengths)), report=notes["report"])
    except InputError as error:
        row["refused"] = str(error).replace(str(path), path.name)
    try:
        sequence = note_seq.midi_file_to_note_sequence(str(path))
        row["magenta"] = len(held(sequence)), sounding(held(sequence))
        row["reference"] = sounding(held(note_seq.apply_sustain_control_changes(sequence)))
    except Exception as error:  # mido and pretty_midi raise nearly everything
        row["magenta_refused"] = str(error)[:80]
    return row


def table(rows: list[dict]) -> str:
    """Return the comparison as Markdown."""
    both = [row for row in rows if "ours" in row and "magenta" in row]
    pedal = [row for row in both if row["report"].counts["held"] and row["reference"]]
    shares = {side: np.array([row[side][1] / row["reference"] for row in pedal])
              for side in ("magenta", "ours")}
    changes = np.array([row["ours"][0] - row["magenta"][0] for row in both])
    lines = ["| | Magenta (note_seq) | ours |", "|---|---|---|",
             f"| files read, of {len(rows)} | {sum('magenta' in row for row in rows)} |"
             f" {sum('ours' in row for row in rows)} |"]
    if pedal:
        for what, value in (("median", np.median), ("minimum", np.min)):
            lines.append(f"| sounding time of {len(pedal)} files with pedal, share of the"
                         f" reference, {what} |"
                         f" {' | '.join(f'{value(each):.2f}' for each in shares.values())} |")
    lines += [f"| notes gained, lost (of {sum(row['magenta'][0] for row in both):,}) | |"
              f" {changes[changes > 0].sum()}, {-changes[changes < 0].sum()} |", ""]
    for row in rows:
        if "refused" in row or "magenta_refused" in row:
            lines.append(f"* {row['name']}: Magenta: {row.get('magenta_refused', 'read')}; ours: "
                         + row.get("refused", f"{row['ours'][0] if 'ours' in row else 0} notes"))
    return "\n".join(lines)


def main() -> None:
    """Read the folder's files and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of MIDI files")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    files = sorted(path for path in options.folder.rglob("*")
                   if path.suffix.lower() in (".mid", ".midi", ".kar", ".rmi"))
    print(table([compare(path) for path in files]))


if __name__ == "__main__":
    main()
