"""GANSynth: a generative adversarial network that makes four-second notes of random instruments.

Jesse Engel et al., "GANSynth: Adversarial Neural Audio Synthesis", ICLR 2019 (arXiv 1902.08710).
"""

from synths.gansynth.model import LOWEST_PITCH, PITCH_COUNTS, Model

__all__ = ["LOWEST_PITCH", "PITCH_COUNTS", "Model"]
