"""One file a mode of the command line."""
