"""Few-shot evaluation: worked examples before the question, a continuation, and a fair look at the answer.

Shots and items are pairs (input, output) of texts. The continuation is cut at the stop sequence, normalised, and then
compared. Which shots are shown, and in which order, changes the score; so the score is a mean over orders, with its spread.
"""

import re
from dataclasses import dataclass

import torch

from studyguide.language.sampling import generate
from studyguide.probability.validation import generator, positive_integer
from studyguide.statistics.leakage import find_leakage, normalise

TEMPLATE = "Input: {input}\nOutput: {output}"
AROUND = re.compile(r"""^[\s"'“”‘’]+|[\s"'“”‘’.,;:!?]+$""")


def few_shot_prompt(shots, question, template=TEMPLATE, separator="\n\n"):
    r"""The shots one after the other, then the question in the same form, without its output.

    Errors: a shot that is no pair of texts, an empty question, a template without {input} before {output}.
    Convention: white space before the output is left for the model to write, as its tokenizer expects.

    >>> few_shot_prompt([("great film", "positive")], "dull film")
    'Input: great film\nOutput: positive\n\nInput: dull film\nOutput:'
    """
    head, output, _ = template.partition("{output}")
    if "{input}" not in head or not output:
        raise ValueError(f"template is {template!r}; expected {{input}}, then {{output}}")
    if not isinstance(question, str) or not question.strip():
        raise ValueError(f"question is {question!r}; expected text")
    blocks = [template.format(input=given, output=wanted) for given, wanted in _pairs("shots", shots)]
    return separator.join([*blocks, head.rstrip().format(input=question)])


def cut_at_stop(text, stop=("\n",)):
    """The text up to the first of the stop sequences, without white space at its ends.

    White space at the start is dropped first: a model that begins with the stop sequence has not answered yet.

    >>> cut_at_stop(" positive\\n\\nInput: the next film")
    'positive'
    """
    text = text.strip()
    return text[: min((text.find(mark) for mark in stop if mark in text), default=len(text))].strip()


def normalise_answer(text):
    """The text in Unicode form NFKC, without case, quotation marks around it and sentence marks after it.

    >>> normalise_answer(' "Positive." '), normalise_answer("-0.5")
    ('positive', '-0.5')
    """
    return AROUND.sub("", normalise(text))


def exact_match(prediction, answer, stop=("\n",)):
    """Whether a continuation gives the answer: cut at the stop sequence, normalised, then compared.

    >>> exact_match(" Positive.\\n\\nInput: the next film", "positive")
    True
    """
    return normalise_answer(cut_at_stop(prediction, stop)) == normalise_answer(answer)


@dataclass(frozen=True, eq=False)
class FewShotResult:
    """What `evaluate_few_shot` found."""

    accuracy: torch.Tensor  # (orders,) share of items answered right
    mean: torch.Tensor  # over the orders
    spread: torch.Tensor  # their standard deviation, with orders - 1
    correct: torch.Tensor  # (orders, items) 1 where the answer matches
    shown: torch.Tensor  # (orders, k) which shots each order shows, in turn
    predictions: list  # one list per order: the continuations as the model wrote them


def evaluate_few_shot(
    model,
    tokenizer,
    shots,
    items,
    k,
    orders=10,
    *,
    rng,
    template=TEMPLATE,
    separator="\n\n",
    stop=("\n",),
    max_new_tokens=16,
    batch_size=32,
    leakage=0.8,
):
    """Exact-match accuracy after `k` shots, over several random draws and orders of the shots.

    Each order draws k of the shots and puts them in a random order, the same for all items; the continuation is greedy.

    Errors: no items, pairs that are not of text, fewer than 2 orders, k below 0 or above the number of shots; a prompt
    that does not fit into the model's context; shots that leak into the items: an item whose input shares at least
    `leakage` of its word n-grams with a shot's (`find_leakage`, Jaccard).
    Convention: see `exact_match`. An order that comes twice is run once.
    Randomness: `rng` is an int seed, or a torch.Generator, which the call advances.
    Source: Brown et al. (2020), section 2; Lu et al. (2022), "Fantastically Ordered Prompts", on the order.

    >>> from studyguide.models import load_causal_lm
    >>> shots = [("A spider has", "eight"), ("A week has", "seven")]
    >>> items = [("A horse has", "four"), ("A hand has", "five")]
    >>> settings = {"template": "{input} {output}.", "stop": (".", " legs", " fingers")}
    >>> evaluate_few_shot(*load_causal_lm("tinyworld-gpt2"), shots, items, k=0, orders=2, rng=0, **settings).mean
    tensor(1., dtype=torch.float64)
    """
    shots, items = _pairs("shots", shots), _pairs("items", items)
    if not items:
        raise ValueError("items is empty; expected at least one")
    if k not in range(len(shots) + 1):
        raise ValueError(f"k is {k!r}; expected 0 to {len(shots)}, the number of shots")
    if positive_integer("orders", orders) < 2:
        raise ValueError("orders is 1; expected at least 2: one order says nothing of the spread")
    _refuse_leaks(shots, items, leakage)
    source = generator(rng)
    shown = torch.stack([torch.randperm(len(shots), generator=source)[:k] for _ in range(orders)])
    written = {}
    for order in map(tuple, shown.tolist()):
        if order not in written:
            prompts = [few_shot_prompt([shots[i] for i in order], x, template, separator) for x, _ in items]
            written[order] = _continue(model, tokenizer, prompts, max_new_tokens, batch_size)
    predictions = [written[tuple(order)] for order in shown.tolist()]
    correct = torch.tensor(
        [[exact_match(text, y, stop) for text, (_, y) in zip(texts, items, strict=True)] for texts in predictions],
        dtype=torch.float64,
    )
    accuracy = correct.mean(-1)
    return FewShotResult(accuracy, accuracy.mean(), accuracy.std(), correct, shown, predictions)


def _pairs(name, pairs):
    """The pairs as tuples of texts; an error that names the first that is none."""
    pairs = list(pairs)
    for i, pair in enumerate(pairs):
        if isinstance(pair, str) or len(pair) != 2:
            raise ValueError(f"{name}[{i}] is {pair!r:.60}; expected a pair (input, output)")
        for part, text in zip(("input", "output"), pair, strict=True):
            if not isinstance(text, str):
                raise TypeError(f"{name}[{i}] has the {part} {text!r}, {type(text).__name__}; expected text")
            if not normalise_answer(text):
                raise ValueError(f"{name}[{i}] has the {part} {text!r}; expected text that is more than marks")
    return [tuple(pair) for pair in pairs]


def _refuse_leaks(shots, items, threshold):
    if shots:
        inputs = [[given for given, _ in pairs] for pairs in (shots, items)]
        if leaks := find_leakage(*inputs, threshold=threshold).leaks:
            leak = leaks[0]
            raise ValueError(
                f"{len(leaks)} of the pairs of shot and item leak, first shots[{leak.train_index}] into "
                f"items[{leak.evaluation_index}] ({leak.kind}: {leak.passage!r}); expected items that no shot gives away"
            )


def _continue(model, tokenizer, prompts, max_new_tokens, batch_size):
    """What the model writes after each prompt, greedily; prompts are padded on the left."""
    texts = []
    for start in range(0, len(prompts), batch_size):
        encoded = [tokenizer.encode(prompt) for prompt in prompts[start : start + batch_size]]
        width = max(map(len, encoded))
        ids = torch.tensor([[0] * (width - len(x)) + x for x in encoded])
        mask = torch.tensor([[0] * (width - len(x)) + [1] * len(x) for x in encoded])
        tokens = generate(model, ids, max_new_tokens, attention_mask=mask, top=1).tokens
        texts += tokenizer.batch_decode(tokens, skip_special_tokens=True)
    return texts
