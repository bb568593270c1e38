"""Panoptic segmentation by queries: each answers an object of a thing, or a stuff."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from segjax.config import kinds
from segjax.layers.queries import Outputs
from segjax.losses import points
from segjax.losses.points import Truth
from segjax.structs import IGNORE_LABEL, Key, Objects
from segjax.tasks import regions
from segjax.tasks.queries import OBJECT_FIELDS, Found, Queries, found_of, probabilities
from segjax.tasks.targets import targets_of


@dataclasses.dataclass(kw_only=True, eq=False)
class Task(Queries):
    """Panoptic segmentation: a region for each object of a thing, and for each stuff.

    Attributes:
        num_classes: Classes of the data set, void not counted.
        things: The numbers of those that are counted object by object.
        threshold: A query counts from that probability of its class on.
        overlap: What is left of a mask where other queries are not stronger, at least, as a share.
    """

    needs = {"label": "classes", **OBJECT_FIELDS}

    things: Sequence[int]
    threshold: kinds.Probability = 0.8
    overlap: kinds.Probability = 0.8

    @property
    def stuff(self) -> tuple[int, ...]:
        """The classes that are not counted object by object."""
        return tuple(k for k in range(self.num_classes) if k not in self.things)

    def truth(self, batch: Mapping[str, Any], key: Key) -> tuple[Truth, Array, Array]:
        """Return the objects of things, then the stuff of each image; void does not count."""
        targets, label = targets_of(batch, self.things, key), batch["label"]
        numbers = jnp.asarray((*self.things, -1), jnp.int32)
        objects = jnp.where(targets.learned, numbers[targets.classes], -1)
        values = jnp.asarray(self.stuff, jnp.int32)
        there = jax.vmap(points.present, in_axes=(0, None))(label, values)
        every = jnp.broadcast_to(values, there.shape)
        classes = jnp.concatenate([objects, jnp.where(there, every, -1)], axis=-1)
        known = (label != IGNORE_LABEL).any((1, 2))
        return Truth(classes, targets.masks, label, every), known, targets.keys

    def find(self, outputs: Outputs) -> Found:
        """Return every query with its most probable class; score 0 where that is none."""
        probable = probabilities(outputs.last)
        classes = jnp.argmax(probable, axis=-1).astype(jnp.int32)
        scores = jnp.where(classes < self.num_classes, probable.max(-1), 0)
        queries = jnp.broadcast_to(jnp.arange(classes.shape[1], dtype=jnp.int32), classes.shape)
        return found_of(outputs, scores, classes, queries)

    def segments(
        self, found: Found, covered: Sequence[int], whole: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the segment of every pixel, 1..s or 0, int32 [*space], and their classes [s]."""
        segments, classes, _ = self._merged(found, covered, whole)
        return segments, classes

    def objects(self, found: Found, covered: Sequence[int], whole: Sequence[int]) -> Objects:
        """Return the segments of things, the highest score first."""
        segments, classes, scores = self._merged(found, covered, whole)
        mine = np.flatnonzero(np.isin(classes, self.things))
        masks = [regions.crop(segments == number + 1) for number in mine]
        return regions.objects_of(masks, classes[mine], scores[mine])

    def _merged(
        self, found: Found, covered: Sequence[int], whole: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        kept = np.flatnonzero(np.asarray(found.scores) > self.threshold)
        return regions.merge(
            np.moveaxis(found.masks, -1, 0)[kept], found.canvas, covered, whole,
            scores=np.asarray(found.scores)[kept], classes=np.asarray(found.classes)[kept],
            stuff=self.stuff, overlap=self.overlap,
        )  # fmt: skip
