"""How far back a model finds what it has read: recall of a password by its depth and by the length of the context.

A passage is put together from tokens: filler sentences of tinyworld, among them the sentence with the password, and the
question at the end. Its length in tokens is exact with any tokenizer. Depth is the share of the filler that stands before
the password, so that every depth is possible at every length.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from studyguide.datasets import tinyworld
from studyguide.datasets.grammar import join_words
from studyguide.probability.validation import common_dtype, generator, numpy_generator, positive_integer
from studyguide.statistics.intervals import proportion_interval

STATEMENT = " The secret password is"
QUESTION = " What is the secret password? The secret password is"


@dataclass(frozen=True, eq=False)
class Passages:
    """Prompts of one length, each with one password in it."""

    prompts: torch.Tensor  # (n, length) token ids, the question last
    answers: list  # n lists of token ids: the password, which should come next
    starts: torch.Tensor  # (n,) index of the first token of the sentence with the password


@dataclass(frozen=True, eq=False)
class NeedleGrid:
    """What `needle_grid` found, as (depths, lengths, n): every passage of every cell."""

    depths: torch.Tensor  # (depths,) as asked for
    lengths: torch.Tensor  # (lengths,) tokens of a prompt
    recalled: torch.Tensor  # (depths, lengths, n) True where the model's greedy answer is the password
    probability: torch.Tensor  # (depths, lengths, n) what the model gives to the password
    starts: torch.Tensor  # (depths, lengths, n) index of the first token of the sentence with the password

    @property
    def recall(self):
        """(depths, lengths) share of passwords recalled, between Wilson's 95 % limits: an `Interval`."""
        return proportion_interval(self.recalled.sum(-1), self.recalled.shape[-1])


def needle_grid(model, tokenizer, depths, lengths, n, rng, *, keep=None, batch_size=8):
    """Recall of a password by its depth in the context and by the context's length: every depth at every length.

    `depths` are 0 (the password comes first) to 1 (right before the question), `lengths` tokens of the prompt, question
    included; each cell has `n` passages with other passwords and other filler. `keep` is what an application does to a
    prompt before the model reads it: a function from token ids (n, length) to those that are left, such as
    ``lambda prompts: prompts[:, -100:]``. The same `rng` gives the same passages, whatever the model and `keep`.
    Result: a `NeedleGrid` on the model's device. Errors: those of `needle_passages` and `recall`; no depths or lengths.
    Randomness: `rng` is an int seed, or a torch.Generator, which the call advances.
    Source: the design is Kamradt's (2023) needle in a haystack; Liu et al. (2024), "Lost in the middle".

    >>> from studyguide.models import load_causal_lm
    >>> grid = needle_grid(*load_causal_lm("tinyworld-gpt2"), depths=[0, 0.5], lengths=[40, 80], n=2, rng=0)
    >>> grid.recall.estimate
    tensor([[1., 1.],
            [1., 1.]], dtype=torch.float64)
    """
    depths, source = [float(depth) for depth in depths], generator(rng)
    lengths = [positive_integer("length", length) for length in lengths]
    if not depths or not lengths:
        raise ValueError(f"{len(depths)} depths and {len(lengths)} lengths; expected at least one of each")
    cells = [needle_passages(tokenizer, depth, length, n, source) for depth in depths for length in lengths]
    prompts = [cell.prompts if keep is None else keep(cell.prompts) for cell in cells]
    for tokens, cell in zip(prompts, cells, strict=True):
        _check_room(model, tokens, cell.answers)
    found = [recall(model, tokens, cell.answers, batch_size) for tokens, cell in zip(prompts, cells, strict=True)]
    columns = (*zip(*found, strict=True), [cell.starts for cell in cells])
    return NeedleGrid(
        torch.tensor(depths, dtype=torch.float64, device=model.device),
        torch.tensor(lengths, device=model.device),
        *(torch.stack(values).reshape(len(depths), len(lengths), -1).to(model.device) for values in columns),
    )


def needle_passages(tokenizer, depth, length, n, rng):
    """`n` passages of exactly `length` tokens, a password in each, at a depth of 0 (first) to 1 (right before the question).

    Filler, statement and question are encoded one by one and joined as tokens. The filler is whole sentences, drawn as
    the grammar draws them among those whose lengths add up to the room; the depth is met as nearly as they allow, and
    `starts` says where the statement really is. Where no sentences add up, the first one lacks its beginning.
    No start mark is added. Errors: a depth outside 0 to 1, an n below 1, a length too short for any one of the passwords.
    Randomness: `rng` is an int seed, or a torch.Generator, which the call advances.

    >>> from studyguide.models import load_causal_lm
    >>> _, tokenizer = load_causal_lm("tinyworld-gpt2")
    >>> tokenizer.decode(needle_passages(tokenizer, depth=1, length=23, n=1, rng=0).prompts[0])
    ' The weather is nice today. The secret password is GREEN HORSE. What is the secret password? The secret password is'
    """
    length, n, rng = positive_integer("length", length), positive_integer("n", n), numpy_generator(rng)
    if not 0 <= depth <= 1:
        raise ValueError(f"depth is {depth}; expected 0 (first) to 1 (right before the question)")
    codes, frame, question = _parts(tokenizer)
    if length < (shortest := _shortest(codes, frame, question)):
        raise ValueError(f"length is {length}; expected at least {shortest} tokens, for the password and the question")
    weights, texts = zip(*tinyworld.grammar("filler sentence").enumerate(), strict=True)
    sentences = [_encode(tokenizer, " " + join_words(words)) for words in texts]
    filler = _Filler(sentences, weights, length)
    prompts, answers, starts = [], [], []
    for _ in range(n):
        answer = codes[rng.integers(len(codes))]
        needle = [*frame[0], *answer, *frame[1]]
        room = length - len(needle) - len(question)
        before = filler.before(depth, room)
        prompts.append([*filler.draw(before, rng), *needle, *filler.draw(room - before, rng), *question])
        answers.append(answer)
        starts.append(before)
    return Passages(torch.tensor(prompts), answers, torch.tensor(starts))


@torch.no_grad()
def recall(model, prompts, answers, batch_size=8):
    """Whether the model's greedy continuation of each prompt is the answer, and the probability of the answer.

    Shapes: prompts (n, length) token ids without padding, answers n lists of ids; results (n,) boolean and (n,) floating,
    on the model's device. Range of the second: 0 to 1, the product over the answer's tokens.
    Convention: one pass with the answer appended. Greedy decoding writes the answer just if each of its tokens is the most
    probable one after those before it.
    Errors: prompt and answer beyond the model's positions, no prompts, an empty answer, a model in training mode.

    >>> from studyguide.models import load_causal_lm
    >>> model, tokenizer = load_causal_lm("tinyworld-gpt2")
    >>> prompts = tokenizer(["A spider has", "A week has"], return_tensors="pt").input_ids
    >>> recall(model, prompts, [tokenizer.encode(" eight legs"), tokenizer.encode(" nine days")])[0]
    tensor([ True, False])
    """
    if model.training:
        raise ValueError("model is in training mode, where dropout is random; call model.eval() first")
    _check_room(model, prompts, answers)
    targets = pad_sequence([torch.tensor(answer) for answer in answers], batch_first=True, padding_value=-1)
    targets = targets.to(model.device)
    ids = torch.cat([prompts.to(model.device), targets[:, :-1].clamp(min=0)], -1)  # a causal model ignores what follows
    logits = torch.cat(
        [
            model(rows, attention_mask=torch.ones_like(rows), logits_to_keep=targets.shape[1]).logits
            for rows in ids.split(positive_integer("batch_size", batch_size))
        ]
    )
    log_p = logits.to(common_dtype(logits)[1]).log_softmax(-1)
    padding = targets < 0
    chosen = log_p.gather(-1, targets.clamp(min=0)[..., None])[..., 0].masked_fill(padding, 0)
    return ((log_p.argmax(-1) == targets) | padding).all(-1), chosen.sum(-1).exp()


def needle_lengths(model, tokenizer):
    """The fewest and the most tokens that a prompt of `needle_grid` can have, whatever password is drawn.

    >>> from studyguide.models import load_causal_lm
    >>> needle_lengths(*load_causal_lm("tinyworld-gpt2"))
    (17, 255)
    """
    codes, frame, question = _parts(tokenizer)
    return _shortest(codes, frame, question), _positions(model) + 1 - max(map(len, codes))


class _Filler:
    """Draws filler of an exact number of tokens."""

    def __init__(self, sentences, weights, most):
        self.sentences, self.weights = sentences, np.array(weights)
        self.sizes = np.array([len(sentence) for sentence in sentences])
        self.whole = np.zeros(most + 1, dtype=bool)  # the numbers of tokens that whole sentences can have
        self.whole[0] = True
        for total in range(1, most + 1):
            self.whole[total] = self.whole[total - self.sizes[self.sizes <= total]].any()

    def before(self, depth, room):
        """How many of the tokens come before the password: near depth * room, in whole sentences if that can be."""
        whole = self.whole[: room + 1]
        splits = np.flatnonzero(whole & whole[::-1])
        if not len(splits):
            splits = np.flatnonzero(whole[::-1])  # at least what comes after is whole
        return int(splits[abs(splits - depth * room).argmin()])

    def draw(self, total, rng):
        """That many tokens of filler."""
        left = np.flatnonzero(self.whole[: total + 1])[-1]
        ids = self.sentences[0][len(self.sentences[0]) - (total - left) :]
        while left:
            fitting = (self.sizes <= left) & self.whole[left - self.sizes.clip(max=left)]
            weights = self.weights * fitting
            ids = ids + self.sentences[rng.choice(len(weights), p=weights / weights.sum())]
            left = total - len(ids)
        return ids


def _parts(tokenizer):
    """The token ids of all passwords, of the statement around one (before, after), and of the question."""
    codes = [_encode(tokenizer, " " + join_words(words)) for _, words in tinyworld.grammar("code").enumerate()]
    return codes, (_encode(tokenizer, STATEMENT), _encode(tokenizer, ".")), _encode(tokenizer, QUESTION)


def _encode(tokenizer, text):
    return tokenizer(text, add_special_tokens=False).input_ids


def _shortest(codes, frame, question):
    return max(map(len, codes)) + len(frame[0]) + len(frame[1]) + len(question)


def _positions(model):
    return getattr(model.config, "max_position_embeddings", math.inf)


def _check_room(model, prompts, answers):
    """The model has a position for each token that it will read; the last one of an answer it will not."""
    if len(prompts) == 0 or len(prompts) != len(answers) or not all(map(len, answers)):
        raise ValueError(
            f"{len(prompts)} prompts and {len(answers)} answers; expected as many, at least one, none empty"
        )
    longest, limit = max(map(len, answers)), _positions(model)
    if prompts.shape[1] + longest - 1 > limit:
        raise ValueError(
            f"prompts have {prompts.shape[1]} tokens and answers up to {longest}; expected at most {limit + 1} together: "
            f"the model has {limit} positions"
        )
