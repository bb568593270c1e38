"""Networks of Hugging Face's transformers, by the names in published files."""

import functools
from collections.abc import Sequence
from typing import Any

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
