"""TensorFlow's version 1 API with the layers of Keras 2, which Magenta's code needs."""

from __future__ import annotations

import os
from typing import Any

from synths.engines.litert import silent_stderr


def load() -> Any:
    """Import TensorFlow, which takes 5 to 7 s, and return its module `tensorflow.compat.v1`."""
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with silent_stderr():
        import tensorflow.compat.v1 as tf
        tf.logging.set_verbosity("ERROR")
    return tf
