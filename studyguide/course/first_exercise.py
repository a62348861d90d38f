"""The front door's exercise: small, so that you learn how exercises work here."""

import torch

from studyguide.course.exercises import Exercise, Wrong


def my_shares(counts):
    """Turn counts into shares that sum to 1.

    counts: a 1-D tensor. Returns a tensor of the same length.
    """
    return counts / counts.sum()


EXERCISES = (
    Exercise(
        id="first-shares",
        title="From counts to shares",
        prompt=(
            "A model answered a prompt ten times: six times *sunny*, three times *cloudy*, once *rainy*. "
            "Write `my_shares(counts)`, which turns such counts into shares that sum to 1."
        ),
        difficulty=1,
        minutes=5,
        hints=(
            "A share is a count divided by something. By what must you divide 6, 3 and 1 so that the results add up to 1?",
            "`counts.sum()` is the number of answers. A tensor divided by a number divides every entry.",
        ),
        solution=my_shares,
        peer=lambda counts: [count / sum(counts.tolist()) for count in counts.tolist()],
        cases=tuple((torch.tensor(counts, dtype=torch.float64),) for counts in ([6, 3, 1], [2, 2], [5], [0, 1, 0, 7])),
        wrong=(
            Wrong(
                lambda counts: counts / len(counts),
                "you divided by the number of categories; divide by the number of answers, the sum of the counts.",
            ),
            Wrong(
                lambda counts: counts / counts.max(),
                "you divided by the largest count, so the top share is 1. Shares must sum to 1, not peak at 1.",
            ),
            Wrong(
                lambda counts: 100 * counts / counts.sum(),
                "these are percentages: they sum to 100. A share of one half is 0.5.",
            ),
            Wrong(
                lambda counts: counts // counts.sum(),
                "`//` rounds down to a whole number, so nearly every share became 0. Use `/`.",
            ),
        ),
    ),
)
