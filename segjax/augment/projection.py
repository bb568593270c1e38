"""Small matrices of geometry, in closed form: no solver, which would gather a sharded batch."""

from collections.abc import Sequence
from typing import TypeAlias

import jax.numpy as jnp
from jaxtyping import Array, Float32

Matrix: TypeAlias = Sequence[Sequence[Float32[Array, ""]]]


def rotation(angles: Float32[Array, "3"]) -> Float32[Array, "3 3"]:
    """Return the matrix that turns about the first axis, then the second, then the third."""
    (a, b, c), (sa, sb, sc) = jnp.cos(angles), jnp.sin(angles)
    return jnp.array([
        [c * b, c * sb * sa - sc * a, c * sb * a + sc * sa],
        [sc * b, sc * sb * sa + c * a, sc * sb * a - c * sa],
        [-sb, b * sa, b * a],
    ])  # fmt: skip


def of_square(corners: Float32[Array, "4 2"]) -> Matrix:
    """Return the projection of the unit square, of homogeneous (x, y), to (y, x) corners.

    Heckbert 1989, Fundamentals of Texture Mapping and Image Warping, section 2.2.3.
    """
    (y0, x0), (y1, x1), (y2, x2), (y3, x3) = corners
    sum_x, sum_y = x0 - x1 + x2 - x3, y0 - y1 + y2 - y3
    right, up, left, down = x1 - x2, y1 - y2, x3 - x2, y3 - y2
    area = right * down - left * up
    g, h = (sum_x * down - left * sum_y) / area, (right * sum_y - sum_x * up) / area
    return (
        (x1 - x0 + g * x1, x3 - x0 + h * x3, x0),
        (y1 - y0 + g * y1, y3 - y0 + h * y3, y0),
        (g, h, jnp.ones_like(g)),
    )


def adjugate(m: Matrix) -> Matrix:
    """Return the inverse of a 3 x 3 matrix times its determinant."""
    (a, b, c), (d, e, f), (g, h, i) = m
    return (
        (e * i - f * h, c * h - b * i, b * f - c * e),
        (f * g - d * i, a * i - c * g, c * d - a * f),
        (d * h - e * g, b * g - a * h, a * e - b * d),
    )
