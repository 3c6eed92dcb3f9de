"""The two instruments of the chapter: NSynth (`synths.nsynth`) and GANSynth (`synths.gansynth`).

Nothing here knows of scripts, options or pictures.  Import the module you need; importing the
package alone costs nothing.
"""


class InputError(ValueError):
    """What the user gave cannot be used.

    The message is one sentence for the user: the rule, what was found, what to do.
    """


class CheckpointError(InputError):
    """A checkpoint is missing, cut short or of another model; the message names the file."""
