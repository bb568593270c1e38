"""The recorded files hold what their scripts make, and each case is compared with ours."""

import json
import pathlib

import numpy as np
import pytest

from tests import parity
from tests.golden.outside import record
from tests.outside import (
    recorded,
    test_detection,
    test_explain,
    test_functions,
    test_networks,
    test_weights,
)

REQUIREMENTS = pathlib.Path(__file__).parents[2] / "requirements-parity.txt"


@pytest.mark.parametrize("family", recorded.FAMILIES)
def test_versions_are_those_of_the_requirements(family):
    versions, _ = recorded.load(family)
    pinned = dict(
        line.split("==") for line in REQUIREMENTS.read_text().splitlines() if "==" in line
    )
    assert set(versions) == {*record.script(family).PACKAGES, "numpy"}
    for name in record.script(family).PACKAGES:
        assert versions[name].partition("+")[0] == pinned[name], name


@pytest.mark.parametrize("family", recorded.FAMILIES)
def test_cases_are_those_of_the_script(family):
    _, cases = recorded.load(family)
    assert set(cases) == set(record.script(family).CASES)


def test_every_case_is_compared_with_ours():
    networks = {*test_networks.NETWORKS, *test_networks.GRADIENTS, *test_networks.STATISTICS}
    others = test_functions.COMPARED | test_detection.COMPARED | test_weights.COMPARED
    others |= test_explain.COMPARED
    read = {"hdf5-earliest", "hdf5-v108"}  # by tests/pretrained/test_hdf5.py
    assert networks | others | read == {
        f"{family}-{name}" for family in recorded.FAMILIES for name in recorded.load(family)[1]
    }


def test_made_up_numbers_have_the_same_bits_everywhere():
    made = recorded.noise("layer.0.weight", (2, 3))
    expected = [
        ["-0x1.06e62eb2e6686p-1", "-0x1.b58a45922d2d5p-2", "0x1.be4b4d3781640p-1"],
        ["-0x1.298d36b0f5a02p-1", "0x1.23c9ef2e40d8ep+0", "0x1.ea474e1fe878bp-1"],
    ]
    assert [[x.hex() for x in row] for row in made.tolist()] == expected


def test_samples_reach_every_channel_and_column():
    places = np.unravel_index(recorded.sample(np.arange(2 * 24 * 36 * 64)), (2, 24, 36, 64))
    assert len(places[0]) <= recorded.SAMPLES
    assert [len(np.unique(axis)) for axis in places] == [2, 24, 36, 64]


@pytest.mark.slow
@pytest.mark.parametrize("family", recorded.FAMILIES)
def test_their_code_still_gives_what_is_recorded(family):
    made = record.script(family)
    if "torch" in made.PACKAGES:
        parity.detection()
    for package in made.PACKAGES:
        pytest.importorskip(package.replace("-", "_"), reason=parity.REASON)
    for name, make in made.CASES.items():
        again, case = make(), recorded.load(family)[1][name]
        assert json.loads(json.dumps(again.about)) == case.about
        assert set(again.arrays) == set(case.arrays)
        for key, value in again.arrays.items():
            if key == "file":  # in which addresses in memory are names
                continue
            scale = np.abs(value).max()
            np.testing.assert_allclose(case.arrays[key], value, rtol=0, atol=1e-9 * scale)
