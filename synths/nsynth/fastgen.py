"""`encode` and `synthesize`, as in Magenta's `magenta.models.nsynth.wavenet.fastgen`."""

from synths.nsynth.decoding import encode
from synths.nsynth.saving import synthesize

__all__ = ["encode", "synthesize"]
