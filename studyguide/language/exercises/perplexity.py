"""Exercises of notebook 3.3, perplexity."""

import math
from functools import lru_cache

import numpy as np
import torch

from studyguide.course.exercises import Exercise, Wrong
from studyguide.language.perplexity import perplexity, rolling_windows


def _t(*values):
    return torch.tensor(values, dtype=torch.float64)


def my_target_logits(logits, tokens):
    """The logit that was given to each token that has one, by the tokens before it.

    logits (length, vocabulary) come from tokens (length,): row t predicts the token after token t.
    Returns a tensor (length - 1,).
    """
    return logits[:-1].gather(-1, tokens[1:, None])[:, 0]


SHIFT = Exercise(
    id="shift-the-labels",
    title="Which logits predict which token",
    prompt=(
        "A causal model returns one row of logits for each token it has read. Row `t` predicts the token *after* token `t`. "
        "Write `my_target_logits(logits, tokens)`: for each token but the first, the logit that it was given before it came."
    ),
    difficulty=2,
    minutes=8,
    hints=(
        "The last row predicts a token that is not there; the first token has no row. What is left on each side?",
        "`logits[:-1]` meets `tokens[1:]`. `rows.gather(-1, targets[:, None])` picks one number from each row.",
    ),
    solution=my_target_logits,
    peer=lambda logits, tokens: [logits[t, tokens[t + 1]].item() for t in range(len(tokens) - 1)],
    cases=(
        (torch.arange(12.0, dtype=torch.float64).reshape(3, 4) ** 2, torch.tensor([2, 0, 3])),
        (_t(0.5, -1.0, 2.0).repeat(2, 1) * _t(1.0, 3.0)[:, None], torch.tensor([1, 2])),
    ),
    wrong=(
        Wrong(
            lambda logits, tokens: logits.gather(-1, tokens[:, None])[:, 0],
            "you did not shift: row t is compared with token t, which the model had already read. Drop the last row and the first token.",
        ),
        Wrong(
            lambda logits, tokens: logits[1:].gather(-1, tokens[:-1, None])[:, 0],
            "you shifted the wrong way: your rows predict the past. Drop the *last* row and the *first* token.",
        ),
        Wrong(
            lambda logits, tokens: logits[1:].gather(-1, tokens[1:, None])[:, 0],
            "you dropped the first row together with the first token, so nothing is shifted. Drop the last row.",
        ),
        Wrong(
            lambda logits, tokens: logits[:-1].amax(-1),
            "that is the largest logit of each row, whichever token came. Look up the token that did come.",
        ),
        Wrong(
            lambda logits, tokens: logits[:-1].log_softmax(-1).gather(-1, tokens[1:, None])[:, 0],
            "these are log-probabilities. The exercise stops one step earlier, at the logits.",
        ),
    ),
)


def my_perplexity(log_p, mask):
    """Perplexity of a batch: log_p (batch, length) in nats, mask 1 for tokens to be scored and 0 for padding.

    Returns one number.
    """
    return torch.exp(-(log_p * mask).sum() / mask.sum())


PERPLEXITY = Exercise(
    id="perplexity-of-a-batch",
    title="Perplexity with a mask",
    prompt=(
        "Write `my_perplexity(log_p, mask)`: the perplexity of a padded batch from its token log-probabilities (nats). "
        "Every scored token of the batch counts alike; padding, where the mask is 0, does not count."
    ),
    difficulty=2,
    minutes=10,
    hints=(
        "Total negative log-likelihood, divided by how many tokens were scored. Then undo the logarithm.",
        "`(log_p * mask).sum() / mask.sum()` is the mean over the tokens of the whole batch. Mind the sign.",
    ),
    solution=my_perplexity,
    peer=lambda log_p, mask: np.exp(-np.average(log_p.numpy(), weights=mask.numpy())),
    cases=(
        (_t(0.5, 0.25, 0.125, 0.25).log()[None], torch.ones(1, 4)),
        (torch.stack([_t(0.5, 0.25, 0.125), _t(0.01, 0.9, 0.9)]).log(), torch.tensor([[1, 1, 1], [1, 0, 0]])),
        (torch.stack([_t(0.2, 0.3, 0.4), _t(0.6, 0.7, 0.1)]).log(), torch.tensor([[0, 1, 1], [1, 1, 1]])),
    ),
    wrong=(
        Wrong(
            lambda log_p, mask: torch.exp(-(log_p * mask).mean()),
            "you divided by all places, padding included, which makes the model look better. Divide by the sum of the mask.",
        ),
        Wrong(
            lambda log_p, mask: torch.exp(-log_p.mean()),
            "you scored the padding. Multiply by the mask, and divide by its sum.",
        ),
        Wrong(
            lambda log_p, mask: torch.exp(-(log_p * mask).sum(-1) / mask.sum(-1)).mean(),
            "that is the mean of each text's perplexity. A text of one token then counts as much as a long one: pool the tokens first.",
        ),
        Wrong(
            lambda log_p, mask: torch.exp(-((log_p * mask).sum(-1) / mask.sum(-1)).mean()),
            "you averaged per text before the exponential. Weigh every token alike: one sum over the batch, one count.",
        ),
        Wrong(
            lambda log_p, mask: -(log_p * mask).sum() / mask.sum(),
            "that is the mean negative log-likelihood, in nats. Perplexity is its exponential.",
        ),
        Wrong(
            lambda log_p, mask: torch.exp((log_p * mask).sum() / mask.sum()),
            "the sign is missing: this is the (geometric) mean probability, below 1. Perplexity is its inverse.",
        ),
        Wrong(
            lambda log_p, mask: 2 ** (-(log_p * mask).sum() / mask.sum()),
            "the log-probabilities are in nats, so undo them with exp. The base 2 belongs to bits.",
        ),
    ),
)


def my_bits_per_byte(nll_per_token, n_tokens, text):
    """Bits per byte of a text that a model scored with a mean of nll_per_token nats over n_tokens tokens.

    Returns one number.
    """
    return nll_per_token * n_tokens / math.log(2) / len(text.encode())


BITS = Exercise(
    id="bits-per-byte",
    title="From a loss to bits per byte",
    prompt=(
        "A training log prints the mean loss per token (nats) and the number of tokens. Write "
        "`my_bits_per_byte(nll_per_token, n_tokens, text)`: the same result in bits per byte of the text (UTF-8), "
        "which a model with another tokenizer can be compared with."
    ),
    difficulty=2,
    minutes=8,
    hints=(
        "First the nats of the whole text: the mean, times how many tokens there were.",
        "One bit is log 2 nats. `len(text.encode())` counts bytes; `len(text)` counts characters.",
    ),
    solution=my_bits_per_byte,
    peer=lambda nll_per_token, n_tokens, text: (
        nll_per_token * math.log2(math.e) * n_tokens / memoryview(text.encode()).nbytes
    ),
    cases=((60 / 33, 33, "x" * 172), (60 / 54, 54, "x" * 172), (2.5, 4, "你好世界"), (0.0, 3, "abc")),
    wrong=(
        Wrong(
            lambda nll_per_token, n_tokens, text: nll_per_token * n_tokens / len(text.encode()),
            "these are nats per byte. One bit is log 2 = 0.6931 nats: divide by it.",
        ),
        Wrong(
            lambda nll_per_token, n_tokens, text: nll_per_token * n_tokens / math.log(2) / len(text),
            "you counted characters. 你 is one character and three bytes: use `len(text.encode())`.",
        ),
        Wrong(
            lambda nll_per_token, n_tokens, text: nll_per_token / math.log(2),
            "these are bits per *token*, which depend on the tokenizer. Multiply by the tokens, divide by the bytes.",
        ),
        Wrong(
            lambda nll_per_token, n_tokens, text: nll_per_token / math.log(2) / len(text.encode()),
            "the loss is a mean per token. Multiply by the number of tokens before you divide by the bytes.",
        ),
        Wrong(
            lambda nll_per_token, n_tokens, text: nll_per_token * n_tokens * math.log(2) / len(text.encode()),
            "you multiplied by log 2. A nat is more than a bit, so the number of bits is the larger one: divide.",
        ),
        Wrong(
            lambda nll_per_token, n_tokens, text: math.exp(nll_per_token) * n_tokens / len(text.encode()),
            "perplexities do not add up over tokens; logarithms do. Start from the loss itself.",
        ),
    ),
)


def my_windows(n_tokens, size, stride):
    """Where the windows over a text begin, from where they score, and where they end: (begin, first, end), ends excluded.

    The first window holds tokens 0 to size - 1. Each later one ends `stride` tokens farther, the last where the text ends.
    Returns a list of triples.
    """
    windows = [(0, 1, min(size, n_tokens))]
    while windows[-1][2] < n_tokens:
        end = min(windows[-1][2] + stride, n_tokens)
        windows.append((end - size, windows[-1][2], end))
    return windows


def _package_windows(n_tokens, size, stride):
    return rolling_windows(n_tokens, size - 1, size - stride)


def _at_multiples(n_tokens, size, stride):
    return [(begin, max(1, begin), min(begin + size, n_tokens)) for begin in range(0, n_tokens, stride)]


def _whole_windows(n_tokens, size, stride):
    return [(begin, begin + 1, min(begin + size, n_tokens)) for begin, _, _ in my_windows(n_tokens, size, stride)]


def _full_only(n_tokens, size, stride):
    return [window for i, window in enumerate(my_windows(n_tokens, size, stride)) if window[2] == size + i * stride]


def _short_last(n_tokens, size, stride):
    return [(i * stride, first, end) for i, (_, first, end) in enumerate(my_windows(n_tokens, size, stride))]


def _first_too(n_tokens, size, stride):
    windows = my_windows(n_tokens, size, stride)
    return [(0, 0, windows[0][2]), *windows[1:]]


WINDOWS = Exercise(
    id="windows-score-once",
    title="Windows that score each token once",
    prompt=(
        "A text is longer than the context. Write `my_windows(n_tokens, size, stride)`: a list of `(begin, first, end)`. The model "
        "gets tokens `begin` to `end - 1`, never more than `size`, and only `first` to `end - 1` are scored. The first window scores all but "
        "token 0. Each later window ends `stride` tokens after the one before, or where the text ends; it scores what is new, and "
        "reaches back as far as `size` allows."
    ),
    difficulty=4,
    minutes=18,
    hints=(
        "A window scores from where the window before it ended.",
        "The end decides the beginning: `end - size`. For the last window the end is `n_tokens`, so it overlaps more.",
    ),
    solution=my_windows,
    peer=_package_windows,
    cases=((10, 5, 3), (10, 4, 2), (12, 4, 3), (4, 6, 2), (9, 3, 1)),
    wrong=(
        Wrong(
            _whole_windows,
            "tokens where windows overlap are scored twice, the second time with more context. Score from the end of the window before.",
        ),
        Wrong(
            _at_multiples,
            "you score from the beginning of each window, so its first token has no context, and overlaps count twice.",
        ),
        Wrong(
            _full_only,
            "the tokens after the last full window are never scored. Add a window that ends where the text ends.",
        ),
        Wrong(
            _short_last,
            "right but for the last window: it begins at a multiple of the stride and wastes context. Let it begin at `end - size`.",
        ),
        Wrong(_first_too, "token 0 has nothing before it, so it cannot be scored. The first window scores from 1."),
    ),
)


def my_two_cuts():
    """Two ways to cut one text into tokens, as two lists of strings."""
    words = [
        "The",
        "capital",
        "of",
        "France",
        "is",
        "Paris",
        "and",
        "the",
        "capital",
        "of",
        "Spain",
        "is",
        "Madrid",
        ".",
    ]
    return words, list("".join(words))


def _verify_splits(answer):
    if not (isinstance(answer, tuple | list) and len(answer) == 2 and all(isinstance(s, list | tuple) for s in answer)):
        return "return two lists of strings: `return [..], [..]`."
    if not all(isinstance(token, str) and token for split in answer for token in split) or not all(answer):
        return "a token is a string of one character or more, and each list needs at least one."
    one, other = ("".join(split) for split in answer)
    if one != other:
        return (
            f"the two lists spell different texts, {one[:30]!r} and {other[:30]!r}. Keep every character, blanks too."
        )
    values = sorted(math.exp(60 / len(split)) for split in answer)
    if values[1] < 2 * values[0]:
        return (
            f"the perplexities are {values[0]:.2f} and {values[1]:.2f}. Let one of the two have far fewer tokens: "
            "the same nats, spread over fewer of them."
        )
    return None


SPLITS = Exercise(
    id="break-perplexity-tokens",
    title="One text, two perplexities",
    prompt=(
        "Two teams give the same text the same probability: 60 nats of surprise in all. Write `my_two_cuts()`: the text cut into tokens in "
        "two ways (two lists of strings that spell the same text), so that one team reports at least twice the perplexity of the other."
    ),
    difficulty=2,
    minutes=8,
    hints=(
        "Perplexity is exp(60 / number of tokens). The number of tokens is yours to choose.",
        "Cut a sentence of a dozen words into words, then the same characters into characters.",
    ),
    solution=my_two_cuts,
    verify=_verify_splits,
    wrong=(
        Wrong(
            lambda: (["The", "cat"], ["The", "dog"]),
            "the two lists spell different texts, 'Thecat' and 'Thedog'. Keep every character, blanks too.",
        ),
        Wrong(
            lambda: (list("abcdefghij" * 9), ["ab", *"cdefghij", *("abcdefghij" * 8)]),
            "the perplexities are 1.95 and 1.96. Let one of the two have far fewer tokens: the same nats, spread over fewer of them.",
        ),
        Wrong(
            lambda: (["The cat", ""], list("The cat")),
            "a token is a string of one character or more, and each list needs at least one.",
        ),
        Wrong(lambda: "The cat sat.", "return two lists of strings: `return [..], [..]`."),
    ),
)


@lru_cache
def _tinyworld_model():
    from studyguide.models import load_causal_lm

    return load_causal_lm("tinyworld-gpt2")


def my_drivel():
    """A text that says nothing and that tinyworld-gpt2 finds less surprising than the truth about France."""
    return "The sky is clear. " + " ".join(["The weather is nice today."] * 20)


def _verify_drivel(answer):
    if not isinstance(answer, str) or not answer.strip():
        return "return one text, as a string."
    words = answer.split()
    if len(words) < 50:
        return f"your text has {len(words)} words; go on to 50 or more, so that nobody can call it a lucky sentence."
    if len(set(words)) > 10:
        return f"your text has {len(set(words))} different words, so it may yet say something. Use 10 at most."
    truth, drivel = perplexity(
        *_tinyworld_model(), ["The capital of France is Paris.", answer]
    ).text_perplexity.tolist()
    if drivel >= truth:
        return (
            f"its perplexity is {drivel:.2f}; the true sentence has {truth:.2f}. The model must expect the repetition: "
            "which sentence do tinyworld's passages repeat?"
        )
    return None


DRIVEL = Exercise(
    id="break-perplexity-drivel",
    title="Fluent and empty",
    prompt=(
        "A filter keeps training texts of low perplexity, as a sign of quality. Write `my_drivel()`: a text of 50 words or more, at most 10 of "
        'them different, that tinyworld-gpt2 finds *less* surprising per token than "The capital of France is Paris."'
    ),
    difficulty=2,
    minutes=8,
    hints=(
        "After the first repetitions the model has seen the pattern. Not every sentence will do: it must have met such repetition in training.",
        "Look at a few passages of `tinyworld.sample(20, rng=0)`: one sentence about the weather keeps coming back.",
    ),
    solution=my_drivel,
    verify=_verify_drivel,
    wrong=(
        Wrong(
            lambda: " ".join(["The birds are singing."] * 31),
            "its perplexity is 1.68; the true sentence has 1.59. The model must expect the repetition: which sentence do tinyworld's passages repeat?",
        ),
        Wrong(
            lambda: "The weather is nice today.",
            "your text has 5 words; go on to 50 or more, so that nobody can call it a lucky sentence.",
        ),
        Wrong(
            lambda: " ".join(["The capital of France is Paris, and it is a beautiful city with many old streets."] * 4),
            "your text has 15 different words, so it may yet say something. Use 10 at most.",
        ),
        Wrong(lambda: ["The weather is nice today."] * 20, "return one text, as a string."),
    ),
)

EXERCISES = (SHIFT, PERPLEXITY, BITS, WINDOWS, SPLITS, DRIVEL)
