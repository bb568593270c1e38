"""A forest as arrays answers as scikit-learn's own object does."""

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier

from segjax.baselines import forest


@pytest.mark.parametrize("depth", [1, 3, 7])
def test_it_is_the_forest_of_scikit_learn(depth):
    """Classes that do not occur have the share 0; equal values and thresholds go the same way."""
    key = np.random.default_rng(depth)
    values = key.normal(size=(400, 5)).astype(np.float32).round(2)
    classes = (values[:, 0] > 0.3) + 2 * (values[:, 1] * values[:, 2] > 0)
    classes[classes == 1] = 4
    theirs = RandomForestClassifier(n_estimators=7, max_depth=depth, random_state=3)
    theirs.fit(values, classes)
    ours = forest.fit(values, classes, trees=7, depth=depth, count=6, seed=3)
    seen = np.concatenate([values, key.normal(size=(300, 5)).astype(np.float32).round(2)])
    expected = np.zeros((len(seen), 6))
    expected[:, theirs.classes_] = theirs.predict_proba(seen)
    np.testing.assert_allclose(forest.predict(ours, seen), expected, atol=1e-6)
    assert ours.feature.shape == (7, 2 ** (depth + 1) - 1)


def test_thresholds_part_neighbouring_float32_values():
    """Halfway between two neighbours float32 has no number; scikit-learn asks in float64.

    The half lies nearer to no one, and float32 rounds it to the even neighbour: the upper one here.
    """
    low = np.nextafter(np.float32(1000), np.float32(2000))
    high = np.nextafter(low, np.float32(2000))
    assert np.float32((float(low) + float(high)) / 2) == high
    values = np.array([[low], [high]] * 20, np.float32)
    classes = np.array([0, 1] * 20)
    found = forest.fit(values, classes, trees=3, depth=2, count=2, seed=0)
    np.testing.assert_array_equal(forest.predict(found, values).argmax(-1), classes)
