"""ADE20K, the SceneParsing benchmark (Zhou et al. 2017): 20,210 / 2,000 photographs, 150 classes.

export SEGJAX_DATA=<folder that holds ADEChallengeData2016/>
python run.py --config=configs/ade20k.py:model=upernet --workdir=runs/ade20k

http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip. In its masks 0 is void and
the classes are 1 to 150. The publisher's splits are called `training` and `validation`.
`protocol=ade20k_multi_scale` is mmsegmentation's with test-time augmentation
(configs/protocols.py). Models and sizes: configs/zoo.py.
"""

import ml_collections

from configs import benchmark

NAMES = (
    "wall", "building", "sky", "floor", "tree", "ceiling", "road", "bed", "windowpane", "grass",
    "cabinet", "sidewalk", "person", "earth", "door", "table", "mountain", "plant", "curtain",
    "chair", "car", "water", "painting", "sofa", "shelf", "house", "sea", "mirror", "rug", "field",
    "armchair", "seat", "fence", "desk", "rock", "wardrobe", "lamp", "bathtub", "railing",
    "cushion", "base", "box", "column", "signboard", "chest of drawers", "counter", "sand", "sink",
    "skyscraper", "fireplace", "refrigerator", "grandstand", "path", "stairs", "runway", "case",
    "pool table", "pillow", "screen door", "stairway", "river", "bridge", "bookcase", "blind",
    "coffee table", "toilet", "flower", "book", "hill", "bench", "countertop", "stove", "palm",
    "kitchen island", "computer", "swivel chair", "boat", "bar", "arcade machine", "hovel", "bus",
    "towel", "light", "truck", "tower", "chandelier", "awning", "streetlight", "booth",
    "television receiver", "airplane", "dirt track", "apparel", "pole", "land", "bannister",
    "escalator", "ottoman", "bottle", "buffet", "poster", "stage", "van", "ship", "fountain",
    "conveyer belt", "canopy", "washer", "plaything", "swimming pool", "stool", "barrel", "basket",
    "waterfall", "tent", "bag", "minibike", "cradle", "oven", "ball", "food", "step", "tank",
    "trade name", "microwave", "pot", "animal", "bicycle", "lake", "dishwasher", "screen",
    "blanket", "sculpture", "hood", "sconce", "vase", "traffic light", "tray", "ashcan", "fan",
    "pier", "crt screen", "plate", "monitor", "bulletin board", "shower", "radiator", "glass",
    "clock", "flag",
)  # fmt: skip


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Return the config of a model of the zoo in one of its sizes, `full` without an argument."""
    arg = benchmark.arguments(arg, protocol="ade20k")
    source = dict(
        type="folder",
        root="$SEGJAX_DATA/ADEChallengeData2016",
        images="images/{split}",
        labels="annotations/{split}",
        class_names=NAMES,
        ignore_index=0,
        label_offset=-1,
        expected=dict(training=20_210, validation=2_000),
    )
    config = benchmark.make(
        arg, source, canvas=(512, 683), fit="resize", crop=512, lr=1e-2, total_steps=160_000
    )
    config.input.split = "training"
    config.evals.val.split = "validation"
    return config
