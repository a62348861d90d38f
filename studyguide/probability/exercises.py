"""Exercises of chapter 01: distributions over tokens, and divergences between them."""

import torch
from scipy import special, stats
from scipy.spatial import distance

from studyguide.course.exercises import Exercise, Wrong
from studyguide.probability.distributions import entropy
from studyguide.probability.divergences import divergence_null, js_distance, total_variation


def _t(*values):
    return torch.tensor(values, dtype=torch.float64)


def my_softmax(logits, temperature):
    """Probabilities of 1-D logits at a temperature above 0.

    Returns a tensor of the same length that sums to 1.
    """
    scaled = logits / temperature
    weights = torch.exp(scaled - scaled.max())
    return weights / weights.sum()


def _softmax_overflowing(logits, temperature):
    weights = torch.exp(logits / temperature)
    return weights / weights.sum()


SOFTMAX = Exercise(
    id="softmax-temperature",
    title="Softmax with a temperature",
    prompt=(
        "Write `my_softmax(logits, temperature)`: divide the logits by the temperature, then turn them into probabilities. "
        "It must also work for logits as large as 1000, where `exp` overflows."
    ),
    difficulty=2,
    minutes=10,
    hints=(
        "Softmax does not change when you add the same number to every logit. Which number makes every exponent at most 0?",
        "Subtract the largest scaled logit, exponentiate, divide by the sum.",
    ),
    solution=my_softmax,
    peer=lambda logits, temperature: special.softmax(logits.numpy() / temperature),
    cases=((_t(2.0, 1.0, 0.0), 1.0), (_t(2.0, 1.0, 0.0), 0.5), (_t(0.3, -1.0), 2.0), (_t(1000.0, 998.0, 990.0), 1.0)),
    wrong=(
        Wrong(
            lambda logits, temperature: torch.softmax(logits * temperature, 0),
            "you multiplied by the temperature. Dividing makes a high temperature flatten; yours does the opposite.",
        ),
        Wrong(
            lambda logits, temperature: torch.softmax(logits, 0),
            "you ignored the temperature. It agrees only at temperature 1.",
        ),
        Wrong(
            lambda logits, temperature: torch.softmax(logits, 0) / temperature,
            "you divided the probabilities, not the logits: they no longer sum to 1.",
        ),
        Wrong(
            _softmax_overflowing,
            "right for small logits, but exp(1000) overflows to infinity. Subtract the largest scaled logit first.",
        ),
        Wrong(
            lambda logits, temperature: torch.log_softmax(logits / temperature, 0),
            "these are log-probabilities. Exponentiate them.",
        ),
    ),
)


def my_entropy(p):
    """Entropy of a 1-D distribution p, in nats.

    Returns one number. A zero in p contributes nothing.
    """
    return torch.special.entr(p).sum()


ENTROPY = Exercise(
    id="entropy-nats",
    title="Entropy in nats",
    prompt=(
        "Write `my_entropy(p)`: the expected surprisal of a draw from `p`, in nats. "
        "Some probabilities may be exactly 0; they contribute nothing."
    ),
    difficulty=2,
    minutes=10,
    hints=(
        "Surprisal is −log p. The expected value weighs each surprisal by its probability.",
        "0 · log 0 counts as 0, but `0 * torch.log(0)` is NaN. Look at `torch.special.entr`, or drop the zeros first.",
    ),
    solution=my_entropy,
    peer=lambda p: stats.entropy(p.numpy()),
    cases=((_t(0.5, 0.5),), (_t(0.4, 0.3, 0.2, 0.1),), (_t(0.85, 0.15, 0.0),), (_t(1.0, 0.0),)),
    wrong=(
        Wrong(
            lambda p: torch.special.entr(p).sum() / torch.log(_t(2.0))[0],
            "you used the logarithm base 2, which gives bits. This function is in nats: use the natural logarithm.",
        ),
        Wrong(
            lambda p: -(p * torch.log(p)).sum(),
            "right without zeros; with one, 0 · log 0 gives NaN. Use `torch.special.entr`, or drop the zeros.",
        ),
        Wrong(
            lambda p: -torch.special.entr(p).sum(),
            "the sign is wrong: a surprisal is −log p, so entropy is never negative.",
        ),
        Wrong(
            lambda p: torch.special.entr(p).mean(),
            "you took the mean over the categories. The weights are already in p: sum.",
        ),
        Wrong(
            lambda p: -torch.log(p[p > 0]).sum(),
            "you added the surprisals without weighing each by its probability.",
        ),
    ),
)


def my_draw(p, u):
    """The category that a uniform draw u in [0, 1) selects from a 1-D distribution p.

    Returns its index.
    """
    return torch.searchsorted(p.cumsum(0), u, right=True)


DRAW = Exercise(
    id="draw-a-token",
    title="Draw a token",
    prompt=(
        "Write `my_draw(p, u)`: lay the probabilities end to end on the line from 0 to 1, and return the index of the category "
        "into which `u` falls. A category owns its left end but not its right one, so a category of probability 0 is never drawn."
    ),
    difficulty=3,
    minutes=15,
    hints=(
        "`p.cumsum(0)` gives the right end of each category.",
        "Count the right ends that are at most u. `torch.searchsorted(ends, u, right=True)` does just that.",
    ),
    solution=my_draw,
    peer=lambda p, u: sum(end <= u for end in p.cumsum(0).tolist()),
    cases=tuple(
        (_t(0.25, 0.5, 0.0, 0.25), torch.tensor(u, dtype=torch.float64)) for u in (0.0, 0.1, 0.25, 0.7, 0.75, 0.99)
    ),
    wrong=(
        Wrong(
            lambda p, u: torch.searchsorted(p.cumsum(0), u),
            "on a boundary you return the category to the left. With u = 0.25 and p = [0.25, ...] the second one is meant.",
        ),
        Wrong(
            lambda p, u: p.argmax(),
            "you return the most probable category whatever u is. That is greedy decoding, not a draw.",
        ),
        Wrong(
            lambda p, u: torch.searchsorted(p, u, right=True),
            "you compare u with the probabilities themselves. Compare it with their running sum.",
        ),
        Wrong(
            lambda p, u: (u * len(p)).long(),
            "you give every category the same length. Category i must be p[i] long.",
        ),
        Wrong(
            lambda p, u: torch.searchsorted(p.cumsum(0), u, right=True) + 1,
            "you count from 1. The first category has index 0.",
        ),
    ),
)


def my_count_sd(p, n):
    """Standard deviation of how often a category of probability p comes up in n draws.

    Returns one number.
    """
    return (n * p * (1 - p)) ** 0.5


COUNT_SD = Exercise(
    id="count-standard-deviation",
    title="How much a count wobbles",
    prompt=(
        "You sample `n` answers, and one answer has probability `p`. Write `my_count_sd(p, n)`: "
        "the standard deviation of the number of times it comes up."
    ),
    difficulty=2,
    minutes=8,
    hints=(
        "One draw is 1 with probability p and 0 otherwise. Its variance is p − p².",
        "Independent variances add: n draws have n times the variance. The standard deviation is the root.",
    ),
    solution=my_count_sd,
    peer=lambda p, n: stats.binom.std(n, p),
    cases=((0.5, 100), (0.85, 1000), (0.03, 50), (1.0, 10)),
    wrong=(
        Wrong(lambda p, n: n * p * (1 - p), "that is the variance. The standard deviation is its square root."),
        Wrong(
            lambda p, n: (p * (1 - p) / n) ** 0.5,
            "that is the standard deviation of the *share*. The count is n times the share.",
        ),
        Wrong(
            lambda p, n: (n * p) ** 0.5,
            "that is Poisson's, right only for rare answers. A share near 1 wobbles less: multiply by 1 − p.",
        ),
        Wrong(lambda p, n: n * p, "that is the expected count, not how far it strays."),
        Wrong(
            lambda p, n: n * (p * (1 - p)) ** 0.5,
            "you multiplied the standard deviation by n. Variances add, so it grows with the root of n.",
        ),
    ),
)


def my_twins():
    """Two distributions over the same words (1-D tensors), with equal entropy."""
    return torch.tensor([0.9, 0.1, 0.0]), torch.tensor([0.0, 0.1, 0.9])


def _verify_twins(answer):
    if not (isinstance(answer, tuple | list) and len(answer) == 2):
        return "return two distributions: `return p, q`."
    gap = abs(float(entropy(answer[0]) - entropy(answer[1])))
    apart = float(total_variation(*answer))
    if gap > 1e-6:
        return (
            f"the entropies differ by {gap:.4f} nats. Moving the same probabilities to other words keeps the entropy."
        )
    if apart == 0:
        return "p and q are the same distribution, so the metric is not fooled."
    if apart <= 0.8:
        return f"equal entropy, but total variation is only {apart:.2f}. Put the big probabilities on different words."
    return None


TWINS = Exercise(
    id="break-entropy",
    title="Equally sure, of different things",
    prompt=(
        "A dashboard watches the entropy of the next-word distribution and calls a release *unchanged* when it stays put. "
        "Write `my_twins()`: two distributions with the same entropy that give their probability to different words "
        "(total variation above 0.8)."
    ),
    difficulty=2,
    minutes=8,
    hints=(
        "Entropy looks at the probabilities, never at the words they belong to.",
        "Write a confident distribution, then permute it.",
    ),
    solution=my_twins,
    verify=_verify_twins,
    wrong=(
        Wrong(
            lambda: (_t(0.9, 0.1), _t(0.6, 0.4)),
            "the entropies differ by 0.3479 nats. Moving the same probabilities to other words keeps the entropy.",
        ),
        Wrong(lambda: (_t(0.5, 0.5), _t(0.5, 0.5)), "p and q are the same distribution, so the metric is not fooled."),
        Wrong(
            lambda: (_t(0.6, 0.3, 0.1), _t(0.3, 0.6, 0.1)),
            "equal entropy, but total variation is only 0.30. Put the big probabilities on different words.",
        ),
        Wrong(lambda: _t(0.9, 0.1), "return two distributions: `return p, q`."),
    ),
)


def my_cross_entropy(p, q):
    """Cross-entropy of the prediction q under the truth p (1-D distributions), in nats.

    Returns one number.
    """
    return -torch.special.xlogy(p, q).sum()


CROSS_ENTROPY = Exercise(
    id="cross-entropy",
    title="Cross-entropy in nats",
    prompt=(
        "Write `my_cross_entropy(p, q)`: the expected surprisal of the prediction `q` when the truth is `p`, in nats. "
        "Where `p` is 0, the term is 0 whatever `q` says."
    ),
    difficulty=2,
    minutes=10,
    hints=(
        "Which distribution do the words come from, and which one is surprised? The first gives the weights.",
        "Minus the sum of p · log q. `torch.special.xlogy(p, q)` is p · log q with 0 · log 0 = 0.",
    ),
    solution=my_cross_entropy,
    peer=lambda p, q: -special.xlogy(p.numpy(), q.numpy()).sum(),
    cases=(
        (_t(0.4, 0.3, 0.2, 0.1), _t(0.5, 0.2, 0.2, 0.1)),
        (_t(0.5, 0.5), _t(0.9, 0.1)),
        (_t(0.0, 1.0, 0.0), _t(0.0, 0.25, 0.75)),
    ),
    wrong=(
        Wrong(
            lambda p, q: torch.special.entr(p).sum(),
            "that is the entropy of p: q plays no part in it. It is the guide's own slip (E1-01).",
        ),
        Wrong(
            lambda p, q: -(torch.special.xlogy(p, q) / torch.log(_t(2.0))).sum(),
            "you used the logarithm base 2; this function is in nats.",
        ),
        Wrong(
            lambda p, q: -torch.special.xlogy(q, p).sum(),
            "p and q are swapped: the truth gives the weights, the prediction goes into the logarithm.",
        ),
        Wrong(lambda p, q: torch.special.xlogy(p, q).sum(), "the sign is wrong: a surprisal is −log q."),
        Wrong(
            lambda p, q: -torch.special.xlogy(p, q).mean(),
            "you took the mean over the words. The weights are already in p: sum.",
        ),
        Wrong(lambda p, q: -(p * torch.log(q)).sum(), "0 · log 0 gave NaN. A term with p = 0 is 0: use `xlogy`."),
    ),
)


def my_kl_divergence(p, q):
    """Kullback-Leibler divergence of p from q (1-D distributions), in nats.

    Returns one number, perhaps infinity.
    """
    return (torch.special.xlogy(p, p) - torch.special.xlogy(p, q)).sum()


KL = Exercise(
    id="kl-divergence",
    title="KL divergence in nats",
    prompt=(
        "Write `my_kl_divergence(p, q)`: the extra surprisal you pay for predicting with `q` when the truth is `p`, in nats. "
        "Where `p` is 0 the term is 0; where `q` is 0 and `p` is not, the result is infinite."
    ),
    difficulty=2,
    minutes=12,
    hints=(
        "KL is what cross-entropy costs above entropy: H(p, q) − H(p).",
        "Sum p · log p − p · log q, each with `torch.special.xlogy`, so that zeros do no harm.",
    ),
    solution=my_kl_divergence,
    peer=lambda p, q: stats.entropy(p.numpy(), q.numpy()),
    cases=(
        (_t(0.6, 0.3, 0.1), _t(0.9, 0.08, 0.02)),
        (_t(0.4, 0.3, 0.2, 0.1), _t(0.5, 0.2, 0.2, 0.1)),
        (_t(0.0, 1.0), _t(0.5, 0.5)),
        (_t(0.5, 0.5), _t(1.0, 0.0)),
    ),
    wrong=(
        Wrong(
            lambda p, q: (torch.special.xlogy(p, p) - torch.special.xlogy(p, q)).sum() / torch.log(_t(2.0))[0],
            "you used the logarithm base 2; this function is in nats.",
        ),
        Wrong(
            lambda p, q: (torch.special.xlogy(q, q) - torch.special.xlogy(q, p)).sum(),
            "p and q are swapped. KL is not symmetric: the truth p gives the weights.",
        ),
        Wrong(
            lambda p, q: (p * torch.log(p / q)).sum(),
            "right without zeros; where p is 0, 0 · log 0 gives NaN. That term is 0: use `xlogy`.",
        ),
        Wrong(
            lambda p, q: -torch.special.xlogy(p, q).sum(),
            "that is the cross-entropy. Subtract the entropy of p: KL of a distribution from itself must be 0.",
        ),
        Wrong(
            lambda p, q: -(torch.special.xlogy(p, p) - torch.special.xlogy(p, q)).sum(),
            "the sign is wrong: KL is never negative. The ratio is p / q, not q / p.",
        ),
        Wrong(
            lambda p, q: (torch.special.xlogy(p, p) - torch.special.xlogy(p, q)).mean(),
            "you took the mean over the categories; KL is a sum. (`F.kl_div` has the same trap in reduction='mean'.)",
        ),
        Wrong(
            lambda p, q: (p * torch.log((p + 1e-10) / (q + 1e-10))).sum(),
            "a small constant inside the logarithm hides an infinite divergence: the size of your constant now decides the result.",
        ),
    ),
)


def my_js_divergence(p, q):
    """Jensen-Shannon divergence of two 1-D distributions, in nats.

    Returns one number between 0 and log 2.
    """
    m = (p + q) / 2
    return (my_kl_divergence(p, m) + my_kl_divergence(q, m)) / 2


JS = Exercise(
    id="js-divergence",
    title="Jensen-Shannon divergence in nats",
    prompt=(
        "Write `my_js_divergence(p, q)`: the mean of the KL divergences of `p` and of `q` from their midpoint, in nats. "
        "You may use your `my_kl_divergence`."
    ),
    difficulty=2,
    minutes=10,
    hints=(
        "The midpoint m is (p + q) / 2. It is nowhere 0 where p or q is not, so nothing becomes infinite.",
        "Half of KL(p || m) plus half of KL(q || m). No square root.",
    ),
    solution=my_js_divergence,
    peer=lambda p, q: distance.jensenshannon(p.numpy(), q.numpy()) ** 2,
    cases=(
        (_t(0.5, 0.3, 0.2), _t(0.3, 0.5, 0.2)),
        (_t(0.6, 0.3, 0.1), _t(0.4, 0.4, 0.2)),
        (_t(1.0, 0.0), _t(0.0, 1.0)),
    ),
    wrong=(
        Wrong(
            lambda p, q: my_js_divergence(p, q).sqrt(),
            "that is the Jensen-Shannon *distance*, which scipy returns under the name jensenshannon. Square it.",
        ),
        Wrong(
            lambda p, q: my_js_divergence(p, q) / torch.log(_t(2.0))[0],
            "you used the logarithm base 2; this function is in nats, where the largest value is log 2.",
        ),
        Wrong(
            lambda p, q: 2 * my_js_divergence(p, q),
            "you added the two halves without halving them. Weigh each KL by one half.",
        ),
        Wrong(
            lambda p, q: (my_kl_divergence(p, q) + my_kl_divergence(q, p)) / 2,
            "you averaged KL in the two directions (Jeffreys). Measure both from the midpoint instead.",
        ),
        Wrong(
            lambda p, q: (my_kl_divergence((p + q) / 2, p) + my_kl_divergence((p + q) / 2, q)) / 2,
            "the arguments of KL are swapped: the midpoint goes second.",
        ),
        Wrong(
            lambda p, q: my_kl_divergence(p, (p + q) / 2),
            "you used only one of the two halves. Swap p and q and the result changes: JS must be symmetric.",
        ),
    ),
)


def my_p_value(observed, null):
    """Permutation p-value: observed is one number, null a 1-D tensor of the statistic under chance.

    Returns one number.
    """
    return (1 + (null >= observed).sum()) / (1 + len(null))


P_VALUE = Exercise(
    id="permutation-p-value",
    title="A p-value from a null distribution",
    prompt=(
        "You have the divergence you observed, and the divergences that chance alone produced. Write `my_p_value(observed, null)`: "
        "the share of results at least as large as the observed one, with the observed one counted among them."
    ),
    difficulty=3,
    minutes=10,
    hints=(
        "Under the null, your observed result is one more permutation. How many results are there then in all?",
        "(1 + how many of the null are at least the observed) / (1 + how many there are).",
    ),
    solution=my_p_value,
    peer=lambda observed, null: (1 + sum(x >= observed for x in null.tolist())) / (1 + len(null)),
    cases=(
        (0.5, _t(0.1, 0.2, 0.6, 0.7)),
        (0.9, _t(0.1, 0.2, 0.6)),
        (0.2, _t(0.2, 0.2, 0.1, 0.0, 0.3)),
        (0.0, _t(0.0, 0.0)),
    ),
    wrong=(
        Wrong(
            lambda observed, null: (null >= observed).double().mean(),
            "you left the observed result out. A p-value of exactly 0 claims more than a finite number of draws can show.",
        ),
        Wrong(
            lambda observed, null: (1 + (null > observed).sum()) / (1 + len(null)),
            "ties count: results equal to the observed one are as extreme as it is. Use >=.",
        ),
        Wrong(
            lambda observed, null: (1 + (null <= observed).sum()) / (1 + len(null)),
            "you counted the small divergences. Evidence of a difference lies in the large ones.",
        ),
        Wrong(
            lambda observed, null: (null < observed).double().mean(),
            "that is one minus the p-value, not the probability that the models differ.",
        ),
        Wrong(
            lambda observed, null: (1 + (null >= observed).sum()) / len(null),
            "you count the observed result above the line but not below it: the largest p-value would exceed 1.",
        ),
    ),
)


def my_false_alarm():
    """Counts of two samples of 50 answers in the same 3 buckets, as two lists."""
    return [24, 17, 9], [18, 17, 15]


def _verify_false_alarm(answer):
    if not (isinstance(answer, tuple | list) and len(answer) == 2 and all(len(counts) == 3 for counts in answer)):
        return "return two lists of three counts: `return [..], [..]`."
    a, b = (torch.as_tensor(counts, dtype=torch.float64) for counts in answer)
    if a.sum() != 50 or b.sum() != 50:
        return f"each sample has 50 answers; yours have {a.sum():g} and {b.sum():g}."
    apart = float(js_distance(a / 50, b / 50))
    if apart <= 0.1:
        return f"the distance is {apart:.4f}, so the rule does not raise an alarm. Move a few more answers."
    p_value = divergence_null(a.long(), b.long(), rng=0).p_value
    if p_value <= 0.2:
        return f"p is {float(p_value):.3f}: this difference is hard to explain by chance. Make it smaller."
    return None


FALSE_ALARM = Exercise(
    id="break-the-threshold",
    title="An alarm about nothing",
    prompt=(
        "A team compares the lengths of 50 answers from each of two models in three buckets, and raises an alarm when the "
        "Jensen-Shannon distance exceeds 0.1. Write `my_false_alarm()`: counts that raise the alarm although the permutation "
        "test finds them unremarkable (p above 0.2)."
    ),
    difficulty=3,
    minutes=12,
    hints=(
        "Start from two equal samples and move a few answers from one bucket to another.",
        "Compute `js_distance(a / 50, b / 50)` and `divergence_null(a, b, rng=0).p_value` as you go. Four or five answers suffice.",
    ),
    solution=my_false_alarm,
    verify=_verify_false_alarm,
    wrong=(
        Wrong(
            lambda: ([20, 20, 10], [20, 20, 10]),
            "the distance is 0.0000, so the rule does not raise an alarm. Move a few more answers.",
        ),
        Wrong(
            lambda: ([40, 5, 5], [5, 5, 40]),
            "p is 0.000: this difference is hard to explain by chance. Make it smaller.",
        ),
        Wrong(lambda: ([30, 20, 10], [20, 20, 10]), "each sample has 50 answers; yours have 60 and 50."),
        Wrong(lambda: ([25, 25], [20, 30]), "return two lists of three counts: `return [..], [..]`."),
    ),
)

EXERCISES = (SOFTMAX, ENTROPY, DRAW, COUNT_SD, TWINS, CROSS_ENTROPY, KL, JS, P_VALUE, FALSE_ALARM)
