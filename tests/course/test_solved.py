"""Each notebook runs with every exercise solved, and with other models: both in one run, to save time.

`STUDYGUIDE_LM` names a folder with a GPT-2 of random weights, another tokenizer and half the context, and
`STUDYGUIDE_ENCODER` one with a random encoder: their answers are nonsense, but no cell may fail. The committed outputs,
of the course's own models, are what nbval compares. Cells that neither a model nor a solved exercise reaches would only
repeat what nbval has run: they are left out, unless one of those needs them.
"""

import contextlib
import io
import multiprocessing
import os
import symtable
import sys
import traceback
import types
from concurrent.futures import ProcessPoolExecutor

import nbformat
import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from studyguide.course.notebooks import course_notebooks, exercises, kernel_env, read
from studyguide.models import minilm_folder

LOADERS = {"load_causal_lm", "load_sentence_encoder"}
PRELOADED = [
    *("torch", "transformers", "sentence_transformers", "scipy.stats", "sklearn.metrics", "statsmodels.api", "pandas"),
    *("matplotlib.pyplot", "seaborn", "torchmetrics", "ipywidgets", "studyguide.course"),
]
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
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

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


def names(source):
    """The global names that the code reads, functions' bodies included, and those that it writes."""
    whole = symtable.symtable(source, "cell", "exec")
    tables = [whole]
    for table in tables:
        tables += table.get_children()
    reads = {
        s.get_name() for t in tables for s in t.get_symbols() if s.is_referenced() and (t is whole or s.is_global())
    }
    return reads, {s.get_name() for s in whole.get_symbols() if s.is_assigned() or s.is_imported()}


def reached(nb):
    """The notebook without the code cells that no exercise and no model reaches and that none of those reached needs."""
    code = [cell for cell in nb.cells if cell.cell_type == "code"]
    solutions = {stub.id: exercise.source for stub, exercise in exercises(nb)}
    sources = [solutions.get(cell.id, cell.source) for cell in code]
    reads, writes = zip(*map(names, sources), strict=True)
    imported, solved, kept = writes[0], set(), set()
    for i, cell in enumerate(code):
        if cell.id in solutions or cell.source.startswith("check(") or reads[i] & (solved | LOADERS):
            kept.add(i)
            solved |= writes[i]
        else:
            solved -= writes[i]
    needed = set()
    for i in reversed(range(len(code))):
        changed = {name for name in reads[i] - imported if f"{name}." in sources[i] or f"{name}[" in sources[i]}
        if i in kept or (writes[i] | changed) & needed:
            kept.add(i)
            needed = needed - writes[i] | reads[i]
    dropped = {cell.id for i, cell in enumerate(code) if i not in kept}
    nb.cells = [cell for cell in nb.cells if cell.id not in dropped]
    return nb


def test_of_a_notebook_runs_what_an_exercise_reaches_and_what_that_needs():
    nb = read(course_notebooks()[0])
    [(stub, exercise)] = exercises(nb)
    check = nb.cells[nb.cells.index(stub) + 1]
    before = ["import math", "found = []", "found.append(math.pi)", "unused = 1", "shown = 2"]
    after = [f"mine = {exercise.name}", "both = (mine, found)", "print(shown)", "mine = 0", "print(mine)"]
    cells = [*map(nbformat.v4.new_code_cell, before), stub, check, *map(nbformat.v4.new_code_cell, after)]
    kept = [cell.source for cell in reached(nbformat.v4.new_notebook(cells=cells)).cells]
    assert kept == [*before[:3], stub.source, check.source, *after[:2]]


def run(cells, folder, env):
    """In a process that has the heavy libraries loaded: runs (id, source) in order; what each printed, by id."""
    os.environ |= env
    os.chdir(folder)
    notebook = sys.modules["notebook"] = types.ModuleType("notebook")
    said = {}
    for name, source in cells:
        with contextlib.redirect_stdout(io.StringIO()) as out:
            try:
                exec(compile(source, name, "exec"), vars(notebook))
            except Exception as error:
                raise RuntimeError(f"cell {name}: {''.join(traceback.format_exception(error))}") from None
        said[name] = out.getvalue()
    return said


@pytest.fixture(scope="session")
def processes():
    """Forks of one process that has imported what most notebooks import: each notebook saves those seconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.course.test_solved", *PRELOADED])
    return context


def test_a_cell_that_fails_is_named(processes, tmp_path):
    with ProcessPoolExecutor(1, mp_context=processes) as pool:
        assert pool.submit(run, [("a", "x = 6"), ("b", "print(x * 7)")], tmp_path, {}).result() == {
            "a": "",
            "b": "42\n",
        }
        with pytest.raises(RuntimeError, match=r"(?s)cell b: .*ZeroDivisionError"):
            pool.submit(run, [("a", "x = 0"), ("b", "1 / x")], tmp_path, {}).result()


@pytest.mark.parametrize("file", course_notebooks(), ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_every_solution_passes_in_its_notebook_whatever_the_model(
    file, other_model, other_encoder, processes, tmp_path
):
    nb = reached(read(file))
    solutions = {stub.id: exercise.source for stub, exercise in exercises(nb)}
    cells = [(cell.id, solutions.get(cell.id, cell.source)) for cell in nb.cells if cell.cell_type == "code"]
    models = {"STUDYGUIDE_LM": str(other_model), "STUDYGUIDE_ENCODER": str(other_encoder)}
    with ProcessPoolExecutor(1, mp_context=processes) as pool:
        said = pool.submit(run, cells, tmp_path, kernel_env(tmp_path) | models | {"MPLBACKEND": "agg"}).result()
    checked = {cell.id: said[cell.id] for cell in nb.cells if cell.source.startswith("check(")}
    assert len(checked) == len(solutions)
    for text in checked.values():
        assert text.startswith("passed")
