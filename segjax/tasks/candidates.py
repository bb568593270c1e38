"""What a model found, on the device: as many candidates for each image, most of them none."""

from typing import Any

import flax.struct


@flax.struct.dataclass
class Candidates:
    """The objects that were found in each image of a batch, the most probable first.

    Attributes:
        scores: float32 [b m] in [0, 1]; 0: there is none.
        classes: int32 [b m]: 0..num_classes-1.
        boxes: float32 [b m 4]: y0 x0 y1 x1 in pixels of the canvas.
        masks: float32 [b m hm wm]: probabilities, of the box alone (Mask R-CNN) or of the whole
            canvas (queries, at stride 4), as the task that made them has it.
    """

    scores: Any
    classes: Any
    boxes: Any
    masks: Any
