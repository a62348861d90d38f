"""How the next token is chosen: filters on the logits, generation with them, and how diverse the results are.

Logits lie along the last axis of a tensor, the vocabulary; leading axes are a batch. A filter sets what it rules out to
-inf and leaves the other logits as they are: softmax then gives the distribution to draw from. Logits of -inf, ruled out
before, are welcome.

Errors: NaN or inf among the logits, or a row that is ruled out altogether, are a ValueError.
"""

import math
from collections import Counter
from functools import partial

import torch

from studyguide.language.generation import beam_search, step_by_step
from studyguide.probability.distributions import sample_categorical
from studyguide.probability.validation import (
    check_finite,
    common_dtype,
    generator,
    open_fraction,
    positive_integer,
    vectors,
)


def apply_temperature(logits, temperature):
    """The logits divided by a temperature: each probability to the power ``1 / temperature``, renormalised.

    Shapes: logits (..., vocabulary), result the same. Errors: see the module; a temperature that is not positive and finite,
    or so small that the division overflows.
    Convention: temperature 0 stands for greedy decoding elsewhere; here it is an error.
    Source: Ackley, Hinton and Sejnowski (1985), "A learning algorithm for Boltzmann machines".

    >>> apply_temperature([2.0, 1.0], 0.5)
    tensor([4., 2.], dtype=torch.float64)
    """
    logits = _scores(logits)
    if temperature == 0:
        raise ValueError("temperature is 0; expected a positive number. Greedy decoding is generate(...) without rng")
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature is {temperature}; expected a positive finite number")
    scaled = logits / temperature
    if not scaled.amax(-1).isfinite().all():
        raise ValueError(
            f"temperature is {temperature}, so small that a logit divided by it overflows; use greedy decoding"
        )
    return scaled


def top_k_filter(logits, k):
    """Keep the `k` largest logits.

    Shapes: logits (..., vocabulary), result the same. Errors: see the module; k below 1.
    Convention: whatever ties with the k-th is kept too; a k beyond the vocabulary keeps all.
    Source: Fan, Lewis and Dauphin (2018), "Hierarchical neural story generation".

    >>> top_k_filter([3.0, 1.0, 2.0, 2.0], 2)
    tensor([3., -inf, 2., 2.], dtype=torch.float64)
    """
    logits = _scores(logits)
    k = min(positive_integer("k", k), logits.shape[-1])
    return _keep(logits, logits >= logits.topk(k).values[..., -1:])


def top_p_filter(logits, p):
    """Keep the nucleus: the smallest set of most probable tokens whose probability reaches `p`.

    Shapes: logits (..., vocabulary), result the same. Errors: see the module; p outside [0, 1].
    Convention: a set that reaches p exactly is enough, as in transformers (the paper's definition, too); on that boundary
    rounding decides. At least one token is kept; p = 1 keeps all. Of tied tokens only as many are kept as are needed.
    Source: Holtzman et al. (2020), "The curious case of neural text degeneration", section 3.1.

    >>> top_p_filter(torch.tensor([0.2, 0.5, 0.3]).log(), 0.75).exp()
    tensor([0.0000, 0.5000, 0.3000])
    """
    logits = _scores(logits)
    p = _share("p", p)
    ascending, order = logits.sort(-1)
    needless = _softmax(ascending).cumsum(-1) <= 1 - p  # the tail, which the rest does without
    needless[..., -1] = False
    return _keep(logits, ~needless.scatter(-1, order, needless))


def min_p_filter(logits, p):
    """Keep the tokens that are at least `p` times as probable as the most probable one.

    Shapes: logits (..., vocabulary), result the same. Errors: see the module; p outside [0, 1].
    Convention: a token on the threshold is kept, but for rounding, and so is the most probable one.
    Source: Nguyen et al. (2025), "Turning up the heat: min-p sampling for creative and coherent LLM outputs".

    >>> min_p_filter(torch.tensor([0.6, 0.3, 0.1]).log(), 0.4).exp()
    tensor([0.6000, 0.3000, 0.0000])
    """
    logits = _scores(logits)
    p = _share("p", p)
    probabilities = _softmax(logits)
    return _keep(logits, probabilities >= p * probabilities.amax(-1, keepdim=True))


def typical_filter(logits, p):
    """Keep the tokens whose surprisal is nearest to the entropy, until their probability reaches `p`.

    Shapes: logits (..., vocabulary), result the same. Errors: see the module; p not strictly between 0 and 1.
    Convention: tokens as far from the entropy as the last one needed are kept too. The most probable token may go.
    Source: Meister et al. (2023), "Locally typical sampling".

    >>> typical_filter(torch.tensor([0.5, 0.3, 0.2]).log(), 0.25).exp()
    tensor([0.0000, 0.3000, 0.0000])
    """
    logits = _scores(logits)
    p = open_fraction("p", p)
    log_p = logits.to(common_dtype(logits)[1]).log_softmax(-1)
    entropy = torch.special.entr(log_p.exp()).sum(-1, keepdim=True)
    distance, order = (-log_p - entropy).abs().sort(-1)
    short = (log_p.exp().gather(-1, order).cumsum(-1) < p).sum(-1, keepdim=True)  # so many do not reach p yet
    beyond = distance > distance.gather(-1, short.clamp(max=logits.shape[-1] - 1))
    return _keep(logits, ~beyond.scatter(-1, order, beyond))


def repetition_penalty(logits, input_ids, penalty):
    """Make the tokens that were there before less probable: positive logits divided by `penalty`, negative ones times it.

    Shapes: logits (..., vocabulary), input_ids (..., length) with the same leading axes, result like logits.
    Errors: see the module; ids outside the vocabulary, a penalty that is not positive and finite.
    Convention: a token counts once, however often it was there. A penalty of 1 changes nothing, one below 1 rewards.
    Source: Keskar et al. (2019), "CTRL", section 4.1; the treatment of negative logits is that of transformers.

    >>> repetition_penalty([2.0, -1.0, 1.0], [0, 1], 2.0)
    tensor([ 1., -2.,  1.], dtype=torch.float64)
    """
    logits = _scores(logits)
    ids = _token_ids("input_ids", input_ids, logits.device, logits.shape[-1])
    if ids.shape[:-1] != logits.shape[:-1]:
        raise ValueError(
            f"shapes are logits {tuple(logits.shape)} and input_ids {tuple(ids.shape)}; expected the same leading axes"
        )
    if not 0 < penalty < math.inf:
        raise ValueError(f"penalty is {penalty}; expected a positive finite number")
    seen = logits.gather(-1, ids)
    return logits.scatter(-1, ids, torch.where(seen < 0, seen * penalty, seen / penalty))


def truncate(logits, *, temperature=1.0, top_k=None, top_p=None, min_p=None, typical_p=None):
    """The logits after a sampler's settings, applied in the order in which transformers applies them.

    Shapes: logits (..., vocabulary), result the same. Errors: those of the filters.
    Convention: the order is temperature, top-k, top-p, min-p, typical; each sees what the one before it has left. A setting
    of None is off; there is no top-k of 50 that nobody asked for.

    >>> truncate(torch.tensor([0.4, 0.3, 0.2, 0.1]).log(), temperature=0.5, top_k=2).softmax(-1)
    tensor([0.6400, 0.3600, 0.0000, 0.0000])
    """
    logits = apply_temperature(logits, temperature)
    settings = (top_k_filter, top_k), (top_p_filter, top_p), (min_p_filter, min_p), (typical_filter, typical_p)
    for keep, value in settings:
        if value is not None:
            logits = keep(logits, value)
    return logits


@torch.no_grad()
def generate(
    model,
    input_ids,
    max_new_tokens,
    *,
    attention_mask=None,
    rng=None,
    num_beams=1,
    length_penalty=1.0,
    penalty=1.0,
    stop=None,
    top=5,
    **settings,
):
    """Continue a batch of prompts: with the likeliest token, with random draws (`rng`), or by beam search (`num_beams`).

    Shapes: input_ids and attention_mask (batch, length), prompts of unequal length padded on the left; the result is a
    `Generation`, on the model's device. `top` alternatives are recorded at each step.
    Greedy, without `rng`: the most probable token; of equal ones the first. Sampled: drawn after `truncate(logits, **settings)`.
    Beam search: the best sequence by log-likelihood / length ** length_penalty, stop token included, as transformers
    finds it with early_stopping=False. `penalty` is that of `repetition_penalty`, in all three; in beam search on log p.
    `stop`: token ids that end a row; None for the model's own, () for none. The stop token is part of the result.
    Errors: settings of a sampler without `rng` (they would do nothing), `rng` together with beams, a prompt that is empty
    or padded on the right, more tokens than the model has positions, a model in training mode.
    Randomness: `rng` is an int seed or a torch.Generator on the model's device; a batch shares it.

    >>> from studyguide.models import load_causal_lm
    >>> model, tokenizer = load_causal_lm("tinyworld-gpt2")
    >>> prompts = tokenizer(["The capital of France is"], return_tensors="pt").input_ids
    >>> tokenizer.decode(generate(model, prompts, 2).tokens[0])
    ' Paris.'
    """
    ids = _token_ids("input_ids", input_ids, model.device, model.config.vocab_size)
    mask = _left_padding(attention_mask, ids)
    steps, top = positive_integer("max_new_tokens", max_new_tokens), positive_integer("top", top)
    _check_room(model, mask, steps)
    if rng is None and settings:
        raise ValueError(f"{', '.join(settings)} given, but no rng: nothing is drawn, so it would do nothing; pass rng")
    if positive_integer("num_beams", num_beams) > 1 and rng is not None:
        raise ValueError(f"rng given with num_beams {num_beams}; expected one of them: beam search draws nothing")
    if not math.isfinite(length_penalty):
        raise ValueError(f"length_penalty is {length_penalty}; expected a finite number")
    source = None if rng is None else generator(rng, ids.device)
    ids = ids.where(mask.bool(), ids[:, -1:])  # nothing reads the padding, and now nothing there can be penalised
    task = (model, ids, mask, steps, *_stop_and_padding(model, stop, ids.device), min(top, model.config.vocab_size))

    def penalised(logits, ids):
        return logits if penalty == 1 else repetition_penalty(logits, ids, penalty)

    def likeliest(logits, ids):
        return penalised(logits, ids).argmax(-1), torch.ones_like(logits[:, 0])

    def drawn(logits, ids):
        p = truncate(penalised(logits, ids), **settings).softmax(-1)
        token = sample_categorical(p, 1, source)
        return token[:, 0], p.gather(-1, token)[:, 0]

    if num_beams > 1:
        return beam_search(*task, num_beams=num_beams, length_penalty=length_penalty, adjust=penalised)
    return step_by_step(*task, choose=likeliest if rng is None else drawn)


def distinct_n(texts, n):
    """The share of distinct n-grams among all n-grams of the texts together: 1 where none comes twice.

    `texts` are strings, split at blanks, or sequences of tokens. Range: above 0, up to 1; it falls as the texts get longer or more.
    Errors: no text has n tokens.
    Convention: divided by the number of n-grams; the paper divides by that of tokens.
    Source: Li et al. (2016), "A diversity-promoting objective function for neural conversation models".

    >>> distinct_n(["the sun", "the sea"], 1)
    0.75
    """
    grams = [gram for words in _words(texts) for gram in _ngrams(words, positive_integer("n", n))]
    if not grams:
        raise ValueError(f"texts contain no {n}-gram; expected a text of {n} tokens or more")
    return len(set(grams)) / len(grams)


def self_bleu(texts, n=4):
    """The mean BLEU of each text against all the others as its references: 1 if all are alike, low where they differ.

    `texts` are two or more strings, split at blanks, or sequences of tokens. Range: 0 to 1.
    Errors: fewer than two texts, an empty text.
    Convention: sentence BLEU of orders 1 to n, of those that the text is long enough for; the reference length nearest to
    the text's, the shorter of two; the k-th order without a match counts 1 / 2^k matches; 0 if no word matches. This is
    sacrebleu's sentence score with tokenize="none", divided by 100.
    Source: Zhu et al. (2018), "Texygen: a benchmarking platform for text generation models".

    >>> self_bleu(["the sun is up", "the sun is up", "a dog"])
    0.6666666666666666
    """
    texts, n = _words(texts), positive_integer("n", n)
    if len(texts) < 2 or not all(texts):
        raise ValueError(f"texts are {len(texts)}, {texts.count([])} of them empty; expected two or more, none empty")
    counts = [Counter(gram for order in range(1, n + 1) for gram in _ngrams(words, order)) for words in texts]
    largest, second = Counter(), Counter()  # the two largest counts of an n-gram in any text
    for count in counts:
        second |= count & largest
        largest |= count
    lengths = Counter(map(len, texts))
    scores = []
    for words, count in zip(texts, counts, strict=True):
        matches = [0] * n
        for gram, times in count.items():
            in_others = second[gram] if times == largest[gram] else largest[gram]
            matches[len(gram) - 1] += min(times, in_others)
        others = lengths - Counter([len(words)])
        scores.append(_bleu(matches, len(words), min(others, key=partial(_apart, len(words)))))
    return math.fsum(scores) / len(scores)


def _bleu(matches, length, reference_length):
    """Sentence BLEU from the matches of each order, with sacrebleu's "exp" smoothing and effective order."""
    if not matches[0]:
        return 0.0
    logs, misses = [], 0
    for order, matched in enumerate(matches[:length]):
        misses += not matched
        logs.append(math.log((matched or 0.5**misses) / (length - order)))
    return math.exp(math.fsum(logs) / len(logs) + min(0, 1 - reference_length / length))


def _apart(length, other):
    """Sorts reference lengths: the nearest first, of two the shorter."""
    return abs(other - length), other


def _ngrams(words, n):
    return zip(*(words[i:] for i in range(n)), strict=False)


def _words(texts):
    """Each text as a list of tokens."""
    if isinstance(texts, str):
        raise TypeError(f"texts is the string {texts!r:.40}; expected a list of texts")
    return [t.split() if isinstance(t, str) else t.tolist() if hasattr(t, "tolist") else list(t) for t in texts]


def _scores(logits):
    """Logits as a floating tensor, none NaN or +inf, at least one of each row finite."""
    [logits] = vectors(logits=logits)
    if not logits.amax(-1).isfinite().all():
        check_finite("logits", logits.masked_fill(logits == -math.inf, 0))
        raise ValueError("logits are all -inf along the last axis; expected at least one finite logit")
    return logits


def _softmax(logits):
    return logits.to(common_dtype(logits)[1]).softmax(-1)


def _keep(logits, kept):
    return logits.masked_fill(~kept, -math.inf)


def _share(name, value):
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is {value}; expected a number from 0 to 1")
    return value


def _token_ids(name, ids, device, vocabulary):
    """Token ids as an int64 tensor on `device`, each below `vocabulary`."""
    ids = torch.as_tensor(ids, device=device)
    if ids.numel() == 0 or ids.ndim == 0:
        raise ValueError(f"{name} has shape {tuple(ids.shape)}; expected at least one token along the last axis")
    if ids.is_floating_point() or ids.dtype == torch.bool:
        raise TypeError(f"{name} has dtype {ids.dtype}; expected integers")
    if ids.amin() < 0 or ids.amax() >= vocabulary:
        raise ValueError(f"{name} go from {ids.amin()} to {ids.amax()}; expected token ids from 0 to {vocabulary - 1}")
    return ids.long()


def _left_padding(mask, ids):
    """The attention mask as int64: 1 for tokens, 0 for padding, which must come first."""
    if ids.ndim != 2:
        raise ValueError(f"input_ids has shape {tuple(ids.shape)}; expected (batch, length)")
    if mask is None:
        return torch.ones_like(ids)
    mask = torch.as_tensor(mask, device=ids.device).long()
    if mask.shape != ids.shape:
        raise ValueError(
            f"attention_mask has shape {tuple(mask.shape)}, input_ids {tuple(ids.shape)}; expected the same"
        )
    if not ((mask[:, -1:] == 1) & (mask.diff(dim=-1, prepend=torch.zeros_like(mask[:, :1])) >= 0)).all():
        raise ValueError(
            "attention_mask must be 0s, then 1s in each row: pad on the left (tokenizer.padding_side = 'left')"
        )
    return mask


def _check_room(model, mask, steps):
    """The model is ready to generate, and has a position for each token that it will read (the last one it will not)."""
    if model.training:
        raise ValueError("model is in training mode; expected model.eval(), which switches dropout off")
    needed, limit = int(mask.sum(-1).max()) + steps - 1, getattr(model.config, "max_position_embeddings", None)
    if limit and needed > limit:
        raise ValueError(f"prompt and max_new_tokens need {needed} positions; expected at most the model's {limit}")


def _stop_and_padding(model, stop, device):
    """The stop tokens as a tensor, the model's own for None, and the token that fills up rows that have stopped."""
    own = model.generation_config
    if stop is None:
        stop = () if own.eos_token_id is None else own.eos_token_id
        stop = torch.as_tensor(stop, dtype=torch.long, device=device).reshape(-1)
    else:
        stop = torch.as_tensor(stop, device=device).reshape(-1)
        stop = _token_ids("stop", stop, device, model.config.vocab_size) if len(stop) else stop.long()
    return stop, own.pad_token_id if own.pad_token_id is not None else int(stop[0]) if len(stop) else 0
