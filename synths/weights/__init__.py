"""Weights: from a name or a path to arrays; TensorFlow checkpoints, bundled and downloaded."""
