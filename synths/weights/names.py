"""The weights that go by a name, and where they lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

CHECKPOINTS_DIR = Path(__file__).resolve().parents[2] / "checkpoints"

TITLES = {"nsynth": "NSynth", "gansynth": "GANSynth"}


@dataclass(frozen=True)
class Checkpoint:
    """Weights that go by a name, which is that of their folder, too."""

    name: str
    model: str              # "nsynth" or "gansynth"
    url: str | None         # None: shipped


_BUCKETS = "https://storage.googleapis.com/"
_NSYNTH = _BUCKETS + "download.magenta.tensorflow.org/models/nsynth/"
_GANSYNTH = _BUCKETS + "magentadata/models/gansynth/"

# For each model in order of preference: the book's own choice, its sibling, the starter.
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
    """The weights of "nsynth" or "gansynth", in order of preference."""
    return [known for known in CHECKPOINTS.values() if known.model == model]


def listed(model: str) -> str:
    """Their names, for a message."""
    return ", ".join(known.name for known in of_model(model))
