"""The two models of the chapter: NSynth (`synths.nsynth`) and GANSynth (`synths.gansynth`).

This package does not depend on scripts, options or plots.  Import only the module you need;
importing the package itself is fast.
"""


class InputError(ValueError):
    """An error in the user's input.

    The message is one sentence for the user.  It states the rule, the value found and the remedy.
    """


class CheckpointError(InputError):
    """An error for a missing, truncated or wrong checkpoint; the message names the file."""
