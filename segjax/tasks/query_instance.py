"""Instance segmentation by queries: each answers a thing and the mask of one object."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from segjax.config import rules
from segjax.kernels import ranking
from segjax.layers.queries import Outputs
from segjax.losses.points import Truth
from segjax.structs import Key, Objects
from segjax.tasks import regions
from segjax.tasks.queries import OBJECT_FIELDS, Found, Queries, found_of, probabilities
from segjax.tasks.targets import targets_of


@dataclasses.dataclass(kw_only=True, eq=False)
class Task(Queries):
    """Instance segmentation: a region for each object; crowds are not learned.

    Attributes:
        num_classes: Classes of the data set.
        things: The numbers of those that are counted object by object.
        most: How many pairs of a query and a class are taken, those of the highest probability.
    """

    needs = OBJECT_FIELDS

    things: Sequence[int]
    most: Annotated[int, rules.whole(1, 2**16)] = 100

    def __post_init__(self):
        super().__post_init__()
        self.num_classes = len(self.things)  # the model has these alone

    def truth(self, batch: Mapping[str, Any], key: Key) -> tuple[Truth, Array, Array]:
        """Return the objects of each image; every pixel is known."""
        targets = targets_of(batch, self.things, key)
        truth = Truth(jnp.where(targets.learned, targets.classes, -1), targets.masks)
        return truth, jnp.ones(targets.classes.shape[0], bool), targets.keys

    def find(self, outputs: Outputs) -> Found:
        """Return the most probable pairs of a query and a class."""
        probable = probabilities(outputs.last)[..., :-1]
        flat = probable.reshape(probable.shape[0], -1)
        most = min(self.most, flat.shape[1])
        scores, index = jax.vmap(lambda row: ranking.top(row, most))(flat)
        return found_of(outputs, scores, index % self.num_classes, index // self.num_classes)

    def objects(self, found: Found, covered: Sequence[int], whole: Sequence[int]) -> Objects:
        """Return the objects of one image on its own grid, the highest score first.

        A score is the probability of the class times the mean of those inside of the mask.
        """
        masks, means = regions.masks_of(
            np.moveaxis(found.masks, -1, 0)[found.queries], found.canvas, covered, whole
        )
        scores = np.asarray(found.scores, np.float32) * means
        numbers = np.asarray(self.things, np.int32)[found.classes]
        return regions.objects_of(masks, numbers, scores)
