"""What `config.trials` describes: runs that differ in seed or learning rate. Never imports jax."""

from collections.abc import Mapping
from typing import Any

from segjax.errors import ConfigError


def count(config: Mapping[str, Any]) -> int:
    """Return how many trials `config.trials` describes; 0: none, a run as usual.

    Raises:
        ConfigError: Lists that do not go together.
    """
    section = config["trials"]
    lengths = {len(section[key]) for key in ("seed", "lr")} - {0}
    if len(lengths) > 1 or lengths == {1}:
        raise ConfigError(
            f"config.trials: seed={section['seed']}, lr={section['lr']}: expected at least two "
            "values each, as many of one as of the other. Leave empty what all trials share."
        )
    return max(lengths, default=0)


def configs(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the config of each trial, as a run alone would have it; without trials the config."""
    found = []
    for i in range(count(config)):
        own = {**config, "trials": {"seed": [], "lr": []}, "mesh": {**config["mesh"], "data": -1}}
        if config["trials"]["seed"]:
            own["seed"] = int(config["trials"]["seed"][i])
        if config["trials"]["lr"]:
            own["optimizer"] = {**config["optimizer"], "lr": float(config["trials"]["lr"][i])}
        if root := config["checkpoint"]["root"]:
            own["checkpoint"] = {**config["checkpoint"], "root": f"{root.rstrip('/')}/trial{i}"}
        found.append(own)
    return found or [dict(config)]
