"""Exercises of notebook 2.4: overfitting and leakage."""

import math
from difflib import SequenceMatcher

import torch
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.metrics import jaccard_score

from studyguide.course.exercises import Exercise, Wrong
from studyguide.statistics.leakage import find_leakage, fingerprint


def _t(*values):
    return torch.tensor(values, dtype=torch.float64)


def my_stopping_epoch(accuracies, patience):
    """Early stopping on validation accuracies, one per epoch (a list).

    Returns the number of the epoch to keep, counted from 1. Training ends after `patience` epochs in a row
    without a new best; epochs after that are never seen.
    """
    best = 0
    for epoch, accuracy in enumerate(accuracies):
        if accuracy > accuracies[best]:
            best = epoch
        elif epoch - best == patience:
            break
    return best + 1


def _stop_peer(accuracies, patience):
    """By the definition: the first epoch that none of the next `patience` epochs exceeds, the earlier ones included."""
    for epoch in range(1, len(accuracies) + 1):
        seen, following = accuracies[:epoch], accuracies[epoch : epoch + patience]
        if seen.index(max(seen)) == epoch - 1 and all(later <= seen[-1] for later in following):
            return epoch
    raise AssertionError


def _stop_latest_tie(accuracies, patience):
    best = 0
    for epoch, accuracy in enumerate(accuracies):
        if accuracy >= accuracies[best]:
            best = epoch
        elif epoch - best == patience:
            break
    return best + 1


def _stop_where_training_ended(accuracies, patience):
    return min(my_stopping_epoch(accuracies, patience) + patience, len(accuracies))


def _stop_at_first_drop(accuracies, patience):
    return my_stopping_epoch(accuracies, 1)


STOPPING = Exercise(
    id="early-stopping",
    title="The epoch to keep",
    prompt=(
        "Write `my_stopping_epoch(accuracies, patience)`: read the validation accuracies epoch by epoch, stop once `patience` epochs "
        "in a row have brought no new best, and return the number (from 1) of the epoch to keep. Of equal bests the earlier one counts. "
        "What comes after the stop must not matter: in real life it was never trained."
    ),
    difficulty=2,
    minutes=12,
    hints=(
        "Remember the best epoch so far. Only a strictly higher accuracy is a new best.",
        "Stop when the current epoch is `patience` after the best one; return the best, plus 1 for counting from 1.",
    ),
    solution=my_stopping_epoch,
    peer=_stop_peer,
    cases=(
        ([0.64, 0.76, 0.83, 0.85, 0.85, 0.84, 0.83, 0.82], 3),
        ([0.5, 0.6, 0.58, 0.59, 0.7, 0.69], 2),
        ([0.5, 0.6, 0.58, 0.59, 0.7, 0.69], 3),
        ([0.5, 0.6, 0.58, 0.59, 0.57, 0.7], 2),
        ([0.9, 0.8, 0.7, 0.6], 2),
        ([0.1, 0.2, 0.3], 5),
    ),
    wrong=(
        Wrong(
            lambda accuracies, patience: accuracies.index(max(accuracies)) + 1,
            "you looked at all epochs. After `patience` epochs without a new best the training is over, whatever would have come.",
        ),
        Wrong(
            _stop_latest_tie,
            "of equal bests you kept a later one, and an equal value restarted the waiting. Only a strictly higher accuracy (`>`) is a new best.",
        ),
        Wrong(
            _stop_where_training_ended,
            "that is the epoch at which training ended. Keep the best one, `patience` epochs earlier: its weights were saved.",
        ),
        Wrong(
            lambda accuracies, patience: my_stopping_epoch(accuracies, patience) - 1, "you count epochs from 0; add 1."
        ),
        Wrong(
            _stop_at_first_drop,
            "you stopped at the first epoch without a new best. Validation accuracy is noisy: wait for `patience` of them.",
        ),
        Wrong(
            lambda accuracies, patience: my_stopping_epoch(accuracies, patience + 1),
            "you waited one epoch too long: stop as soon as `patience` epochs have passed since the best.",
        ),
    ),
)


def my_memorised(model_log_probs, true_log_probs, alpha):
    """Sentences that a model knows better than chance allows; both arguments are 1-D tensors, in nats.

    Returns how many sentences have a model probability of at least 1 / alpha times the true one.
    """
    return (model_log_probs - true_log_probs >= -math.log(alpha)).sum()


MEMORISED = Exercise(
    id="memorised-sentences",
    title="Better than the truth",
    prompt=(
        "Tinyworld tells you the true log-probability of each sentence, a model tells you its own. Write "
        "`my_memorised(model_log_probs, true_log_probs, alpha)`: how many sentences the model finds at least `1 / alpha` times as "
        "probable as they are. For a sentence that it never saw, this happens with a probability of at most `alpha`."
    ),
    difficulty=2,
    minutes=10,
    hints=(
        "A ratio of probabilities is a difference of log-probabilities.",
        "Compare `model - true` with the natural logarithm of 1 / alpha, and count with `.sum()`.",
    ),
    solution=my_memorised,
    peer=lambda model, true, alpha: sum(
        math.exp(m - t) * alpha >= 1 for m, t in zip(model.tolist(), true.tolist(), strict=True)
    ),
    cases=(
        (_t(-2.0, -5.0, -9.5, -20.0, -6.0, -7.0), _t(-9.0, -9.9, -9.0, -23.5, -8.5, -7.5), 0.01),
        (_t(-2.0, -5.0, -9.5, -20.0, -6.0, -7.0), _t(-9.0, -9.9, -9.0, -23.5, -8.5, -7.5), 0.05),
        (_t(-12.0, -8.0), _t(-8.0, -8.0), 0.05),
    ),
    wrong=(
        Wrong(
            lambda model, true, alpha: (model > true).sum(),
            "you counted every sentence above the truth. A little above is nothing: any imperfect model is, on some sentences. Ask for a factor of 1 / alpha.",
        ),
        Wrong(
            lambda model, true, alpha: (true - model >= -math.log(alpha)).sum(),
            "the sign is wrong: you counted what the model finds *less* probable than it is. Subtract the truth from the model.",
        ),
        Wrong(
            lambda model, true, alpha: (model - true >= 1 / alpha).sum(),
            "you compared a difference of logarithms with a ratio. Take the logarithm of 1 / alpha.",
        ),
        Wrong(
            lambda model, true, alpha: (model - true >= -math.log10(alpha)).sum(),
            "you used the logarithm base 10; the log-probabilities are natural, in nats.",
        ),
        Wrong(
            lambda model, true, alpha: (model - true >= -math.log(alpha)).double().mean(),
            "that is the share of the sentences; the count is asked.",
        ),
    ),
)


def my_jaccard(a, b, n):
    """Jaccard similarity of the word n-grams of two texts (lower case, words separated by blanks).

    Returns one number from 0 to 1. Each n-gram counts once, however often it comes.
    """
    grams = []
    for text in (a, b):
        words = text.split()
        grams.append({tuple(words[i : i + n]) for i in range(len(words) - n + 1)})
    return len(grams[0] & grams[1]) / len(grams[0] | grams[1])


def _sets(a, b, n):
    def grams(text):
        words = text.split()
        return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]

    return grams(a), grams(b)


def _jaccard_peer(a, b, n):
    counts = CountVectorizer(ngram_range=(n, n), token_pattern=r"\S+", binary=True).fit_transform([a, b]).toarray()
    return jaccard_score(*counts)


def _jaccard_of_counts(a, b, n):
    first, second = _sets(a, b, n)
    shared = sum(min(first.count(gram), second.count(gram)) for gram in set(first))
    return shared / (len(first) + len(second) - shared)


def _dice(a, b, n):
    first, second = map(set, _sets(a, b, n))
    return 2 * len(first & second) / (len(first) + len(second))


def _containment(a, b, n):
    first, second = map(set, _sets(a, b, n))
    return len(first & second) / len(first)


def _jaccard_of_characters(a, b, n):
    first, second = ({text[i : i + n] for i in range(len(text) - n + 1)} for text in (a, b))
    return len(first & second) / len(first | second)


def _jaccard_one_short(a, b, n):
    first, second = (set(grams[:-1]) for grams in _sets(a, b, n))
    return len(first & second) / len(first | second)


JACCARD = Exercise(
    id="jaccard-of-n-grams",
    title="How much two texts share",
    prompt=(
        "Write `my_jaccard(a, b, n)`: the number of distinct word n-grams that both texts have, divided by the number that at least "
        "one of them has. The texts are lower case and have no punctuation; each has at least `n` words."
    ),
    difficulty=2,
    minutes=12,
    hints=(
        "The n-grams of a list of words are its slices of length n. There are len(words) − n + 1 of them.",
        "Make a *set* of tuples for each text; `&` is what they share, `|` what either has.",
    ),
    solution=my_jaccard,
    peer=_jaccard_peer,
    cases=(
        ("the cat sat on the mat", "the cat sat on the sofa", 3),
        ("what is the capital of france", "he asked what is the capital of france and why", 2),
        ("a rose is a rose is a rose", "a rose is red", 2),
        ("one two three", "four five six", 1),
    ),
    wrong=(
        Wrong(_jaccard_of_counts, "an n-gram that comes twice counts once: use sets, not lists."),
        Wrong(_dice, "that is Dice's coefficient, twice the shared over the sum. Divide the shared by the union."),
        Wrong(_containment, "that is containment: you divided by the n-grams of `a` alone. Divide by the union."),
        Wrong(_jaccard_of_characters, "those are n-grams of characters. Split the texts into words first."),
        Wrong(_jaccard_one_short, "your last n-gram is missing: there are len(words) − n + 1 of them."),
        Wrong(
            lambda a, b, n: 1 - my_jaccard(a, b, n),
            "that is the Jaccard *distance*. The similarity of a text with itself is 1.",
        ),
    ),
)

QUESTION = "In which year did the first train leave the old station of Tinytown?"
ANSWER = "1871"


def my_hidden_leak():
    """A training text that gives away the answer to the question, and that a copy check overlooks.

    Returns a str.
    """
    return (
        "Notes of the town museum, page 12. The children who visit us like to ask the guide: in which year did the first train "
        "leave the old station of Tinytown? It was in 1871, and the whole town came to see it. The ticket of the first traveller "
        "hangs on our wall."
    )


def _verify_hidden_leak(answer):
    if not isinstance(answer, str):
        return "return one text, a str."
    if fingerprint(answer) == fingerprint(QUESTION):
        return (
            "your text has the fingerprint of the question: case and white space do not hide it from the exact check."
        )
    if ANSWER not in answer:
        return f"a reader of your text does not learn the answer, {ANSWER}. Write it down."
    ratio = SequenceMatcher(None, QUESTION, answer).ratio()
    if ratio >= 0.8:
        return f"the exact check misses it, but SequenceMatcher gives {ratio:.2f} of 1 and finds it. Bury the question in more text."
    found = find_leakage([answer], [QUESTION], threshold=0.8, measure="containment").leaks
    if not found:
        return "n-gram containment misses it too: too few of the question's words stand in your text in their order. Keep them together."
    return None


HIDDEN_LEAK = Exercise(
    id="break-the-leak-check",
    title="A leak that the copy check misses",
    prompt=(
        f"The evaluation asks: *{QUESTION}* The answer is *{ANSWER}*. Write `my_hidden_leak()`: a training text from which a reader "
        "learns the answer, that the exact hash misses and that the guide's rule (SequenceMatcher at least 0.8) misses too, "
        "although containment of word trigrams (at least 0.8) still finds it."
    ),
    difficulty=2,
    minutes=10,
    hints=(
        "The hash sees whole texts, and SequenceMatcher divides by the length of both. Which edit changes both and keeps the question?",
        "Put the question, word for word, into the middle of a long text, and the answer after it.",
    ),
    solution=my_hidden_leak,
    verify=_verify_hidden_leak,
    wrong=(
        Wrong(
            lambda: f"{QUESTION} {ANSWER}",
            "the exact check misses it, but SequenceMatcher gives 0.96 of 1 and finds it. Bury the question in more text.",
        ),
        Wrong(
            lambda: QUESTION.upper(),
            "your text has the fingerprint of the question: case and white space do not hide it from the exact check.",
        ),
        Wrong(
            lambda: f"A visitor asked: {QUESTION} Nobody knew.",
            f"a reader of your text does not learn the answer, {ANSWER}. Write it down.",
        ),
        Wrong(
            lambda: (
                "Tinytown has had a railway since 1871, when a locomotive steamed away from its platform for the first time."
            ),
            "n-gram containment misses it too: too few of the question's words stand in your text in their order. Keep them together.",
        ),
        Wrong(lambda: [QUESTION, ANSWER], "return one text, a str."),
    ),
)

EXERCISES = (STOPPING, MEMORISED, JACCARD, HIDDEN_LEAK)
