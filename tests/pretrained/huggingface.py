"""Networks of Hugging Face's transformers, with the names that its published files have."""

import functools
from typing import Any

import pytest

from tests import parity


def library() -> Any:
    """Return the library; parts of it import torchvision."""
    parity.torchvision()
    return pytest.importorskip("transformers", reason=parity.REASON)


class Published:
    """A network whose parameters go by the names that `save_pretrained` writes.

    Version 5 names modules anew and translates when it loads or saves; files on the Hub keep the
    old names.
    """

    def __init__(self, network: Any):
        self.network = network

    @functools.cached_property
    def names(self) -> dict[str, str]:
        """The name in files by the name here, where a file has no array that is made of several."""
        from transformers import core_model_loading as loading

        tags = {name: tag(i) for i, name in enumerate(self.network.state_dict())}
        written = loading.revert_weight_conversion(self.network, tags)
        here = list(tags)
        return {here[int(number)]: name for name, number in written.items()}

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self.network(*arguments, **options)

    def train(self) -> "Published":
        self.network.train()
        return self

    def modules(self) -> Any:
        return self.network.modules()

    def state_dict(self) -> dict[str, Any]:
        from transformers import core_model_loading as loading

        return loading.revert_weight_conversion(self.network, dict(self.network.state_dict()))

    def named_parameters(self) -> list[tuple[str, Any]]:
        return [(self.names[name], value) for name, value in self.network.named_parameters()]


def tag(number: int) -> Any:
    """Return a tensor that survives the renaming and says which it was."""
    import torch

    return torch.tensor(number)
