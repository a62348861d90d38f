"""Exercises of notebook 4.2."""

import math
import re
from collections import Counter
from itertools import combinations, groupby

from studyguide.course.exercises import Exercise, Wrong
from studyguide.datasets import tinyworld
from studyguide.text.rouge import rouge_l, rouge_n


def _words(hypothesis, reference, *more):
    """A case: two texts as lists of words."""
    return hypothesis.split(), reference.split(), *more


def my_rouge_n(hypothesis, reference, n):
    """Precision, recall and F1 of the n-grams of two lists of words.

    Returns a list of three numbers; all 0 where nothing matches.
    """
    own, other = (
        Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1)) for words in (hypothesis, reference)
    )
    matches = (own & other).total()
    if not matches:
        return [0.0, 0.0, 0.0]
    precision, recall = matches / own.total(), matches / other.total()
    return [precision, recall, 2 * precision * recall / (precision + recall)]


def _rouge_n_peer(hypothesis, reference, n):
    from rouge_score.rouge_scorer import RougeScorer

    score = RougeScorer([f"rouge{n}"]).score(" ".join(reference), " ".join(hypothesis))[f"rouge{n}"]
    return [score.precision, score.recall, score.fmeasure]


def _grams(words, n):
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def _three(matches_own, matches_other, own, other):
    precision, recall = matches_own / max(own, 1), matches_other / max(other, 1)
    return [precision, recall, 2 * precision * recall / (precision + recall) if precision + recall else 0.0]


def _unclipped(hypothesis, reference, n):
    own, other = _grams(hypothesis, n), _grams(reference, n)
    return _three(sum(gram in other for gram in own), sum(gram in own for gram in other), len(own), len(other))


def _as_sets(hypothesis, reference, n):
    own, other = set(_grams(hypothesis, n)), set(_grams(reference, n))
    return _three(len(own & other), len(own & other), len(own), len(other))


def _over_words(hypothesis, reference, n):
    matches = (Counter(_grams(hypothesis, n)) & Counter(_grams(reference, n))).total()
    return _three(matches, matches, len(hypothesis), len(reference))


def _arithmetic(hypothesis, reference, n):
    precision, recall, _ = my_rouge_n(hypothesis, reference, n)
    return [precision, recall, (precision + recall) / 2]


ROUGE_N = Exercise(
    id="rouge-n-three-numbers",
    title="Three numbers from one overlap",
    prompt=(
        "Write `my_rouge_n(hypothesis, reference, n)`: precision, recall and F1 of the n-grams of two lists of words. An n-gram "
        "matches as often as both sides have it. Where nothing matches, or a side has no n-gram, all three are 0."
    ),
    difficulty=2,
    minutes=10,
    hints=(
        "Count the n-grams of each side with a Counter. `a & b` keeps of each the smaller count.",
        "Precision divides the matches by the n-grams of the hypothesis, recall by those of the reference. Guard the zero first.",
    ),
    solution=my_rouge_n,
    peer=_rouge_n_peer,
    cases=(
        _words("the cat the cat on the mat", "the cat sat on the mat", 1),
        _words("the cat the cat on the mat", "the cat sat on the mat", 2),
        _words("a b a b a b", "a b", 2),
        _words("a b", "b a", 2),
        _words("", "a b", 1),
        _words("a b", "", 1),
    ),
    wrong=(
        Wrong(
            _unclipped,
            "each n-gram counts as often as its own side has it. Clip: it matches as often as both sides have it, the smaller count.",
        ),
        Wrong(
            _as_sets,
            "you compare sets, so that a repeated n-gram counts once. Count with Counter, and keep the smaller count.",
        ),
        Wrong(
            lambda hypothesis, reference, n: [my_rouge_n(hypothesis, reference, n)[i] for i in (1, 0, 2)],
            "precision and recall are swapped. Precision asks how much of the hypothesis was right: divide by its n-grams.",
        ),
        Wrong(
            _over_words, "you divide by the number of words. A text of m words has m - n + 1 n-grams: divide by those."
        ),
        Wrong(
            _arithmetic,
            "F1 is the harmonic mean, 2PR / (P + R). You took the arithmetic one, which forgives a low side.",
        ),
        Wrong(
            lambda hypothesis, reference, n: my_rouge_n(hypothesis, reference, n)[1],
            "this is the recall alone. Return precision, recall and F1.",
        ),
    ),
)


def my_lcs_length(a, b):
    """Length of the longest common subsequence of two lists of words."""
    row = [0] * (len(b) + 1)
    for x in a:
        above, row = row, [0]
        for j, y in enumerate(b):
            row.append(above[j] + 1 if x == y else max(above[j + 1], row[j]))
    return row[-1]


def _lcs_peer(a, b):
    """By definition: the longest selection of words of `a`, in their order, that `b` has too."""
    chosen = ([set(combinations(words, k)) for k in range(len(words) + 1)] for words in (a, b))
    return max(k for k, (x, y) in enumerate(zip(*chosen, strict=False)) if x & y)


def _substring(a, b):
    runs = {tuple(a[i:j]) for i in range(len(a)) for j in range(i + 1, len(a) + 1)}
    return max((j - i for i in range(len(b)) for j in range(i + 1, len(b) + 1) if tuple(b[i:j]) in runs), default=0)


def _greedy(a, b):
    found, start = 0, 0
    for word in a:
        if word in b[start:]:
            start += b[start:].index(word) + 1
            found += 1
    return found


def _additive(a, b):
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1][j + 1] = max(table[i][j + 1], table[i + 1][j]) + (x == y)
    return table[-1][-1]


LCS = Exercise(
    id="lcs-length",
    title="The longest common subsequence",
    prompt=(
        "Write `my_lcs_length(a, b)`: the length of the longest list of words that both texts contain in the same order, gaps "
        "allowed. Fill the table of the section row by row; only the row above is needed."
    ),
    difficulty=3,
    minutes=12,
    hints=(
        "Start with a row of zeros. For each word of `a`, make a new row that begins with 0.",
        "If the two words are equal: the entry above and to the left, plus 1. If not: the larger of the entry above and the entry to the left.",
    ),
    solution=my_lcs_length,
    peer=_lcs_peer,
    cases=(
        _words("the cat sat on the mat", "the cat lay on a mat"),
        _words("mat the on sat cat the", "the cat sat on the mat"),
        _words("a b c d", "d a b c"),
        _words("d a b c", "a b c d"),
        _words("a a b", "a b a"),
        _words("", "a b"),
        _words("a", "b"),
    ),
    wrong=(
        Wrong(
            _substring,
            "this is the longest common substring, without gaps. A subsequence may leave words out: keep order, allow gaps.",
        ),
        Wrong(
            lambda a, b: (Counter(a) & Counter(b)).total(),
            "this counts common words in any order, which is ROUGE-1's overlap. The order must be the same in both texts.",
        ),
        Wrong(
            _greedy,
            "you take each word of `a` as soon as `b` still has it. An early match can block several later ones; the table tries both.",
        ),
        Wrong(
            _additive,
            "on equal words you add 1 to the entry above or to the left, so that one word can match twice. Add it to the one diagonally above.",
        ),
        Wrong(
            lambda a, b: my_lcs_length(a, b) / max(len(a), 1),
            "this is already divided by a length, as in recall. Return the length of the subsequence itself.",
        ),
    ),
)


def my_meteor(alignment, hypothesis_length, reference_length):
    """METEOR (alpha 0.9, beta 3, gamma 0.5) of an alignment.

    alignment is a list of pairs (position in the hypothesis, position in the reference), sorted. Returns one number.
    """
    if not alignment:
        return 0.0
    chunks = sum((i - 1, j - 1) not in alignment for i, j in alignment)
    precision, recall = len(alignment) / hypothesis_length, len(alignment) / reference_length
    f_mean = precision * recall / (0.9 * precision + 0.1 * recall)
    return (1 - 0.5 * (chunks / len(alignment)) ** 3) * f_mean


def _meteor_peer(alignment, hypothesis_length, reference_length):
    """The formula of 2005, 10PR / (R + 9P); a chunk is a run in which both positions keep their distance to the rank."""
    if not alignment:
        return 0.0
    chunks = len(list(groupby(enumerate(alignment), lambda pair: (pair[1][0] - pair[0], pair[1][1] - pair[0]))))
    p, r = len(alignment) / hypothesis_length, len(alignment) / reference_length
    return 10 * p * r / (r + 9 * p) * (1 - (chunks / len(alignment)) ** 3 / 2)


def _chunks(alignment):
    return sum((i - 1, j - 1) not in alignment for i, j in alignment)


def _meteor_variant(alpha=0.9, power=3, chunks=_chunks):
    def variant(alignment, hypothesis_length, reference_length):
        if not alignment:
            return 0.0
        p, r = len(alignment) / hypothesis_length, len(alignment) / reference_length
        return (1 - 0.5 * (chunks(alignment) / len(alignment)) ** power) * p * r / (alpha * p + (1 - alpha) * r)

    return variant


METEOR = Exercise(
    id="meteor-from-alignment",
    title="METEOR from an alignment",
    prompt=(
        "Write `my_meteor(alignment, hypothesis_length, reference_length)`: count the chunks of the alignment, the runs in which "
        "both positions go up by one, and return the score with alpha 0.9, beta 3 and gamma 0.5. Without a match it is 0."
    ),
    difficulty=3,
    minutes=12,
    hints=(
        "The first pair opens a chunk. Each later pair opens a new one unless both its positions follow those of the pair before.",
        "F = PR / (0.9 P + 0.1 R), so that recall weighs most. Then take off half the cube of chunks / matches.",
    ),
    solution=my_meteor,
    peer=_meteor_peer,
    cases=(
        ([(0, 0), (1, 1), (2, 2)], 3, 3),
        ([(0, 3), (1, 4), (2, 5), (3, 2), (4, 0), (5, 1)], 6, 6),
        ([(0, 0), (1, 2), (2, 3)], 5, 4),
        ([(0, 0), (2, 1), (3, 2)], 8, 3),
        ([(1, 4)], 2, 10),
        ([], 4, 4),
    ),
    wrong=(
        Wrong(
            _meteor_variant(chunks=lambda alignment: _chunks(alignment) - 1),
            "you count the breaks between chunks. There is one chunk more than breaks: start at 1.",
        ),
        Wrong(
            _meteor_variant(chunks=lambda alignment: len({j for _, j in alignment} - {j + 1 for _, j in alignment})),
            "you look for gaps in the reference's positions only. A chunk must be unbroken, and in order, on both sides.",
        ),
        Wrong(
            _meteor_variant(alpha=0.1),
            "precision and recall have changed places. With alpha 0.9 the F is PR / (0.9 P + 0.1 R), close to recall.",
        ),
        Wrong(
            _meteor_variant(alpha=0.5),
            "this is F1, with equal weights. METEOR's F weighs recall nine times as much as precision.",
        ),
        Wrong(
            _meteor_variant(power=1),
            "the penalty grows with the cube of chunks / matches. You left the exponent beta = 3 out.",
        ),
        Wrong(
            _meteor_variant(chunks=lambda alignment: 0),
            "this is the F alone. Take the penalty for broken order off it.",
        ),
    ),
)

TRUTH = (
    "The sun rises in the east. Water freezes at zero degrees. The largest animal in the sea is the whale. "
    "Cheese is made from milk. A doctor works in a hospital."
)


def my_falsehoods():
    """A summary of five sentences, each of them fluent and false, with ROUGE-1 and ROUGE-L above 0.8."""
    return (
        "The sun rises in the west. Water freezes at ten degrees. The largest animal in the sea is the shark. "
        "Cheese is made from flour. A doctor works in a school."
    )


def _is_true(sentence):
    """Whether the last word that tinyworld leaves open is the one that it says most often; facts are true nine times in ten."""
    words = sentence.split(" ")
    for end in range(len(words) - 1, 0, -1):
        options = tinyworld.next_word_distribution(" ".join(words[:end]))
        if len(options) > 1:
            return words[end].strip(".") == max(options, key=options.get)
    return False


def _verify_falsehoods(answer):
    if not isinstance(answer, str):
        return "return one str: five sentences, each ending in a full stop."
    sentences = [sentence.strip() for sentence in re.findall(r"[^.]+\.", answer)]
    if len(sentences) != 5:
        return (
            f"the number of sentences is {len(sentences)}; the reference has five, and each of yours must answer one."
        )
    for sentence in sentences:
        if tinyworld.log_prob(sentence) == -math.inf:
            return (
                f"nobody in tinyworld says {sentence!r}. Keep the sentence and change the word that carries the fact; "
                "`tinyworld.next_word_distribution` of what comes before shows the choices."
            )
        if _is_true(sentence):
            return f"{sentence!r} is true. Every sentence must be false."
    scores = rouge_n(answer, [TRUTH]).f1, rouge_l(answer, [TRUTH]).f1
    if min(scores) <= 0.8:
        return (
            f"false throughout, but ROUGE-1 is {scores[0]:.2f} and ROUGE-L {scores[1]:.2f}: too far from the reference. "
            "One wrong word per sentence is enough."
        )
    return None


FALSEHOODS = Exercise(
    id="break-rouge-falsehood",
    title="Fluent, false and above .8",
    prompt=(
        f'The reference is "{TRUTH}" Write `my_falsehoods()`: a text of five sentences, *all five* false, that still has ROUGE-1 '
        "and ROUGE-L above 0.8. It must be fluent, too: each sentence must be one that tinyworld can say, so that "
        "`tinyworld.log_prob(sentence)` is above -inf."
    ),
    difficulty=3,
    minutes=10,
    hints=(
        "The reference has 31 words. How many may be wrong before 0.8 is reached, and how many must be?",
        '`tinyworld.next_word_distribution("The sun rises in the")` shows what may stand there. Take what is not true.',
    ),
    solution=my_falsehoods,
    verify=_verify_falsehoods,
    wrong=(
        Wrong(lambda: TRUTH, "'The sun rises in the east.' is true. Every sentence must be false."),
        Wrong(
            lambda: TRUTH.replace("rises", "sets").replace("east", "west"),
            "'The sun sets in the west.' is true. Every sentence must be false.",
        ),
        Wrong(
            lambda: my_falsehoods().replace("flour", "milk"),
            "'Cheese is made from milk.' is true. Every sentence must be false.",
        ),
        Wrong(
            lambda: TRUTH.replace("rises", "does not rise"),
            "nobody in tinyworld says 'The sun does not rise in the east.'. Keep the sentence and change the word that carries the fact; "
            "`tinyworld.next_word_distribution` of what comes before shows the choices.",
        ),
        Wrong(
            lambda: "Honey tastes bitter. Grass is blue. The sun sets in the north. Hens lay feathers. Coal is brown.",
            "nobody in tinyworld says 'The sun sets in the north.'. Keep the sentence and change the word that carries the fact; "
            "`tinyworld.next_word_distribution` of what comes before shows the choices.",
        ),
        Wrong(
            lambda: "Honey tastes bitter. Grass is blue. The sun sets in the south. Hens lay feathers. Coal is brown.",
            "false throughout, but ROUGE-1 is 0.24 and ROUGE-L 0.20: too far from the reference. One wrong word per sentence is enough.",
        ),
        Wrong(
            lambda: "The sun rises in the west.",
            "the number of sentences is 1; the reference has five, and each of yours must answer one.",
        ),
        Wrong(
            lambda: ["The sun rises in the west."] * 5, "return one str: five sentences, each ending in a full stop."
        ),
    ),
)

EXERCISES = (ROUGE_N, LCS, METEOR, FALSEHOODS)
