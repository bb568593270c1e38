"""The others' side: albumentations and torchvision on photographs, batchgeneratorsv2 on volumes.

As their users run them: an image at a time, in uint8 with a mask, on all cores; volumes by
the classes of `nnUNetTrainer.get_training_transforms` with its numbers.
"""

import json
import multiprocessing
from collections.abc import Callable
from typing import Any

import albumentations
import numpy as np
import torch
from batchgeneratorsv2.transforms.intensity.brightness import MultiplicativeBrightnessTransform
from batchgeneratorsv2.transforms.intensity.contrast import BGContrast, ContrastTransform
from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from batchgeneratorsv2.transforms.utils.remove_label import RemoveLabelTansform

from experiments.augment import works
from experiments.speed import torch_vision


def facts() -> str:
    """Return the versions."""
    from importlib.metadata import version

    names = (
        "torch",
        "torchvision",
        "batchgeneratorsv2",
        "albumentations",
        "opencv-python-headless",
    )
    return json.dumps({"versions": {name: version(name) for name in names}})


def build(work: str, variant: str) -> tuple[Callable[[], None], int] | None:
    """Return a function that computes one batch, and how many batches a turn has."""
    if variant == "torchvision":
        return by_torchvision(work)
    if work == works.POLICY:
        return (one_process if variant == "threads" else two_processes)(), works.CALLS
    if work not in works.WORKS or not works.WORKS[work].theirs or variant != "threads":
        return None
    name, arguments = works.WORKS[work].theirs
    change = albumentations.Compose([getattr(albumentations, name)(**arguments)], seed=0)
    random = np.random.default_rng(0)
    shape = [works.SIDE] * 2
    images = random.integers(0, 256, (works.ROWS, *shape, 3)).astype(np.uint8)
    mask = label_of(shape).astype(np.uint8)

    def once() -> None:
        for image in images:
            change(image=image, mask=mask)

    return once, works.CALLS


def by_torchvision(work: str) -> tuple[Callable[[], None], int] | None:
    """Return the same for torchvision's transforms, on tensors [c h w]."""
    if work not in works.WORKS or not works.WORKS[work].torchvision:
        return None
    torch_vision.declare()
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    name, arguments = works.WORKS[work].torchvision
    change, shape = getattr(v2, name)(**arguments), [works.SIDE] * 2
    images = torch.randint(0, 256, (works.ROWS, 3, *shape), dtype=torch.uint8)
    mask = tv_tensors.Mask(torch.from_numpy(label_of(shape).astype(np.uint8)))
    pictures = [tv_tensors.Image(image) for image in images]

    def once() -> None:
        for picture in pictures:
            change(picture, mask)

    return once, works.CALLS


def label_of(shape: list[int]) -> np.ndarray:
    """Return a map of four classes in boxes."""
    return (np.indices(shape) // 24).sum(0) % 4


def nnunet_policy() -> Any:
    """Return nnU-Net's default set for volumes that are no thicker than wide."""
    turn = 30 / 360 * 2 * np.pi
    half = BGContrast((0.75, 1.25))
    power = BGContrast((0.7, 1.5))
    each: Any = {"synchronize_channels": False, "p_per_channel": 1, "p_retain_stats": 1}
    spatial = SpatialTransform(
        (works.PATCH,) * 3, patch_center_dist_from_border=0, random_crop=False,
        p_elastic_deform=0, p_rotation=0.2, rotation=(-turn, turn), p_scaling=0.2,
        scaling=(0.7, 1.4), p_synchronize_scaling_across_axes=1, bg_style_seg_sampling=False,
    )  # fmt: skip
    steps = [
        (GaussianNoiseTransform((0, 0.1), p_per_channel=1, synchronize_channels=True), 0.1),
        (
            GaussianBlurTransform(
                (0.5, 1.0), synchronize_channels=False, synchronize_axes=False, p_per_channel=0.5,
                benchmark=True,
            ),
            0.2,
        ),
        (MultiplicativeBrightnessTransform(half, synchronize_channels=False), 0.15),
        (ContrastTransform(half, preserve_range=True, synchronize_channels=False), 0.15),
        (
            SimulateLowResolutionTransform(
                (0.5, 1), synchronize_channels=False, synchronize_axes=True, ignore_axes=None,
                allowed_channels=None, p_per_channel=0.5,
            ),
            0.25,
        ),
        (GammaTransform(power, 1, **each), 0.1),
        (GammaTransform(power, 0, **each), 0.3),
    ]  # fmt: skip
    random = [RandomTransform(step, apply_probability=p) for step, p in steps]
    return ComposeTransforms(
        [spatial, *random, MirrorTransform((0, 1, 2)), RemoveLabelTansform(-1, 0)]
    )


def make_volumes(count: int) -> list[dict[str, torch.Tensor]]:
    """Return volumes of noise with four classes in boxes."""
    random, shape = np.random.default_rng(0), [works.READ] * 3
    label = torch.from_numpy(label_of(shape).astype(np.int16))[None]
    return [
        {"image": torch.from_numpy(random.normal(size=(1, *shape)).astype(np.float32)),
         "segmentation": label}
        for _ in range(count)
    ]  # fmt: skip


def augment_all(policy: Any, volumes: list[dict[str, torch.Tensor]]) -> None:
    """Augment each volume; nothing is kept."""
    with torch.no_grad():
        for volume in volumes:
            policy(**{name: value.clone() for name, value in volume.items()})


def one_process() -> Callable[[], None]:
    """Return a function that augments the batch in this process, PyTorch on all cores."""
    policy, volumes = nnunet_policy(), make_volumes(works.VOLUMES)
    return lambda: augment_all(policy, volumes)


def two_processes() -> Callable[[], None]:
    """Return a function that lets two processes of one thread augment half of the batch each.

    As nnU-Net's loader does it; what they make is not brought back, which would cost more.
    """
    context = multiprocessing.get_context("spawn")
    ends = []
    for number in range(2):
        mine, theirs = context.Pipe()
        context.Process(target=_serve, args=(theirs, number), daemon=True).start()
        ends.append(mine)

    def once() -> None:
        for end in ends:
            end.send("go")
        for end in ends:
            end.recv()

    return once


def _serve(orders: Any, number: int) -> None:
    """Augment half of the batch at every order."""
    torch.set_num_threads(1)
    np.random.seed(number)
    torch.manual_seed(number)
    policy, volumes = nnunet_policy(), make_volumes(works.VOLUMES // 2)
    while True:
        orders.recv()
        augment_all(policy, volumes)
        orders.send("done")
