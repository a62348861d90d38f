"""Caption scores against sacrebleu, rouge-score and nltk; generation token by token against the model's own logits."""

import math
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.translate.meteor_score import meteor_score
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU

from studyguide.image.captioning import evaluate_captions, generate_texts, in_bytes, score_captions, without_prompt
from studyguide.statistics.bootstrap import bootstrap_interval
from studyguide.text.bleu import bleu_interval, bleu_statistics
from tests.image.tiny_models import Processor, encoder_decoder, images

CAPTIONS = ["a red circle on the left", "two blue squares", "a star"]
REFERENCES = [
    ["a red circle at the left", "on the left there is a red disc", "a circle"],
    ["two blue squares and a star", "blue squares"],
    ["the green star is alone", "a star", "a small star"],
]
PROMPTS = ["what colour is the circle", "how many", "is there a red square on the star", "how many stars are there"]
properties = settings(max_examples=50, deadline=None)
sentences = st.lists(
    st.sampled_from(["red", "blue", "circle", "star", "the", "a", "on", "left"]), min_size=1, max_size=9
).map(" ".join)
corpora = st.lists(st.tuples(sentences, st.lists(sentences, min_size=1, max_size=4)), min_size=2, max_size=6)


def close(a, b, rtol=0.0, atol=1e-10):
    a, b = (torch.as_tensor(x, dtype=torch.float64) for x in (a, b))
    torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


@pytest.fixture(scope="module")
def model():
    return encoder_decoder()


# Scores


@properties
@given(corpora)
def test_scores_equal_sacrebleu_rouge_score_and_nltk(corpus):
    captions, references = map(list, zip(*corpus, strict=True))
    scores = score_captions(captions, references)
    longest = max(map(len, references))
    streams = [[group[i] if i < len(group) else None for group in references] for i in range(longest)]
    close(scores.bleu.estimate, BLEU(tokenize="none").corpus_score(captions, streams).score)
    single = BLEU(tokenize="none", effective_order=True)
    close(scores.image_bleu, [single.sentence_score(c, group).score for c, group in corpus])
    scorer = RougeScorer(["rougeL"])
    close(scores.image_rouge_l, [scorer.score_multi(group, c)["rougeL"].fmeasure for c, group in corpus])
    no_wordnet = SimpleNamespace(synsets=lambda word: [])
    theirs = [meteor_score([r.split() for r in group], c.split(), wordnet=no_wordnet) for c, group in corpus]
    close(scores.image_meteor, theirs)


def test_scores_by_hand():
    """One image: 'a red circle on the left' has 6 words, its references 6, 8 and 2."""
    scores = score_captions(CAPTIONS[:2], REFERENCES[:2])
    # rouge: 5 words in order with the first reference (a red circle the left), of 6 and 6
    # with the second 3 (on the left), of 6 and 8; with the third 2, of 6 and 2
    close(scores.image_rouge_l[0], max(5 / 6, 2 * 3 / (6 + 8), 2 * 2 / (6 + 2)))
    # bleu: all 6 words are in a reference; of 5 pairs the third, 'circle on', is in none; of 4 triples only 'a red circle'
    # and 'on the left', of 3 quadruples none, which counts as 1 / (2 * 3). The closest reference has 6 words: no penalty.
    close(scores.image_bleu[0], 100 * (6 / 6 * 4 / 5 * 2 / 4 * 1 / 6) ** 0.25)
    # meteor: 5 of 6 words aligned with the first reference, in 2 chunks: (a red circle) (the left)
    close(scores.image_meteor[0], 5 / 6 * (1 - 0.5 * (2 / 5) ** 3))


def test_intervals_are_those_of_chapters_2_and_4():
    scores = score_captions(CAPTIONS, REFERENCES, rng=3)
    for ours, values in ((scores.rouge_l, scores.image_rouge_l), (scores.meteor, scores.image_meteor)):
        close(ours.estimate, np.mean(values.numpy()))
        expected = bootstrap_interval(values, rng=3)
        close([ours.low, ours.high], [expected.low, expected.high])
    expected = bleu_interval(bleu_statistics(CAPTIONS, REFERENCES), rng=3)
    close([scores.bleu.low, scores.bleu.high], [expected.low, expected.high])


def test_perfect_wrong_and_empty_captions():
    perfect = score_captions([group[-1] for group in REFERENCES], REFERENCES)
    close([perfect.rouge_l.estimate, perfect.rouge_l.low], [1, 1])
    close(perfect.image_bleu, [100, 100, 100])
    for nothing in (score_captions(["dog"] * 3, REFERENCES), score_captions([""] * 3, REFERENCES)):
        close([nothing.bleu.estimate, nothing.rouge_l.estimate, nothing.meteor.high], [0, 0, 0])


def test_case_punctuation_and_the_order_of_references_do_not_count():
    plain = score_captions(CAPTIONS, REFERENCES)
    loud = score_captions([f"{c.upper()}." for c in CAPTIONS], [[f"{r}!" for r in group[::-1]] for group in REFERENCES])
    for field in ("image_bleu", "image_rouge_l", "image_meteor"):
        close(getattr(plain, field), getattr(loud, field))


@properties
@given(corpora)
def test_more_references_never_lower_rouge_or_meteor(corpus):
    captions, references = map(list, zip(*corpus, strict=True))
    few, many = (score_captions(captions, refs) for refs in ([group[:1] for group in references], references))
    assert (many.image_rouge_l >= few.image_rouge_l).all()
    assert (many.image_meteor >= few.image_meteor).all()
    assert ((many.image_bleu >= 0) & (many.image_bleu <= 100 + 1e-9)).all()


# Generation


def greedy(model, image, prompt, steps):
    """The definition: the most probable token, one after the other, without a cache, a batch or padding."""
    ids = torch.tensor([[1, *prompt]])
    for _ in range(steps):
        logits = model(pixel_values=image[None], decoder_input_ids=ids).logits[0, -1]
        ids = torch.cat([ids, logits.argmax().view(1, 1)], -1)
        if ids[0, -1] == 2:
            break
    return ids[0, 1 + len(prompt) :]


@pytest.mark.parametrize("prompts", [None, PROMPTS])
@pytest.mark.parametrize("seed", [0, 3, 5])  # the model of seed 3 stops at once, for most of the images
def test_texts_are_the_greedy_ones_without_the_prompt(seed, prompts):
    model, processor, pictures = encoder_decoder(seed), Processor(), images(len(PROMPTS))
    asked = [[]] * len(PROMPTS) if prompts is None else processor.tokenizer(prompts)["input_ids"]
    pixels = processor(in_bytes(pictures))["pixel_values"]
    written = [greedy(model, *pair, 7) for pair in zip(pixels, asked, strict=True)]
    expected = [text.strip() for text in processor.batch_decode(written, skip_special_tokens=True)]
    assert seed == 3 or len(set(expected)) > 1
    for batch_size in (1, 2, 16):
        assert generate_texts(model, processor, pictures, prompts, batch_size, max_new_tokens=7) == expected


def test_images_may_be_floats_bytes_or_a_list(model):
    pictures = images(3)
    expected = generate_texts(model, Processor(), pictures)
    for same in (list(pictures), (255 * pictures).round().byte(), list((255 * pictures.float()).round().byte())):
        assert generate_texts(model, Processor(), same) == expected
    assert in_bytes(["a path", 7]) == ["a path", 7]


def scripted(answers, echo=(), is_encoder_decoder=False, main_input_name="input_ids"):
    """A model that writes the `answers` after the `echo`, if there is one: how its `generate` looks from outside."""
    config = SimpleNamespace(is_encoder_decoder=is_encoder_decoder, name_or_path="")
    written = torch.cat([torch.as_tensor(echo, dtype=torch.int64).reshape(len(answers), -1), answers], 1)
    return SimpleNamespace(config=config, main_input_name=main_input_name), written


PROMPT = torch.tensor([[0, 5, 6], [7, 8, 9]])
ANSWER = torch.tensor([[11, 12], [13, 2]])
START = torch.tensor([[1], [1]])


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("input_ids", {"echo": PROMPT}),  # decoder only
        ("input_ids", {}),  # decoder only, from embeddings
        ("input_ids", {"echo": PROMPT, "is_encoder_decoder": True, "main_input_name": "pixel_values"}),
        ("decoder_input_ids", {"echo": PROMPT, "is_encoder_decoder": True}),
        ("decoder_input_ids", {"echo": torch.cat([START, PROMPT], 1), "is_encoder_decoder": True}),
    ],
)
def test_the_prompt_is_cut_off_where_it_was_echoed(name, settings):
    model, written = scripted(ANSWER, **settings)
    assert torch.equal(without_prompt(model, {name: PROMPT}, written), ANSWER)


def test_what_an_encoder_has_read_is_never_cut_off():
    """Even if the answer begins with the question."""
    model, written = scripted(ANSWER, echo=PROMPT, is_encoder_decoder=True)
    assert torch.equal(without_prompt(model, {"input_ids": PROMPT}, written), written)
    assert torch.equal(without_prompt(model, {"pixel_values": PROMPT}, written), written)


def test_an_answer_that_repeats_words_of_the_prompt_stays_whole():
    model, written = scripted(PROMPT, echo=PROMPT)
    assert torch.equal(without_prompt(model, {"input_ids": PROMPT}, written), PROMPT)


# Both


def test_evaluation_is_generation_and_scores_whatever_the_batch_size(model):
    pictures, processor = images(3), Processor()
    captions = generate_texts(model, processor, pictures, max_new_tokens=9)
    expected = score_captions(captions, REFERENCES, rng=1)
    for batch_size in (1, 2, 3):
        scores = evaluate_captions(model, processor, pictures, REFERENCES, batch_size, max_new_tokens=9, rng=1)
        assert scores.captions == captions
        assert str(scores.bleu) == str(expected.bleu)
        close(scores.image_meteor, expected.image_meteor)
    assert scores.model == "VisionEncoderDecoderModel"
    assert str(scores).startswith("VisionEncoderDecoderModel, 3 images\nBLEU-4 ")


def test_the_model_is_named_by_the_folder_it_was_loaded_from(model, monkeypatch):
    monkeypatch.setattr(model.config, "_name_or_path", "/somewhere/shapes-captioner")
    assert evaluate_captions(model, Processor(), images(2), REFERENCES[:2]).model == "shapes-captioner"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"references": ["a cat", "a dog", "a"]},
            TypeError,
            "references[0] is the str 'a cat'; expected a list of texts",
        ),
        ({"references": "a cat"}, TypeError, "references is the str 'a cat'"),
        ({"references": REFERENCES[:2]}, ValueError, "there are 3 hypotheses and 2 lists of references"),
        ({"references": [["a"], [], ["b"]]}, ValueError, "references[1] is empty"),
        ({"images": images(3)[0]}, ValueError, "images has shape (3, 8, 8); expected (n, channels, height, width)"),
        ({"images": 255 * images(3)}, ValueError, "expected floats in [0, 1]"),
        ({"images": images(3) * math.nan}, ValueError, "images has values from nan to nan"),
        ({"images": images(1), "references": [["a"]]}, ValueError, "there is 1 image; expected 2 or more"),
        ({"images": images(0), "references": []}, ValueError, "hypotheses is empty"),
        ({"batch_size": 0}, ValueError, "batch_size is 0"),
        ({"max_new_tokens": 1.5}, TypeError, "max_new_tokens is 1.5"),
    ],
)
def test_errors(model, change, error, message):
    arguments = {"images": images(3), "references": REFERENCES} | change
    with pytest.raises(error, match=re.escape(message)):
        evaluate_captions(model, Processor(), **arguments)


def test_a_model_in_training_mode_and_prompts_that_do_not_fit_are_refused(model):
    with pytest.raises(ValueError, match="there are 3 images and 2 prompts"):
        generate_texts(model, Processor(), images(3), PROMPTS[:2])
    training = encoder_decoder().train()
    with pytest.raises(ValueError, match="model is in training mode"):
        evaluate_captions(training, Processor(), images(3), REFERENCES)


@pytest.mark.gpu
def test_cuda_agrees_with_cpu():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA GPU")
    model, processor, pictures = encoder_decoder(), Processor(), images(4)
    expected = generate_texts(model, processor, pictures, PROMPTS)
    assert generate_texts(model.to("cuda"), processor, pictures, PROMPTS) == expected
    assert math.isfinite(evaluate_captions(model, processor, pictures[:3], REFERENCES).bleu.estimate)
