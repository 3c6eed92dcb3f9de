"""Pictures of sounds, from arrays to images: spectra, sheets of many, scores.

The bare picture of a sound is its pixels, saved by Pillow; whatever has words on it is drawn with
Matplotlib.
"""

from pictures.spectra import warm_up

__all__ = ["warm_up"]
