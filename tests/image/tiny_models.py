"""Random vision models that are small enough for a test, and the processor that goes with them."""

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    GPT2Config,
    PreTrainedTokenizerFast,
    VisionEncoderDecoderConfig,
    VisionEncoderDecoderModel,
    ViTConfig,
    logging,
)

WORDS = ("<pad>", "<s>", "</s>", "a", "are", "blue", "circle", "colour", "four", "how", "is", "many", "of", "on", "red")
WORDS += ("square", "star", "the", "there", "two", "what")


class Processor:
    """Images divided by 255, prompts as words; `prefix` is that of the names of what it makes of the prompts."""

    def __init__(self, prefix="decoder_"):
        words = models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="a")
        tokenizer = Tokenizer(words)
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        special = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
        self.tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
        self.batch_decode = self.tokenizer.batch_decode
        self.prefix = prefix

    def __call__(self, images, text=None, return_tensors="pt"):
        inputs = {"pixel_values": torch.stack(list(images)).double() / 255}
        if text is not None:
            read = self.tokenizer(text, return_tensors=return_tensors)  # an error if lengths differ: nothing is padded
            inputs |= {f"{self.prefix}{name}": read[name] for name in ("input_ids", "attention_mask")}
        return inputs


def encoder_decoder(seed=0):
    """A VisionEncoderDecoderModel of 8 x 8 images in float64, with weights large enough that images and prompts matter."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    marks = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    encoder = ViTConfig(image_size=8, patch_size=4, **sizes)
    decoder = GPT2Config(
        vocab_size=len(WORDS), n_embd=16, n_layer=1, n_head=2, n_positions=64, add_cross_attention=True, **marks
    )
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = VisionEncoderDecoderModel(config).double().eval()
        for weight in model.parameters():
            torch.nn.init.normal_(weight, std=1.0)
    model.generation_config.update(decoder_start_token_id=1, pad_token_id=0, eos_token_id=2)
    logging.set_verbosity(before)
    return model


def images(n, seed=0):
    """Noise in different colours, 8 x 8."""
    draw = torch.Generator().manual_seed(seed)
    return torch.rand(n, 3, 1, 1, generator=draw) * torch.rand(n, 3, 8, 8, generator=draw)
