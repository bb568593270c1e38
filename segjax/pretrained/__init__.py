"""Published weights, read into a model's arrays and written back from them."""
