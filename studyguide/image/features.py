"""From images to features, and from features to their mean and covariance.

A score such as FID compares features, numbers that a network computes from an image. It depends on the network, so the
network's `name` belongs beside the score. An *extractor* is a torch module with a `name` and with `dimensions`, which
makes features (n, dimensions) of images (n, channels, height, width) in [0, 1]; a classifier also has `logits(images)`.
`DigitsFeatures` and `InceptionFeatures` are such modules.
"""

import numpy as np
import torch
from scipy.linalg.blas import dsyrk
from torch import nn

from studyguide.image.inception import InceptionFeatures
from studyguide.models import load_weights
from studyguide.probability.validation import check_finite, common_dtype, floating, positive_integer

__all__ = ["DigitsFeatures", "FeatureStatistics", "InceptionFeatures", "extract", "feature_sets"]

ROWS = 512  # that FeatureStatistics takes at a time


class DigitsFeatures(nn.Module):
    """64 features of digits (n, 1, 8, 8) in [0, 1], from a small classifier of the ten digits (``data/models/digits-features``).

    Features are what the classifier's last layer, `head`, reads; `logits(images)` is its output (n, 10).
    With `weights` "random" it is the same network before any training, its weights drawn from a fixed seed.

    >>> from studyguide.datasets.digits import digits
    >>> images, labels = digits("test")
    >>> extract(images, DigitsFeatures()).shape
    torch.Size([797, 64])
    """

    dimensions = 64

    def __init__(self, weights="digits-features"):
        super().__init__()
        if weights not in ("digits-features", "random"):
            raise ValueError(f"weights is {weights!r}; expected 'digits-features' or 'random'")
        self.name = "digits-features" if weights == "digits-features" else "digits-features (random weights)"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.body = nn.Sequential(
                *(nn.Conv2d(1, 32, 3, padding=1), nn.SiLU(), nn.Conv2d(32, 64, 3, padding=1), nn.SiLU()),
                *(nn.MaxPool2d(2), nn.Conv2d(64, 64, 3, padding=1), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
            )
            self.head = nn.Linear(self.dimensions, 10)
            for layer in (self.body[0], self.body[2], self.body[5]):
                nn.init.kaiming_normal_(layer.weight)
        if weights == "digits-features":
            self.load_state_dict(load_weights(weights))
        self.eval().requires_grad_(False)

    def forward(self, images):
        if images.shape[1:] != (1, 8, 8):
            raise ValueError(f"images have shape {tuple(images.shape)}; {self.name} expects (n, 1, 8, 8)")
        return self.body(images)

    def logits(self, images):
        """(n, 10) scores of the ten digits; their softmax are the classifier's probabilities."""
        return self.head(self(images))


def extract(images, extractor, batch_size=64, device=None):
    """Features of images, computed a batch at a time, without gradients.

    Shapes: images (n, channels, height, width), or a list of images (channels, height, width) of any sizes; result
    (n, d), in the order of the images. Images of one size share batches; none is resized here.
    Range: floating images must lie in [0, 1]; uint8 images, 0 to 255, are divided by 255.
    Device and dtype: the extractor's. With `device` the extractor is moved there first, as by its method `to`.
    Errors: no images, values outside [0, 1] or NaN, another dtype; an extractor in training mode, in which dropout and
    batch statistics would make features depend on chance and on the batch; features of another shape, or not finite.

    >>> images = [torch.zeros(1, 8, 8), torch.full((1, 8, 8), 255, dtype=torch.uint8)]
    >>> extract(images, DigitsFeatures(), batch_size=1).shape
    torch.Size([2, 64])
    """
    batch_size = positive_integer("batch_size", batch_size)
    if not (isinstance(extractor, nn.Module) and hasattr(extractor, "name") and hasattr(extractor, "dimensions")):
        raise TypeError(f"extractor is {extractor!r:.60}; expected a torch module with a name and dimensions")
    if any(module.training for module in extractor.modules()):
        raise ValueError(f"{extractor.name} is in training mode; expected one set to evaluate by extractor.eval()")
    batches, places = _batches(images, batch_size)
    if device is not None:
        extractor.to(device)
    like, expected, parts = next(extractor.parameters(), None), extractor.dimensions, []
    with torch.no_grad():
        for batch in batches:
            if like is None:  # a module without weights computes where the images are
                like = torch.empty(0, device=device or batch.device)
            pixels = batch.to(like.device).to(like.dtype)
            features = extractor(pixels / 255 if batch.dtype == torch.uint8 else pixels)
            came = tuple(features.shape) if isinstance(features, torch.Tensor) else type(features).__name__
            if came != (len(batch), expected):
                raise ValueError(f"{extractor.name} made {came} of {len(batch)} images; expected (n, {expected})")
            parts.append(features)
    features = torch.cat(parts)
    check_finite("features", features)
    return features if places is None else features[places.to(features.device)]


def feature_sets(at_least, **sets):
    """Two finite sets of features (n, d) and (m, d) in the dtype to compute in, and the dtype of a result.

    ValueError for a set of fewer than `at_least` rows, unequal d, NaN or infinity.

    >>> [rows.shape for rows in feature_sets(1, x=[[1, 2]], y=[[3, 4], [5, 6]])[:2]]
    [torch.Size([1, 2]), torch.Size([2, 2])]
    """
    x, y = floating(**sets)
    for name, rows in zip(sets, (x, y), strict=True):
        if rows.ndim != 2 or len(rows) < at_least:
            expected = f"(n, d), a row for each of {at_least} images or more"
            raise ValueError(f"{name} has shape {tuple(rows.shape)}; expected {expected}")
        check_finite(name, rows)
    if x.shape[1] != y.shape[1]:
        (a, b), found = sets, (x.shape[1], y.shape[1])
        raise ValueError(f"{a} has {found[0]} features per row, {b} {found[1]}; expected as many, of one extractor")
    dtype, work = common_dtype(x, y)
    return x.to(work), y.to(work), dtype


class FeatureStatistics:
    """Mean and covariance of all features seen so far, gathered batch by batch; states merge.

    The state is the number of rows, their mean (d,) and the sums of products of their deviations from it (d, d), in
    float64 on the device of the first features: memory is O(d²) however many rows come. Batches may have any size; the
    order in which they come, or states merge, matters only to rounding. So does a large constant in all features: they
    are counted from the first row, and each block's deviations from its own mean.
    Source: Chan, Golub and LeVeque (1983), "Algorithms for computing the sample variance", The American Statistician 37.

    >>> seen = FeatureStatistics()
    >>> seen.update([[0, 1], [3, 1]])
    >>> seen.update([[3, 7], [6, 7]])
    >>> mean, covariance = seen.compute()
    >>> mean, covariance
    (tensor([3., 4.], dtype=torch.float64), tensor([[ 6.,  6.],
            [ 6., 12.]], dtype=torch.float64))
    """

    def __init__(self):
        self.n = 0
        self._origin = self._mean = self._products = None  # the first row; the mean less it; the upper triangle

    @torch.no_grad()
    def update(self, features):
        """Count features (n, d), n at least 1, of any real dtype. Errors: no rows, another d, NaN, infinity."""
        [features] = floating(features=features)
        if features.ndim != 2:
            raise ValueError(f"features have shape {tuple(features.shape)}; expected (n, d)")
        check_finite("features", features)
        self._begin(features[0].double())
        for block in features.split(ROWS):
            deviations = block.to(self._origin) - self._origin
            mean = deviations.mean(0)
            self._join(len(block), mean, deviations.sub_(mean))

    def merge(self, other):
        """Add the state of another accumulator, which stays as it is. An error if it has another d."""
        if other.n:
            self._begin(other._origin)
            mean = (other._origin.to(self._origin) - self._origin) + other._mean.to(self._mean)
            self._products += other._products.to(self._products)
            self._join(other.n, mean)

    def compute(self):
        """(mean (d,), covariance (d, d)), float64; the covariance is divided by n - 1. ValueError for fewer than 2 rows."""
        if self.n < 2:
            raise ValueError(f"{self.n} rows of features were seen; expected at least 2 before compute")
        upper = self._products.triu() / (self.n - 1)
        check_finite("the covariance of the features", upper)
        return self._origin + self._mean, upper + upper.triu(1).T

    def _begin(self, row):
        if self._origin is None:
            self._origin, self._mean = row.clone(), torch.zeros_like(row)
            self._products = row.new_zeros(len(row), len(row))
        elif len(row) != len(self._origin):
            raise ValueError(f"features have {len(row)} dimensions; expected {len(self._origin)}, as those before")

    def _join(self, n, mean, deviations=None):
        """Count n rows: their mean, and their deviations from it unless the products of these are in already."""
        shift, total = mean - self._mean, self.n + n
        rows = (shift * (self.n * n / total) ** 0.5).unsqueeze(0)
        if deviations is not None:
            rows = torch.cat([deviations, rows])
        if rows.is_cpu:  # BLAS computes one triangle of the symmetric product, in place: to it, rows are columns
            dsyrk(1, rows.numpy().T, beta=1, c=self._products.numpy().T, overwrite_c=True, lower=True)
        else:
            self._products.addmm_(rows.T, rows)
        self._mean += shift * (n / total)
        self.n = total


def _batches(images, batch_size):
    """Batches of images of one size and dtype, and where in them each image is (None: in order)."""
    if not isinstance(images, list | tuple):
        return _checked("images", images, "n", "channels", "height", "width").split(batch_size), None
    if not images:
        raise ValueError("images is empty; expected at least one image")
    alike = {}
    for place, image in enumerate(images):
        image = _checked(f"images[{place}]", image, "channels", "height", "width")
        alike.setdefault((image.shape, image.dtype, image.device), []).append((place, image))
    rows = [rows[i : i + batch_size] for rows in alike.values() for i in range(0, len(rows), batch_size)]
    order = torch.tensor([place for batch in rows for place, _ in batch])
    return (torch.stack([image for _, image in batch]) for batch in rows), order.argsort()


def _checked(name, images, *axes):
    """Images as a tensor with these axes, uint8 or floating in [0, 1]."""
    if isinstance(images, np.ndarray):
        images = torch.as_tensor(np.require(images, requirements="CW"))
    if not isinstance(images, torch.Tensor):
        raise TypeError(
            f"{name} is of type {type(images).__name__}; expected a tensor or an array ({', '.join(axes)}); "
            "torchvision.transforms.functional.pil_to_tensor makes one of a PIL image"
        )
    if images.ndim != len(axes) or images.numel() == 0:
        raise ValueError(f"{name} has shape {tuple(images.shape)}; expected ({', '.join(axes)}), each at least 1")
    if images.dtype == torch.uint8:
        return images
    if not images.is_floating_point():
        raise TypeError(f"{name} has dtype {images.dtype}; expected uint8 (0 to 255) or floating (0 to 1)")
    low, high = images.aminmax()
    if not (low >= 0) & (high <= 1):  # true for NaN too
        raise ValueError(f"{name} goes from {low:g} to {high:g}; expected 0 to 1 (or uint8, 0 to 255)")
    return images
