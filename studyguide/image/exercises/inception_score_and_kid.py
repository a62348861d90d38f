"""Exercises of notebook 5.2, Inception Score and KID."""

import torch

from studyguide.course.exercises import Exercise, Wrong
from studyguide.datasets.digits import digits
from studyguide.image.features import DigitsFeatures
from studyguide.image.inception_score import inception_score


def _gauss(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def my_inception_score(logits):
    """Inception Score of all images together, in one split.

    logits is a tensor (images, classes). Returns a number from 1 to the number of classes.
    """
    p = logits.double().softmax(1)
    together, single = torch.special.entr(p.mean(0)).sum(), torch.special.entr(p).sum(1).mean()
    return (together - single).exp().item()


def _score_peer(logits):
    from torch_fidelity.metric_isc import isc_features_to_metric

    return isc_features_to_metric(logits, splits=1, shuffle=False)["inception_score_mean"]


def _kl(logits, reverse=False):
    """The divergence of each prediction from their mean, or of the mean from each."""
    log_p = logits.double().log_softmax(1)
    q = log_p.exp().mean(0)
    return (q * (q.log() - log_p) if reverse else log_p.exp() * (log_p - q.log())).sum(1)


def _with_logarithms(logits):
    p = logits.softmax(1)
    return (p * (p.log() - p.mean(0).log())).sum(1).mean().exp().item()


def _diversity(logits):
    return torch.special.entr(logits.double().softmax(1).mean(0)).sum().exp().item()


SCORE = Exercise(
    id="inception-score-from-logits",
    title="Inception Score from logits",
    prompt=(
        "Write `my_inception_score(logits)`, without splits: the exponential of the mean KL divergence of the predictions from their mean. "
        "The logits are (images, classes), before the softmax. Some classifiers are so sure that a probability is 0 in float32; your "
        "score must be right for them, too."
    ),
    difficulty=2,
    minutes=12,
    hints=(
        "`logits.log_softmax(1)` has no logarithm of 0. The mean prediction is a mean over images: `p.mean(0)`.",
        "Or without any KL: the score is exp(entropy of the mean prediction less mean entropy of the predictions), and `torch.special.entr` "
        "knows that 0 log 0 is 0. Compute in float64.",
    ),
    solution=my_inception_score,
    peer=_score_peer,
    cases=(
        (torch.tensor([[0.75, 0.25], [0.25, 0.75]]).log(),),
        (3 * _gauss(40, 7),),
        (200 * torch.eye(10).repeat(3, 1),),
        (200 * torch.eye(4)[[0, 0, 1, 1, 1]],),
        (_gauss(1, 5).expand(6, 5),),
    ),
    wrong=(
        Wrong(
            _with_logarithms,
            "you take the logarithm of the softmax. Where a classifier is sure, that is the logarithm of 0, and 0 times it is NaN. Take `log_softmax`, or `torch.special.entr`, in float64.",
        ),
        Wrong(
            lambda logits: _kl(logits).mean().item(),
            "this is the mean divergence in nats. The score is its exponential, so that it counts classes.",
        ),
        Wrong(
            lambda logits: _kl(logits).exp().mean().item(),
            "you take the exponential of each image's divergence, then the mean. First the mean, then the exponential.",
        ),
        Wrong(
            lambda logits: _kl(logits, reverse=True).mean().exp().item(),
            "your divergence runs the wrong way: the prediction of the image comes first, KL(p || mean), and its probabilities are the weights.",
        ),
        Wrong(
            _diversity,
            "this is the exponential of the entropy of the mean prediction: diversity alone. Unsure predictions must cost: subtract their mean entropy.",
        ),
        Wrong(
            lambda logits: 2 ** _kl(logits).mean().item(),
            "you raise 2 to a divergence in nats. Natural logarithms go with e, base-2 logarithms with 2.",
        ),
    ),
)


def my_kid(x, y):
    """Unbiased squared MMD with the kernel (x.y / d + 1)^3.

    x and y are tensors (n, d) and (m, d) of features. Returns a number, which may be negative.
    """
    n, m = len(x), len(y)
    xx, yy, xy = (((a @ b.T) / x.shape[1] + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    within = (xx.sum() - xx.trace()) / (n * (n - 1)) + (yy.sum() - yy.trace()) / (m * (m - 1))
    return (within - 2 * xy.mean()).item()


def _kid_peer(x, y):
    from sklearn.metrics.pairwise import polynomial_kernel

    n, m = len(x), len(y)
    xx, yy, xy = (polynomial_kernel(a, b, degree=3, coef0=1) for a, b in ((x, x), (y, y), (x, y)))
    return (xx.sum() - xx.trace()) / (n * n - n) + (yy.sum() - yy.trace()) / (m * m - m) - 2 * xy.mean()


def _kernels(x, y, scale=None, shift=1.0):
    scale = scale or 1 / x.shape[1]
    return [(a @ b.T * scale + shift) ** 3 for a, b in ((x, x), (y, y), (x, y))]


def _mmd(xx, yy, xy, twice=2):
    within = ((k.sum() - k.trace()) / (len(k) * (len(k) - 1)) for k in (xx, yy))
    return (sum(within) - twice * xy.mean()).item()


def _u_statistic(xx, yy, xy):
    pairs = xy.numel() - min(xy.shape)
    return _mmd(xx, yy, xy, twice=0) - 2 * ((xy.sum() - xy.diagonal().sum()) / pairs).item()


KID = Exercise(
    id="kid-from-features",
    title="KID from features",
    prompt=(
        "Write `my_kid(x, y)`: the unbiased squared MMD with the kernel $(x \\cdot y / d + 1)^3$, where $d$ is the number of features. No row is "
        "compared with itself. The two sets may have different sizes, and the result may be negative."
    ),
    difficulty=3,
    minutes=12,
    hints=(
        "Three matrices: `x @ x.T`, `y @ y.T` and `x @ y.T`, each divided by d, plus 1, cubed.",
        "From the first two drop the diagonal: `(k.sum() - k.trace()) / (n * (n - 1))`. The third keeps it: row i of x is another image than row i of y.",
    ),
    solution=my_kid,
    peer=_kid_peer,
    cases=(
        (_gauss(12, 4), _gauss(12, 4, seed=1) + 0.5),
        (_gauss(9, 3), _gauss(14, 3, seed=2)),
        (_gauss(10, 2, seed=3), _gauss(8, 2, seed=4)),
        (_gauss(5, 6), _gauss(5, 6)),
    ),
    wrong=(
        Wrong(
            lambda x, y: sum(s * k.mean().item() for s, k in zip((1, 1, -2), _kernels(x, y), strict=True)),
            "you keep the diagonals. A row compared with itself is always alike, which makes the distance too large: the estimate is biased.",
        ),
        Wrong(
            lambda x, y: sum(
                s * k.item()
                for s, k in zip(
                    (1, 1, -2),
                    ((k - k.diagonal().diag()).mean() if i < 2 else k.mean() for i, k in enumerate(_kernels(x, y))),
                    strict=True,
                )
            ),
            "you drop the diagonal and still divide by n². Without it there are n (n - 1) values.",
        ),
        Wrong(
            lambda x, y: _u_statistic(*_kernels(x, y)),
            "you drop the diagonal of the third matrix, too. Row i of x and row i of y are different images: keep it, and divide by n m.",
        ),
        Wrong(
            lambda x, y: _mmd(*_kernels(x, y), twice=1),
            "the comparison of x with y counts twice: within x plus within y less 2 times between.",
        ),
        Wrong(
            lambda x, y: _mmd(*_kernels(x, y, scale=1.0)),
            "you left out the division by d. The kernel is (x . y / d + 1)^3.",
        ),
        Wrong(
            lambda x, y: _mmd(*_kernels(x, y, shift=0.0)),
            "you left out the 1. Without it the kernel is (x . y / d)^3 and compares third moments only.",
        ),
        Wrong(
            lambda x, y: max(_mmd(*_kernels(x, y)), 0.0),
            "you cut the estimate at 0. It must be free to be negative: otherwise its mean for equal distributions is not 0.",
        ),
    ),
)


def my_recall(real, generated, k):
    """Share of the real features that lie in the ball of a generated one.

    real and generated are tensors (n, d) and (m, d). A ball reaches to the k-th nearest other feature of its own set.
    """
    radii = torch.cdist(generated, generated).sort(1).values[:, k]  # place 0 is the feature itself
    return (torch.cdist(real, generated) <= radii).any(1).double().mean().item()


def _recall_peer(real, generated, k):
    from sklearn.neighbors import NearestNeighbors

    radii = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(generated).kneighbors()[0][:, -1]
    distances = ((real[:, None] - generated).square().sum(-1)).sqrt().numpy()
    return (distances <= radii).any(1).mean().item()


def _radii(rows, k):
    return torch.cdist(rows, rows).sort(1).values[:, k]


_LINE = torch.tensor([[0.0], [1.0], [3.0], [7.0]]), torch.tensor([[0.5], [4.0], [12.0]])
_TIES = torch.tensor([[0.0], [1.0], [4.0], [10.0]]), torch.tensor([[1.0], [1.0], [3.0], [5.0], [5.0]])

RECALL = Exercise(
    id="recall-of-a-generator",
    title="Recall of a generator",
    prompt=(
        "Write `my_recall(real, generated, k)`: the share of the real features that lie in the ball of at least one generated feature. The ball of a "
        "generated feature reaches to its k-th nearest other generated feature. A point on the surface is inside."
    ),
    difficulty=3,
    minutes=12,
    hints=(
        "`torch.cdist(a, b)` has the distances of all pairs. Sort a row of `torch.cdist(generated, generated)`: what stands first, and where is the k-th neighbour?",
        "Then `torch.cdist(real, generated) <= radii`, a row for each real feature. One ball is enough: `any` along the row.",
    ),
    solution=my_recall,
    peer=_recall_peer,
    cases=(
        (*_LINE, 1),
        (*_TIES, 1),
        (*_TIES, 2),
        (_gauss(40, 3), 0.6 * _gauss(30, 3, seed=1) + 0.4, 3),
        (_gauss(25, 2, seed=2), 0.5 * _gauss(35, 2, seed=3) + 0.5, 1),
    ),
    wrong=(
        Wrong(
            lambda r, g, k: (torch.cdist(g, r) <= _radii(r, k)).any(1).double().mean().item(),
            "this is precision: the share of generated features in the balls of real ones. Recall asks it the other way round.",
        ),
        Wrong(
            lambda r, g, k: (torch.cdist(r, g) <= _radii(r, k)[:, None]).any(1).double().mean().item(),
            "your balls stand around the real features, which makes this coverage. For recall they stand around the generated ones.",
        ),
        Wrong(
            lambda r, g, k: (torch.cdist(r, g) <= _radii(g, k - 1)).any(1).double().mean().item(),
            "you count the feature as its own first neighbour, at distance 0. Sorted, the k-th other one has the index k, not k - 1.",
        ),
        Wrong(
            lambda r, g, k: (torch.cdist(r, g) < _radii(g, k)).any(1).double().mean().item(),
            "you leave out points on the surface of a ball. They are inside: use <=.",
        ),
        Wrong(
            lambda r, g, k: (torch.cdist(r, g) <= _radii(g, k)).double().mean().item(),
            "you average over all pairs. One ball is enough for a real feature: take `any` along the generated ones first.",
        ),
        Wrong(
            lambda r, g, k: (torch.cdist(r, g) <= _radii(g, k).mean()).any(1).double().mean().item(),
            "you give all balls one radius. Each generated feature has its own, small where features are dense.",
        ),
    ),
)


def my_collapsed_set():
    """100 images (100, 1, 8, 8) in [0, 1], at most ten of them different, that the Inception Score takes for perfect."""
    images = digits("train")[0]
    surest = DigitsFeatures().logits(images).softmax(1).argmax(0)  # for each class
    return images[surest].repeat(10, 1, 1, 1)


def _verify_collapsed(answer):
    if not isinstance(answer, torch.Tensor) or answer.shape != (100, 1, 8, 8):
        return "return one tensor of 100 images, of shape (100, 1, 8, 8)."
    if not (answer.amin() >= 0 and answer.amax() <= 1):
        return "pixels must lie between 0 and 1, as those of the digits do."
    if len(answer.flatten(1).unique(dim=0)) > 10:
        return "more than ten of your images differ. A collapsed generator has ten and repeats them."
    logits = DigitsFeatures().logits(answer.float())
    classes = len(logits.argmax(1).unique())
    if classes < 10:
        return f"the classifier sees {classes} of ten digits, and the score cannot exceed that. Diversity of classes is the half of the score that you lack."
    if logits.argmax(1).bincount().unique().numel() > 1:
        return "the digits are not equally frequent, so the mean prediction is not uniform. Let each image appear ten times."
    if inception_score(logits.double(), splits=1).mean < 9.99:
        return "close, but the score is below 9.99: the classifier is not sure of each image. Which training digit of each class is it surest of?"
    return None


def _first_of_each():
    images, labels = digits("train")
    return images[[(labels == digit).nonzero()[0].item() for digit in range(10)]]


def _least_sure():
    images, labels = digits("train")
    sure = DigitsFeatures().logits(images).softmax(1)
    right = sure.argmax(1) == labels
    return images[sure.where((right & (labels == torch.arange(10)[:, None])).T, 2).argmin(0)]


COLLAPSED = Exercise(
    id="break-the-inception-score",
    title="Ten images, a perfect score",
    prompt=(
        "Write `my_collapsed_set()`: a tensor of 100 images, of which at most ten differ, whose Inception Score in one split is above 9.99 of 10, more "
        "than the real digits get. The classifier is `DigitsFeatures()`, with its method `logits`; you may take images from `digits`."
    ),
    difficulty=2,
    minutes=10,
    hints=(
        "The score wants two things: each prediction sure, all classes equally frequent. It never asks whether images differ within a class.",
        "Take the training digits, and for each class the one with the highest probability: `logits(images).softmax(1).argmax(0)`. Repeat the ten.",
    ),
    solution=my_collapsed_set,
    verify=_verify_collapsed,
    wrong=(
        Wrong(
            lambda: digits("train")[0][:100],
            "more than ten of your images differ. A collapsed generator has ten and repeats them.",
        ),
        Wrong(
            lambda: _first_of_each()[:1].repeat(100, 1, 1, 1),
            "the classifier sees 1 of ten digits, and the score cannot exceed that. Diversity of classes is the half of the score that you lack.",
        ),
        Wrong(
            lambda: _first_of_each()[[0] * 91 + list(range(1, 10))],
            "the digits are not equally frequent, so the mean prediction is not uniform. Let each image appear ten times.",
        ),
        Wrong(
            lambda: _least_sure().repeat(10, 1, 1, 1),
            "close, but the score is below 9.99: the classifier is not sure of each image. Which training digit of each class is it surest of?",
        ),
        Wrong(lambda: _first_of_each(), "return one tensor of 100 images, of shape (100, 1, 8, 8)."),
        Wrong(
            lambda: 16 * _first_of_each().repeat(10, 1, 1, 1),
            "pixels must lie between 0 and 1, as those of the digits do.",
        ),
    ),
)

EXERCISES = (SCORE, KID, RECALL, COLLAPSED)
