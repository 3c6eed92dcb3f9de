"""What stands around a run of the examples: options, inputs, progress, results, the page."""
