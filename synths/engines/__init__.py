"""What multiplies matrices: XNNPACK through LiteRT, and code compiled for the processor by LLVM."""
