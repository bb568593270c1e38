"""How well the value of a pixel alone tells its class, for the tests beside."""

import numpy as np

from segjax.structs import IGNORE_LABEL

BINS = 64


def read(source, count):
    """Return the first channel of the first `count` images in 0..1, and their labels."""
    examples = [source[i] for i in range(count)]
    image = np.stack([example["image"][..., 0] for example in examples])
    return image / np.iinfo(image.dtype).max, np.stack([example["label"] for example in examples])


def miou_by_value(train, test, *, classes, balanced):
    """Return the mean IoU of choosing, for each bin of values, the class most likely there.

    `balanced`: under equal class frequencies.
    """
    (image, label), (held_out, truth) = train, test
    valid = label != IGNORE_LABEL
    code = np.minimum(image * BINS, BINS - 1).astype(int)[valid] * classes + label[valid]
    counts = np.bincount(code, minlength=BINS * classes).reshape(BINS, classes)
    if balanced:
        counts = counts / counts.sum(axis=0)
    seen = truth != IGNORE_LABEL
    pred = counts.argmax(axis=1)[np.minimum(held_out * BINS, BINS - 1).astype(int)[seen]]
    confusion = np.bincount(truth[seen] * classes + pred, minlength=classes**2)
    confusion = confusion.reshape(classes, classes)
    hit = np.diag(confusion)
    return (hit / (confusion.sum(axis=0) + confusion.sum(axis=1) - hit)).mean()
