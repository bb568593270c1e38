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
        return {"label": self.label}


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
