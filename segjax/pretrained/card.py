"""A card of what was taken from a file of weights, where it went, and what the publisher says."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from segjax.data import core
from segjax.pretrained.published import Published


@dataclasses.dataclass(frozen=True)
class Card:
    """What became of a file of weights.

    Attributes:
        weights: The source, as the config names it.
        publisher: Whose names its arrays have.
        part: 'encoder' or 'model'.
        taken: Our leaves by path, and the names of the arrays that they are.
        new: Our leaves of that part that were initialised anew, by path.
        left: The file's arrays that were not used.
        bytes: Of the file; 0 of a run.
        checksum: SHA-256 of the file; empty of a run.
        published: What is known beside the numbers.
        differences: In which the network is not as published, a line each.
    """

    weights: str
    publisher: str
    part: str
    taken: Mapping[str, str]
    new: Sequence[str]
    left: Sequence[str]
    bytes: int = 0
    checksum: str = ""
    published: Published = dataclasses.field(default_factory=Published)
    differences: Sequence[str] = ()

    def lines(self) -> Iterator[tuple[str, str]]:
        """Yield what there is to say: a title and a text each."""
        yield "weights", self.weights
        if self.checksum:
            yield "  file", f"{self.bytes:,} bytes, SHA-256 {self.checksum}"
        yield "  names", f"{self.publisher}, part {self.part}"
        pairs = [f"{ours} ← {theirs}" for ours, theirs in self.taken.items()]
        yield "  taken", f"{len(pairs)} leaves: {core.some(pairs)}"
        yield (
            "  begun anew",
            f"{len(self.new)} leaves{': ' if self.new else ''}{core.some(self.new)}",
        )
        yield (
            "  left out",
            f"{len(self.left)} arrays{': ' if self.left else ''}{core.some(self.left)}",
        )
        own = self.published
        yield "  said by", own.where or "nobody: set config.normalize as the publisher describes"
        if own.mean:
            yield "  mean", numbers(own.mean)
            yield "  std", numbers(own.std)
            yield "  of images in", own.units or "units of their own"
        for title, values in (("bands", own.bands), ("classes", own.class_names)):
            if values:
                yield f"  {title}", ", ".join(values)
        if own.size:
            yield "  size", " × ".join(map(str, own.size))
        yield "  licence", own.licence or "not stated"
        for line in self.differences:
            yield "  differs", line


def numbers(values: Sequence[float]) -> str:
    """Return numbers with four digits."""
    return ", ".join(f"{value:.4g}" for value in values)
