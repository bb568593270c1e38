"""The methods that `config.model.type='classical:<name>'` names, as scikit-image computes them.

Those that tell two sides of an image apart (`sides.TwoSided`) are fitted one bit, which side is the
foreground; the others learn of which class a level, a cluster or a pixel with its surroundings is.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float, Int32
from scipy import ndimage

from segjax.baselines import base, forest, sides
from segjax.baselines.base import Method, Numbers, Seen
from segjax.config import kinds, rules
from segjax.inference.predictor import Image
from segjax.structs import IGNORE_LABEL
from segjax.tasks import touching

Pixels = Annotated[int, rules.whole(1, 1_000_000)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Otsu(sides.TwoSided):
    """Threshold at the value that parts the histogram best (Otsu 1979)."""

    def side(self, values: np.ndarray) -> Bool[np.ndarray, "*space"]:
        """Return what is above the threshold."""
        from skimage import filters

        return values > filters.threshold_otsu(values)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adaptive(sides.TwoSided):
    """Threshold each pixel at the Gaussian mean of its surroundings.

    Attributes:
        block: Side of the surroundings, in pixels, odd.
        above: How far above that mean the foreground is, in standard deviations of the image.
    """

    block: Annotated[int, rules.odd(3, 4095)] = 51
    above: Annotated[kinds.Real, rules.number(-10, 10)] = 0.25

    def side(self, values: np.ndarray) -> Bool[np.ndarray, "*space"]:
        """Return what is so far above its surroundings."""
        from skimage import filters

        values = values.astype(np.float64)
        return values > filters.threshold_local(values, self.block) + self.above * values.std()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Canny(sides.TwoSided):
    """Find edges (Canny 1986), close their gaps, fill what they enclose.

    Attributes:
        sigma: Of the Gaussian before the edges, in pixels.
        gap: Pixels of an edge that may be missing.
    """

    dims: ClassVar[Sequence[int]] = (2,)
    sigma: Annotated[kinds.Real, rules.number(0, 100)] = 2.0
    gap: Annotated[int, rules.whole(0, 64)] = 3

    def side(self, values: np.ndarray) -> Bool[np.ndarray, "*space"]:
        """Return what edges enclose, without edges that enclose nothing."""
        from skimage import feature, morphology

        edges = np.pad(feature.canny(sides.scaled(values), sigma=self.sigma), self.gap)
        closed = ndimage.binary_closing(edges, morphology.disk(self.gap))
        filled: Any = ndimage.binary_fill_holes(closed)
        inside = filled[tuple(slice(self.gap, side - self.gap) for side in filled.shape)]
        return ndimage.binary_opening(inside, morphology.disk(1))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Watershed(sides.TwoSided):
    """Flood the gradient from what is surely dark and surely bright (Beucher and Meyer 1993).

    Surely so is what is beyond the mean of its side of Otsu's threshold. Objects that touch are
    told apart by a watershed of the distance to their border, see `tasks.touching`.

    Attributes:
        apart: The least distance between the middles of two objects, in pixels.
    """

    apart: Annotated[int, rules.whole(1, 1024)] = 5

    def side(self, values: np.ndarray) -> Bool[np.ndarray, "*space"]:
        """Return the basin of the bright pixels."""
        from skimage import filters, segmentation

        elevation = filters.sobel(values.astype(np.float64))
        return segmentation.watershed(elevation, sides.sure(values)) == 2

    def divide(self, mask: Bool[np.ndarray, "*space"]) -> Int32[np.ndarray, "*space"]:
        """Return of which object each pixel is; those that touch are told apart by their shape."""
        return touching.divide(mask, apart=self.apart)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomWalker(sides.TwoSided):
    """Give each doubtful pixel to the side that a random walk from it meets first (Grady 2006).

    What is sure is that of `Watershed`.

    Attributes:
        beta: How much a difference of values hinders the walk.
    """

    dims: ClassVar[Sequence[int]] = (2, 3)
    beta: kinds.Positive = 130.0

    def side(self, values: np.ndarray) -> Bool[np.ndarray, "*space"]:
        """Return what walks to the bright pixels."""
        from skimage import segmentation

        markers = sides.sure(values)
        if markers.all():  # every pixel is sure
            return markers == 2
        found = segmentation.random_walker(
            sides.scaled(values), markers, beta=self.beta, mode="cg_j", tol=1e-4, prob_tol=1.0
        )
        return found == 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChanVese(sides.TwoSided):
    """Move a contour until both sides are as even as they can be (Chan and Vese 2001).

    Attributes:
        mu: What the length of the contour costs.
        iterations: The most.
    """

    dims: ClassVar[Sequence[int]] = (2,)
    mu: Annotated[kinds.Real, rules.number(0, 100)] = 0.25
    iterations: Annotated[int, rules.whole(1, 10_000)] = 100

    def side(self, values: np.ndarray) -> Bool[np.ndarray, "*space"]:
        """Return the brighter side of the contour."""
        from skimage import segmentation

        found: Any = segmentation.chan_vese(
            sides.scaled(values), mu=self.mu, max_num_iter=self.iterations
        )
        if found.all() or not found.any():
            return np.zeros(found.shape, bool)
        return found if values[found].mean() > values[~found].mean() else ~found


@dataclasses.dataclass(frozen=True, kw_only=True)
class MultiOtsu(Method):
    """Part the histogram in several levels (Liao, Chen and Chung 2001).

    Each level has the classes of the training pixels at it.

    Attributes:
        levels: How many.
    """

    channels: ClassVar[Sequence[int]] = sides.GREY
    levels: Annotated[int, rules.whole(2, 5)] = 3

    def shapes(self, channels: int) -> dict[str, tuple[int, ...]]:
        """Return the shape of the shares of classes at each level."""
        del channels
        return {"shares": (self.levels, self.num_classes)}

    def fit(self, examples: Iterable[Seen], *, seed: int) -> dict[str, np.ndarray]:
        """Return the share of each class at each level."""
        del seed
        found = []
        for image, label in examples:
            valid = label != IGNORE_LABEL
            found.append((self._levels(image)[valid], label[valid]))
        levels, classes = base.together(found)
        of = dict(count=self.levels, num_classes=self.num_classes)
        return {"shares": base.shares(levels, classes, **of)}

    def predict(self, numbers: Numbers, image: Image) -> Float[np.ndarray, "*space k"]:
        """Return the shares of the level of each pixel."""
        return numbers["shares"][self._levels(image)]

    def _levels(self, image: Image) -> np.ndarray:
        """Return the level of each pixel; an image of fewer values than levels has fewer."""
        from skimage import filters

        values = sides.grey(image)
        different = np.unique(values)
        if len(different) <= self.levels:
            return np.searchsorted(different, values)
        return np.digitize(values, filters.threshold_multiotsu(values, classes=self.levels))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kmeans(Method):
    """Give each pixel the classes of the training pixels whose colours are near its own.

    Colours are clustered once, over all examples (k-means++, Arthur and Vassilvitskii 2007).

    Attributes:
        clusters: How many.
        pixels: Of each example that are clustered.
    """

    clusters: Annotated[int, rules.whole(2, 4096)] = 16
    pixels: Pixels = 2000

    def shapes(self, channels: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the scale of values, the clusters' centres and their shares."""
        scale = {"mean": (channels,), "std": (channels,)}
        return scale | {
            "centres": (self.clusters, channels),
            "shares": (self.clusters, self.num_classes),
        }

    def fit(self, examples: Iterable[Seen], *, seed: int) -> dict[str, np.ndarray]:
        """Return the clusters of a sample of pixels, and the share of each class in them."""
        from sklearn.cluster import KMeans

        draw = np.random.default_rng(seed)
        values, classes = base.together([
            base.samples(image.astype(np.float32), label, most=self.pixels, draw=draw)
            for image, label in examples
        ])  # fmt: skip
        mean, std = values.mean(axis=0), values.std(axis=0)
        std = np.where(std > 0, std, 1).astype(np.float32)
        values = (values - mean) / std
        most = min(self.clusters, len(np.unique(values, axis=0)))
        clustering: Any = KMeans
        found = clustering(most, n_init=1, random_state=seed).fit(values)
        centres = np.full((self.clusters, len(mean)), 1e9, np.float32)  # none is near the others
        centres[:most] = found.cluster_centers_
        of = dict(count=self.clusters, num_classes=self.num_classes)
        own = base.shares(found.labels_, classes, **of)
        return {"mean": mean, "std": std, "centres": centres, "shares": own}

    def predict(self, numbers: Numbers, image: Image) -> Float[np.ndarray, "*space k"]:
        """Return the shares of the nearest cluster of each pixel."""
        values = (image.astype(np.float32) - numbers["mean"]) / numbers["std"]
        centres = numbers["centres"]
        products = values.reshape(-1, values.shape[-1]) @ centres.T
        nearest = ((centres**2).sum(axis=1) - 2 * products).argmin(axis=1)
        return numbers["shares"][nearest].reshape(*image.shape[:-1], self.num_classes)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slic(Kmeans):
    """Let the pixels of each superpixel vote (SLIC, Achanta et al. 2012), each as `Kmeans` has it.

    Attributes:
        segments: Superpixels of an image, about.
        compactness: How much nearness counts beside colour.
    """

    dims: ClassVar[Sequence[int]] = (2, 3)
    segments: Annotated[int, rules.whole(1, 1_000_000)] = 500
    compactness: kinds.Positive = 10.0

    def predict(self, numbers: Numbers, image: Image) -> Float[np.ndarray, "*space k"]:
        """Return the share of each class among the pixels of each superpixel."""
        from skimage import segmentation

        classes = super().predict(numbers, image).argmax(axis=-1)
        superpixels = segmentation.slic(
            image, n_segments=self.segments, compactness=self.compactness, channel_axis=-1,
            start_label=0,
        )  # fmt: skip
        of = dict(count=int(superpixels.max()) + 1, num_classes=self.num_classes)
        return base.shares(superpixels.ravel(), classes.ravel(), **of)[superpixels]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomForest(Method):
    """Tell classes by intensity, edges and texture at several scales, with a random forest.

    The features are scikit-image's `multiscale_basic_features`, those of ilastik and Weka.

    Attributes:
        trees: How many.
        depth: The most questions on the way to a leaf.
        pixels: Of each example that the forest is fitted to.
        sigma: The largest scale of the features, in pixels; the smallest is 0.5.
    """

    dims: ClassVar[Sequence[int]] = (2, 3)
    trees: Annotated[int, rules.whole(1, 1000)] = 30
    depth: Annotated[int, rules.whole(1, 16)] = 10
    pixels: Pixels = 500
    sigma: Annotated[kinds.Real, rules.number(1, 256)] = 8.0

    def shapes(self, channels: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the trees, see `forest.Trees`."""
        del channels
        one = (self.trees, forest.nodes(self.depth))
        return {"feature": one, "threshold": one, "shares": (*one, self.num_classes)}

    def fit(self, examples: Iterable[Seen], *, seed: int) -> dict[str, np.ndarray]:
        """Return the forest of a sample of pixels."""
        draw = np.random.default_rng(seed)
        values, classes = base.together([
            base.samples(self._features(image), label, most=self.pixels, draw=draw)
            for image, label in examples
        ])  # fmt: skip
        found = forest.fit(
            values, classes, trees=self.trees, depth=self.depth, count=self.num_classes,
            seed=seed,
        )  # fmt: skip
        return found._asdict()

    def predict(self, numbers: Numbers, image: Image) -> Float[np.ndarray, "*space k"]:
        """Return what the forest says of each pixel."""
        values = self._features(image)
        found = forest.predict(forest.Trees(**numbers), values.reshape(-1, values.shape[-1]))
        return found.reshape(*image.shape[:-1], self.num_classes)

    def _features(self, image: Image) -> Float[np.ndarray, "*space f"]:
        from skimage import feature

        features: Any = feature.multiscale_basic_features
        return features(image.astype(np.float32), sigma_max=self.sigma, workers=1, channel_axis=-1)
