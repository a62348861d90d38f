"""Exercises of notebook 3.5, context length."""

import numpy as np
import torch

from studyguide.course.exercises import Exercise, Wrong


def my_split(length, depth, statement, question):
    """Filler tokens before and after the statement, as a pair.

    The prompt has `length` tokens: filler, the statement, filler, the question. depth is 0 (statement first) to 1 (right
    before the question). What comes before is rounded down.
    """
    room = length - statement - question
    before = int(depth * room)
    return before, room - before


def _split_peer(length, depth, statement, question):
    """Hand out the filler tokens one by one."""
    places = [i + 1 for i in range(length - statement - question)]
    before = sum(place <= depth * len(places) for place in places)
    return before, len(places) - before


SPLIT = Exercise(
    id="place-the-needle",
    title="Where the password goes",
    prompt=(
        "Write `my_split(length, depth, statement, question)`: how many filler tokens come before the statement and how many after it, "
        "so that the prompt has exactly `length` tokens and the statement has `depth` of the filler before it, rounded down."
    ),
    difficulty=2,
    minutes=8,
    hints=(
        "The statement and the question take their tokens first. What is left is the room for filler.",
        "`before` is depth times the room, rounded down with int(). The rest of the room comes after.",
    ),
    solution=my_split,
    peer=_split_peer,
    cases=((64, 0.5, 7, 10), (255, 1.0, 7, 10), (100, 0.0, 7, 10), (255, 0.25, 9, 12), (17, 0.5, 7, 10)),
    wrong=(
        Wrong(
            lambda length, depth, statement, question: (
                int(depth * length),
                length - statement - question - int(depth * length),
            ),
            "you took depth of the whole prompt. At depth 1 no room is left for the question: take it of the filler only.",
        ),
        Wrong(
            lambda length, depth, statement, question: my_split(length + question, depth, statement, question),
            "the question is missing from your count, so the prompt gets too long. It takes its tokens first.",
        ),
        Wrong(
            lambda length, depth, statement, question: my_split(length + statement, depth, statement, question),
            "the statement is missing from your count, so the prompt gets too long. It takes its tokens first.",
        ),
        Wrong(
            lambda length, depth, statement, question: my_split(length, depth, statement, question)[::-1],
            "before and after are swapped: depth 0 means that nothing comes before the statement.",
        ),
        Wrong(
            lambda length, depth, statement, question: tuple(
                int(share * (length - statement - question)) for share in (depth, 1 - depth)
            ),
            "you round twice, so that a token goes missing. Round what comes before; the rest of the room comes after.",
        ),
    ),
)


def my_attention_share(n, d):
    """Share of attention in the multiply-adds of one transformer block, 0 to 1, for a text of n tokens and a width of d.

    The block has four d x d projections, an MLP of d x 4d and 4d x d, and two attention products over all n x n pairs.
    """
    attention = 2 * n * n * d
    linear = 4 * n * d * d + 8 * n * d * d
    return attention / (attention + linear)


def _share_peer(n, d):
    """Every matrix product (rows, inner, columns) of a block, counted one by one."""
    linear = [(n, d, d)] * 4 + [(n, d, 4 * d), (n, 4 * d, d)]
    pairs = [(n, d, n), (n, n, d)]
    cost = [np.sum([np.prod(shape, dtype=float) for shape in products]) for products in (pairs, linear)]
    return cost[0] / np.sum(cost)


SHARE = Exercise(
    id="attention-share",
    title="The share of attention",
    prompt=(
        "Write `my_attention_share(n, d)`: which share of a transformer block's work is attention over pairs of tokens. Count the "
        "multiply-adds of all its matrix products; a product of (a, b) and (b, c) has a · b · c of them."
    ),
    difficulty=2,
    minutes=8,
    hints=(
        "There are two kinds of products. Those with the weights grow like n d², those between tokens like n² d.",
        "Weights: 4 n d² for queries, keys, values and output, 8 n d² for the MLP. Pairs: n² d for the scores, and n² d again.",
    ),
    solution=my_attention_share,
    peer=_share_peer,
    cases=((1024, 4096), (24_576, 4096), (131_072, 4096), (256, 128)),
    wrong=(
        Wrong(
            lambda n, d: n / (n + 12 * d),
            "you counted one product over the pairs. There are two: the scores, and the weighted sum of the values.",
        ),
        Wrong(
            lambda n, d: n / (n + 2 * d),
            "the MLP is missing. It holds two thirds of the weights: 8 n d² multiply-adds.",
        ),
        Wrong(
            lambda n, d: n / (n + 4 * d),
            "the four projections are missing. Queries, keys, values and output cost n d² each.",
        ),
        Wrong(
            lambda n, d: 6 * d / (n + 6 * d),
            "this is the share of the linear layers. Attention is the rest.",
        ),
        Wrong(
            lambda n, d: n / (6 * d),
            "this is attention divided by the linear layers. A share divides by both together.",
        ),
        Wrong(
            lambda n, d: n / (n + 3 * d),
            "you took an MLP of width d, not 4d: its two products cost 4 n d² each.",
        ),
    ),
)


def my_contrasts(recall):
    """Three differences of a recall grid (depths, lengths), the depths from 0 to 1 and the lengths growing.

    Returns three numbers: mean recall at the shortest length less that at the longest; then, at the longest length only,
    the last depth less the first, and the mean of these two less the middle depth.
    """
    longest = recall[:, -1]
    ends = (longest[0] + longest[-1]) / 2
    middle = longest[len(longest) // 2]
    return torch.stack([recall[:, 0].mean() - longest.mean(), longest[-1] - longest[0], ends - middle])


def _contrasts_peer(recall):
    grid = recall.numpy()
    weights = np.zeros((3, *grid.shape))
    depths = len(grid)
    weights[0, :, 0] += 1 / depths
    weights[0, :, -1] -= 1 / depths
    weights[1, [0, -1], -1] = -1, 1
    weights[2, [0, depths // 2, -1], -1] = 0.5, -1, 0.5
    return np.einsum("kij,ij->k", weights, grid)


def _grid(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def _changed(at, value):
    """The right contrasts with one of them replaced by ``value(recall)``."""

    def answer(recall):
        contrasts = my_contrasts(recall)
        contrasts[at] = value(recall)
        return contrasts

    return answer


CONTRASTS = Exercise(
    id="grid-contrasts",
    title="What the grid says about the cause",
    prompt=(
        "Write `my_contrasts(recall)`: three differences that tell the causes apart. First, mean recall over all depths at the shortest "
        "length less the same at the longest. Then, at the longest length: the last depth less the first; and the mean of these two less the middle depth."
    ),
    difficulty=3,
    minutes=10,
    hints=(
        "Rows are depths, columns lengths: `recall[:, -1]` is the longest length at every depth.",
        "Average a column for the first number. For the third, `longest[len(longest) // 2]` is the middle depth.",
    ),
    solution=my_contrasts,
    peer=_contrasts_peer,
    cases=(
        (_grid([1.0, 0.9, 0.0], [1.0, 1.0, 0.1], [1.0, 1.0, 1.0]),),
        (_grid([1.0, 0.8, 0.2], [0.9, 0.7, 0.3], [1.0, 0.6, 0.1]),),
        (_grid([1.0, 0.95], [0.9, 0.5], [0.85, 0.1], [0.95, 0.4], [1.0, 0.9]),),
    ),
    wrong=(
        Wrong(
            _changed(0, lambda recall: recall[0, 0] - recall[recall.shape[0] // 2, -1]),
            "your first number compares one cell with one cell of another depth: the confounded test again. Average over the depths.",
        ),
        Wrong(
            _changed(0, lambda recall: recall[:, -1].mean() - recall[:, 0].mean()),
            "your first number has the wrong sign: shortest less longest, so that forgetting counts as positive.",
        ),
        Wrong(
            _changed(0, lambda recall: recall[0, 0] - recall[0, -1]),
            "your first number looks at depth 0 only. Average over all depths.",
        ),
        Wrong(
            _changed(1, lambda recall: (recall[-1] - recall[0]).mean()),
            "your second number averages over the lengths. At short lengths nothing is forgotten yet; take the longest.",
        ),
        Wrong(
            _changed(1, lambda recall: recall[0, -1] - recall[-1, -1]),
            "your second number has the wrong sign: the last depth less the first, positive where only the end is remembered.",
        ),
        Wrong(
            _changed(2, lambda recall: recall[:, -1].mean() - recall[recall.shape[0] // 2, -1]),
            "your third number compares the middle with all depths, itself among them. Compare with the first and the last.",
        ),
        Wrong(
            _changed(2, lambda recall: recall[recall.shape[0] // 2, -1] - recall[[0, -1], -1].mean()),
            "your third number has the wrong sign: the ends less the middle, positive where the middle is lost.",
        ),
    ),
)

MEMORY, STATEMENT, QUESTION = 64, 7, 10  # tokens


def my_suite():
    """Cells of a needle test, as a list of pairs (depth, length)."""
    return [(0.0, 64), (0.25, 64), (0.6, 128), (0.75, 192), (0.9, 255), (1.0, 255)]


def _verify_suite(answer):
    cells = [(float(depth), int(length)) for depth, length in answer]
    depths, lengths = zip(*cells, strict=True)
    if len(set(cells)) < 6:
        return f"{len(set(cells))} different cells; give six or more."
    if min(depths) < 0 or max(depths) > 1 or min(lengths) < STATEMENT + QUESTION or max(lengths) > 255:
        return "depths go from 0 to 1, lengths from 17 to 255 tokens."
    if max(lengths) < 240 or len(set(lengths)) < 3:
        return "no one believes a test of short prompts: take three lengths or more, one of them 240 tokens at least."
    if min(depths) > 0.1 or max(depths) < 0.9 or len(set(depths)) < 4:
        return "the report must show four depths or more, from 0.1 or less to 0.9 or more."
    for depth, length in cells:
        distance = length - my_split(length, depth, STATEMENT, QUESTION)[0]
        if distance > MEMORY:
            return _lost(depth, length, distance)
    return None


def _lost(depth, length, distance):
    return (
        f"the assistant fails at depth {depth:g}, length {length}: the statement begins {distance} tokens before "
        f"the end, and it keeps {MEMORY}. Which depths can a prompt of that length have?"
    )


SUITE = Exercise(
    id="break-needle-test",
    title="Perfect recall without a memory",
    prompt=(
        f"An assistant keeps only the last {MEMORY} tokens of its prompt. Write `my_suite()`: a needle test, as a list of (depth, length), on which it recalls "
        "every password. So that nobody gets suspicious, the report must show six cells or more, four depths or more from 0.1 or less to 0.9 or more, "
        f"and three lengths or more up to 240 tokens or beyond (255 at most). The statement has {STATEMENT} tokens, the question {QUESTION}; "
        "what comes before the statement is depth times the rest, rounded down."
    ),
    difficulty=3,
    minutes=10,
    hints=(
        "The report shows which depths and which lengths there are, not which of them meet.",
        "Early depths only in short prompts: at 64 tokens any depth will do, at 255 the depth must be about 0.8 or more.",
    ),
    solution=my_suite,
    verify=_verify_suite,
    wrong=(
        Wrong(
            lambda: [(depth, length) for length in (64, 128, 255) for depth in (0.0, 0.5, 0.75, 1.0)],
            _lost(0.0, 128, 128),
        ),
        Wrong(
            lambda: [(0.0, 64), (0.5, 64), (0.5, 128), (0.75, 192), (0.9, 255), (1.0, 255)],
            _lost(0.5, 128, 73),
        ),
        Wrong(
            lambda: [(depth, 64) for depth in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)],
            "no one believes a test of short prompts: take three lengths or more, one of them 240 tokens at least.",
        ),
        Wrong(
            lambda: [(1.0, length) for length in (64, 96, 128, 160, 192, 255)],
            "the report must show four depths or more, from 0.1 or less to 0.9 or more.",
        ),
        Wrong(
            lambda: [(0.0, 64), (0.6, 128), (1.0, 255)],
            "3 different cells; give six or more.",
        ),
        Wrong(
            lambda: [(0.0, 64), (0.25, 64), (0.6, 128), (0.8, 192), (0.95, 1024), (1.0, 255)],
            "depths go from 0 to 1, lengths from 17 to 255 tokens.",
        ),
    ),
)

EXERCISES = (SPLIT, SHARE, CONTRASTS, SUITE)
