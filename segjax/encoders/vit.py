"""Vision Transformer (Dosovitskiy et al. 2020, arXiv:2010.11929, figure 1), as DINOv2 has it."""

from typing import Annotated

from jaxtyping import Array, Float

from segjax.config import rules
from segjax.encoders import base
from segjax.encoders.base import Shape
from segjax.kernels import fusion, sums
from segjax.layers import attention, resample

SHAPES = {
    "s": Shape(384, 12),
    "b": Shape(768, 12),
    "l": Shape(1024, 24),
    "g": Shape(1536, 40, 4096 / 1536, gated=True),
}


class Encoder(base.Plain):
    """Return normalised features of chosen blocks, all at stride `patch`.

    DINOv2 (Oquab et al. 2023, arXiv:2304.07193) scales residual branches channel by channel.
    Positions are learnt, and interpolated bicubically to the image's grid of patches.

    Attributes:
        variant: 's', 'b', 'l' or 'g': 384, 768, 1024 or 1536 channels.
        registers: 4 in the weights that are published "with registers" (arXiv:2309.16588).
        grid: Patches along a side of the images that positions were learnt on: 37 of 518 pixels.
        class_position: The class token has a learnt position too; timm's with registers and EoMT's
            have none.
    """

    shapes = SHAPES

    variant: Annotated[str, rules.one_of(*SHAPES)] = "s"
    grid: Annotated[int, rules.whole(1, 1024)] = 37
    class_position: bool = True

    def setup(self) -> None:
        """Make the layers, and the table of positions."""
        super().setup()
        shape = (1, self.class_position + self.grid**2, self.shape.width)
        self.positions = self.param("positions", attention.INIT, shape, self.param_dtype)

    def place(
        self, patches: Float[Array, "b h w c"]
    ) -> tuple[Float[Array, "1 1 c"], Float[Array, "b h w c"], None]:
        """Return the class token and the patches with their positions."""
        table = self.positions.astype(sums.widen(self.positions.dtype))
        own = table[:, self.class_position :].reshape(1, self.grid, self.grid, -1)
        own = resample.resize(own, patches.shape[1:-1], method="bicubic")
        token = self.token.astype(table.dtype)
        if self.class_position:
            token = token + table[:, :1]
        token = token.astype(self.compute_dtype)
        # oneDNN's convolution adds what all images share 500 times as slowly as XLA does.
        return token, fusion.barrier(patches) + own.astype(self.compute_dtype), None
