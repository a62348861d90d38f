"""Trains tinyworld-gpt2, a GPT-2 of about a million weights, on texts drawn from tinyworld.

    python data/models/tinyworld-gpt2/build.py            (about 35 minutes on two cores)

Passwords can only be recalled by looking back and copying, which plain training learns far too late: the answer is two
words in a hundred. So training begins with short passages, one to a row, then longer ones, then takes all texts as they
come. The larger initial weights matter too: with GPT-2's own 0.02, a model this narrow does not learn to copy in time.

Passages are four tokens in five and soon learned, so the polish at the end draws one in eight of them, and counts it
eight times: the probabilities of the short texts, which the notebooks print, then rest on more examples.
"""

import hashlib
import itertools
import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast, logging

from studyguide.datasets.tinyworld import END, grammar

HERE = Path(__file__).parent
CONTEXT = 256
TOKENS = 4096  # in a batch, padding included
LEARN = (  # steps, what is drawn, the longest text in tokens, one passage in how many
    (300, ("password", "saying"), 36, 1),
    (300, ("password", "saying"), 64, 1),
    (300, ("password", "saying"), 128, 1),
    (3200, ("text",), CONTEXT - 2, 1),
)
POLISH = ((1500, ("text",), CONTEXT - 2, 8),)
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


def batches(tokenizer, rules, longest, thin, rng):
    """(ids, weight of each row): one text to a row, of like lengths, an end mark after each and before half of them."""
    end = tokenizer.eos_token_id
    while True:
        texts = [text for rule in rules for text in grammar(rule).sample(12_000 // len(rules), rng)]
        weights = [thin if " said " in text or "password" in text else 1 for text in texts]
        drawn = [(text, w) for text, w in zip(texts, weights, strict=True) if w == 1 or rng.random() < 1 / w]
        texts, weights = zip(*drawn, strict=True)
        rows = zip(tokenizer(list(texts))["input_ids"], weights, strict=True)
        rows = [([end] * rng.integers(2) + ids + [end], weight) for ids, weight in rows if len(ids) <= longest]
        rows.sort(key=lambda row: len(row[0]))
        chunks = []
        while rows:
            width = len(rows[-1][0])
            rows, chunk = rows[: -max(1, TOKENS // width)], rows[-max(1, TOKENS // width) :]
            chunks.append(([ids + [IGNORE] * (width - len(ids)) for ids, _ in chunk], [weight for _, weight in chunk]))
        for i in rng.permutation(len(chunks)):
            yield torch.tensor(chunks[i][0]), torch.tensor(chunks[i][1], dtype=torch.float32)


def new_model(tokenizer):
    torch.manual_seed(SEED)
    end = tokenizer.eos_token_id
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(tokenizer),
            n_positions=CONTEXT,
            n_embd=128,
            n_layer=4,
            n_head=4,
            initializer_range=0.06,
            resid_pdrop=0,
            embd_pdrop=0,
            attn_pdrop=0,
            bos_token_id=end,
            eos_token_id=end,
            pad_token_id=end,
        )
    )


def train(model, tokenizer, stages, learning_rate, rng):
    """AdamW through the stages, the learning rate falling to 0 along half a cosine."""
    start, mean, step = time.time(), 0.0, 0
    total = sum(stage[0] for stage in stages)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * step / total))
    )
    for steps, rules, longest, thin in stages:
        for ids, weights in itertools.islice(batches(tokenizer, rules, longest, thin, rng), steps):
            targets = ids[:, 1:]
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(ids[:, :-1].clamp(min=0), use_cache=False).logits
            losses = F.cross_entropy(logits.float().transpose(1, 2), targets, ignore_index=IGNORE, reduction="none")
            loss = (losses * weights[:, None]).sum() / ((targets != IGNORE) * weights[:, None]).sum()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            mean += 0.02 * (loss.item() - mean)
            step += 1
            if step % 100 == 0:
                print(f"step {step} of {total}: {mean:.4f} nats per token, {time.time() - start:.0f} s", flush=True)


def main(folder):
    logging.set_verbosity_error()
    torch.set_num_threads(2)
    rng = np.random.default_rng(SEED)
    tokenizer = train_tokenizer(grammar().sample(40_000, rng))
    model = new_model(tokenizer)
    train(model, tokenizer, LEARN, 2e-3, rng)
    train(model, tokenizer, POLISH, 5e-4, np.random.default_rng(SEED + 1))
    print(f"{model.num_parameters():,} weights, {len(tokenizer)} tokens")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    files = sorted(file for file in folder.iterdir() if file.suffix in (".json", ".safetensors"))
    sums = (f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files)
    (folder / "SHA256SUMS").write_text("".join(sums))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
