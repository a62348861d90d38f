"""How near two texts are in meaning, by the vectors that an encoder gives to their sentences or to their tokens.

An `encoder` is a sentence-transformers model, such as `studyguide.models.load_sentence_encoder` gives, or whatever has
its `encode`, `tokenizer` and `max_seq_length`. All texts go to it in one call, each distinct text once. `references`
hold one text per candidate, or a list of several, of which the nearest counts.

Errors: no pairs, lists of unequal length, a text longer than the encoder reads (it would drop the rest silently), a
vector of zeros (it has no direction), NaN and infinity are a ValueError; what is no list of texts is a TypeError.
Convention: a text of white space alone scores 0 against every text.
"""

import math
from collections import Counter
from dataclasses import dataclass

import torch
from torch.nn.utils.rnn import pad_sequence

from studyguide.probability.validation import check_finite, common_dtype, floating, samples, vectors
from studyguide.statistics.bootstrap import bootstrap_interval
from studyguide.statistics.intervals import Interval, moments

BLOCK = 64  # texts that are encoded, and pairs that are matched, at a time


def cosine_similarity(a, b):
    """The cosine of the angle between two vectors: 1 for the same direction, 0 for a right angle, -1 for the opposite.

    Shapes: a and b (..., d), leading axes broadcast, result (...). Range: -1 to 1; what rounding puts beyond is clipped.
    Errors: see the module; vectors of unequal length.
    Convention: negative values stay negative. Vectors of any length do: each is divided by its own.
    Source: Salton, Wong and Yang (1975), "A vector space model for automatic indexing".

    >>> cosine_similarity([[3.0, 4.0], [1.0, 0.0]], [4.0, 3.0])
    tensor([0.9600, 0.8000], dtype=torch.float64)
    """
    a, b = vectors(a=a, b=b)
    a, b, dtype = directions(a=a, b=b)
    return (a * b).sum(-1).clamp(-1, 1).to(dtype)


def cosine_matrix(a, b):
    """The cosine of each vector of `a` with each of `b`.

    Shapes: a (..., n, d) and b (..., m, d), leading axes broadcast, result (..., n, m). Otherwise like `cosine_similarity`.

    >>> cosine_matrix([[1.0, 0.0], [0.0, 2.0]], [[3.0, 4.0]])
    tensor([[0.6000],
            [0.8000]], dtype=torch.float64)
    """
    a, b = floating(a=a, b=b)
    if a.ndim < 2 or b.ndim < 2:
        raise ValueError(f"shapes are a {tuple(a.shape)} and b {tuple(b.shape)}; expected (..., vectors, d)")
    a, b, dtype = directions(a=a, b=b)
    return (a @ b.mT).clamp(-1, 1).to(dtype)


def semantic_similarity(encoder, candidates, references):
    """The cosine of each candidate's sentence embedding with that of its nearest reference.

    Shapes: n candidates, result (n,), of the encoder's dtype and on its device. Range: -1 to 1. Errors: see the module.
    Source: Reimers and Gurevych (2019), "Sentence-BERT".

    >>> from studyguide.models import load_sentence_encoder
    >>> encoder = load_sentence_encoder("all-MiniLM-L6-v2")
    >>> semantic_similarity(encoder, ["A feline rested."], [["Snow fell.", "A cat slept."]])
    tensor([0.6019])
    """
    texts, left, right, counts = _pairs(encoder, candidates, references)
    embeddings = encoder.encode(texts, batch_size=BLOCK, convert_to_tensor=True)
    written = torch.tensor([bool(text.strip()) for text in texts], device=embeddings.device)
    scores = cosine_similarity(embeddings[left], embeddings[right]).where(written[left] & written[right], 0)
    return scores[_best(scores, counts)]


@dataclass(frozen=True, eq=False)
class BertScore:
    """How well the tokens of a candidate and those of a reference find each other; each field is (...), one per pair."""

    precision: torch.Tensor  # mean cosine of the candidate's tokens with the nearest of the reference
    recall: torch.Tensor  # mean cosine of the reference's tokens with the nearest of the candidate
    f1: torch.Tensor  # their harmonic mean


def greedy_match(
    candidate, reference, candidate_mask=None, reference_mask=None, candidate_weights=None, reference_weights=None
):
    """BERTScore from token embeddings: each token takes the nearest of the other text, whoever else takes it too.

    Shapes: candidate (..., n, d) and reference (..., m, d), masks and weights (..., n) and (..., m), all with the same
    leading axes; the fields of the BertScore are (...). Range: -1 to 1.
    Masks are 1 for tokens and 0 for padding, which nothing matches. Weights, none negative, make the means weighted; a
    token of weight 0 can still be matched.
    Errors: see the module; shapes that do not fit, a weight below 0.
    Convention: a text without a token of positive weight scores 0. F1 is 0 where precision and recall differ in sign.
    Like bert-score's `greedy_cos_idf`, but there padding has a cosine of 0 with everything, which beats a negative one:
    a score can depend on what else is in the batch. Here it cannot.
    Source: Zhang et al. (2020), "BERTScore: evaluating text generation with BERT", section 3.

    >>> score = greedy_match([[1.0, 0.0], [0.0, 1.0]], [[4.0, 3.0]])
    >>> score.precision, score.recall
    (tensor(0.7000, dtype=torch.float64), tensor(0.8000, dtype=torch.float64))
    """
    candidate, reference = floating(candidate=candidate, reference=reference)
    if min(candidate.ndim, reference.ndim) < 2 or candidate.shape[:-2] != reference.shape[:-2]:
        shapes = f"candidate {tuple(candidate.shape)} and reference {tuple(reference.shape)}"
        raise ValueError(f"shapes are {shapes}; expected (..., tokens, d) with the same leading axes")
    candidate, kept_c, weights_c = _tokens("candidate", candidate, candidate_mask, candidate_weights)
    reference, kept_r, weights_r = _tokens("reference", reference, reference_mask, reference_weights)
    candidate, reference, dtype = directions(candidate=candidate, reference=reference)
    cosines = (candidate @ reference.mT).clamp(-1, 1)
    nearest_c = cosines.masked_fill(~kept_r.unsqueeze(-2), -math.inf).amax(-1)
    nearest_r = cosines.masked_fill(~kept_c.unsqueeze(-1), -math.inf).amax(-2)
    total_c, total_r = weights_c.sum(-1), weights_r.sum(-1)
    both = (total_c > 0) & (total_r > 0)
    p = torch.where(both, (nearest_c * weights_c).sum(-1) / total_c, 0)
    r = torch.where(both, (nearest_r * weights_r).sum(-1) / total_r, 0)
    f1 = torch.where(p * r > 0, 2 * p * r / (p + r), 0)
    return BertScore(p.to(dtype), r.to(dtype), f1.to(dtype))


def bertscore(encoder, candidates, references, idf=False):
    """BERTScore of each candidate against the reference with which its F1 is highest, by the encoder's last layer.

    Shapes: n candidates, fields (n,), of the encoder's dtype and on its device. Range: -1 to 1.
    Errors: see the module; `idf` where it leaves no token of the references any weight, as with a single reference.
    Convention: marks that the tokenizer puts around a text can be matched but weigh nothing. With `idf` a token weighs
    log((N + 1) / (df + 1)), where df of the N references hold it. No baseline is subtracted. bert-score, the library,
    reads a layer chosen for each model, and of several references takes the best precision, recall and F1 one by one.
    Source: Zhang et al. (2020), "BERTScore: evaluating text generation with BERT".

    >>> from studyguide.models import load_sentence_encoder
    >>> encoder = load_sentence_encoder("all-MiniLM-L6-v2")
    >>> bertscore(encoder, ["A feline rested."], [["Snow fell.", "A cat slept."]]).f1
    tensor([0.5692])
    """
    texts, left, right, counts = _pairs(encoder, candidates, references)
    read = encoder.encode(texts, batch_size=BLOCK, output_value=None)
    masks = [text["attention_mask"].bool() for text in read]
    tokens = [text["token_embeddings"][mask] for text, mask in zip(read, masks, strict=True)]
    ids = [text["input_ids"][mask].tolist() for text, mask in zip(read, masks, strict=True)]
    weights = _weights(ids, _marks(encoder.tokenizer), right if idf else None)
    if idf and not any(max(weights[place], default=0) > 0 for place in right):
        raise ValueError(
            f"idf gives no token of the {len(right)} references any weight; expected references that differ"
        )
    scores = []
    for start in range(0, len(left), BLOCK):
        pair = left[start : start + BLOCK], right[start : start + BLOCK]
        (a, mask_a), (b, mask_b) = (_padded([tokens[place] for place in side]) for side in pair)
        weights_a, weights_b = (_padded([a.new_tensor(weights[place]) for place in side])[0] for side in pair)
        match = greedy_match(a, b, mask_a, mask_b, weights_a, weights_b)
        scores.append(torch.stack([match.precision, match.recall, match.f1]))
    scores = torch.cat(scores, -1)
    return BertScore(*scores[:, _best(scores[2], counts)])


@dataclass(frozen=True, eq=False)
class Summary:
    """What a set of scores comes to; each field but `n` is (...), one number per row."""

    n: int
    mean: Interval
    median: Interval
    std: torch.Tensor  # of the scores, with n - 1; not the error of the mean
    minimum: torch.Tensor
    maximum: torch.Tensor


def summarise(scores, confidence=0.95, n_resamples=9999, *, rng):
    """Mean and median of scores with bootstrap intervals, and their spread.

    Shapes: scores (..., n) with n of 2 or more, fields (...). Randomness and errors: those of `bootstrap_interval`.
    Convention: percentile intervals, items drawn one by one; scores of one text under several systems are not
    independent, and their interval comes out too short.

    >>> print(summarise([0.9, 0.4, 0.7, 0.6, 0.8], rng=0).mean)
    0.68 (95 % interval 0.52 to 0.82)
    """
    [scores] = samples(at_least=2, scores=scores)
    draws = {"confidence": confidence, "n_resamples": n_resamples, "rng": rng}
    mean = bootstrap_interval(scores, **draws)
    median = bootstrap_interval(scores, lambda x: x.quantile(0.5, dim=-1), **draws)
    std = moments(scores)[1].sqrt().to(scores.dtype)
    return Summary(scores.shape[-1], mean, median, std, scores.amin(-1), scores.amax(-1))


def directions(**sides):
    """Two sets of vectors, each vector at length 1, in the dtype to compute in; and the dtype of a result."""
    (one, a), (other, b) = sides.items()
    if a.shape[-1] != b.shape[-1]:
        raise ValueError(f"{one} has vectors of {a.shape[-1]} numbers, {other} of {b.shape[-1]}; expected as many")
    dtype, work = common_dtype(a, b)
    return *(_unit(name, side.to(work)) for name, side in sides.items()), dtype


def _unit(name, side):
    """Each vector divided by its length."""
    length = side.norm(dim=-1, keepdim=True)
    safe = torch.finfo(side.dtype).tiny ** 0.5 / torch.finfo(side.dtype).eps  # below it, squares may have vanished
    if not ((length > safe) & (length < math.inf)).all():
        check_finite(name, side)
        largest = side.abs().amax(-1, keepdim=True)
        if not largest.all():
            raise ValueError(f"{name} contains a vector of zeros, which has no direction; expected none")
        side = side / largest
        length = side.norm(dim=-1, keepdim=True)
    return side / length


def _tokens(name, embeddings, mask, weights):
    """Embeddings with a neutral vector for padding; which are tokens; their weights, 0 for padding."""
    shape, device = embeddings.shape[:-1], embeddings.device
    kept = torch.ones(shape, dtype=torch.bool, device=device) if mask is None else torch.as_tensor(mask, device=device)
    weights = kept if weights is None else torch.as_tensor(weights, device=device)
    if kept.shape != shape or weights.shape != shape:
        found = f"{name}_mask {tuple(kept.shape)} and {name}_weights {tuple(weights.shape)}"
        raise ValueError(f"shapes are {found}; expected {tuple(shape)}, one number per token of {name}")
    kept = kept.bool()
    weights = weights.to(common_dtype(embeddings)[1]).where(kept, 0)
    check_finite(f"{name}_weights", weights)
    if weights.amin() < 0:
        raise ValueError(f"{name}_weights go down to {weights.amin():g}; expected none below 0")
    return embeddings if kept.all() else embeddings.where(kept.unsqueeze(-1), 1), kept, weights


def _pairs(encoder, candidates, references):
    """The distinct texts; for each pair the places of its two texts among them; how many pairs each candidate has."""
    for name, texts in (("candidates", candidates), ("references", references)):
        if isinstance(texts, str):
            raise TypeError(f"{name} is the string {texts!r:.40}; expected a list")
    candidates, references = list(candidates), [[r] if isinstance(r, str) else r for r in references]
    if len(candidates) != len(references) or not candidates:
        raise ValueError(
            f"{len(candidates)} candidates and {len(references)} references; expected as many, at least one"
        )
    for row, (candidate, several) in enumerate(zip(candidates, references, strict=True)):
        if not isinstance(candidate, str):
            raise TypeError(f"candidates[{row}] is {candidate!r:.40}; expected a string")
        if not isinstance(several, (list, tuple)) or not all(isinstance(text, str) for text in several):
            raise TypeError(f"references[{row}] is {several!r:.40}; expected a string or a list of strings")
        if not several:
            raise ValueError(f"references[{row}] is empty; expected at least one reference")
    counts = [len(several) for several in references]
    left = [text for text, times in zip(candidates, counts, strict=True) for _ in range(times)]
    right = [text for several in references for text in several]
    place = {text: row for row, text in enumerate(dict.fromkeys(left + right))}
    check_lengths(encoder, list(place))
    return list(place), [place[text] for text in left], [place[text] for text in right], counts


def check_lengths(encoder, texts):
    """ValueError if a text has more tokens than the encoder reads."""
    limit = encoder.max_seq_length or math.inf
    for text, ids in zip(texts, encoder.tokenizer(texts, truncation=False, verbose=False)["input_ids"], strict=True):
        if len(ids) > limit:
            raise ValueError(f"the text {text!r:.40} has {len(ids)} tokens; expected at most the encoder's {limit}")


def _best(scores, counts):
    """The place of each candidate's highest score, of equals the first, among the scores of its pairs."""
    table = pad_sequence(scores.split(counts), batch_first=True, padding_value=-math.inf)
    first = torch.tensor([0, *counts[:-1]], device=scores.device).cumsum(0)
    return first + table.argmax(-1)


def _marks(tokenizer):
    """The ids of what a tokenizer puts around a text."""
    return {getattr(tokenizer, f"{name}_token_id", None) for name in ("bos", "cls", "eos", "sep")}


def _weights(ids, marks, documents):
    """The weight of each token of each text: its idf, `documents` being places among the texts; 1 without them."""
    idf, unseen = {}, 1.0
    if documents is not None:
        held_by = Counter(token for place in documents for token in set(ids[place]))
        idf = {token: math.log((len(documents) + 1) / (df + 1)) for token, df in held_by.items()}
        unseen = math.log(len(documents) + 1)
    return [[0.0 if token in marks else idf.get(token, unseen) for token in text] for text in ids]


def _padded(rows):
    """Tensors of different lengths as one, and which places are theirs."""
    lengths = torch.tensor([len(row) for row in rows], device=rows[0].device)
    padded = pad_sequence(rows, batch_first=True)
    return padded, torch.arange(padded.shape[1], device=padded.device) < lengths[:, None]
