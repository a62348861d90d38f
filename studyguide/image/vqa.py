"""Answers to questions about images, held against those of several people.

The official measure gives credit by agreement: an answer that three of ten people gave is as good as right. Answers are
normalised first, so that "A cat." and "cat" are one.
"""

import re
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

import torch

from studyguide.image.captioning import generate_texts, model_name
from studyguide.statistics.bootstrap import bootstrap_interval
from studyguide.statistics.intervals import Interval

PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
COUNTED = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
NUMBERS = {word: str(number) for number, word in enumerate(COUNTED)} | {"none": "0"}
ARTICLES = {"a", "an", "the"}
ENDINGS = {
    "n't": "ai are ca could did do does had has have is might must need ought sha should was were wo would",
    "'ve": "could i might must not should they we what where who would you",
    "'d": "he how it someone something there they where who you",
    "'ll": "how it somebody someone something they what who why y'all you",
    "'s": "he how somebody someone that there what when where who why",
    "'re": "there they what why you",
    "n't've": "could had might should would",
    "'d've": "he i it she somebody someone something there they we who y'all you",
    "": "i'm ma'am o'clock 'ow's'at 'twas y'all",
}
CONTRACTIONS = {
    (stem + ending).replace("'", ""): stem + ending for ending, stems in ENDINGS.items() for stem in stems.split()
}


def normalize_answer(answer):
    """An answer as it is compared: lower case, no punctuation, digits for number words, no articles, apostrophes put in.

    Convention, that of the official evaluation: a mark of punctuation is taken out where it stands at a blank anywhere in
    the answer, or where the answer has a number such as 1,000; else it becomes a blank. Full stops before a digit and
    apostrophes stay. Numbers are "none" and zero to ten. Three slips of the official script are mended: an answer of
    articles alone, such as the letter "A", is not emptied; "im" becomes "i'm"; a contraction lacking all its apostrophes is
    known like one lacking some.
    Source: Antol et al. (2015), "VQA: visual question answering", and its evaluation code.

    >>> normalize_answer("The two CATS!"), normalize_answer("dont know"), normalize_answer("1,000.5")
    ('2 cats', "don't know", '1000.5')
    """
    if not isinstance(answer, str):
        raise TypeError(f"answer is {answer!r}; expected a str")
    return _normalized(answer)


@lru_cache(maxsize=2**16)
def _normalized(answer):
    answer = " ".join(answer.split())
    thousands, text = re.search(r"\d,\d", answer), answer
    for mark in PUNCTUATION:
        text = text.replace(mark, "" if thousands or f"{mark} " in answer or f" {mark}" in answer else " ")
    words = [NUMBERS.get(word, word) for word in re.sub(r"\.(?!\d)", "", text).lower().split()]
    words = [word for word in words if word not in ARTICLES] or words
    return " ".join(CONTRACTIONS.get(word.replace("'", ""), word) for word in words)


def vqa_accuracy(prediction, answers):
    """How well an answer agrees with those of n people: the mean over the people of min(matches among the others / 3, 1).

    With ten answers, 0, 1, 2, 3 and 4 or more matches make 0, .3, .6, .9 and 1. Range: 0 to 1.
    `answers` is a list of 4 or more texts: with fewer, an answer that all of them gave would not reach 1.
    Convention: both sides are normalised, always. The official script leaves them as they are where all people wrote the
    same, so that "Black." is wrong if all ten wrote "black".
    Source: Antol et al. (2015), section 3; the mean over subsets: the official evaluation.

    >>> vqa_accuracy("A cat.", ["cat"] * 2 + ["dog"] * 8)
    0.6
    """
    given, answers = normalize_answer(prediction), _panel(answers)
    n, matches = len(answers), answers.count(given)
    # leave one out: a match is left out in `matches` cases, another answer in the rest
    return (matches * min(matches - 1, 3) + (n - matches) * min(matches, 3)) / (3 * n)


def annotator_accuracy(answers):
    """How well the people agree: the mean over them of min(matches among the others / 3, 1), the accuracy of a person.

    Each is held against the other nine of ten, as `vqa_accuracy` holds a prediction against nine at a time. It is no upper
    limit: who always gives the commonest answer scores higher than the people do. Range: 0 to 1. `answers`, errors and
    normalisation: those of `vqa_accuracy`.
    Source: Antol et al. (2015), section 4.

    >>> annotator_accuracy(["red"] * 7 + ["a red"] + ["pink"] * 2)
    0.8666666666666667
    """
    counts = Counter(_panel(answers)).values()
    return sum(count * min(count - 1, 3) for count in counts) / (3 * len(answers))


@dataclass(frozen=True, eq=False)
class VqaScores:
    """What `evaluate_vqa` found for n questions; intervals are for other questions, or groups of questions, like these."""

    model: str
    predictions: list[str]
    accuracy: Interval  # 0 to 1: mean of `vqa_accuracy`
    exact_match: Interval  # 0 to 1: share of predictions that are the commonest answer, but for case and outer blanks
    kinds: dict[str, Interval]  # accuracy by kind of question; empty if no kinds were given
    question_accuracy: torch.Tensor  # (n,)
    question_exact_match: torch.Tensor  # (n,)

    def __str__(self):
        scores = {"accuracy": self.accuracy, "exact match": self.exact_match} | self.kinds
        return "\n".join([f"{self.model}, {len(self.predictions)} questions", *(f"{k} {v}" for k, v in scores.items())])


def evaluate_vqa(
    model, processor, images, questions, answers, batch_size=16, max_new_tokens=10, *, kinds=None, groups=None, rng=0
):
    """Ask the model each question about its image (greedy search) and score what it answers: a `VqaScores`.

    Shapes: n images, questions, and lists of answers; `kinds`, if given, n names, and `groups` n labels. Questions of one
    group, such as those about one image, are not independent, so the bootstrap draws groups, each with all of its
    questions. `rng` seeds it. The prompt is cut off by its tokens; see `generate_texts`.
    Errors: those of `generate_texts` and `vqa_accuracy`; lists of other lengths; fewer than 2 questions or groups, in all or
    of a kind.
    Convention: of answers that are equally common, the first counts for exact match.
    Source: Antol et al. (2015), "VQA: visual question answering".

    >>> from studyguide.datasets import shapes
    >>> from studyguide.models import load_vqa
    >>> scenes = shapes.scenes("test")[:8]
    >>> asked = [scene["questions"][0] for scene in scenes]
    >>> questions, answers = [item["question"] for item in asked], [item["answers"] for item in asked]
    >>> scores = evaluate_vqa(*load_vqa("shapes-vqa"), shapes.images(scenes), questions, answers)
    >>> scores.model, scores.question_accuracy.shape
    ('shapes-vqa', torch.Size([8]))
    """
    _check(len(images), questions=questions, answers=answers, kinds=kinds, groups=groups)
    predictions = generate_texts(model, processor, images, questions, batch_size, max_new_tokens)
    return score_answers(predictions, answers, model_name(model), kinds=kinds, groups=groups, rng=rng)


def score_answers(predictions, answers, model="answers given", *, kinds=None, groups=None, rng=0):
    """The `VqaScores` of answers that somebody has already given, a baseline or a person; otherwise like `evaluate_vqa`.

    >>> answers = [["red"] * 9 + ["pink"], ["2"] * 8 + ["3", "two"], ["yes"] * 6 + ["no"] * 4]
    >>> score_answers(["pink", "two", "no"], answers).question_accuracy
    tensor([0.3000, 1.0000, 1.0000], dtype=torch.float64)
    """
    _check(len(predictions), predictions=predictions, answers=answers, kinds=kinds, groups=groups)
    groups = range(len(answers)) if groups is None else getattr(groups, "tolist", lambda: groups)()
    commonest = [Counter(several).most_common(1)[0][0] for several in answers]
    exact = [p.strip().lower() == c.strip().lower() for p, c in zip(predictions, commonest, strict=True)]
    exact = torch.tensor(exact, dtype=torch.float64)
    accuracy = [vqa_accuracy(prediction, several) for prediction, several in zip(predictions, answers, strict=True)]
    accuracy = torch.tensor(accuracy, dtype=torch.float64)
    rows = {kind: [i for i, other in enumerate(kinds) if other == kind] for kind in dict.fromkeys(kinds or [])}
    return VqaScores(
        model=model,
        predictions=list(predictions),
        accuracy=_interval("all", accuracy, groups, rng),
        exact_match=_interval("all", exact, groups, rng),
        kinds={kind: _interval(kind, accuracy[at], [groups[i] for i in at], rng) for kind, at in rows.items()},
        question_accuracy=accuracy,
        question_exact_match=exact,
    )


def _interval(kind, values, groups, rng):
    """The mean of the values with an interval for which groups are drawn, each with all of its values."""
    places = {group: place for place, group in enumerate(dict.fromkeys(groups))}
    if len(places) < 2:
        number = f"the number of questions, or of their groups, is {len(places)} ({kind})"
        raise ValueError(f"{number}; expected 2 or more, for an interval")
    at = torch.tensor([places[group] for group in groups])
    sums = values.new_zeros(len(places)).index_add(0, at, values)
    return bootstrap_interval((sums, at.bincount()), lambda s, n: s.sum(-1) / n.sum(-1), paired=True, rng=rng)


def _check(n, **lists):
    """Errors for lists that are none or of other lengths, and for answers that `vqa_accuracy` refuses."""
    for name, values in lists.items():
        if isinstance(values, str):
            raise TypeError(f"{name} is the str {values!r}; expected a list with one entry per question")
        if values is not None and len(values) != n:
            raise ValueError(f"length of {name} is {len(values)}; expected {n}, one entry per question")
    for several in lists["answers"]:
        _panel(several)


def _panel(answers):
    """The answers of several people to one question, normalised."""
    if isinstance(answers, str):
        raise TypeError(f"answers is the str {answers!r}; expected a list of texts, one of each person")
    if len(answers) < 4:
        raise ValueError(f"there are {len(answers)} answers; expected 4 or more, as one needs 3 others that agree")
    return [normalize_answer(answer) for answer in answers]
