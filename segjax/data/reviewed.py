"""A data set without the examples that a person rejected, see `--mode=audit`."""

import pathlib
from typing import Annotated

from segjax.config import kinds, rules
from segjax.data import core, folds
from segjax.errors import DataError
from segjax.runtime import reading

WHERE = "config.input.source.review"


class Source(folds.Part):
    """One split of a reviewed data set.

    Written `config.input.source.review=review.json` beside the data set's own arguments, too.

    Args:
        split: Of `source`.
        source: The data set: a section with a `type`.
        review: What the audit's page saved: JSON whose `rejected` lists examples, each by
            `<split>/<name>`. `~` and environment variables are replaced.

    Raises:
        DataError: The file cannot be read or is none, rejects an example of this split that is not
            there, or all of them.
    """

    def __init__(
        self,
        *,
        split: str,
        source: Annotated[kinds.Section, kinds.Builds("data", ("split",))],
        review: Annotated[str, rules.NAME],
    ):
        own = folds.open_split(source, split)
        ids = ids_of(own, split)
        rejected = load(core.expand_path(review, where=WHERE))
        mine = {each for each in rejected if each.startswith(f"{split}/")}
        if unknown := sorted(mine - {*ids}):
            raise DataError(
                f"{WHERE}={review}: rejects {core.some(unknown)}, which the data set has not. "
                "Review the data set as it is now, with --mode=audit."
            )
        kept = [place for place, each in enumerate(ids) if each not in mine]
        if not kept:
            raise DataError(f"{WHERE}={review}: rejects all of {split}. Accept some.")
        super().__init__(own, kept)
        self.rejected = len(ids) - len(kept)
        self.review, self.split = review, split
        self.reading = core.reading_of(own)

    def remarks(self) -> list[str]:
        """Return what to say of it before a training, a line or none."""
        of = len(self) + self.rejected
        line = f"{self.split}: {self.rejected} of {of} examples left out, rejected in {self.review}"
        return [line] if self.rejected else []

    def made_of(self) -> list[core.Source]:
        """Return what it is made of."""
        return [self.source]


def ids_of(source: core.Source, split: str) -> list[str]:
    """Return what tells each example of a split from all others: `<split>/<name>`."""
    names = core.names_of(source, split)
    return [name if name.startswith(f"{split}/") else f"{split}/{name}" for name in names]


def load(path: pathlib.Path) -> list[str]:
    """Return the ids of the examples that a review rejects.

    Raises:
        DataError: The file cannot be read, or is no review.
    """
    try:
        found = reading.read_json(path)
    except OSError as error:
        raise DataError(f"{WHERE}={path}: {error.strerror}. Expected a review.json.") from None
    rejected = found.get("rejected") if isinstance(found, dict) else None
    if not isinstance(rejected, list) or not all(isinstance(each, str) for each in rejected):
        raise DataError(
            f"{path}: expected a JSON object with a list of texts `rejected`, as the page of "
            "--mode=audit saves it."
        )
    return rejected
