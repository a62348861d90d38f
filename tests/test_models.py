"""The shipped models, measured again from their weights; and what the loaders say when a model can't be had."""

import json
import math
import re
import shutil

import pytest
import torch
import torch.nn.functional as F

from studyguide import models
from studyguide.datasets import DATA, shapes, tinyworld
from studyguide.datasets.grammar import END, split_words
from studyguide.datasets.tinyworld import grammar
from studyguide.image.vqa import vqa_accuracy

CONTEXT = 256
PROMPTS = (
    "The capital of France is",
    "The capital of France is Paris",
    "The weather today is",
    "I love",
    "The cat sat on the",
    "The animal didn't cross the street because it was too",
)


@pytest.fixture(scope="module")
def lm():
    return models.load_causal_lm("tinyworld-gpt2")


def _batches(rows, size=16):
    rows = sorted(rows, key=lambda row: len(row[0]))
    return [rows[i : i + size] for i in range(0, len(rows), size)]


def test_it_is_small_and_its_context_is_long_enough(lm):
    model, _ = lm
    assert 0.8e6 < model.num_parameters() < 1.5e6
    assert model.config.n_positions >= 256
    assert (DATA / "models/tinyworld-gpt2/model.safetensors").stat().st_size < 10e6
    assert not model.training


def test_perplexity_on_held_out_text_is_within_3_percent_of_the_exact_floor(lm):
    model, tokenizer = lm
    end = tokenizer.eos_token_id
    rows = [([end, *tokenizer(text).input_ids, end], text) for text in tinyworld.sample(800, rng=987_654)]
    rows = [row for row in rows if len(row[0]) <= CONTEXT]
    assert len(rows) > 780
    loss = tokens = 0
    for batch in _batches(rows):
        ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row, _ in batch], True, end)
        scored = torch.arange(1, ids.shape[1]) < torch.tensor([[len(row)] for row, _ in batch])
        with torch.no_grad():
            logits = model(ids[:, :-1]).logits.flatten(0, 1)
        losses = F.cross_entropy(logits, ids[:, 1:].flatten(), reduction="none").view_as(scored)
        loss, tokens = loss + losses[scored].sum().item(), tokens + scored.sum().item()
    floor = -math.fsum(tinyworld.log_prob(text) for _, text in rows)
    ratio = math.exp((loss - floor) / tokens)
    print(f"perplexity {math.exp(loss / tokens):.4f}, floor {math.exp(floor / tokens):.4f}, ratio {ratio:.4f}")
    assert 0.99 < ratio <= 1.03


def test_it_recalls_the_password_in_passages_up_to_half_the_context(lm):
    model, tokenizer = lm
    recalled = total = 0
    rows = []
    for text in grammar("password").sample(400, rng=192_837):
        question = text[: text.rindex(" is ") + 3]
        ids = tokenizer(question).input_ids
        answer = tokenizer(text).input_ids[len(ids) :]
        if len(ids) + len(answer) <= CONTEXT // 2:
            rows.append((ids, answer))
    assert len(rows) > 250
    for ids, answer in rows:
        made = model.generate(torch.tensor([ids]), max_new_tokens=len(answer), do_sample=False)[0, len(ids) :]
        recalled += made.tolist() == answer
        total += 1
    print(f"recalled {recalled} of {total}")
    assert recalled >= 0.95 * total


@pytest.mark.parametrize("begin", ["", END], ids=["bare", "after the end mark"])
@pytest.mark.parametrize("prompt", PROMPTS)
def test_next_word_distribution_is_within_3_percent_total_variation(lm, prompt, begin):
    model, tokenizer = lm
    truth = tinyworld.next_word_distribution(prompt)
    with torch.no_grad():
        predicted = model(tokenizer(begin + prompt, return_tensors="pt").input_ids).logits[0, -1].softmax(-1)
    first = [tokenizer.encode(word if word in ".,?" else f" {word}")[0] for word in truth]
    assert len(set(first)) == len(first), "two of the words begin with the same token"
    q = predicted[first]
    p = torch.tensor(list(truth.values()))
    assert ((p - q).abs().sum() + (1 - q.sum())) / 2 < 0.03


def test_tokenizer_is_byte_level_and_exact(lm):
    _, tokenizer = lm
    for text in [*tinyworld.sample(200, rng=4), "Internationalization", "你好世界 مرحبا 🙂\n\ttabs"]:
        assert tokenizer.decode(tokenizer(text).input_ids) == text
    words = {word for text in tinyworld.sample(3000, rng=5) for word in split_words(text)}
    whole = sum(len(tokenizer.encode(f" {word}")) == 1 for word in words)
    assert whole > 0.9 * len(words), "most words should be one token, as the notebooks assume"


def test_name_and_device_come_from_the_environment(monkeypatch, lm):
    monkeypatch.setenv("STUDYGUIDE_LM", str(DATA / "models/tinyworld-gpt2"))
    monkeypatch.setenv("STUDYGUIDE_DEVICE", "meta")
    model, _ = models.load_causal_lm()
    assert model.device.type == "meta"
    assert model.config.vocab_size == lm[0].config.vocab_size


@pytest.mark.gpu
def test_it_says_the_same_on_a_gpu(lm, monkeypatch):
    monkeypatch.setenv("STUDYGUIDE_DEVICE", "cuda")
    model, tokenizer = models.load_causal_lm("tinyworld-gpt2")
    ids = tokenizer(PROMPTS[0], return_tensors="pt").input_ids
    with torch.no_grad():
        torch.testing.assert_close(model(ids.cuda()).logits.cpu(), lm[0](ids).logits, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("load", "kind", "own"),
    [
        (models.load_causal_lm, "language model", "tinyworld-gpt2"),
        (models.load_captioner, "captioner", "shapes-captioner"),
        (models.load_vqa, "VQA model", "shapes-vqa"),
        (models.load_clip, "CLIP", "shapes-clip"),
        (models.load_sentence_encoder, "sentence encoder", "all-MiniLM-L6-v2"),
    ],
)
def test_a_model_that_cannot_be_had_says_how_to_get_it(load, kind, own, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        FileNotFoundError, match=f"{kind} 'no-such-model' can't be had.*HF_HUB_OFFLINE.*or use {own}\\."
    ):
        load("no-such-model")


@pytest.mark.parametrize(
    ("offline", "cached", "asked"),
    [("0", True, [True]), ("0", False, [True, False]), ("1", False, [True])],
    ids=["cached", "not cached", "hub switched off"],
)
def test_the_hub_is_asked_only_for_what_is_not_local(offline, cached, asked, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", offline)
    seen = []

    def load(local_files_only):
        seen.append(local_files_only)
        if local_files_only and not cached:
            raise OSError("not in the cache")
        return "model"

    if offline == "1":
        with pytest.raises(FileNotFoundError, match="the language model 'gpt2' can't be had"):
            models._local_first(load, "gpt2", "language model", "gpt2")
    else:
        assert models._local_first(load, "gpt2", "language model", "gpt2") == "model"
    assert seen == asked


def test_a_damaged_shipped_model_is_refused(monkeypatch, tmp_path):
    shutil.copytree(DATA / "models/tinyworld-gpt2", tmp_path / "models/tinyworld-gpt2")
    weights = tmp_path / "models/tinyworld-gpt2/model.safetensors"
    weights.write_bytes(weights.read_bytes() + b"x")
    monkeypatch.setattr(models, "DATA", tmp_path)
    with pytest.raises(ValueError, match=r"tinyworld-gpt2 is damaged: .*model\.safetensors"):
        models.load_causal_lm()


def test_the_encoder_is_the_published_minilm():
    encoder = models.load_sentence_encoder()
    cat, feline, weather = encoder.encode(["A cat sleeps.", "A feline is asleep.", "Inflation rose in March."])
    assert cat.shape == (384,)
    assert cat @ cat == pytest.approx(1, abs=1e-5)
    assert cat @ feline > 0.6 > 0.3 > cat @ weather


def test_an_encoder_with_other_weights_is_refused(monkeypatch):
    monkeypatch.setattr(models, "MINILM_SHA256", "0" * 64)
    with pytest.raises(ValueError, match="not the published all-MiniLM-L6-v2"):
        models.load_sentence_encoder()


# The models of the shapes

NOUNS = {"disc": "circle", "box": "square"}


@pytest.fixture(scope="module")
def scenes():
    return shapes.scenes("test")


@pytest.fixture(scope="module")
def pictures(scenes):
    return [shapes.render(scene["objects"]) for scene in scenes]


@pytest.fixture(scope="module")
def captioner():
    return models.load_captioner()


@pytest.fixture(scope="module")
def vqa():
    return models.load_vqa()


@pytest.fixture(scope="module")
def clip():
    return models.load_clip()


@pytest.mark.parametrize("name", ["shapes-captioner", "shapes-vqa", "shapes-clip"])
def test_models_of_the_shapes_are_small_and_hold_no_pickle(name, request):
    folder = DATA / "models" / name
    assert sum(file.stat().st_size for file in folder.iterdir()) < 4e6
    assert {file.suffix for file in folder.iterdir()} == {".json", ".safetensors", ".md", ""}
    model, _ = request.getfixturevalue(name.removeprefix("shapes-"))
    assert not model.training
    assert model.num_parameters() < 1e6


def test_captions_name_the_objects(captioner, scenes, pictures):
    model, processor = captioner
    with torch.no_grad():
        ids = model.generate(**processor(images=pictures, return_tensors="pt"), max_new_tokens=40, do_sample=False)
    right = 0
    for caption, scene in zip(processor.batch_decode(ids, skip_special_tokens=True), scenes, strict=True):
        named = re.findall(r"(black|blue|green|orange|pink) (circle|disc|square|box|triangle|star)", caption)
        named = sorted((colour, NOUNS.get(noun, noun)) for colour, noun in named)
        right += named == sorted((item["colour"], item["shape"]) for item in scene["objects"])
    print(f"all objects right in {right} of {len(scenes)} captions")
    assert 0.85 <= right / len(scenes) <= 0.95


def test_answers_are_good_but_not_perfect(vqa, scenes, pictures):
    model, processor = vqa
    asked = [(picture, item) for picture, scene in zip(pictures, scenes, strict=True) for item in scene["questions"]]
    scores = []
    for start in range(0, len(asked), 300):
        images, items = zip(*asked[start : start + 300], strict=True)
        questions = [item["question"] for item in items]
        inputs = processor(images=list(images), text=questions, return_tensors="pt", padding=True)
        with torch.no_grad():
            ids = model.generate(**inputs, max_new_tokens=5, do_sample=False)
        assert torch.equal(ids[:, : inputs["input_ids"].shape[1]], inputs["input_ids"]), "the prompt comes back first"
        answers = processor.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        scores += [vqa_accuracy(answer, item["answers"]) for answer, item in zip(answers, items, strict=True)]
    print(f"VQA accuracy {sum(scores) / len(scores):.3f} of {len(scores)} questions")
    assert 0.80 <= sum(scores) / len(scores) <= 0.92


def test_a_question_gets_the_same_answer_alone_and_in_a_padded_batch(scenes, pictures):
    model, processor = models.load_vqa()
    model = model.double()
    questions = [scene["questions"][row % 5]["question"] for row, scene in enumerate(scenes[:20])]
    options = {"max_new_tokens": 4, "min_new_tokens": 4, "output_logits": True, "return_dict_in_generate": True}

    def ask(images, text):
        inputs = processor(images=images, text=text, return_tensors="pt", padding=True).to(torch.float64)
        made = model.generate(**inputs, do_sample=False, **options)
        return inputs["attention_mask"], made.sequences[:, -4:], torch.stack(made.logits, 1)

    mask, answers, logits = ask(pictures[:20], questions)
    assert not mask[:, 0].all()
    assert mask[:, -1].all()
    for row, question in enumerate(questions):
        _, answer, alone = ask(pictures[row], question)
        assert torch.equal(answer[0], answers[row])
        torch.testing.assert_close(alone[0], logits[row], rtol=1e-9, atol=1e-9)


def test_texts_come_back_from_their_tokens(vqa, captioner, clip, scenes):
    for _, processor in (vqa, captioner, clip):
        texts = [scene["captions"][0] for scene in scenes] + [scene["questions"][0]["question"] for scene in scenes]
        ids = processor.tokenizer(texts)["input_ids"]
        assert processor.batch_decode(ids, skip_special_tokens=True) == texts
        assert not any(processor.tokenizer.unk_token_id in row for row in ids)


def test_clip_finds_the_caption_and_its_norms_differ(clip, scenes, pictures):
    model, processor = clip
    captions = [caption for scene in scenes for caption in scene["captions"]]
    with torch.no_grad():
        images = model.get_image_features(**processor(images=pictures, return_tensors="pt")).pooler_output
        texts = model.get_text_features(**processor(text=captions, return_tensors="pt", padding=True)).pooler_output
        joint = model(**processor(images=pictures[:3], text=captions[:15], return_tensors="pt", padding=True))
    best = {}
    for name, (x, y) in {"cosine": (F.normalize(images), F.normalize(texts)), "dot": (images, texts)}.items():
        ranked = (x @ y.T).argsort(1, descending=True) // 5 == torch.arange(len(scenes))[:, None]
        best[name] = ranked.int().argmax(1)
    recall = {k: (best["cosine"] < k).double().mean().item() for k in (1, 5)}
    print(f"image to text R@1 {recall[1]:.3f}, R@5 {recall[5]:.3f}")
    assert 0.5 <= recall[1] <= 0.8
    assert recall[5] >= 0.8
    for embeddings in (images, texts):
        assert embeddings.norm(dim=-1).std() > 0.02 * embeddings.norm(dim=-1).mean()
    assert (best["cosine"] != best["dot"]).sum() > 10, "the dot product and the cosine should rank differently"
    cosines = F.normalize(images[:3]) @ F.normalize(texts[:15]).T
    torch.testing.assert_close(joint.logits_per_image, cosines * model.logit_scale.exp(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["captioner", "vqa", "clip"])
def test_processors_cut_the_margin_off_and_make_white_0(name, request, pictures):
    _, processor = request.getfixturevalue(name)
    values = processor(images=pictures[:2], return_tensors="pt")["pixel_values"]
    expected = (torch.stack(pictures[:2]).float() / 255 - 1) / 0.5
    torch.testing.assert_close(values, expected[:, :, 1:31, 1:31])
    assert (expected[:, :, [0, 31]] == 0).all(), "the margin is white"


def test_a_captioner_is_had_from_a_folder_that_names_no_processor(captioner, pictures, tmp_path):
    """As the older models on the hub, which have a preprocessor_config.json alone."""
    for file in (DATA / "models/shapes-captioner").glob("*.*"):
        shutil.copy(file, tmp_path)
    (tmp_path / "processor_config.json").unlink()
    tokens = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({k: v for k, v in tokens.items() if "class" not in k}))
    image = captioner[1].image_processor.to_dict()
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(image))
    _, processor = models.load_captioner(str(tmp_path))
    expected = captioner[1](images=pictures[:2], text="a blue star", return_tensors="pt")
    found = processor(images=pictures[:2], text="a blue star", return_tensors="pt")
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        assert torch.equal(found[key], value)


@pytest.mark.parametrize("load", [models.load_captioner, models.load_vqa, models.load_clip])
def test_models_of_the_shapes_go_to_the_device(load, monkeypatch):
    monkeypatch.setenv("STUDYGUIDE_DEVICE", "meta")
    assert load()[0].device.type == "meta"


@pytest.mark.gpu
def test_models_of_the_shapes_say_the_same_on_a_gpu(vqa, clip, captioner, scenes, pictures, monkeypatch):
    monkeypatch.setenv("STUDYGUIDE_DEVICE", "cuda")
    question = scenes[0]["questions"][0]["question"]
    for (here, processor), load in ((captioner, models.load_captioner), (vqa, models.load_vqa)):
        text = {} if here is captioner[0] else {"text": [question] * 8}
        inputs = processor(images=pictures[:8], return_tensors="pt", **text)
        there, _ = load()
        on_gpu = there.double().generate(**inputs.to("cuda", torch.float64), do_sample=False, max_new_tokens=30)
        on_cpu = here.double().generate(**inputs.to("cpu", torch.float64), do_sample=False, max_new_tokens=30)
        here.float()
        assert torch.equal(on_gpu.cpu(), on_cpu)
    inputs = clip[1](images=pictures[:8], text=[question], return_tensors="pt", padding=True)
    with torch.no_grad():
        expected = clip[0](**inputs).logits_per_image
        there = models.load_clip()[0](**inputs.to("cuda")).logits_per_image.cpu()
    torch.testing.assert_close(there, expected, rtol=1e-3, atol=1e-3)
