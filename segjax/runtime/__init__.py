"""The machine below: XLA, processes, placement, files."""
