"""Exercises of notebook 5.1, FID."""

from functools import lru_cache
from types import SimpleNamespace

import torch
import torch.nn.functional as F

from studyguide.course.exercises import Exercise, Wrong


def _tensor(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def my_frechet(mu1, sigma1, mu2, sigma2):
    """Squared Frechet distance between two Gaussians.

    mu1 and mu2 are tensors (d,), sigma1 and sigma2 covariances (d, d). Returns one number, 0 or more.
    """
    values = torch.linalg.eigvals(sigma1 @ sigma2).real
    root = values.clamp(min=0).sqrt().sum()
    return (mu1 - mu2).square().sum() + sigma1.trace() + sigma2.trace() - 2 * root


def _frechet_peer(mu1, sigma1, mu2, sigma2):
    from scipy.linalg import sqrtm

    apart = ((mu1 - mu2) ** 2).sum()
    return apart + sigma1.trace() + sigma2.trace() - 2 * sqrtm((sigma1 @ sigma2).numpy()).trace().real


def _frechet(mu1, sigma1, mu2, sigma2, root=None, apart=None, twice=2):
    """The distance with another trace of the root, another distance of means, or another factor."""
    apart = (mu1 - mu2).square().sum() if apart is None else apart
    root = torch.linalg.eigvals(sigma1 @ sigma2).real.sqrt().sum() if root is None else root
    return apart + sigma1.trace() + sigma2.trace() - twice * root


_LONG, _WIDE = _tensor([2, 1], [1, 2]), _tensor([4, -1], [-1, 1])
_THREE = _tensor([3, 1, 0], [1, 2, 0.5], [0, 0.5, 1]), _tensor([1, 0.3, 0.2], [0.3, 2, 0], [0.2, 0, 5])

FRECHET = Exercise(
    id="frechet-from-moments",
    title="The distance from moments",
    prompt=(
        "Write `my_frechet(mu1, sigma1, mu2, sigma2)`: the squared Frechet distance between two Gaussians, from their means and covariances. "
        "The trace of the root of a product is the sum of the roots of the product's eigenvalues."
    ),
    difficulty=3,
    minutes=12,
    hints=(
        "Four parts: the squared distance of the means, a trace, another trace, and twice the trace of the root, taken off.",
        "`torch.linalg.eigvals(sigma1 @ sigma2)` is of a complex type, but of two covariances all eigenvalues are real and none is below 0. "
        "Take `.real`, clamp what rounding puts below 0, take the roots, add.",
    ),
    solution=my_frechet,
    peer=_frechet_peer,
    cases=(
        (_tensor(0, 1), _LONG, _tensor(0, 0), _WIDE),
        (_tensor(1, 2, 3), _THREE[0], _tensor(3, 2, 0), _THREE[1]),
        (_tensor(1), _tensor([4]), _tensor(5), _tensor([9])),
    ),
    wrong=(
        Wrong(
            lambda *given: _frechet(*given, root=(given[1] @ given[3]).sqrt().trace()),
            "`sqrt` takes the root of each entry. The root of a matrix is another matrix; its trace is the sum of the roots of the eigenvalues.",
        ),
        Wrong(
            lambda *given: _frechet(*given, root=(given[1].diagonal() * given[3].diagonal()).sqrt().sum()),
            "you use the variances alone, as if the features were independent. Take the eigenvalues of the whole product.",
        ),
        Wrong(
            lambda *given: _frechet(
                *given, root=(torch.linalg.eigvalsh(given[1]) * torch.linalg.eigvalsh(given[3])).sqrt().sum()
            ),
            "you multiply the eigenvalues of the two matrices. That holds only if they share their axes; take those of the product.",
        ),
        Wrong(
            lambda *given: _frechet(*given, twice=1),
            "the trace of the root counts twice, as the 2ab of (a - b) squared.",
        ),
        Wrong(
            lambda *given: _frechet(*given, apart=(given[0] - given[2]).norm()),
            "the distance of the means is not squared. Use the sum of the squared differences.",
        ),
        Wrong(
            lambda *given: _frechet(*given, apart=0),
            "you left out the means. Two clouds of one shape in different places are apart.",
        ),
        Wrong(
            lambda *given: _frechet(*given).sqrt(),
            "right, but for the root at the end. FID is the squared distance.",
        ),
        Wrong(
            lambda mu1, sigma1, mu2, sigma2: (mu1 - mu2).square().sum() + (sigma1 - sigma2).square().sum(),
            "you square the difference of the covariances. The distance compares their roots, standard deviations, not variances.",
        ),
    ),
)

MEAN, STD = _tensor([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]).view(2, 3, 1, 1)  # ImageNet's


def my_inception_input(images):
    """What Inception-v3 was trained to read: -1 for black, 1 for white.

    images (n, 3, height, width) were normalised with ImageNet's means (0.485, 0.456, 0.406) and standard deviations
    (0.229, 0.224, 0.225) of red, green and blue. Returns a tensor of the same shape.
    """
    mean = torch.tensor([0.485, 0.456, 0.406], dtype=images.dtype).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225], dtype=images.dtype).view(3, 1, 1)
    return 2 * (images * std + mean) - 1


def _input_peer(images):
    from torchvision.models import Inception3

    return Inception3._transform_input(SimpleNamespace(transform_input=True), images)


def _photos(seed, n):
    return (torch.rand(n, 3, 2, 3, generator=torch.Generator().manual_seed(seed)).double() - MEAN) / STD


def _stretched(images):
    low, high = images.aminmax()
    return 2 * (images - low) / (high - low) - 1


INPUT = Exercise(
    id="inception-input-range",
    title="What the network reads",
    prompt=(
        "A loader hands you images normalised with ImageNet's means and standard deviations. Write `my_inception_input(images)`: the same images "
        "as the weights of Inception-v3 were trained on them, black at −1 and white at 1."
    ),
    difficulty=2,
    minutes=8,
    hints=(
        "Go back to pixels from 0 to 1 first: the loader did (x - mean) / std, for each colour its own. Then stretch 0 to 1 over -1 to 1.",
        "The colours lie along the second axis. `torch.tensor([...]).view(3, 1, 1)` lines up with it.",
    ),
    solution=my_inception_input,
    peer=_input_peer,
    cases=(
        ((torch.stack([torch.zeros(3, 2, 3), torch.ones(3, 2, 3)]) - MEAN) / STD,),
        (_photos(0, 4),),
        (_photos(1, 1),),
    ),
    wrong=(
        Wrong(
            lambda images: images,
            "these numbers go from -2.12 to 2.64, which the weights have never seen. Undo the normalisation, then stretch.",
        ),
        Wrong(
            lambda images: images * STD + MEAN,
            "you stop at pixels from 0 to 1. The weights were trained on -1 to 1: twice that, less 1.",
        ),
        Wrong(
            lambda images: 255 * (images * STD + MEAN),
            "these are pixels from 0 to 255. The weights were trained on -1 to 1.",
        ),
        Wrong(
            lambda images: images.clamp(-1, 1),
            "you cut off what lies outside -1 to 1, and with it the darkest and the brightest parts. Rescale instead.",
        ),
        Wrong(
            _stretched,
            "you stretch each batch by its own darkest and brightest pixel, so that an image depends on its neighbours. Use the known means and deviations.",
        ),
        Wrong(
            lambda images: (images - MEAN) / STD,
            "you normalise a second time. Undo it: times the deviation, plus the mean.",
        ),
        Wrong(
            lambda images: 2 * (images * STD.flatten() + MEAN.flatten()) - 1,
            "the three colours are lined up with the width. Give the means and deviations the shape (3, 1, 1).",
        ),
    ),
)


def my_fid_without_bias(sizes, scores):
    """FID at infinitely many images, from FIDs at several numbers of images.

    sizes and scores are tensors (k,). Returns one number: where the line through the scores over 1 / size meets 0.
    """
    x = 1 / sizes.double()
    around = x - x.mean()
    slope = (around * scores).sum() / around.square().sum()
    return scores.mean() - slope * x.mean()


def _line_peer(sizes, scores):
    import numpy as np

    return float(np.polyfit(1 / sizes.numpy(), scores.numpy(), 1)[1])


def _line(x, y):
    """Slope and intercept of the least-squares line."""
    around = x - x.mean()
    slope = (around * y).sum() / around.square().sum()
    return slope, y.mean() - slope * x.mean()


INFINITY = Exercise(
    id="fid-without-bias",
    title="FID without its bias",
    prompt=(
        "Write `my_fid_without_bias(sizes, scores)`: fit a straight line, by least squares, to the scores as a function of 1 / size, and return its value "
        "at 1 / size = 0, which is FID as infinitely many images would give it."
    ),
    difficulty=3,
    minutes=12,
    hints=(
        "The slope of the least-squares line of y over x: the sum of (x - mean x) y, divided by the sum of (x - mean x) squared.",
        "The line goes through (mean x, mean y). Walk from there to x = 0: mean y less slope times mean x. Here x is 1 / sizes.",
    ),
    solution=my_fid_without_bias,
    peer=_line_peer,
    cases=(
        (torch.tensor([100, 200, 400, 800]), _tensor(25.0, 14.2, 9.4, 7.1)),
        (torch.tensor([1000, 500, 250]), _tensor(3.1, 6.0, 12.4)),
        (torch.tensor([300, 600]), _tensor(8.0, 5.0)),
        (torch.tensor([2000, 5000, 3000, 10000, 4000]), _tensor(18.0, 15.3, 16.6, 14.5, 15.9)),
    ),
    wrong=(
        Wrong(
            lambda sizes, scores: _line(sizes.double(), scores)[1],
            "your line runs over the sizes, and 0 images is where you read it. FID is a line in 1 / size, and 0 is infinity there.",
        ),
        Wrong(
            lambda sizes, scores: _line(1 / sizes.double(), scores)[0],
            "this is the slope of the line, the bias times the size. Return its value at 0.",
        ),
        Wrong(
            lambda sizes, scores: scores[sizes.argmax()],
            "the score of the largest set has the least bias, but still some. Follow the line to 1 / size = 0.",
        ),
        Wrong(
            lambda sizes, scores: scores.mean(),
            "the mean of the scores mixes the biases of all sizes. Fit a line over 1 / size and return its value at 0.",
        ),
        Wrong(
            lambda sizes, scores: _line(1 / sizes.double()[sizes.argsort()[-2:]], scores[sizes.argsort()[-2:]])[1],
            "you draw the line through the two largest sets alone. Use all points: the scores scatter.",
        ),
        Wrong(
            lambda sizes, scores: _line(1 / sizes.double().sqrt(), scores)[1],
            "you fit over 1 / root of the size, as for a standard error. The bias falls as 1 / size.",
        ),
    ),
)


@lru_cache
def _material():
    """Test digits, those of the generator "gaussians", the extractor, and the honest FIDs of training digits and gaussians."""
    from studyguide.datasets.digits import digits, generate
    from studyguide.image.features import DigitsFeatures
    from studyguide.image.frechet import fid

    extractor, real, _ = DigitsFeatures().double(), *digits("test")
    sets = (generate(name, len(real), rng=1) for name in ("real", "gaussians"))
    training, gaussians = ((images, fid(real, images, extractor).score) for images in sets)
    return real, gaussians[0], extractor, training[1], gaussians[1]


def my_resize():
    """A function from images (n, 1, 8, 8) in [0, 1] to images of the same shape and range."""
    return lambda images: F.interpolate(F.avg_pool2d(images, 4), scale_factor=4)


def _verify_resize(answer):
    from studyguide.image.frechet import fid

    if not callable(answer):
        return "return a function of images: `return lambda images: ...`."
    real, gaussians, extractor, wanted, honest = _material()
    sides = [torch.as_tensor(answer(images.clone())) for images in (real, gaussians)]
    if any(side.shape != images.shape for side, images in zip(sides, (real, gaussians), strict=True)):
        return f"images of shape {tuple(real.shape)} came back as {tuple(sides[0].shape)}. Bring them back to 8 x 8."
    if not torch.allclose(torch.as_tensor(answer(gaussians[:3].clone())), sides[1][:3], atol=1e-6):
        return "what becomes of an image depends on the other images. Treat each one by itself."
    if min(side.amin() for side in sides) < 0 or max(side.amax() for side in sides) > 1:
        return "pixels leave the range 0 to 1."
    off = max(
        (side - images).mean((1, 2, 3)).abs().amax() for side, images in zip(sides, (real, gaussians), strict=True)
    )
    if off > 0.02:
        return f"the mean brightness of an image changes by up to {off:.2f}. Let it be 0.02 at most: blur or resize, do not repaint."
    score = fid(*sides, extractor).score
    if score >= wanted:
        return f"FID goes from {honest:.1f} to {score:.1f}; real training digits have {wanted:.1f}. What gives the bad digits away is fine detail: let more of it go."
    return None


RESIZE = Exercise(
    id="break-fid-resize",
    title="A better FID by a resize",
    prompt=(
        'The generator "gaussians" has a poor FID, and its images stay as they are. But you write the data loader. Write `my_resize()`: it returns a function that is '
        "applied to each image of *both* sets before the features are made, keeps shape, range and mean brightness (to 0.02), and brings the FID below "
        "that of real training digits, untouched."
    ),
    difficulty=2,
    minutes=10,
    hints=(
        "What tells a rough digit from a real one is fine detail. The loader may lose detail, in both sets alike.",
        "`F.avg_pool2d(images, k)` makes images smaller by a factor k, `F.interpolate(images, scale_factor=k)` larger. Which k leave 8 pixels whole?",
    ),
    solution=my_resize,
    verify=_verify_resize,
    wrong=(
        Wrong(
            lambda: lambda images: images,
            "FID goes from 75.8 to 75.8; real training digits have 4.5. What gives the bad digits away is fine detail: let more of it go.",
        ),
        Wrong(
            lambda: lambda images: F.interpolate(F.avg_pool2d(images, 2), scale_factor=2),
            "FID goes from 75.8 to 16.4; real training digits have 4.5. What gives the bad digits away is fine detail: let more of it go.",
        ),
        Wrong(
            lambda: lambda images: torch.full_like(images, 0.5),
            "the mean brightness of an image changes by up to 0.28. Let it be 0.02 at most: blur or resize, do not repaint.",
        ),
        Wrong(
            lambda: lambda images: images / 10,
            "the mean brightness of an image changes by up to 0.38. Let it be 0.02 at most: blur or resize, do not repaint.",
        ),
        Wrong(
            lambda: lambda images: F.avg_pool2d(images, 4),
            "images of shape (797, 1, 8, 8) came back as (797, 1, 2, 2). Bring them back to 8 x 8.",
        ),
        Wrong(
            lambda: lambda images: images.mean(0, keepdim=True).expand_as(images),
            "what becomes of an image depends on the other images. Treat each one by itself.",
        ),
        Wrong(lambda: torch.zeros(1, 1, 8, 8), "return a function of images: `return lambda images: ...`."),
    ),
)

EXERCISES = (FRECHET, INPUT, INFINITY, RESIZE)
