"""The objects of a batch as a network sees them while it is trained."""

from typing import Any

import flax.struct


@flax.struct.dataclass
class Targets:
    """The true objects of a batch; `n` is the most that an image may have.

    Attributes:
        boxes: float32 [b n 4]: y0 x0 y1 x1 in pixels of the canvas; 0 where there is no object.
        classes: int32 [b n]: 0..num_classes-1; -1 where there is no object.
        crowd: bool [b n]: several objects that nobody told apart, which are not learned.
        masks: uint8 [b h w ceil(n/8)], packed: object i is bit `i % 8` of byte `i // 8`.
        keys: [b]: what is drawn of an example, such as proposals, comes of its key alone.
    """

    boxes: Any
    classes: Any
    crowd: Any
    masks: Any
    keys: Any

    @property
    def learned(self) -> Any:
        """bool [b n]: whether it is an object that is to be found."""
        return (self.classes >= 0) & ~self.crowd
