"""Optimisers and learning-rate schedules from the `optimizer` section of a config."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeAlias

import jax
import optax

from segjax.config import kinds, lookup, rules, schedule, schema
from segjax.training import freeze
from segjax.training import state as state_lib

Rate: TypeAlias = Annotated[kinds.Real, rules.number(0, 1e6)]
"""A learning rate that may be 0."""
Factor: TypeAlias = Annotated[kinds.Real, rules.number(1e-12, 1e12)]
"""The rate is multiplied or divided by it."""
WeightDecay: TypeAlias = Annotated[kinds.Real, rules.number(0, 1e6)]
MomentDtype: TypeAlias = Annotated[str, rules.one_of("", "float32", "bfloat16")]


def make_rate(section: Mapping[str, Any], clock: schedule.Clock) -> optax.Schedule:
    """Return the learning-rate schedule (step → rate) of the `optimizer` section.

    Raises:
        ConfigError: Unknown or missing keys.
    """
    section = schema.complete("optimizer", section)
    shape = schedule.in_steps(
        section["schedule"], ("warmup", "every"), clock, "config.optimizer.schedule"
    )
    given = {"lr": section["lr"], "total_steps": clock.total_steps}
    return lookup.build("training.optim", shape, where="config.optimizer.schedule", **given)()


def make_optimizer(
    section: Mapping[str, Any], rate: optax.Schedule
) -> optax.GradientTransformation:
    """Return the optimiser of the `optimizer` section, with `make_rate`'s schedule.

    Its keys are those of `schema.OPTIMIZER` and the optimiser's own arguments.

    `moment_dtype="bfloat16"` (sgd, adam, adamw) halves the memory of the first moment, the
    momentum. Only that one is safe: a tenth of it changes at every step, which its 8 bits resolve.
    Of Adam's second moment it is a thousandth, under half a unit in the last of them: where
    gradients shrink, it would stand still.

    Raises:
        ConfigError: Unknown or missing keys, anywhere in the section. A pattern that matches no
            parameter is found by the optimiser's `init`.
    """
    section = schema.complete("optimizer", section)
    common = {key: section.pop(key) for key in schema.OPTIMIZER}
    tx = lookup.build(
        "training.optim", section, where="config.optimizer", takes=("rate", "mask"), also=common
    )(rate, kernels_only if common["decay"] == "kernels" else None)
    if common["clip_norm"]:
        tx = optax.chain(optax.clip_by_global_norm(common["clip_norm"]), tx)
    if common["freeze"]:
        frozen = freeze.Patterns(common["freeze"], where=freeze.WHERE)
        tx = optax.partition({"held": optax.set_to_zero(), "trained": tx}, frozen.labels)
    factors = common["lr_factors"]
    return optax.chain(tx, scale_by_path(factors)) if factors else tx


def scale_by_path(factors: Sequence[Sequence[Any]]) -> optax.GradientTransformation:
    """Multiply updates by the factor of the first pattern that matches their path.

    Args:
        factors: Pairs of a pattern and a factor.
    """
    patterns = freeze.Patterns(
        [pattern for pattern, _ in factors], where="config.optimizer.lr_factors"
    )

    def scale(path: Any, update: jax.Array) -> jax.Array:
        index = patterns.index(state_lib.path_of(path))
        return update if index is None else update * factors[index][1]

    def init(params: Any) -> optax.EmptyState:
        patterns.check(params)
        return optax.EmptyState()

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        return jax.tree.map_with_path(scale, updates), state

    return optax.GradientTransformation(init, update)


def kernels_only(params: Any) -> Any:
    """Mark the weights that decay: those of two or more axes, so neither biases nor norms."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def sgd(
    rate: optax.Schedule,
    mask: Any,
    /,
    *,
    momentum: kinds.Decay = 0.9,
    nesterov: bool = False,
    weight_decay: WeightDecay = 0.0,
    moment_dtype: MomentDtype = "",
) -> optax.GradientTransformation:
    """Stochastic gradient descent with momentum and coupled L2 weight decay, as in PyTorch."""
    return optax.chain(
        optax.add_decayed_weights(weight_decay, mask),
        optax.sgd(rate, momentum, nesterov, accumulator_dtype=moment_dtype or None),
    )


def adam(
    rate: optax.Schedule,
    mask: Any,
    /,
    *,
    b1: kinds.Decay = 0.9,
    b2: kinds.Decay = 0.999,
    eps: kinds.Epsilon = 1e-8,
    weight_decay: WeightDecay = 0.0,
    moment_dtype: MomentDtype = "",
) -> optax.GradientTransformation:
    """Adam (Kingma & Ba 2015) with coupled L2 weight decay, as in PyTorch."""
    return optax.chain(
        optax.add_decayed_weights(weight_decay, mask),
        optax.adam(rate, b1=b1, b2=b2, eps=eps, mu_dtype=moment_dtype or None),
    )


def adamw(
    rate: optax.Schedule,
    mask: Any,
    /,
    *,
    b1: kinds.Decay = 0.9,
    b2: kinds.Decay = 0.999,
    eps: kinds.Epsilon = 1e-8,
    weight_decay: WeightDecay = 1e-2,
    moment_dtype: MomentDtype = "",
) -> optax.GradientTransformation:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""
    return optax.adamw(
        rate, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay, mask=mask,
        mu_dtype=moment_dtype or None,
    )  # fmt: skip


def lamb(
    rate: optax.Schedule,
    mask: Any,
    /,
    *,
    b1: kinds.Decay = 0.9,
    b2: kinds.Decay = 0.999,
    eps: kinds.Epsilon = 1e-6,
    weight_decay: WeightDecay = 1e-2,
) -> optax.GradientTransformation:
    """LAMB (You et al. 2020): AdamW with a trust ratio a layer, for large batches."""
    return optax.lamb(rate, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay, mask=mask)


def constant(*, lr: float, total_steps: int, warmup_steps: kinds.Count = 0) -> optax.Schedule:
    """Keep the rate at `lr` after a linear warm-up."""
    return _warm_up(optax.constant_schedule(lr), lr, warmup_steps)


def poly(
    *,
    lr: float,
    total_steps: int,
    warmup_steps: kinds.Count = 0,
    power: Annotated[kinds.Real, rules.number(0, 100)] = 0.9,
    end: Rate = 0.0,
) -> optax.Schedule:
    """Decay as (1 − t/T)^power, the schedule of DeepLab (Chen et al. 2018)."""
    steps = max(1, total_steps - warmup_steps)
    return _warm_up(optax.polynomial_schedule(lr, end, power, steps), lr, warmup_steps)


def cosine(
    *, lr: float, total_steps: int, warmup_steps: kinds.Count = 0, end: Rate = 0.0
) -> optax.Schedule:
    """Decay along half a cosine to `end` (Loshchilov & Hutter 2017)."""
    steps = max(1, total_steps - warmup_steps)
    return _warm_up(optax.cosine_decay_schedule(lr, steps, alpha=end / lr), lr, warmup_steps)


def one_cycle(
    *,
    lr: float,
    total_steps: int,
    rise: kinds.Probability = 0.3,
    start_factor: Factor = 25.0,
    end_factor: Factor = 1e4,
) -> optax.Schedule:
    """Rise from `lr / start_factor` for the share `rise` of the run, then fall (Smith 2018).

    The fall ends at `lr / start_factor / end_factor`.
    """
    steps = max(1, total_steps)
    return optax.cosine_onecycle_schedule(steps, lr, rise, start_factor, end_factor)


def exponential(
    *, lr: float, total_steps: int, start: Annotated[kinds.Real, rules.number(1e-12, 1e6)]
) -> optax.Schedule:
    """Go from `start` to `lr` by the same factor at every step: the range test (Smith 2017)."""
    steps = max(1, total_steps - 1)
    return optax.exponential_decay(start, steps, lr / start)


def step(
    *,
    lr: float,
    total_steps: int,
    every_steps: Annotated[int, rules.whole(1)],
    factor: Annotated[kinds.Real, rules.number(1e-12, 1)] = 0.1,
    warmup_steps: kinds.Count = 0,
) -> optax.Schedule:
    """Multiply the rate by `factor` after every `every_steps` steps."""
    staircase = optax.exponential_decay(lr, every_steps, factor, staircase=True)
    return _warm_up(staircase, lr, warmup_steps)


def _warm_up(after: optax.Schedule, lr: float, warmup_steps: int) -> optax.Schedule:
    if not warmup_steps:
        return after
    # The first step already moves: rate lr/n at step 0, lr at step n - 1.
    rise = optax.linear_schedule(lr / warmup_steps, lr, max(1, warmup_steps - 1))
    return optax.join_schedules([rise, after], [warmup_steps])
