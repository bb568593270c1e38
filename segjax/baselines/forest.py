"""A random forest as arrays of a fixed shape: what scikit-learn fits, evaluated by NumPy.

Node i of a tree has its children at 2 i + 1 and 2 i + 2, so the depth alone decides how large a
tree's arrays are, and a fitted forest is saved as numbers, not as a pickled object.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Integer

LEAF = -1


class Trees(NamedTuple):
    """Several trees, float32.

    Attributes:
        feature: Which feature a node asks for [t m]; `LEAF` where it asks no more.
        threshold: A pixel goes left where its feature is at most this [t m].
        shares: The share of each class in a node's training pixels [t m k]; of leaves alone.
    """

    feature: Float[np.ndarray, "t m"]
    threshold: Float[np.ndarray, "t m"]
    shares: Float[np.ndarray, "t m k"]


def nodes(depth: int) -> int:
    """Return how many nodes a tree of a depth has room for."""
    return 2 ** (depth + 1) - 1


def fit(
    values: Float[np.ndarray, "n f"],
    classes: Integer[np.ndarray, " n"],
    *,
    trees: int,
    depth: int,
    count: int,
    seed: int,
) -> Trees:
    """Return a random forest (Breiman 2001) that tells classes by features.

    Args:
        values: Features of pixels.
        classes: Of these.
        trees: How many, each fitted to a bootstrap sample, the root of all features at a node.
        depth: The most questions on the way to a leaf.
        count: Of classes; those that do not occur have the share 0.
        seed: Decides the samples.
    """
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(n_estimators=trees, max_depth=depth, random_state=seed)
    forest.fit(np.asarray(values, np.float32), classes)
    return of_sklearn(forest, depth=depth, count=count)


def of_sklearn(forest: Any, *, depth: int, count: int) -> Trees:
    """Return the trees of a `RandomForestClassifier` that is not deeper than `depth`."""
    shape = len(forest.estimators_), nodes(depth)
    found = Trees(
        np.full(shape, LEAF, np.float32),
        np.zeros(shape, np.float32),
        np.zeros((*shape, count), np.float32),
    )
    numbers = forest.classes_.astype(np.int64)
    for t, estimator in enumerate(forest.estimators_):
        tree, places = estimator.tree_, {0: 0}  # a node's place in our arrays, by sklearn's number
        for node in range(tree.node_count):  # parents come before their children
            place = places.pop(node)
            if tree.children_left[node] == tree.children_right[node]:
                values = tree.value[node, 0]
                found.shares[t, place, numbers] = values / values.sum()
                continue
            found.feature[t, place] = tree.feature[node]
            found.threshold[t, place] = _below(tree.threshold[node])
            places[int(tree.children_left[node])] = 2 * place + 1
            places[int(tree.children_right[node])] = 2 * place + 2
    return found


def predict(trees: Trees, values: Float[np.ndarray, "n f"]) -> Float[np.ndarray, "n k"]:
    """Return the probability of each class: the mean of the trees' leaves, float32."""
    values = np.ascontiguousarray(values, np.float32)
    rows = np.arange(len(values)) * values.shape[1]
    flat, total = values.ravel(), np.zeros((len(values), trees.shares.shape[-1]), np.float32)
    features = trees.feature.astype(np.int64)
    depth = int(np.log2(trees.feature.shape[1] + 1)) - 1
    for feature, threshold, shares in zip(features, trees.threshold, trees.shares, strict=True):
        place = np.zeros(len(values), np.int64)
        for _ in range(depth):
            asked = feature[place]
            right = flat[rows + np.maximum(asked, 0)] > threshold[place]
            place = np.where(asked == LEAF, place, 2 * place + 1 + right)
        total += shares[place]
    return total / len(features)


def _below(threshold: float) -> np.float32:
    """Return the largest float32 that is not above a threshold: it parts float32 values alike."""
    near = np.float32(threshold)
    return near if near <= threshold else np.nextafter(near, np.float32(-np.inf))
