"""The libraries that do the computation: XNNPACK (through LiteRT), and TensorFlow for Magenta."""
