"""Trains tinyworld-gpt2, a GPT-2 of about a million weights, on texts drawn from tinyworld.

    python data/models/tinyworld-gpt2/build.py            (about 20 minutes on two cores)

Passwords can only be recalled by looking back and copying, which plain training learns far too late: the answer is two
words in a hundred. So training begins with short passages, one to a row, then longer ones, then takes all texts as they
come. The larger initial weights matter too: with GPT-2's own 0.02, a model this narrow does not learn to copy in time.
"""

import hashlib
import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast, logging

from studyguide.datasets.tinyworld import END, grammar

HERE = Path(__file__).parent
CONTEXT = 256
TOKENS = 4096  # in a batch, padding included
STAGES = (  # steps, what is drawn, the longest text in tokens
    (300, ("password", "saying"), 36),
    (300, ("password", "saying"), 64),
    (300, ("password", "saying"), 128),
    (3200, ("text",), CONTEXT - 2),
)
STEPS = sum(steps for steps, _, _ in STAGES)
PEAK_LEARNING_RATE = 2e-3
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
        special_tokens=[END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=END,
        eos_token=END,
        pad_token=END,
        unk_token=END,
        model_max_length=CONTEXT,
    )


def batches(tokenizer, rules, longest, rng):
    """Batches of one text to a row, of like lengths, the end mark after each text and before half of them."""
    end = tokenizer.eos_token_id
    while True:
        texts = [text for rule in rules for text in grammar(rule).sample(12_000 // len(rules), rng)]
        rows = [[end] * rng.integers(2) + ids + [end] for ids in tokenizer(texts)["input_ids"] if len(ids) <= longest]
        rows.sort(key=len)
        chunks = []
        while rows:
            n = max(1, TOKENS // len(rows[-1]))
            chunks.append([row + [IGNORE] * (len(rows[-1]) - len(row)) for row in rows[-n:]])
            del rows[-n:]
        for i in rng.permutation(len(chunks)):
            yield torch.tensor(chunks[i])


def train(tokenizer, rng):
    torch.manual_seed(SEED)
    end = tokenizer.eos_token_id
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=CONTEXT, n_embd=128, n_layer=4, n_head=4, initializer_range=0.06,
        resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, bos_token_id=end, eos_token_id=end, pad_token_id=end,
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * step / STEPS))
    )
    step, mean, start = 0, 0.0, time.time()
    for steps, rules, longest in STAGES:
        for _, ids in zip(range(steps), batches(tokenizer, rules, longest, rng), strict=False):
            targets = ids[:, 1:].flatten()
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(ids[:, :-1].clamp(min=0), use_cache=False).logits
            loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), targets, ignore_index=IGNORE)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            mean += 0.02 * (loss.item() - mean)
            step += 1
            if step % 100 == 0:
                model.save_pretrained('build/check')  # TEMP
                print(f"step {step} of {STEPS}: {mean:.4f} nats per token, {time.time() - start:.0f} s", flush=True)
    return model


def main(folder):
    logging.set_verbosity_error()
    rng = np.random.default_rng(SEED)
    torch.set_num_threads(2)
    tokenizer = train_tokenizer(grammar().sample(40_000, rng))
    model = train(tokenizer, rng)
    print(f"{model.num_parameters():,} weights, {len(tokenizer)} tokens")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    files = sorted(file for file in folder.iterdir() if file.suffix in (".json", ".safetensors"))
    sums = (f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files)
    (folder / "SHA256SUMS").write_text("".join(sums))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
