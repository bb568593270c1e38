"""Measure every model of the zoo at its published size, and write the table in README.md.

python -m experiments.models.study            # all of them
python -m experiments.models.study unet pspnet
python -m experiments.models.study --table    # only draw the table again
"""

import argparse
import functools
import json
import pathlib
import sys

import flax
import jax
import jax.numpy as jnp
import numpy as np

from configs import camvid
from segjax.config import lookup, sections
from segjax.costs import flops, summary
from segjax.layers import queries
from segjax.runtime import xla
from segjax.views import progress

HERE = pathlib.Path(__file__).parent
RESULTS, README = HERE / "results.jsonl", HERE / "README.md"
BEGIN, END = "<!-- models: written by study.py -->", "<!-- end of models -->"
CLASSES, SIZE = 21, 512
MODELS = {
    "unet": "U-Net",
    "attention_unet": "Attention U-Net",
    "encoder_unet": "U-Net on ResNet-34",
    "unetpp": "U-Net++ on ResNet-34",
    "fcn": "FCN-8s, VGG16",
    "fcn_dilated": "FCN, dilated ResNet-50",
    "segnet": "SegNet",
    "hed": "HED, VGG16",
    "pspnet": "PSPNet, ResNet-50",
    "deeplabv3": "DeepLabv3, ResNet-50",
    "deeplabv3plus": "DeepLabv3+, ResNet-50",
    "lraspp": "LR-ASPP, MobileNetV3-Large",
    "fc_densenet": "FC-DenseNet103",
    "bisenetv2": "BiSeNetV2",
    "segformer": "SegFormer-B0",
    "segformer:variant=b2": "SegFormer-B2",
    "segformer:variant=b5": "SegFormer-B5",
    "upernet": "UPerNet, ConvNeXt-T",
    "linear": "DINOv2 ViT-S/14, linear head",
    "eomt": "EoMT, DINOv2 ViT-B/14",
}


def build(name: str):
    """Return a model of the zoo, `<name>:<arguments>`, in float32, without remat."""
    config = camvid.get_config(f"model={name.replace(':', ',')}")
    section = sections.section(config)["model"] | {"compute_dtype": "float32", "remat": "none"}
    return lookup.build("models", section, where="config.model", num_classes=CLASSES)


def measure(name: str) -> dict:
    """Return one model's parameters, forward FLOPs, activation bytes and receptive field."""
    model = build(name)
    image = jax.ShapeDtypeStruct((1, SIZE, SIZE, 3), jnp.float32)
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    variables = jax.eval_shape(functools.partial(model.init, train=False), keys, image)
    forward = functools.partial(model.apply, train=False)
    return {
        "model": name,
        "title": MODELS[name],
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(variables["params"])),
        "gflops": flops.total(jax.make_jaxpr(forward)(variables, image)) / 1e9,
        "activation_mb": kept(model, variables, image) / 1e6,
        "receptive_field": receptive_field(model, variables),
        "jax": jax.__version__,
        "flax": flax.__version__,
        "command": f"python -m experiments.models.study {name}",
    }


def kept(model, variables, image) -> int:
    """Return the bytes that JAX keeps for the gradient of one image in float32."""

    def logits(params, stats, image):
        rngs = {"dropout": jax.random.key(0)}
        both = {"params": params, **stats}
        return model.apply(both, image, train=True, mutable=["batch_stats"], rngs=rngs)[0]

    stats = {name: leaf for name, leaf in variables.items() if name != "params"}
    return summary.residual_bytes(logits, variables["params"], stats, image)


def receptive_field(model, variables) -> int:
    """Return the side of the square of pixels that the centre's logits depend on; at most SIZE.

    The gradient of the centre's logits by a grey image, with positive weights of mean 0.5 / fan-in:
    nothing cancels, no unit is dead, no gate saturates, and equal values share what max pooling
    passes on.
    """
    draw = np.random.default_rng(0)

    def fill(path, leaf):
        if path[-1].key in ("bias", "mean"):
            return np.zeros(leaf.shape, np.float32)
        if leaf.ndim < 2:
            return np.ones(leaf.shape, np.float32)
        return (draw.uniform(0.25, 0.75, leaf.shape) / np.prod(leaf.shape[:-1])).astype(np.float32)

    weights = jax.tree.map_with_path(fill, variables)

    @jax.jit
    def gradient(weights, image):
        def centre(image):
            logits = map_of(model.apply(weights, image, train=False))
            return logits[0, logits.shape[1] // 2, logits.shape[2] // 2].sum()

        return jnp.abs(jax.grad(centre)(image)).max((0, 3))

    seen = np.argwhere(np.asarray(gradient(weights, jnp.ones((1, SIZE, SIZE, 3)))) > 0)
    return int((seen.max(0) - seen.min(0)).max()) + 1


def map_of(outputs):
    """Return what a model says of pixels: logits of classes, or of the masks of queries."""
    return outputs.last.masks if isinstance(outputs, queries.Outputs) else outputs.logits


def table(rows: list[dict]) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        f"| model | parameters | GFLOP at {SIZE}² | activations | receptive field |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        field = row["receptive_field"]
        lines.append(
            f"| {row['title']} | {row['parameters'] / 1e6:.2f} M | {row['gflops']:.1f} | "
            f"{row['activation_mb']:.0f} MB | {field if field < SIZE else 'the whole image'} |"
        )
    return "\n".join(lines)


def latest() -> list[dict]:
    """Return the last record of each model, in the order of `MODELS`."""
    records = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    by_name = {record["model"]: record for record in records}
    return [by_name[name] for name in MODELS if name in by_name]


def main() -> None:
    """Measure what the command line names, append the records, draw the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=", ".join(MODELS))
    parser.add_argument("--table", action="store_true", help="measure nothing")
    arguments = parser.parse_args()
    names = [] if arguments.table else arguments.models or list(MODELS)
    xla.prepare()
    with progress.Progress(len(names), unit="models") as bar, RESULTS.open("a") as log:
        for number, name in enumerate(names, 1):
            lookup.choose(name, list(MODELS), what="model")
            log.write(json.dumps(measure(name)) + "\n")
            log.flush()
            bar.update(number)
    text = README.read_text()
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    README.write_text(f"{before}{BEGIN}\n{table(latest())}\n{END}{after}")


if __name__ == "__main__":
    sys.exit(main())
