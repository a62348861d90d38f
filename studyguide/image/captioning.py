"""What a model says about images: texts generated in batches, and captions scored against all of their references.

Images are a tensor (n, channels, height, width), floats in [0, 1] or uint8, or a list of n images, also of what else the
processor takes (PIL images, arrays).

Errors: a model in training mode, whose dropout would make the result random; images, prompts and references that are
not as many; floats outside [0, 1] are a ValueError.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from studyguide.probability.validation import positive_integer
from studyguide.statistics.bootstrap import bootstrap_interval
from studyguide.statistics.intervals import Interval
from studyguide.text.bleu import bleu_from_statistics, bleu_interval, bleu_statistics
from studyguide.text.meteor import meteor
from studyguide.text.ngrams import check_corpus
from studyguide.text.rouge import rouge_l

TOKENS = "unicode"  # words without case and punctuation


@dataclass(frozen=True, eq=False)
class CaptionScores:
    """What `evaluate_captions` found; intervals are for other images like these, with n images in all."""

    model: str
    captions: list[str]
    bleu: Interval  # 0 to 100: corpus BLEU-4, whose counts are added up over the images
    rouge_l: Interval  # 0 to 1: mean F1 over the images
    meteor: Interval  # 0 to 1: mean over the images
    image_bleu: torch.Tensor  # (n,) sentence BLEU, by the orders that the caption has; its mean is not `bleu`
    image_rouge_l: torch.Tensor  # (n,)
    image_meteor: torch.Tensor  # (n,)

    def __str__(self):
        scores = {"BLEU-4": self.bleu, "ROUGE-L": self.rouge_l, "METEOR": self.meteor}
        return "\n".join([f"{self.model}, {len(self.captions)} images", *(f"{k} {v}" for k, v in scores.items())])


def evaluate_captions(model, processor, images, references, batch_size=16, max_new_tokens=30, *, rng=0):
    """Caption the images (greedy search) and score the captions: a `CaptionScores`.

    `references` holds, for each image, a list of one or more captions. Errors: see the module; fewer than 2 images; a flat
    list of references, whose captions would be read letter by letter, is a TypeError. `rng` seeds the bootstrap.
    Convention: all references count. BLEU clips an n-gram by the reference that has it most often and takes the closest
    length; ROUGE-L and METEOR (exact and stem stages) take the best reference for each image. Case and punctuation do not
    count, as in coco-caption, whose ROUGE-L weighs recall more and whose METEOR knows synonyms.
    Source: Chen et al. (2015), "Microsoft COCO captions: data collection and evaluation server", section 3.

    >>> from studyguide.datasets import shapes
    >>> from studyguide.models import load_captioner
    >>> scenes = shapes.scenes("test")[:4]
    >>> references = [scene["captions"] for scene in scenes]
    >>> scores = evaluate_captions(*load_captioner("shapes-captioner"), shapes.images(scenes), references)
    >>> scores.model, len(scores.captions), scores.image_meteor.shape
    ('shapes-captioner', 4, torch.Size([4]))
    """
    _, references = check_corpus([""] * len(images), references)
    captions = generate_texts(model, processor, images, None, batch_size, max_new_tokens)
    return score_captions(captions, references, model_name(model), rng=rng)


def score_captions(captions, references, model="captions given", *, rng=0):
    """The `CaptionScores` of captions that somebody has already written; otherwise like `evaluate_captions`.

    >>> references = [["a dog runs", "the dog is running"], ["a red bus"]]
    >>> score_captions(["A dog runs.", "a blue bus"], references).image_rouge_l
    tensor([1.0000, 0.6667], dtype=torch.float64)
    """
    captions, references = check_corpus(captions, references)
    if len(captions) < 2:
        raise ValueError("there is 1 image; expected 2 or more, for an interval")
    pairs = list(zip(captions, references, strict=True))
    counts = bleu_statistics(captions, references, TOKENS)
    rouge = torch.tensor([rouge_l(*pair, tokenize=TOKENS).f1 for pair in pairs], dtype=torch.float64)
    aligned = torch.tensor([meteor(*pair, tokenize=TOKENS).score for pair in pairs], dtype=torch.float64)
    return CaptionScores(
        model=model,
        captions=captions,
        bleu=bleu_interval(counts, rng=rng),
        rouge_l=bootstrap_interval(rouge, rng=rng),
        meteor=bootstrap_interval(aligned, rng=rng),
        image_bleu=bleu_from_statistics(counts, effective_order=True),
        image_rouge_l=rouge,
        image_meteor=aligned,
    )


@torch.inference_mode()
def generate_texts(model, processor, images, prompts=None, batch_size=16, max_new_tokens=30):
    """What the model writes about each image, or after the prompt of each image: a list of texts without the prompts.

    Greedy search, so that the same input gives the same text. `max_new_tokens` does not count the prompt. Errors: see the
    module.
    Convention: prompts of like length share a batch, so that none is padded: transformers' VisionEncoderDecoderModel does
    not hide padding from its decoder, and would answer otherwise in a batch than alone.
    """
    batch_size, max_new_tokens = (
        positive_integer("batch_size", batch_size),
        positive_integer("max_new_tokens", max_new_tokens),
    )
    if model.training:
        raise ValueError("model is in training mode; expected model.eval(), which switches dropout off")
    images = in_bytes(images)
    if prompts is not None and len(prompts) != len(images):
        raise ValueError(f"there are {len(images)} images and {len(prompts)} prompts; expected one for each image")
    lengths = [0] * len(images) if prompts is None else [len(ids) for ids in processor.tokenizer(prompts)["input_ids"]]
    texts = {}
    for length in sorted(set(lengths)):
        rows = [row for row, other in enumerate(lengths) if other == length]
        for start in range(0, len(rows), batch_size):
            batch = rows[start : start + batch_size]
            asked = {} if prompts is None else {"text": [prompts[row] for row in batch]}
            inputs = processor(images=[images[row] for row in batch], return_tensors="pt", **asked)
            inputs = {k: x.to(model.device, model.dtype if x.is_floating_point() else None) for k, x in inputs.items()}
            written = model.generate(**inputs, do_sample=False, num_beams=1, max_new_tokens=max_new_tokens)
            written = processor.batch_decode(without_prompt(model, inputs, written), skip_special_tokens=True)
            texts |= zip(batch, map(str.strip, written), strict=True)
    return [texts[row] for row in range(len(images))]


def without_prompt(model, inputs, written):
    """Of the tokens `written` (batch, length) by ``model.generate(**inputs)``, those that are new.

    A model that reads the prompt with an encoder, or is given embeddings, returns the answer alone. A decoder that goes on
    from the prompt returns both: the ids of `inputs`, perhaps behind a start mark, then the answer. So ids are compared,
    never texts, and the prompt is cut off where every row begins with its own.
    """
    prompt = inputs.get("decoder_input_ids")
    if prompt is None and not (model.config.is_encoder_decoder and model.main_input_name == "input_ids"):
        prompt = inputs.get("input_ids")
    for mark in (0, 1) if prompt is not None else ():
        if torch.equal(written[:, mark : mark + prompt.shape[1]], prompt):
            return written[:, mark + prompt.shape[1] :]
    return written


def in_bytes(images):
    """Images as transformers' processors take them, which divide by 255: floating tensors in [0, 1] become uint8.

    >>> in_bytes(torch.tensor([0.0, 0.5, 1.0]).view(1, 3, 1, 1)).flatten()
    tensor([  0, 128, 255], dtype=torch.uint8)
    """
    if not isinstance(images, torch.Tensor):
        return [in_bytes(image[None])[0] if isinstance(image, torch.Tensor) else image for image in images]
    if images.ndim != 4:
        raise ValueError(f"images has shape {tuple(images.shape)}; expected (n, channels, height, width)")
    if not images.is_floating_point():
        return images
    if not ((images >= 0) & (images <= 1)).all():
        raise ValueError(f"images has values from {images.amin():g} to {images.amax():g}; expected floats in [0, 1]")
    return (255 * images).round().byte()


def model_name(model):
    """The name under which a model was loaded, or else its class."""
    return Path(model.config.name_or_path).name or type(model).__name__
