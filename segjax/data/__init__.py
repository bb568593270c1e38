"""Data sets, how their images become one size, and the pipeline that batches them."""
