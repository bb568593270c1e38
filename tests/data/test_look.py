"""Labels that teach nothing are found before training, those that smell are named."""

import numpy as np
import pytest

from segjax.data import core, look
from segjax.errors import DataError


class Labels:
    """Labels that are all the same."""

    palette = ()
    schema = core.semantic_schema(3)

    def __init__(self, label, class_names=("ground", "road", "sky"), length=3):
        self.label, self.class_names, self.length = np.asarray(label, np.uint8), class_names, length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return {"label": self.label, "image": self.image(index)}

    def image(self, index):
        return np.zeros((*self.label.shape[:2], 3), np.uint8)


def check(*arguments, **options):
    source = Labels(*arguments, **options)
    return look.check(look.look(source), source.class_names, split="train")


@pytest.mark.parametrize(
    ("label", "class_names", "said"),
    [
        ([[255, 255]], ("ground", "thing"), r"every pixel is void.*label_map=\{0: 0, 255: 1\}"),
        ([[0, 0]], ("thing",), "the only class is 'thing'"),
        ([[0, 255]], ("ground", "thing"), "every pixel that is not void is 'ground': nothing"),
        ([[2, 2]], ("ground", "road", "sky"), "is 'sky': nothing can be learned"),
    ],
)
def test_what_cannot_be_learned_is_an_error(label, class_names, said):
    with pytest.raises(DataError, match=said):
        check(label, class_names)


class Overlaps(Labels):
    """Multi-label maps that are all the same, [pixels classes]."""

    def __init__(self, label, length=3):
        label = np.asarray(label, np.uint8)
        super().__init__(label, ("ground", "road", "sky")[: label.shape[-1]], length)
        self.schema = core.multilabel_schema(3, label.shape[-1])


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ([[0, 0], [0, 255]], "is of no class"),
        ([[1, 1], [1, 255]], "is of every class"),
    ],
)
def test_multilabel_maps_of_one_answer_teach_nothing(label, said):
    """An error where all were read, a note where it was a sample."""
    whole, sample = Overlaps(label), Overlaps(label, length=500)
    with pytest.raises(DataError, match=f"{said}: nothing can be learned"):
        look.check(look.look(whole), whole.class_names, split="train")
    (note,) = look.check(look.look(sample), sample.class_names, split="train")
    assert said in note
    with pytest.raises(DataError, match="every pixel is void"):
        look.check(look.look(Overlaps([[255, 255]])), ("a", "b"), split="train")


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ([[0], [1]], []),
        ([[0, 0], [1, 0]], ["no pixel of road"]),
        ([[1, 0]] + [[1, 1]] * 2000, []),
        ([[0, 1], [255, 0]] * 2, ["no pixel of ground"]),
        ([[0, 1], [1, 0]] + [[255, 255]] * 9, ["82% of the pixels are void"]),
        ([[1, 1]] + [[0, 1]] * 2000, ["rare: ground 0.05% of the pixels"]),
    ],
)
def test_of_multilabel_maps_each_class_is_looked_at_by_itself(label, said):
    """One class may be the only one, and may be everywhere while another is not."""
    source = Overlaps(label)
    found = look.look(source)
    assert found.sizes == {(len(label),)}
    notes = look.check(found, source.class_names, split="train")
    assert len(notes) == len(said)
    for note, words in zip(notes, said, strict=True):
        assert words in note


def test_one_class_in_a_sample_is_only_a_warning():
    (note,) = check([[0, 0]], length=500)
    assert note.startswith("train: a sample of 48 masks: every pixel that is not void is 'ground'")


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ([0, 1, 2], []),
        ([0, 1, 1], ["no pixel of sky"]),
        ([0, 1, 2] + [255] * 4, ["57% of the pixels are void"]),
        ([0] * 3000 + [1, 1, 2], ["rare: road 0.07%, sky 0.03%"]),
        ([0] * 3000 + [1] + [255] * 9000, ["no pixel of sky", "75% of the", "rare: road 0.03%"]),
    ],
)
def test_what_smells_is_named(label, said):
    notes = check([label])
    assert len(notes) == len(said)
    for note, part in zip(notes, said, strict=True):
        assert part in note and note.startswith("train: all 3 masks: ")


def test_a_sample_is_spread_over_the_split():
    class Recording(Labels):
        seen = []

        def __getitem__(self, index):
            self.seen.append(index)
            return super().__getitem__(index)

    found = look.look(Recording([0, 1, 2], length=1000))
    assert found.examples == look.EXAMPLES == len(set(Recording.seen)) and not found.whole
    assert min(Recording.seen) == 0 and max(Recording.seen) == 999
    np.testing.assert_array_equal(found.pixels, [look.EXAMPLES] * 3)


def test_the_values_of_images_of_many_bits_are_told():
    """As `intensity.fixed` takes them; nothing is said of pictures of 8 bits."""

    class Deep(Labels):
        def image(self, index):
            return np.full((100, 300, 2), [index, 1000 * index], np.int16)

    found = look.look(Deep([0, 1, 2]))
    (told,) = look.describe_values(found, split="train")
    assert told == (
        "train: values of 3 images: mean 1, 1000; std 0.8165, 816.5; 0.5 % 0, 0; 99.5 % 2, 2000"
    )
    assert len(found.values) <= 3 * look.PIXELS
    assert look.describe_values(look.look(Labels([0, 1])), split="train") == []
