"""From a config to the objects that it names, and to the compiled program."""
