"""Say what predicting videos would write, and write nothing."""

import contextlib
import pathlib
from collections.abc import Iterator

from segjax.errors import DataError
from segjax.inference import paths
from segjax.inference.outputs import kinds as image_kinds
from segjax.inference.video import kinds
from segjax.inference.video.predict import Work, open_video


def lines(inputs: paths.Inputs, output: pathlib.Path, work: Work) -> Iterator[str]:
    """Yield each file that `predict` would write, what it would skip, and counts.

    Of each video the first frame is decoded; folders of a file for each frame end with '/'.

    Raises:
        UserError: As `predict`, before a prediction would begin.
    """
    chosen = kinds.choose(work.outputs, multilabel=work.multilabel, finds=work.finds)
    names = paths.output_names(inputs.files)
    paths.check_folder(output)
    paths.check_free(output, names, run=work.facts.get("run", ""))
    yield inputs.describe()
    skipped, written = 0, []
    for file, name in names.items():
        try:
            with contextlib.closing(open_video(file, inputs, work.reading, work.rate)) as video:
                yield f"{file}: {video.about.describe()}"
        except DataError as error:
            skipped += 1
            yield f"would be skipped: {error}"
            continue
        written.append(name + image_kinds.FACTS)
        written += [f"{name}{kind.ending}{'/' * bool(kind.inside)}" for kind in chosen]
    yield from (f"{output}/{each}" for each in sorted(written))
    yield (
        f"{len(names) - skipped} of {len(names)} videos would be predicted, {skipped} skipped; "
        f"{len(written)} files and folders would be written to {output}. Nothing was: this is a "
        "dry run"
    )
