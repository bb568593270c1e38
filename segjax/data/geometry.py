"""Where the pixels of a file lie in the world, so that what is predicted is written back there."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float


@dataclasses.dataclass(frozen=True, eq=False)
class Geometry:
    """The grid of a file's pixels, and what a writer of its format needs to say it again.

    Attributes:
        format: Whose it is: 'nifti', 'dicom', 'tiff', 'zarr' or 'wav'.
        spacing: Distance of neighbouring pixels along each of the array's axes in space, in `unit`;
            empty: not known.
        unit: 'mm', 's' (seconds), 'm', '°' or '': not known.
        affine: From indices along the array's axes in space, and 1, to places in the world; None:
            not known. Of NIfTI and DICOM these are millimetres to the right, the front and the top
            of a patient (RAS), as NIfTI has it.
        crs: The coordinate reference system of places on earth: 'EPSG:32633', or in words.
        header: What the format's writer takes over.
    """

    format: str
    spacing: tuple[float, ...] = ()
    unit: str = ""
    affine: Float[np.ndarray, "n n"] | None = None
    crs: str = ""
    header: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def same_grid(self, other: "Geometry", *, tolerance: float = 1e-3) -> bool:
        """Say whether two grids lie alike, as far as both are known.

        Args:
            other: Of an array with the same sides.
            tolerance: Of places, as a share of the smallest spacing.
        """
        if self.affine is None or other.affine is None:
            return True
        if self.affine.shape != other.affine.shape:
            return False
        smallest = np.sqrt((self.affine[:-1, :-1] ** 2).sum(0)).min()
        return bool(np.abs(self.affine - other.affine).max() <= tolerance * max(smallest, 1e-12))


def spacing_of(affine: Float[np.ndarray, "n n"]) -> tuple[float, ...]:
    """Return the distance of neighbouring pixels along each axis of an affine map."""
    return tuple(float(step) for step in np.sqrt((affine[:-1, :-1] ** 2).sum(0)))
