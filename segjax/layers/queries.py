"""What a model returns that answers with queries: a class and a mask for each of them."""

from typing import Any

import flax.struct


@flax.struct.dataclass
class Answers:
    """Logits of one layer's queries.

    Attributes:
        classes: [b q k]: of each class, and last of none.
        masks: [b h w q]: of the pixels of a smaller image; channels are queries.
    """

    classes: Any
    masks: Any


@flax.struct.dataclass
class Outputs:
    """What a model of queries returns.

    Attributes:
        last: The last layer's answers.
        earlier: Those of the layers before it, first to last, in training alone.
        size: Of the image, which the masks cover exactly.
    """

    last: Answers
    earlier: tuple[Answers, ...] = ()
    size: tuple[int, ...] = flax.struct.field(pytree_node=False, default=())
