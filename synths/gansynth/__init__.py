"""GANSynth: a generative adversarial network that makes four-second notes of random instruments.

Jesse Engel et al., "GANSynth: Adversarial Neural Audio Synthesis", ICLR 2019 (arXiv 1902.08710).
"""

from synths.gansynth.model import LOWEST_PITCH, PITCH_COUNTS, Model
from synths.gansynth.generate_util import (
    WHOLE_NOTE_LENGTH,
    choose_instruments,
    combine_notes,
    generate_notes,
    get_random_instruments,
    get_z_notes,
    instrument_times,
    load_instruments,
    load_midi,
    preview_phrase,
    save_instruments,
    summary,
    tempo_scale,
)

__all__ = ["LOWEST_PITCH", "PITCH_COUNTS", "WHOLE_NOTE_LENGTH", "Model", "choose_instruments",
           "combine_notes", "generate_notes", "get_random_instruments", "get_z_notes",
           "instrument_times",
           "load_instruments", "load_midi", "preview_phrase", "save_instruments", "summary",
           "tempo_scale"]
