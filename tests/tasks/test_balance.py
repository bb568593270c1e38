"""Class weights from the data, by hand from each paper's formula."""

import numpy as np
import pytest

from segjax.errors import ConfigError
from segjax.structs import Amounts
from segjax.tasks import balance, semantic

AMOUNTS = Amounts(pixels=(900, 90, 10, 0), around=(1000, 500, 100, 0), images=(10, 5, 1, 0),
                  examples=10)  # fmt: skip


def scaled(values):
    return pytest.approx([*(np.array(values) / np.mean(values)), 1.0], rel=1e-5)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("inverse", [1 / 0.9, 1 / 0.09, 1 / 0.01]),
        ("inverse_sqrt", [0.9**-0.5, 0.09**-0.5, 0.01**-0.5]),
        ("median_frequency", [0.18 / 0.9, 0.18 / 0.18, 0.18 / 0.1]),
        ("effective_number", [0.1 / (1 - 0.9**10), 0.1 / (1 - 0.9**5), 1.0]),
    ],
)
def test_a_scheme_is_its_formula(name, expected):
    """Of mean 1 over the classes that occur, and 1 for that which does not."""
    assert balance.weights(name, AMOUNTS) == scaled(expected)


def task(weights, amounts=AMOUNTS):
    losses = [{"type": "pixel:focal", "weight": 1.0, "class_weights": weights}]
    return semantic.Task(losses=losses, num_classes=4, amounts=amounts)


def test_a_loss_names_its_weights():
    (_, loss) = task("median_frequency").losses["focal"]
    assert loss.class_weights == tuple(balance.weights("median_frequency", AMOUNTS))
    assert task([1, 2, 3, 4]).losses["focal"][1].class_weights == (1, 2, 3, 4)


def test_what_cannot_be_weighed_is_said():
    with pytest.raises(ConfigError, match=r"class_weights='heavy': .* inverse, inverse_sqrt"):
        task("heavy")
    with pytest.raises(ConfigError, match=r"losses\[0\].class_weights='inverse': .*not counted"):
        task("inverse", None)


def test_pixels_are_counted_where_a_name_asks_for_it():
    assert balance.is_named([{"type": "x"}, {"class_weights": "inverse"}])
    for losses in ([{"class_weights": [1, 2]}], [{"class_weights": "heavy"}], "text", None, [3]):
        assert not balance.is_named(losses)
