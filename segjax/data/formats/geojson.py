"""GeoJSON: a file of polygons for each image, in the coordinates of its GeoTIFF.

Pixels are those whose centres lie in a polygon and in none of its holes, as GDAL and rasterio
paint them; the later feature covers the earlier. The tags of the TIFF (scale and tie point, or a
matrix) place its pixels; without them coordinates are pixels, as `--mode=predict` writes them.
"""

import functools
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from segjax.config import rules
from segjax.data import decode, geo, listing
from segjax.data.formats import images, outlines, parse
from segjax.data.formats.base import (
    VOID,
    Annotations,
    Losses,
    Object,
    Options,
    Picture,
    Ring,
    Rings,
    Size,
)
from segjax.data.formats.raster import Patch
from segjax.errors import DataError
from segjax.runtime import files

ENDINGS = (".geojson",)
PROPERTIES = ("class", "label", "category", "name", "type")
"""Of a feature; the first that is a text names its class, before them QuPath's `classification`."""
ONE = "object"
_EPSG = re.compile(r"(?:EPSG:+|OGC:[\d.]*:CRS)(\d+)$")


class Place(NamedTuple):
    """Where an image lies.

    Attributes:
        matrix: From column and row, counted from the first pixel's corner, to coordinates.
        code: The EPSG number of those; 0: not said.
    """

    matrix: Float[np.ndarray, "2 3"]
    code: int = 0

    def to_pixels(self, points: Ring) -> Ring:
        """Return coordinates as columns and rows."""
        inverse = np.linalg.inv(self.matrix[:, :2])
        return (points - self.matrix[:, 2]) @ inverse.T

    def to_map(self, points: Ring) -> Ring:
        """Return columns and rows as coordinates."""
        return points @ self.matrix[:, :2].T + self.matrix[:, 2]


PIXELS = Place(np.array([[1.0, 0, 0], [0, 1, 0]]))


def read(path: pathlib.Path, options: Options) -> Annotations:
    """Return the data set of a folder of GeoJSON files, each beside the image of its name.

    Raises:
        DataError: No such file, an image that is not there, coordinates of another system.
    """
    found = listing.list_files(path, endings=ENDINGS) if path.is_dir() else {path.stem: path}
    if not found:
        raise DataError(f"{path}: no .geojson files in it. Name their folder, or one of them.")
    names = options.class_names
    if names is None:
        seen = {_label(feature, options.property) for file in found.values()
                for feature in _features(_read(file), where=str(file))}  # fmt: skip
        names = tuple(sorted(seen))
    root = path if path.is_dir() else path.parent
    return Annotations(names, functools.partial(_pictures, root, found, options))


def _read(file: pathlib.Path) -> dict[str, Any]:
    content = parse.section(parse.read_json(file), where=str(file), what="a FeatureCollection")
    if content.get("type") != "FeatureCollection":
        raise DataError(f"{file}: no FeatureCollection of GeoJSON. Name another file.")
    return content


def _features(content: Mapping[str, Any], *, where: str) -> list[dict[str, Any]]:
    return parse.fields(content, "features", where=where)


def _label(feature: Mapping[str, Any], name: str | None) -> str:
    properties = feature.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    if name is not None:
        value = properties.get(name)
        return str(value) if isinstance(value, (str, int)) else ONE
    group = properties.get("classification")
    if isinstance(group, dict) and isinstance(group.get("name"), str):
        return group["name"]
    return next((properties[k] for k in PROPERTIES if isinstance(properties.get(k), str)), ONE)


def _pictures(
    root: pathlib.Path, found: Mapping[str, pathlib.Path], options: Options
) -> Iterator[Picture]:
    for stem, file in found.items():
        folders = [*([options.images] if options.images else []), file.parent, root / "images"]
        names = [f"{pathlib.PurePath(stem).name}{ending}" for ending in decode.IMAGE_ENDINGS]
        names += [f"{stem}{ending}" for ending in decode.IMAGE_ENDINGS]
        image = next((each for folder in folders for name in names
                      if (each := folder / name).is_file()), None)  # fmt: skip
        if image is None:
            raise DataError(
                f"{file}: no image of that name in {', '.join(map(str, folders))}. Put it there, "
                "or name the folder of images with --images."
            )
        size = images.size_of(image, name=str(image))
        place = place_of(image)
        content = _read(file)
        _check_system(content, place, where=str(file))
        things, dropped = _objects(content, place, options, where=str(file))
        if things and not any(_touches(thing, size) for thing in things):
            system = f"EPSG:{place.code}" if place.code else "the image's own system"
            raise DataError(
                f"{file}: no feature lies on the image {image}. Coordinates must be in {system}: "
                "bring them there, with ogr2ogr for instance."
            )
        name = images.below(image, [*([options.images] if options.images else []), root],
                            where=str(file))  # fmt: skip
        yield Picture(name, image, size, tuple(things), dropped=tuple(dropped))


def _touches(thing: Object, size: Size) -> bool:
    points = np.concatenate([ring for part in thing.parts if isinstance(part, Rings)
                             for ring in part.rings])  # fmt: skip
    low, high = points.min(axis=0), points.max(axis=0)
    return bool((high > 0).all() and (low < np.array(size[::-1])).all())


def place_of(image: pathlib.Path) -> Place:
    """Return where an image lies by its TIFF tags; of others columns and rows are coordinates.

    Raises:
        DataError: Tags that place nothing.
    """
    with decode.explained(str(image)):
        geometry = geo.geometry_of(image)
        if geometry is None or geometry.affine is None:
            return PIXELS
        if abs(np.linalg.det(geometry.affine[:2, :2])) < 1e-300:
            raise ValueError("its GeoTIFF tags place no pixel")
        code = geometry.crs.removeprefix("EPSG:")
        # There from (row, column) to (y, x), here from (column, row) to (x, y).
        return Place(geometry.affine[:2][::-1, [1, 0, 2]], int(code) if code.isdecimal() else 0)


def _check_system(content: Mapping[str, Any], place: Place, *, where: str) -> None:
    """Refuse coordinates that say that they are of another system than the image's."""
    system = content.get("crs")
    name = system.get("properties", {}).get("name") if isinstance(system, dict) else None
    match = _EPSG.search(name) if isinstance(name, str) else None
    code = int(match[1]) if match and len(match[1]) < 9 else 0
    code = 4326 if code == 84 else code
    if code and place.code and code != place.code:
        raise DataError(
            f"{where}: coordinates in EPSG:{code}, the image in EPSG:{place.code}. Bring them "
            f"there: ogr2ogr -t_srs EPSG:{place.code} new.geojson old.geojson."
        )


def _objects(
    content: Mapping[str, Any], place: Place, options: Options, *, where: str
) -> tuple[list[Object], list[str]]:
    things, dropped = [], []
    for number, feature in enumerate(_features(content, where=where)):
        here = f"{where}: features[{number}]"
        geometry = feature.get("geometry")
        if geometry is None:
            dropped.append("of a feature without a geometry")
            continue
        geometry = parse.section(geometry, where=here)
        kind = parse.field(geometry, "type", str, where=here)
        if kind not in ("Polygon", "MultiPolygon"):
            dropped.append(f"of a {rules.cut(kind, 40)}, which has no area")
            continue
        found = parse.field(geometry, "coordinates", list, where=here)
        polygons = [found] if kind == "Polygon" else found
        parts = tuple(_rings(one, place, where=here) for one in polygons)
        properties = feature.get("properties")
        more = dict(properties) if isinstance(properties, dict) else {}
        known = {*PROPERTIES, "classification", "objectType", "number", "pixels", options.property}
        more = {name: value for name, value in more.items() if name not in known}
        if parts:
            things.append(Object(_label(feature, options.property), parts, attributes=more))
    return things, dropped


def _rings(polygon: Any, place: Place, *, where: str) -> Rings:
    if not isinstance(polygon, list) or not polygon:
        raise DataError(f"{where}: expected rings of points, got {rules.shown(polygon)}. Mend it.")
    found = []
    for one in polygon:
        flat = one if isinstance(one, list) else []
        if len(flat) > parse.MAX_POINTS:
            raise DataError(
                f"{where}: an outline of more than {parse.MAX_POINTS:,} points. Simplify it."
            )
        try:
            points = np.array([point[:2] for point in flat], float).reshape(-1, 2)
        except (TypeError, ValueError, OverflowError):
            points = np.zeros((0, 2))
        pixels = place.to_pixels(points) if len(points) else points
        found.append(parse.ring(pixels[:-1].tolist() if _closed(pixels) else pixels.tolist(),
                                where=where))  # fmt: skip
    return Rings(tuple(found), "centre", even_odd=True)


def _closed(points: Ring) -> bool:
    return len(points) > 1 and bool((points[0] == points[-1]).all())


def write(annotations: Annotations, folder: pathlib.Path, options: Options, losses: Losses) -> None:
    """Write a GeoJSON file beside each image, in the coordinates of the image's own tags."""
    for picture in annotations.pictures():
        target = folder / picture.split / picture.name
        images.place(picture, target, link=options.link)
        place = place_of(target)
        losses.add("{} tags of images are left out", len(picture.tags))
        features = []
        for thing, patch in outlines.instances(picture):
            if thing.label is VOID:
                losses.add("{} void objects are left out")
                continue
            losses.add("{} crowds are plain objects there", thing.crowd)
            polygons = _polygons(thing, patch)
            if not polygons:
                losses.add("{} objects have no pixel in their image")
                continue
            coordinates = [[_written(ring, place) for ring in polygon] for polygon in polygons]
            one = len(coordinates) == 1
            features.append({
                "type": "Feature",
                "geometry": {"type": "Polygon" if one else "MultiPolygon",
                             "coordinates": coordinates[0] if one else coordinates},
                "properties": {**thing.attributes, "class": thing.label},
            })  # fmt: skip
        content: dict[str, Any] = {"type": "FeatureCollection", "features": features}
        if place.code:
            name = f"urn:ogc:def:crs:EPSG::{place.code}"
            content["crs"] = {"type": "name", "properties": {"name": name}}
        name = f"{images.stem(picture.name)}{ENDINGS[0]}"
        files.write_json(folder / picture.split / name, content, indent=None)


def _polygons(thing: Object, patch: Patch) -> list[list[Ring]]:
    """Return polygons, each an outline and its holes."""
    drawn = []
    for part in thing.parts:
        if isinstance(part, Rings) and part.even_odd:
            drawn.append(list(part.rings))
        elif isinstance(part, Rings):
            drawn += [[ring] for ring in part.rings]
        else:
            rings = outlines.of(Object("", (part,)))
            if rings is None:
                return [[region.outline.astype(float), *(h.astype(float) for h in region.holes)]
                        for region in outlines.traced(patch)]  # fmt: skip
            drawn += [[ring] for ring in rings]
    return drawn


def _written(ring: Ring, place: Place) -> list[list[float]]:
    points = place.to_map(np.concatenate([ring, ring[:1]]))
    return points.tolist()
