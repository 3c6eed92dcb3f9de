"""Pictures of sounds, from arrays to images: spectra, sheets of many, scores.

Drawn with Pillow: a picture must cost less than its sound, and importing Matplotlib alone takes as
long as drawing all those of a run.
"""
