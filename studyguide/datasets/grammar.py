"""Probabilistic grammars in the notation of ``data/tinyworld/grammar.txt``: sampling and exact probabilities.

What may follow a prefix is computed by reading it word by word and keeping every state the grammar could be in, with its
probability (the forward algorithm). In an unambiguous grammar a text has one derivation, so its probability is the
product of the probabilities of its choices.
"""

import math
import re
from collections import defaultdict
from typing import NamedTuple

import numpy as np

END = "<|endoftext|>"  # the mark after a text, also the language model's
_WORD = re.compile(r"[A-Za-z']+|[.,?]")
_SYMBOL = re.compile(r"<[^<>]+>|\[[^\[\]]+\]|[A-Za-z']+|[.,?]")
_WEIGHTED = re.compile(r"(.*\S)\s+([01]\.\d+)")


class Ref(NamedTuple):
    """Expand a rule; if `name` is given, remember what it yields under that name."""

    rule: str
    name: str | None


class Recall(NamedTuple):
    """Repeat what was remembered under a name."""

    name: str


class Choice(NamedTuple):
    """One of several (probability, symbols)."""

    options: tuple


def split_words(text):
    """The words and punctuation marks of a text, in order.

    >>> split_words("I love it.")
    ['I', 'love', 'it', '.']
    """
    return _WORD.findall(text)


def join_words(words):
    """A text from its words: blanks between words, none before punctuation.

    >>> join_words(["I", "love", "it", "."])
    'I love it.'
    """
    return re.sub(r" ([.,?])", r"\1", " ".join(words))


class Grammar:
    """A probabilistic grammar read from text in the notation of ``grammar.txt``.

    >>> coin = Grammar("<text> =\\n 0.75 heads\\n 0.25 tails <text>")
    >>> round(math.exp(coin.log_prob("tails heads")), 4)
    0.1875
    """

    def __init__(self, source, start="text"):
        self.start = (Ref(start, None),)
        self.rules = _read_rules(source)
        self._steps = {}

    def sample(self, n, rng):
        """`n` independent texts. `rng` is an int seed or a numpy Generator."""
        rng = np.random.default_rng(rng)
        return [join_words(self._draw(self.start, {}, rng)) for _ in range(n)]

    def log_prob(self, text):
        """Natural log of the probability of the whole text; -inf if the grammar cannot produce it."""
        words = split_words(text)
        if join_words(words) != text:
            return -math.inf
        log_p, states = self._read([*words, END])
        return log_p if states else -math.inf

    def prefix_log_prob(self, prefix):
        """Natural log of the probability that a text begins with the words of `prefix`."""
        log_p, states = self._read(split_words(prefix))
        return log_p if states else -math.inf

    def next_word_distribution(self, prefix):
        """Word -> probability of being next after `prefix`, most probable first.

        The key END stands for the end of the text. A prefix that no text begins with is a ValueError.
        """
        _, states = self._read(split_words(prefix))
        if not states:
            raise ValueError(f"prefix: no text of the grammar begins with {prefix!r}")
        p = defaultdict(float)
        for state, weight in states.items():
            for word, ways in self._next(state).items():
                p[word] += weight * sum(q for q, _ in ways)
        return dict(sorted(p.items(), key=lambda item: -item[1]))

    def enumerate(self, symbols=None):
        """Every (probability, words) of a finite rule; by default of the whole grammar."""
        return [(p, words) for p, words, _ in self._expand(symbols or self.start, ())]

    # A state is a stack of what is still to be read: (symbols of one line, stack below), or None.

    def _read(self, words):
        """(log probability of the words as a prefix, {state: probability given the words})."""
        log_p, states = 0.0, {_push(self.start, None): 1.0}
        for word in words:
            after = defaultdict(float)
            for state, weight in states.items():
                for q, following in self._next(state).get(word, ()):
                    after[following] += weight * q
            total = math.fsum(after.values())
            if not total:
                return -math.inf, {}
            log_p += math.log(total)
            states = {state: weight / total for state, weight in after.items()}
        return log_p, states

    def _next(self, state):
        """{next word: [(probability, state after it), ...]}."""
        if state not in self._steps:
            steps = defaultdict(list)
            for p, word, following in self._first_words(state):
                steps[word].append((p, following))
            self._steps[state] = dict(steps)
        return self._steps[state]

    def _first_words(self, state):
        if state is None:
            yield 1.0, END, ()
            return
        if state == ():  # nothing follows the end
            return
        (head, *rest), below = state
        if isinstance(head, str):
            yield 1.0, head, _push(rest, below)
            return
        if isinstance(head, Choice):
            branches = [(p, _push((*symbols, *rest), below)) for p, symbols in head.options]
        elif head.name is None:
            branches = [(p, _push(symbols, _push(rest, below))) for p, symbols in self.rules[head.rule]]
        else:
            branches = [
                (p, _push((*words, *_bind(rest, head.name, words)), below))
                for p, words in self.enumerate((Ref(head.rule, None),))
            ]
        for p, branch in branches:
            for q, word, following in self._first_words(branch):
                yield p * q, word, following

    def _expand(self, symbols, bound):
        if not symbols:
            yield 1.0, (), bound
            return
        head, *rest = symbols
        if isinstance(head, str):
            heads = [(1.0, (head,), bound)]
        elif isinstance(head, Recall):
            heads = [(1.0, dict(bound)[head.name], bound)]
        elif isinstance(head, Choice):
            heads = [(p * q, w, b) for p, option in head.options for q, w, b in self._expand(option, bound)]
        else:
            heads = [
                (p * q, words, (*bound, (head.name, words)))
                for p, line in self.rules[head.rule]
                for q, words, _ in self._expand(line, ())
            ]
        for p, words, known in heads:
            for q, tail, known_after in self._expand(rest, known):
                yield p * q, (*words, *tail), known_after

    def _draw(self, symbols, bound, rng):
        words = []
        for symbol in symbols:
            if isinstance(symbol, str):
                words.append(symbol)
            elif isinstance(symbol, Recall):
                words += bound[symbol.name]
            elif isinstance(symbol, Choice):
                words += self._draw(_pick(symbol.options, rng), bound, rng)
            else:
                drawn = self._draw(_pick(self.rules[symbol.rule], rng), {}, rng)
                bound[symbol.name] = drawn
                words += drawn
        return words


def _pick(options, rng):
    u = rng.random()
    for p, symbols in options:
        u -= p
        if u < 0:
            return symbols
    return options[-1][1]


def _push(symbols, below):
    return (tuple(symbols), below) if symbols else below


def _bind(symbols, name, words):
    """The symbols with every Recall of `name` replaced by `words`."""
    bound = []
    for symbol in symbols:
        if isinstance(symbol, Choice):
            bound.append(Choice(tuple((p, _bind(option, name, words)) for p, option in symbol.options)))
        elif symbol == Recall(name):
            bound += words
        else:
            bound.append(symbol)
    return tuple(bound)


def _read_rules(source):
    rules, lines = {}, None
    for number, line in enumerate(source.splitlines(), 1):
        line = line.split("#")[0].strip()
        if line.endswith("="):
            lines = rules.setdefault(line.rstrip("= ").strip("<>"), [])
        elif line:
            match = re.fullmatch(r"([01]\.\d+)\b\s*(.*)", line)
            lines.append((float(match[1]), match[2], number) if match else (None, line, number))
    parsed = {}
    for rule, alternatives in rules.items():
        names = {number: set() for _, _, number in alternatives}
        options = [(p, _read_symbols(text, names[number])) for p, text, number in alternatives]
        parsed[rule] = _with_probabilities(options, f"<{rule}>")
    missing = {ref.rule for lines in parsed.values() for _, line in lines for ref in _refs(line)} - set(parsed)
    if missing:
        raise ValueError(f"source: rules used but not defined: {sorted(missing)}")
    return parsed


def _read_symbols(text, names):
    """The symbols of a line; `names` collects what it has remembered so far."""
    symbols = []
    for token in _SYMBOL.findall(text):
        if token[0] == "[":
            options = []
            for option in token[1:-1].split(" | "):
                weighted = _WEIGHTED.fullmatch(option.strip())
                p, words = (float(weighted[2]), weighted[1]) if weighted else (None, option)
                options.append((p, _read_symbols(words, names)))
            symbols.append(Choice(_with_probabilities(options, token)))
        elif token[0] == "<":
            name, _, rule = token[1:-1].rpartition(":")
            if not name and rule in names:
                symbols.append(Recall(rule))
            else:
                symbols.append(Ref(rule, name or None))
                names.add(name)
        else:
            symbols.append(token)
    return tuple(symbols)


def _with_probabilities(options, where):
    given = [p for p, _ in options]
    if all(p is None for p in given):
        given = [1 / len(options)] * len(options)
    if None in given or abs(sum(given) - 1) > 1e-9:
        raise ValueError(f"source: the probabilities of {where} sum to {sum(p or 0 for p in given):g}; expected 1")
    return tuple((p, symbols) for p, (_, symbols) in zip(given, options, strict=True))


def _refs(symbols):
    for symbol in symbols:
        if isinstance(symbol, Ref):
            yield symbol
        elif isinstance(symbol, Choice):
            for _, option in symbol.options:
                yield from _refs(option)
