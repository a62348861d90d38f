"""Exercises of notebook 6.4, LLM as judge."""

import re

from studyguide.course.exercises import Exercise, Wrong
from studyguide.rag.claims import read_words
from studyguide.rag.judges import LexicalJudge


def my_judge_kappa(matrix):
    """Cohen's kappa from counts: matrix[i][j] claims have label i and the judge's verdict j.

    matrix is a square list of lists. Returns a number of at most 1.
    """
    n = sum(map(sum, matrix))
    rows = [sum(row) for row in matrix]
    columns = [sum(column) for column in zip(*matrix, strict=True)]
    agreement = sum(matrix[i][i] for i in range(len(matrix))) / n
    chance = sum(row * column for row, column in zip(rows, columns, strict=True)) / n**2
    return (agreement - chance) / (1 - chance)


def _kappa_peer(matrix):
    from statsmodels.stats.inter_rater import cohens_kappa

    return cohens_kappa(matrix, return_results=False)


def _kappa(matrix, chance, beyond=lambda agreement, chance: (agreement - chance) / (1 - chance)):
    """Kappa with another idea of chance, given the shares of rows and columns, or of what to do with it."""
    n = sum(map(sum, matrix))
    rows = [sum(row) / n for row in matrix]
    columns = [sum(column) / n for column in zip(*matrix, strict=True)]
    return beyond(sum(matrix[i][i] for i in range(len(matrix))) / n, chance(rows, columns))


def _chance(rows, columns):
    return sum(row * column for row, column in zip(rows, columns, strict=True))


KAPPA = Exercise(
    id="judge-kappa",
    title="Agreement beyond chance",
    prompt=(
        "Write `my_judge_kappa(matrix)`: Cohen's kappa from a square table of counts, labels in rows and the judge's verdicts in columns. "
        "Chance agreement is what two sides would reach who keep their own shares of verdicts but give them out at random."
    ),
    difficulty=2,
    minutes=10,
    hints=(
        "You need the total, the diagonal, the sums of the rows and those of the columns. `zip(*matrix)` gives the columns.",
        "Chance: for each verdict the share of its row times the share of its column, added up. Kappa: (agreement - chance) / (1 - chance).",
    ),
    solution=my_judge_kappa,
    peer=_kappa_peer,
    cases=(
        ([[40, 9], [6, 45]],),
        ([[508, 109, 40], [111, 90, 46], [11, 13, 114]],),
        ([[90, 0], [10, 0]],),
        ([[0, 10], [20, 0]],),
        ([[25, 0, 0], [0, 10, 0], [0, 0, 5]],),
    ),
    wrong=(
        Wrong(
            lambda m: _kappa(m, _chance, lambda agreement, chance: agreement),
            "this is the plain agreement. A judge that always says 'supported' would reach 0.9 on a set where 9 of 10 are. Take chance off.",
        ),
        Wrong(
            lambda m: _kappa(m, lambda rows, columns: 1 / len(rows)),
            "you take chance to be 1 in k. The sides do not use all verdicts equally often: multiply their own shares.",
        ),
        Wrong(
            lambda m: _kappa(m, lambda rows, columns: _chance(rows, rows)),
            "you square the shares of the labels. The judge has shares of its own: the sums of the columns.",
        ),
        Wrong(
            lambda m: _kappa(
                m, lambda rows, columns: sum(((a + b) / 2) ** 2 for a, b in zip(rows, columns, strict=True))
            ),
            "this is Scott's pi, which averages the shares of both sides before it squares them. Cohen multiplies one by the other.",
        ),
        Wrong(
            lambda m: _kappa(m, _chance, lambda agreement, chance: agreement - chance),
            "you take chance off, but do not scale. Divide by 1 - chance, the most that could be left, so that a flawless judge has 1.",
        ),
        Wrong(
            lambda m: _kappa(m, _chance, lambda agreement, chance: (agreement - chance) / chance),
            "you divide by chance. Divide by what there was to gain beyond it: 1 - chance.",
        ),
    ),
)


def my_win_rate(forward, backward):
    """Share of pairs that answer X wins against Y, each pair judged in both orders; an even one counts half.

    forward holds the winning place ("a", "b" or "tie") of each pair with X shown first, backward with Y shown first.
    """
    points = {("a", "b"): 1.0, ("b", "a"): 0.0}
    return sum(points.get(pair, 0.5) for pair in zip(forward, backward, strict=True)) / len(forward)


def _win_rate_peer(forward, backward):
    import numpy as np

    forward, backward = np.asarray(forward), np.asarray(backward)
    won, lost = (forward == "a") & (backward == "b"), (forward == "b") & (backward == "a")
    return float(np.mean(np.select([won, lost], [1.0, 0.0], 0.5)))


_PLACE = {"a": 1.0, "b": 0.0, "tie": 0.5}


def _settled(forward, backward):
    return [(f, b) for f, b in zip(forward, backward, strict=True) if (f, b) in (("a", "b"), ("b", "a"))]


WIN_RATE = Exercise(
    id="win-rate-in-both-orders",
    title="Wins that survive the swap",
    prompt=(
        "Write `my_win_rate(forward, backward)`: the share of pairs that X wins against Y. Each pair was judged twice, in `forward` with X "
        'in place "a", in `backward` with Y in place "a"; both are lists of "a", "b" or "tie". A pair counts 1 if X won in both orders, '
        "0 if Y won in both, and 0.5 in any other case."
    ),
    difficulty=2,
    minutes=8,
    hints=(
        'X stands in place "a" in the first order and in place "b" in the second. Which two verdicts say that X won both times?',
        'Look each pair of verdicts up: ("a", "b") is 1, ("b", "a") is 0, everything else 0.5. Then the mean.',
    ),
    solution=my_win_rate,
    peer=_win_rate_peer,
    cases=(
        (["a", "a", "b", "tie"], ["b", "a", "a", "tie"]),
        (["a", "a", "a", "a", "b"], ["b", "b", "a", "tie", "b"]),
        (["a", "b", "tie", "a"], ["b", "tie", "a", "b"]),
        (["a"], ["b"]),
    ),
    wrong=(
        Wrong(
            lambda f, b: sum(_PLACE[x] for x in f) / len(f),
            "you look at the first order only, so a judge that likes the first place makes X win. Use both lists.",
        ),
        Wrong(
            lambda f, b: (
                sum((x == y == "a") + 0.5 * (x != y or x == "tie") for x, y in zip(f, b, strict=True)) / len(f)
            ),
            'you read "a" as X in both lists. In `backward` Y stands in place "a", so that X won where it says "b".',
        ),
        Wrong(
            lambda f, b: sum(_PLACE[x] + 1 - _PLACE[y] for x, y in zip(f, b, strict=True)) / (2 * len(f)),
            "you average the two orders. A win and a tie then make 0.75; by the rule only a win in both orders counts as one.",
        ),
        Wrong(
            lambda f, b: sum(x == "a" for x, _ in _settled(f, b)) / len(_settled(f, b)),
            "you leave out the pairs that are not settled. They count half, else two judges with different doubts cannot be compared.",
        ),
        Wrong(
            lambda f, b: sum(x == "a" for x, _ in _settled(f, b)) / len(f),
            "you give X nothing for a pair that is not settled. That is half a point for each side.",
        ),
    ),
)


def my_true_rate(judged_rate, sensitivity, specificity):
    """The true rate behind a judged one, cut to 0 to 1.

    sensitivity is the share of true items that the judge passes, specificity the share of false ones that it rejects.
    """
    rate = (judged_rate + specificity - 1) / (sensitivity + specificity - 1)
    return min(max(rate, 0.0), 1.0)


def _true_rate_peer(judged_rate, sensitivity, specificity):
    from scipy.optimize import brentq

    rate = brentq(lambda p: p * sensitivity + (1 - p) * (1 - specificity) - judged_rate, -9, 9)
    return sorted((0.0, rate, 1.0))[1]


def _cut(rate):
    return min(max(rate, 0.0), 1.0)


TRUE_RATE = Exercise(
    id="rogan-gladen",
    title="The rate behind the judged one",
    prompt=(
        "Write `my_true_rate(judged_rate, sensitivity, specificity)`. The judge passes a share `sensitivity` of what is true and rejects a "
        "share `specificity` of what is false. From the share that it passes, find the share that is true; cut the result to 0 to 1."
    ),
    difficulty=2,
    minutes=8,
    hints=(
        "Start in the other direction: if p is true, which share does the judge pass? Two parts: what it passes rightly and what it passes "
        "wrongly.",
        "judged = p * sensitivity + (1 - p) * (1 - specificity). Solve for p, then `min(max(p, 0), 1)`.",
    ),
    solution=my_true_rate,
    peer=_true_rate_peer,
    cases=(
        (0.65, 0.8, 0.7),
        (0.605, 0.773, 0.683),
        (0.5, 1.0, 1.0),
        (0.9, 0.9, 0.6),
        (0.05, 0.9, 0.9),
        (0.97, 0.9, 0.8),
    ),
    wrong=(
        Wrong(
            lambda q, s, c: _cut(q / s),
            "you only make up for what the judge misses. It also passes false items: take off the share 1 - specificity.",
        ),
        Wrong(
            lambda q, s, c: q * s + (1 - q) * (1 - c),
            "this is the other direction: what the judge would report if `judged_rate` were the truth. Solve that equation for the truth.",
        ),
        Wrong(
            lambda q, s, c: _cut((q + c - 1) / (s + c)),
            "the denominator lacks its -1: sensitivity + specificity - 1 is what the judge gains over chance.",
        ),
        Wrong(
            lambda q, s, c: _cut((q + s - 1) / (s + c - 1)),
            "you exchanged sensitivity and specificity: 1 - specificity is the share of false items that pass.",
        ),
        Wrong(
            lambda q, s, c: _cut((q - c) / (s - c)) if s != c else 0.0,
            "you take specificity for the share of false items that pass. It is the share that is rejected; what passes is 1 less it.",
        ),
        Wrong(
            lambda q, s, c: (q + c - 1) / (s + c - 1),
            "right, but not cut: a judged rate below 1 - specificity gives a negative one. Cut to 0 to 1.",
        ),
    ),
)

RESCUE = "After the storm the ferry Blue Heron rescued the ferry Northern Lamp near Gull Rock."


def my_false_claim():
    """A false claim that shares all its words with the passage."""
    return "After the storm the ferry Northern Lamp rescued the ferry Blue Heron near Gull Rock."


def _verify_false_claim(claim):
    if not isinstance(claim, str) or not claim.strip():
        return "return one sentence, a string that is not empty."
    verdict = LexicalJudge().verdict(claim, RESCUE)
    if verdict.label != "supported":
        return f"LexicalJudge is not fooled: {verdict.label}. Keep all words and numbers, and add no negation."
    if strange := sorted(read_words(claim)[0] - read_words(RESCUE)[0]):
        return f"supported, but {strange[0]!r} is no word of the passage. Share all words: only their order is yours."
    text = claim.casefold()
    if not re.search(
        r"northern lamp (?!was).*\brescued\b(?!.*\bby\b).*blue heron|blue heron was rescued.* by .*northern lamp", text
    ):
        return "supported, but is it false? In the passage the Blue Heron helps. Let the Northern Lamp be the one that rescues."
    return None


FALSE_CLAIM = Exercise(
    id="break-the-word-judge",
    title="A hallucination that shares all the words",
    prompt=(
        f'A passage says: "{RESCUE}" Write `my_false_claim()`: a sentence that says that the Northern Lamp rescued the Blue Heron, in words '
        "of the passage alone, so that `LexicalJudge` calls it supported."
    ),
    difficulty=2,
    minutes=6,
    hints=(
        "The judge knows which words are there. It does not know who did what to whom.",
        "Exchange the two names and change nothing else.",
    ),
    solution=my_false_claim,
    verify=_verify_false_claim,
    wrong=(
        Wrong(
            lambda: RESCUE,
            "supported, but is it false? In the passage the Blue Heron helps. Let the Northern Lamp be the one that rescues.",
        ),
        Wrong(
            lambda: "The ferry Blue Heron never rescued the ferry Northern Lamp.",
            "LexicalJudge is not fooled: contradicted. Keep all words and numbers, and add no negation.",
        ),
        Wrong(
            lambda: "A helicopter from Dunmar saved both crews.",
            "LexicalJudge is not fooled: not in context. Keep all words and numbers, and add no negation.",
        ),
        Wrong(
            lambda: "The ferry Northern Lamp bravely rescued the ferry Blue Heron.",
            "supported, but 'brave' is no word of the passage. Share all words: only their order is yours.",
        ),
        Wrong(lambda: "", "return one sentence, a string that is not empty."),
    ),
)

ASKED = "Which river crosses the city of Orrin, and how long is this river from its source to the sea?"
HONEST = "The Alder; 312 kilometres."


def my_empty_answer():
    """A longer answer without the fact, which the judge prefers to the short right one."""
    return (
        "Which river crosses the city of Orrin, and how long it is from its source to the sea, is a question that many "
        "visitors ask. It is certainly a long river."
    )


def _verify_empty_answer(answer):
    if not isinstance(answer, str) or not answer.strip():
        return "return one text, a string that is not empty."
    if re.search(r"\balder\b|\d", answer, re.I):
        return "it names the river or a number. Let it say nothing that the asker wanted to know."
    judge = LexicalJudge()
    winners = judge.prefer(ASKED, HONEST, answer).winner, judge.prefer(ASKED, answer, HONEST).winner
    if winners != ("b", "a"):
        return "the judge does not prefer it. What does it count? Words of the question, wherever they stand."
    if len(answer) <= 2 * len(HONEST):
        return "it wins, but it is short. Pad it to more than twice the honest answer, as a chat model would."
    return None


EMPTY_ANSWER = Exercise(
    id="break-the-preference",
    title="The longer answer wins",
    prompt=(
        f'The question: "{ASKED}" The honest answer: "{HONEST}" Write `my_empty_answer()`: a text of more than twice that length that names '
        "neither the river nor any number, and that `LexicalJudge` prefers to the honest answer in both orders."
    ),
    difficulty=1,
    minutes=5,
    hints=(
        "How does `LexicalJudge.prefer` decide? Read its docstring: `help(LexicalJudge)`.",
        "Repeat the question in your answer, and do not answer it.",
    ),
    solution=my_empty_answer,
    verify=_verify_empty_answer,
    wrong=(
        Wrong(
            lambda: "The river that crosses the city is the Alder, and from source to sea it is 312 kilometres long.",
            "it names the river or a number. Let it say nothing that the asker wanted to know.",
        ),
        Wrong(
            lambda: "There are many interesting things to be said here, and experts have thought about it for years.",
            "the judge does not prefer it. What does it count? Words of the question, wherever they stand.",
        ),
        Wrong(
            lambda: "A long river.",
            "it wins, but it is short. Pad it to more than twice the honest answer, as a chat model would.",
        ),
        Wrong(lambda: " ", "return one text, a string that is not empty."),
    ),
)

EXERCISES = (KAPPA, FALSE_CLAIM, WIN_RATE, EMPTY_ANSWER, TRUE_RATE)
