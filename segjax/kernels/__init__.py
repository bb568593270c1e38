"""What XLA's backends compute badly: a plain reference and a tuned form of each, one switch."""

from segjax.kernels.dispatch import use as use
