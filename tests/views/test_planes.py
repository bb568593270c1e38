"""Three flat sections of a volume meet where its label holds most."""

import numpy as np

from segjax.views import planes


def test_sections_meet_in_one_voxel_and_share_their_axes():
    volume = np.random.default_rng(0).integers(0, 255, (4, 5, 6, 3)).astype(np.uint8)
    picture = planes.sections(volume, (1, 2, 3))
    gap = planes.GAP
    assert picture.shape == (5 + gap + 4, 6 + gap + 4, 3)
    np.testing.assert_array_equal(picture[:5, :6], volume[1])
    np.testing.assert_array_equal(picture[5 + gap :, :6], volume[:, 2])
    np.testing.assert_array_equal(picture[:5, 6 + gap :].swapaxes(0, 1), volume[:, :, 3])
    assert (picture[5 : 5 + gap] == 255).all() and (picture[5 + gap :, 6 + gap :] == 255).all()
    assert (picture[2, :6] == volume[1, 2]).all() and (
        picture[5 + gap + 1, :6] == volume[1, 2]
    ).all()


def test_the_busiest_place_has_the_most_of_the_rarer_classes():
    label = np.zeros((8, 9, 10), np.uint8)
    label[5, 2:6, 3:8] = 4
    label[2, 7, 9] = 1
    label[0] = 255
    z, y, x = planes.busiest(label)
    assert z == 5 and 2 <= y < 6 and 3 <= x < 8
    swapped = np.where(label == 0, 4, np.where(label == 4, 0, label))
    assert planes.busiest(swapped) == (z, y, x)  # the background may be any class


def test_without_an_object_it_is_the_centre():
    assert planes.busiest(np.zeros((4, 6, 8), np.uint8)) == (2, 3, 4)
    assert planes.busiest(np.full((4, 6, 8), 255)) == (2, 3, 4)
