"""A linear classifier on ViT features keeps the contract."""

import flax

from segjax import lookup
from tests.models import contract

VIT = {"type": "vit", "width": 8, "heads": 2, "blocks": 2, "grid": 3, "patch": 16}


def build(encoder=None, **fields):
    section = {"type": "linear", "encoder": flax.core.freeze(encoder or VIT), **fields}
    return lookup.build("models", section, where="config.model", num_classes=5)


class TestContract(contract.ModelContract):
    row_collectives = frozenset({"all-gather"})  # of keys and values: attention sees all rows

    def model(self, **overrides):
        return build(**overrides)
