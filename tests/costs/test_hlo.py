"""What is read of a program's text is what the program does."""

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from segjax.costs import hlo


def compiled(function, *shapes, specs, out):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    placed = [NamedSharding(mesh, spec) for spec in specs]
    jitted = jax.jit(function, in_shardings=placed, out_shardings=NamedSharding(mesh, out))
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return jitted.lower(*arguments)


def test_bytes_of_collectives():
    summed = compiled(lambda x, w: (x @ w).sum(0), (16, 4), (4, 6), specs=(P("data"), P()), out=P())
    [found] = hlo.collectives_of(summed.compile().as_text())
    assert found == hlo.Collective("all-reduce", (("f32", (6,)),), 24)
    gathered = compiled(lambda x: x * 2, (16, 4), specs=(P("data"),), out=P())
    found = hlo.collectives_of(gathered.compile().as_text())
    assert hlo.bytes_by_kind(found) == {"all-gather": 16 * 4 * 4}


def test_a_combined_collective_counts_every_array():
    def many(x):
        return jnp.stack([(x * i).sum() for i in range(1, 9)]), x.sum(0)

    text = compiled(many, (16, 4), specs=(P("data"),), out=P()).compile().as_text()
    assert hlo.bytes_by_kind(hlo.collectives_of(text)) == {"all-reduce": 8 * 4 + 4 * 4}


def test_a_collective_in_a_loop_counts_as_often_as_it_runs():
    def looped(x, w):
        def step(w, _):
            return w + jnp.tanh(x @ w).sum(0), None

        return jax.lax.scan(step, w, None, length=5)[0]

    text = compiled(looped, (16, 4), (4, 4), specs=(P("data"), P()), out=P()).compile().as_text()
    assert hlo.bytes_by_kind(hlo.collectives_of(text)) == {"all-reduce": 5 * 4 * 4}


def test_dtypes_of_products():
    def mixed(x, w):
        return x.astype(jnp.bfloat16) @ w.astype(jnp.bfloat16), x @ w

    lowered = compiled(mixed, (16, 4), (4, 6), specs=(P(), P()), out=P())
    assert hlo.product_dtypes(lowered.as_text()) == {"bf16": 1, "f32": 1}


def test_calls_to_the_host_are_seen():
    def noisy(x):
        jax.debug.callback(lambda x: None, x)
        return x

    lowered = compiled(noisy, (16, 4), specs=(P(),), out=P())
    assert hlo.host_calls(lowered.as_text()) and hlo.host_calls(lowered.compile().as_text())
    quiet = compiled(lambda x: x + 1, (16, 4), specs=(P(),), out=P())
    assert not hlo.host_calls(quiet.as_text())
