import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from sklearn import metrics as sklearn

from segjax.errors import DataError
from segjax.metrics import confusion

NAMES = ("sky", "road", "car", "pole", "bird")


def split(batch=16, height=6, width=8, seed=0):
    """Return (pred, label) over 5 classes with void; 'bird' never occurs, 'pole' only in pred."""
    random = np.random.default_rng(seed)
    label = random.integers(0, 3, (batch, height, width)).astype(np.int32)
    pred = np.where(random.random(label.shape) < 0.7, label, random.integers(0, 4, label.shape))
    label[random.random(label.shape) < 0.2] = 255
    return pred.astype(np.int32), label


@functools.partial(jax.jit, static_argnames="num_classes")
def counting(pred, label, num_classes):
    return confusion.counts_per_example(pred, label, num_classes=num_classes)


def count(pred, label, num_classes=5):
    counts = counting(pred, label, num_classes)
    assert counts.dtype == jnp.int32 and counts.shape == (len(pred), num_classes, num_classes)
    return np.asarray(counts, np.int64).sum(axis=0)


def test_counts_equal_scikit_learn():
    pred, label = split()
    valid = label != 255
    expected = sklearn.confusion_matrix(label[valid], pred[valid], labels=range(5))
    np.testing.assert_array_equal(count(pred, label), expected)


@pytest.mark.parametrize("size", [(48,), (2, 8, 3)])
def test_signals_and_volumes_are_counted_like_images(size):
    pred, label = split()
    shape = (len(pred), *size)
    np.testing.assert_array_equal(
        count(pred.reshape(shape), label.reshape(shape)), count(pred, label)
    )


def test_what_is_out_of_range_is_not_counted():
    label = np.array([[[0, 255, 2, -1, 1, 1, 0]]], np.int32)
    pred = np.array([[[0, 0, 0, 0, 2, -1, 1]]], np.int32)
    np.testing.assert_array_equal(count(pred, label, num_classes=2), [[1, 1], [0, 0]])


def test_counts_of_any_batching_add_up_to_the_same_integers():
    pred, label = split(batch=8)
    whole = count(pred, label)
    for size in (1, 3, 8):
        total = np.zeros((5, 5), np.int64)
        for start in range(0, 8, size):
            rows = slice(start, start + size)
            padding = ((0, size - len(pred[rows])), (0, 0), (0, 0))
            total += count(
                np.pad(pred[rows], padding), np.pad(label[rows], padding, constant_values=255)
            )
        np.testing.assert_array_equal(total, whole)


@pytest.mark.parametrize("spec", [("data",), ("data", "space")], ids=str)
def test_sharded_counts_are_the_same_integers_without_gathering(spec):
    sizes = (8,) if len(spec) == 1 else (4, 2)
    mesh = jax.make_mesh(sizes, spec, axis_types=(AxisType.Auto,) * len(spec))
    pred, label = split()
    sharding = NamedSharding(mesh, PartitionSpec(*spec))
    sharded = jax.device_put((pred, label), sharding)
    replicated = NamedSharding(mesh, PartitionSpec())

    def total(pred, label):
        return confusion.counts_per_example(pred, label, num_classes=5).sum(axis=0)

    program = jax.jit(total, out_shardings=replicated).lower(*sharded).compile()
    text = program.as_text()
    assert "all-reduce" in text
    assert not any(word in text for word in ("all-gather", "all-to-all", "collective-permute"))
    np.testing.assert_array_equal(program(*sharded), count(pred, label))


def test_examples_are_counted_and_scored_one_by_one():
    pred, label = split(batch=3)
    label[2] = 255
    counts = confusion.counts_per_example(jnp.asarray(pred), jnp.asarray(label), num_classes=5)
    scores = confusion.example_miou(confusion.margins(np.asarray(counts)))
    for i in range(2):
        np.testing.assert_array_equal(counts[i], count(pred[i : i + 1], label[i : i + 1]))
        valid = label[i] != 255
        expected = sklearn.jaccard_score(label[i][valid], pred[i][valid], average="macro")
        np.testing.assert_allclose(scores[i], expected, rtol=1e-6)
    assert np.isnan(scores[2])


def test_scores_equal_scikit_learn():
    pred, label = split()
    result = confusion.summarize(count(pred, label), class_names=NAMES)
    y, p = label[label != 255], pred[label != 255]
    macro = {"average": "macro", "zero_division": 0}
    expected = {
        "miou": sklearn.jaccard_score(y, p, **macro),
        "dice": sklearn.f1_score(y, p, **macro),
        "f1": sklearn.f1_score(y, p, **macro),
        "precision": sklearn.precision_score(y, p, **macro),
        "recall": sklearn.recall_score(y, p, **macro),
        "pixel_accuracy": sklearn.accuracy_score(y, p),
        "mean_accuracy": sklearn.recall_score(y, p, labels=np.unique(y), **macro),
        "miou_label_present": sklearn.jaccard_score(y, p, labels=np.unique(y), **macro),
        "miou_absent_zero": sklearn.jaccard_score(y, p, labels=range(5), **macro),
        "miou_micro": sklearn.jaccard_score(y, p, average="micro"),
        "miou_frequency_weighted": sklearn.jaccard_score(y, p, average="weighted"),
        "miou_foreground": sklearn.jaccard_score(y, p, labels=(1, 2, 3), **macro),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(result[name], value, rtol=1e-12, err_msg=name)
    per_class = sklearn.precision_recall_fscore_support(y, p, labels=range(4), zero_division=0)
    for name, values in zip(("precision", "recall", "f1", "pixels"), per_class, strict=True):
        got = [result["per_class"][NAMES[i]][name] for i in range(4)]
        np.testing.assert_allclose(got, values, rtol=1e-12, err_msg=name)


def test_hand_worked_example():
    """Three classes: IoU 3/6, 2/6 and 0 (in the label once, never predicted)."""
    matrix = np.array([[3, 1, 0], [2, 2, 0], [0, 1, 0]], np.int64)
    result = confusion.summarize(matrix, class_names=("a", "b", "c"))
    assert result["per_class"]["b"] == {
        "iou": pytest.approx(2 / 6),
        "dice": pytest.approx(4 / 8),
        "precision": pytest.approx(2 / 4),
        "recall": pytest.approx(2 / 4),
        "f1": pytest.approx(4 / 8),
        "pixels": 4,
        "pixels_pred": 4,
    }
    assert result["per_class"]["c"]["precision"] == 0.0
    assert result["miou"] == pytest.approx((3 / 6 + 2 / 6 + 0) / 3)
    assert result["dice"] == result["f1"] == pytest.approx((6 / 9 + 4 / 8 + 0) / 3)
    assert result["precision"] == pytest.approx((3 / 5 + 2 / 4 + 0) / 3)
    assert result["recall"] == result["mean_accuracy"] == pytest.approx((3 / 4 + 2 / 4 + 0) / 3)
    assert result["pixel_accuracy"] == pytest.approx(5 / 9)
    assert result["miou_micro"] == pytest.approx(5 / 13)
    assert result["miou_frequency_weighted"] == pytest.approx((4 * 3 / 6 + 4 * 2 / 6) / 9)
    assert result["miou_foreground"] == pytest.approx(1 / 6)


def test_absent_class_is_listed_and_scored_by_no_mean_but_those_named_for_it():
    """'b' occurs in neither; 'c' only in the prediction."""
    matrix = np.array([[6, 0, 2], [0, 0, 0], [0, 0, 0]], np.int64)
    result = json.loads(json.dumps(confusion.summarize(matrix, class_names=("a", "b", "c"))))
    assert result["absent_classes"] == ["b"]
    absent = result["per_class"]["b"]
    assert [absent[key] for key in ("iou", "dice", "precision", "recall", "f1")] == [None] * 5
    assert absent["pixels"] == absent["pixels_pred"] == 0
    assert result["confusion_matrix"] == matrix.tolist()
    conventions = {name: value for name, value in result.items() if name.startswith("miou")}
    assert conventions == pytest.approx(
        {
            "miou": (6 / 8 + 0) / 2,
            "miou_label_present": 6 / 8,
            "miou_absent_zero": (6 / 8 + 0 + 0) / 3,
            "miou_absent_one": (6 / 8 + 1 + 0) / 3,
            "miou_micro": 6 / 10,
            "miou_frequency_weighted": 6 / 8,
            "miou_foreground": 0.0,
        }
    )


def test_without_foreground_its_score_is_none():
    result = confusion.summarize(np.diag([5, 0]).astype(np.int64), class_names=("a", "b"))
    assert result["miou_foreground"] is None and result["miou"] == 1.0


def test_totals_beyond_int32_stay_exact():
    batch = np.array([[2**30, 1], [3, 2**30]], np.int32)
    total = np.zeros((2, 2), np.int64)
    for _ in range(5):
        total += batch
    result = confusion.summarize(total, class_names=("a", "b"))
    assert result["confusion_matrix"] == [[5 * 2**30, 5], [15, 5 * 2**30]]
    assert result["per_class"]["a"]["pixels"] == 5 * 2**30 + 5
    assert result["miou"] == pytest.approx(2**30 / (2**30 + 4), rel=1e-15)


@pytest.mark.parametrize(
    ("matrix", "names", "message"),
    [
        (np.zeros((2, 2), np.int64), ("a", "b"), "no valid pixel"),
        (np.ones((2, 2), np.int64), ("a", "b", "c"), r"shape \(2, 2\) for 3 class names"),
        (np.ones((3, 3), np.int64), ("a", "b", "a"), "class names a occur more than once"),
    ],
)
def test_unusable_matrix_is_a_data_error(matrix, names, message):
    with pytest.raises(DataError, match=message):
        confusion.summarize(matrix, class_names=names)


def overlapping(batch=12, size=(5, 7), seed=0):
    """Return multi-label (pred, label) of 5 classes; 'bird' never occurs, 'pole' only in pred."""
    random = np.random.default_rng(seed)
    label = random.integers(0, 2, (batch, *size, 5)).astype(np.uint8)
    pred = np.where(random.random(label.shape) < 0.7, label, 1 - label).astype(np.uint8)
    label[..., 3:] = pred[..., 4] = 0
    return pred, label


@pytest.mark.parametrize("size", [(35,), (5, 7), (2, 5, 7)])
def test_binary_counts_and_scores_equal_scikit_learns(size):
    """Of multi-label indicators, pixels in rows; absent classes are left out of macro means."""
    pred, label = overlapping(size=size)
    counts = jax.jit(confusion.binary_counts_per_example)(jnp.asarray(pred), jnp.asarray(label))
    assert counts.dtype == jnp.int32 and counts.shape == (12, 5, 2, 2)
    total = np.asarray(counts, np.int64).sum(0)
    flat, said = label.reshape(-1, 5), pred.reshape(-1, 5)
    np.testing.assert_array_equal(total, sklearn.multilabel_confusion_matrix(flat, said))
    result = confusion.summarize_binary(total, class_names=NAMES)
    assert result["absent_classes"] == ["bird"] and result["per_class"]["bird"]["iou"] is None
    four = {"average": "macro", "labels": range(4), "zero_division": 0}
    assert result["miou"] == pytest.approx(sklearn.jaccard_score(flat, said, **four))
    assert result["f1"] == result["dice"] == pytest.approx(sklearn.f1_score(flat, said, **four))
    assert result["precision"] == pytest.approx(sklearn.precision_score(flat, said, **four))
    assert result["recall"] == pytest.approx(sklearn.recall_score(flat, said, **four))
    assert result["label_accuracy"] == pytest.approx(1 - sklearn.hamming_loss(flat, said))
    micro = sklearn.jaccard_score(flat, said, average="micro")
    assert result["miou_micro"] == pytest.approx(micro)
    for c, name in enumerate(NAMES[:4]):
        own = result["per_class"][name]
        assert own["accuracy"] == pytest.approx((flat[:, c] == said[:, c]).mean())
        assert own["pixels"] == flat[:, c].sum() and own["pixels_pred"] == said[:, c].sum()
    json.dumps(result)


def test_binary_counts_leave_void_of_each_class_out_and_add_up():
    pred, label = overlapping(batch=8)
    label[:, 0], label[:, 1, :, 0], label[:, 2, :, 1] = 255, 255, 7
    counts = np.asarray(confusion.binary_counts_per_example(jnp.asarray(pred), jnp.asarray(label)))
    np.testing.assert_array_equal(counts.sum((2, 3)), (label < 2).sum((1, 2)))
    parts = [
        confusion.binary_counts_per_example(jnp.asarray(pred[:, :, p]), jnp.asarray(label[:, :, p]))
        for p in (slice(0, 3), slice(3, 7))
    ]
    np.testing.assert_array_equal(np.asarray(parts[0]) + np.asarray(parts[1]), counts)


def test_binary_scores_of_nothing_are_none_and_of_all_void_an_error():
    """No class in label and prediction: nothing to average, but every "is not" is right."""
    counts = np.zeros((2, 2, 2), int)
    counts[:, 0, 0] = 9
    result = confusion.summarize_binary(counts, class_names=("a", "b"))
    assert result["miou"] is result["dice"] is result["accuracy"] is None
    assert result["absent_classes"] == ["a", "b"] and result["label_accuracy"] == 1
    assert np.isnan(confusion.example_miou(confusion.binary_margins(counts[None])))
    with pytest.raises(DataError, match="no valid pixel"):
        confusion.summarize_binary(0 * counts, class_names=("a", "b"))
    with pytest.raises(DataError, match="expected \\(3, 2, 2\\)"):
        confusion.summarize_binary(counts, class_names=("a", "b", "c"))
