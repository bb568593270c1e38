"""What is asked of a model: one task a file, all behind the protocol of `base`."""
