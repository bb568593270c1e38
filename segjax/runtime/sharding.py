"""Placement: one mesh, and one rule for each kind of array. Nothing else names a mesh axis."""

import collections
import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from segjax.errors import ConfigError
from segjax.structs import Batch, Schema

T = TypeVar("T")

AXES = ("data", "fsdp", "space")
TRIAL = "trial"
"""An axis before these, if `config.trials` asks for it: what is not of one trial is on all."""

EXAMPLES = ("data", "fsdp")
"""The axes that the examples of a batch are dealt to."""

_over = jax.make_user_context(None)  # part of jit's cache key: meshes never share a program
_whole = jax.make_user_context(False)


def make_mesh(*, data: int = -1, fsdp: int = 1, space: int = 1, trials: int = 0) -> Mesh:
    """Return a mesh over all devices; one axis may be -1 and takes what the others leave.

    With `trials` each has as many devices, and the mesh an axis for them.

    Raises:
        ConfigError: The sizes do not multiply to the number of devices.
    """
    # Each process's devices side by side: it then holds a run of the batch's rows, as it read them.
    devices = sorted(jax.devices(), key=lambda device: device.process_index)
    hint = ""
    if devices[0].platform == "cpu":
        hint = f" A CPU stands in for several devices with JAX_NUM_CPU_DEVICES={trials or 8} set."
    share = len(devices) // (trials or 1)
    if trials and len(devices) % trials:
        fits = [n for n in range(2, len(devices) + 1) if len(devices) % n == 0]
        raise ConfigError(
            f"config.trials: {trials} trials do not divide {len(devices)} devices. Use "
            f"{' or '.join(map(str, fits)) or 'more devices'}.{hint}"
        )
    sizes = [data, fsdp, space]
    known = int(np.prod([size for size in sizes if size != -1]))
    if sizes.count(-1) == 1 and known > 0 and share % known == 0:
        sizes[sizes.index(-1)] = share // known
    if min(sizes) < 1 or np.prod(sizes) != share:
        each = f" for each of {trials} trials" if trials else ""
        raise ConfigError(
            f"config.mesh: data={data} × fsdp={fsdp} × space={space} does not make {share} "
            f"devices{each}. Use sizes whose product is {share}; one of them may be -1.{hint}"
        )
    if trials:
        return Mesh(np.asarray(devices).reshape([trials, *sizes]), (TRIAL, *AXES))
    return Mesh(np.asarray(devices).reshape(sizes), AXES)


def batch_sharding(mesh: Mesh, schema: Schema) -> dict[str, NamedSharding]:
    """Return the placement of every array of a batch with the fields of `schema`.

    Examples lie over data × fsdp, and the first axis in space of what has one (rows of images,
    slices of volumes, samples of signals) over space.
    """
    split, unsplit = (NamedSharding(mesh, spec) for spec in (P(EXAMPLES, "space"), P(EXAMPLES)))
    fields = {name: split if field.is_spatial else unsplit for name, field in schema.items()}
    return fields | {"mask": unsplit, "index": unsplit}


def constrain(batch: Batch, mesh: Mesh | None, schema: Schema) -> Batch:
    """Return the batch laid out as `batch_sharding` inside a compiled program; None: as it comes.

    Augmentation that moves rows leaves them on every device; from here on each has its own again.
    """
    if mesh is None:
        return batch
    return jax.lax.with_sharding_constraint(dict(batch), batch_sharding(mesh, schema))


def on_own_rows(
    function: Callable[..., T], mesh: Mesh | None, *, count: int
) -> Callable[..., T] | None:
    """Return a function of whole examples in a form in which each device computes its own rows.

    Args:
        function: From arrays with a leading axis of examples to such arrays.
        mesh: That they lie on; None: it is not known.
        count: Of examples.

    Returns:
        The function; None where it cannot have the rows by itself: they lie somewhere unknown, do
        not divide over the devices, or several devices hold parts of an example.
    """
    here = jax.sharding.get_abstract_mesh()
    if not here.empty:  # inside of a program for each device, or of one trial
        return function if set(here.manual_axes) == set(here.axis_names) else None
    if mesh is None or mesh.shape["space"] > 1 or TRIAL in mesh.shape:
        return None
    if mesh.size == 1 or count % mesh.size:
        return function if mesh.size == 1 else None
    rows = P(EXAMPLES)
    return jax.shard_map(function, mesh=mesh, in_specs=rows, out_specs=rows, check_vma=False)


def over(mesh: Mesh | None) -> AbstractContextManager[None]:
    """Return a context in which `keep_rows` places features on `mesh`; None: not at all."""
    return _over(mesh)


def whole_rows() -> AbstractContextManager[None]:
    """Return a context in which `keep_rows` gives all rows to all devices: of small grids."""
    return _whole(True)


def keep_rows(x: jax.Array, *, partner: int) -> jax.Array:
    """Return features [b *space c], and so their gradient, with rows split as those of an image.

    Rows that do not divide are split unevenly. Where some device would have none of them, or none
    of the `partner` rows at the other end of an operation, all devices have all: XLA computes
    wrong gradients, or fails to compile, where a device has nothing but padding. Left to itself it
    splits 12 rows over 4 of 8 devices and holds each part twice, and then counts both in its
    gradient of a convolution by the kernel.
    """
    mesh = _over.value
    if mesh is None or not splits_rows():
        return x
    devices = mesh.shape["space"]
    sides = (x.shape[1], partner)
    split = not _whole.value and all(-(-rows // devices) * (devices - 1) < rows for rows in sides)
    here = jax.sharding.get_abstract_mesh()  # of one trial: the part that `mesh` leaves to it
    place = NamedSharding(mesh if here.empty else here, P(EXAMPLES, "space" if split else None))
    return jax.lax.with_sharding_constraint(x, place)


def splits_rows() -> bool:
    """Return whether `keep_rows` splits any."""
    mesh = _over.value
    return mesh is not None and mesh.shape["space"] > 1


def replicated(mesh: Mesh) -> NamedSharding:
    """Return the placement of what every device holds in full."""
    return NamedSharding(mesh, P())


def placement_of(shapes: Any) -> Any:
    """Return the placement that a tree of shapes carries."""
    return jax.tree.map(lambda leaf: leaf.sharding, shapes)


def with_placement(shapes: Any, placement: Any) -> Any:
    """Return a tree of shapes that carry their placement."""
    return jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
        shapes,
        placement,
    )


def of_each_trial(place: Any) -> NamedSharding:
    """Return the placement of arrays that have an axis of trials in front of one placed so."""
    return NamedSharding(place.mesh, P(TRIAL, *place.spec))


def infer(shapes: Any, mesh: Mesh) -> Any:
    """Return the placement of a tree of parameters or optimiser state: largest axis over `fsdp`.

    A leaf without an axis that `fsdp` divides is held in full by every device, and so are vectors:
    small, and a split running mean would have XLA split activations by channels to match.
    """
    size = mesh.shape["fsdp"]

    def place(leaf: jax.ShapeDtypeStruct) -> NamedSharding:
        divisible = [axis for axis, n in enumerate(leaf.shape) if n % size == 0 and n >= size]
        if size == 1 or not divisible or len(leaf.shape) < 2:
            return replicated(mesh)
        longest = max(divisible, key=lambda axis: leaf.shape[axis])
        return NamedSharding(mesh, P(*[None] * longest, "fsdp"))

    return jax.tree.map(place, shapes)


def replicate(variables: Any, mesh: Mesh | None) -> Any:
    """Return variables in full on every device, for use inside a compiled program.

    Their gradient is split over `fsdp` again. Without this XLA may leave a kernel split by channels
    and split activations to match: it then gathers those instead.
    """
    if mesh is None or mesh.shape["fsdp"] == 1:
        return variables
    placement = infer(jax.tree.map(jax.typeof, variables), mesh)
    return jax.tree.map(lambda leaf, place: _replicate(place, leaf), variables, placement)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _replicate(place: NamedSharding, leaf: jax.Array) -> jax.Array:
    return jax.lax.with_sharding_constraint(leaf, NamedSharding(place.mesh, P()))


def _replicate_forward(place: NamedSharding, leaf: jax.Array) -> tuple[jax.Array, None]:
    return _replicate(place, leaf), None


def _replicate_gradient(place: NamedSharding, _: None, gradient: jax.Array) -> tuple[jax.Array]:
    # In full first: for a part of it XLA might gather the activations that it comes from.
    gradient = jax.lax.with_sharding_constraint(gradient, NamedSharding(place.mesh, P()))
    return (jax.lax.with_sharding_constraint(gradient, place),)


_replicate.defvjp(_replicate_forward, _replicate_gradient)


def check_divides(batch_size: int, length: int, mesh: Mesh, *, where: str) -> None:
    """Refuse a batch or an image that the mesh cannot split evenly, naming sizes that it can.

    Args:
        batch_size: Of the global batch.
        length: Of the canvas along its first axis in space: the height of images, the depth of
            volumes, the length of signals.
        mesh: Over all devices.
        where: Whose they are, for messages.

    Raises:
        ConfigError: Examples do not divide by data × fsdp, or the first axis in space by space.
    """
    examples, space = mesh.shape["data"] * mesh.shape["fsdp"], mesh.shape["space"]
    first = "length of the first axis in space"
    for what, got, parts in (("batch_size", batch_size, examples), (first, length, space)):
        if got % parts:
            below, above = got // parts * parts, -(-got // parts) * parts
            fits = f"{below} or {above}" if below else f"{above}"
            raise ConfigError(
                f"{where}: {what} {got} does not divide over {parts} devices. Use {fits}, "
                "or another config.mesh."
            )


def check_logical_shards(shards: int, batch_size: int, microbatches: int, mesh: Mesh) -> None:
    """Refuse `config.deterministic_reduction` that does not fit; 0, off, always does.

    Raises:
        ConfigError: It does not fit the devices, the batch or the microbatches.
    """
    name = f"config.deterministic_reduction={shards}"
    if shards and (shards % mesh.size or batch_size % shards):
        raise ConfigError(
            f"{name}: expected a multiple of the {mesh.size} devices that divides input.batch_size "
            f"({batch_size})."
        )
    if shards and (mesh.shape["data"] != mesh.size or microbatches != 1):
        raise ConfigError(
            f"{name}: expected all {mesh.size} devices on config.mesh.data, and microbatches=1 (a "
            "device takes its shards one after the other already)."
        )


def row_block(mesh: Mesh) -> tuple[int, int]:
    """Return which block of a batch's rows this process reads, and how many blocks there are.

    Processes that hold parts of the same images (`space` over more devices than one process has)
    read the same rows.

    Raises:
        ConfigError: The rows do not fall to the processes in whole blocks.
    """
    columns = mesh.devices.reshape(-1, mesh.shape["data"] * mesh.shape["fsdp"], mesh.shape["space"])
    columns = columns.swapaxes(0, 1).reshape(columns.shape[1], -1)  # all trials read the same rows
    me = jax.process_index()
    mine = [i for i, row in enumerate(columns) if any(d.process_index == me for d in row)]
    size = len(mine)
    if mine != list(range(mine[0], mine[0] + size)) or len(columns) % size or mine[0] % size:
        raise ConfigError(
            f"config.mesh: space={mesh.shape['space']} does not fit processes of "
            f"{jax.local_device_count()} devices: use a divisor or a multiple of that."
        )
    return mine[0] // size, len(columns) // size


def to_device(
    batches: Iterator[Batch], mesh: Mesh, schema: Schema, *, depth: int = 2
) -> Iterator[Batch]:
    """Yield batches as global arrays, `depth` transfers ahead of their use."""
    sharding, (_, blocks) = batch_sharding(mesh, schema), row_block(mesh)
    queue: collections.deque = collections.deque()
    for batch in batches:
        queue.append(put(dict(batch), sharding, blocks))
        if len(queue) > depth:
            yield queue.popleft()
    while queue:
        yield queue.popleft()


def put(rows: Any, placement: Any, blocks: int) -> Any:
    """Return a tree of this process's rows as global arrays, of `blocks` times as many rows."""
    shapes = jax.tree.map(lambda x: (len(x) * blocks, *x.shape[1:]), rows)
    return jax.make_array_from_process_local_data(placement, rows, shapes)


def fetch(tree: Any) -> Any:
    """Return a tree of global arrays as NumPy, complete on every process."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    return multihost_utils.process_allgather(tree, tiled=True)
