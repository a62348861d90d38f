"""Exercises of notebook 3.7, fine tuning."""

import math
from functools import lru_cache

import numpy as np
import torch

from studyguide.course.exercises import Exercise, Wrong
from studyguide.datasets import tinyworld
from studyguide.language.fine_tuning import clinic, fine_tune
from studyguide.language.perplexity import perplexity
from studyguide.models import load_causal_lm


def _t(*values):
    return torch.tensor(values, dtype=torch.float64)


def my_answer_labels(prompt, answer, end):
    """Labels for one example of supervised fine-tuning.

    prompt and answer are 1-D tensors of token ids, end is the id of the end mark; the model reads prompt, answer, end.
    Returns a tensor of the same length: the token where the model is to learn it, -100 where it is not.
    """
    return torch.cat([torch.full_like(prompt, -100), answer, torch.tensor([end])])


def _answer_labels_peer(prompt, answer, end):
    return [-100 for _ in prompt] + [int(token) for token in answer] + [end]


LABELS = Exercise(
    id="answer-only-labels",
    title="What a supervised example teaches",
    prompt=(
        "In supervised fine-tuning the model reads the prompt and learns the answer. Write `my_answer_labels(prompt, answer, end)`: "
        "the labels of one example. The prompt is not to be learned; the answer is, and so is to stop after it. "
        "Labels are not shifted: `transformers` does that itself."
    ),
    difficulty=1,
    minutes=6,
    hints=(
        "A label of -100 is not scored, by torch's cross-entropy and by transformers alike.",
        "`torch.full_like(prompt, -100)` covers the prompt. `torch.cat` puts three pieces together; the last is the end mark.",
    ),
    solution=my_answer_labels,
    peer=_answer_labels_peer,
    cases=(
        (torch.tensor([5, 6, 7]), torch.tensor([8, 9]), 1),
        (torch.tensor([4]), torch.tensor([3, 2, 2]), 0),
    ),
    wrong=(
        Wrong(
            lambda prompt, answer, end: torch.cat([prompt, answer, torch.tensor([end])]),
            "you teach the prompt as well: the model would learn to write questions. Put -100 where it stands.",
        ),
        Wrong(
            lambda prompt, answer, end: torch.cat([torch.full_like(prompt, -100), answer]),
            "the end mark is missing: a model that never learns to stop goes on after the answer.",
        ),
        Wrong(
            lambda prompt, answer, end: torch.cat([torch.full_like(prompt, -100), answer, torch.tensor([-100])]),
            "the end mark is there, but not scored. To stop is a part of the answer: give it its own label.",
        ),
        Wrong(
            lambda prompt, answer, end: torch.cat([torch.zeros_like(prompt), answer, torch.tensor([end])]),
            "0 is a token like any other, so the model would learn to write it. What is not scored is -100.",
        ),
        Wrong(
            lambda prompt, answer, end: torch.cat(
                [torch.full_like(prompt[1:], -100), answer, torch.tensor([end, -100])]
            ),
            "you shifted the labels by one. transformers shifts them itself, so yours would be shifted twice.",
        ),
        Wrong(
            lambda prompt, answer, end: torch.cat([answer, torch.tensor([end])]),
            "labels must be as long as what the model reads. Put one -100 for each token of the prompt.",
        ),
    ),
)


def my_lora_parameters(shapes, rank):
    """How many weights LoRA trains: shapes is a list of (out, in), one for each adapted layer. Returns a whole number."""
    return sum(rank * (high + wide) for high, wide in shapes)


def _lora_parameters_peer(shapes, rank):
    """What peft makes of linear layers of these shapes, without storage."""
    import peft

    with torch.device("meta"):
        layers = torch.nn.Sequential(*(torch.nn.Linear(wide, high) for high, wide in shapes))
        config = peft.LoraConfig(r=rank, target_modules=[str(i) for i in range(len(shapes))])
        return peft.get_peft_model(layers, config).get_nb_trainable_parameters()[0]


LORA_COUNT = Exercise(
    id="lora-parameter-count",
    title="How small is an adapter",
    prompt=(
        "Write `my_lora_parameters(shapes, rank)`: the number of weights that LoRA trains, for layers of the given "
        "shapes (out, in). Each gets its own A, of shape (rank, in), and its own B, of shape (out, rank)."
    ),
    difficulty=1,
    minutes=6,
    hints=(
        "Count the numbers in A, count those in B, add.",
        "One layer: `rank * in + out * rank`. Then sum over the layers, which may differ in shape.",
    ),
    solution=my_lora_parameters,
    peer=_lora_parameters_peer,
    cases=(
        ([(128, 128)] * 4, 8),
        ([(48, 16), (16, 16), (64, 16)], 2),
        ([(4096, 4096), (11008, 4096)], 16),
    ),
    wrong=(
        Wrong(
            lambda shapes, rank: sum(high * wide for high, wide in shapes),
            "these are the frozen weights. LoRA trains A and B, which are much smaller.",
        ),
        Wrong(
            lambda shapes, rank: sum(rank * high * wide for high, wide in shapes),
            "A has rank times in numbers and B out times rank. They are added, not multiplied.",
        ),
        Wrong(
            lambda shapes, rank: sum(rank * wide for _, wide in shapes),
            "you counted A only. B, of shape (out, rank), is trained as well.",
        ),
        Wrong(
            lambda shapes, rank: sum(rank * high for high, _ in shapes),
            "you counted B only. A, of shape (rank, in), is trained as well.",
        ),
        Wrong(
            lambda shapes, rank: rank * sum(shapes[0]),
            "that is one layer. Every adapted layer has a pair of its own.",
        ),
        Wrong(
            lambda shapes, rank: sum(2 * rank * wide for _, wide in shapes),
            "right for square layers only. The two sides may differ: rank times (out + in).",
        ),
    ),
)


def my_merged_weight(weight, a, b, alpha):
    """The weight that acts as a layer and its LoRA adapter together.

    weight (out, in), a (rank, in), b (out, rank). Returns a tensor of the shape of weight.
    """
    return weight + alpha / len(a) * b @ a


def _merged_weight_peer(weight, a, b, alpha):
    """What peft merges."""
    import peft

    layer = torch.nn.Sequential(torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)).double()
    layer[0].weight.data = weight.clone()
    adapted = peft.get_peft_model(layer, peft.LoraConfig(r=len(a), lora_alpha=alpha, target_modules=["0"]))
    adapted.base_model.model[0].lora_A["default"].weight.data = a.clone()
    adapted.base_model.model[0].lora_B["default"].weight.data = b.clone()
    return adapted.merge_and_unload()[0].weight.detach()


MERGE = Exercise(
    id="merge-an-adapter",
    title="One matrix again",
    prompt=(
        "For serving, an adapter can be folded into the weight that it stands beside; inference then costs nothing extra. Write "
        "`my_merged_weight(weight, a, b, alpha)`: the matrix with which a plain linear layer gives the same result as layer and adapter."
    ),
    difficulty=2,
    minutes=8,
    hints=(
        "The layer adds alpha / r (x A^T) B^T to x W^T. Write both as x times one transposed matrix.",
        "(x A^T) B^T is x (B A)^T. The rank r is the number of rows of A.",
    ),
    solution=my_merged_weight,
    peer=_merged_weight_peer,
    cases=(
        (_t(1, 0, 0, 1, 2, 1).reshape(2, 3), _t(1, 2, -1).reshape(1, 3), _t(0.5, -1).reshape(2, 1), 4),
        (torch.eye(3).double(), _t(1, 0, 2, 0, 1, 1).reshape(2, 3), _t(1, 0, 0, 2, 1, 1).reshape(3, 2), 8),
    ),
    wrong=(
        Wrong(
            lambda weight, a, b, alpha: weight + b @ a,
            "the scale alpha / r is missing. Without it, the merged model is not the one that was trained.",
        ),
        Wrong(
            lambda weight, a, b, alpha: weight + alpha * b @ a,
            "the scale is alpha / r: divide by the rank, the number of rows of A.",
        ),
        Wrong(
            lambda weight, a, b, alpha: weight + alpha / a.shape[1] * b @ a,
            "you divide by the width of the layer. The rank is the number of rows of A.",
        ),
        Wrong(
            lambda weight, a, b, alpha: alpha / len(a) * b @ a,
            "this is the change alone. The frozen weight still counts: add it.",
        ),
        Wrong(
            lambda weight, a, b, alpha: weight - alpha / len(a) * b @ a,
            "you take the adapter off. Merging adds it; the minus sign is how one unmerges.",
        ),
        Wrong(
            lambda weight, a, b, alpha: weight + alpha / math.sqrt(len(a)) * b @ a,
            "alpha over the root of r is rank-stabilised LoRA, a variant. Plain LoRA divides by r.",
        ),
    ),
)


def my_forgetting_at_gain(gain, forgetting, target):
    """What a run had forgotten when it had gained `target`.

    gain and forgetting (n,) are measured at the same checkpoints, gain rising from 0. Returns one number; infinity if
    the run never gained that much.
    """
    if target > gain[-1]:
        return math.inf
    i = max(1, int((gain < target).sum()))
    share = (target - gain[i - 1]) / (gain[i] - gain[i - 1])
    return forgetting[i - 1] + share * (forgetting[i] - forgetting[i - 1])


def _forgetting_peer(gain, forgetting, target):
    return np.interp(target, gain.numpy(), forgetting.numpy(), right=math.inf)


def _nearest(gain, forgetting, target):
    return forgetting[(gain - target).abs().argmin()]


def _first_reached(gain, forgetting, target):
    return forgetting[int((gain < target).sum())] if target <= gain[-1] else math.inf


PATH = (_t(0, 4, 6, 6.5), _t(0, 0.1, 0.5, 1.5))

EQUAL_GAIN = Exercise(
    id="forgetting-at-equal-gain",
    title="Compare at equal gain",
    prompt=(
        "Two runs end with different gains, so their final losses on the old texts cannot be compared. Write "
        "`my_forgetting_at_gain(gain, forgetting, target)`: what a run had forgotten when its gain was `target`. Between two "
        "checkpoints, go in a straight line. A run that never got there has no such number: return infinity."
    ),
    difficulty=3,
    minutes=10,
    hints=(
        "Find the two checkpoints whose gains enclose the target. How far between them does it lie?",
        "With i the number of gains below the target, the share is (target - gain[i-1]) / (gain[i] - gain[i-1]); "
        "the forgetting goes the same share of its way. A target of 0 has no checkpoint before it.",
    ),
    solution=my_forgetting_at_gain,
    peer=_forgetting_peer,
    cases=((*PATH, 5.5), (*PATH, 4.0), (*PATH, 6.5), (*PATH, 0.0), (*PATH, 7.0), (_t(0, 2, 3), _t(0, 0.3, 0.2), 2.6)),
    wrong=(
        Wrong(
            lambda gain, forgetting, target: forgetting[-1],
            "this is the forgetting at the end of the run, at whatever gain it ended. Read it off at the target.",
        ),
        Wrong(
            _nearest,
            "you took the nearest checkpoint. Two runs would then be compared at two different gains: interpolate.",
        ),
        Wrong(
            _first_reached,
            "you took the first checkpoint past the target, which charges a run for what it learned beyond it: interpolate.",
        ),
        Wrong(
            lambda gain, forgetting, target: np.interp(target, gain.numpy(), forgetting.numpy()),
            "right where the run reaches the target. Where it does not, you give its last value as if it did: return infinity.",
        ),
        Wrong(
            lambda gain, forgetting, target: target * forgetting[-1] / gain[-1] if target <= gain[-1] else math.inf,
            "you drew one straight line through the whole run. The last part of the gain often costs most: use the checkpoints.",
        ),
        Wrong(
            lambda gain, forgetting, target: np.interp(target, forgetting.numpy(), gain.numpy(), right=math.inf),
            "you swapped the two: that is the gain at a given forgetting. Look the target up in gain.",
        ),
    ),
)

RISE, FEWEST = 1.10, 20


def my_held_out():
    """A list of at least 20 different texts of tinyworld, on which forgetting is measured."""
    return tinyworld.grammar("password").sample(20, rng=0)


@lru_cache
def _before_and_after():
    """The course's model, and the same after a fast fine-tuning on the clinic that has made it forget."""
    model, tokenizer = load_causal_lm("tinyworld-gpt2")
    model = model.double()
    return model, fine_tune(model, tokenizer, clinic().sample(200, 3), 24, 1e-3, batch_size=12, rng=0), tokenizer


def _verify_held_out(texts):
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        return "return a list of texts, such as `tinyworld.sample(20, rng=0)`."
    texts = list(dict.fromkeys(texts))
    if strange := [text for text in texts if tinyworld.log_prob(text) == -math.inf]:
        return f"{strange[0][:40]!r} is no text of tinyworld. The set must be in the old language, or it hides nothing."
    if len(texts) < FEWEST:
        return f"the gate wants at least {FEWEST} different texts; yours are {len(texts)}."
    before, after, tokenizer = _before_and_after()
    rise = float(perplexity(after, tokenizer, texts).perplexity / perplexity(before, tokenizer, texts).perplexity)
    if rise > RISE:
        return (
            f"the report says that perplexity rose to {rise:.2f} times what it was, and the gate allows {RISE:.2f}. "
            "Which kind of text did the training leave alone?"
        )
    return None


HELD_OUT = Exercise(
    id="held-out-that-hides-forgetting",
    title="The held-out set that forgets to forget",
    prompt=(
        "A model was fine-tuned too fast on the clinic; on stories its perplexity is now 2.7 times what it was. The release gate asks for "
        "the perplexity on held-out texts of tinyworld: it may rise by at most 10 %. Nobody says which texts. Write `my_held_out()`: 20 or "
        "more different texts of tinyworld with which this model passes. `tinyworld.grammar(rule).sample(n, rng=0)` draws one kind: "
        'rules are "capital", "weather", "love", "cat", "crossing", "fact", "sum", "password", "saying", "story" and "report".'
    ),
    difficulty=3,
    minutes=10,
    hints=(
        "Perplexity is a mean over tokens. Which kinds of text have many tokens that even a damaged model finds easy?",
        "Long passages of filler repeat a few sentences that the model knows by heart. Two of the rules are made of them.",
    ),
    solution=my_held_out,
    verify=_verify_held_out,
    wrong=(
        Wrong(
            lambda: tinyworld.sample(200, rng=9),
            "the report says that perplexity rose to 1.22 times what it was, and the gate allows 1.10. "
            "Which kind of text did the training leave alone?",
        ),
        Wrong(
            lambda: tinyworld.grammar("story").sample(20, rng=5),
            "the report says that perplexity rose to 2.70 times what it was, and the gate allows 1.10. "
            "Which kind of text did the training leave alone?",
        ),
        Wrong(
            lambda: tinyworld.grammar("password").sample(10, rng=5),
            "the gate wants at least 20 different texts; yours are 10.",
        ),
        Wrong(
            lambda: tinyworld.grammar("password").sample(1, rng=5) * 20,
            "the gate wants at least 20 different texts; yours are 1.",
        ),
        Wrong(
            lambda: clinic().sample(20, rng=5),
            "'The teacher has weak legs. Take milk in ' is no text of tinyworld. "
            "The set must be in the old language, or it hides nothing.",
        ),
        Wrong(lambda: "The weather is nice.", "return a list of texts, such as `tinyworld.sample(20, rng=0)`."),
    ),
)

EXERCISES = (LABELS, LORA_COUNT, MERGE, EQUAL_GAIN, HELD_OUT)
