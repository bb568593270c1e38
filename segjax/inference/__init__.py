"""From an image to what a model says of it: whole, in windows, from any function."""
