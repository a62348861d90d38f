"""Exercises of notebook 3.6: benchmarks and few-shot."""

import math
import re

import numpy as np
import torch
from scipy import stats

from studyguide.course.exercises import Exercise, Wrong


def _t(*values):
    return torch.tensor(values, dtype=torch.float64)


def my_score_z(p_a, n_a, p_b, n_b):
    """How many standard errors two independent accuracies are apart.

    Returns (p_a - p_b) divided by the standard error of that difference.
    """
    error = math.sqrt(p_a * (1 - p_a) / n_a + p_b * (1 - p_b) / n_b)
    return (p_a - p_b) / error


def _z_peer(p_a, n_a, p_b, n_b):
    """By the standard deviations of the two counts."""
    a, b = (stats.binom.std(n, p) / n for n, p in ((n_a, p_a), (n_b, p_b)))
    return (p_a - p_b) / math.hypot(a, b)


def _z_added_errors(p_a, n_a, p_b, n_b):
    return (p_a - p_b) / (math.sqrt(p_a * (1 - p_a) / n_a) + math.sqrt(p_b * (1 - p_b) / n_b))


SCORE_Z = Exercise(
    id="score-z",
    title="Is the leader ahead?",
    prompt=(
        "Write `my_score_z(p_a, n_a, p_b, n_b)`: two models have the accuracies `p_a` and `p_b` on `n_a` and `n_b` independent items. "
        "Divide the difference by its standard error. Each accuracy has the variance p(1 − p) / n, and the variances of independent scores add."
    ),
    difficulty=2,
    minutes=8,
    hints=(
        "The variance of the difference is the sum of the two variances. The standard error is its square root.",
        "`error = math.sqrt(p_a * (1 - p_a) / n_a + p_b * (1 - p_b) / n_b)`.",
    ),
    solution=my_score_z,
    peer=_z_peer,
    cases=((0.75, 198, 0.70, 198), (0.92, 14_079, 0.88, 14_079), (0.60, 50, 0.72, 400), (0.5, 100, 0.5, 100)),
    wrong=(
        Wrong(
            _z_added_errors,
            "you added the two standard errors. Variances add, standard errors do not: add first, then take the root.",
        ),
        Wrong(
            lambda p_a, n_a, p_b, n_b: (p_a - p_b) / (p_a * (1 - p_a) / n_a + p_b * (1 - p_b) / n_b),
            "you divided by the variance. The standard error is its square root.",
        ),
        Wrong(
            lambda p_a, n_a, p_b, n_b: (p_a - p_b) / math.sqrt(p_a * (1 - p_a) + p_b * (1 - p_b)),
            "you left out the numbers of items. The variance of one answer is p(1 − p); that of the mean of n answers is p(1 − p) / n.",
        ),
        Wrong(
            lambda p_a, n_a, p_b, n_b: my_score_z(p_b, n_b, p_a, n_a),
            "the sign is turned round: a positive z must mean that the first model is ahead.",
        ),
        Wrong(
            lambda p_a, n_a, p_b, n_b: (p_a - p_b) / math.sqrt(p_a * (1 - p_a) / n_a),
            "you used the error of the first model only. Both scores wobble.",
        ),
    ),
)


def my_choice(log_likelihoods, options):
    """The option that a model likes best per character.

    log_likelihoods is a 1-D tensor, options a list of as many texts. Returns the index of the option.
    """
    lengths = torch.tensor([len(option) for option in options])
    return (log_likelihoods / lengths).argmax()


CHOICE = Exercise(
    id="length-normalised-choice",
    title="A fair chance for long options",
    prompt=(
        "Write `my_choice(log_likelihoods, options)`: each option of a question has a log-likelihood under the model. "
        "Return the index of the option with the highest log-likelihood *per character*, as the harness's `acc_norm` does."
    ),
    difficulty=2,
    minutes=8,
    hints=(
        "`len(option)` is the number of characters. Divide each log-likelihood by it.",
        "Then `.argmax()`. The quotients are negative: the highest is the one nearest to 0.",
    ),
    solution=my_choice,
    peer=lambda log_likelihoods, options: int(np.argmax(log_likelihoods.numpy() / np.vectorize(len)(options))),
    cases=(
        (
            _t(-2.4, -2.2, -6.0),
            ["Ottawa, and it is a beautiful city.", "Toronto.", "Montreal, a city with many old streets."],
        ),
        (_t(-2.5, -2.0), ["No", "Perhaps so"]),
        (_t(-4.0, -4.1, -9.0), ["cold", "lukewarm", "hot and cold again"]),
        (_t(-6.0, -5.0, -5.8), ["on a Monday", "weekdays", "Sunday at the sea"]),
        (_t(-8.0, -6.0), ["a b c d", "breakfast"]),
    ),
    wrong=(
        Wrong(
            lambda log_likelihoods, options: log_likelihoods.argmax(),
            "you compared the log-likelihoods as they are. A longer option has more factors below 1, so it loses for its length.",
        ),
        Wrong(
            lambda log_likelihoods, options: (log_likelihoods * torch.tensor([len(o) for o in options])).argmax(),
            "you multiplied by the length, which punishes long options twice. Divide.",
        ),
        Wrong(
            lambda log_likelihoods, options: (log_likelihoods / torch.tensor([len(o) for o in options])).argmin(),
            "you took the lowest quotient. Log-likelihoods are negative: the best is the highest, nearest to 0.",
        ),
        Wrong(
            lambda log_likelihoods, options: (
                log_likelihoods / torch.tensor([len(o.split()) for o in options])
            ).argmax(),
            "you divided by the number of words. The harness divides by characters: `len(option)`.",
        ),
        Wrong(
            lambda log_likelihoods, options: torch.tensor([len(o) for o in options]).argmax(),
            "you returned the longest option. The model's log-likelihoods must decide.",
        ),
    ),
)


def my_pass_at_k(n, c, k):
    """The chance that at least one of k programs passes, drawn without replacement from n of which c pass.

    Returns one number.
    """
    fails = 1.0
    for i in range(k):
        fails = fails * max(n - c - i, 0) / (n - i)
    return 1 - fails


PASS_AT_K = Exercise(
    id="pass-at-k",
    title="Pass at k",
    prompt=(
        "Write `my_pass_at_k(n, c, k)`: a model wrote `n` programs for one task, and `c` of them pass the tests. "
        "Return the chance that at least one of `k` programs passes when you draw k of the n *without replacement*."
    ),
    difficulty=3,
    minutes=12,
    hints=(
        "It is easier to say when all k fail. The first fails with probability (n − c) / n. And the second, once the first has failed?",
        "Multiply (n − c − i) / (n − i) for i from 0 to k − 1, and subtract from 1. `1 - math.comb(n - c, k) / math.comb(n, k)` is the same.",
    ),
    solution=my_pass_at_k,
    peer=lambda n, c, k: 1 - stats.hypergeom.pmf(0, n, c, k),
    cases=((20, 5, 10), (20, 5, 1), (10, 0, 5), (10, 9, 3), (7, 3, 4), (200, 12, 25)),
    wrong=(
        Wrong(
            lambda n, c, k: 1 - (1 - c / n) ** k,
            "you drew with replacement: after a failing program is drawn, one fewer is left. Your estimate is too low on average.",
        ),
        Wrong(
            lambda n, c, k: math.comb(n - c, k) / math.comb(n, k),
            "that is the chance that all k fail. Subtract it from 1.",
        ),
        Wrong(
            lambda n, c, k: math.comb(c, k) / math.comb(n, k),
            "that is the chance that all k pass. One that passes is enough.",
        ),
        Wrong(lambda n, c, k: c / n, "that is pass@1, whatever k is. More draws find a passing program more often."),
        Wrong(
            lambda n, c, k: min(1.0, k * c / n),
            "you added the chances of the k draws, and counted twice the cases in which several of them pass.",
        ),
    ),
)


def my_exact_match(prediction, answer, stop):
    """Whether a continuation gives the answer; all three are texts.

    Returns True or False. Cut, normalise, then compare.
    """
    text = prediction.strip().split(stop)[0]
    return text.lower().strip(" .,;:!?") == answer.lower().strip(" .,;:!?")


def _match_peer(prediction, answer, stop):
    head = re.match(rf"\s*(.*?)(?:{re.escape(stop)}|$)", prediction, re.DOTALL)[1]
    bare = [re.fullmatch(r"[ .,;:!?]*(.*?)[ .,;:!?]*", text.casefold(), re.DOTALL)[1] for text in (head, answer)]
    return bare[0] == bare[1]


MATCH = Exercise(
    id="normalised-exact-match",
    title="Cut, normalise, match",
    prompt=(
        "Write `my_exact_match(prediction, answer, stop)`: drop white space at the ends of the prediction, cut it at the first `stop`, "
        "then compare it with the answer. Upper and lower case, blanks, and the marks `.,;:!?` at the ends of either must make no difference."
    ),
    difficulty=2,
    minutes=10,
    hints=(
        "Strip first: a prediction that begins with the stop sequence would otherwise be cut to nothing.",
        '`text.split(stop)[0]` is what comes before the first stop. `text.strip(" .,;:!?")` removes blanks and marks from both ends.',
    ),
    solution=my_exact_match,
    peer=_match_peer,
    cases=(
        (" positive\n\nInput: dull film\nOutput: negative", "positive", "\n"),
        (" Positive.", "positive", "\n"),
        ("\n\nParis\nInput:", "Paris", "\n"),
        (" not positive", "positive", "\n"),
        (" positively bad", "positive", "\n"),
        (" negative\n\nInput: great film\nOutput: positive", "positive", "\n"),
        (" BLUE TIGER. The sky is clear.", "blue tiger.", "."),
    ),
    wrong=(
        Wrong(
            lambda prediction, answer, stop: prediction.strip().lower() == answer.strip().lower(),
            "you compared everything that the model wrote. A base model goes on with the next example: cut at the stop sequence first.",
        ),
        Wrong(
            lambda prediction, answer, stop: answer.lower().strip(" .,;:!?") in prediction.lower(),
            'you looked for the answer anywhere in the text. "not positive", and the next example, contain it as well.',
        ),
        Wrong(
            lambda prediction, answer, stop: prediction.strip().split(stop)[0].strip() == answer.strip(),
            "you cut, but did not normalise: case and a full stop at the end still make a difference.",
        ),
        Wrong(
            lambda prediction, answer, stop: (
                prediction.split(stop)[0].lower().strip(" .,;:!?") == answer.lower().strip(" .,;:!?")
            ),
            "you cut before you stripped: an answer behind an empty line is cut to nothing.",
        ),
        Wrong(
            lambda prediction, answer, stop: (
                prediction.strip().split(stop)[0].lower().startswith(answer.lower().strip(" .,;:!?"))
            ),
            'you compared beginnings only: "positively bad" begins with "positive".',
        ),
    ),
)


def my_lopsided_benchmark():
    """A benchmark of 100 items that the answerer "always B" wins.

    Returns a list of 100 pairs (options, answer): four texts, and the index of the right one.
    """
    key = [0, 1, 2, 3] * 5 + [1] * 68 + [0, 2, 3] * 4
    return [
        ([f"right {i}" if j == answer else f"wrong {i}.{j}" for j in range(4)], answer) for i, answer in enumerate(key)
    ]


def _always_b(items):
    """How many items the answerer gets right that chooses the second option unread."""
    return sum(options[1] == options[answer] for options, answer in items)


def _after_shuffling(items, shuffles=200):
    """The mean score of the same answerer when the options of each item are shuffled."""
    rng = np.random.default_rng(0)
    right = sum(options[rng.integers(4)] == options[answer] for _ in range(shuffles) for options, answer in items)
    return right / shuffles


def _verify_lopsided(items):
    items = [(list(options), int(answer)) for options, answer in items]
    if len(items) != 100:
        return f"return 100 items; you returned {len(items)}."
    if any(len(options) != 4 or answer not in range(4) for options, answer in items):
        return "each item is a pair of four options and the index, 0 to 3, of the right one."
    if (score := _always_b(items)) < 60:
        return f'"always B" is right in {score} of 100. Make B (index 1) the right answer more often, in 60 or more.'
    if not 20 <= (shuffled := _after_shuffling(items)) <= 30:
        return f'"always B" still gets {shuffled:.0f} of 100 after the options are shuffled. An item needs one right option and three that differ from it.'
    rare = min(range(4), key=lambda letter: sum(answer == letter for _, answer in items))
    if (count := sum(answer == rare for _, answer in items)) < 5:
        return f"option {'ABCD'[rare]} is right in {count} of 100: anybody notices. Let every letter be right 5 times or more."
    if (seen := sum(answer == 1 for _, answer in items[:20])) > 6:
        return f"a reviewer who reads the first 20 items finds B right in {seen} of them. Hide the bias: 6 at most."
    return None


LOPSIDED = Exercise(
    id="lopsided-key",
    title="A benchmark that a letter wins",
    prompt=(
        "An answerer that reads nothing and always says B should get 25 % on questions with four options. Write `my_lopsided_benchmark()`: "
        "100 items, each a pair of four option texts and the index of the right one, such that *always B* (index 1) scores at least 60, although each letter is right "
        "at least 5 times, and a reviewer who reads the first 20 items finds B right in at most 6. Shuffling the options must bring the answerer back to chance."
    ),
    difficulty=2,
    minutes=12,
    hints=(
        "Plan the key first: 100 numbers from 0 to 3. The first 20 are what the reviewer sees.",
        "`key = [0, 1, 2, 3] * 5 + [1] * 68 + [0, 2, 3] * 4`. Then give each item four different texts.",
    ),
    solution=my_lopsided_benchmark,
    verify=_verify_lopsided,
    wrong=(
        Wrong(
            lambda: my_lopsided_benchmark()[:50],
            "return 100 items; you returned 50.",
        ),
        Wrong(
            lambda: [(["a", "b", "c", "d"], i % 4) for i in range(100)],
            '"always B" is right in 25 of 100. Make B (index 1) the right answer more often, in 60 or more.',
        ),
        Wrong(
            lambda: [(["same"] * 4, i % 4) for i in range(100)],
            '"always B" still gets 100 of 100 after the options are shuffled. An item needs one right option and three that differ from it.',
        ),
        Wrong(
            lambda: [(["a", "b", "c", "d"], 1) for _ in range(100)],
            "option A is right in 0 of 100: anybody notices. Let every letter be right 5 times or more.",
        ),
        Wrong(
            lambda: [(["a", "b", "c", "d"], answer) for answer in [1] * 70 + [0, 2, 3] * 10],
            "a reviewer who reads the first 20 items finds B right in 20 of them. Hide the bias: 6 at most.",
        ),
        Wrong(
            lambda: [(["a", "b", "c"], 1)] * 100,
            "each item is a pair of four options and the index, 0 to 3, of the right one.",
        ),
    ),
)

EXERCISES = (SCORE_Z, CHOICE, PASS_AT_K, MATCH, LOPSIDED)
