"""How surprised a causal language model is by a text: log-likelihoods, perplexity, bits per byte, token accuracy.

A model is given tokens from left to right and predicts each from those before it, so the first token of a sequence is
never scored. A *text* is therefore read behind the tokenizer's start mark (its BOS token, else its EOS token, as GPT-2
was trained); then all its own tokens are scored. Without such a mark its first token is not. No mark is added at the
end. Logarithms are natural (nats).

Logits are made and read a few positions at a time, in float32 or better: those of all positions never exist at once.

Errors: tokens outside the vocabulary, more tokens than the model can read, a mask with gaps, a text with nothing to
score, a model in training mode (whose dropout would make the result random) or one that gives NaN are a ValueError.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from tqdm import tqdm

from studyguide.probability.validation import floating, log_base, positive_integer

LOGITS = {"cpu": 2**22, "cuda": 2**25}  # how many are made at a time: enough rows that reading the head's weights pays
PASS = 2048  # tokens that a CPU reads at a time, padding included: what is made of them stays in its cache
IGNORED = -100  # the label that transformers and torch do not score


def token_log_likelihoods(model, input_ids, attention_mask=None):
    """Log-probability of each token, given the tokens before it.

    Shapes: input_ids and attention_mask (batch, length), result (batch, length - 1): column t is token t + 1's.
    Units and range: nats, from -inf to 0; 0 also where there is nothing to score, which is where the token is padding
    or has only padding before it. Columns are the same tokens whichever side the padding is on.
    Convention: attention_mask is 1 for tokens, 0 for padding, left or right; without it all are tokens. With padding on
    the left, positions are counted from the first token, as they would be without padding.
    The last token is a target only, so a sequence may be one token longer than the model's context.
    Dtype: the model's, float32 for half precision. Errors: see the module.

    >>> from studyguide.models import load_causal_lm
    >>> model, tokenizer = load_causal_lm("tinyworld-gpt2")
    >>> token_log_likelihoods(model, tokenizer("I love pizza.", return_tensors="pt").input_ids).shape
    torch.Size([1, 3])
    """
    ids, real = _tokens(model, input_ids, attention_mask)
    scored = real[:, 1:] & real[:, :-1]
    values = _at_targets(_log_likelihood, model, ids, real, scored)
    return _without_nan(values.new_zeros(scored.shape).masked_scatter(scored, values))


class Perplexity:
    """Perplexity of all targets seen so far, gathered batch by batch; states merge.

    The exponential of the mean negative log-likelihood per token, so a long text counts for more than a short one.

    >>> uniform = Perplexity()
    >>> uniform.update(torch.zeros(1, 3, 8), [[5, 1, 7]])
    >>> uniform.nll, uniform.tokens, uniform.compute()
    (tensor(4.1589, dtype=torch.float64), tensor(2), tensor(8.0000, dtype=torch.float64))
    """

    def __init__(self):
        self.nll = torch.zeros((), dtype=torch.float64)  # nats
        self.tokens = torch.zeros((), dtype=torch.int64)

    @torch.no_grad()
    def update(self, logits, labels, mask=None):
        """Count a batch: logits (batch, length, vocabulary), labels and mask (batch, length).

        Labels are the tokens that the logits were made from; they are shifted here, as transformers does, so that the
        logits at t meet the label at t + 1. (torchmetrics' Perplexity wants them shifted.) A label of -100 is not
        scored, nor is one where the mask, 1 for tokens and 0 for padding, has padding at it or right before it.
        """
        [logits] = floating(logits=logits)
        labels = torch.as_tensor(labels, device=logits.device)
        if logits.ndim != 3 or labels.shape != logits.shape[:2]:
            raise ValueError(
                f"shapes are logits {tuple(logits.shape)} and labels {tuple(labels.shape)}; "
                "expected (batch, length, vocabulary) and (batch, length)"
            )
        scored = labels[:, 1:] != IGNORED
        if mask is not None:
            real = _mask(mask, labels)
            scored &= real[:, 1:] & real[:, :-1]
        _check_range("labels", labels.masked_fill(labels == IGNORED, 0), logits.shape[-1])
        values = _in_chunks(_log_likelihood, logits[:, :-1], lambda rows: rows, labels[:, 1:], scored, logits.shape[-1])
        self.nll = self.nll.to(logits.device) - _without_nan(values).double().sum()
        self.tokens = self.tokens.to(logits.device) + scored.sum()

    def merge(self, other):
        """Add the state of another accumulator."""
        self.nll = self.nll + other.nll.to(self.nll.device)
        self.tokens = self.tokens + other.tokens.to(self.tokens.device)

    def compute(self):
        """The perplexity, 1 or more; an error if no token was scored."""
        if self.tokens == 0:
            raise ValueError("no token was scored; expected an update with at least one target before compute")
        return (self.nll / self.tokens).exp()


@dataclass(frozen=True, eq=False)
class PerplexityResult:
    """What a model makes of a corpus. Perplexities weigh each token, byte or word of the corpus alike."""

    model: str
    nll: torch.Tensor  # nats, over all scored tokens
    tokens: int  # how many were scored
    bytes: int  # of the texts in UTF-8
    words: int  # of the texts, split at white space
    text_nll: torch.Tensor  # (texts,) nats
    text_tokens: torch.Tensor  # (texts,) scored tokens
    start_mark: str | None  # the token put before each text; None if there was none and first tokens were not scored

    @property
    def perplexity(self):
        """Per token: exp(nll / tokens), 1 or more. It depends on the tokenizer."""
        return (self.nll / self.tokens).exp()

    @property
    def text_perplexity(self):
        """(texts,) each text's own perplexity per token. Their mean is not the perplexity of the corpus."""
        return (self.text_nll / self.text_tokens).exp()

    @property
    def bits_per_byte(self):
        """Of the texts, whatever the tokenizer. ValueError if their first tokens were not scored."""
        return bits_per_byte(self._whole(), self.bytes)

    @property
    def word_perplexity(self):
        """Per word, whatever the tokenizer. ValueError if the first tokens were not scored, or there are no words."""
        return word_perplexity(self._whole(), self.words)

    def _whole(self):
        if self.start_mark is None:
            raise ValueError(
                "the first token of each text was not scored, for want of a start mark, so nll is not that of "
                "the whole texts; set tokenizer.bos_token"
            )
        return self.nll


def perplexity(model, tokenizer, texts, batch_size=32, max_length=None, stride=None):
    """Perplexity of a corpus of texts, with what it is made of: a `PerplexityResult`.

    Every token of every text is scored exactly once, whatever the batch size and the stride. The tokenizer's own special
    tokens are not added; the module says how a text begins. Texts of like length share a batch, to spare padding; a CPU,
    which is slower on large batches, takes fewer than `batch_size` long texts at a time.

    `max_length` is the most tokens the model reads at once, by default its context. A longer text is read in
    `rolling_windows`, each of which scores `stride` more tokens. With the default, `max_length`, windows do not overlap;
    a smaller stride costs more passes, gives each token more context, and so, as a rule, a lower perplexity.
    Units and range: see `PerplexityResult`; tensors are float64, on the model's device.
    Errors: see the module; no texts, a text without tokens, max_length beyond the context, stride beyond max_length.
    Source: Jurafsky and Martin, Speech and Language Processing, section 3.3 (perplexity).

    >>> from studyguide.models import load_causal_lm
    >>> result = perplexity(*load_causal_lm("tinyworld-gpt2"), ["I love pizza.", "I love dogs."])
    >>> result.tokens, result.bytes, result.words, 1 < result.perplexity < 10
    (8, 25, 6, tensor(True))
    """
    texts = strings(texts)
    mark, windows = _windows(model, tokenizer, texts, max_length, stride)
    of_text, values = _over_windows(_log_likelihood, model, windows, batch_size)
    text_nll = torch.zeros(len(texts), dtype=torch.float64, device=values.device)
    text_nll.index_add_(0, of_text, -_without_nan(values).double())
    return PerplexityResult(
        model=Path(model.config.name_or_path).name or type(model).__name__,
        nll=text_nll.sum(),
        tokens=len(values),
        bytes=sum(len(text.encode()) for text in texts),
        words=sum(len(text.split()) for text in texts),
        text_nll=text_nll,
        text_tokens=of_text.bincount(minlength=len(texts)),
        start_mark=mark,
    )


def token_accuracy(model, tokenizer, texts, k=1, batch_size=32, max_length=None, stride=None):
    """Share of tokens that are among the `k` the model finds most probable.

    Texts are read as by `perplexity`: every token counts once. `k` may be several numbers, (n,), for a result (n,).
    Range: 0 to 1, float64. Errors: those of `perplexity`; k below 1.
    Convention: of equally probable tokens, the one with the lower number comes first.

    >>> from studyguide.models import load_causal_lm
    >>> token_accuracy(*load_causal_lm("tinyworld-gpt2"), ["The capital of France is Paris."], k=[1, 1712])[1]
    tensor(1., dtype=torch.float64)
    """
    several = torch.as_tensor(k).tolist()
    wanted = [positive_integer("k", one) for one in (several if isinstance(several, list) else [several])]
    _, windows = _windows(model, tokenizer, strings(texts), max_length, stride)
    _, ranks = _over_windows(_rank, model, windows, batch_size)
    shares = torch.stack([(ranks <= one).double().mean() for one in wanted])
    return shares if isinstance(several, list) else shares[0]


def rolling_windows(n_tokens, max_length, context):
    """Windows over a sequence in which every token but the first is scored once: a list of (begin, first, stop).

    For each window the model reads tokens begin ... stop - 2, at most `max_length` of them, and scores tokens
    first ... stop - 1. The first window scores `max_length` tokens; the later ones score ``max_length - context + 1``,
    so that each scored token has `context` tokens or more before it. The last one reaches back as far as it may.
    Range: context is 1 (windows that share no more than one token) to `max_length` (one token per window).
    Source: the rolling windows of the lm-evaluation-harness, which are these.

    >>> rolling_windows(10, max_length=4, context=2)
    [(0, 1, 5), (3, 5, 8), (5, 8, 10)]
    """
    n_tokens, max_length = positive_integer("n_tokens", n_tokens), positive_integer("max_length", max_length)
    context = positive_integer("context", context)
    if context > max_length:
        raise ValueError(f"context is {context}; expected at most max_length, {max_length}")
    windows, first, new = [], 1, max_length
    while first < n_tokens:
        stop = min(n_tokens, first + new)
        windows.append((max(0, stop - 1 - max_length), first, stop))
        first, new = stop, max_length - context + 1
    return windows


def bits_per_byte(nll, n_bytes):
    """Negative log-likelihood of a text in nats, as bits for each of its bytes: ``nll / (n_bytes log 2)``.

    Shapes: any that broadcast. Range: 0 or more; 8 for a model to which all bytes are alike, everywhere.
    Convention: bytes of the text in UTF-8, so that every tokenizer divides by the same number.
    Errors: NaN or a negative nll, n_bytes below 1.
    Source: Gao et al. (2020), "The Pile", section 3.1.

    >>> bits_per_byte(60.0, 172)
    tensor(0.5033, dtype=torch.float64)
    """
    return _per("n_bytes", nll, n_bytes) / log_base(2)


def word_perplexity(nll, n_words):
    """Perplexity per word of a text whose negative log-likelihood is `nll` nats: ``exp(nll / n_words)``.

    Shapes: any that broadcast. Range: 1 or more. Errors: NaN or a negative nll, n_words below 1.
    Convention: what is a word is the caller's choice; `perplexity` splits at white space.

    >>> word_perplexity(60.0, 30)
    tensor(7.3891, dtype=torch.float64)
    """
    return _per("n_words", nll, n_words).exp()


# Reading texts


def strings(texts):
    """The texts as a list, at least one; a TypeError for what is no string, or a string where several are wanted."""
    if isinstance(texts, str):
        raise TypeError(f"texts is the string {texts[:20]!r}; expected several of them, in a list")
    texts = list(texts)
    if not texts:
        raise ValueError("texts is empty; expected at least one text")
    if wrong := [text for text in texts if not isinstance(text, str)]:
        raise TypeError(f"texts contains {wrong[0]!r}; expected strings")
    return texts


def _windows(model, tokenizer, texts, max_length, stride):
    """(start mark or None, [(number of the text, tokens, how many of the last of them are scored), ...])."""
    mark = tokenizer.bos_token if tokenizer.bos_token is not None else tokenizer.eos_token
    start = [] if mark is None else [tokenizer.convert_tokens_to_ids(mark)]
    rows = [start + ids for ids in tokenizer(texts, add_special_tokens=False, verbose=False).input_ids]
    for number, row in enumerate(rows):
        if len(row) < 2:
            raise ValueError(f"texts[{number}] is {texts[number]!r}; expected a text with a token to score")
    context = _context(model)
    longest = max(map(len, rows)) - 1
    max_length = positive_integer("max_length", (context or longest) if max_length is None else max_length)
    if context and max_length > context:
        raise ValueError(f"max_length is {max_length}; expected at most the model's context, {context} tokens")
    stride = positive_integer("stride", max_length if stride is None else stride)
    if stride > max_length:
        raise ValueError(f"stride is {stride}; expected at most max_length, {max_length}, or tokens would be skipped")
    return mark, [
        (number, torch.tensor(row[begin:stop]), stop - first)
        for number, row in enumerate(rows)
        for begin, first, stop in rolling_windows(len(row), max_length, max_length - stride + 1)
    ]


def _over_windows(value, model, windows, batch_size):
    """(number of its text, value) of every scored token, as two flat tensors."""
    batches = list(_batches(windows, positive_integer("batch_size", batch_size), model.device.type == "cpu"))
    of_text, values = [], []
    for batch in tqdm(batches, unit="batch", leave=False, delay=2):
        numbers, rows, new = zip(*batch, strict=True)
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        lengths, new, place = torch.tensor([[len(row)] for row in rows]), torch.tensor(new), torch.arange(ids.shape[1])
        real = place < lengths
        scored = (real & (place >= lengths - new[:, None]))[:, 1:]
        of_text.append(torch.tensor(numbers).repeat_interleave(new))
        ids, real = _tokens(model, ids, real)
        values.append(_at_targets(value, model, ids, real, scored.to(ids.device)))
    return torch.cat(of_text).to(ids.device), torch.cat(values)


def _batches(windows, size, on_cpu):
    """The windows in groups of like length, the longest first: what needs the most memory fails first, if it fails."""
    windows, begin = sorted(windows, key=lambda window: -len(window[1])), 0
    while begin < len(windows):
        end = begin + (max(1, min(size, PASS // len(windows[begin][1]))) if on_cpu else size)
        yield windows[begin:end]
        begin = end


# From tokens to values


def _tokens(model, input_ids, attention_mask):
    """Checked (tokens, True where they are no padding), on the model's device."""
    ids = torch.as_tensor(input_ids, device=model.device)
    if ids.ndim != 2 or ids.shape[1] < 2:
        raise ValueError(f"input_ids has shape {tuple(ids.shape)}; expected (batch, length), two tokens or longer")
    real = torch.ones_like(ids, dtype=torch.bool) if attention_mask is None else _mask(attention_mask, ids)
    _check_range("input_ids", ids, model.config.vocab_size)
    context, longest = _context(model), real.sum(-1).max()
    if context and longest > context + 1:
        raise ValueError(f"input_ids has {longest} tokens in a row; the model reads {context}: see rolling_windows")
    return ids, real


def _mask(mask, tokens):
    """A mask as booleans, in which the True of each row are side by side."""
    mask = torch.as_tensor(mask, device=tokens.device)
    if mask.shape != tokens.shape or ((mask != 0) & (mask != 1)).any():
        raise ValueError(f"mask has shape {tuple(mask.shape)}; expected 0 and 1 in the tokens' {tuple(tokens.shape)}")
    real = mask.bool()
    if ((real[:, 1:] & ~real[:, :-1]).sum(-1) + real[:, 0] > 1).any():
        raise ValueError("mask has padding between tokens; expected padding to the left or right of them")
    return real


def _check_range(name, tokens, vocabulary):
    if tokens.is_floating_point() or tokens.dtype == torch.bool:
        raise TypeError(f"{name} has dtype {tokens.dtype}; expected integers")
    low, high = tokens.aminmax()
    if low < 0 or high >= vocabulary:
        raise ValueError(f"{name} contains {low if low < 0 else high}; expected tokens from 0 to {vocabulary - 1}")


def _context(model):
    return getattr(model.config, "max_position_embeddings", None)


@torch.no_grad()
def _at_targets(value, model, ids, real, scored):
    """value(logits, target) for the targets ids[:, 1:] that are scored, as one flat tensor."""
    if model.training:
        raise ValueError("the model is in training mode, with dropout; expected model.eval()")
    inputs = {"input_ids": ids[:, :-1], "attention_mask": real[:, :-1].long()}
    if not real[:, 0].all():  # padding on the left must not push the tokens to later positions
        inputs["position_ids"] = (real[:, :-1].cumsum(-1) - 1).clamp(min=0)
    states, head = _hidden_states(model, inputs)
    return _in_chunks(value, states, head, ids[:, 1:], scored, model.config.vocab_size)


def _hidden_states(model, inputs):
    """What the model's last layer, its head, is given, and the head, which makes logits of it.

    The head is let do its work for one position only. If the model changes those logits afterwards (as some do, by a
    factor or a cap), the logits of all positions are returned instead, with a head that changes nothing.
    """
    seen = []

    def keep(head, arguments):
        seen.append(arguments[0])
        return arguments[0][:, -1:]

    head = model.get_output_embeddings()
    with head.register_forward_pre_hook(keep):
        last = model(**inputs, use_cache=False).logits
    if torch.equal(last, head(seen[0][:, -1:])):
        return seen[0], head
    return model(**inputs, use_cache=False).logits, lambda logits: logits


def _in_chunks(value, states, head, targets, scored, vocabulary):
    step = max(1, LOGITS["cpu" if states.is_cpu else "cuda"] // vocabulary)
    dtype = torch.promote_types(states.dtype, torch.float32)
    rows, columns = (place.split(step) for place in scored.nonzero(as_tuple=True))
    return torch.cat(
        [value(head(states[place]).to(dtype), targets[place][:, None]) for place in zip(rows, columns, strict=True)]
    )


def _log_likelihood(logits, target):
    return -F.cross_entropy(logits, target[:, 0], reduction="none")


def _rank(logits, target):
    """1 for the target with the largest logit."""
    _without_nan(logits)
    own = logits.gather(-1, target)
    before = torch.arange(logits.shape[-1], device=logits.device) < target
    return 1 + ((logits > own) | ((logits == own) & before)).sum(-1)


def _without_nan(values):
    if values.isnan().any():
        raise ValueError("the logits contain NaN; expected numbers")
    return values


def _per(name, nll, count):
    nll, count = floating(nll=nll, **{name: count})
    if not (nll >= 0).all():
        raise ValueError(f"nll contains {nll[~(nll >= 0)][0]:g}; expected a negative log-likelihood, 0 or more")
    if not (count >= 1).all():
        raise ValueError(f"{name} contains {count[~(count >= 1)][0]:g}; expected 1 or more")
    return (nll.double() / count).to(nll.dtype)
