"""What is wrong with a data set, before training: duplicates, leaks, masks that do not fit."""
