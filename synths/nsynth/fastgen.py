"""The two functions of Magenta's `magenta.models.nsynth.wavenet.fastgen`, under their names."""

from synths.nsynth.decoding import encode
from synths.nsynth.saving import synthesize

__all__ = ["encode", "synthesize"]
