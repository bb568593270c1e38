"""Say what a prediction would write, and write nothing."""

import pathlib
from collections.abc import Iterator, Sequence

from segjax.data import opening
from segjax.data.decode import Reading
from segjax.errors import DataError
from segjax.inference import paths
from segjax.inference.outputs import kinds, large


def lines(
    inputs: paths.Inputs,
    output: pathlib.Path,
    *,
    class_names: Sequence[str],
    reading: Reading,
    run: pathlib.Path,
    outputs: Sequence[str],
    multilabel: bool = False,
    finds: kinds.Finds = "",
) -> Iterator[str]:
    """Yield each file that `folder.predict` would write, what it would skip, and counts.

    Only the headers of images are read: one whose pixels turn out to be broken is skipped later,
    and said to be written here.

    Args:
        inputs: See `paths.list_inputs`.
        output: The folder, which need not be there.
        class_names: Of the run.
        reading: How the data set of its training reads images.
        run: Its folder.
        outputs: As `folder.predict` takes them.
        multilabel: Likewise.
        finds: Likewise.

    Raises:
        UserError: As `folder.predict`, before a prediction would begin.
    """
    chosen = kinds.choose(outputs, dims=reading.dims, multilabel=multilabel, finds=finds)
    names, shared = paths.output_names(inputs.files), chosen.shared_names()
    paths.check_folder(output)
    paths.check_free(output, names, run=str(run.resolve()), shared=shared)
    yield inputs.describe()
    skipped = 0
    files = list(shared)
    for file, name in names.items():
        try:
            whole, form = opening.header_to_predict(file, reading)
            if finds:
                large.check_held(whole, name=str(file))
        except DataError as error:
            skipped += 1
            yield f"would be skipped: {error}"
            continue
        files += chosen.names(name, whole=whole, class_names=class_names, form=form)
    yield from (f"{output}/{file}" for file in sorted(files))
    yield (
        f"{len(names) - skipped} of {len(names)} images would be predicted, {skipped} skipped; "
        f"{len(files)} files would be written to {output}. Nothing was: this is a dry run"
    )
