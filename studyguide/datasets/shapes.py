"""Coloured shapes on a grid of three by three, with captions and with questions that ten annotators have answered.

The card ``data/shapes/README.md`` says how they were made. Validation and test scenes are read from files; the training
scenes are drawn from their seed.

    >>> from studyguide.datasets import shapes
    >>> scene = shapes.scenes("test")[0]
    >>> shapes.render(scene["objects"]).shape
    torch.Size([3, 32, 32])
"""

import json
import math
import random
from collections import Counter
from hashlib import sha256

import torch

from studyguide.datasets import path, verify

__all__ = ["COLOURS", "KINDS", "PLACES", "SHAPES", "SIZES", "images", "render", "scenes"]

COLOURS = {  # name: RGB, of Okabe and Ito's palette, which all kinds of colour vision tell apart
    "black": (0, 0, 0),
    "blue": (0, 114, 178),
    "green": (0, 158, 115),
    "orange": (230, 159, 0),
    "pink": (204, 121, 167),
}
SHAPES = ("circle", "square", "triangle", "star")
SIZES = {"large": 4.5, "small": 3.0}  # name: half the width in pixels
PLACES = (
    ("top left", "top", "top right"),
    ("left", "centre", "right"),
    ("bottom left", "bottom", "bottom right"),
)
KINDS = ("colour", "shape", "count", "position", "presence", "relation")
COUNTS = {"train": 4000, "validation": 200, "test": 200}

SEED = 20261123
PIXELS, CELL, SAMPLES = 32, 10, 8  # width of an image, of a cell; samples along a pixel's side

# The words of captions and questions
SIZE_WORDS = {"large": ("large", "big"), "small": ("small", "little")}
SHAPE_WORDS = {"circle": ("circle", "circle", "disc"), "square": ("square", "square", "box")}
NUMBERS = ("zero", "one", "two", "three")
RELATIONS = {  # name: (its words, the difference of columns and rows it means, the relation seen from the other side)
    "left": (("left of", "to the left of"), (-1, 0), "right"),
    "right": (("right of", "to the right of"), (1, 0), "left"),
    "above": (("above", "over"), (0, -1), "below"),
    "below": (("below", "under"), (0, 1), "above"),
}

# The model of the annotators
PLAIN, VARIANT = 0.62, 0.20  # of the right answers: in plain words, in a form that normalises to them; else a synonym
MISTAKES = {  # kind: share of wrong answers to an easy question, to a hard one
    "colour": (0.02, 0.08),
    "shape": (0.04, 0.25),
    "count": (0.03, 0.12),
    "position": (0.06, 0.20),
    "presence": (0.02, 0.10),
    "relation": (0.05, 0.22),
}
SYNONYMS = {  # other words that normalisation does not bring back
    "black": ("dark",),
    "blue": ("dark blue",),
    "green": ("teal",),
    "orange": ("yellow orange",),
    "pink": ("purple",),
    "circle": ("disc", "round"),
    "square": ("box",),
    "triangle": ("pyramid",),
    "yes": ("yep", "yeah"),
    "no": ("nope",),
    "1": ("just one",),
    "2": ("a pair",),
    "centre": ("middle", "center"),
    "left": ("middle left",),
    "right": ("middle right",),
    "top": ("upper middle",),
    "bottom": ("lower middle",),
    "top left": ("upper left",),
    "top right": ("upper right",),
    "bottom left": ("lower left",),
    "bottom right": ("lower right",),
}


def scenes(split):
    """The scenes of a `split`, "train" (4,000), "validation" or "test" (200 each): a list of dicts.

    Keys: `id`; `objects`, one to three dicts with `shape`, `colour`, `size`, `row` and `column` (0 to 2, from the top
    and from the left); `captions` (5, all true); `questions`, five or six dicts with `kind` (one of KINDS), `question`
    and `answers`, of ten annotators. No scene is twice in the three splits.

    >>> scene = scenes("test")[0]
    >>> len(scene["captions"]), {len(question["answers"]) for question in scene["questions"]}
    (5, {10})
    """
    if split not in COUNTS:
        raise ValueError(f"split is {split!r}; expected one of {', '.join(COUNTS)}")
    if split == "train":
        return draw(split)
    folder = path("shapes")
    if problems := verify(folder):
        raise ValueError("; ".join([*problems, "python data/shapes/build.py writes the files anew"]))
    return [json.loads(line) for line in (folder / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]


def images(scenes):
    """Scenes as a float32 tensor (n, 3, 32, 32) in [0, 1]; at least one, else a ValueError.

    >>> images(scenes("test")[:4]).shape
    torch.Size([4, 3, 32, 32])
    """
    if not scenes:
        raise ValueError("scenes is empty; expected one scene or more")
    return torch.stack([render(scene["objects"]) for scene in scenes]).float() / 255


def render(objects):
    """Objects on white: a uint8 tensor (3, 32, 32) in red, green, blue, the same on every machine.

    `objects` are dicts with `shape`, `colour`, `size`, `row` and `column`. A ValueError names what is not in SHAPES,
    COLOURS or SIZES, off the grid, or in a cell that is taken.

    >>> render([{"shape": "square", "colour": "blue", "size": "large", "row": 1, "column": 1}])[:, 16, 16].tolist()
    [0, 114, 178]
    """
    _check(objects)
    image = torch.full((PIXELS, PIXELS, 3), 255.0, dtype=torch.float64)
    grid = (torch.arange(PIXELS * SAMPLES, dtype=torch.float64) + 0.5) / SAMPLES
    for item in objects:
        x = grid[None, :] - (CELL * item["column"] + 6)
        y = grid[:, None] - (CELL * item["row"] + 6)
        inside = _inside(item["shape"], x, y, SIZES[item["size"]]).double()
        cover = inside.view(PIXELS, SAMPLES, PIXELS, SAMPLES).mean((1, 3))[..., None]
        image += cover * (torch.tensor(COLOURS[item["colour"]]) - image)
    return image.round().byte().permute(2, 0, 1).contiguous()


def _inside(shape, x, y, r):
    if shape == "circle":
        return x * x + y * y <= r * r
    if shape == "square":
        return (x.abs() <= 0.9 * r) & (y.abs() <= 0.9 * r)
    if shape == "triangle":
        return (y <= 0.8 * r) & (1.8 * x.abs() <= y + r)
    # A point is in a pentagram if it is on the inner side of at least four of its five lines.
    angles = [math.pi * (0.5 + 0.4 * k) for k in range(5)]
    return sum((math.cos(a) * x - math.sin(a) * y <= 0.34 * r).int() for a in angles) >= 4


def _check(objects):
    known = {"shape": SHAPES, "colour": COLOURS, "size": SIZES, "row": range(3), "column": range(3)}
    for item in objects:
        for key, values in known.items():
            if item.get(key) not in values:
                raise ValueError(
                    f"an object's {key} is {item.get(key)!r}; expected one of {', '.join(map(str, values))}"
                )
    cells = Counter((item["row"], item["column"]) for item in objects)
    if cells and max(cells.values()) > 1:
        raise ValueError(f"row and column {cells.most_common(1)[0][0]} hold more than one object; expected one")


def draw(split):
    """Draw the scenes of a split from its seed; `scenes` gives what ships."""
    rng, seen, found = random.Random(f"{SEED} {split}"), set(), []
    while len(found) < COUNTS[split]:
        objects = _objects(rng)
        key = json.dumps(sorted(objects, key=lambda item: (item["row"], item["column"])))
        if key in seen or _split(key) != split:
            continue
        seen.add(key)
        number = len(found) + 1
        found.append(
            {
                "id": f"{split}-{number:04}",
                "objects": objects,
                "captions": _captions(objects, rng),
                "questions": _questions(objects, rng),
            }
        )
    return found


def _split(key):
    """The split a scene belongs to, by its hash: so none can be in two."""
    return {0: "test", 1: "validation"}.get(sha256(key.encode()).digest()[0] % 8, "train")


def _objects(rng):
    """One to three objects in cells of their own, no two of the same colour and shape."""
    count = rng.choices((1, 2, 3), (6, 47, 47))[0]
    kinds = rng.sample([(shape, colour) for shape in SHAPES for colour in COLOURS], count)
    cells = rng.sample(range(9), count)
    return [
        {"shape": shape, "colour": colour, "size": rng.choice(tuple(SIZES)), "row": cell // 3, "column": cell % 3}
        for (shape, colour), cell in zip(kinds, cells, strict=True)
    ]


def _captions(objects, rng):
    """Five captions in five forms. Each names every object."""

    def named(item, sized):
        words = [rng.choice(SIZE_WORDS[item["size"]])] if sized else []
        words += [item["colour"], rng.choice(SHAPE_WORDS.get(item["shape"], (item["shape"],)))]
        return " ".join(["an" if words[0][0] in "aeiou" else "a", *words])

    def listed(sized=False, placed=False):
        order = rng.sample(objects, len(objects))
        parts = [named(item, sized) + (f" {_at(item)}" if placed else "") for item in order]
        return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)

    def related():
        if len(objects) == 1:
            return f"{_at(objects[0])} there is {named(objects[0], rng.random() < 0.5)}"
        one, other, *rest = rng.sample(objects, len(objects))
        words = rng.choice(RELATIONS[rng.choice(_relations(one, other))][0])
        pair = f"{named(one, rng.random() < 0.5)} {words} {named(other, rng.random() < 0.5)}"
        return f"{named(rest[0], False)}, and {pair}" if rest else pair

    shapes = "shape" if len(objects) == 1 else "shapes"
    captions = [
        listed(),
        f"{NUMBERS[len(objects)]} {shapes}, {listed(sized=rng.random() < 0.5)}",
        f"there is {listed(placed=True)}",
        f"a picture of {listed(sized=True)}",
        related(),
    ]
    return rng.sample(captions, 5)


def _relations(one, other):
    """The relations in which one object stands to another."""
    dx, dy = one["column"] - other["column"], one["row"] - other["row"]
    return [name for name, (_, (x, y), _) in RELATIONS.items() if dx * x + dy * y > 0]


def _at(item):
    place = PLACES[item["row"]][item["column"]]
    return (
        f"in the {place}"
        if place == "centre"
        else f"on the {place}"
        if place in ("left", "right")
        else f"at the {place}"
    )


def _questions(objects, rng):
    """Five or six questions with their annotators' answers."""
    asked = [_colour, _shape, _count, _position, _presence] + [_relation] * (len(objects) > 1)
    questions = []
    for ask in asked:
        kind = ask.__name__[1:]
        question, truth, wrong, hard = ask(objects, rng)
        answers = _answers(truth, wrong, MISTAKES[kind][hard], rng)
        questions.append({"kind": kind, "question": question, "answers": answers})
    return questions


def _colour(objects, rng):
    item = rng.choice(objects)
    name = _the(item, objects, "shape", f"the {item['shape']}")
    question = rng.choice((f"what colour is {name}?", f"which colour does {name} have?"))
    return question, item["colour"], _others(COLOURS, item["colour"]), item["size"] == "small"


def _shape(objects, rng):
    item = rng.choice(objects)
    name = _the(item, objects, "colour", f"the {item['colour']} object")
    question = rng.choice((f"what shape is {name}?", f"which shape does {name} have?"))
    return question, item["shape"], _others(SHAPES, item["shape"]), item["size"] == "small"


def _count(objects, rng):
    key = rng.choice(("all", "shape", "colour"))
    if key == "all":
        thing, count = "objects", len(objects)
    else:
        value = rng.choice((rng.choice(objects)[key], rng.choice(tuple(COLOURS if key == "colour" else SHAPES))))
        thing = f"{value} objects" if key == "colour" else f"{value}s"
        count = sum(item[key] == value for item in objects)
    question = rng.choice((f"how many {thing} are there?", f"how many {thing} can you see?"))
    return question, str(count), [str(n) for n in (count - 1, count + 1) if n >= 0], len(objects) == 3


def _position(objects, rng):
    item = rng.choice(objects)
    row, column = item["row"], item["column"]
    near = [PLACES[r][c] for r in range(3) for c in range(3) if abs(r - row) + abs(c - column) == 1]
    question = rng.choice(("where is the {colour} {shape}?", "in which part is the {colour} {shape}?"))
    return question.format(**item), PLACES[row][column], near, 1 in (row, column)


def _presence(objects, rng):
    there = {(item["colour"], item["shape"]) for item in objects}
    colour, shape = rng.choice(sorted(there))
    if rng.random() < 0.5:
        colour, shape = rng.choice([(c, s) for c in COLOURS for s in SHAPES if (c, s) not in there])
    present = (colour, shape) in there
    close = not present and any(colour == c or shape == s for c, s in there)
    article = "an" if colour[0] in "aeiou" else "a"
    return f"is there {article} {colour} {shape}?", *_yes_or_no(present), close


def _relation(objects, rng):
    one, other = rng.sample(objects, 2)
    true = _relations(one, other)
    name = rng.choice(true)
    if rng.random() < 0.5:
        name = RELATIONS[name][2]
    words = rng.choice(RELATIONS[name][0])
    question = f"is the {one['colour']} {one['shape']} {words} the {other['colour']} {other['shape']}?"
    return question, *_yes_or_no(name in true), len(true) == 2


def _the(item, objects, key, name):
    """The name if it fits no other object, else where the object is."""
    return name if sum(other[key] == item[key] for other in objects) == 1 else f"the object {_at(item)}"


def _yes_or_no(true):
    return ("yes", ["no"]) if true else ("no", ["yes"])


def _others(values, value):
    return [other for other in values if other != value]


def _answers(truth, wrong, mistakes, rng):
    """Ten answers, drawn again until the truth, in all forms that normalise to it, is the commonest."""
    variants = [truth.capitalize(), f"{truth}."]
    if truth in SHAPES:
        variants += [f"a {truth}", f"a {truth}"]
    elif truth.isdigit():
        variants = [NUMBERS[int(truth)]]
    elif " " in truth:
        variants += [f"the {truth}", truth.replace(" ", "-")]
    while True:
        answers = []
        for _ in range(10):
            if rng.random() < mistakes:
                answers.append(rng.choice(wrong))
            else:
                form = rng.random()
                words = (
                    (truth,) if form < PLAIN else variants if form < PLAIN + VARIANT else SYNONYMS.get(truth, (truth,))
                )
                answers.append(rng.choice(words))
        counts = Counter(truth if answer in variants else answer for answer in answers)
        if counts.pop(truth, 0) > max(counts.values(), default=0):
            return answers
