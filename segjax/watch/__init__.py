"""How a model fares in use: statistics of what it sees and says against those of its training."""
