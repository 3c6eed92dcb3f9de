"""One SFZ file for each instrument: which clip sounds on which keys, how loud, and its release.

SFZ is plain text that many samplers read; format: https://sfzformat.com.
"""

from __future__ import annotations

from collections.abc import Mapping

RELEASE = 0.3   # seconds of fade-out after a key is let go
DEPTH = 6.0    # dB that a clip is turned down at most, for the sake of a quieter one


def key_ranges(pitches: list[int]) -> list[tuple[int, int, int]]:
    """(pitch, lowest key, highest key) of each pitch: every key of 0 to 127 has the nearest one.

    >>> key_ranges([48, 60])
    [(48, 0, 54), (60, 55, 127)]
    """
    pitches = sorted(pitches)
    middles = [(low + high) // 2 for low, high in zip(pitches, pitches[1:])]
    return list(zip(pitches, [0, *(key + 1 for key in middles)], [*middles, 127]))


def instrument(title: str, clips: Mapping[int, dict]) -> str:
    """The text of an instrument.

    Parameters
    ----------
    title : str
        Said in its first line.
    clips : mapping
        MIDI pitch -> the clip's record, with ``file`` and ``level`` (dB).

    Returns
    -------
    str
        Clips are only ever turned down, to the level of the quietest (by 12 dB at most): so none
        clips, and neighbouring keys are as loud as each other.
    """
    levels = {pitch: record["level"] for pitch, record in clips.items()}
    wanted = max(min(levels.values()), max(levels.values()) - DEPTH)
    lines = [f"// {' '.join(title.split())}", "<group>",
             f"ampeg_release={RELEASE} loop_mode=no_loop", ""]
    for pitch, low, high in key_ranges(list(clips)):
        volume = min(0.0, wanted - levels[pitch])
        lines.append(f"<region> sample={clips[pitch]['file']} lokey={low} hikey={high} "
                     f"pitch_keycenter={pitch} volume={volume:.2f}")
    return "\n".join([*lines, ""])
