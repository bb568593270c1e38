"""Instance segmentation with detectors: every object of a thing has a class, a box and a mask."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from segjax.config import kinds
from segjax.layers import boxes as boxes_lib
from segjax.layers import detection, matching, paste, roi_align
from segjax.layers.objects import Targets
from segjax.models import mask_rcnn
from segjax.models.mask_rcnn import Detections, Training
from segjax.structs import Kind, Objects, Scalar, Term
from segjax.tasks.candidates import Candidates
from segjax.tasks.targets import targets_of

BETA = 1 / 9
"""Where the loss of offsets turns from squares to lines."""


class Task:
    """Train a detector on boxes, classes and masks, by Mask R-CNN's five losses.

    Each is the mean over what was drawn: objectness and offsets over anchors, classes and offsets
    over regions, masks over the pixels of those that stand for an object. Crowds are not learned.

    Args:
        num_classes: Classes of the data set, background among them.
        things: The numbers of those that are counted object by object.
        objectness_weight: Factor of the anchors' classes.
        anchor_weight: Factor of the anchors' offsets.
        class_weight: Factor of the regions' classes.
        box_weight: Factor of the regions' offsets.
        mask_weight: Factor of the masks.
        mask_threshold: A pixel is an object's from that probability on.
    """

    outputs = "boxes"
    needs: Mapping[str, Kind] = {
        "object_masks": "masks",
        "object_classes": "value",
        "object_crowd": "value",
    }

    def __init__(
        self,
        *,
        num_classes: int,
        things: Sequence[int],
        objectness_weight: kinds.NotNegative = 1.0,
        anchor_weight: kinds.NotNegative = 1.0,
        class_weight: kinds.NotNegative = 1.0,
        box_weight: kinds.NotNegative = 1.0,
        mask_weight: kinds.NotNegative = 1.0,
        mask_threshold: kinds.Probability = 0.5,
    ):
        del num_classes  # the model has the things' alone
        self.things, self.num_classes = tuple(things), len(things)
        self.factors = {
            "objectness": objectness_weight, "anchors": anchor_weight, "classes": class_weight,
            "boxes": box_weight, "masks": mask_weight,
        }  # fmt: skip
        self.mask_threshold = mask_threshold

    def inputs(self, batch: Mapping[str, Any], key: Array, step: Array) -> dict[str, Any]:
        """Return what the model gets beside images in training: the true objects."""
        del step
        return {"targets": targets_of(batch, self.things, key)}

    def weights(self, batch: Mapping[str, Any]) -> dict[str, Scalar]:
        """Return nothing: how much is drawn depends on what the model proposes."""
        del batch
        return {}

    def loss(self, outputs: Training, batch: Mapping[str, Any], key: Array) -> dict[str, Term]:
        """Return the five terms, as torchvision has them."""
        targets = targets_of(batch, self.things, key)
        found = {
            **anchor_losses(outputs, targets),
            **region_losses(outputs, targets),
            "masks": mask_loss(outputs, targets),
        }
        return {
            name: Term(total, weight, self.factors[name]) for name, (total, weight) in found.items()
        }

    def find(self, outputs: Detections) -> Candidates:
        """Return what was found; masks are those of the boxes alone."""
        numbers = outputs.scores, outputs.boxes, outputs.masks
        scores, boxes, masks = (x.astype(jnp.float32) for x in numbers)
        return Candidates(scores, outputs.classes, boxes, masks)

    def objects(self, row: Candidates, covered: Sequence[int], size: Sequence[int]) -> Objects:
        """Return the objects of one image on its own grid, the most probable first.

        Args:
            row: Of the image, on the host.
            covered: Height and width of the part of the canvas that the image covers, in pixels.
            size: The image's height and width.
        """
        here = np.asarray(row.scores) > 0
        boxes = np.asarray(row.boxes, np.float64)[here] * np.tile(np.divide(size, covered), 2)
        boxes = np.clip(boxes, 0, [*size, *size])
        order = [i for i in np.flatnonzero((boxes[:, 2:] > boxes[:, :2]).all(-1))]
        masks = np.asarray(row.masks)[here]
        return Objects(
            classes=np.asarray(self.things, np.int32)[np.asarray(row.classes)[here][order]],
            boxes=boxes[order].astype(np.float32),
            masks=tuple(
                paste.paste(masks[i], boxes[i], size, threshold=self.mask_threshold) for i in order
            ),
            scores=np.asarray(row.scores, np.float32)[here][order],
            crowd=np.zeros(len(order), bool),
        )


Loss = tuple[Scalar, Scalar]
"""The sum, and the sum of the weights."""


def anchor_losses(outputs: Training, targets: Targets) -> dict[str, Loss]:
    """Return the losses of what was drawn of all anchors: their classes, and their offsets."""
    positive = outputs.anchor_state == matching.POSITIVE
    drawn = outputs.anchor_state != matching.NEITHER
    count = drawn.sum().astype(outputs.objectness.dtype)
    entropy = optax.sigmoid_binary_cross_entropy(outputs.objectness, positive)
    truth = detection.rows(targets.boxes, outputs.anchor_objects)
    total = offset_loss(outputs.anchor_offsets, truth, outputs.anchors, positive, (1.0, 1.0))
    return {"objectness": (jnp.where(drawn, entropy, 0).sum(), count), "anchors": (total, count)}


def region_losses(outputs: Training, targets: Targets) -> dict[str, Loss]:
    """Return the losses of regions: their classes, and the offsets of those for an object."""
    regions, logits = outputs.regions, outputs.class_logits
    count = regions.valid.sum().astype(logits.dtype)
    background = logits.shape[-1] - 1
    classes = detection.rows(targets.classes, regions.objects)
    label = jnp.where(regions.positive, classes, background)
    entropy = optax.softmax_cross_entropy_with_integer_labels(logits, label)
    mine = jnp.arange(background, dtype=label.dtype) == label[..., None]
    offsets = jnp.where(mine[..., None], outputs.offsets, 0).sum(-2)
    truth = detection.rows(targets.boxes, regions.objects)
    total = offset_loss(offsets, truth, regions.boxes, regions.positive, mask_rcnn.WEIGHTS)
    return {"classes": (jnp.where(regions.valid, entropy, 0).sum(), count), "boxes": (total, count)}


def offset_loss(
    offsets: Float[Array, "b m 4"],
    truth: Float[Array, "b m 4"],
    around: Float[Array, "*b m 4"],
    positive: Array,
    weights: boxes_lib.Weights,
) -> Scalar:
    """Return the smooth absolute differences of positive boxes from the offsets to the truth."""
    around = jnp.broadcast_to(around, truth.shape).astype(offsets.dtype)
    truth = jnp.where(positive[..., None], truth.astype(offsets.dtype), around)  # no log of 0
    aim = jnp.where(positive[..., None], boxes_lib.encode(truth, around, weights=weights), offsets)
    # At 0 a true difference and one that does not count are the same: no gradient.
    return optax.huber_loss(offsets, jax.lax.stop_gradient(aim), delta=BETA).sum() / BETA


def mask_loss(outputs: Training, targets: Targets) -> Loss:
    """Return the cross-entropy of every cell of the masks of regions that stand for an object."""
    regions, every = outputs.regions, outputs.mask_logits
    slots = regions.repeated.shape[1]
    there = regions.positive[:, :slots]
    boxes, objects = regions.boxes[:, :slots], regions.objects[:, :slots]
    classes = jnp.where(there, detection.rows(targets.classes, objects), 0)
    logits = mask_rcnn.chosen(every, classes)

    def crop(packed: Array, objects: Array, boxes: Array) -> Array:
        return roi_align.masks(packed, objects, boxes, cells=logits.shape[-1])

    def truths(objects: Array, boxes: Array) -> Array:
        return jax.vmap(crop)(targets.masks, objects, boxes)

    truth = detection.where_needed(truths, there, objects, boxes)
    entropy = optax.sigmoid_binary_cross_entropy(logits, truth)
    total = jnp.where(there[..., None, None], entropy, 0).sum()
    return total, there.sum().astype(logits.dtype) * logits.shape[-1] ** 2
