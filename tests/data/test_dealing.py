"""Folds of a cross-validation, over random sizes, groups and contents.

The rules: every example is in exactly one fold, and folds are as even as they can be; a group is in
one fold; shares of classes are nearer to each other than by chance; and nothing but names, groups
and contents decides, so that the order of files, the machine and the number of workers do not.
"""

import hashlib

import numpy as np
import pytest

from segjax.data import dealing
from segjax.errors import ConfigError, DataError


def cases(count, seed=0):
    """Yield names, folds, groups and pixels, of random sizes; groups are of very unlike sizes."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        n = int(rng.integers(4, 120))
        names = [f"case{number}/{i:03d}.png" for i in rng.permutation(n)]
        owners = rng.integers(0, rng.integers(2, n + 1), n) ** 2 // n
        groups = [f"patient{owner}" for owner in owners]
        classes = int(rng.integers(1, 12))
        there = rng.random((n, classes)) < rng.random(classes)
        pixels = (rng.exponential(1000, (n, classes)) * there).astype(np.int64)
        folds = int(rng.integers(2, min(10, len({*groups})) + 1)) if len({*groups}) > 1 else 2
        yield names, folds, groups, pixels


def deal(names, folds, groups, pixels, kind, seed=0):
    return dealing.deal(names, folds, kind=kind, seed=seed, groups=groups, pixels=pixels)


def unlike(dealt, pixels, folds):
    """Return how far shares of classes are from equal, on average over folds and classes."""
    held = np.stack([pixels[np.array(dealt) == fold].sum(0) for fold in range(folds)])
    total = held.sum(0)
    return np.abs(held[:, total > 0] / total[total > 0] - 1 / folds).mean()


@pytest.mark.parametrize("kind", dealing.KINDS)
def test_every_example_is_in_one_fold_and_no_fold_is_empty(kind):
    for case in cases(24):
        names, folds, groups, _ = case
        if len({*groups}) < folds:
            continue
        dealt = deal(*case, kind)
        assert len(dealt) == len(names)
        sizes = np.bincount(dealt, minlength=folds)
        assert len(sizes) == folds and sizes.min() > 0
        if not kind.endswith("grouped"):
            assert sizes.max() - sizes.min() <= 1


@pytest.mark.parametrize("kind", ["grouped", "stratified_grouped"])
def test_a_group_is_in_one_fold(kind):
    for case in cases(24, seed=1):
        _, folds, groups, _ = case
        if len({*groups}) >= folds:
            pairs = {*zip(groups, deal(*case, kind), strict=True)}
            assert len(pairs) == len({*groups})


@pytest.mark.parametrize(
    "kind, without", [("stratified", "plain"), ("stratified_grouped", "grouped")]
)
def test_shares_of_classes_are_nearer_than_by_chance(kind, without):
    roomy = []
    for case in cases(24, seed=2):
        _, folds, groups, pixels = case
        if len({*groups}) >= folds and pixels.any():
            pair = [unlike(deal(*case, each), pixels, folds) for each in (kind, without)]
            assert pair[0] <= pair[1]
            roomy += [pair] if len({*groups}) >= 4 * folds else []
    stratified, plain = np.mean(roomy, axis=0)
    assert len(roomy) >= 5 and stratified < 0.6 * plain


def test_a_rare_class_is_in_as_many_folds_as_it_can_be():
    """Of a class that few examples have each fold gets one, where a shuffle forgets some."""
    for seed in range(8):
        pixels = np.zeros((50, 2), np.int64)
        pixels[:, 0] = 1000
        rare = np.random.default_rng(seed).choice(50, 5, replace=False)
        pixels[rare, 1] = 10
        dealt = dealing.deal(
            [f"{i}" for i in range(50)], 5, kind="stratified", seed=seed, pixels=pixels
        )
        assert sorted(dealt[i] for i in rare) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("kind", dealing.KINDS)
def test_the_order_of_files_has_no_say(kind):
    rng = np.random.default_rng(3)
    for names, folds, groups, pixels in cases(8, seed=3):
        if len({*groups}) < folds:
            continue
        order = rng.permutation(len(names))
        dealt = deal(names, folds, groups, pixels, kind)
        again = deal(
            [names[i] for i in order], folds, [groups[i] for i in order], pixels[order], kind
        )
        assert again == [dealt[i] for i in order]


EXPECTED = {
    "plain": "1103302020312213", "consecutive": "0000111122223333",
    "stratified": "0230232200113311", "grouped": "0011332233221100",
    "stratified_grouped": "3333112200221100",
}  # fmt: skip


@pytest.mark.parametrize("kind", dealing.KINDS)
def test_folds_are_the_same_on_any_machine(kind):
    """Written down here once: no random numbers, no floating point."""
    names = [f"image{i}" for i in range(16)]
    groups = [f"patient{i // 2}" for i in range(16)]
    digest = b"".join(hashlib.sha256(name.encode()).digest() for name in names)
    pixels = np.frombuffer(digest, np.uint8)[: 16 * 5].reshape(16, 5).astype(np.int64) // 64
    (text,) = dealing.written(deal(names, 4, groups, pixels, kind))
    assert text == EXPECTED[kind]


def test_without_any_class_folds_are_as_even():
    """All is void: there is nothing to stratify by."""
    names, pixels = [f"image{i}" for i in range(7)], np.zeros((7, 3), np.int64)
    for kind, groups in (("stratified", None), ("stratified_grouped", ["a", *"abcdef"])):
        dealt = dealing.deal(names, 3, kind=kind, seed=0, groups=groups, pixels=pixels)
        assert np.bincount(dealt).tolist() in ([3, 2, 2], [2, 3, 2], [2, 2, 3])


def test_another_seed_deals_otherwise_and_blocks_have_none():
    names = [f"image{i}" for i in range(40)]
    for kind, differs in (("plain", True), ("grouped", True), ("consecutive", False)):
        one, other = (dealing.deal(names, 4, kind=kind, seed=seed, groups=names) for seed in (0, 1))
        assert (one != other) == differs


def test_blocks_follow_natural_order():
    names = [f"stack.tif/{i}" for i in range(12)]
    dealt = dealing.deal(names, 3, kind="consecutive", seed=0)
    assert dealt == [0] * 4 + [1] * 4 + [2] * 4
    rng = np.random.default_rng(0)
    assert sorted(rng.permutation(names), key=dealing.natural) == names


@pytest.mark.parametrize(
    "kind, groups, message",
    [
        ("plain", None, "6 folds of 5 examples: expected at least one"),
        ("stratified", None, "6 folds of 5 examples"),
        ("consecutive", None, "6 folds of 5 examples"),
        ("grouped", ["a", "a", "b", "b", "c"], "6 folds of 3 groups: .* at most 3 folds"),
        ("stratified_grouped", ["a"] * 5, "6 folds of 1 groups"),
    ],
)
def test_more_folds_than_there_is_to_deal_is_an_error(kind, groups, message):
    names = [f"image{i}" for i in range(5)]
    with pytest.raises(DataError, match=message):
        dealing.deal(names, 6, kind=kind, seed=0, groups=groups)


def test_groups_are_what_the_pattern_finds():
    names = ["0001TP_006690.jpg", "0001TP_006720.jpg", "Seq05VD_f00000.jpg"]
    assert dealing.groups_of(names, "^[^_]+") == ["0001TP", "0001TP", "Seq05VD"]
    assert dealing.groups_of(names, "^(....).*_(f?)") == ["0001\n", "0001\n", "Seq0\nf"]
    with pytest.raises(ConfigError, match=r"groups='Seq\[0-9\]\+': finds nothing in '0001TP_00669"):
        dealing.groups_of(names, "Seq[0-9]+")
    with pytest.raises(ConfigError, match="finds nothing"):
        dealing.groups_of(names, "x*")


def test_what_is_written_is_read_and_nothing_else():
    dealt = [i * 7 % 36 for i in range(2500)]
    lines = dealing.written(dealt)
    assert max(map(len, lines)) <= 1000
    assert dealing.read(lines, examples=2500, folds=36) == dealt
    for wrong, examples, folds in (
        (lines, 2499, 36),
        (lines, 2500, 35),
        (["0?"], 2, 9),
        ([], 1, 2),
    ):
        with pytest.raises(DataError, match=f"expected {examples} examples and folds 0 to"):
            dealing.read(wrong, examples=examples, folds=folds)
