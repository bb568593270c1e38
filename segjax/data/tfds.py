"""Any TFDS data set with a segmentation map, prepared with random access; without TensorFlow.

TFDS reads the records and leaves the encoded images to us: its own decoders need TensorFlow.
"""

import os
import pathlib
from typing import Annotated, Any

from segjax.config import kinds, rules
from segjax.data import base, core, decode
from segjax.errors import ConfigError, DataError, extra
from segjax.structs import Example
from segjax.views import colour

with extra("tfds", what="config.input.source.type='tfds'"):
    import tensorflow_datasets as tfds


class Source:
    """One split of a prepared TFDS data set.

    Args:
        split: A split or a slice of one (`train`, `train[:80%]`).
        name: `<data set>[/<config>][:<version>]`; the newest prepared version without one.
        data_dir: Where it was prepared; empty: `$TFDS_DATA_DIR` or `~/tensorflow_datasets`.
        image_key: The image feature.
        label_key: The feature that holds class numbers.
        ignore_index: Value of unlabelled pixels, or several; -1: none.
        label_offset: Added to every label value that is not ignored: -1 when classes start at 1.
        label_map: The class of every stored value that is not ignored, see `label_map.LabelMap`.
        dtype: Type of the images, see `decode.read_image`.
        class_names: Empty: the names that the feature carries, if it does (`LabeledImage`).
        expected: How many examples splits have, see `folder.Source`.
        num_classes: Without names from either: classes are named `class 0`, `class 1`, ….

    Raises:
        ConfigError: No class names, and no way to know them.
        DataError: Not prepared, unknown split or feature; when an example is read: unreadable
            image, label of another size, label value out of range.
    """

    def __init__(
        self,
        *,
        split: str,
        name: str,
        data_dir: str = "",
        image_key: str = "image",
        label_key: str = "segmentation_mask",
        ignore_index: core.IgnoreIndex = -1,
        label_offset: kinds.AnyWhole = 0,
        label_map: core.LabelClasses | None = None,
        dtype: kinds.PixelType = "uint8",
        class_names: core.ClassNames = (),
        num_classes: Annotated[int, rules.whole(0, 255)] = 0,
        expected: base.Expected | None = None,
    ):
        path = find_prepared(name, data_dir=data_dir)
        builder = tfds.builder_from_directory(str(path))
        features: Any = builder.info.features
        _check_images(features, (image_key, label_key), path=path)
        self.class_names = core.check_classes(
            class_names or _names(features[label_key], num_classes, name=name), where=f"tfds {name}"
        )
        self.palette = colour.voc_palette(len(self.class_names))
        channels = features[image_key].shape[-1] or 3
        # TFDS labels are made for the pixels as stored: no turning by EXIF.
        self.reading = decode.Reading(channels=channels, exif=False, dtype=dtype)
        self.schema = core.semantic_schema(channels, dtype=dtype)
        self.ignore, self.label_offset = core.ignore_values(ignore_index), label_offset
        self.label_map = core.make_label_map(
            label_map,
            num_classes=len(self.class_names),
            label_offset=label_offset,
            where="config.input.source",
        )
        self.title = f"{name}/{split}"
        self.records = _open(builder, split, path=path)
        self.keys = (image_key, label_key)
        self.features = tfds.features.FeaturesDict({key: features[key] for key in self.keys})
        if not len(self.records):
            raise DataError(f"{path}: split {split!r} is empty.")
        base.check_count(len(self.records), expected, split, where=str(path))

    def __len__(self) -> int:
        return len(self.records)

    def example_names(self) -> list[str]:
        """Return the name of each example: its place in the split."""
        return [f"{self.title}/{index}" for index in range(len(self.records))]

    def __getitem__(self, index: int) -> Example:
        encoded = dict.fromkeys(self.keys, tfds.decode.SkipDecoding())
        record: Any = self.features.deserialize_example_np(self.records[index], decoders=encoded)
        name = f"{self.title}/{index}"
        image_name, label_name = (f"{name} ({key})" for key in self.keys)
        image, label = decode.read_pair(
            *(record[key] for key in self.keys),
            image_name=image_name,
            label_name=label_name,
            reading=self.reading,
        )
        label = core.check_label(
            label,
            num_classes=len(self.class_names),
            ignore=self.ignore,
            offset=self.label_offset,
            mapping=self.label_map,
            name=label_name,
        )
        return Example(image=image, label=label, name=name)


def find_prepared(name: str, *, data_dir: str = "") -> pathlib.Path:
    """Return the folder of a prepared data set, the newest version unless `name` says which.

    TFDS's own search imports the data set's code, which may need TensorFlow.

    Raises:
        DataError: There is none; the message says how to prepare it.
    """
    data_dir = data_dir or os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
    root = core.expand_path(data_dir, where="data_dir")
    folder = root / name.replace(":", "/")
    if _is_prepared(folder):
        return folder
    versions = [path for path in folder.glob("*") if _is_prepared(path)]
    if versions:
        return max(versions, key=_version)
    configs = sorted({path.parent.parent.name for path in folder.glob("*/*/features.json")})
    if configs:
        raise DataError(
            f"name={name!r}: {folder} has configs. Choose one: name='{name}/{configs[0]}'; there "
            f"are {', '.join(configs)}."
        )
    raise DataError(
        f"name={name!r}: not prepared in {root}. Prepare it once (`pip install tensorflow-cpu` for "
        f"those that TFDS brings): tfds build {name.split(':')[0]} --data_dir={root} "
        "--file_format=array_record; or set data_dir."
    )


def _is_prepared(folder: pathlib.Path) -> bool:
    return (folder / "features.json").is_file() and (folder / "dataset_info.json").is_file()


def _version(folder: pathlib.Path) -> tuple[int, ...]:
    parts = folder.name.split(".")
    return tuple(int(part) for part in parts) if all(map(str.isdigit, parts)) else (-1,)


def _check_images(features: Any, keys: tuple[str, str], *, path: pathlib.Path) -> None:
    known = [key for key, value in features.items() if isinstance(value, tfds.features.Image)]
    for argument, key in zip(("image_key", "label_key"), keys, strict=True):
        if key not in known:
            raise DataError(
                f"{argument}={key!r}: {path} has no such image feature. "
                f"It has: {', '.join(sorted(known))}."
            )


def _names(feature: Any, num_classes: int, *, name: str) -> list[str]:
    labels = feature if isinstance(feature, tfds.features.LabeledImage) else None
    if labels is not None and labels.num_classes:
        return list(labels.names)
    if num_classes:
        return [f"class {number}" for number in range(num_classes)]
    raise ConfigError(f"tfds {name}: the label feature names no classes. Set class_names.")


def _open(builder: Any, split: str, *, path: pathlib.Path) -> Any:
    """Return the serialised records of a split: the features that we do not need stay unread."""
    raw = tfds.decode.DeserializeMethod.RAW_BYTES
    try:
        return builder.as_data_source(split=split, deserialize_method=raw)
    except NotImplementedError:
        raise DataError(
            f"{path}: prepared as {builder.info.file_format.value}, which has no random access. "
            f"Prepare it again with --file_format=array_record in another data_dir."
        ) from None
    except ValueError:
        raise DataError(
            f"split={split!r}: {path} has the splits {', '.join(builder.info.splits)}."
        ) from None
