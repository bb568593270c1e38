import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from segjax.runs import digest
from segjax.runtime import sharding


def arrays():
    values = np.random.default_rng(0).normal(size=(8, 6, 4)).astype(np.float32)
    return {
        "float32": values,
        "bfloat16": np.asarray(jnp.asarray(values, jnp.bfloat16)),
        "uint8": (values * 40 + 100).astype(np.uint8),
        "int32": np.arange(8, dtype=np.int32),
        "bool": np.arange(8) % 3 == 0,
        "step": np.int32(7),
    }


def test_the_same_number_on_any_placement_and_on_the_host():
    host = arrays()
    numbers = {digest.of_host(host), digest.of_arrays(jax.tree.map(jnp.asarray, host))}
    for sizes, spec in (
        (dict(data=8), P("data")),
        (dict(data=2, space=4), P("data", None, "space")),
    ):
        mesh = sharding.make_mesh(**sizes)
        placed = {
            name: jax.device_put(x, NamedSharding(mesh, P(*spec[: x.ndim])))
            for name, x in host.items()
        }
        numbers.add(digest.of_arrays(placed))
    assert len(numbers) == 1


def test_float64_too(float64):
    host = {"x": np.random.default_rng(1).normal(size=(3, 5))}
    assert digest.of_host(host) == digest.of_arrays(jax.tree.map(jnp.asarray, host))


@pytest.mark.parametrize("name", list(arrays()))
def test_every_changed_bit_and_every_swap_shows(name):
    host, changed = arrays(), arrays()
    flat = np.array(changed[name]).reshape(-1)
    flat.view(np.uint8)[-1] ^= 1
    changed[name] = flat.reshape(host[name].shape)
    assert digest.of_host(changed) != digest.of_host(host)
    if flat.size > 1:
        assert digest.of_host({name: host[name][::-1]}) != digest.of_host({name: host[name]})
