"""State, step, optimiser: what is compiled and what drives it."""
