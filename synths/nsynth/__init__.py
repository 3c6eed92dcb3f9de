"""NSynth: a WaveNet autoencoder that encodes sounds and decodes encodings sample by sample.

Jesse Engel et al., "Neural Audio Synthesis of Musical Notes with WaveNet Autoencoders", 2017
(arXiv 1704.01279).
"""

from synths.nsynth.decoding import (
    HOP_LENGTH,
    PRECISIONS,
    TOLERANCE,
    Block,
    Choice,
    Decoding,
    choose_precision,
    decode,
    decode_blocks,
    draw_uniforms,
    encode,
    inverse_mu_law,
    mu_law,
    nll,
)
from synths.nsynth.saving import codes_path, faded, partial_path, synthesize
from synths.sounds import SAMPLE_RATE

__all__ = ["HOP_LENGTH", "PRECISIONS", "SAMPLE_RATE", "TOLERANCE", "Block", "Choice", "Decoding",
           "choose_precision", "codes_path", "decode", "decode_blocks", "draw_uniforms", "encode",
           "faded", "inverse_mu_law", "mu_law", "nll", "partial_path", "synthesize"]
