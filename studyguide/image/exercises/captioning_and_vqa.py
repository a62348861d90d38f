"""Exercises of notebook 5.3, Captioning and VQA."""

import re
from collections import Counter
from functools import cache

import numpy as np

from studyguide.course.exercises import Exercise, Wrong
from studyguide.datasets import shapes
from studyguide.image.vqa import vqa_accuracy
from studyguide.text.rouge import corpus_rouge


def my_vqa_accuracy(prediction, answers):
    """Accuracy of a prediction against a list of people's answers, all of them normalised already.

    Returns a number from 0 to 1.
    """
    credit = []
    for i in range(len(answers)):
        others = answers[:i] + answers[i + 1 :]
        credit.append(min(others.count(prediction) / 3, 1))
    return sum(credit) / len(credit)


def _accuracy_peer(prediction, answers):
    same = np.array([answer == prediction for answer in answers], dtype=float)
    left_out = np.where(1 - np.eye(len(answers)), same, 0).sum(1)
    return float(np.clip(left_out / 3, 0, 1).mean())


_RED = ["red", "red", "pink", "red", "red", "red", "rose", "red", "red", "red"]
_TWO = ["two", "a pair", "2", "2", "2", "three", "two", "two", "a pair", "pair"]

ACCURACY = Exercise(
    id="vqa-accuracy",
    title="Ten people, soft credit",
    prompt=(
        "Write `my_vqa_accuracy(prediction, answers)`. Leave out one person at a time. Among the others, count the answers equal to "
        "the prediction: three or more are full credit, fewer are a third each. The accuracy is the mean credit. All texts are "
        "normalised already."
    ),
    difficulty=2,
    minutes=8,
    hints=(
        "`answers[:i] + answers[i + 1:]` are the answers without that of person i. There are as many such lists as people.",
        "For one list the credit is `min(matches / 3, 1)`. With ten people, two of whom agree with the prediction, the mean is 0.6.",
    ),
    solution=my_vqa_accuracy,
    peer=_accuracy_peer,
    cases=(("red", _RED), ("rose", _RED), ("a pair", _TWO), ("two", _TWO), ("4", _TWO), ("no", ["no"] * 4 + ["yes"])),
    wrong=(
        Wrong(
            lambda p, a: min(a.count(p) / 3, 1),
            "you hold the prediction against all people at once. Leave out one at a time and take the mean: 1, 2 and 3 of ten are .3, .6 "
            "and .9.",
        ),
        Wrong(
            lambda p, a: a.count(p) / len(a),
            "this is the share of people who agree. Three others who agree are full credit already.",
        ),
        Wrong(
            lambda p, a: float(p == max(a, key=a.count)),
            "you ask for the commonest answer, all or nothing. An answer that fewer people gave gets part of the credit.",
        ),
        Wrong(
            lambda p, a: float(p in a),
            "one person who agrees is not enough for full credit: min(matches / 3, 1).",
        ),
        Wrong(
            lambda p, a: sum((a[:i] + a[i + 1 :]).count(p) / 3 for i in range(len(a))) / len(a),
            "your credit goes beyond 1. Cut it off for each subset: min(matches / 3, 1).",
        ),
        Wrong(
            lambda p, a: sum(float((a[:i] + a[i + 1 :]).count(p) >= 3) for i in range(len(a))) / len(a),
            "you give credit for three matches only. One or two are a third each.",
        ),
        Wrong(
            lambda p, a: sum(min((a[:i] + a[i + 1 :]).count(p) / 3, 1) for i in range(len(a))) / (len(a) - 1),
            "you divide by one too few. There is one subset for each person.",
        ),
    ),
)


def my_new_tokens(prompt, written):
    """The tokens that a model added, of the tokens that its `generate` returned.

    prompt and written are lists of token ids. Returns a list.
    """
    return written[len(prompt) :] if written[: len(prompt)] == prompt else written


def _tokens_peer(prompt, written):
    left = list(written)
    for token in prompt:
        if not left or left.pop(0) != token:
            return np.array(written)
    return np.array(left)


def _last_place(prompt, written):
    """What comes behind the last occurrence of the prompt, wherever it is."""
    places = [i for i in range(len(written)) if written[i : i + len(prompt)] == prompt]
    return written[places[-1] + len(prompt) :] if places else written


NEW_TOKENS = Exercise(
    id="new-tokens",
    title="Without the prompt",
    prompt=(
        "Write `my_new_tokens(prompt, written)`, both lists of token ids. A decoder that goes on from the prompt returns the prompt and its "
        "answer; an encoder-decoder returns the answer alone. Cut the prompt off if `written` begins with all of it; if not, all of it is new."
    ),
    difficulty=1,
    minutes=6,
    hints=(
        "Compare the first `len(prompt)` tokens of `written` with the prompt.",
        "Only the beginning counts: an answer may contain tokens of the question, or the whole question once more.",
    ),
    solution=my_new_tokens,
    peer=_tokens_peer,
    cases=(
        ([5, 6, 7], [5, 6, 7, 9, 2]),
        ([5, 6, 7], [9, 8, 8, 2]),
        ([5, 6, 7], [5, 6, 7, 6, 9, 2]),
        ([5, 6], [5, 6, 5, 6, 2]),
        ([5, 6, 7], [5, 6, 2]),
        ([5, 6], [9, 5, 6, 2]),
    ),
    wrong=(
        Wrong(
            lambda prompt, written: written[len(prompt) :],
            "you always cut as many tokens as the prompt has. A model that returns the answer alone loses its answer.",
        ),
        Wrong(
            lambda prompt, written: [token for token in written if token not in prompt],
            "you drop every token that is in the prompt. The answer may repeat some of them: cut at the beginning only.",
        ),
        Wrong(
            _last_place,
            "you look for the prompt anywhere. Only at the beginning is it an echo; later it belongs to the answer.",
        ),
        Wrong(
            lambda prompt, written: written[len(prompt) :] if written[0] == prompt[0] else written,
            "you compare the first token only. An answer may begin like the prompt: compare all of it.",
        ),
        Wrong(
            lambda prompt, written: written[len(prompt) + 1 :] if written[: len(prompt)] == prompt else written,
            "you cut one token too many: the answer begins at position len(prompt).",
        ),
        Wrong(
            lambda prompt, written: written,
            "you return what the model returned. Where it begins with the prompt, the prompt is no answer.",
        ),
    ),
)


def my_blind_accuracy(train, test):
    """VQA accuracy of always giving the commonest training answer to a question's kind.

    train is a list of (kind, answer), test a list of (kind, answers of several people). Returns a number from 0 to 1.
    """
    commonest = {}
    for kind in {kind for kind, _ in test}:
        commonest[kind] = Counter(answer for other, answer in train if other == kind).most_common(1)[0][0]
    return sum(vqa_accuracy(commonest[kind], answers) for kind, answers in test) / len(test)


def _blind_peer(train, test):
    kinds, answers = np.array([kind for kind, _ in train]), np.array([answer for _, answer in train])
    credit = []
    for kind, people in test:
        values, counts = np.unique(answers[kinds == kind], return_counts=True)
        matches = int((np.array(people) == values[counts.argmax()]).sum())
        credit.append([0, 0.3, 0.6, 0.9, 1][min(matches, 4)])  # for ten people
    return float(np.mean(credit))


def _blind(train, test, score=vqa_accuracy, pool=lambda train, test, kind: [a for k, a in train if k == kind]):
    guesses = [(Counter(pool(train, test, kind)).most_common(1)[0][0], answers) for kind, answers in test]
    return [score(guess, answers) for guess, answers in guesses]


def _macro(train, test):
    scores, kinds = _blind(train, test), [kind for kind, _ in test]
    means = [np.mean([s for s, k in zip(scores, kinds, strict=True) if k == kind]) for kind in set(kinds)]
    return float(np.mean(means))


_TRAIN = [("colour", c) for c in ["red"] * 4 + ["blue"] * 3] + [("count", c) for c in ["2"] * 9 + ["1"] * 5]
_TEST = [
    ("colour", ["blue"] * 8 + ["red"] * 2),
    ("colour", ["red"] * 7 + ["pink"] * 3),
    ("colour", ["blue"] * 9 + ["2"]),
    ("count", ["2"] * 6 + ["1"] * 3 + ["3"]),
]

BLIND = Exercise(
    id="blind-baseline",
    title="The model that never looks",
    prompt=(
        "Write `my_blind_accuracy(train, test)`: for each kind of question take the commonest answer of the training data, give it to every "
        "test question of that kind, and return the mean `vqa_accuracy` over the test questions."
    ),
    difficulty=2,
    minutes=10,
    hints=(
        "`Counter(answer for other, answer in train if other == kind).most_common(1)` gives the commonest answer of a kind, and its count.",
        "The mean is over all test questions, so that a kind with more questions counts for more.",
    ),
    solution=my_blind_accuracy,
    peer=_blind_peer,
    cases=(
        (_TRAIN, _TEST),
        (_TRAIN, _TEST[2:]),
        ([("shape", "star"), ("shape", "star"), ("shape", "box")], [("shape", ["star"] * 3 + ["box"] * 7)]),
    ),
    wrong=(
        Wrong(
            lambda train, test: np.mean(_blind(train, test, pool=lambda train, test, kind: [a for _, a in train])),
            "you give one answer to all questions. A blind model reads the question: take the commonest answer of each kind.",
        ),
        Wrong(
            lambda train, test: np.mean(
                _blind(
                    train, test, pool=lambda train, test, kind: [a for k, several in test if k == kind for a in several]
                )
            ),
            "you count the answers of the test data, which no model may see. Count those of the training data.",
        ),
        Wrong(
            lambda train, test: np.mean(_blind(train, test, lambda p, a: float(p == max(a, key=a.count)))),
            "you count a guess as right or wrong. Use `vqa_accuracy`, with its soft credit.",
        ),
        Wrong(
            lambda train, test: np.mean(_blind(train, test, lambda p, a: a.count(p) / len(a))),
            "you average the share of people who gave that answer. Use `vqa_accuracy`: three who agree are full credit or nearly so.",
        ),
        Wrong(
            _macro,
            "you average over the kinds. Every question counts alike, so average over the questions.",
        ),
        Wrong(
            lambda train, test: sum(_blind(train, test)),
            "this is the sum of the accuracies. Divide by the number of test questions.",
        ),
    ),
)

NEEDED, ALLOWED = 0.55, 0.02  # ROUGE-L that the lab asks for; share of the scenes of which the caption may be true


def my_one_caption():
    """One caption for all scenes, true of hardly any."""
    return "there is a pink square at the top left and a black circle at the bottom right"


@cache
def _test_scenes():
    scenes = shapes.scenes("test")
    return [scene["captions"] for scene in scenes], [
        {(item["colour"], item["shape"]) for item in scene["objects"]} for scene in scenes
    ]


def _verify_one_caption(answer):
    if not isinstance(answer, str):
        return "return one caption, a str."
    colours, words = "|".join(shapes.COLOURS), {"disc": "circle", "box": "square"} | {s: s for s in shapes.SHAPES}
    named = {(c, words[s]) for c, s in re.findall(f"({colours}) ({'|'.join(words)})", answer)}
    if len(named) < 2:
        return (
            f"objects that your caption names by colour and shape: {len(named)}. Name two or more, as most captions do."
        )
    references, objects = _test_scenes()
    true = sum(named <= there for there in objects) / len(objects)
    if true > ALLOWED:
        return (
            f"your caption is true of {true:.1%} of the scenes. Let it be 2 % at most: name other objects, or one more."
        )
    score = corpus_rouge([answer] * len(references), references, ["rougeL"])["rougeL"].f1
    if score <= NEEDED:
        return (
            f"wrong nearly everywhere, as it should be, but ROUGE-L is {score:.2f}. Of the five forms in which people write, which has most "
            "words that do not depend on the scene?"
        )
    return None


ONE_CAPTION = Exercise(
    id="break-captions",
    title="One caption for every scene",
    prompt=(
        "Write `my_one_caption()`: a single caption that is said of each of the 200 test scenes. It names two or more objects by colour and "
        "shape and is true of at most 2 % of the scenes. Its ROUGE-L, the mean over the scenes with five references each, must be above 0.55."
    ),
    difficulty=2,
    minutes=10,
    hints=(
        "Five people wrote about each scene, each in a form of their own. ROUGE-L takes the reference that you match best.",
        'Compare "a blue disc and a black star" with "there is a blue disc at the top and a black star at the left": how many words '
        "fit any scene?",
    ),
    solution=my_one_caption,
    verify=_verify_one_caption,
    wrong=(
        Wrong(
            lambda: "an orange circle",
            "objects that your caption names by colour and shape: 1. Name two or more, as most captions do.",
        ),
        Wrong(
            lambda: "a blue circle and a green square",
            "wrong nearly everywhere, as it should be, but ROUGE-L is 0.51. Of the five forms in which people write, which has most "
            "words that do not depend on the scene?",
        ),
        Wrong(
            lambda: "there is something at the top left and something else at the bottom right",
            "objects that your caption names by colour and shape: 0. Name two or more, as most captions do.",
        ),
        Wrong(
            lambda: "there is a black circle at the top left and a green triangle at the bottom right",
            "your caption is true of 3.5% of the scenes. Let it be 2 % at most: name other objects, or one more.",
        ),
        Wrong(
            lambda: ["a blue circle and a green square"],
            "return one caption, a str.",
        ),
    ),
)

EXERCISES = (ACCURACY, NEW_TOKENS, BLIND, ONE_CAPTION)
