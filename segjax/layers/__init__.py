"""What networks are made of: convolution, normalization, attention, resampling."""
