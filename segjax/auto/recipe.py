"""How to train on a data set, decided by what it is like: values, mirrors, losses, sampling."""

import math
from collections.abc import Sequence
from typing import Any

from segjax.audit.fingerprint import Fingerprint

UNLIKE = 2.0
"""Factor between the contrasts of images from which on each is brought to a scale of its own."""
AIR = -800.0
"""Hounsfield units: a volume whose lowest values are below it is CT."""
COARSE = 3.0
"""Factor between the spacings of axes from which on the coarsest one keeps its detail."""
CERTAIN, APART, OFF = 2.0, 0.1, 0.2
"""When places say that an image has an order along an axis: standard deviations, and the share of a
side by which two classes, or a class and the middle, have to differ."""
RARE, MANY = 10.0, 4
"""Factor between the shares of classes, of more than so many, from which on they are weighed."""
THIN_SHARE = 0.02
"""Of the pixels: with less of all classes but the most common, these are weighed and looked for."""
FEW_IMAGES = 0.1
"""Share of the images from which down a class is one that few have."""
WINDOWS = 1 / 3
"""Share of the windows that are laid over something, nnU-Net's."""


def spacing(found: Fingerprint) -> tuple[tuple[float, ...], str]:
    """Return to which spacing images are brought, and why; none where they stay as they are.

    nnU-Net's rule: the median; along an axis that is much coarser than the others its 10th
    percentile, so that not too much is made up.
    """
    if not found.spacing:
        return (), "the files do not say how far pixels are apart"
    if all(high <= 1.01 * low for low, _, high in found.spacings):
        return (), f"all images have a spacing of {_listed(found.spacing)} already"
    new = list(found.spacing)
    coarsest = max(range(len(new)), key=new.__getitem__)
    if new[coarsest] > COARSE * min(new):
        new[coarsest] = found.spacings[coarsest][1]
    why = f"spacings differ, up to {max(high / low for low, _, high in found.spacings):.1f} times; "
    return tuple(new), why + "this is their median, of a coarse axis the 10th percentile"


def intensity(found: Fingerprint) -> tuple[list[dict[str, Any]], str]:
    """Return what is done to values on the host, and why; nothing to pictures of 8 bits."""
    if found.dtype == "uint8":
        return [], "8 bits need no other scale"
    if found.low <= AIR and found.dims == 3:
        low, high = found.low, found.high
        window = dict(type="window", centre=(low + high) / 2, width=high - low)
        return [window], f"from {low:g} to {high:g}: Hounsfield units, the same in all volumes"
    if found.own_scale >= UNLIKE:
        why = f"contrasts differ {found.own_scale:.3g} times: each image has a scale of its own"
        return [dict(type="percentile", low=0.5, high=99.5)], why
    low, high = found.low, max(found.high, found.low + 1e-6)
    window = dict(type="window", centre=(low + high) / 2, width=high - low)
    return [window], f"{found.dtype} from {low:g} to {high:g} in all images alike"


def normalize(found: Fingerprint) -> tuple[dict[str, Any], str]:
    """Return the section `normalize`, and why."""
    if found.dtype != "uint8":
        return dict(type="normalize:fixed", mean=0.5, std=0.25), "of values from 0 to 1"
    if found.own_scale >= UNLIKE:
        why = f"contrasts of images differ {found.own_scale:.3g} times"
        return dict(type="normalize:per_image", epsilon=1e-3), why
    fixed = dict(type="normalize:fixed", mean=list(found.mean), std=list(found.std))
    return fixed, "mean and deviation of the training images, which are exposed alike"


def mirrored(found: Fingerprint) -> tuple[tuple[bool, ...], str]:
    """Return along which axes images may be mirrored, and why along the others not.

    Where two classes lie one behind the other, or one lies far from the middle, in nearly every
    image, a mirrored image shows what never occurs, and may exchange classes that are told apart by
    place alone.
    """
    allowed, notes = [], []
    for axis in range(found.dims):
        order = _order(found, axis)
        allowed.append(not order)
        notes += [f"axis {axis}: {order}"] if order else []
    return tuple(allowed), "; ".join(notes) or "no class has a place of its own along any axis"


def _order(found: Fingerprint, axis: int) -> str:
    """Return what says that images have an order along an axis, in words; empty: nothing does."""
    common = max(range(len(found.share)), key=found.share.__getitem__)
    places = [
        (name, place[axis], max(spread[axis], 1e-3))
        for name, place, spread, images in zip(
            found.class_names, found.place, found.spread, found.images, strict=True
        )
        if images > 0
    ]
    for name, place, spread in places:
        if abs(place - 0.5) > max(OFF, CERTAIN * spread):
            return f"{name} lies at {place:.2f}"
    others = [each for k, each in enumerate(places) if k != common or len(places) < 3]
    for k, (name, place, spread) in enumerate(others if len(others) > 1 else ()):
        for other, at, about in others[k + 1 :]:
            if abs(place - at) > max(APART, CERTAIN * math.hypot(spread, about)):
                return f"{name} at {place:.2f}, {other} at {at:.2f}"
    return ""


def augment(
    found: Fingerprint, crop: Sequence[int], mirrors: Sequence[bool]
) -> tuple[list[dict[str, Any]], str]:
    """Return the section `augment`, and why."""
    names = ("depth", "vertical", "horizontal")[-found.dims :]
    flips = {name: 0.5 for name, may in zip(names, mirrors, strict=True) if may}
    free = found.dims > 1 and all(mirrors[-2:])
    affine: dict[str, Any] = dict(type="geometry:affine", size=list(crop))
    affine["scale"] = [0.7, 1.4] if found.dims < 3 else [0.9, 1.1]
    if found.dims < 3:
        affine |= flips
    why = ["sizes by a factor of 0.7 to 1.4" if found.dims < 3 else "sizes by a tenth"]
    if found.dims > 1:
        affine["rotate"] = 180.0 if free and found.dims == 2 else 10.0 if found.dims == 3 else 0.0
        why.append(
            "any angle: nothing says what is up" if affine["rotate"] == 180 else
            "small turns" if affine["rotate"] else "no turns: there is an up"
        )  # fmt: skip
    if found.dims == 3:
        affine["p"] = 0.5
    affine["fill"] = 0.5 if found.dtype == "uint8" else 0.0
    ops = [affine]
    if found.dims == 3 and flips:  # by itself: the rest is done to half of the volumes
        ops.insert(0, dict(type="geometry:flip", **({"horizontal": 0.0} | flips)))
    if found.channels == 3 and found.dtype == "uint8":
        jitter = dict(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.05)
        ops.append(dict(type="photometric:color_jitter", **jitter))
        why.append("colours as another camera or hour might have them")
    elif found.dtype == "uint8" and found.dims > 1:
        ops.append(dict(type="photometric:color_jitter", brightness=0.3, contrast=0.3))
        why.append("brightness and contrast")
    elif found.dtype != "uint8":
        ops.append(dict(type="photometric:gamma", exponent=[0.8, 1.25]))
        why.append("the curve of grey values")
    return ops, "; ".join(why)


def losses(found: Fingerprint) -> tuple[list[dict[str, Any]], str]:
    """Return the losses, and why: cross-entropy and Dice, classes weighed where some are rare.

    The weights are the square root of ENet's, 1 / ln(1.02 + share) (Paszke et al. 2016, section
    5.1), scaled to mean 1: rare classes count more, but not so much that they spread.
    """
    cross_entropy: dict[str, Any] = dict(type="pixel:cross_entropy", weight=1.0)
    dice: dict[str, Any] = dict(type="region:dice", weight=1.0)
    why = "Dice weighs each class alike, however few its pixels; cross-entropy trains steadily"
    common = max(range(len(found.share)), key=found.share.__getitem__)
    rest = [share for k, share in enumerate(found.share) if k != common and share > 0]
    ratio = max(rest) / min(rest) if rest else 1.0
    if found.multilabel:
        cross_entropy["activation"] = dice["activation"] = "sigmoid"
        return [cross_entropy, dice], why + "; each class by itself, as they overlap"
    if 1 - found.share[common] < THIN_SHARE:
        cross_entropy["class_weights"] = "inverse_sqrt"
        why += f"; weights, as {1 - found.share[common]:.2g} of the pixels are of other classes"
    elif len(found.share) > MANY and ratio > RARE:
        roots = [math.log(1.02 + share) ** -0.5 for share in found.share]
        mean = sum(roots) / len(roots)
        cross_entropy["class_weights"] = [float(f"{root / mean:.2g}") for root in roots]
        why += f"; weights, as one class has {ratio:.3g} times the pixels of another"
    return [cross_entropy, dice], why


def sampling(found: Fingerprint) -> tuple[str, str]:
    """Return which examples training sees more often, `input.sampling.by`, and why."""
    rare = [
        name for name, images in zip(found.class_names, found.images, strict=True)
        if 0 < images < FEW_IMAGES
    ]  # fmt: skip
    if not rare or found.seen < 1 / FEW_IMAGES:
        return "uniform", "no class is in fewer than a tenth of the images"
    return "repeat_factor", f"fewer than a tenth of the images have {', '.join(rare[:3])}"


def window_share(
    found: Fingerprint, patch: Sequence[int], seen: Sequence[int]
) -> tuple[float, str]:
    """Return the share of windows that are laid over something, and why."""
    if math.prod(patch) >= 0.7 * math.prod(seen):
        return 0.0, "a window shows nearly all of an image"
    foreground = 1 - max(found.share)
    if foreground > 0.3:
        return 0.0, f"{foreground:.0%} of the pixels are of other classes than the most common one"
    share = 0.5 if foreground < THIN_SHARE else WINDOWS
    return share, f"only {foreground:.2g} of the pixels are of other classes than the most common"


def _listed(values: Sequence[float]) -> str:
    return " x ".join(f"{value:g}" for value in values)
