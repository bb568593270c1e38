"""The plan says what the compiled step says, and predicts by its own assumptions."""

import math

import jax
import pytest

from segjax.assemble import program as program_lib
from segjax.assemble.setup import make_setup
from segjax.commands import plan as command
from segjax.costs import plan, timing
from tests import program


@pytest.mark.slow
@pytest.mark.parametrize("mesh", [(8, 1), (1, 8)])
def test_the_plan_is_the_compiled_steps(mesh, tiny_config):
    config = tiny_config()
    config["mesh"].update(data=mesh[0], fsdp=mesh[1])
    setup, _ = make_setup(config)
    made = command.make_plan(setup)
    key = jax.random.key(0)
    _, step, target = program_lib.make_step(setup, key)
    compiled = step.lower(target, setup.batch_shapes(), key).compile()
    memory = compiled.memory_analysis()
    peak = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    assert sum(made.memory.values()) == pytest.approx(peak, rel=0.15)
    assert made.flops * 8 == pytest.approx(8 * compiled.cost_analysis()["flops"], rel=0.35)
    params = sum(leaf.size for leaf in jax.tree.leaves(target.params))
    stats = sum(leaf.size for leaf in jax.tree.leaves(target.batch_stats))
    if mesh == (8, 1):  # gradients, batch statistics, and a few scalars: nothing else
        moved = made.collectives.pop("all-reduce")
        assert not made.collectives
        assert 0 <= moved - 4 * (params + stats) <= 64


@pytest.mark.slow
def test_the_largest_batch_needs_the_memory_it_is_for(tiny_config):
    config = tiny_config(microbatches=2, input__batch_size=16)
    setup, _ = make_setup(config)
    made = command.make_plan(setup)
    device = 20e6
    batch_size = plan.largest_batch(made, device)
    assert batch_size % 16 == 0 and batch_size > 4 * made.batch_size  # 8 devices, 2 microbatches
    key = jax.random.key(0)
    full = setup._replace(clock=setup.clock._replace(batch_size=batch_size))
    compiled = program_lib.trace(full, key, key).compile()
    needed = sum(compiled.costs.memory.values())
    assert needed == pytest.approx(plan.ROOM * device, rel=0.15)
    assert (
        plan.largest_batch(made, (sum(made.memory.values()) + 1000) / plan.ROOM) == made.batch_size
    )
    assert plan.largest_batch(made, 1e3) == 0


def test_seconds_follow_the_assumptions():
    spec = timing.Spec(flops=1e12, memory=1e9, bandwidth=1e9, link=1e9)
    moved = {"all-reduce": 10**9, "all-gather": 10**9}
    made = plan.Plan(4, 8, 4, {"temporary": 1}, 0.0, 1e12, 1e9, moved, False)
    compute, memory, links = plan.seconds(made, spec)
    assert compute == pytest.approx(1 / plan.COMPUTE)
    assert memory == pytest.approx(2 / plan.MEMORY)
    assert links == pytest.approx((2 + 1) * 3 / 4 / plan.LINK)
    assert plan.seconds(made._replace(wide=True), spec)[0] == pytest.approx(2 * compute)
    assert plan.seconds(made._replace(devices=1), spec)[2] == 0
    assert all(math.isfinite(x) and x > 0 for spec in timing.SPECS.values() for x in spec)


@pytest.mark.slow
def test_through_the_command_line():
    arguments = ["--mode=plan", "--config=configs/quickstart.py:debug", "--devices=4"]
    code, text = program.run(*arguments)
    assert code == 0, text
    assert "4 devices, mesh data 4" in text and "all-reduce" in text and "NVIDIA H100" in text
    assert "largest" in text
    code, text = program.run(*arguments[:2])
    assert code == 2 and "needs --devices" in text
