"""Trains shapes-captioner, shapes-vqa and shapes-clip on the training scenes of the shapes.

    python data/models/build_shapes.py [captioner] [vqa] [clip]      (6 minutes on one core; all three unless named)

One script for the three, because they share the tokenizer, the image processor and the training loop. Each folder gets
a configuration, the processor's files, safetensors and checksums.
"""

import hashlib
import math
import sys
import time
from collections import Counter
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    GenerationConfig,
    GitConfig,
    GitForCausalLM,
    GitProcessor,
    GPT2Config,
    PreTrainedTokenizerFast,
    VisionEncoderDecoderConfig,
    VisionEncoderDecoderModel,
    VisionTextDualEncoderProcessor,
    ViTConfig,
    logging,
)

from studyguide.datasets import shapes

HERE = Path(__file__).parent
SEED = 20261124
PAD, BOS, UNKNOWN, EOS = range(4)  # CLIP pools at the largest id, not at the end mark, if the mark is 2
WIDTH, HEADS = 128, 4
SIDE, PATCH = 30, 10  # the picture without its white margin, in nine patches: one for each cell of the grid
PLACE = 1.0  # standard deviation of the first weights that tell a model where a patch is
LONGEST = 48  # tokens in a text
STAGES = {  # steps, rows in a batch, learning rate; few steps on purpose, so that there are errors to measure
    "captioner": [(450, 64, 2e-3)],
    "vqa": [(500, 64, 2e-3), (1500, 128, 1e-3)],
    "clip": [(200, 128, 1e-3)],
}


def new_tokenizer(texts, marked=False, padding_side="right"):
    """A token a word or mark, in lower case; the decoder puts no space before a mark, so texts come back as they were."""
    split = pre_tokenizers.BertPreTokenizer()
    lower = normalizers.Lowercase()
    words = sorted({word for text in texts for word, _ in split.pre_tokenize_str(lower.normalize_str(text))})
    special = {"[PAD]": PAD, "[BOS]": BOS, "[UNK]": UNKNOWN, "[EOS]": EOS}
    vocabulary = special | {word: number for number, word in enumerate(words, len(special))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = lower, split
    tokenizer.decoder = decoders.WordPiece(cleanup=True)
    if marked:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[BOS] $A [EOS]", special_tokens=[("[BOS]", BOS), ("[EOS]", EOS)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        bos_token="[BOS]",
        eos_token="[EOS]",
        unk_token="[UNK]",
        padding_side=padding_side,
        model_max_length=LONGEST,
    )


def image_processor():
    """Resizes what is not 32 x 32, cuts off the margin and scales to [-2, 0]: white, most of a picture, is nothing."""
    size, crop = ({"height": side, "width": side} for side in (shapes.PIXELS, SIDE))
    return CLIPImageProcessor(size=size, crop_size=crop, image_mean=[1.0] * 3, image_std=[0.5] * 3)


def vision(**more):
    return {
        "image_size": SIDE,
        "patch_size": PATCH,
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": HEADS,
    } | more


def captioner(scenes, texts):
    tokenizer = new_tokenizer(texts)
    decoder = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=LONGEST,
        n_embd=WIDTH,
        n_inner=2 * WIDTH,
        n_layer=2,
        n_head=HEADS,
        resid_pdrop=0,
        embd_pdrop=0,
        attn_pdrop=0,
        add_cross_attention=True,
        is_decoder=True,
        bos_token_id=BOS,
        eos_token_id=EOS,
        pad_token_id=PAD,
    )
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(ViTConfig(**vision()), decoder)
    config.decoder_start_token_id, config.pad_token_id, config.eos_token_id = BOS, PAD, EOS
    model = VisionEncoderDecoderModel(config)
    model.generation_config = GenerationConfig(
        decoder_start_token_id=BOS, bos_token_id=BOS, eos_token_id=EOS, pad_token_id=PAD
    )
    processor = VisionTextDualEncoderProcessor(image_processor(), tokenizer)
    pairs = [(i, caption + "[EOS]") for i, scene in enumerate(scenes) for caption in scene["captions"]]
    ids = tokenizer([text for _, text in pairs], padding=True, return_tensors="pt").input_ids
    labels = ids.masked_fill(ids == PAD, -100)
    owners = torch.tensor([i for i, _ in pairs])

    def loss(pixels, rows):
        width = (ids[rows] != PAD).sum(1).max()
        return model(pixel_values=pixels[owners[rows]], labels=labels[rows, :width]).loss

    return model, processor, [(loss, len(pairs))]


def vqa(scenes, texts):
    tokenizer = new_tokenizer(texts, padding_side="left")
    config = GitConfig(
        vision_config=vision(hidden_act="gelu"),
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=3,
        num_attention_heads=HEADS,
        initializer_range=0.06,  # with 0.02, weights this few do not learn to look at the picture in time
        max_position_embeddings=LONGEST,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        bos_token_id=BOS,
        eos_token_id=EOS,
        pad_token_id=PAD,
    )
    model = GitForCausalLM(config)
    model.generation_config = GenerationConfig(bos_token_id=BOS, eos_token_id=EOS, pad_token_id=PAD)
    processor = GitProcessor(image_processor(), tokenizer)
    captions = [(i, "[BOS]", caption) for i, scene in enumerate(scenes) for caption in scene["captions"]]
    asked = [
        (i, item["question"], Counter(item["answers"]).most_common(1)[0][0])
        for i, scene in enumerate(scenes)
        for item in scene["questions"]
    ]

    def continuation(examples):
        """The loss of going on from a prompt, and the number of examples."""
        owners = torch.tensor([i for i, _, _ in examples])
        prompts, answers = (tokenizer([example[k] for example in examples]).input_ids for k in (1, 2))

        def loss(pixels, rows):
            full = [(prompts[row], [*answers[row], EOS]) for row in rows.tolist()]
            width = max(len(prompt) + len(answer) for prompt, answer in full)
            ids = torch.tensor([p + a + [PAD] * (width - len(p) - len(a)) for p, a in full])
            targets = torch.tensor([[-100] * len(p) + a + [-100] * (width - len(p) - len(a)) for p, a in full])
            logits = model(input_ids=ids[:, :-1], pixel_values=pixels[owners[rows]]).logits[:, 1 - width :]
            return F.cross_entropy(logits.flatten(0, 1).float(), targets[:, 1:].flatten())

        return loss, len(examples)

    # Answers of a word or two teach too little about pictures: captions first
    return model, processor, [continuation(captions), continuation(asked)]


def clip(scenes, texts):
    tokenizer = new_tokenizer(texts, marked=True)
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": HEADS,
        "max_position_embeddings": LONGEST,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        "pad_token_id": PAD,
    }
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision(), projection_dim=WIDTH // 2))
    processor = CLIPProcessor(image_processor(), tokenizer)
    captions = tokenizer([c for scene in scenes for c in scene["captions"]], padding=True, return_tensors="pt")
    ids, mask = captions.input_ids.view(len(scenes), 5, -1), captions.attention_mask.view(len(scenes), 5, -1)
    generator = torch.Generator().manual_seed(SEED)

    def loss(pixels, rows):
        which = torch.randint(5, (len(rows),), generator=generator)
        chosen, kept = ids[rows, which], mask[rows, which]
        return model(chosen, pixels[rows], kept, return_loss=True).loss

    return model, processor, [(loss, len(scenes))]


def train(model, loss_of, pixels, n, steps, batch, rate):
    """AdamW over shuffled rows, the learning rate falling to 0 along half a cosine."""
    start, mean = time.time(), None
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * step / steps))
    )
    generator = torch.Generator().manual_seed(SEED)
    rows = torch.cat([torch.randperm(n, generator=generator) for _ in range(-(-steps * batch // n))])
    model.train()
    for step in range(steps):
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(pixels, rows[step * batch : (step + 1) * batch])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        mean = loss.item() if mean is None else mean + 0.02 * (loss.item() - mean)
        if (step + 1) % 100 == 0:
            print(f"step {step + 1} of {steps}: {mean:.4f} nats, {time.time() - start:.0f} s", flush=True)


def main(names):
    logging.set_verbosity_error()
    torch.set_num_threads(1)  # the order of sums, and so the weights, hang on the number of threads
    scenes = shapes.scenes("train")
    pixels = image_processor()(shapes.images(scenes), do_rescale=False, return_tensors="pt").pixel_values
    texts = [text for scene in scenes for text in scene["captions"]]
    for question in (question for scene in scenes for question in scene["questions"]):
        texts += [question["question"], *question["answers"]]
    for name in names:
        torch.manual_seed(SEED)
        model, processor, losses = {"captioner": captioner, "vqa": vqa, "clip": clip}[name](scenes, texts)
        for key, weight in model.named_parameters():
            if "position" in key and weight.shape[-2] == 1 + (SIDE // PATCH) ** 2:
                torch.nn.init.normal_(weight, std=PLACE)  # as large as what a patch shows, or places are not learned
        print(f"shapes-{name}: {model.num_parameters():,} weights", flush=True)
        for (loss, n), stage in zip(losses, STAGES[name], strict=True):
            train(model, loss, pixels, n, *stage)
        folder = HERE / f"shapes-{name}"
        model.eval().save_pretrained(folder)
        processor.save_pretrained(folder)
        files = sorted(file for file in folder.iterdir() if file.suffix in (".json", ".safetensors"))
        sums = (f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files)
        (folder / "SHA256SUMS").write_text("".join(sums), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main(sys.argv[1:] or list(STAGES))
