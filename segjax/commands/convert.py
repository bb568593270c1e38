"""Convert annotations: read --input in the format --from, write it to --output in the format --to.

What is found, dropped and cannot be held there is said in a line each. --output must be new or
empty, and is there as a whole at the end or not at all. Formats and their rules: docs/formats.md.
"""

from absl import flags

from segjax.commands import options
from segjax.data.formats import kinds
from segjax.errors import printable

NEEDS = {
    "from": "--from=labelme",
    "to": "--to=folder",
    "input": "--input=data/annotated",
    "output": "--output=data/cells",
}
SHARED = False


def define(values: flags.FlagValues) -> None:
    """Define the mode's flags."""
    known = list(kinds.FORMATS)
    writable = [name for name, kind in kinds.FORMATS.items() if kind.writes is not None]

    def string(name: str, text: str) -> None:
        flags.DEFINE_string(name, "", text, flag_values=values)

    string("from", f"The format of --input: {', '.join(known)}.")
    string("to", f"The format of --output: {', '.join(writable)}.")
    string("input", "The data set's folder, or its file.")
    string("output", "A new folder.")
    string("images", "The folder that the names of images are below, where it is not --input.")
    string(
        "class_names", "All classes in order: with commas between, or one a line of a .txt file."
    )
    string(
        "class_map", "car=vehicle,bus=vehicle,tree=-,sky=void ('*': all others), or a .json file."
    )
    string("background", "The class of pixels without an object, or 'void'.")
    string("split", "The splits to take; 'train', or 'train=0.8,val=0.2', of a format without.")
    string("property", "The property of GeoJSON's features that names the class.")
    string("target", "semantic: a class for every pixel; instances: and which object it is of.")
    string("crowd", "What crowds are: class (and no instance), void, or drop.")
    string("boxes", "What a mere box is: fill (all its pixels), or drop.")
    string("order", "What is on top: file (the later object), or area (the smaller).")
    string("holes", "A ring in another of one object is: union (part of it), or even_odd (a hole).")
    text = "Of instance maps: class x divisor + instance; 0: each number is one of the one class."
    flags.DEFINE_integer("divisor", None, text, lower_bound=0, flag_values=values)
    text = "Make an object of each connected piece of a class map."
    flags.DEFINE_bool("components", False, text, flag_values=values)
    flags.DEFINE_bool("link", False, "Link to the images instead of copying.", flag_values=values)


def run(values: flags.FlagValues) -> int:
    """Convert, and print what was done."""
    from segjax.data.formats import base, classes, convert

    chosen = base.Options(
        images=options.path(values.images) if values.images else None,
        class_names=classes.parse_names(values.class_names),
        **{name: values[name].value or None for name in convert.CHOICES},
        divisor=values.divisor,
        property=values.property or None,
        link=values.link,
    )
    wishes = convert.Wishes(
        class_map=classes.parse_map(values.class_map),
        split=values.split,
        background=values.background,
        components=values.components,
    )
    lines = convert.convert(
        str(values["from"].value),
        values.to,
        options.path(values.input),
        options.path(values.output),
        options=chosen,
        wishes=wishes,
    )
    for line in lines:
        print(printable(line))
    return 0
