"""Support for running the examples: options, inputs, progress, results and the results page."""
