"""Our layers, losses, optimisers and metrics give what others' gave; we read PyTorch's files."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from segjax.audit import disagreement
from segjax.config import schedule
from segjax.errors import DataError
from segjax.layers import norm, queries, resample
from segjax.losses import pixel, region
from segjax.metrics import contours, surface
from segjax.models import segnet
from segjax.pretrained import convert, files, hub
from segjax.tasks import query_semantic
from segjax.training import optim
from tests.golden.outside import of_cleanlab
from tests.outside import recorded


@pytest.fixture(autouse=True)
def double(float64):
    """Compute in float64."""


COMPARED: set[str] = set()
"""The cases that this file compares."""


def each(family: str, kind: str) -> pytest.MarkDecorator:
    """Run a test for each of a family's recorded cases of a kind, that before the first hyphen."""
    cases = recorded.load(family)[1]
    names = [f"{family}-{name}" for name in cases if name.split("-")[0] == kind]
    COMPARED.update(names)
    return pytest.mark.parametrize("name", names)


def close(ours: Any, theirs: Any, *, tolerance: float = 1e-10) -> None:
    """Compare to that tolerance, relative and absolute."""
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


def check(arrays: Mapping[str, np.ndarray], layer: Any, params: Any = None) -> Any:
    """Compare a layer's value and its gradient along the recorded slopes; return that of params."""

    def both_ways(params, x, slope):
        y, pull = jax.vjp(layer, params, x)
        return y, *pull(slope)

    inputs = (jnp.asarray(arrays[name]) for name in ("x", "slope"))
    y, slopes, dx = recorded.compiled(both_ways)(params or {}, *inputs)
    close(y, arrays["y"])
    close(dx, arrays["dx"])
    return slopes


@each("torch", "resize")
def test_resize(name):
    case = recorded.case(name)
    resize = functools.partial(resample.resize, **case.about)
    check(case.arrays, lambda _, x: resize(x))


@each("torch", "max_pool")
def test_maximum_over_windows(name):
    case = recorded.case(name)
    check(case.arrays, lambda _, x: resample.max_pool(x, window=case.about["window"]))


@each("torch", "bins")
def test_averages_over_bins(name):
    case = recorded.case(name)
    check(case.arrays, lambda _, x: resample.adaptive_avg_pool(x, case.about["size"]))


@each("huggingface", "matched")
def test_loss_of_matched_queries(name, monkeypatch):
    """The same points for every mask; a region for each class of the label. The last layer's first.

    Of EoMT one layer's, of Mask2Former those of three, the terms of all summed.
    """
    case = recorded.case(name)
    x = case.arrays

    def points(key, shape, dtype):
        return jnp.broadcast_to(recorded.points(shape[-2]), shape)

    monkeypatch.setattr(jax.random, "uniform", points)
    task = query_semantic.Task(num_classes=4, queries=5, **case.about)
    batch = {"label": jnp.asarray(x["label"], jnp.int32), "index": jnp.arange(2)}

    def loss(masks, classes):
        layers = [(masks, classes)] if masks.ndim == 4 else zip(masks, classes, strict=True)
        last, *earlier = (queries.Answers(each, own) for own, each in layers)
        outputs = queries.Outputs(last, tuple(earlier), (12, 14))
        terms = task.loss(outputs, batch, jax.random.key(0))
        means = {k: term.mean(task.weights(batch)) for k, term in terms.items()}
        return sum(means.values()), means

    value = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
    (_, means), slopes = jax.jit(value)(jnp.asarray(x["masks"]), jnp.asarray(x["classes"]))
    for ours, theirs in {"classes": "cross_entropy", "masks": "mask", "dice": "dice"}.items():
        found = means[ours] + means.get(f"earlier_{ours}", 0)
        close(found / task.factors[ours], x[f"loss_{theirs}"], tolerance=1e-6)
    close(slopes[0], x["dmasks"], tolerance=1e-6)
    close(slopes[1], x["dclasses"], tolerance=1e-6)


@each("torch", "unpool")
def test_features_return_to_where_the_maxima_were(name):
    case = recorded.case(name)
    place = segnet.argmax_pool(jnp.asarray(case.arrays["maxima"]))
    check(case.arrays, lambda _, x: segnet.unpool(x, place, tuple(case.about["size"])))


@each("torch", "up_convolution")
def test_up_convolution(name):
    case = recorded.case(name)
    weights = recorded.weights(case.about["state"])
    params = {"kernel": convert.ours(weights["weight"], "transposed", 4), "bias": weights["bias"]}
    layer = resample.UpConv(6, compute_dtype="float64", param_dtype="float64")
    slopes = check(case.arrays, lambda p, x: layer.apply({"params": p}, x), params)
    close(convert.theirs(np.asarray(slopes["kernel"]), "transposed"), case.arrays["dweight"])
    close(slopes["bias"], case.arrays["dbias"])


@each("torch", "norm")
def test_normalisation(name):
    case, kind = recorded.case(name), name.split("-")[2]
    weights = jax.tree.map(jnp.asarray, recorded.weights(case.about["state"]))
    params = {"scale": weights["weight"], "bias": weights["bias"]}
    held = (
        {"mean": weights["running_mean"], "var": weights["running_var"]} if kind == "batch" else {}
    )

    def layer(params, x, *, train=True, stats=held):
        module = norm.make_norm(kind, train=train, param_dtype="float64")
        variables = {"params": params, "batch_stats": stats}
        return module.apply(variables, x, mutable=["batch_stats"])

    slopes = check(case.arrays, lambda p, x: layer(p, x)[0], params)
    close(slopes["scale"], case.arrays["dweight"])
    close(slopes["bias"], case.arrays["dbias"])
    if kind == "batch":
        x = jnp.asarray(case.arrays["x"])
        stats = layer(params, x)[1]["batch_stats"]
        close(stats["mean"], case.arrays["running_mean"])
        # PyTorch keeps the variance with n - 1 for n samples.
        count = x.size / x.shape[-1]
        kept = 0.9 * held["var"]
        close((stats["var"] - kept) * count / (count - 1) + kept, case.arrays["running_var"])
        later = {
            "mean": jnp.asarray(case.arrays["running_mean"]),
            "var": jnp.asarray(case.arrays["running_var"]),
        }
        close(layer(params, x, train=False, stats=later)[0], case.arrays["later"])


def check_loss(case: recorded.Case, loss: Any, *, mean: bool = True) -> None:
    """Compare a loss and its gradient: its sum, or that divided by the weight."""
    label = jnp.asarray(case.arrays["label"], jnp.int32)

    def value(logits):
        total, weight = loss(logits, label)
        return total / weight if mean else total

    found, slope = recorded.compiled(jax.value_and_grad(value))(jnp.asarray(case.arrays["logits"]))
    close(found, case.arrays["loss"])
    close(slope, case.arrays["gradient"])


@each("torch", "cross_entropy")
def test_cross_entropy(name):
    case = recorded.case(name)
    check_loss(case, pixel.CrossEntropy(**case.about))


@each("torchvision", "focal")
def test_focal(name):
    case = recorded.case(name)
    alpha, gamma = case.about["alpha"], case.about["gamma"]
    loss = pixel.Focal(gamma=gamma, class_weights=(1 - alpha, alpha))
    check_loss(case, loss, mean=False)


@each("smp", "dice")
def test_dice(name):
    case = recorded.case(name)
    # Theirs adds it to halves of the areas: to sum pg and to (sum p + sum g) / 2.
    check_loss(case, region.Dice(smooth=2 * case.about["smooth"]))


@each("smp", "jaccard")
def test_jaccard(name):
    case = recorded.case(name)
    check_loss(case, region.Jaccard(**case.about))


@each("torch", "optimiser")
def test_optimisers(name):
    case = recorded.case(name)
    section = {"type": name.split("-")[2], "decay": "all", "schedule": {"type": "constant"}}
    for key, value in case.about.items():
        section |= dict(zip(("b1", "b2"), value, strict=True)) if key == "betas" else {key: value}
    clock = schedule.Clock(batch_size=1, num_examples=5, total_steps=5)
    tx = optim.make_optimizer(section, optim.make_rate(section, clock))
    params = {"kernel": jnp.asarray(case.arrays["start"])}
    state, step = tx.init(params), recorded.compiled(tx.update)
    for slope, expected in zip(case.arrays["slopes"], case.arrays["path"], strict=True):
        updates, state = step({"kernel": jnp.asarray(slope)}, state, params)
        params = optax.apply_updates(params, updates)
        close(params["kernel"], expected)


@each("torch", "file")
def test_files_of_pytorch(name, tmp_path):
    case = recorded.case(name)
    (tmp_path / "x.pth").write_bytes(case.arrays["file"].tobytes())
    found = files.read(tmp_path / "x.pth")
    assert {key: str(x.dtype) for key, x in found.items()} == case.about
    for key, value in found.items():
        np.testing.assert_array_equal(value.astype(np.float64), case.arrays[key])
    assert np.shares_memory(found["tensors.row"], found["tensors.transposed"])


@each("torch", "module")
def test_a_whole_network_of_pytorch_is_refused_by_name(name, tmp_path):
    (tmp_path / "x.pth").write_bytes(recorded.case(name).arrays["file"].tobytes())
    with pytest.raises(DataError, match=r"torch\.nn\.modules\.linear\.Linear"):
        files.read(tmp_path / "x.pth")


@each("torchvision", "addresses")
def test_torchvision_publishes_these_addresses(name):
    known = recorded.case(name).about
    assert known == {name: hub.parse(f"torchvision:{name}").place for name in hub.TORCHVISION}


@each("surface_distance", "surfaces")
def test_distances_of_surfaces(name):
    """Of masks of noise, single pixels and full ones, in 2-D and 3-D, at any spacing."""
    about, arrays = recorded.case(name)
    spacing = about["spacing"]
    found = contours.distances(arrays["truth"], arrays["pred"], spacing=spacing)
    close([found.truth_area.sum(), found.pred_area.sum()], arrays["areas"])
    for percent, theirs in zip(about["percents"], arrays["robust"], strict=True):
        close(surface.Hausdorff(percent=percent).value(found, 0.0), theirs)
    for tolerance, theirs in zip(about["tolerances"], arrays["dice"], strict=True):
        close(surface.SurfaceDice(tolerance=tolerance).value(found, 0.0), theirs)
    ours = surface.Assd().value(found, 0.0)
    close(ours, arrays["average"] @ arrays["areas"] / arrays["areas"].sum())


@each("surface_distance", "empty")
def test_distances_where_a_surface_is_missing(name):
    """Infinite and 0 as theirs where one is; where both are, theirs is infinite, ours nothing."""
    _, arrays = recorded.case(name)
    found = contours.distances(arrays["truth"], arrays["pred"], spacing=(1.0, 1.0))
    if name.endswith("neither"):
        assert np.isinf(arrays["robust"]).all() and np.isnan(arrays["dice"]).all()
        assert not any(map(len, found))
        return
    np.testing.assert_array_equal(surface.Hd95().value(found, 9.0), arrays["robust"][1])
    np.testing.assert_array_equal(surface.SurfaceDice().value(found, 9.0), arrays["dice"][2])
    assert surface.Assd(missing="diagonal").value(found, 9.0) == 9


@each("cleanlab", "ranked")
def test_masks_ranked_by_how_much_of_them_is_wrong(name):
    """The thresholds are theirs, and so is the order of images; shares differ by a few pixels.

    They take as many pixels as are off the diagonal, the least probable first, and we those very
    pixels.
    """
    about, arrays = recorded.case(name)
    probabilities, label = of_cleanlab.example(about["classes"], about["sure"])
    pairs = list(zip(probabilities, label.astype(np.uint8), strict=True))
    found = disagreement.thresholds(pairs)
    close(found, arrays["thresholds"])
    shares = np.array([disagreement.share(*pair, found) for pair in pairs])
    assert np.argsort(shares).tolist() == np.argsort(arrays["wrong"]).tolist()
    np.testing.assert_allclose(shares, arrays["wrong"], atol=0.05)
