"""Reading and checking arguments, once for this chapter and those after it.

The functions of a chapter name their arguments here, so that an error can say which one is wrong:
``rowwise(formula, p=p, q=q)``.
"""

import math
import operator
from functools import reduce

import numpy as np
import torch

BLOCK = 2**17  # numbers of one argument that a CPU works on at a time: they and their logarithms stay in its cache


def floating(**arguments):
    """The arguments as floating tensors, all on one device; lists and integers become float64.

    >>> floating(p=[1, 0])
    [tensor([1., 0.], dtype=torch.float64)]
    """
    device = next((value.device for value in arguments.values() if isinstance(value, torch.Tensor)), None)
    tensors = []
    for name, value in arguments.items():
        if not isinstance(value, torch.Tensor):
            try:
                value = torch.as_tensor(np.require(value, requirements="CW"), device=device)
            except (TypeError, ValueError) as error:
                raise TypeError(f"{name} cannot be read as an array of numbers: {error}") from error
        if value.dtype == torch.bool or value.is_complex():
            raise TypeError(f"{name} has dtype {value.dtype}; expected real numbers")
        if device is not None and value.device != device:
            raise ValueError(f"{name} is on {value.device}; expected {device}, where the first tensor is")
        if value.numel() == 0:
            raise ValueError(f"{name} is empty (shape {tuple(value.shape)}); expected at least one number")
        tensors.append(value if value.is_floating_point() else value.double())
    return tensors


def vectors(**arguments):
    """Like `floating`, but there must be a last axis; the leading axes, the batch, are broadcast."""
    tensors = floating(**arguments)
    for name, tensor in zip(arguments, tensors, strict=True):
        if tensor.ndim == 0:
            raise ValueError(f"{name} is a single number; expected numbers along a last axis")
    try:
        batch = torch.broadcast_shapes(*(tensor.shape[:-1] for tensor in tensors))
    except RuntimeError:
        raise ValueError(f"{_shapes(arguments, tensors)}; expected leading axes that broadcast") from None
    return [tensor.expand(*batch, -1) for tensor in tensors]


def check_finite(name, tensor):
    """ValueError if a number of the tensor is NaN or infinite."""
    if not tensor.isfinite().all():
        raise ValueError(f"{name} contains {tensor[~tensor.isfinite()][0]:g}; expected finite numbers")


def common_dtype(*tensors):
    """The dtype of a result from these tensors, and the dtype to compute it in: float32 for half precision."""
    dtype = reduce(torch.promote_types, (tensor.dtype for tensor in tensors))
    return dtype, torch.promote_types(dtype, torch.float32)


def normalised(name, p, dtype):
    """`p` in `dtype` with its last axis, which must sum to 1 but for rounding, divided by its sum.

    The sum may miss 1 by what rounding explains: 4 units in the last place of the dtype of `p`, the square root of
    the number of categories in units of the sum, and never less than 1e-6 (numbers may have been float32 once).
    """
    tolerance = max(1e-6, 4 * torch.finfo(p.dtype).eps + math.sqrt(p.shape[-1]) * torch.finfo(dtype).eps)
    p = p.to(dtype)
    total = p.sum(-1, keepdim=True)
    off = (total - 1).abs()
    if not (p.amin() >= 0) & (off.amax() <= tolerance):  # false for NaN too
        check_finite(name, p)
        if p.amin() < 0:
            raise ValueError(f"{name} contains {p.amin():g}; expected probabilities, none below 0")
        raise ValueError(f"{name} sums to {total.flatten()[off.argmax()]:.7g} along the last axis; expected 1")
    return p / total


def rowwise(formula, **arguments):
    """Apply `formula`, which gives one number per row, to distributions that lie along the last axis.

    The leading dimensions of the arguments broadcast. On a CPU the rows go through the formula a few at a time,
    so that what it computes on the way stays in the cache; other devices take all rows at once.

    >>> rowwise(lambda p, q: (p * q).sum(-1), p=[0.5, 0.5], q=[[0.5, 0.5], [1, 0]])
    tensor([0.5000, 0.5000], dtype=torch.float64)
    """
    tensors = vectors(**arguments)
    categories = tensors[0].shape[-1]
    if any(tensor.shape[-1] != categories for tensor in tensors):
        raise ValueError(f"{_shapes(arguments, tensors)}; expected last axes of one length, the categories")
    dtype, work = common_dtype(*tensors)
    step = max(1, BLOCK // categories) if tensors[0].is_cpu else tensors[0].numel()
    blocks = zip(*(tensor.reshape(-1, categories).split(step) for tensor in tensors), strict=True)
    results = [
        formula(*(normalised(name, rows, work) for name, rows in zip(arguments, block, strict=True)))
        for block in blocks
    ]
    return torch.cat(results).reshape(tensors[0].shape[:-1]).to(dtype)


def shares(name, samples):
    """The weights of one of the named samples, equal ones if it has none, divided by their sum."""
    values, weights = samples[name], samples.get(f"{name}_weights")
    if weights is None:
        return torch.full_like(values, 1 / values.shape[-1])
    if weights.shape != values.shape:
        raise ValueError(f"{name}_weights has {weights.shape[-1]} numbers, {name} {values.shape[-1]}; expected as many")
    if weights.amin() < 0 or not (weights.sum(-1) > 0).all():
        raise ValueError(f"{name}_weights are negative or all 0; expected weights of at least 0 with a positive sum")
    return weights / weights.sum(-1, keepdim=True)


def counts(**arguments):
    """Counts per category, all over the same categories, as float64 whole numbers."""
    tensors = vectors(**arguments)
    if any(tensor.shape != tensors[0].shape or tensor.ndim > 1 for tensor in tensors):
        raise ValueError(f"{_shapes(arguments, tensors)}; expected (k,), one count per category")
    for name, tensor in zip(arguments, tensors, strict=True):
        check_finite(name, tensor)
        if (tensor != tensor.round()).any() or tensor.amin() < 0 or tensor.sum() == 0:
            raise ValueError(f"{name} is {tensor.tolist()}; expected whole numbers of at least 0, not all 0")
    return [tensor.double() for tensor in tensors]


def log_base(base):
    """The natural logarithm of `base`, by which nats are divided; 1 for None."""
    if base is None:
        return 1.0
    if not 1 < base < math.inf:
        raise ValueError(f"base is {base}; expected a number above 1, or None for nats")
    return math.log(base)


def positive_integer(name, value):
    """`value` as an int of at least 1."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is {value!r}; expected an integer") from None
    if number < 1:
        raise ValueError(f"{name} is {number}; expected at least 1")
    return number


def open_fraction(name, value):
    """`value` as a float strictly between 0 and 1: a significance level, a confidence, a power."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
        raise TypeError(f"{name} is {value!r}; expected a number between 0 and 1")
    if not 0 < value < 1:
        raise ValueError(f"{name} is {value}; expected a number strictly between 0 and 1")
    return float(value)


def one_of(name, value, options):
    """`value`, which must be one of the named options."""
    if value not in options:
        raise ValueError(f"{name} is {value!r}; expected one of {', '.join(map(repr, options))}")
    return value


def samples(at_least=1, **arguments):
    """Like `vectors`, for measurements: finite numbers, at least so many along the last axis.

    >>> samples(at_least=2, a=[1, 2, 4])
    [tensor([1., 2., 4.], dtype=torch.float64)]
    """
    tensors = vectors(**arguments)
    for name, tensor in zip(arguments, tensors, strict=True):
        check_finite(name, tensor)
        if tensor.shape[-1] < at_least:
            raise ValueError(f"{name} has {tensor.shape[-1]} along the last axis; expected at least {at_least} numbers")
    return tensors


def generator(rng, device=None):
    """A torch Generator from an int seed, or the one given, which must be on `device` if that is named."""
    if isinstance(rng, torch.Generator):
        if device is not None and rng.device.type != device.type:
            raise ValueError(f"rng is a generator on {rng.device}; expected one on {device}")
        return rng
    if isinstance(rng, bool) or not isinstance(rng, (int, np.integer)):
        raise TypeError(f"rng is {rng!r}; expected an int seed or a torch.Generator")
    return torch.Generator(device or "cpu").manual_seed(int(rng))


def numpy_generator(rng):
    """A numpy Generator seeded from `rng`, for what torch cannot draw; a torch Generator advances by one draw."""
    source = generator(rng)
    return np.random.default_rng(torch.randint(2**63 - 1, (), generator=source, device=source.device).item())


def _shapes(names, tensors):
    return "shapes are " + " and ".join(f"{n} {tuple(t.shape)}" for n, t in zip(names, tensors, strict=True))
