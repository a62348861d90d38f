"""Trains tinyworld-gpt2, a GPT-2 of about a million weights, on texts drawn from tinyworld.

    python data/models/tinyworld-gpt2/build.py            (about 25 minutes on two cores)

Passwords can only be recalled by looking back and copying, and plain training on text learns that far too late. So the
training begins with rows of random tokens that repeat, near ones first; their share then falls to nothing, and the
training ends on text alone.
"""

import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from studyguide.datasets import tinyworld

HERE = Path(__file__).parent
CONTEXT = 256
ROWS = 16
STEPS = 4400
PEAK_LEARNING_RATE = 3e-3
SEED = 20261121
IGNORE = -100  # a target that is not scored


def train_tokenizer(texts):
    """Byte-level BPE, GPT-2's kind, on the texts."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2000,
        min_frequency=5,
        special_tokens=[tinyworld.END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=tinyworld.END,
        eos_token=tinyworld.END,
        pad_token=tinyworld.END,
        unk_token=tinyworld.END,
        model_max_length=CONTEXT,
    )


def text_rows(tokenizer, rng):
    """Rows of CONTEXT tokens: whole texts, an end mark after each, the last one cut; half begin with the mark."""
    end, row = tokenizer.eos_token_id, []
    while True:
        for ids in tokenizer(tinyworld.sample(5000, rng))["input_ids"]:
            if not row and rng.random() < 0.5:
                row = [end]
            row += [*ids, end]
            if len(row) >= CONTEXT:
                yield row[:CONTEXT]
                row = []


def copy_rows(n, vocabulary, length, rng):
    """Rows cut into stretches of `length`, each of random tokens that repeat; and what to predict there.

    A stretch repeats after a random distance of at most half its length. Its first round cannot be predicted, so it
    is not scored.
    """
    noise = rng.choice(vocabulary, size=(n, CONTEXT))
    into = np.arange(CONTEXT) % length
    begin = np.arange(CONTEXT) - into
    distance = rng.integers(4, length // 2 + 1, size=(n, CONTEXT))[:, begin]
    ids = np.take_along_axis(noise, begin + into % distance, axis=1)
    return ids, np.where(into < distance, IGNORE, ids)


def schedule(step):
    """(how many of the ROWS are copies, the length of their stretches) at a step."""
    share = 1 if step < 500 else min(1 / 3, max(0, 0.8 - step / STEPS))
    return round(ROWS * share), int(min(CONTEXT, max(32, 32 + (step - 400) / 4)))


def train(tokenizer, rng):
    torch.manual_seed(SEED)
    end = tokenizer.eos_token_id
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=CONTEXT, n_embd=128, n_layer=4, n_head=4,
        resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, initializer_range=0.06, bos_token_id=end, eos_token_id=end, pad_token_id=end,
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    rows, start = text_rows(tokenizer, rng), time.time()
    words = np.unique(np.concatenate(tokenizer(tinyworld.sample(20_000, rng))["input_ids"]))
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = PEAK_LEARNING_RATE * min(1, (step + 1) / 200) * 0.5 * (1 + math.cos(math.pi * step / STEPS))
        n, length = schedule(step)
        copies, targets = copy_rows(n, words, length, rng)
        text = np.array([next(rows) for _ in range(ROWS - n)], dtype=int).reshape(-1, CONTEXT)
        ids = torch.as_tensor(np.concatenate([text, copies]))
        labels = torch.as_tensor(np.concatenate([text, targets]))[:, 1:]
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(ids[:, :-1], use_cache=False).logits
        losses = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), reduction="none")
        (losses.sum() / (labels != IGNORE).sum()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 100 == 0 or step == STEPS - 1:
            losses = losses.detach().view_as(labels)
            on_text, on_copies = losses[: len(text)].mean(), losses[len(text) :].sum() / max(1, (targets != IGNORE).sum())
            model.save_pretrained("build/check")
            print(f"step {step:5d}  text {on_text:.4f}  copies {on_copies:.4f}  {time.time() - start:5.0f} s", flush=True)
    return model


def main(folder):
    rng = np.random.default_rng(SEED)
    torch.set_num_threads(2)
    tokenizer = train_tokenizer(tinyworld.sample(40_000, rng))
    model = train(tokenizer, rng)
    print(f"{model.num_parameters():,} weights, {len(tokenizer)} tokens")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
