"""Networks of Hugging Face's transformers, by the names in published files."""

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
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
    with softmax_of_its_input():
        found = network(x)
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

    return of_parameters(theirs.gradients(network, (64, 64), forward, names=names), network, names)


def of_parameters(case: recorded.Case, network: Any, names: Mapping[str, str]) -> recorded.Case:
    """Return a case whose state has what is trained alone."""
    state = {names[k]: case.about["state"][names[k]] for k, _ in network.named_parameters()}
    return case._replace(about={**case.about, "state": state})


for form in ("vit", "dinov3"):
    CASES[f"eomt_{form}"] = functools.partial(eomt_logits, form)
    CASES[f"eomt_{form}-gradients"] = functools.partial(eomt_gradients, form)


SWIN = {"embed_dim": 8, "num_heads": [2, 4, 8, 16], "window_size": 3, "drop_path_rate": 0.0}
STAGES = [f"stage{i}" for i in range(1, 5)]


def swin(*depths: int) -> Any:
    """Return the config of a small Swin."""
    config = huggingface.library().SwinConfig
    return config(**SWIN, depths=list(depths), out_features=STAGES)


@contextlib.contextmanager
def softmax_of_its_input() -> Iterator[None]:
    """Keep the dtype of what goes into a softmax, which theirs is in float32."""
    import torch

    given = torch.nn.functional.softmax
    torch.nn.functional.softmax = lambda x, dim, dtype=None: given(x, dim)
    try:
        yield
    finally:
        torch.nn.functional.softmax = given


@theirs.register(CASES, "swin")
def swin_features() -> recorded.Case:
    """Return the case of Swin's features, as their backbone has them before its layer norms."""
    backbone = huggingface.library().SwinBackbone(swin(2, 1, 1, 2))
    state = theirs.fill(backbone, huggingface.Published(backbone).names)

    def forward(x: Any) -> list[Any]:
        with softmax_of_its_input():
            found = backbone.swin(
                x, always_partition=True, output_hidden_states_before_downsampling=True,
                output_hidden_states=True,
            )  # fmt: skip
        return list(found.reshaped_hidden_states[1:])

    return theirs.network(state, SIZE, forward)


def mask2former(depths: Sequence[int], pixel_layers: int, layers: int) -> Any:
    """Return a small Mask2Former of 3 classes on Swin, of so many blocks and layers."""
    transformers = huggingface.library()
    config = transformers.Mask2FormerConfig(
        backbone_config=swin(*depths), feature_size=32, mask_feature_size=32, hidden_dim=32,
        encoder_feedforward_dim=24, dim_feedforward=40, encoder_layers=pixel_layers,
        decoder_layers=layers + 1,
        num_attention_heads=2, num_queries=5, num_labels=3, train_num_points=24,
    )  # fmt: skip
    return transformers.Mask2FormerForUniversalSegmentation(config)


@theirs.register(CASES, "upernet_swin")
def upernet_swin() -> recorded.Case:
    """Return the case of the logits of a small UPerNet on Swin."""
    transformers = huggingface.library()
    config = transformers.UperNetConfig(
        backbone_config=swin(2, 0, 0, 0), auxiliary_in_channels=32, num_labels=5, hidden_size=8,
        auxiliary_channels=6,
    )  # fmt: skip
    network = transformers.UperNetForSemanticSegmentation(config)
    state = theirs.fill(network, huggingface.Published(network).names)

    def forward(x: Any) -> Any:
        with softmax_of_its_input():
            return network(x).logits

    return theirs.network(state, SIZE, forward)


@theirs.register(CASES, "mask2former")
def mask2former_logits() -> recorded.Case:
    """Return the case of Mask2Former's logits behind a layer for each resolution and another."""
    network = mask2former((2, 0, 0, 1), 1, 4)
    state = theirs.fill(network, huggingface.Published(network).names)
    return theirs.network(state, (64, 96), lambda x: answers(network, x))


def mask2former_gradients(*form: Any) -> recorded.Case:
    """Return the case of Mask2Former's gradients, those of its last answers."""
    network = mask2former(*form)
    names = huggingface.Published(network).names
    case = theirs.gradients(network, (64, 96), lambda x: answers(network, x), names=names)
    return of_parameters(case, network, names)


CASES |= {
    "mask2former-gradients": functools.partial(mask2former_gradients, (2, 0, 0, 0), 1, 1),
    "mask2former_deep-gradients": functools.partial(mask2former_gradients, (2, 1, 1, 2), 2, 4),
}


POINTS = {"num_points": 24, "oversample": 3.0, "importance": 0.75}
WEIGHTS = {"loss_cross_entropy": 2.0, "loss_mask": 5.0, "loss_dice": 5.0}


@theirs.register(CASES, "matched-queries")
def matched() -> recorded.Case:
    """Return the case of EoMT's loss of two images' queries, every mask at the same points."""
    transformers = huggingface.library()
    from transformers.models.eomt import modeling_eomt as theirs_lib

    return matched_by(theirs_lib.EomtLoss, transformers.EomtConfig, (2,))


@theirs.register(CASES, "matched-layers")
def matched_layers() -> recorded.Case:
    """Return the case of Mask2Former's loss of three layers' queries, the last layer first."""
    transformers = huggingface.library()
    from transformers.models.mask2former import modeling_mask2former as theirs_lib

    return matched_by(theirs_lib.Mask2FormerLoss, transformers.Mask2FormerConfig, (3, 2))


def matched_by(loss: Any, config: Any, leading: Sequence[int]) -> recorded.Case:
    """Return the case of a loss of queries of two images, of which one has one region.

    Args:
        loss: Their class.
        config: Its config's.
        leading: Axes of the logits: layers, where there are several, and images.
    """
    import torch

    options = config(
        num_labels=4, train_num_points=POINTS["num_points"],
        oversample_ratio=POINTS["oversample"], importance_sample_ratio=POINTS["importance"],
    )  # fmt: skip
    masks = 3 * recorded.noise("masks", (*leading, 6, 7, 5))
    classes = recorded.noise("classes", (*leading, 5, 5))
    label = np.sort(np.argsort(recorded.noise("label", (2, 12 * 14))) % 4, axis=1)
    label = label.reshape(2, 12, 14).astype(np.uint8)
    label[1] = 1
    numbers = [np.array([0, 1, 2, 3]), np.array([1])]
    regions = [label[i] == numbers[i][:, None, None] for i in range(2)]
    logits, scores = (torch.from_numpy(np.array(x)).requires_grad_() for x in (masks, classes))
    by_layer = (x.reshape(-1, *x.shape[-4 + i :]) for i, x in enumerate((logits, scores)))
    layers = [
        {"masks_queries_logits": a.movedim(-1, 1), "class_queries_logits": b}
        for a, b in zip(*by_layer, strict=True)
    ]
    with rand_of_noise():
        terms = loss(options, WEIGHTS).double()(
            **layers[0], mask_labels=[torch.from_numpy(each).double() for each in regions],
            class_labels=[torch.from_numpy(each) for each in numbers],
            auxiliary_predictions=layers[1:],
        )  # fmt: skip
    found = {
        name: sum(value for key, value in terms.items() if key.startswith(name)) for name in WEIGHTS
    }
    sum(WEIGHTS[name] * value for name, value in found.items()).backward()
    return theirs.function(
        POINTS, masks=masks, classes=classes, label=label,
        **{name: value.detach().numpy() for name, value in found.items()},
        dmasks=logits.grad.numpy(), dclasses=scores.grad.numpy(),
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
