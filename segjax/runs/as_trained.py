"""How a run's data set read its images, and so how images to predict are read."""

from collections.abc import Mapping
from typing import Any

from segjax.config import sections
from segjax.data.decode import Reading, recorded
from segjax.runs.run import Run


def reading_of(run: Run) -> tuple[Reading, str]:
    """Return how images of a run are read, and how the names of its data set's masks end."""
    found: dict[str, Any] = told(run.config["input"]["source"])
    found |= {"dims": len(run.config["input"]["size"])}
    found |= recorded(run.facts().get("reading"))
    suffix = str(found.pop("label_suffix", ""))
    return Reading(**found | {"channels": run.config["resolved"]["channels"]}), suffix


def told(source: Mapping[str, Any]) -> dict[str, Any]:
    """Return how a data set was told to read images, and how the names of its masks end."""
    source, names = sections.innermost(source), ("exif", "dtype", "label_suffix")
    return {name: source[name] for name in names if source.get(name, "") != ""}
