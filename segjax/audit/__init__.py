"""What is wrong with a data set, found before training: duplicates, leaks, masks that do not fit."""
