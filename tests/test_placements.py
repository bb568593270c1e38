"""One run on any placement: the losses of one device, with all that could depend on placement.

Batch norm, gradient accumulation and every augmentation; `distributed/test_processes.py` compares
several processes with the same curve.
"""

import numpy as np
import pytest

from tests.distributed import curve

MESHES = {"data": (8, 1, 1), "fsdp": (1, 8, 1), "data and space": (4, 1, 2)}


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "rtol"), [("float64", 1e-10), ("", 1e-3)])
@pytest.mark.parametrize("mesh", MESHES.values(), ids=MESHES)
def test_the_losses_are_those_of_one_device(mesh, kind, rtol):
    one = curve.losses(kind)
    assert len(set(one)) == 20 and one[-1] < 0.8 * one[0]
    np.testing.assert_allclose(curve.losses(kind, mesh), one, rtol=rtol)
