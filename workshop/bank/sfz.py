"""Write an SFZ file for each instrument, with the keys, level and release of each clip.

SFZ is plain text that many samplers read; format: https://sfzformat.com.
"""

from __future__ import annotations

from collections.abc import Mapping

RELEASE = 0.3   # seconds of fade-out after a key is released
DEPTH = 6.0    # maximum attenuation of a clip in dB, to match a quieter one


def key_ranges(pitches: list[int]) -> list[tuple[int, int, int]]:
    """Return (pitch, lowest key, highest key) of each pitch; keys 0 to 127 get the nearest pitch.

    >>> key_ranges([48, 60])
    [(48, 0, 54), (60, 55, 127)]
    """
    pitches = sorted(pitches)
    middles = [(low + high) // 2 for low, high in zip(pitches, pitches[1:])]
    return list(zip(pitches, [0, *(key + 1 for key in middles)], [*middles, 127]))


def instrument(title: str, clips: Mapping[int, dict]) -> str:
    """Return the SFZ text of an instrument, from the records of its clips by MIDI pitch.

    Clips are attenuated to the level of the quietest one, by at most `DEPTH`; none is amplified.
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
