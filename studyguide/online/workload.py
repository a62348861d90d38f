"""How the traffic of `studyguide.online.traffic` is drawn: who comes when, what is asked, how a model replies.

A user has an activity a ~ Gamma(2) with mean 1 and a quality q ~ N(0, 1), which no log shows; a fifth write Arabic.

    sessions       ~ Poisson(a times the mean), their starts independent, with density
                   (1 + 0.7 cos(2π (hour - 15) / 24)) times 0.65 on Saturday and Sunday
    requests       in a session ~ geometric with mean 2.4, pauses ~ exponential with mean 90 s
    prompt         its topic by the shares of `TOPICS`, uniform among the prompts of the topic and the user's language
    prompt_tokens  = the prompt's + those of help pages in the context, lognormal, median 300, log-sd 0.35
    response_tokens r ~ lognormal, median 180 times the topic's length, log-sd 0.45
    confidence p   = 0.96 logistic(2.05 + 1.25 q + the topic's logit - 0.4 if Arabic + 0.5 z), z ~ N(0, 1)
    error          ~ Bernoulli(0.005)
    completed      ~ Bernoulli(p), never with an error: the confidence is calibrated, errors included
    rating         = 1 + Binomial(4, (s - 1) / 4), s = 2.4 + 1.6 completed + 0.65 tanh q; given by 30 %, by chance alone
    latency        = (0.35 + r / 90) exp(σ e - σ² / 2), e ~ N(0, 1), σ = min(0.2 + r / 2000, 0.8): mean 0.35 + r / 90
    cost           = 3e-6 prompt_tokens + 15e-6 r
    toxicity       ~ Beta(1, 40), or with probability 0.004 uniform on (0.5, 1)

Model B multiplies latency, σ and cost, and adds to p and to s (as much as makes the effect on the mean rating whole:
`EFFECTS`). The user's q is in p and s, which is why the time before an experiment tells of the time in it. All draws
are independent unless the formulas say otherwise.
"""

from types import MappingProxyType

import numpy as np
import pandas as pd

# What B does: differences of means (rating, completed), factors of means (latency, cost), and the factor of the log-sd
# of the latency, which makes the tail heavier. Nothing else differs but `confidence`, which stays calibrated.
EFFECTS = MappingProxyType({"rating": 0.15, "completed": 0.03, "latency": 1.10, "latency_tail": 1.25, "cost": 0.80})
NO_EFFECTS = MappingProxyType({"rating": 0.0, "completed": 0.0, "latency": 1.0, "latency_tail": 1.0, "cost": 1.0})

TOPICS = {  # share of the requests, on the logit of completion, factor of the response's length
    "billing": (0.20, 0.1, 1.0),
    "plans": (0.12, 0.4, 1.1),
    "refunds": (0.11, -0.5, 1.0),
    "delivery": (0.14, 0.2, 0.8),
    "setup": (0.15, -0.2, 1.4),
    "connection": (0.13, -0.6, 1.3),
    "account": (0.10, 0.4, 0.7),
    "privacy": (0.05, 0.2, 1.2),
}
NEW_TOPIC = "recall"  # nobody asks about it before the input drift
ARABIC, ARABIC_LOGIT = 0.2, -0.4
CEILING, INTERCEPT, QUALITY, EASE = 0.96, 2.05, 1.25, 0.5  # of the probability of completion
STARS, STARS_COMPLETED, STARS_QUALITY, RATED = 2.4, 1.6, 0.65, 0.3
ERROR, TOXIC = 0.005, 0.004
TURNS, PAUSE = 2.4, 90 / 86_400  # requests of a session, days between them
DAY = 86_400_000  # milliseconds


def draw_people(rng, n):
    """`n` users, with what no log shows: a frame of user, language, activity and quality."""
    names = [f"u{number:05d}" for number in range(1, n + 1)]
    language = category(rng.random(n) < ARABIC, ["en", "ar"])
    quality = rng.standard_normal(n)
    return pd.DataFrame({"user": names, "language": language, "activity": rng.gamma(2, 1 / 2, n), "quality": quality})


def draw_requests(rng, people, prompts, start, days, sessions, treated, effects):
    """All requests of these users from `start`, a Monday: a frame in the order of time.

    `sessions` is the mean per user, `treated` (one boolean per user) says who has model B, `prompts` is the frame of
    the prompts. Columns with a leading underscore are what incidents need and no log shows.
    """
    user, session, milliseconds = _visits(rng, people["activity"].to_numpy(), days, sessions)
    n, treated, quality = len(user), treated[user], people["quality"].to_numpy()[user]
    arabic = (people["language"] == "ar").to_numpy()[user]
    share, logit, length = np.array(list(TOPICS.values())).T
    topic = np.searchsorted(np.cumsum(share)[:-1], rng.random(n), side="right")
    topics = np.array(list(TOPICS))[topic]
    prompt, tokens = choose_prompts(prompts, topics, arabic, rng.random(n))
    pages = np.rint(300 * np.exp(0.35 * rng.standard_normal(n))).astype(np.int32)
    response = np.maximum(np.rint(180 * length[topic] * np.exp(0.45 * rng.standard_normal(n))), 1).astype(np.int32)

    x = INTERCEPT + QUALITY * quality + logit[topic] + ARABIC_LOGIT * arabic + EASE * rng.standard_normal(n)
    p = np.clip(CEILING / (1 + np.exp(-x)) + treated * effects["completed"], 0, 1 - ERROR)
    error = rng.random(n) < ERROR
    completed = ~error & (rng.random(n) < p / (1 - ERROR))
    coins, rated = rng.random((n, 4)), rng.random(n) < RATED
    direct = effects["rating"] - STARS_COMPLETED * effects["completed"]  # the rest comes by way of completion
    stars = STARS + STARS_QUALITY * np.tanh(quality) + treated * direct

    def rating(stars):
        return np.where(rated, 1.0 + (coins < (stars[:, None] - 1) / 4).sum(1), np.nan)

    toxic, toxicity = rng.random(n) < TOXIC, rng.random(n)
    frame = pd.DataFrame(
        {
            "request": np.arange(n, dtype=np.int32),
            "time": start.as_unit("ms") + pd.to_timedelta(milliseconds, unit="ms").as_unit("ms"),
            "day": milliseconds / DAY,
            "user": people["user"].to_numpy()[user],
            "session": session.astype(np.int32),
            "prompt": prompt,
            "topic": pd.Categorical(topics, [*TOPICS, NEW_TOPIC]),
            "language": category(arabic, ["en", "ar"]),
            "model": category(treated, ["A", "B"]),
            "prompt_tokens": pages + tokens,
            "response_tokens": response,
            "confidence": p.round(4),
            "completed": completed.astype(np.int32),
            "rating": rating(stars + STARS_COMPLETED * completed),
            "toxicity": np.where(toxic, 0.5 + toxicity / 2, 1 - toxicity ** (1 / 40)).round(4),
            "error": error.astype(np.int32),
            "_pages": pages,
            "_rating_if_not": rating(stars),
            "_noise": rng.standard_normal(n),
            "_latency": np.where(treated, effects["latency"], 1.0),
            "_tail": np.where(treated, effects["latency_tail"], 1.0),
            "_price": np.where(treated, effects["cost"], 1.0),
        }
    )
    return frame.assign(latency=latency(frame), cost=cost(frame))


def choose_prompts(prompts, topics, arabic, u):
    """A prompt of each topic and language by uniform draws `u`: its number and its tokens, arrays."""
    groups = prompts.groupby(["topic", "language"], observed=True)["prompt"].agg(["min", "size"])  # each is one block
    first, size = groups.reindex(pd.MultiIndex.from_arrays([topics, np.where(arabic, "ar", "en")])).to_numpy().T
    prompt = (first + np.floor(u * size)).astype(np.int32)
    return prompt, prompts["tokens"].to_numpy()[prompt]


def latency(frame):
    """Seconds until the response was there, by its tokens."""
    tokens = frame["response_tokens"]
    sigma = frame["_tail"] * np.minimum(0.2 + tokens / 2000, 0.8)
    return (frame["_latency"] * (0.35 + tokens / 90) * np.exp(sigma * frame["_noise"] - sigma**2 / 2)).round(3)


def cost(frame):
    """US dollars, by the tokens."""
    return (frame["_price"] * (3e-6 * frame["prompt_tokens"] + 15e-6 * frame["response_tokens"])).round(6)


def category(second, names):
    """A categorical column of two names: the second where `second` is true."""
    return pd.Categorical.from_codes(np.asarray(second, dtype=np.int8), names)


def _visits(rng, activity, days, sessions):
    """Which user asks, in which session, and when (milliseconds since the start): arrays in the order of time."""
    user = np.repeat(np.arange(len(activity)), rng.poisson(sessions * activity))
    start = np.sort(_times(rng, days, len(user)))
    user = rng.permutation(user)
    turns = rng.geometric(1 / TURNS, len(user))
    session = np.repeat(np.arange(len(user)), turns)
    pauses = np.cumsum(rng.exponential(PAUSE, len(session)))
    when = start[session] + pauses - pauses[np.cumsum(turns) - turns][session]
    order = np.argsort(when, kind="stable")
    order = order[when[order] < days]
    return user[session[order]], session[order], np.floor(DAY * when[order]).astype(np.int64)


def _times(rng, days, n):
    """`n` moments in days, by the load, which is constant within an hour."""
    hour = np.arange(24 * days)
    load = (1 + 0.7 * np.cos(2 * np.pi * (hour + 0.5 - 15) / 24)) * np.where(hour // 24 % 7 < 5, 1, 0.65)
    edges = np.append(0, np.cumsum(load) / load.sum())
    return np.interp(rng.random(n), edges, np.append(hour, 24 * days) / 24)
