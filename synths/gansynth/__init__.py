"""GANSynth: a generative adversarial network for four-second notes of random instruments.

Jesse Engel et al., "GANSynth: Adversarial Neural Audio Synthesis", ICLR 2019 (arXiv 1902.08710).
"""

from synths.gansynth.generate_util import (
    WHOLE_NOTE_LENGTH,
    combine_notes,
    get_random_instruments,
    get_z_notes,
    instrument_times,
    load_midi,
    summary,
    tempo_scale,
)
from synths.gansynth.instruments import (
    choose_instruments,
    load_instruments,
    place_instruments,
    preview_phrase,
    save_instruments,
)
from synths.gansynth.model import LOWEST_PITCH, Model, NoteAudio, count_distinct

__all__ = ["LOWEST_PITCH", "WHOLE_NOTE_LENGTH", "Model", "NoteAudio", "choose_instruments",
           "combine_notes", "count_distinct", "get_random_instruments", "get_z_notes",
           "instrument_times", "load_instruments", "load_midi", "place_instruments",
           "preview_phrase", "save_instruments", "summary", "tempo_scale"]
