"""The style of a network: norm, dtypes and rematerialisation, which all of its layers share."""

import dataclasses
import functools
from collections.abc import Callable
from typing import ClassVar, TypedDict, TypeVar

import flax.linen as nn

from segjax.config import kinds, lookup
from segjax.errors import ConfigError
from segjax.layers import conv as conv_lib
from segjax.layers import dense as dense_lib
from segjax.layers import norm as norm_lib
from segjax.layers import remat as remat_lib
from segjax.structs import Features


class Dtypes(TypedDict):
    """The dtypes of a layer, as keyword arguments for what it is made of."""

    compute_dtype: str
    param_dtype: str


@dataclasses.dataclass(frozen=True)
class Style:
    """Norm, dtypes and rematerialisation that all layers of a network share; makes such layers.

    Attributes:
        norm: A name in `norm.NORMS`.
        remat: A name in `remat.POLICIES`.
        compute_dtype: Of features.
        param_dtype: Of parameters.
    """

    norm: str = "batch"
    remat: str = "none"
    compute_dtype: str = "float32"
    param_dtype: str = "float32"

    @property
    def dtypes(self) -> Dtypes:
        """Both dtypes, as keyword arguments."""
        return {"compute_dtype": self.compute_dtype, "param_dtype": self.param_dtype}

    @property
    def conv(self) -> Callable[..., conv_lib.ConvNormAct]:
        """`ConvNormAct` in this style; its other fields, and `norm` anew, are for the caller."""
        return functools.partial(conv_lib.ConvNormAct, norm=self.norm, **self.dtypes)

    @property
    def plain_conv(self) -> Callable[..., conv_lib.Conv]:
        """`Conv` in this style, without a norm."""
        return functools.partial(conv_lib.Conv, **self.dtypes)

    @property
    def separable_conv(self) -> Callable[..., conv_lib.SeparableConv]:
        """`SeparableConv` in this style."""
        return functools.partial(conv_lib.SeparableConv, norm=self.norm, **self.dtypes)

    @property
    def dense(self) -> Callable[..., dense_lib.Dense]:
        """`Dense` in this style."""
        return functools.partial(dense_lib.Dense, **self.dtypes)

    @property
    def normalization(self) -> Callable[..., Callable[[Features], Features]]:
        """`make_norm` in this style, to be called with `train` and `name`."""
        return functools.partial(norm_lib.make_norm, self.norm, param_dtype=self.param_dtype)

    @property
    def layer_norm(self) -> Callable[..., norm_lib.GroupNorm]:
        """Layer norm over channels whatever `norm` is, to be called with `epsilon` and `name`."""
        return functools.partial(norm_lib.GroupNorm, per_pixel=True, param_dtype=self.param_dtype)

    def block(self, kind: type["B"]) -> Callable[..., "B"]:
        """Return `kind`, to be built in this style and rematerialised as `remat` says."""
        return functools.partial(remat_lib.remat(kind, self.remat), style=self)


class Block(nn.Module, kw_only=True):
    """A building block of a network, in the network's style.

    Attributes:
        style: That of the network.
    """

    style: Style

    @property
    def compute_dtype(self) -> str:
        """That of the style."""
        return self.style.compute_dtype

    @property
    def param_dtype(self) -> str:
        """That of the style."""
        return self.style.param_dtype


B = TypeVar("B", bound=Block)


class Network(nn.Module, kw_only=True):
    """A network that a config section describes: the style's fields are keys of the section.

    Attributes:
        remat: A name in `remat.POLICIES`; the blocks are the paper's unless a network says more.
        compute_dtype: Of features.
        param_dtype: Of parameters.
    """

    norm: ClassVar[str] = "none"
    """Networks that leave the choice to the config have a field of this name."""
    dims: ClassVar[tuple[int, ...]] = (1, 2, 3)
    """How many spatial axes an image may have."""
    where: ClassVar[str] = "config.model"
    """Its place in a config, for messages."""

    remat: remat_lib.Policy = "none"
    compute_dtype: kinds.Dtype = "float32"
    param_dtype: kinds.Dtype = "float32"

    @property
    def style(self) -> Style:
        """The style that the fields describe."""
        return Style(self.norm, self.remat, self.compute_dtype, self.param_dtype)

    def check(self) -> None:
        """Raise `ConfigError` for fields that make no such network: here, out of range."""
        fields = lookup.configurable(type(self), ())
        lookup.check_arguments(
            type(self), {name: getattr(self, name) for name in fields}, (), where=self.where
        )

    def prepare(self, image: Features) -> Features:
        """Return what the first layer sees: the image in `compute_dtype`."""
        return image.astype(self.compute_dtype)

    def check_axes(self, image: Features) -> None:
        """Raise `ConfigError` for an image of more or fewer axes than the network can take."""
        if image.ndim - 2 not in self.dims:
            raise ConfigError(
                f"{title(self)}: the image has {image.ndim - 2} spatial axes, expected "
                f"{' or '.join(map(str, self.dims))}. Use another type."
            )


def title(network: nn.Module) -> str:
    """Return what a config calls a network: the name of its module."""
    return type(network).__module__.rpartition(".")[2]
