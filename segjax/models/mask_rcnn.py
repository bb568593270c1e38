"""Mask R-CNN (He et al. 2017, arXiv:1703.06870) on a feature pyramid, as torchvision has it."""

import functools
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeAlias

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from segjax import encoders
from segjax.config import kinds, rules
from segjax.errors import ConfigError
from segjax.kernels import sums
from segjax.layers import anchors as anchors_lib
from segjax.layers import boxes as boxes_lib
from segjax.layers import detection, fpn, matching, resample, roi_align, style
from segjax.layers import norm as norm_lib
from segjax.layers.objects import Targets
from segjax.models import base
from segjax.structs import Features

STRIDES = (4, 8, 16, 32)
WEIGHTS = (10.0, 5.0)
"""Of the box head's offsets, see `boxes.encode`."""
Overlap: TypeAlias = kinds.Probability
Boxes: TypeAlias = Annotated[int, rules.whole(1, 2**16)]
TrainAndPredict: TypeAlias = Annotated[Sequence[Boxes], rules.length(2, 2)]
"""A number while training, and one when predicting."""
Sides: TypeAlias = Annotated[Sequence[kinds.Positive], rules.length(5, 5)]
Ratios: TypeAlias = Annotated[Sequence[kinds.Positive], rules.length(1, 16)]
Cells: TypeAlias = Annotated[int, rules.whole(1, 64)]


@flax.struct.dataclass
class Training:
    """What a step trains on; `a` anchors, `r` regions, the first `p` of them for masks.

    Attributes:
        objectness: [b a], logits, in float32 at least, as all that follows.
        anchor_offsets: [b a 4], see `boxes.encode`.
        anchors: [a 4] in pixels of the canvas.
        anchor_state: int32 [b a]: `matching.POSITIVE`, `NEGATIVE`, or `NEITHER`: not drawn.
        anchor_objects: int32 [b a]: the object that a positive one stands for.
        regions: `detection.Sample` [b r].
        class_logits: [b r k + 1]; the last is no object.
        offsets: [b r k 4] from the regions' boxes, with `WEIGHTS`.
        mask_logits: [b p cells cells k] of the regions at `regions.repeated`.
    """

    objectness: Any
    anchor_offsets: Any
    anchors: Any
    anchor_state: Any
    anchor_objects: Any
    regions: Any
    class_logits: Any
    offsets: Any
    mask_logits: Any


@flax.struct.dataclass
class Detections:
    """What is found, the most probable first.

    Attributes:
        boxes: [b m 4] in pixels of the canvas.
        scores: [b m]; 0 where there is none.
        classes: int32 [b m].
        masks: [b m cells cells], probabilities, of the box alone.
    """

    boxes: Any
    scores: Any
    classes: Any
    masks: Any


class Model(style.Network, kw_only=True):
    """Propose regions, tell their classes, mend their boxes, and mask what is in them.

    Numbers are torchvision's. Its second form has `norm='batch'`, `rpn_convs=2`, `box_convs=4` and
    `box_layers=1`; detectron2's has `rounded_anchors=False`, `sampling=0`, `aligned=True` and
    `proposals=(1000, 1000)`, and its encoder `stride_first=True`. Both hold the encoder's batch
    norms where its weights are published ones: `optimizer.freeze=['encoder/.*/norm/.*']`.

    Attributes:
        encoder: Section of an encoder with features at strides 4, 8, 16 and 32.
        num_classes: Classes of objects.
        norm: A name in `norm.NORMS`, of the pyramid and of the heads' convolutions.
        width: Channels of the pyramid and of the heads' convolutions.
        rpn_convs: Convolutions before anchors are judged.
        box_convs: Convolutions before a region is judged.
        box_layers: Linear layers behind them.
        box_width: Channels of those.
        mask_convs: Convolutions before a mask is enlarged.
        anchor_sizes: Sides of anchors in pixels, at strides 4 to 64.
        anchor_ratios: Heights by widths.
        rounded_anchors: Round anchors to pixels, and lay the coarsest levels' evenly over the
            canvas; otherwise they lie at the strides.
        rpn_overlaps: An anchor is background below the first, and stands for an object from the
            second.
        rpn_samples: Anchors of an image that are learned from.
        rpn_positives: The share of those for objects, at most.
        proposals_before: The best boxes of a level that suppression sees.
        proposals: Of an image that are left.
        rpn_suppression: The largest overlap of two proposals of a level.
        box_cells: Of a region, along each side.
        box_overlaps: As `rpn_overlaps`, of regions.
        box_samples: Regions of an image that are learned from.
        box_positives: The share of those for objects, at most.
        mask_cells: Of a region, along each side; masks have twice as many.
        sampling: Samples of each cell, see `roi_align.pool`.
        aligned: Whether cells have their centres at 0.5, see `roi_align.spans`.
        score_threshold: Objects are found whose probability is above it.
        suppression: The largest overlap of two objects of a class.
        candidates: Boxes of an image that suppression sees. Where more pass `score_threshold`, the
            least probable are left out before it.
        detections: Objects of an image that are found.
    """

    dims = (2,)
    outputs = "boxes"

    encoder: kinds.EncoderSection
    num_classes: int
    norm: norm_lib.Norm = "none"
    width: kinds.Width = 256
    rpn_convs: kinds.Depth = 1
    box_convs: kinds.DepthOrNone = 0
    box_layers: kinds.Depth = 2
    box_width: kinds.Width = 1024
    mask_convs: kinds.DepthOrNone = 4
    anchor_sizes: Sides = (32, 64, 128, 256, 512)
    anchor_ratios: Ratios = (0.5, 1.0, 2.0)
    rounded_anchors: bool = True
    rpn_overlaps: Annotated[Sequence[Overlap], rules.interval(0, 1)] = (0.3, 0.7)
    rpn_samples: Boxes = 256
    rpn_positives: kinds.Probability = 0.5
    proposals_before: TrainAndPredict = (2000, 1000)
    proposals: TrainAndPredict = (2000, 1000)
    rpn_suppression: Overlap = 0.7
    box_cells: Cells = 7
    box_overlaps: Annotated[Sequence[Overlap], rules.interval(0, 1)] = (0.5, 0.5)
    box_samples: Boxes = 512
    box_positives: kinds.Probability = 0.25
    mask_cells: Cells = 14
    sampling: Annotated[int, rules.whole(0, 8)] = 2
    aligned: bool = False
    score_threshold: kinds.Probability = 0.05
    suppression: Overlap = 0.5
    candidates: Boxes = 2000
    detections: Boxes = 100

    @nn.compact
    def __call__(
        self, image: Features, *, train: bool, targets: Targets | None = None
    ) -> Training | Detections:
        """Return `Training` of images with their true objects, or `Detections`.

        Raises:
            ConfigError: A side below 32 pixels, fields that make no such network, an encoder
                without the strides, or training without `targets`.
        """
        self.check_axes(image)
        self.check()
        size = image.shape[1:-1]
        base.check_size(size, model=style.title(self))
        levels = self.levels(image, train=train)
        scores, offsets = self.judge_anchors(levels)
        anchors = self.anchors([x.shape[1:-1] for x in levels], size)
        proposals = detection.propose(
            *jax.lax.stop_gradient((scores, offsets)), anchors, size,
            before=self.proposals_before[not train], after=self.proposals[not train],
            threshold=self.rpn_suppression,
        )  # fmt: skip
        if not train:
            return self.find(levels[:-1], proposals, size)
        if targets is None:
            raise ConfigError(
                "mask_rcnn: is trained on objects, got none. Use config.task.type='instance'."
            )
        around = jnp.asarray(np.concatenate(anchors), proposals.boxes.dtype)
        state, objects = self.assign_anchors(around, targets)
        regions = self.choose_regions(proposals, targets)
        masked = detection.rows(regions.boxes, regions.repeated)
        logits, moves = self.judge_regions(levels[:-1], regions.boxes, train=train)
        return Training(
            jnp.concatenate(scores, axis=1), jnp.concatenate(offsets, axis=1), around, state,
            objects, regions, logits, moves, self.learned_masks(levels[:-1], masked, regions),
        )  # fmt: skip

    def levels(self, image: Features, *, train: bool) -> tuple[Features, ...]:
        """Return the pyramid's levels at strides 4 to 64; of the last every second pixel is kept.

        Raises:
            ConfigError: The encoder has no features at the strides.
        """
        encoder = encoders.build(self.encoder, self.style)
        if encoder.strides[-4:] != STRIDES:
            raise ConfigError(
                f"config.model.encoder: its features have the strides {encoder.strides}, mask_rcnn "
                f"needs {STRIDES}. Use another encoder, or output_stride=32."
            )
        pyramid = fpn.Pyramid(self.width, style=self.style, name="pyramid")
        levels = pyramid(encoder(image, train=train)[-4:], train=train)
        return *levels, levels[-1][:, ::2, ::2]

    def anchors(self, grids: Sequence[Sequence[int]], size: Sequence[int]) -> list[np.ndarray]:
        """Return the anchors [_ 4] of each level of an image of `size`."""
        strides = [(stride, stride) for stride in (*STRIDES, 64)]
        if self.rounded_anchors:
            strides = [[n // cells for n, cells in zip(size, grid, strict=True)] for grid in grids]
        return [
            anchors_lib.grid(*level, self.anchor_ratios, rounded=self.rounded_anchors)
            for level in zip(grids, strides, self.anchor_sizes, strict=True)
        ]

    def judge_anchors(self, levels: Sequence[Features]) -> tuple[list[Array], list[Array]]:
        """Return logits [b a] and offsets [b a 4] of each level's anchors, by the same layers."""
        count = len(self.anchor_ratios)
        convs = [
            self.style.conv(self.width, norm="none", name=f"rpn_conv{i}")
            for i in range(self.rpn_convs)
        ]
        judge, move = (self.predictor(n, 0.01, name) for n, name in
                       ((count, "rpn_score"), (4 * count, "rpn_offsets")))  # fmt: skip
        scores, offsets = [], []
        for x in levels:
            for conv in convs:
                x = conv(x, train=False)
            scores.append(self.wide(judge(x)).reshape(x.shape[0], -1))
            offsets.append(self.wide(move(x)).reshape(x.shape[0], -1, 4))
        return scores, offsets

    def assign_anchors(self, anchors: Float[Array, "a 4"], targets: Targets) -> tuple[Array, Array]:
        """Return the state of each example's anchors, `NEITHER` where not drawn, and objects."""
        low, high = self.rpn_overlaps

        def one(key: Array, *truth: Array) -> tuple[Array, Array]:
            found = detection.assign(anchors, *truth, low=low, high=high, each_object=True)
            state = matching.balance(
                key, found.state, count=self.rpn_samples,
                positives=int(self.rpn_samples * self.rpn_positives),
            )  # fmt: skip
            return state, found.objects

        boxes = targets.boxes.astype(anchors.dtype)
        keys = jax.vmap(lambda key: jax.random.fold_in(key, 0))(targets.keys)
        return jax.vmap(one)(keys, boxes, targets.learned, targets.crowd)

    def choose_regions(self, proposals: detection.Proposals, targets: Targets) -> detection.Sample:
        """Return the regions [b r] to train on: some proposals and true boxes of each example."""
        low, high = self.box_overlaps

        def one(key: Array, boxes: Array, valid: Array, *truth: Array) -> detection.Sample:
            boxes = jnp.concatenate([boxes, truth[0]])
            valid = jnp.concatenate([valid, truth[1]])
            found = detection.assign(boxes, *truth, low=low, high=high)
            found = found._replace(state=jnp.where(valid, found.state, matching.NEITHER))
            return detection.sample(
                key, boxes, found, count=self.box_samples,
                positives=int(self.box_samples * self.box_positives),
            )  # fmt: skip

        truth = targets.boxes.astype(proposals.boxes.dtype), targets.learned, targets.crowd
        keys = jax.vmap(lambda key: jax.random.fold_in(key, 1))(targets.keys)
        return jax.vmap(one)(keys, *jax.lax.stop_gradient(proposals), *truth)

    def judge_regions(
        self, levels: Sequence[Features], boxes: Float[Array, "b r 4"], *, train: bool
    ) -> tuple[Array, Array]:
        """Return logits [b r k + 1] and offsets [b r k 4] of regions."""
        x = self.pool(levels, boxes, self.box_cells)
        for i in range(self.box_convs):
            x = self.style.conv(self.width, name=f"box_conv{i}")(x, train=train)
        x = x.reshape(*boxes.shape[:2], -1)
        for i in range(self.box_layers):
            x = nn.relu(self.style.dense(self.box_width, name=f"box_layer{i}")(x))
        logits = self.predictor(self.num_classes + 1, 0.01, "box_score")(x)
        offsets = self.predictor(4 * self.num_classes, 0.001, "box_offsets")(x)
        return self.wide(logits), self.wide(offsets).reshape(*boxes.shape[:2], -1, 4)

    def mask(
        self, levels: Sequence[Features], boxes: Float[Array, "b p 4"], *, train: bool
    ) -> Float[Array, "b p _ _ k"]:
        """Return the logits of each class's mask on regions."""
        return self.through_mask_head(self.mask_head(), levels, boxes, train=train)

    def learned_masks(
        self,
        levels: Sequence[Features],
        boxes: Float[Array, "b p 4"],
        regions: detection.Sample,
    ) -> Float[Array, "b p _ _ k"]:
        """Return the logits of the masks that are learned, 0 for most slots that stand for none.

        Batch norm would see which ones were left out: with it all slots are computed.
        """
        layers = self.mask_head()
        if self.norm == "batch" or self.is_initializing():
            return self.through_mask_head(layers, levels, boxes, train=True)
        params = self.variables["params"]
        # Flax's own modules cannot be called within a condition; their functions can.
        free = [
            functools.partial(layer.clone(parent=None).apply, {"params": params[layer.name]})
            for layer in layers
        ]

        def logits(boxes: Array) -> Array:
            return self.through_mask_head(free, levels, boxes, train=True)

        needed = regions.positive[:, : boxes.shape[1]]
        return detection.where_needed(logits, needed, boxes)

    def mask_head(self) -> list[Any]:
        """Return the layers of the mask head: convolutions, the enlargement, the classes."""
        convs = [self.style.conv(self.width, name=f"mask_conv{i}") for i in range(self.mask_convs)]
        up = resample.UpConv(self.width, **self.style.dtypes, name="mask_up")
        return [*convs, up, self.style.dense(self.num_classes, name="mask_score")]

    def through_mask_head(
        self,
        layers: Sequence[Callable[..., Any]],
        levels: Sequence[Features],
        boxes: Float[Array, "b p 4"],
        *,
        train: bool,
    ) -> Float[Array, "b p _ _ k"]:
        """Return the logits that the mask head's layers give of regions."""
        *convs, up, score = layers
        x = self.pool(levels, boxes, self.mask_cells)
        for conv in convs:
            x = conv(x, train=train)
        x = self.wide(score(nn.relu(up(x))))
        return x.reshape(*boxes.shape[:2], *x.shape[1:])

    def pool(
        self, levels: Sequence[Features], boxes: Float[Array, "b m 4"], cells: int
    ) -> Float[Array, "_ _ _ c"]:
        """Return the features [b * m cells cells c] of boxes."""
        x = roi_align.pool(
            levels, boxes, strides=STRIDES, cells=cells, sampling=self.sampling,
            aligned=self.aligned,
        )  # fmt: skip
        return x.reshape(-1, *x.shape[2:])

    def find(
        self, levels: Sequence[Features], proposals: detection.Proposals, size: Sequence[int]
    ) -> Detections:
        """Return the objects that proposals hold."""
        logits, offsets = self.judge_regions(levels, proposals.boxes, train=False)
        around = proposals.boxes[:, :, None]
        boxes = boxes_lib.clip(boxes_lib.decode(offsets, around, weights=WEIGHTS), size)

        def one(*of: Array) -> detection.Found:
            return detection.find(
                *of, least=self.score_threshold, candidates=self.candidates,
                threshold=self.suppression, most=self.detections,
            )  # fmt: skip

        found = jax.vmap(one)(nn.softmax(logits)[..., :-1], boxes, proposals.valid)
        masks = chosen(self.mask(levels, found.boxes, train=False), found.classes)
        return Detections(found.boxes, found.scores, found.classes, nn.sigmoid(masks))

    def predictor(self, features: int, deviation: float, name: str) -> Any:
        """Return a linear layer that starts near 0, so that no box is sure of anything."""
        init = nn.initializers.normal(deviation)
        return self.style.dense(features, kernel_init=init, name=name)

    def wide(self, x: Array) -> Array:
        """Return `x` in float32 at least: coordinates and probabilities are of that."""
        return x.astype(sums.widen(x.dtype))


def chosen(masks: Float[Array, "b m h w k"], classes: Array) -> Float[Array, "b m h w"]:
    """Return the masks of one class each; its gradient is no scatter."""
    here = jnp.arange(masks.shape[-1], dtype=classes.dtype) == classes[:, :, None, None, None]
    return jnp.where(here, masks, 0).sum(-1)
