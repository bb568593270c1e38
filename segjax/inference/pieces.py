"""The windows of an example as a network gets them: cut out, turned, padded."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from segjax.data import fit, resample
from segjax.inference.layout import Layout, Piece, Plan, Size, View
from segjax.structs import Schema


class Cut:
    """An example as pieces of canvas size; scaled copies of it are made at once.

    But not of images that are brought to a spacing: of these each piece is interpolated alone.

    Args:
        example: Its fields, arrays or what gives parts of one by `[region]`.
        layout: How images are seen.
        schema: The fields to cut.

    Raises:
        DataError: Another number of axes than the canvas, or fields that differ in size.
    """

    def __init__(self, example: Mapping[str, Any], layout: Layout, schema: Schema):
        self.example, self.schema, self.layout = example, schema, layout
        name, channels = example["name"], len(schema["image"].shape)
        whole = example["image"].shape[: len(example["image"].shape) - channels]
        spacing = example.get(resample.FIELD, ()) if layout.spacing else ()
        self.plan = Plan(whole, layout, name=name, spacing=spacing)
        fit.check_fields(example, schema, name=name)
        self.scaled: dict[tuple[str, Size], Any] = {}
        for view in self.plan.views:
            for key in ["image"] if not view.is_plain else schema:
                self._scaled(key, view.sides)

    def _scaled(self, name: str, sides: Size) -> Any:
        """Return a field at the sides of a view."""
        field, found = self.schema[name], self.example[name]
        if sides == self.plan.whole or not field.is_spatial:
            return found
        if self.layout.spacing and not field.is_map:
            how = resample.Resampling(image=self.layout.image_resampling)
            return resample.lazily(found, field, sides, how, name=self.example["name"])
        if (name, sides) not in self.scaled:
            resize = fit.resize_map if field.is_map else fit.resize_image
            self.scaled[name, sides] = resize(np.asarray(found), sides)
        return self.scaled[name, sides]

    def fields(self, piece: Piece) -> dict[str, Any]:
        """Return the fields of one piece at the canvas' size.

        Maps hold their values where this window lies nearest, so that each label counts once in a
        loss, and their fill elsewhere; in views that are scaled or turned nothing but fill.
        """
        view, canvas = self.plan.views[piece.view], self.layout.canvas
        starts = [axis.starts[at] for axis, at in zip(view.axes, piece.at, strict=True)]
        found: dict[str, Any] = {"name": self.example["name"]}
        for name, field in self.schema.items():
            if not field.is_spatial:
                found[name] = self.example[name]
            elif field.is_map:
                found[name] = self._map(name, view, piece, starts)
            else:
                seen = tuple(
                    slice(start, start + axis.covered())
                    for start, axis in zip(starts, view.axes, strict=True)
                )
                turned = tuple(slice(None, None, -1 if axis.flip else 1) for axis in view.axes)
                part = np.asarray(self._scaled(name, view.sides)[seen])[turned]
                found[name] = fit.pad(part, size=canvas.size, value=canvas.pad_value)
        return found

    def _map(self, name: str, view: View, piece: Piece, starts: Sequence[int]) -> np.ndarray:
        """Return a map at the canvas' size, with its values where the window lies nearest."""
        whole = self.example[name]
        shape = (*self.layout.canvas.size, *whole.shape[len(view.axes) :])
        array = np.full(shape, self.schema[name].fill, whole.dtype)
        if view.is_plain:
            kept = [axis.kept(at) for axis, at in zip(view.axes, piece.at, strict=True)]
            region = tuple(slice(*span) for span in kept)
            inner = tuple(slice(a - s, b - s) for (a, b), s in zip(kept, starts, strict=True))
            array[inner] = np.asarray(self._scaled(name, view.sides)[region])
        return array
