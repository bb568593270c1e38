"""COCO 2017 (Lin et al. 2014): 118,287 / 5,000 photographs; stuff and things, or things alone.

export SEGJAX_DATA=<folder that holds coco/>
python run.py --config=configs/coco.py:labels=stuff,model=deeplabv3plus --workdir=runs/coco

https://cocodataset.org/#download: train2017.zip and val2017.zip, unpacked into coco/, and for
`labels=`

- `stuff`: COCO-Stuff (Caesar et al. 2018), stuffthingmaps_trainval2017.zip of
  https://github.com/nightrome/cocostuff, unpacked into coco/stuffthingmaps/: 171 classes, 80 things
  and 91 kinds of stuff. Its maps hold a category's id less 1, with gaps; 255 is void.
- `panoptic`: panoptic_annotations_trainval2017.zip, with the zipped PNG files in it unpacked, in
  coco/annotations/: 133 classes in the order of their ids, 80 things and 53 kinds of stuff. What no
  segment covers is void.
- `instances`: annotations_trainval2017.zip: 80 things and a background. Later annotations cover
  earlier ones, a crowd is of its class; nothing is void. All outlines of a split stay in memory.

Models and sizes: configs/zoo.py.
"""

import ml_collections

from configs import benchmark
from segjax.config import lookup

THINGS = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat",
    "traffic light", "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog",
    "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella",
    "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball", "kite",
    "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich",
    "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch",
    "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote",
    "keyboard", "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "book",
    "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
STUFF = (
    "banner", "blanket", "branch", "bridge", "building-other", "bush", "cabinet", "cage",
    "cardboard", "carpet", "ceiling-other", "ceiling-tile", "cloth", "clothes", "clouds",
    "counter", "cupboard", "curtain", "desk-stuff", "dirt", "door-stuff", "fence", "floor-marble",
    "floor-other", "floor-stone", "floor-tile", "floor-wood", "flower", "fog", "food-other",
    "fruit", "furniture-other", "grass", "gravel", "ground-other", "hill", "house", "leaves",
    "light", "mat", "metal", "mirror-stuff", "moss", "mountain", "mud", "napkin", "net", "paper",
    "pavement", "pillow", "plant-other", "plastic", "platform", "playingfield", "railing",
    "railroad", "river", "road", "rock", "roof", "rug", "salad", "sand", "sea", "shelf",
    "sky-other", "skyscraper", "snow", "solid-other", "stairs", "stone", "straw",
    "structural-other", "table", "tent", "textile-other", "towel", "tree", "vegetable",
    "wall-brick", "wall-concrete", "wall-other", "wall-panel", "wall-stone", "wall-tile",
    "wall-wood", "water-other", "waterdrops", "window-blind", "window-other", "wood",
)  # fmt: skip
GAPS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)
"""Ids of things that no image has; stuff begins at 92."""
IDS = (*(number for number in range(1, 92) if number not in GAPS), *range(92, 183))
"""The publisher's id of each class of COCO-Stuff."""


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Return the config of a model of the zoo in one of its sizes, `full` without an argument."""
    arg = benchmark.arguments(arg, labels="stuff", protocol="ade20k")
    sources = dict(stuff=_stuff(), panoptic=dict(type="panoptic"), instances=_instances())
    source = sources[lookup.choose(arg.labels, list(sources), what="config argument labels")]
    source |= dict(root="$SEGJAX_DATA/coco", expected=dict(train=118_287, val=5_000))
    return benchmark.make(
        arg, source, canvas=(512, 683), fit="resize", crop=512, lr=1e-2, total_steps=160_000
    )


def _stuff() -> dict[str, object]:
    return dict(
        type="folder",
        images="{split}2017",
        labels="stuffthingmaps/{split}2017",
        class_names=(*THINGS, *STUFF),
        label_map={str(number - 1): k for k, number in enumerate(IDS)},
        ignore_index=255,
        channels=3,
    )


def _instances() -> dict[str, object]:
    return dict(
        type="annotated",
        format="coco",
        annotations="annotations/instances_{split}2017.json",
        images="{split}2017",
    )
