"""What a run's `config.json` has beside the config: what its data added. Never imports jax."""

from collections.abc import Mapping
from typing import Any

from segjax.config import knobs, rules, schema
from segjax.config.knobs import REQUIRED, Duration, Knob, Table, Typed
from segjax.errors import ConfigError

RECORDED: Mapping[str, Knob | Duration | Typed] = {
    "class_names": Knob(
        REQUIRED,
        rules.each(rules.NAME, "a list of 1 to 255 names", most=255, least=1),
        "Classes of the data.",
    ),
    "palette": Knob(
        REQUIRED,
        rules.each(
            rules.each(rules.whole(0, 255), "", least=3, most=3),
            "a list of colours, three integers from 0 to 255 each",
        ),
        "The colour of each class.",
    ),
    "channels": Knob(REQUIRED, rules.whole(1, 1 << 16), "Of the images."),
    "batch_size": Knob(REQUIRED, rules.whole(1), "Images in a training batch."),
    "num_examples": Knob(REQUIRED, rules.whole(1), "Of the training split."),
    "total_steps": Knob(REQUIRED, rules.whole(1), "Of the run."),
}
"""The section `resolved`."""

PIXELS = rules.each(rules.whole(0, 2**62), "a list of counts, one for each class", most=255)
AMOUNTS: Table = {
    "pixels": Knob(REQUIRED, PIXELS, "Of each class."),
    "around": Knob(REQUIRED, PIXELS, "Of all classes, in the images that have some of this one."),
    "images": Knob(REQUIRED, PIXELS, "That have some of each class."),
    "examples": Knob(REQUIRED, rules.whole(1), "All images."),
}
"""`resolved.amounts`: how much of each class there is, where `class_weights` of losses ask."""


def check(config: Mapping[str, Any]) -> None:
    """Refuse what no run has recorded: a wrong config, see `schema.check`, or a wrong `resolved`.

    Raises:
        ConfigError: As `schema.check`.
    """
    found = dict(config)
    resolved = found.pop("resolved", None)
    schema.check(found)
    knobs.check_table(RECORDED, resolved, "config.resolved", typed=True)
    names, colours = resolved["class_names"], resolved["palette"]
    if len(names) != len(colours):
        raise ConfigError(
            f"config.resolved: {len(names)} class_names and {len(colours)} colours in palette. "
            "Expected one colour for each class."
        )
    if "amounts" in resolved:
        where = "config.resolved.amounts"
        knobs.check_table(AMOUNTS, resolved["amounts"], where)
        counted = {len(value) for value in resolved["amounts"].values() if isinstance(value, list)}
        if counted != {len(names)}:
            raise ConfigError(f"{where}: of {counted} classes, expected {len(names)}.")
