"""The coloured shapes: captions and answers are held against the objects, by a parser that knows no template."""

import json
import re
import shutil
from collections import Counter

import pytest
import torch

from studyguide.datasets import path, shapes, verify

BUILD = "shapes/build.py"
COLOURS = "black|blue|green|orange|pink"
NOUNS = {
    "circle": "circle",
    "disc": "circle",
    "square": "square",
    "box": "square",
    "triangle": "triangle",
    "star": "star",
}
SIZES = {"large": "large", "big": "large", "small": "small", "little": "small"}
PLACES = {
    "top left": (0, 0),
    "top": (0, 1),
    "top right": (0, 2),
    "left": (1, 0),
    "centre": (1, 1),
    "right": (1, 2),
    "bottom left": (2, 0),
    "bottom": (2, 1),
    "bottom right": (2, 2),
}
THING = rf"(?:(?P<size>{'|'.join(SIZES)}) )?(?P<colour>{COLOURS}) (?P<shape>{'|'.join(NOUNS)})"
PLACE = r"(?:at|on|in) the ((?:top|bottom) (?:left|right)|top|bottom|left|right|centre)"
RELATION = r"(?:to the )?(left|right) of|(above|over)|(below|under)"
NUMBERS = {"one": 1, "two": 2, "three": 3}


def find(objects, colour, shape):
    return [item for item in objects if (item["colour"], item["shape"]) == (colour, shape)]


def holds(relation, one, other):
    """Whether `one` stands to `other` as the words say."""
    if "left" in relation:
        return one["column"] < other["column"]
    if "right" in relation:
        return one["column"] > other["column"]
    return one["row"] < other["row"] if relation in ("above", "over") else one["row"] > other["row"]


def faults(caption, objects):
    """What a caption says that is not so, or does not say and should."""
    wrong, named = [], []
    for found in re.finditer(rf"\b(an?) {THING}(?: {PLACE})?", caption):
        article, size, colour, noun, place = found.groups()
        things = find(objects, colour, NOUNS[noun])
        named += [(colour, NOUNS[noun])]
        if len(things) != 1:
            wrong.append(f"no {colour} {noun}")
            continue
        if size and SIZES[size] != things[0]["size"]:
            wrong.append(f"{noun} is not {size}")
        if place and PLACES[place] != (things[0]["row"], things[0]["column"]):
            wrong.append(f"{noun} is not at {place}")
        if (article == "an") != ((size or colour)[0] in "aeiou"):
            wrong.append(f"article of {found[0]}")
    if Counter(named) != Counter((item["colour"], item["shape"]) for item in objects):
        wrong.append("objects missing or twice")
    if number := re.match(r"(one|two|three) shapes?,", caption):
        wrong += [] if NUMBERS[number[1]] == len(objects) else ["number"]
    pair = re.search(rf"{THING} (?P<relation>{RELATION}) an? {THING.replace('P<', 'P<other_')}", caption)
    if pair and not wrong:
        one, other = (find(objects, pair[f"{who}colour"], NOUNS[pair[f"{who}shape"]])[0] for who in ("", "other_"))
        wrong += [] if holds(pair["relation"], one, other) else [f"not {pair['relation']}"]
    return wrong


def the_one(name, objects):
    """The object that a question names: "the star", "the blue object", "the object at the top", "the blue star"."""
    place = re.search(PLACE, name)
    found = [
        item
        for item in objects
        if (not place or PLACES[place[1]] == (item["row"], item["column"]))
        and all(word not in name.split() or word == item["colour"] for word in COLOURS.split("|"))
        and all(word not in name.split() or word == item["shape"] for word in shapes.SHAPES)
    ]
    assert len(found) == 1, f"{name!r} names {len(found)} objects"
    return found[0]


def truth(question, objects):
    """(kind, answer) of a question, from the objects alone."""
    if found := re.fullmatch(r"(?:what|which) (colour|shape) (?:is|does) (.+?)(?: have)?\?", question):
        return found[1], the_one(found[2], objects)[found[1]]
    if found := re.fullmatch(r"how many (\w+)(?: objects)? (?:are there|can you see)\?", question):
        word = found[1].removesuffix("s")
        return "count", str(len([x for x in objects if word == "object" or word in (x["colour"], x["shape"])]))
    if found := re.fullmatch(r"(?:where|in which part) is (the .+)\?", question):
        item = the_one(found[1], objects)
        return "position", {cell: name for name, cell in PLACES.items()}[item["row"], item["column"]]
    if found := re.fullmatch(rf"is there an? ({COLOURS}) (\w+)\?", question):
        return "presence", "yes" if find(objects, *found.groups()) else "no"
    found = re.fullmatch(rf"is (the \w+ \w+) ({RELATION}) (the \w+ \w+)\?", question)
    one, other = the_one(found[1], objects), the_one(found.groups()[-1], objects)
    return "relation", "yes" if holds(found[2], one, other) else "no"


def plain(answer):
    """An answer without article, capital, hyphen, full stop and number words."""
    answer = re.sub(r"^(an?|the) ", "", answer.lower().rstrip(".").replace("-", " "))
    return {"zero": "0", "one": "1", "two": "2", "three": "3"}.get(answer, answer)


@pytest.fixture(scope="module")
def everything():
    return {split: shapes.scenes(split) for split in ("train", "validation", "test")}


@pytest.fixture(scope="module")
def all_scenes(everything):
    return [scene for split in everything.values() for scene in split]


def key(scene):
    return frozenset(tuple(sorted(item.items())) for item in scene["objects"])


# The files


def test_the_script_writes_the_same_bytes_again(build, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "HERE", tmp_path)
    build.main()
    for name in ("validation.jsonl", "test.jsonl", "SHA256SUMS"):
        assert (tmp_path / name).read_bytes() == path(f"shapes/{name}").read_bytes()


def test_a_changed_file_is_an_error_that_says_what_to_do(tmp_path, monkeypatch):
    folder = shutil.copytree(path("shapes"), tmp_path / "shapes")
    (folder / "test.jsonl").write_text("{}\n")
    monkeypatch.setattr(shapes, "path", lambda name: folder)
    with pytest.raises(ValueError, match=r"test\.jsonl has sha256 .*; python data/shapes/build\.py writes"):
        shapes.scenes("test")


def test_an_unknown_split_is_an_error():
    with pytest.raises(ValueError, match="split is 'dev'; expected one of train, validation, test"):
        shapes.scenes("dev")


def test_every_call_gives_the_same_scenes_anew(everything):
    for split, scenes in everything.items():
        again = shapes.scenes(split)
        assert again == scenes
        again[0]["objects"][0]["colour"] = "changed"
        assert again != scenes


# The scenes


def test_splits_have_the_stated_sizes_and_share_no_scene(everything, all_scenes):
    assert {split: len(scenes) for split, scenes in everything.items()} == {
        "train": 4000,
        "validation": 200,
        "test": 200,
    }
    assert len({key(scene) for scene in all_scenes}) == len({scene["id"] for scene in all_scenes}) == 4400
    for split, scenes in everything.items():
        assert all(scene["id"].startswith(f"{split}-") for scene in scenes)


def test_scenes_have_the_stated_form(all_scenes):
    for scene in all_scenes:
        objects = scene["objects"]
        assert 1 <= len(objects) <= 3
        assert len({(item["row"], item["column"]) for item in objects}) == len(objects)
        assert len({(item["colour"], item["shape"]) for item in objects}) == len(objects)
        assert len(set(scene["captions"])) == len(scene["captions"]) == 5
        kinds = [question["kind"] for question in scene["questions"]]
        assert tuple(kinds) == (shapes.KINDS if len(objects) > 1 else shapes.KINDS[:-1])
        assert all(len(question["answers"]) == 10 for question in scene["questions"])


def test_nothing_is_rare(all_scenes):
    for field, values in {"shape": shapes.SHAPES, "colour": shapes.COLOURS, "size": shapes.SIZES}.items():
        counts = Counter(item[field] for scene in all_scenes for item in scene["objects"])
        assert set(counts) == set(values)
        assert min(counts.values()) > 0.9 * sum(counts.values()) / len(values)
    counts = Counter(len(scene["objects"]) for scene in all_scenes)
    assert 0.03 < counts[1] / 4400 < 0.06
    assert 0.4 < counts[2] / 4400 < 0.5


def test_every_caption_is_true_and_names_every_object(all_scenes):
    for scene in all_scenes:
        for caption in scene["captions"]:
            assert faults(caption, scene["objects"]) == [], (scene["id"], caption)


@pytest.mark.parametrize(
    ("caption", "fault"),
    [
        ("a blue circle and an orange star", None),
        ("a big blue disc left of a star", "objects missing"),
        ("a blue circle right of an orange star", "not right of"),
        ("two shapes, a blue circle and an orange star", None),
        ("three shapes, a blue circle and an orange star", "number"),
        ("a little blue circle and an orange star", "circle is not little"),
        ("there is a blue circle at the top and an orange star in the centre", "circle is not at top"),
        ("a blue circle and a orange star", "article"),
        ("a blue circle and a green star", "no green star"),
    ],
)
def test_the_parser_finds_what_is_false(caption, fault):
    circle = {"colour": "blue", "shape": "circle", "size": "large", "row": 0, "column": 0}
    star = {"colour": "orange", "shape": "star", "size": "small", "row": 1, "column": 1}
    found = faults(caption, [circle, star])
    assert not found if fault is None else any(fault in what for what in found)


def test_captions_of_a_scene_differ_in_more_than_order(all_scenes):
    """Of all pairs of one scene's captions, hardly any has the same words."""
    pairs = same = 0
    for scene in all_scenes:
        bags = [frozenset(caption.replace(",", "").split()) for caption in scene["captions"]]
        pairs += 10
        same += 10 - sum(bags[i] != bags[j] for i in range(5) for j in range(i))
    assert same < 0.01 * pairs


# Questions and answers


def test_the_commonest_answer_is_the_truth(all_scenes):
    for scene in all_scenes:
        for question in scene["questions"]:
            kind, answer = truth(question["question"], scene["objects"])
            assert kind == question["kind"]
            (first, count), *rest = Counter(map(plain, question["answers"])).most_common()
            assert first == answer, (scene["id"], question)
            assert not rest or rest[0][1] < count


def test_yes_and_no_are_about_as_frequent(all_scenes):
    for kind in ("presence", "relation"):
        asked = [q for scene in all_scenes for q in scene["questions"] if q["kind"] == kind]
        yes = sum(Counter(map(plain, question["answers"])).most_common(1)[0][0] == "yes" for question in asked)
        assert 0.45 < yes / len(asked) < 0.55


def test_annotators_agree_less_on_hard_questions(all_scenes):
    """The share of answers that are not another object's, but a mistake, is near the card's."""
    for kind, hard in (
        ("shape", lambda item: item["size"] == "small"),
        ("colour", lambda item: item["size"] == "small"),
    ):
        shares = {False: [], True: []}
        for scene in all_scenes:
            for question in scene["questions"]:
                if question["kind"] == kind:
                    name = re.fullmatch(r".* (?:is|does) (the .+?)(?: have)?\?", question["question"])[1]
                    item = the_one(name, scene["objects"])
                    others = set(shapes.SHAPES if kind == "shape" else shapes.COLOURS) - {item[kind]}
                    shares[hard(item)] += [plain(answer) in others for answer in question["answers"]]
        for is_hard, wrong in shares.items():
            stated = shapes.MISTAKES[kind][is_hard]
            assert sum(wrong) / len(wrong) == pytest.approx(stated, abs=0.02), (kind, is_hard)


def test_answers_come_in_the_stated_mixture(all_scenes):
    """Relations: plain, in a form that normalises to it, or a synonym, of the right answers."""
    answers = [a for scene in all_scenes for q in scene["questions"] if q["kind"] == "presence" for a in q["answers"]]
    counts = Counter(answers)
    right = len(answers) * 0.96
    assert (counts["Yes"] + counts["No"] + counts["yes."] + counts["no."]) / right == pytest.approx(0.20, abs=0.02)
    assert (counts["yep"] + counts["yeah"] + counts["nope"]) / right == pytest.approx(0.18, abs=0.02)


# Pictures


def square(**more):
    return {"shape": "square", "colour": "blue", "size": "large", "row": 1, "column": 1} | more


def test_an_image_is_white_but_for_its_objects():
    assert (shapes.render([]) == 255).all()
    image = shapes.render([square(row=0, column=2)])
    assert image.shape == (3, 32, 32)
    assert image.dtype == torch.uint8
    assert image[:, 6, 26].tolist() == list(shapes.COLOURS["blue"])
    assert (image[:, 11:] == 255).all()
    assert (image[:, :, :21] == 255).all()


@pytest.mark.parametrize("size", shapes.SIZES)
@pytest.mark.parametrize(
    ("shape", "area"),
    [("circle", 3.141592653589793), ("square", 3.24), ("triangle", 1.8), ("star", 1.359)],
)
def test_a_shape_covers_its_area(shape, size, area):
    """Areas by hand, in units of r², to the eighth of a pixel that edges fall on.

    Circle pi; square 1.8²; triangle: base 2, height 1.8, over 2. Star: its five lines are d = 0.34 from the centre, its
    tips R = d / cos 72° = 1.1003 and its inner corners d / cos 36° = 0.4203, 36° apart: ten triangles of R r sin 36° / 2.
    """
    image = shapes.render([square(shape=shape, size=size, colour="black")])
    covered = (255 - image[0].double()).sum() / 255
    assert covered == pytest.approx(area * shapes.SIZES[size] ** 2, rel=0.04)


def test_rendering_hangs_on_no_order():
    objects = [square(), square(row=0, shape="star", colour="pink"), square(column=0, shape="circle", size="small")]
    assert torch.equal(shapes.render(objects), shapes.render(objects[::-1]))


def test_shapes_and_sizes_look_different():
    seen = {
        tuple(shapes.render([square(shape=shape, size=size, colour=colour)]).flatten().tolist())
        for shape in shapes.SHAPES
        for size in shapes.SIZES
        for colour in shapes.COLOURS
    }
    assert len(seen) == 40


def test_images_are_the_rendered_scenes_in_0_to_1(everything):
    scenes = everything["test"][:7]
    images = shapes.images(scenes)
    assert images.shape == (7, 3, 32, 32)
    assert images.dtype == torch.float32
    assert 0 <= images.min() < images.max() == 1
    assert torch.equal((images[3] * 255).round().byte(), shapes.render(scenes[3]["objects"]))


def test_no_scenes_are_no_images():
    with pytest.raises(ValueError, match="scenes is empty"):
        shapes.images([])


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        ([square(shape="heart")], "an object's shape is 'heart'; expected one of circle, square"),
        ([square(colour="red")], "an object's colour is 'red'; expected one of black"),
        ([square(size=3)], "an object's size is 3; expected one of large, small"),
        ([square(row=3)], "an object's row is 3; expected one of 0, 1, 2"),
        ([{"shape": "star"}], "an object's colour is None"),
        ([square(), square(shape="star")], r"row and column (1, 1) hold more than one object"),
    ],
)
def test_what_cannot_be_drawn_is_an_error(objects, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        shapes.render(objects)


def test_checksums_name_every_file():
    assert verify(path("shapes")) == []
    for split in ("validation", "test"):
        lines = path(f"shapes/{split}.jsonl").read_text(encoding="utf-8").splitlines()
        assert [json.loads(line)["id"] for line in lines] == [f"{split}-{n:04}" for n in range(1, 201)]
