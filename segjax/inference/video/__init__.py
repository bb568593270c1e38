"""Videos: their frames one after the other through a predictor, and what is written of them."""
