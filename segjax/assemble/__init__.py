"""From a config to the objects it names and to the compiled program; nothing else reads it."""
