"""Scaled dot-product attention, and what one token of a text attends to, with baselines beside it."""

import math
import operator
import re
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from studyguide.probability.distributions import softmax
from studyguide.probability.validation import check_finite, common_dtype, floating, generator, positive_integer


def attention_weights(q, k, causal=False, mask=None):
    """How much each query attends to each key: ``softmax(q k^T / sqrt(d))`` over the keys.

    Shapes: queries q (..., n, d), keys k (..., m, d), mask broadcastable to (..., n, m), result (..., n, m).
    Range: [0, 1]; each row sums to 1. Computed in float32 at least, returned in the dtype of the input.
    Errors: NaN or inf, shapes that do not fit, a mask that is not boolean, a query that may see no key.
    Convention: the mask is True where a query may look. With `causal`, query i also sees no key after key i (aligned
    at the first key, as in PyTorch).
    Source: Vaswani et al. (2017), "Attention is all you need", section 3.2.1.

    >>> attention_weights([[2.0, 0.0]], [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    tensor([[0.4458, 0.1084, 0.4458]], dtype=torch.float64)
    """
    q, k = _fitting(q=q, k=k)
    if q.shape[-1] != k.shape[-1]:
        raise ValueError(f"q has {q.shape[-1]} numbers per query, k {k.shape[-1]} per key; expected as many")
    dtype, work = common_dtype(q, k)
    scores = q.to(work) @ k.to(work).mT / math.sqrt(q.shape[-1])
    check_finite("q @ k.T", scores)
    visible = _visible(scores, causal, mask)
    return softmax(scores if visible is None else scores.masked_fill(~visible, -math.inf)).to(dtype)


def scaled_dot_product_attention(q, k, v, causal=False, mask=None):
    """Each query's mean of the values, weighted by `attention_weights`.

    Shapes: queries q (..., n, d), keys k (..., m, d), values v (..., m, e), result (..., n, e); batches broadcast.
    Errors and conventions: those of `attention_weights`; k and v of different lengths.
    Source: Vaswani et al. (2017), "Attention is all you need", equation 1.

    >>> scaled_dot_product_attention([[2.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]], [[10.0], [20.0]])
    tensor([[11.9557]], dtype=torch.float64)
    """
    q, k, v = _fitting(q=q, k=k, v=v)
    if k.shape[-2] != v.shape[-2]:
        raise ValueError(f"k has {k.shape[-2]} rows, v {v.shape[-2]}; expected one value per key")
    dtype, work = common_dtype(q, k, v)
    return (attention_weights(q.to(work), k.to(work), causal, mask) @ v.to(work)).to(dtype)


@dataclass(frozen=True, eq=False)
class Attention:
    """What one token attends to. The tokens are those that it can see: in a causal model, itself and those before."""

    tokens: tuple  # n texts
    position: int  # where among them the token itself is
    weights: torch.Tensor  # (n,) mean over the heads of the last layer
    by_head: torch.Tensor  # (layers, heads, n)
    uniform: float  # 1 / n, the attention to each token if all were alike
    shuffled: torch.Tensor  # (n_shuffles, n) like `weights`, with the other tokens in random orders


def attention_to(model, tokenizer, text, token, n_shuffles=50, *, rng):
    """What `token` attends to in `text`, beside what it would attend to by chance.

    Two baselines: `uniform`, and `shuffled`, where the other visible tokens (not the special ones) swap places at random
    and each keeps its name. What stays high in random orders belongs to a token or to a place, not to the sentence.

    `token` is a word that occurs once in the text, or the position of a token. A word of several tokens is represented by
    its last one, which in a causal model alone has seen all of it. The model must be in evaluation mode; for the
    call, its attention is computed by the "eager" implementation, since the faster ones give no weights.
    Errors: a word that is not there or is there more than once, a position outside the text, a text longer than the
    model's positions, a model that returns no attention. Randomness: `rng` is an int seed or a torch.Generator.
    Source: Clark et al. (2019), "What does BERT look at?", for attention that does not depend on the sentence.

    >>> from studyguide.models import load_causal_lm
    >>> text = "The animal didn't cross the street because it was too tired"
    >>> seen = attention_to(*load_causal_lm("tinyworld-gpt2"), text, "it", rng=0)
    >>> seen.tokens[-2:], seen.position, tuple(seen.by_head.shape)
    ((' because', ' it'), 8, (4, 4, 9))
    """
    positive_integer("n_shuffles", n_shuffles)
    rng = generator(rng)
    if model.training:
        raise ValueError("model is in training mode, where dropout is random; call model.eval() first")
    encoded = tokenizer(text, return_tensors="pt", return_offsets_mapping=True, return_special_tokens_mask=True)
    ids = encoded.input_ids.to(model.device)
    length, limit = ids.shape[1], getattr(model.config, "max_position_embeddings", math.inf)
    if length > limit:
        raise ValueError(f"text has {length} tokens; expected at most {limit}, the positions of the model")
    position = _position(text, token, encoded.offset_mapping[0].tolist())
    with _eager(model):
        every = _attentions(model, ids)
        n = length if every.triu(1).any() else position + 1  # nobody looks ahead: causal
        ids = ids[:, :n]
        fixed = encoded.special_tokens_mask[0, :n].bool()
        fixed[position] = True
        places = (~fixed).nonzero().flatten()
        shuffled = []
        for _ in range(n_shuffles):
            order = places[torch.randperm(len(places), generator=rng, device=rng.device).cpu()]
            mixed = ids.clone()
            mixed[:, places] = ids[:, order]
            weights = _attentions(model, mixed)[-1, :, position].mean(0)
            named = weights.clone()
            named[order] = weights[places]
            shuffled.append(named)
    by_head = every[:, :, position, :n]
    tokens = tuple(tokenizer.decode([number]) for number in ids[0].tolist())
    return Attention(tokens, position, by_head[-1].mean(0), by_head, 1 / n, torch.stack(shuffled))


def _fitting(**arguments):
    tensors = floating(**arguments)
    for name, tensor in zip(arguments, tensors, strict=True):
        if tensor.ndim < 2:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}; expected (..., rows, numbers per row)")
        check_finite(name, tensor)
    try:
        torch.broadcast_shapes(*(tensor.shape[:-2] for tensor in tensors))
    except RuntimeError:
        shapes = " and ".join(f"{name} {tuple(t.shape)}" for name, t in zip(arguments, tensors, strict=True))
        raise ValueError(f"shapes are {shapes}; expected leading axes that broadcast") from None
    return tensors


def _visible(scores, causal, mask):
    """Where a query may look, in the shape of the scores; None for everywhere."""
    if mask is None and not causal:
        return None
    visible = torch.ones_like(scores, dtype=torch.bool)
    if causal:
        visible = visible.tril()
    if mask is not None:
        mask = torch.as_tensor(mask, device=scores.device)
        if mask.dtype != torch.bool:
            raise TypeError(f"mask has dtype {mask.dtype}; expected booleans, True where a query may look")
        try:
            visible = visible & mask.expand_as(scores)
        except RuntimeError:
            raise ValueError(f"mask has shape {tuple(mask.shape)}; expected {tuple(scores.shape)}") from None
    if not visible.any(-1).all():
        raise ValueError("mask hides every key from a query; expected at least one key that it may see")
    return visible


def _position(text, token, spans):
    """The place of a token that is given by number, or of the last token of a word that occurs once."""
    if not isinstance(token, str):
        try:
            position = operator.index(token)
        except TypeError:
            raise TypeError(f"token is {token!r}; expected a word of the text or a position") from None
        if not 0 <= position < len(spans):
            raise ValueError(f"token is {position}; expected a position from 0 to {len(spans) - 1}")
        return position
    found = [match.end() for match in re.finditer(rf"(?<!\w){re.escape(token)}(?!\w)", text)] if token else []
    if len(found) != 1:
        raise ValueError(f"token {token!r} occurs {len(found)} times as a word of the text; expected 1 (or a position)")
    return max(place for place, (start, end) in enumerate(spans) if start < found[0] <= end)


@contextmanager
def _eager(model):
    """Let the model compute attention by the implementation that returns its weights, for a while."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


@torch.no_grad()
def _attentions(model, ids):
    """Attention of all layers and heads for one row of ids: (layers, heads, n, n)."""
    attentions = getattr(model(ids, output_attentions=True), "attentions", None)
    if not attentions:
        raise ValueError(
            f'model {type(model).__name__} returned no attention; load it with attn_implementation="eager"'
        )
    return torch.cat(attentions)
