"""Print the model of --config: modules, parameters, FLOPs, memory, and a card of its weights.

All of it is of what trains: where the augmentation crops, of the crop. The card says which
pretrained arrays went where, what was left out, and what their publisher says of images, classes
and licence.
"""

from typing import TYPE_CHECKING, Any

from absl import flags

from segjax.commands import options
from segjax.errors import printable
from segjax.runtime import xla

if TYPE_CHECKING:
    from segjax.assemble.setup import Setup
    from segjax.training.state import TrainState

NEEDS = options.CONFIG
SHARED = False
DEPTH = 2
"""How many levels of modules to list."""


def define(values: flags.FlagValues) -> None:
    """Define the mode's flags."""
    options.config(values)
    options.as_published(values)


def run(values: flags.FlagValues) -> int:
    """Print the table; the data set is opened for its classes, nothing is computed."""
    xla.prepare()
    import jax
    from rich.console import Console

    from segjax.assemble.setup import make_setup
    from segjax.baselines import base as baselines
    from segjax.costs import summary
    from segjax.views import progress

    setup, _ = make_setup(options.published(values, options.read_config(values)))
    baselines.check_network(setup.parts.model)
    size = setup.trained_shapes()["image"].shape[1:]
    image = jax.ShapeDtypeStruct((1, *size), "float32")
    with progress.stage("tracing the model and a train step"):
        rows = summary.modules(setup.parts.model, image, depth=DEPTH)
        needs = training(setup)
    console = Console(width=None if Console().is_terminal else 100)
    title = f"{setup.config['model']['type']} on one image {image.shape[1:]}"
    console.print(summary.draw(rows, title=title))
    for name, value in needs.items():
        console.print(f"{name:34} {value}", highlight=False)
    for title, text in card(setup):
        console.print(f"{title:34} {printable(text)}", highlight=False, markup=False)
    return 0


def card(setup: "Setup") -> list[tuple[str, str]]:
    """Return the lines of the card of `config.model.pretrained`; none without it."""
    from segjax.runs import transfer

    config, parts = setup.config, setup.parts
    loaded = transfer.load(
        config["model"], parts.model, parts.image_shape(), normalize=config["normalize"]
    )
    return list(loaded.card.lines()) if loaded.card else []


def training(setup: "Setup") -> dict[str, str]:
    """Return what a train step needs: FLOPs, and bytes on each device by what they hold.

    The batch is at the canvas' size, as it comes. Activations are what JAX keeps for the gradient
    of what the augmentation makes of it, at the configured microbatch or part. A compiler may need
    less (it fuses) or more (scratch space): `--mode=plan` compiles and tells.
    """
    import jax

    from segjax.assemble import program
    from segjax.costs import flops, summary
    from segjax.runtime import sharding

    parts, key = setup.parts, jax.random.key(setup.config["seed"])
    traced, batch = program.trace(setup, key, key), dict(setup.batch_shapes())
    target = traced.target
    devices = parts.mesh.size // parts.mesh.shape.get(sharding.TRIAL, 1)  # of one trial
    portions = setup.config["deterministic_reduction"] or devices * setup.config["microbatches"]
    held = {
        "parameters": summary.on_device(target.params),
        "gradients": summary.on_device(target.params),
        "optimiser": summary.on_device(target.opt_state),
        "averages and statistics": summary.on_device((target.batch_stats, target.ema)),
        "batch": sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(batch)) // devices,
        "activations kept for the gradient": kept(setup, target) // portions,
    }
    count = sum(leaf.size for leaf in jax.tree.leaves(target.params))
    total = flops.total(traced.step.jaxpr)
    facts = {
        "parameters": f"{count:,}",
        "FLOPs of a train step": f"{total / 1e9:,.1f} G for {setup.clock.batch_size} images",
        "mesh": " × ".join(f"{axis} {n}" for axis, n in parts.mesh.shape.items()),
    }
    memory = {f"  {name}": f"{size / 1e6:12,.1f} MB" for name, size in held.items()}
    whole = {"memory of a device, estimated": f"{sum(held.values()) / 1e6:14,.1f} MB"}
    return facts | whole | memory


def kept(setup: "Setup", state: "TrainState") -> int:
    """Return the bytes of all activations that the gradient of a whole batch's step needs."""
    import jax

    from segjax.costs import summary
    from segjax.training import step

    parts = setup.parts
    objective = step.make_objective(parts.model, parts.task, parts.normalize, None, whole=True)

    def loss(params: Any, batch_stats: Any, batch: Any) -> jax.Array:
        weights = parts.task.weights(batch)
        return objective(params, batch_stats, batch, jax.random.key(0), weights, 0)[0]

    return summary.residual_bytes(
        loss, state.params, state.batch_stats, dict(setup.trained_shapes())
    )
