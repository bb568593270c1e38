"""Hold parameters by pattern: no gradient, no update, no optimiser state (`optimizer.freeze`)."""

import difflib
import re
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax

from segjax.errors import ConfigError
from segjax.layers import norm
from segjax.runtime import quirks
from segjax.training import state as state_lib

WHERE = "config.optimizer.freeze"


def frozen(model: nn.Module, patterns: Sequence[str]) -> nn.Module:
    """Return `model` as a train step is to see it, held where `config.optimizer.freeze` says."""
    return Frozen(model, tuple(patterns)) if patterns else model


class Frozen(nn.Module):
    """Apply `model` so that parameters are constants where a pattern matches their path.

    No gradient is computed for them, nor below the lowest parameter that trains: that saves time
    and memory. A batch norm whose scale is held belongs to the held network: it normalises by its
    running statistics, also in training, and leaves them as they are. Dropout acts as ever.
    """

    model: nn.Module
    patterns: Sequence[str]

    @nn.nowrap
    def apply(self, variables: Any, *args: Any, **kwargs: Any) -> Any:
        """Return what `model.apply` does."""
        patterns = Patterns(self.patterns, where=WHERE)

        def hold(path: Any, leaf: jax.Array) -> jax.Array:
            held = patterns.index(state_lib.path_of(path)) is not None
            return jax.lax.stop_gradient(leaf) if held else leaf

        def call(method: Callable, inputs: Any, options: Any, context: Any) -> Any:
            module = context.module
            if isinstance(module, norm.BatchNorm):
                if patterns.index("/".join((*module.path, "scale"))) is not None:
                    quirks.set_field(module, "train", False)
            return method(*inputs, **options)

        held = {**variables, "params": jax.tree.map_with_path(hold, variables["params"])}
        with nn.intercept_methods(call):
            return self.model.apply(held, *args, **kwargs)


class Patterns:
    """Regular expressions for whole parameter paths, such as `encoder/.*`.

    Args:
        patterns: None of them leaves every parameter alone.
        where: Their place in the config, for messages.
    """

    def __init__(self, patterns: Sequence[str], *, where: str):
        self.where, self.compiled = where, [re.compile(pattern) for pattern in patterns]

    def index(self, path: str) -> int | None:
        """Return which pattern is the first to match a whole path, None for none."""
        return next((i for i, p in enumerate(self.compiled) if p.fullmatch(path)), None)

    def labels(self, params: Any) -> Any:
        """Return a tree of 'held' where a pattern matches, else 'trained'.

        Raises:
            ConfigError: A pattern matches no parameter, or together they match all.
        """
        self.check(params)
        labels = jax.tree.map_with_path(
            lambda path, _: "trained" if self.index(state_lib.path_of(path)) is None else "held",
            params,
        )
        if "trained" not in jax.tree.leaves(labels):
            raise ConfigError(f"{self.where}: every parameter is held. Leave some to train.")
        return labels

    def check(self, params: Any) -> None:
        """Raise `ConfigError` for a pattern that matches no parameter, naming the nearest."""
        paths = [state_lib.path_of(path) for path, _ in jax.tree.leaves_with_path(params)]
        for pattern in self.compiled:
            if not any(map(pattern.fullmatch, paths)):
                raise ConfigError(
                    f"{self.where}: {pattern.pattern!r} matches no parameter.{near(pattern, paths)}"
                )


def near(pattern: re.Pattern, paths: Sequence[str]) -> str:
    """Return the tail of an error message: the nearest module's pattern, then the outermost."""
    modules = {"/".join(p.split("/")[:n]) for p in paths for n in range(1, p.count("/") + 1)}
    known = [f"{module}/.*" for module in sorted(modules)]
    nearest = difflib.get_close_matches(pattern.pattern, known, n=1, cutoff=0.5)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    return f"{hint} Outermost: {', '.join(name for name in known if name.count('/') == 1)}."
