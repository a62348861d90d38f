"""Writes the prompts with their embeddings, the simulated traffic as Parquet, and the checksums.

    python data/online/build.py

Edit `prompts.yaml` or the model in `studyguide/online/traffic.py` and run this again. The embeddings in
`prompts.parquet` are kept as long as the texts are the same; without that file they are made anew, with MiniLM.
`SHA256SUMS` is of every file in the folder as it is: run this after an edit of the rules or the dashboard, too.
"""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from studyguide.language.tokenization import load_tokenizer
from studyguide.models import MINILM, load_sentence_encoder
from studyguide.online.traffic import COMPONENTS, simulate_experiment, simulate_operations

HERE = Path(__file__).parent
SEED = 7
NOT_DATA = {"README.md", "SHA256SUMS", "build.py"}


def texts():
    """The prompts of `prompts.yaml`, every template with every filler: a frame without embeddings."""
    topics = yaml.safe_load((HERE / "prompts.yaml").read_text(encoding="utf-8"))
    rows = [
        (template.format(filler), topic, language)
        for topic, languages in topics.items()
        for language, templates in languages.items()
        for template, fillers in templates.items()
        for filler in fillers
    ]
    frame = pd.DataFrame(rows, columns=["text", "topic", "language"])
    tokenizer = load_tokenizer("o200k")
    frame.insert(0, "prompt", np.arange(len(frame), dtype=np.int32))
    frame["tokens"] = np.array([len(tokenizer.encode(text).ids) for text in frame["text"]], dtype=np.int32)
    return frame.astype({"topic": "category", "language": "category"})


def project(vectors, n):
    """The vectors on their first `n` principal components; each component's largest loading is positive."""
    centred = vectors - vectors.mean(0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:n]
    axes *= np.sign(axes[np.arange(n), np.abs(axes).argmax(1)])[:, None]
    return centred @ axes.T


def prompts():
    """The frame of `prompts.parquet`: the embeddings that are there if they are of these texts, else new ones."""
    frame, file = texts(), HERE / "prompts.parquet"
    if file.exists():
        before = pd.read_parquet(file)
        if before["text"].tolist() == frame["text"].tolist():
            return frame.join(before[list(COMPONENTS)])
    vectors = load_sentence_encoder(MINILM).encode(frame["text"].tolist(), batch_size=1)  # no padding, no batch effects
    coordinates = project(vectors.astype(np.float64), len(COMPONENTS)).round(3).astype(np.float32)
    return frame.join(pd.DataFrame(coordinates, columns=list(COMPONENTS)))


def write(name, frame):
    """A Parquet file without pandas' metadata, so that its bytes hang on the frame and on pyarrow's version alone."""
    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    pq.write_table(table, HERE / f"{name}.parquet", compression="zstd", compression_level=19)


def checksums():
    """The text of `SHA256SUMS`, of the files as they are."""
    shipped = sorted(file for file in HERE.iterdir() if file.is_file() and file.name not in NOT_DATA)
    return "".join(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in shipped)


def main():
    write("prompts", prompts())
    (HERE / "SHA256SUMS").write_text(checksums(), encoding="utf-8", newline="\n")  # the simulation reads the prompts
    users, requests = simulate_experiment(rng=SEED)
    write("users", users)
    write("experiment", requests)
    write("operations", simulate_operations(rng=SEED))
    (HERE / "SHA256SUMS").write_text(checksums(), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
