"""One number for the exact content of arrays: the same on any device, placement and process count.

A sum of integers, so neither the order of adding nor the sharding can move it. Every word counts
with its place, scrambled; one changed word always changes the sum. It says that bits are as they
were, and nothing against malice.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import numpy as np

from segjax.runtime import distributed

FACTORS = (0x9E3779B1, 0x85EBCA6B, 0xC2B2AE35)
"""Odd, so that multiplying modulo 2**32 loses nothing (the last two are MurmurHash3's)."""


class Copy(NamedTuple):
    """One shard on the host, and where it lies in its array."""

    values: np.ndarray
    shape: tuple[int, ...]
    index: tuple[slice, ...]


def copy(tree: Any) -> list[Copy]:
    """Copy this process's shards of a tree to the host, each part once over all processes."""
    return [
        Copy(np.array(shard.data), leaf.shape, shard.index)
        for leaf in jax.tree.leaves(tree)
        for shard in leaf.addressable_shards
        if shard.replica_id == 0
    ]


def of_copies(copies: Iterable[Copy]) -> int:
    """Return this process's share of the digest, which is the sum of all shares modulo 2**32."""
    return sum(_sum(*each) for each in copies) % 2**32


def of_arrays(tree: Any) -> int:
    """Return the digest of a tree of device arrays, 0 to 2**32 - 1; every process must call it.

    It is added up on the host: a program for it takes longer to compile than all checkpoints of a
    run take to add up.
    """
    return distributed.sum_of_all(of_copies(copy(tree))) % 2**32


def of_host(tree: Any) -> int:
    """Return the digest of a tree of NumPy arrays, equal to that of the same arrays on devices."""
    leaves = map(np.asarray, jax.tree.leaves(tree))
    return sum(_sum(leaf, leaf.shape, (slice(None),) * leaf.ndim) for leaf in leaves) % 2**32


def _sum(part: np.ndarray, shape: tuple[int, ...], index: tuple[slice, ...]) -> int:
    """Return the share of `part`, which lies at `index` in an array of `shape`."""
    size = part.dtype.itemsize
    words = np.ascontiguousarray(part).reshape(*part.shape, 1).view(f"u{min(size, 4)}")
    stride = words.shape[-1]
    place = np.arange(stride, dtype=np.uint32)
    for axis in reversed(range(part.ndim)):
        along = np.arange(*index[axis].indices(shape[axis]), dtype=np.uint32)
        along = along * np.uint32(stride % 2**32)
        place = along.reshape(-1, *[1] * (part.ndim - axis)) + place
        stride *= shape[axis]
    first, second, third = map(np.uint32, FACTORS)
    mixed = (words.astype(np.uint32) ^ (place * first)) * second
    return int(((mixed ^ (mixed >> np.uint32(15))) * third).sum(dtype=np.uint32))
