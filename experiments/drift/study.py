"""Streams made of CamVid's test split, clean and changed, against the reference of a short run.

    python run.py --config=configs/camvid.py:model=unet,size=cpu --config.total_steps=300 \\
        --workdir=runs/camvid300
    python run.py --mode=watch --workdir=runs/camvid300 --reference
    python -m experiments.drift.study --workdir=runs/camvid300

One line a stream goes to results.jsonl.
"""

import argparse
import io
import json
import pathlib
import tempfile
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageFilter

if TYPE_CHECKING:
    from segjax.data import core

HERE = pathlib.Path(__file__).parent
Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def blurred(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Defocus by a Gaussian of 2 pixels."""
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(2)))


def noisy(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add sensor noise of 20 grey levels."""
    return np.clip(image + rng.normal(0, 20, image.shape), 0, 255).astype(np.uint8)


def other_colours(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Answer as a camera with another white balance and gamma: less red, more blue, lighter."""
    seen = 255 * (image / 255) ** 0.8 * np.array([0.8, 1.0, 1.2])
    return np.clip(seen, 0, 255).astype(np.uint8)


def grey(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Answer as a camera without colours."""
    return np.repeat(image.mean(axis=-1, keepdims=True), 3, axis=-1).astype(np.uint8)


def exchanged(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Exchange red and blue, of which these grey streets have little."""
    return np.ascontiguousarray(image[..., ::-1])


def other_size(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Give 640 x 480 pixels, scaled."""
    return np.asarray(Image.fromarray(image).resize((640, 480), Image.Resampling.BILINEAR))


def no_sky(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Show the lower half twice, mirrored: road above and below, same pixels, other classes."""
    low = image[image.shape[0] // 2 :]
    return np.concatenate([low[::-1], low])


def no_road(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Show the upper half twice, mirrored."""
    high = image[: image.shape[0] // 2]
    return np.concatenate([high, high[::-1]])


def squeezed(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Store as JPEG at quality 15."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=15)
    return np.asarray(Image.open(buffer))


def cast(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Answer as a camera with a filter: a fifth more red, a fifth less blue."""
    return np.clip(image * np.array([1.2, 1.0, 0.8]), 0, 255).astype(np.uint8)


def overexposed(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Let in twice the light."""
    return np.clip(image * 2.0, 0, 255).astype(np.uint8)


def turned(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Turn the camera by 90 degrees."""
    return np.ascontiguousarray(np.rot90(image))


def turned_within(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Turn the camera by 90 degrees, and give the sides that are usual, scaled."""
    size = (image.shape[1], image.shape[0])
    return np.asarray(Image.fromarray(np.rot90(image)).resize(size, Image.Resampling.BILINEAR))


def upside_down(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mount the camera the other way up."""
    return np.ascontiguousarray(image[::-1, ::-1])


def half_resolution(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Give what a camera of half the resolution does, scaled up."""
    whole = Image.fromarray(image)
    small = whole.resize((whole.width // 2, whole.height // 2), Image.Resampling.BOX)
    return np.asarray(small.resize(whole.size, Image.Resampling.BICUBIC))


CHANGES: dict[str, Change] = {
    "clean": lambda image, rng: image,
    "darkened": lambda image, rng: (image * 0.4).astype(np.uint8),
    "blurred": blurred,
    "noisy": noisy,
    "wrong camera: colours": other_colours,
    "wrong camera: grey": grey,
    "wrong camera: size": other_size,
    "red and blue exchanged": exchanged,
    "shifted classes: no sky": no_sky,
    "shifted classes: no road": no_road,
    "JPEG at quality 15": squeezed,
    "colour cast": cast,
    "overexposed": overexposed,
    "turned by 90 degrees": turned,
    "turned by 90 degrees, usual sides": turned_within,
    "upside down": upside_down,
    "half resolution, scaled up": half_resolution,
}


def changed(name: str, source: "core.Source", folder: str) -> list[pathlib.Path]:
    """Write a split's images as a stream of files, changed as one of `CHANGES` says."""
    rng = np.random.default_rng(0)
    files = []
    for number in range(len(source)):
        image = CHANGES[name](np.asarray(source[number]["image"]), rng)
        files.append(pathlib.Path(folder, f"{number:04d}.png"))
        Image.fromarray(image).save(files[-1], compress_level=1)
    return files


def study(workdir: pathlib.Path, name: str) -> dict[str, Any]:
    """Watch a stream, and return what was found."""
    from segjax.commands.predict import reading_of_run
    from segjax.data import folds
    from segjax.runs import run
    from segjax.watch import reference, stream

    opened = run.open_run(workdir)
    known = reference.Reference.load(opened.path / reference.FILE)
    source = folds.open_split(opened.config["input"]["source"], "test")
    with tempfile.TemporaryDirectory() as folder:
        watched = stream.watch(
            changed(name, source, folder), reference=known, predictor=opened.predictor(),
            layout=opened.parts.layout, reading=reading_of_run(opened)[0], tell=print,
            done=lambda done: None,
        )  # fmt: skip
    worst = watched.worst()[0]
    return {
        "stream": name, "images": len(watched.rows), "windows": len(watched.windows),
        "first_alert": min((alert.image for alert in watched.alerts), default=None),
        "alerts": [alert.name.removeprefix("drift:") for alert in watched.alerts],
        "farthest": worst.statistic, "psi": round(worst.psi, 2),
        "psi_limit": round(worst.limits.psi, 2), "ks": round(worst.ks, 2),
        "ks_limit": round(worst.limits.ks, 2),
    }  # fmt: skip


def main() -> None:
    """Watch the streams, and append what was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", type=pathlib.Path, required=True, help="A CamVid run.")
    parser.add_argument("--streams", nargs="+", default=[*CHANGES], choices=[*CHANGES])
    parser.add_argument("--results", type=pathlib.Path, default=HERE / "results.jsonl")
    values = parser.parse_args()
    from segjax.runtime import xla

    xla.prepare()
    for name in values.streams:
        row = study(values.workdir, name)
        print(row, flush=True)
        with values.results.open("a") as file:
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
