"""Banks of notes: every mix of a grid at every pitch, on one machine or on many.

`python -m workshop bank nsynth` and `python -m workshop bank gansynth`.  The two scripts never import it, and it
alone needs what `requirements-banks.txt` adds.
"""
