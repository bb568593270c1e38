"""Networks of Hugging Face's transformers, by the names in published files."""

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tests.golden.outside import theirs
from tests.outside import recorded
from tests.pretrained import huggingface

PACKAGES = ("torch", "torchvision", "transformers")
CASES: theirs.Cases = {}
SIZE = (65, 97)
MIT = {"depths": (2, 0, 0, 1)}
SHALLOW = {"depths": (1, 0, 0, 1)}
VIT = {"width": 32, "heads": 2, "depth": 3, "grid": 4, "layers": (0, 2)}
CONVNEXT = {"widths": (4, 8, 12, 16), "depths": (1, 0, 0, 2)}


@theirs.register(CASES, "mit")
def mit() -> recorded.Case:
    """Return the case of a shallow MiT-B0's features."""
    transformers = huggingface.library()
    network = transformers.SegformerModel(transformers.SegformerConfig(**MIT))
    state = theirs.fill(network, huggingface.Published(network).names)

    def forward(x: Any) -> Any:
        return network(x, output_hidden_states=True).hidden_states

    return theirs.network(state, SIZE, forward)


def dinov2(width: int, depth: int) -> Any:
    """Return a small DINOv2 for images of 56 x 56."""
    transformers = huggingface.library()
    config = transformers.Dinov2Config(
        hidden_size=width, num_attention_heads=2, num_hidden_layers=depth, image_size=56
    )
    return transformers.Dinov2Model(config)


def resize(x: Any, size: Any) -> Any:
    """Return features as everyone resizes theirs."""
    import torch

    return torch.nn.functional.interpolate(x, size, mode="bilinear", align_corners=False)


def grids(network: Any, x: Any) -> list[Any]:
    """Return every block's normalised features [b c h w] of an image that patches cover."""
    size = [-(-n // 14) for n in x.shape[2:]]
    _, *states = network(resize(x, [14 * n for n in size]), output_hidden_states=True).hidden_states
    tokens = [network.layernorm(state)[:, 1:] for state in states]
    return [t.reshape(len(x), *size, -1).permute(0, 3, 1, 2) for t in tokens]


def vit(size: tuple[int, int]) -> recorded.Case:
    """Return the case of DINOv2's features."""
    network = dinov2(VIT["width"], VIT["depth"])
    state = theirs.fill(network, huggingface.Published(network).names)

    def forward(x: Any) -> list[Any]:
        found = grids(network, x)
        return [found[i] for i in VIT["layers"]]

    return theirs.network(state, size, forward)


# Other grids than that of pre-training, and one that patches do not cover.
CASES |= {f"vit-{h}x{w}": functools.partial(vit, (h, w)) for h, w in ((70, 28), (65, 97))}


@theirs.register(CASES, "vit-registers")
def vit_registers() -> recorded.Case:
    """Return the case of DINOv2 with registers on the grid of pre-training."""
    transformers = huggingface.library()
    config = transformers.Dinov2WithRegistersConfig(
        hidden_size=VIT["width"], num_attention_heads=2, num_hidden_layers=VIT["depth"],
        image_size=56, patch_size=14,
    )  # fmt: skip
    network = transformers.Dinov2WithRegistersModel(config)
    state = theirs.fill(network, huggingface.Published(network).names)

    def forward(x: Any) -> list[Any]:
        states = network(x, output_hidden_states=True).hidden_states
        return [patches(network.layernorm(states[i + 1]), (4, 4), 5) for i in VIT["layers"]]

    return theirs.network(state, (56, 56), forward)


def patches(states: Any, size: Sequence[int], before: int) -> Any:
    """Return tokens [b before+n c] without those before the patches as [b c h w]."""
    return states[:, before:].reshape(len(states), *size, -1).permute(0, 3, 1, 2)


def dinov3(gated: bool) -> recorded.Case:
    """Return the case of DINOv3's features of the last block."""
    transformers = huggingface.library()
    config = transformers.DINOv3ViTConfig(
        hidden_size=32, intermediate_size=128, num_attention_heads=2, num_hidden_layers=2,
        num_register_tokens=2, use_gated_mlp=gated, hidden_act="silu" if gated else "gelu",
    )  # fmt: skip
    network = transformers.DINOv3ViTModel(config)
    state = theirs.fill(network, huggingface.Published(network).names)

    def forward(x: Any) -> Any:
        return patches(network(resize(x, (80, 112))).last_hidden_state, (5, 7), 3)

    return theirs.network(state, SIZE, forward)


CASES |= {
    "dinov3": functools.partial(dinov3, False),
    "dinov3-gated": functools.partial(dinov3, True),
}


@theirs.register(CASES, "linear")
def linear() -> recorded.Case:
    """Return the case of a linear classifier, written in PyTorch, on DINOv2."""
    import torch

    backbone = dinov2(8, 2)
    head = torch.nn.Sequential(torch.nn.BatchNorm2d(16), torch.nn.Conv2d(16, 5, 1))
    network = torch.nn.ModuleDict({"backbone": backbone, "head": head})
    names = {f"backbone.{k}": v for k, v in huggingface.Published(backbone).names.items()}
    names |= {f"head.{k}": f"head.{k}" for k in head.state_dict()}
    state = theirs.fill(network, names)

    def forward(x: Any) -> Any:
        return resize(head(torch.cat(grids(backbone, x), 1)), x.shape[2:])

    return theirs.network(state, SIZE, forward)


def segformer() -> Any:
    """Return a shallow SegFormer-B0 of 5 classes."""
    transformers = huggingface.library()
    options = {"num_labels": 5, "decoder_hidden_size": 32, "drop_path_rate": 0.0, **SHALLOW}
    config = transformers.SegformerConfig(**options)
    return transformers.SegformerForSemanticSegmentation(config)


@theirs.register(CASES, "segformer")
def segformer_logits() -> recorded.Case:
    """Return the case of SegFormer's logits, enlarged."""
    network = segformer()
    state = theirs.fill(network, huggingface.Published(network).names)

    def forward(x: Any) -> Any:
        return resize(network(x).logits, x.shape[2:])

    return theirs.network(state, SIZE, forward)


@theirs.register(CASES, "segformer-gradients")
def segformer_gradients() -> recorded.Case:
    """Return the case of SegFormer's gradients."""
    network = segformer()

    def forward(x: Any) -> list[Any]:
        return [resize(network(x).logits, x.shape[2:])]

    names = huggingface.Published(network).names
    return theirs.gradients(network, (32, 64), forward, names=names)


def upernet() -> Any:
    """Return a small UPerNet on ConvNeXt."""
    transformers = huggingface.library()
    backbone = transformers.ConvNextConfig(
        hidden_sizes=list(CONVNEXT["widths"]),
        depths=list(CONVNEXT["depths"]),
        out_features=[f"stage{i}" for i in range(1, 5)],
        drop_path_rate=0.0,
    )
    config = transformers.UperNetConfig(
        backbone_config=backbone,
        auxiliary_in_channels=CONVNEXT["widths"][2],
        num_labels=5,
        hidden_size=8,
        auxiliary_channels=6,
    )
    return transformers.UperNetForSemanticSegmentation(config)


@theirs.register(CASES, "upernet")
def upernet_logits() -> recorded.Case:
    """Return the case of UPerNet's logits."""
    network = upernet()
    state = theirs.fill(network, huggingface.Published(network).names)
    return theirs.network(state, SIZE, lambda x: network(x).logits)


EOMT = {"queries": 5, "blocks": 2}


def eomt(form: str) -> Any:
    """Return a small EoMT of 3 classes on DINOv2 or DINOv3, for images of 64 x 64."""
    transformers = huggingface.library()
    common = {
        "hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 3, "image_size": 64,
        "num_queries": EOMT["queries"], "num_blocks": EOMT["blocks"], "num_labels": 3,
        "num_register_tokens": 4, "patch_size": 16,
    }  # fmt: skip
    if form == "vit":
        network = transformers.EomtForUniversalSegmentation(transformers.EomtConfig(**common))
        network.set_attn_implementation("eager")  # the fused one takes its mask for float64
        return network
    config = transformers.EomtDinov3Config(**common, intermediate_size=64, pos_embed_rescale=None)
    return transformers.EomtDinov3ForUniversalSegmentation(config)


def answers(network: Any, x: Any) -> list[Any]:
    """Return the masks [b q h w] and the classes [b k q 1] of all queries."""
    import torch

    given = torch.nn.functional.softmax
    torch.nn.functional.softmax = lambda x, dim, dtype=None: given(x, dim)  # theirs is in float32
    try:
        found = network(x)
    finally:
        torch.nn.functional.softmax = given
    return [found.masks_queries_logits, found.class_queries_logits.mT[..., None]]


def eomt_logits(form: str) -> recorded.Case:
    """Return the case of EoMT's logits as published weights have them: without masked attention."""
    network = eomt(form)
    state = theirs.fill(network, huggingface.Published(network).names)
    network.attn_mask_probs.fill_(0.0)
    return theirs.network(state, (64, 64), lambda x: answers(network, x))


def eomt_gradients(form: str) -> recorded.Case:
    """Return the case of EoMT's gradients in training: with masked attention in all blocks."""
    network = eomt(form)
    names = huggingface.Published(network).names

    def forward(x: Any) -> list[Any]:
        network.attn_mask_probs.fill_(1.0)
        return answers(network, x)

    parameters = {name for name, _ in network.named_parameters()}
    case = theirs.gradients(network, (64, 64), forward, names=names)
    state = {names[k]: case.about["state"][names[k]] for k in names if k in parameters}
    return case._replace(about={**case.about, "state": state})


for form in ("vit", "dinov3"):
    CASES[f"eomt_{form}"] = functools.partial(eomt_logits, form)
    CASES[f"eomt_{form}-gradients"] = functools.partial(eomt_gradients, form)


@theirs.register(CASES, "matched-queries")
def matched() -> recorded.Case:
    """Return the case of the loss of two images' queries, every mask at the same points.

    One has no region.
    """
    huggingface.library()
    import torch
    from transformers.models.eomt import modeling_eomt as theirs_lib

    options = {"num_points": 24, "oversample": 3.0, "importance": 0.75}
    config = huggingface.library().EomtConfig(
        num_labels=4, train_num_points=options["num_points"],
        oversample_ratio=options["oversample"], importance_sample_ratio=options["importance"],
    )  # fmt: skip
    weights = {"loss_cross_entropy": 2.0, "loss_mask": 5.0, "loss_dice": 5.0}
    loss = theirs_lib.EomtLoss(config, weights).double()
    masks, classes = 3 * recorded.noise("masks", (2, 6, 7, 5)), recorded.noise("classes", (2, 5, 5))
    label = np.sort(np.argsort(recorded.noise("label", (2, 12 * 14))) % 4, axis=1)
    label = label.reshape(2, 12, 14).astype(np.uint8)
    label[1] = 1
    numbers = [np.array([0, 1, 2, 3]), np.array([1])]
    regions = [label[i] == numbers[i][:, None, None] for i in range(2)]
    logits = theirs.tensor(masks).requires_grad_()
    scores = torch.from_numpy(classes).requires_grad_()
    with rand_of_noise():
        terms = loss(
            logits, scores, [torch.from_numpy(each).double() for each in regions],
            [torch.from_numpy(each) for each in numbers],
        )  # fmt: skip
    sum(weights[name] * value for name, value in terms.items()).backward()
    return theirs.function(
        options, masks=masks, classes=classes, label=label,
        **{name: value.detach().numpy() for name, value in terms.items()},
        dmasks=theirs.array(logits.grad), dclasses=scores.grad.numpy(),
    )  # fmt: skip


@contextlib.contextmanager
def rand_of_noise() -> Iterator[None]:
    """Let `torch.rand` give every mask the same points (x, y), those of `recorded.points`."""
    import torch

    drawn = torch.rand

    def rand(count: int, *shape: int, **options: Any) -> Any:
        del options
        points = torch.from_numpy(recorded.points(shape[0]))
        return points.flip(-1).expand(count, *shape).contiguous()

    torch.rand = rand
    try:
        yield
    finally:
        torch.rand = drawn
