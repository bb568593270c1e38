"""PyTorch's own layers, losses and optimisers on small arrays, and its files."""

import functools
import io
import itertools
from typing import Any

import numpy as np

from tests.golden.outside import theirs
from tests.outside import recorded

PACKAGES = ("torch",)
CASES: theirs.Cases = {}

SHAPES = {1: (2, 7, 3), 2: (2, 4, 5, 2), 3: (2, 2, 4, 3, 2)}
"""Arrays [b *space c] of one to three dimensions."""
SIZES = {1: [(16,)], 2: [(8, 3), (12, 10), (1, 9)], 3: [(3, 8, 4)]}
"""What they are resized to: whole factors and others, larger and smaller."""
METHODS = {1: ("nearest", "linear"), 2: ("nearest", "bilinear", "bicubic")}
METHODS[3] = ("nearest", "trilinear")


def both_ways(function: Any, x: np.ndarray) -> dict[str, np.ndarray]:
    """Return an input, a function's value there, made-up slopes and the input's gradient."""
    y = theirs.tensor(x).requires_grad_()
    output = function(y)
    slope = recorded.noise("slope", theirs.array(output).shape)
    (output * theirs.tensor(slope)).sum().backward()
    return {"x": x, "y": theirs.array(output), "slope": slope, "dx": theirs.array(y.grad)}


def interpolate(method: str, size: tuple[int, ...], corners: bool) -> recorded.Case:
    """Return the case of one resize."""
    import torch

    options: dict[str, Any] = {"mode": method}
    if method != "nearest":
        options["align_corners"] = corners
    x = recorded.noise("x", SHAPES[len(size)])
    arrays = both_ways(lambda y: torch.nn.functional.interpolate(y, size, **options), x)
    # Linear along each axis has one name with us.
    ours = "bilinear" if method.endswith("linear") else method
    return theirs.function({"size": size, "method": ours, "align_corners": corners}, **arrays)


CASES |= {
    f"resize-{method}{'-corners' * corners}-{'x'.join(map(str, size))}": functools.partial(
        interpolate, method, size, corners
    )
    for rank, corners in itertools.product(SHAPES, (False, True))
    for method, size in itertools.product(METHODS[rank], SIZES[rank])
    if not (corners and method == "nearest")
}


def pool(window: int, shape: tuple[int, ...]) -> recorded.Case:
    """Return the case of a maximum over windows of 2 that drops no edge, or of 3."""
    import torch

    layer = (torch.nn.MaxPool1d, torch.nn.MaxPool2d, torch.nn.MaxPool3d)[len(shape) - 3]
    options = {"ceil_mode": True} if window == 2 else {"padding": 1}
    x = recorded.noise("x", shape) - 10  # a padding of zeros would win
    return theirs.function({"window": window}, **both_ways(layer(window, 2, **options), x))


CASES |= {
    f"max_pool-{window}-{'x'.join(map(str, shape[1:-1]))}": functools.partial(pool, window, shape)
    for window, shape in itertools.product((2, 3), [(2, 6, 7, 2), *SHAPES.values()])
}


def bins(size: tuple[int, int]) -> recorded.Case:
    """Return the case of averages over bins."""
    import torch

    arrays = both_ways(torch.nn.AdaptiveAvgPool2d(size), recorded.noise("x", (2, 5, 8, 2)))
    return theirs.function({"size": size}, **arrays)


CASES |= {f"bins-{h}x{w}": functools.partial(bins, (h, w)) for h, w in ((1, 1), (2, 3), (6, 6))}


def unpool(size: tuple[int, int]) -> recorded.Case:
    """Return the case of features that go back to where the maxima of other ones were."""
    import torch

    functional = torch.nn.functional
    pooled = [-(-n // 2) for n in size]
    maxima = np.floor(2 * recorded.noise("maxima", (2, *size, 4)))  # many equal ones
    _, index = functional.max_pool2d(theirs.tensor(maxima), 2, ceil_mode=True, return_indices=True)
    arrays = both_ways(
        lambda y: functional.max_unpool2d(y, index, 2, output_size=size),
        recorded.noise("x", (2, *pooled, 4)),
    )
    return theirs.function({"size": size}, maxima=maxima, **arrays)


CASES |= {f"unpool-{h}x{w}": functools.partial(unpool, (h, w)) for h, w in ((8, 6), (7, 9))}


@theirs.register(CASES, "up_convolution")
def up_convolution() -> recorded.Case:
    """Return the case of a transposed convolution with windows of 2 and stride 2."""
    import torch

    layer = torch.nn.ConvTranspose2d(4, 6, 2, 2)
    state = theirs.fill(layer)
    arrays = both_ways(layer, recorded.noise("x", (2, 3, 5, 4)))
    return theirs.function({"state": state}, **arrays, **gradients_of(layer))


def norm(kind: str) -> recorded.Case:
    """Return the case of a normalisation in train mode, and of what it does afterwards."""
    import torch

    layer = {
        "batch": torch.nn.BatchNorm2d(64),
        "group": torch.nn.GroupNorm(32, 64),
        "layer": torch.nn.LayerNorm(64),
    }[kind]
    state = theirs.fill(layer)

    def forward(y: Any) -> Any:
        if kind != "layer":
            return layer(y)
        return layer(y.movedim(1, -1)).movedim(-1, 1)

    layer.train()
    x = recorded.noise("x", (2, 2, 3, 64)) + 2
    arrays = both_ways(forward, x) | gradients_of(layer)
    if kind == "batch":
        arrays |= {name: x.numpy() for name, x in layer.named_buffers() if x.ndim}
        arrays["later"] = theirs.array(layer.eval()(theirs.tensor(x)))
    return theirs.function({"state": state}, **arrays)


CASES |= {f"norm-{kind}": functools.partial(norm, kind) for kind in ("batch", "group", "layer")}


def gradients_of(layer: Any) -> dict[str, np.ndarray]:
    """Return the gradients of a layer's parameters, by name."""
    return {f"d{name}": value.grad.numpy() for name, value in layer.named_parameters()}


CROSS_ENTROPIES = {
    "plain": {},
    "weighted": {"class_weights": (0.25, 1.0, 3.0, 0.0)},
    "smoothed": {"label_smoothing": 0.2},
    "both": {"class_weights": (0.25, 1.0, 3.0, 0.5), "label_smoothing": 0.1},
}


def cross_entropy(options: dict[str, Any]) -> recorded.Case:
    """Return the case of one cross-entropy, divided by the weight of the pixels."""
    import torch

    logits, label = theirs.scene(classes=4, images=2)
    z = theirs.tensor(logits).requires_grad_()
    weight = options.get("class_weights")
    loss = torch.nn.functional.cross_entropy(
        z,
        torch.from_numpy(label).long(),
        weight=torch.tensor(weight, dtype=torch.float64) if weight else None,
        label_smoothing=options.get("label_smoothing", 0.0),
        ignore_index=255,
    )
    loss.backward()
    return theirs.function(
        options, logits=logits, label=label, loss=loss.item(), gradient=theirs.array(z.grad)
    )


CASES |= {
    f"cross_entropy-{name}": functools.partial(cross_entropy, options)
    for name, options in CROSS_ENTROPIES.items()
}

OPTIMISERS = {
    "sgd": ("SGD", {"momentum": 0.9, "weight_decay": 0.01}),
    "sgd-nesterov": ("SGD", {"momentum": 0.8, "weight_decay": 0.01, "nesterov": True}),
    "adam": ("Adam", {"betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}),
    "adamw": ("AdamW", {"betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}),
}


def optimise(name: str, options: dict[str, Any]) -> recorded.Case:
    """Return the case of five updates by made-up gradients."""
    import torch

    start, slopes = recorded.noise("start", (3, 4)), recorded.noise("slopes", (5, 3, 4))
    parameter = torch.nn.Parameter(torch.from_numpy(start.copy()))
    optimiser = getattr(torch.optim, name)([parameter], lr=0.1, **options)
    path = []
    for slope in slopes:
        parameter.grad = torch.from_numpy(slope.copy())
        optimiser.step()
        path.append(parameter.detach().numpy().copy())
    about = {"lr": 0.1, **options}
    return theirs.function(about, start=start, slopes=slopes, path=path)


CASES |= {
    f"optimiser-{name}": functools.partial(optimise, *arguments)
    for name, arguments in OPTIMISERS.items()
}

DTYPES = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8")


def saved(legacy: bool) -> recorded.Case:
    """Return the case of a file of `torch.save`: its bytes, and the tensors in it."""
    import torch

    base = torch.arange(24.0).reshape(4, 6)
    tensors = {name: base.to(getattr(torch, name)) for name in (*DTYPES, "bool")}
    tensors |= {"transposed": base.T, "row": base[1, ::2], "expanded": base[:1].expand(5, 6)}
    tensors |= {"parameter": torch.nn.Parameter(base), "scalar": torch.tensor(7)}
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    theirs.fill(network)
    file = io.BytesIO()
    tree = {"model": network.state_dict(), "tensors": tensors, "epoch": 3, "lr": 0.1}
    torch.save(tree, file, _use_new_zipfile_serialization=not legacy)
    expected = {f"model.{name}": x for name, x in network.state_dict().items()}
    expected |= {f"tensors.{name}": x.detach() for name, x in tensors.items()}
    dtypes = {name: str(x.dtype).removeprefix("torch.") for name, x in expected.items()}
    arrays = {name: x.double().numpy() for name, x in expected.items()}
    return theirs.function(dtypes, file=np.frombuffer(file.getvalue(), np.uint8), **arrays)


def saved_network() -> recorded.Case:
    """Return the case of a file that holds a module, not its tensors."""
    import torch

    file = io.BytesIO()
    torch.save(torch.nn.Linear(2, 2), file)
    return theirs.function({}, file=np.frombuffer(file.getvalue(), np.uint8))


CASES |= {f"file-{name}": functools.partial(saved, name == "legacy") for name in ("zip", "legacy")}
CASES["module"] = saved_network
