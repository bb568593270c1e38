"""Scenes of which process 1 cannot read the hundredth."""

import time

import jax

from segjax.data import synthetic
from segjax.errors import DataError


class Source(synthetic.Source):
    """As synthetic, until a file turns out to be damaged."""

    def __getitem__(self, index):
        self.reads = getattr(self, "reads", 0) + 1
        if jax.process_index() == 1 and self.reads > 100:
            raise DataError(f"spoilt/{index}.png: cut short. Restore it.")
        return super().__getitem__(index)


class Stuck(synthetic.Source):
    """As synthetic, until the file system does not answer any more."""

    def __getitem__(self, index):
        self.reads = getattr(self, "reads", 0) + 1
        if jax.process_index() == 1 and self.reads > 300:
            time.sleep(1000)
        return super().__getitem__(index)
