"""Pictures of sounds, from arrays to images: spectra, sheets of many, scores.

Drawn with Pillow.  They used to be Matplotlib's, whose import alone took as long as they take now,
and a picture must cost less than its sound.
"""
