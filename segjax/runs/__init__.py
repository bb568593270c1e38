"""A run and its folder: config, log, checkpoints."""
