"""The kernel distance between two sets of features: KID, an unbiased squared maximum mean discrepancy."""

import math

import torch

from studyguide.image.features import feature_sets
from studyguide.probability.validation import generator, positive_integer
from studyguide.statistics.intervals import t_interval

BLOCK = {"cpu": 640, "cuda": 8192}  # rows and columns of the kernel matrix that exist at a time


@torch.no_grad()
def kid(x, y, degree=3, gamma=None, coef0=1.0, subsets=None, subset_size=1000, rng=0, confidence=0.95):
    """Kernel Inception Distance: the unbiased MMD² of two sets of features, with an interval.

    The kernel is (gamma x.y + coef0)^degree, and gamma 1 / d unless given. The estimate is the mean kernel within x and
    that within y, no feature being compared with itself, less twice that between x and y. Its mean is the distance of
    the two distributions whatever the sample sizes, so that for equal ones it is often below 0.

    Shapes: x (n, d) and y (m, d), n and m of 4 or more. All pairs are compared, a block at a time, so that memory stays
    near that of the features. With `subsets`, that many random subsets of `subset_size` of each side are compared
    instead, and the estimate is their mean, as papers report it; 100 subsets of 1000 cost as much as all of 10,000.
    Dtype: results have that of the features, in which the kernel is computed, too (half precision in float32); sums of
    blocks are added up in float64.
    Errors: too few features or other than `subset_size` allows, unequal d, NaN and infinity, numbers whose kernel
    overflows, a degree below 1, fewer than 2 subsets, gamma or coef0 for which this is no kernel: a ValueError.
    Interval: normal, with an unbiased estimate of each term of the estimator's variance, in closed form from the row
    sums of the kernel matrices. First-order terms are cut at 0, where they are for equal distributions: there it errs
    on the safe side (99 % of intervals hold 0). Small distances are skewed, and 90 to 95 % hold the truth. Subsets add
    the variance of their mean given the data. (Their standard deviation is no error of that mean: it does not know n.)
    Randomness: of subsets only. `rng` is an int seed, the same on every device, or a torch.Generator, which advances.
    Source: Binkowski et al. (2018), "Demystifying MMD GANs"; Gretton et al. (2012), "A kernel two-sample test", lemma
    6; for the variance, Sutherland and Deka (2019), "Unbiased estimators for the variance of MMD estimators".

    >>> x = torch.arange(8.0).reshape(4, 2)
    >>> print(kid(x, x + 9, degree=1))
    77.6667 (95 % interval 13.962 to 141.3714)
    """
    x, y, dtype = feature_sets(at_least=4, x=x, y=y)
    kernel = _kernel(x, y, degree, gamma, coef0)
    if subsets is None:
        estimate, *terms = _compare(kernel, x, y)
        spread = 0.0
    else:
        subsets, size = positive_integer("subsets", subsets), positive_integer("subset_size", subset_size)
        if subsets < 2 or not 4 <= size <= min(len(x), len(y)):
            found = f"{subsets} subsets of {size} from {len(x)} and {len(y)} features"
            raise ValueError(f"{found}; expected 2 subsets or more, of 4 features up to all of the smaller set")
        source = generator(rng)
        drawn = ((_draw(x, size, source), _draw(y, size, source)) for _ in range(subsets))
        values, *terms = torch.stack([_compare(kernel, *pair) for pair in drawn], 1)
        estimate, spread, terms = values.mean(), values.var() / subsets, [term.mean() for term in terms]
    variance = _variance(len(x), len(y), *terms) + spread
    interval = t_interval(estimate, variance.sqrt(), math.inf, confidence, dtype)
    if not (interval.low.isfinite() & interval.high.isfinite()):
        raise ValueError(f"x and y reach {max(x.abs().max(), y.abs().max()):g}; the kernel overflows {dtype}")
    return interval


def _kernel(x, y, degree, gamma, coef0):
    """A function of two sets of rows: their kernel matrix, less a constant.

    MMD² and its variance do not change with the constant. The kernel of the means is near all values, and what is left
    of them can be added up with less rounding.
    """
    degree, gamma = positive_integer("degree", degree), 1 / x.shape[1] if gamma is None else gamma
    if not (0 < gamma < math.inf and 0 <= coef0 < math.inf):
        raise ValueError(f"gamma is {gamma} and coef0 {coef0}; expected gamma above 0, coef0 at least 0, both finite")
    coef0 = x.new_tensor(coef0)
    origin = (gamma * (x.mean(0) @ y.mean(0)) + coef0) ** degree
    return lambda a, b: torch.addmm(coef0, a, b.T, alpha=gamma).pow_(degree).sub_(origin)


def _draw(x, size, source):
    """A random subset of the rows."""
    return x[torch.randperm(len(x), generator=source, device=source.device)[:size].to(x.device)]


def _compare(kernel, x, y):
    """MMD², then unbiased estimates of what its variance is made of, as (6,).

    With k(x, x') = constant + a(x) + a(x') + rest, and b(x) the same of k(x, y): the variance of a - b over x, the same
    over y, and the mean squares of the rests of xx, yy and xy.
    """
    (n, m), (xx, _, xx_squares), (yy, _, yy_squares) = (len(x), len(y)), _sums(kernel, x), _sums(kernel, y)
    x_y, y_x, xy_squares = _sums(kernel, x, y)
    total = x_y.sum()
    mmd = xx.sum() / (n * (n - 1)) + yy.sum() / (m * (m - 1)) - 2 * total / (n * m)
    rest_xx, rest_yy = _rest(xx, xx_squares), _rest(yy, yy_squares)
    rest_xy = (xy_squares - x_y @ x_y / m - y_x @ y_x / n + total**2 / (n * m)) / ((n - 1) * (m - 1))
    first_x = (xx / (n - 2) - x_y / m).var() - rest_xx / (n - 2) - rest_xy / m  # less the noise of the row means
    first_y = (yy / (m - 2) - y_x / n).var() - rest_yy / (m - 2) - rest_xy / n
    return torch.stack([mmd, first_x, first_y, rest_xx, rest_yy, rest_xy])


def _rest(rows, squares):
    """Mean square of a symmetric matrix without its diagonal, freed of its row means ("U-centred")."""
    n = len(rows)
    return (squares - 2 * (rows @ rows) / (n - 2) + rows.sum() ** 2 / ((n - 1) * (n - 2))) / (n * (n - 3))


def _variance(n, m, first_x, first_y, rest_xx, rest_yy, rest_xy):
    """The variance of MMD² from n and m features: Hoeffding's decomposition, whose terms do not correlate."""
    first = 4 * first_x.clamp(min=0) / n + 4 * first_y.clamp(min=0) / m
    second = 2 * rest_xx / (n * (n - 1)) + 2 * rest_yy / (m * (m - 1)) + 4 * rest_xy / (n * m)
    return first + second.clamp(min=0)


def _sums(kernel, a, b=None):
    """Row sums, column sums and the sum of squares of a kernel matrix; of `a` with itself without the diagonal."""
    alone, b = b is None, a if b is None else b
    rows = torch.zeros(len(a), dtype=torch.float64, device=a.device)
    columns = rows if alone else torch.zeros(len(b), dtype=torch.float64, device=a.device)
    squares, step = rows.new_zeros(()), BLOCK.get(a.device.type, 640)
    for i in range(0, len(a), step):
        for j in range(i if alone else 0, len(b), step):  # alone, a block beside the diagonal is its mirror image, too
            values, diagonal = kernel(a[i : i + step], b[j : j + step]), alone and i == j
            if diagonal:
                values.fill_diagonal_(0)
            else:
                columns[j : j + step] += values.sum(0)
            rows[i : i + step] += values.sum(1)
            squares += values.square_().sum() * (2 if alone and not diagonal else 1)
    return rows, columns, squares
