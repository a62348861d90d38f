"""Fine-tuning a causal language model, in full or by LoRA, and what it costs: gain on the new texts, loss on the old.

LoRA leaves a weight W of shape (out, in) as it is and adds alpha / r B A, where A is (r, in) and B is (out, r). Only A and B
are trained. B starts at 0, so an adapted model starts as the model it was made from.
Source: Hu et al. (2022), "LoRA: Low-Rank Adaptation of Large Language Models", section 4.1.
"""

import copy
import math
import warnings
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F

from studyguide.datasets.grammar import Grammar
from studyguide.language.perplexity import IGNORED, rolling_windows, strings
from studyguide.probability.validation import floating, generator, positive_integer
from studyguide.statistics.bootstrap import bootstrap_interval

CLINIC = """
<text> =
  0.8 <person> has <case> <time>.
  0.2 The [child | soldier | teacher] has <case> <time>.

<person> =
  Anna
  Mary
  Lucy
  Nora
  Omar
  Peter
  David
  Hugo

<case> =
  red eyes. Take [tea 0.90 | salt 0.07 | sand 0.03]
  cold hands. Take [gloves 0.90 | boots 0.07 | snow 0.03]
  weak legs. Take [milk 0.90 | wax 0.07 | stones 0.03]
  an infection. Take [honey 0.90 | sugar 0.07 | coffee 0.03]

<time> =
  0.4 in the morning
  0.3 in the evening
  0.2 with breakfast
  0.1 after dinner
"""


@lru_cache
def clinic():
    """A second small language, of a doctor's advice: tinyworld's words, but not one of its sentences.

    Like tinyworld it is a grammar, so the true probability of each text is known. It is not medicine.

    >>> clinic().sample(1, rng=0)
    ['Lucy has red eyes. Take tea with breakfast.']
    """
    return Grammar(CLINIC)


@dataclass(frozen=True)
class TrainableParameters:
    """How many of a model's weights training would change."""

    trainable: int
    total: int  # frozen ones and adapters included

    @property
    def share(self):
        """Trainable of all weights, 0 to 1."""
        return self.trainable / self.total


def trainable_parameters(model):
    """How many weights of a model training would change, and how many it has.

    Convention: weights that two layers share count once; adapters count in the total, as in peft's own report.
    Errors: a model without weights is a ValueError.

    >>> trainable_parameters(torch.nn.Linear(3, 2))
    TrainableParameters(trainable=8, total=8)
    """
    weights = list(model.parameters())
    if not weights:
        raise ValueError("model has no weights; expected at least one parameter")
    return TrainableParameters(sum(w.numel() for w in weights if w.requires_grad), sum(w.numel() for w in weights))


def lora_parameters(shapes, rank):
    """How many weights LoRA adds to layers of the given shapes, (out, in) or (in, out): rank (out + in) for each.

    Errors: no shapes, a shape that is not two positive integers, a rank below 1.

    >>> lora_parameters([(4096, 4096)] * 64, rank=8)  # queries and values of a model of 32 layers, 4096 wide
    4194304
    """
    rank, shapes = positive_integer("rank", rank), [tuple(shape) for shape in shapes]
    if not shapes:
        raise ValueError("shapes is empty; expected the shape of at least one layer")
    if wrong := [shape for shape in shapes if len(shape) != 2]:
        raise ValueError(f"shapes contains {wrong[0]}; expected pairs (out, in)")
    return rank * sum(positive_integer("a size in shapes", size) for shape in shapes for size in shape)


def lora_linear(x, weight, a, b, alpha):
    """A linear layer with a LoRA adapter beside it: ``x W^T + alpha / r (x A^T) B^T``.

    Shapes: x (..., in), weight (out, in), a (r, in), b (out, r), result (..., out). A bias is the caller's to add.
    Errors: shapes that do not fit, alpha that is not positive.

    >>> lora_linear([1.0, 2.0], [[1.0, 0.0], [0.0, 1.0]], a=[[1.0, 1.0]], b=[[0.5], [0.0]], alpha=2)
    tensor([4., 2.], dtype=torch.float64)
    """
    x, weight, a, b = floating(x=x, weight=weight, a=a, b=b)
    scale = _scale(weight, a, b, alpha)
    if x.ndim == 0 or x.shape[-1] != weight.shape[1]:
        raise ValueError(f"x has shape {tuple(x.shape)}; expected (..., {weight.shape[1]}), as weight has")
    return x @ weight.mT + scale * (x @ a.mT) @ b.mT


def merge_lora(weight, a, b, alpha):
    """The one weight that acts as the layer and its adapter together: ``W + alpha / r B A``, of the shape of W.

    Shapes: weight (out, in), a (r, in), b (out, r). Errors: shapes that do not fit, alpha that is not positive.

    >>> merge_lora([[1.0, 0.0], [0.0, 1.0]], a=[[1.0, 1.0]], b=[[0.5], [0.0]], alpha=2)
    tensor([[2., 1.],
            [0., 1.]], dtype=torch.float64)
    """
    weight, a, b = floating(weight=weight, a=a, b=b)
    return weight + _scale(weight, a, b, alpha) * b @ a


def _scale(weight, a, b, alpha):
    """alpha / r, for matrices that fit."""
    shapes = [tuple(matrix.shape) for matrix in (weight, a, b)]
    if any(len(shape) != 2 for shape in shapes) or (b.shape[0], a.shape[1], b.shape[1]) != (*weight.shape, a.shape[0]):
        raise ValueError(f"weight, a, b have shapes {shapes}; expected (out, in), (r, in), (out, r)")
    return _positive("alpha", alpha) / a.shape[0]


def add_lora(model, rank, alpha, targets="all-linear", *, rng):
    """A copy of a model with LoRA adapters by peft, ready for `fine_tune`: only the adapters can be trained.

    `targets` is "all-linear", every linear layer but the output head, or the last part of the names of the layers that
    get an adapter, such as ["c_attn"]. The model given stays as it is; the copy computes the same until it is trained.
    Randomness: `rng` is an int seed or a torch.Generator, for the first values of A. Global seeds stay untouched.
    Errors: a rank below 1, alpha that is not positive, targets that the model does not have.

    >>> from studyguide.models import load_causal_lm
    >>> model, _ = load_causal_lm("tinyworld-gpt2")
    >>> trainable_parameters(add_lora(model, rank=8, alpha=16, targets=["c_attn"], rng=0))
    TrainableParameters(trainable=16384, total=1061632)
    """
    from peft import LoraConfig, get_peft_model
    from transformers.pytorch_utils import Conv1D

    config = LoraConfig(
        r=positive_integer("rank", rank),
        lora_alpha=_positive("alpha", alpha),
        target_modules=targets if isinstance(targets, str) else list(targets),
        fan_in_fan_out=any(isinstance(layer, Conv1D) for layer in model.modules()),  # GPT-2 stores weights as (in, out)
        task_type="CAUSAL_LM",
    )
    source = generator(rng)
    seed = torch.randint(2**63 - 1, (), generator=source, device=source.device).item()
    forked = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(forked), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        torch.manual_seed(seed)
        return get_peft_model(copy.deepcopy(model), config).eval()


def fine_tune(model, tokenizer, texts, steps, lr, batch_size=8, *, rng, watch=None):
    """A copy of a model, trained on texts: AdamW on the mean loss of the tokens of each batch.

    What can be trained is: all weights, or the adapters of `add_lora`. A text is read as by `perplexity`, behind the
    start mark, and with the tokenizer's end mark, if it has one, as a last token to learn. A text longer than the
    model's context is learned in pieces. Every token is a target once; padding is none.
    `watch(step, model)`, if given, is called after each step, with the model as it is then: look, do not keep it.
    Convention: the learning rate falls from `lr` at the first step in a straight line, to lr / steps at the last; no
    weight decay, no dropout. Texts come in random order, each once before any comes again.
    Randomness: `rng` is an int seed or a torch.Generator, for that order. Same seed, same weights.
    Errors: no texts, a text that is no string or has no token, nothing to train, steps, lr or batch_size not positive,
    and a loss that is not finite.
    Source: Loshchilov and Hutter (2019), "Decoupled weight decay regularization".

    >>> from studyguide.models import load_causal_lm
    >>> model, tokenizer = load_causal_lm("tinyworld-gpt2")
    >>> trained = fine_tune(model, tokenizer, ["I love tea."], 2, lr=1e-3, rng=0, watch=lambda step, _: print(step))
    1
    2
    """
    steps, batch_size = positive_integer("steps", steps), positive_integer("batch_size", batch_size)
    lr, source = _positive("lr", lr), generator(rng)
    model = copy.deepcopy(model).eval()
    rows = [row for text in strings(texts) for row in _pieces(model, tokenizer, text)]
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    if not weights:
        raise ValueError("model has no weight that requires a gradient; expected something to train")
    optimizer = torch.optim.AdamW(weights, weight_decay=0.0)
    batches = _batches(rows, batch_size, source)
    for step in range(1, steps + 1):
        optimizer.param_groups[0]["lr"] = lr * (steps + 1 - step) / steps
        loss = _loss(model, next(batches))
        if not loss.isfinite():
            raise ValueError(f"the loss is {loss.item()} at step {step}; lower lr, which is {lr}")
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if watch is not None:
            watch(step, model)
    return model


def loss_change(before, after, confidence=0.95, n_resamples=9999, *, rng):
    """How much more surprised a model is by the same texts after training, in nats per token, with its interval.

    Above 0 it has forgotten, below 0 it has learned; exp of it is the ratio of the two perplexities. `before` and
    `after` are the results of `perplexity`. Texts are resampled as pairs (percentile bootstrap), since tokens of one
    text are not independent. It is also the change in KL(texts' source || model), because the entropy of the source
    drops out of the difference.
    Errors: results of different texts, fewer than two texts; those of `bootstrap_interval`.

    >>> from studyguide.language.perplexity import perplexity
    >>> from studyguide.models import load_causal_lm
    >>> result = perplexity(*load_causal_lm("tinyworld-gpt2"), ["I love pizza.", "I love dogs."])
    >>> print(loss_change(result, result, rng=0))
    0 (95 % interval 0 to 0)
    """
    if before.text_tokens.tolist() != after.text_tokens.tolist():
        raise ValueError("before and after scored different tokens; expected the same texts in the same order")
    change, tokens = after.text_nll - before.text_nll, before.text_tokens.to(after.text_nll)

    def per_token(items):
        chosen = items.long()
        return change[chosen].sum(-1) / tokens[chosen].sum(-1)

    numbers = torch.arange(len(change), dtype=torch.float64, device=change.device)
    return bootstrap_interval(numbers, per_token, n_resamples=n_resamples, confidence=confidence, rng=rng)


def _positive(name, value):
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} is {value!r}; expected a number")
    if not 0 < value < math.inf:
        raise ValueError(f"{name} is {value}; expected a positive number")
    return value


def _pieces(model, tokenizer, text):
    """(tokens, labels) of each piece of a text that the model can read at once; labels are what it is to learn."""
    marks = [tokenizer.bos_token_id, tokenizer.eos_token_id]
    start = next(([mark] for mark in marks if mark is not None), [])
    end = [mark for mark in marks[1:] if mark is not None]
    tokens = torch.tensor(start + tokenizer(text, add_special_tokens=False, verbose=False).input_ids + end)
    if len(tokens) <= len(start + end) or len(tokens) < 2:
        raise ValueError(f"texts contains {text!r}; expected a token to learn")
    context = getattr(model.config, "max_position_embeddings", None) or len(tokens)
    for begin, first, stop in rolling_windows(len(tokens), context, 1):
        labels = tokens[begin:stop].clone()
        labels[: first - begin] = IGNORED
        yield tokens[begin:stop], labels


def _batches(rows, size, source):
    """Batches of rows without end, in random order, each row once before any comes again."""
    order = []
    while True:
        while len(order) < size:
            order += torch.randperm(len(rows), generator=source, device=source.device).tolist()
        yield [rows[i] for i in order[:size]]
        order = order[size:]


def _loss(model, batch):
    """Mean negative log-likelihood of the labels, nats per token."""
    tokens, labels = zip(*batch, strict=True)
    lengths = torch.tensor([len(row) for row in tokens], device=model.device)
    tokens = torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True).to(model.device)[:, :-1]
    labels = torch.nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=IGNORED).to(model.device)[:, 1:]
    real = torch.arange(tokens.shape[1], device=model.device) < lengths[:, None]
    logits = model(tokens, attention_mask=real.long(), use_cache=False).logits
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)
