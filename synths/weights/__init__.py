"""Find, download and read model weights, which are stored as TensorFlow checkpoints."""
