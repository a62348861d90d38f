"""Which unit (a user, mostly) sees which variant: a salted hash, the same in every process, language and year.

The salt is the name of the experiment, so that two experiments split the same users independently of each other: each
measures its own effect while the other runs. Experiments that must not meet (two prompts for one screen) share a layer
instead, a hash of its own that gives each of them a part of the users:

>>> users = [f"u{number}" for number in range(1000)]
>>> layer = bucket(users, "layer: prompts")
>>> first = [user for user, place in zip(users, layer, strict=True) if place < 0.5]  # of them: experiment "tone"
>>> second = [user for user, place in zip(users, layer, strict=True) if place >= 0.5]  # of them: experiment "length"
>>> variants = assign(first, "tone", {"A": 0.5, "B": 0.5})
>>> len(first), variants.count("A")
(482, 248)

Errors: a unit or an experiment that is no text is a TypeError, an empty one a ValueError.
"""

import hashlib
import json
import math
import os
import tempfile
from contextlib import contextmanager
from numbers import Real
from pathlib import Path

import numpy as np
from filelock import FileLock


def bucket(units, experiment):
    """Where each unit stands in an experiment: numbers in [0, 1), spread evenly and looking random.

    `units` are texts, (n,), or a single one; result a float64 array (n,), or a float. A unit below the share of the first
    variant sees that one; a ramp to 10 % of all users takes those below 0.1, and keeps them when it goes on to 50 %.
    Convention: the first 53 bits of SHA-256 of the experiment and the unit in UTF-8, each behind its length in bytes and
    a colon, so that "ab", "c" is not "a", "bc". 53 bits are what a float64 holds without rounding up to 1.
    Errors: see the module.
    Source: Kohavi, Tang and Xu (2020), Trustworthy Online Controlled Experiments, chapter 4.

    >>> bucket(["u00001", "u00002"], "new model")
    array([0.18012365, 0.81861252])
    """
    single = isinstance(units, str)
    salted = hashlib.sha256(_framed("experiment", experiment))
    digests = bytearray()
    for unit in [units] if single else units:
        hashed = salted.copy()
        hashed.update(_framed("units", unit))
        digests += hashed.digest()[:8]
    places = (np.frombuffer(digests, ">u8") >> np.uint64(11)) * 2.0**-53
    return float(places[0]) if single else places


def assign(units, experiment, weights, overrides=None):
    """The variant of each unit: a list of names, or one name for a single unit.

    `weights` is {variant: share}, shares from 0 to 1 that sum to 1. Variants share [0, 1) in the order of `weights`: with
    A 0.9 and B 0.1, A has the buckets below 0.9. So the order is part of the experiment.
    What a change of weights moves: with two variants the difference of the shares and nobody else, all one way. With
    three or more also units between the others, since their edges move: ramp by a layer instead (see the module), or
    keep what units have (see `Overrides`).
    `overrides` go before the hash; whoever analyses the experiment leaves units out that were put somewhere by hand.
    Errors: no weights; shares outside 0 to 1, or that do not sum to 1 to within 1e-9; an override to a variant that has
    no weight (retired: drop the override). See also the module.

    >>> assign(["u00001", "u00002"], "new model", {"A": 0.5, "B": 0.5})
    ['A', 'B']
    >>> assign("u00002", "new model", {"A": 0.9, "B": 0.1})
    'A'
    """
    names, edges = _edges(weights)
    single = isinstance(units, str)
    units = [units] if single else list(units)
    variants = [names[place] for place in edges.searchsorted(bucket(units, experiment), side="right")]
    kept = overrides.get(experiment) if overrides is not None else {}
    for place, unit in enumerate(units if kept else ()):
        variants[place] = kept.get(unit, variants[place])
        if variants[place] not in names:
            raise ValueError(f"overrides has {variants[place]!r} for {unit!r}; expected one of {names}, or no override")
    return variants[0] if single else variants


class Overrides:
    """Units whose variant is fixed: testers put there by hand, or users who must keep what they have (sticky).

    Kept in a JSON file {experiment: {unit: variant}}. A change is made under a lock, and the file is replaced as a whole,
    so that processes may share it and a crash loses nothing. Each use reads the file: for many units, call `assign` once.
    A file that cannot be read is a ValueError, and stays.

    Sticky while the weights change: first put what the units have now.

    >>> path = getfixture("tmp_path") / "overrides.json"
    >>> overrides, users = Overrides(path), ["u00001", "u00002"]
    >>> now = assign(users, "new model", {"A": 0.5, "B": 0.5})
    >>> overrides.put("new model", dict(zip(users, now, strict=True)))
    >>> assign(users, "new model", {"A": 0.1, "B": 0.9}), assign(users, "new model", {"A": 0.1, "B": 0.9}, overrides)
    (['B', 'B'], ['A', 'B'])
    """

    def __init__(self, path):
        self.path = Path(path)

    def get(self, experiment):
        """{unit: variant} of an experiment, read from the file; empty if there are none."""
        return self._read().get(experiment, {})

    def put(self, experiment, variants):
        """Fix units, {unit: variant}; one that is fixed already changes to the new variant."""
        for name, text in (("experiment", experiment), *(("variants", x) for pair in variants.items() for x in pair)):
            _framed(name, text)
        with self._changing() as all_overrides:
            all_overrides.setdefault(experiment, {}).update(variants)

    def drop(self, experiment, units):
        """Let units go back to the hash; a KeyError, and no change, if one of them is not fixed."""
        with self._changing() as all_overrides:
            for unit in [units] if isinstance(units, str) else units:
                del all_overrides.get(experiment, {})[unit]

    def _read(self):
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise ValueError(
                f"{self.path} is no JSON ({error}); expected overrides: repair it or move it away"
            ) from None
        if not isinstance(found, dict) or not all(isinstance(units, dict) for units in found.values()):
            raise ValueError(f"{self.path} holds something else; expected {{experiment: {{unit: variant}}}}")
        return found

    @contextmanager
    def _changing(self):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.path}.lock"):
            overrides = self._read()
            yield overrides
            with tempfile.NamedTemporaryFile(
                "w", dir=self.path.parent, suffix=".new", delete=False, encoding="utf-8"
            ) as new:
                json.dump(overrides, new, indent=1, sort_keys=True, ensure_ascii=False)
                new.flush()
                os.fsync(new.fileno())
            os.replace(new.name, self.path)


def shares(weights):
    """{variant: share}, checked: at least one, each from 0 to 1, together 1."""
    if not isinstance(weights, dict):
        raise TypeError(f"weights is {weights!r}; expected a dict from variant to share")
    if not weights:
        raise ValueError("weights is empty; expected a share for each variant")
    if odd := [share for share in weights.values() if isinstance(share, bool) or not isinstance(share, Real)]:
        raise TypeError(f"weights holds {odd[0]!r}; expected numbers")
    total = math.fsum(weights.values())
    if not (min(weights.values()) >= 0 and abs(total - 1) <= 1e-9):  # false for NaN too
        raise ValueError(f"weights are {weights}, in all {total:g}; expected shares of at least 0 that sum to 1")
    return weights


def _edges(weights):
    """The variants, and the bucket below which each of them ends."""
    edges = np.cumsum(list(shares(weights).values()))
    return list(weights), edges / edges[-1]


def _framed(name, text):
    """A text in UTF-8 behind its length, so that no two pairs of texts are joined to the same bytes."""
    if not isinstance(text, str):
        raise TypeError(f"{name}: got {text!r}; expected text")
    if not text:
        raise ValueError(f"{name}: got an empty text; expected a name")
    data = text.encode()
    return b"%d:%b" % (len(data), data)
