"""The building blocks of networks, as papers name them: convolution, norm, attention, resizing."""
