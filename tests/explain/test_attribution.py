"""Maps of a network: what the papers promise of them, on networks small enough to know."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.config import lookup
from segjax.errors import ConfigError
from segjax.explain import attribution, methods, network, sanity
from segjax.structs import Outputs
from tests.outside import recorded

SIZE = (24, 20)


class Small(nn.Module):
    """Two convolutions and a classifier; it sees the columns before `sees` alone."""

    sees: int = 0

    @nn.compact
    def __call__(self, image, *, train):
        columns = jnp.arange(image.shape[2])[:, None]
        x = jnp.where(columns < self.sees, image, 0) if self.sees else image
        x = nn.relu(nn.Conv(8, (3, 3), name="first")(x))
        half = nn.relu(nn.Conv(8, (3, 3), strides=2, name="second")(x))
        x = jax.image.resize(half, (*half.shape[:1], *x.shape[1:3], 8), "linear") + x
        return Outputs(nn.Conv(3, (1, 1), name="head")(x))


def net_of(model, seed=0):
    losses = [dict(type="pixel:cross_entropy", weight=1.0)]
    task = lookup.build(
        "tasks", dict(type="semantic", losses=losses), where="config.task", num_classes=3
    )
    init = recorded.compiled(lambda key, x: model.init(key, x, train=False))
    variables = init(jax.random.key(seed), jnp.zeros((1, *SIZE, 2)))
    return network.Net(
        network.Passes(model, task, recorded.QUICK), {"batch_stats": {}, **variables}
    )


def image(seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(1, *SIZE, 2)), jnp.float32)


def everywhere():
    return np.ones(SIZE, bool)


@pytest.fixture(scope="module")
def net():
    return net_of(Small())


def test_integrated_gradients_are_complete_and_name_only_what_is_seen(net):
    """They add up to what the score differs by from the baseline's, here from its own numbers."""
    region = np.zeros(SIZE, bool)
    region[4:9, 3:8] = True
    x, baseline = image(), jnp.zeros_like(image())
    objective = network.objective_of(1, region)
    found = attribution.integrated_gradients(net, x, objective, baseline=baseline, steps=8)
    scores = net.passes.scores(net.variables, jnp.concatenate([x, baseline]))[..., 1]
    one, other = np.asarray(scores)[:, region].mean(axis=1)
    assert found.total == pytest.approx(one - other, rel=1e-5)
    assert abs(found.map.sum() - found.total) <= 0.01 * abs(found.total)
    assert found.missing <= 0.01 and found.steps >= 8
    near = np.zeros(SIZE, bool)
    near[:14, :14] = True  # what convolutions of the region's pixels can see
    assert np.abs(found.map[near]).max() > 0 and not found.map[~near].any()


def test_too_few_steps_are_said():
    """Of a step they miss what a steep score does between."""

    class Steep(nn.Module):
        @nn.compact
        def __call__(self, image, *, train):
            self.param("unused", nn.initializers.zeros, ())
            return Outputs(jnp.tanh(30 * image.sum(-1, keepdims=True)) * jnp.ones(3))

    found = attribution.integrated_gradients(
        net_of(Steep()), 1 + 0 * image(), network.objective_of(0, everywhere()),
        baseline=0 * image(), steps=2, most=3,
    )  # fmt: skip
    assert found.steps == 2 and found.missing > 0.5


@pytest.mark.parametrize("module", ["first", "second"])
def test_grad_cam_of_a_network_that_sees_one_region_lights_only_that(module):
    """Beyond the columns that it sees, and what convolutions and enlarging reach, all is 0."""
    found = attribution.grad_cam(
        net_of(Small(sees=6)), image(), network.objective_of(2, everywhere()), module=module
    )
    without = attribution.grad_cam(
        net_of(Small()), image(), network.objective_of(2, everywhere()), module=module
    )
    assert found.shape == SIZE and found.min() >= 0
    assert found[:, :6].max() > 0 and not found[:, 11:].any()
    assert without[:, 11:].max() > 0


def test_grad_cam_is_the_formula(net):
    """Weights of channels by differences of the score, as each channel is raised everywhere."""
    x, objective = image(), network.objective_of(0, everywhere())
    features = np.asarray(network.features(net, x, "second"))
    found = attribution.grad_cam(net, x, objective, module="second")
    step = 1e-2

    def raised(channel):
        def listen(path, output):
            return output + step * (jnp.arange(8) == channel) if path == "second" else output

        return float(objective(net.passes.scores(net.variables, x, listen=listen))[0])

    slopes = [(raised(k) - raised(-1)) / step for k in range(8)]
    cells = features.shape[1] * features.shape[2]
    cam = np.maximum((features[0] * np.array(slopes) / cells).sum(-1), 0)
    expected = np.asarray(network.resized(jnp.asarray(cam)[..., None], SIZE))[..., 0]
    np.testing.assert_allclose(found, expected, rtol=2e-2, atol=2e-2 * expected.max())


def test_occlusion_costs_what_is_hidden():
    """Of a network that reads single pixels it is their share of the score, less the baseline's."""

    class Reads(nn.Module):
        @nn.compact
        def __call__(self, image, *, train):
            self.param("unused", nn.initializers.zeros, ())
            return Outputs(image.sum(-1, keepdims=True) * jnp.arange(3.0))

    x, region = image(), np.zeros(SIZE, bool)
    region[:, :10] = True
    found = attribution.occlusion(
        net_of(Reads()), x, network.objective_of(2, region), baseline=0.5 + 0 * x,
        window=(4, 5), stride=(4, 5),
    )  # fmt: skip
    cost = 2 * (np.asarray(x)[0] - 0.5).sum(-1) * region / region.sum()
    blocks = cost.reshape(6, 4, 4, 5).sum((1, 3))
    np.testing.assert_allclose(found, blocks.repeat(4, 0).repeat(5, 1), atol=1e-5)


def test_windows_cover_every_pixel_and_the_last_is_cut_off():
    count = np.zeros((7, 10), int)
    for place in attribution.windows((7, 10), (3, 4), (2, 3)):
        count[place] += 1
    assert count.min() >= 1 and attribution.rounds(9) == 2
    assert attribution.windows((5,), (9,), (4,)) == [(slice(0, 5),)]


def test_weights_that_have_learned_nothing_give_other_maps(net):
    """Each method's map changes; that of the same weights is its own likeness."""
    x = image()
    other = sanity.randomized(net, x)
    objective = network.objective_of(1, everywhere())
    maps = {
        "gradcam": lambda net: attribution.grad_cam(net, x, objective, module="first"),
        "gradients": lambda net: (
            attribution.integrated_gradients(net, x, objective, baseline=0 * x, steps=8).map
        ),
        "occlusion": lambda net: attribution.occlusion(
            net, x, objective, baseline=0 * x, window=(8, 8), stride=(4, 4)
        ),
    }
    for name, make in maps.items():
        first, second = make(net), make(other)
        assert sanity.likeness(first, second) < 0.9, name
        assert sanity.likeness(first, first) == pytest.approx(1), name
    assert sanity.likeness(np.ones((4, 4)), np.ones((4, 4))) == 0


def test_modules_are_chosen_by_path_or_at_the_bottleneck(net):
    assert network.choose(net, image(), "").path == "second"
    assert network.choose(net, image(), "first").shape == (1, *SIZE, 8)
    with pytest.raises(ConfigError, match="--module=secnd.*Did you mean 'second'"):
        network.choose(net, image(), "secnd")


def test_main_components_are_those_of_a_singular_value_decomposition():
    values = np.random.default_rng(0).normal(size=(50, 6)) @ np.diag([9, 5, 3, 1, 1, 1])
    found, shares = methods.principal(values)
    centred = values - values.mean(0)
    _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(np.abs(found), np.abs(centred @ axes[:3].T), atol=1e-8)
    np.testing.assert_allclose(shares, (sizes**2 / (sizes**2).sum())[:3])
    assert methods.principal(values[:, :2])[0][:, 2].tolist() == [0] * 50
