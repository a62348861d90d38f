"""Each notebook runs with every exercise solved, and with other models: both in one run, to save time.

`STUDYGUIDE_LM` names a folder with a GPT-2 of random weights, another tokenizer and half the context, and
`STUDYGUIDE_ENCODER` one with a random encoder: their answers are nonsense, but no cell may fail. The committed outputs,
of the course's own models, are what nbval compares.
"""

import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from studyguide.course.notebooks import course_notebooks, solve
from studyguide.models import minilm_folder

TEXT = "the weather near the capital is the news of the day, and the fox jumps over it"


@pytest.fixture(scope="session")
def other_model(tmp_path_factory):
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    marks = ["<s>", "</s>"]
    bpe.train_from_iterator(
        [TEXT] * 3,
        trainers.BpeTrainer(vocab_size=300, special_tokens=marks, initial_alphabet=alphabet, show_progress=False),
    )
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token=marks[0], eos_token=marks[1])
    shape = {"vocab_size": len(tokenizer) + 3, "n_positions": 128, "n_layer": 2, "n_head": 2, "n_embd": 32}
    config = transformers.GPT2Config(**shape, bos_token_id=0, eos_token_id=1, initializer_range=0.2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.GPT2LMHeadModel(config)
    folder = tmp_path_factory.mktemp("other_model")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def other_encoder(tmp_path_factory):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer

    transformer, whole = tmp_path_factory.mktemp("transformer"), tmp_path_factory.mktemp("other_encoder")
    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm_folder())
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.BertModel(transformers.BertConfig(vocab_size=len(tokenizer), **shape)).save_pretrained(transformer)
    tokenizer.save_pretrained(transformer)
    parts = Transformer(str(transformer)), Pooling(shape["hidden_size"], pooling_mode="cls")
    SentenceTransformer(modules=parts).save(str(whole))
    return whole


@pytest.mark.parametrize("file", course_notebooks(), ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_every_solution_passes_in_its_notebook_whatever_the_model(file, other_model, other_encoder, tmp_path):
    solve(file, tmp_path / file.name, {"STUDYGUIDE_LM": str(other_model), "STUDYGUIDE_ENCODER": str(other_encoder)})
