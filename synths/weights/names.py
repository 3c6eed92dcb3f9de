"""The names of the bundled and official models, and their URLs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

CHECKPOINTS_DIR = Path(__file__).resolve().parents[2] / "checkpoints"

TITLES = {"nsynth": "NSynth", "gansynth": "GANSynth"}


@dataclass(frozen=True)
class Checkpoint:
    """A known model; its name is also the name of its folder."""

    name: str
    model: str  # "nsynth" or "gansynth"
    url: str | None  # None: bundled


_BUCKETS = "https://storage.googleapis.com/"
_NSYNTH = _BUCKETS + "download.magenta.tensorflow.org/models/nsynth/"
_GANSYNTH = _BUCKETS + "magentadata/models/gansynth/"

# In order of preference: the book's choice, the other official model, the bundled model.
CHECKPOINTS: dict[str, Checkpoint] = {
    name: Checkpoint(name, model, url) for name, model, url in [
        ("wavenet-ckpt", "nsynth", _NSYNTH + "wavenet-ckpt.tar"),
        ("wavenet-voice-ckpt", "nsynth", _NSYNTH + "wavenet-voice-ckpt.tar.gz"),
        ("nsynth_starter", "nsynth", None),
        ("acoustic_only", "gansynth", _GANSYNTH + "acoustic_only.zip"),
        ("all_instruments", "gansynth", _GANSYNTH + "all_instruments.zip"),
        ("gansynth_starter", "gansynth", None),
    ]
}


def of_model(model: str) -> list[Checkpoint]:
    """Return the known models for "nsynth" or "gansynth", in order of preference."""
    return [known for known in CHECKPOINTS.values() if known.model == model]


def listed(model: str) -> str:
    """Return the names of the known checkpoints of a model, for a message."""
    return ", ".join(known.name for known in of_model(model))
