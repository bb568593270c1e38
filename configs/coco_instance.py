"""COCO 2017 instances (Lin et al. 2014): 118,287 / 5,000 photographs, 80 things, each by itself.

export SEGJAX_DATA=<folder that holds coco/>
python run.py --config=configs/coco_instance.py --workdir=runs/coco_instance

https://cocodataset.org/#download: train2017.zip, val2017.zip and annotations_trainval2017.zip,
unpacked into coco/. Masks of objects overlap as annotated; crowds are no objects to learn and cost
nothing where something is found in them. All outlines of a split stay in memory.

Recipes, by `schedule=`; Mask R-CNN on ResNet-50 and a pyramid, whose published scores are
detectron2's (its model zoo, not run here):

- `1x`: 90,000 steps of 16 images, rate 0.02. Theirs: mask AP 35.2, box AP 38.6; 0.261 s a step and
  3.4 GB on each of 8 V100, 6.5 hours. `3x`: 270,000 steps; mask AP 37.2, box AP 41.0; 20 hours.
  Images are scaled into a square of 1024, not to a short side of 640 to 800 pixels; and the rate
  falls once, at two thirds, not a second time shortly before the end.
- `lsj`: 100 epochs in batches of 64 at 1024 x 1024, images scaled by 0.1 to 2 (large scale jitter,
  Ghiasi et al. 2021), batch norm in pyramid and heads. Theirs: mask AP 40.3, box AP 44.6; 0.376 s a
  step. `paste=True` pastes objects of another image too.

`pretrained=torchvision:resnet50` starts from weights of ImageNet, as theirs do; its batch norms and
first stage are held with 1x and 3x. `model=eomt` is EoMT-L on DINOv3 at 640 x 640 (Kerssies et al.
2025), 12 epochs, from weights such as `pretrained=hf:facebook/dinov3-vitl16-pretrain-lvd1689m`; its
authors' mask AP on DINOv2 is 45.2 (their model zoo).
"""

from types import SimpleNamespace

import ml_collections

from configs import benchmark
from segjax.config import lookup, schema
from segjax.config.sections import parse_arg

MOST = 100
"""Room for objects: no image of train2017 has more than 93 and their crowds."""
STEPS = {"1x": 90_000, "3x": 270_000, "lsj": 184_375}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Return the config of a model and a schedule, `full` without an argument."""
    arg = parse_arg(arg, model="mask_rcnn", schedule="1x", size="full", pretrained="", paste=False)
    lookup.choose(arg.schedule, list(STEPS), what="config argument schedule")
    lookup.choose(arg.size, benchmark.OBJECT_SIZES, what="config argument size")
    config = schema.defaults()
    source = dict(
        type="annotated",
        format="coco",
        root="$SEGJAX_DATA/coco",
        annotations="annotations/instances_{split}2017.json",
        images="{split}2017",
        objects=MOST,
        expected=dict(train=118_287, val=5_000),
    )
    config.input.source = benchmark.counted(source, debug=arg.size == "debug")
    models = dict(mask_rcnn=mask_rcnn, eomt=eomt)
    models[lookup.choose(arg.model, list(models), what="config argument model")](config, arg)
    if arg.paste:
        config.augment.append(dict(type="mixing:copy_paste", share=0.5))
    config.evals.val = dict(type="instance", split="val", batch_size=8, every_percent=10)
    config.checkpoint.keep_best = "" if arg.size == "debug" else "val/AP"
    if arg.size == "debug":
        benchmark.shrink(config)
    return config


def mask_rcnn(config: ml_collections.ConfigDict, arg: SimpleNamespace) -> None:
    """Train Mask R-CNN as detectron2 does."""
    large = arg.schedule == "lsj"
    benchmark.jitter(config, 1024, scale=(0.1, 2.0) if large else (0.8, 1.0))
    config.total_steps = STEPS[arg.schedule]
    config.input.batch_size = 64 if large else 16
    config.task = dict(type="instance")
    config.model = benchmark.mask_rcnn(arg.size, normed=large, pretrained=arg.pretrained)
    config.optimizer.update(
        type="sgd", lr=0.1 if large else 0.02, momentum=0.9, weight_decay=4e-5 if large else 1e-4,
        schedule=dict(type="step", every_steps=STEPS[arg.schedule] * 2 // 3, warmup_steps=1000),
    )  # fmt: skip
    if arg.pretrained and not large:
        config.optimizer.freeze = ("encoder/.*/norm/.*", "encoder/stem/.*", "encoder/layer1_.*")


def eomt(config: ml_collections.ConfigDict, arg: SimpleNamespace) -> None:
    """Train EoMT as its authors do."""
    benchmark.jitter(config, 640, scale=(0.1, 2.0))
    benchmark.eomt(config, arg.size, task="query_instance", epochs=12, queries=200)
    benchmark.start_from(config, arg.pretrained)
