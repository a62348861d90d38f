"""Writes the merges of GPT-2's, cl100k's and o200k's vocabularies from OpenAI's rank files.

    python data/tokenizers/build.py p50k_base.tiktoken cl100k_base.tiktoken o200k_base.tiktoken

A rank file is one that `tiktoken` downloads; it is known by its SHA-256, which tiktoken's source publishes. It lists tokens
with their ranks. The merge that makes a token is found by encoding the token's bytes with the tokens before it: two parts
must be left. p50k_base is GPT-2's vocabulary and 24 runs of spaces after it, r50k_base GPT-2's alone; either will do.
"""

import base64
import hashlib
import sys
from itertools import pairwise
from pathlib import Path

from studyguide.language.tokenization import STAND_INS

HERE = Path(__file__).parent
RANK_FILES = {  # SHA-256 of the rank file: the vocabulary, and how many of its tokens belong to it
    "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930": ("gpt2", 50_256),
    "94b5ca7dff4d00767bc256fdd1b27e5b17361d7b8a5f968547f9f23eb70d2069": ("gpt2", 50_256),
    "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7": ("cl100k", 100_256),
    "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d": ("o200k", 199_998),
}


def parts(token, ranks):
    """What is left of a token's bytes when all merges that come before the token have been made."""
    parts = [bytes([byte]) for byte in token]
    while len(parts) > 1:
        candidates = [ranks.get(left + right, len(ranks)) for left, right in pairwise(parts)]
        best = min(candidates)
        if best >= ranks[token]:
            break
        i = candidates.index(best)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return parts


def merges(tokens):
    """The merges as lines of text, in OpenAI's own notation: a printable character stands for each byte."""
    ranks = {token: rank for rank, token in enumerate(tokens)}
    if tokens[:256] != list(STAND_INS) or len(ranks) != len(tokens):
        raise ValueError("the first 256 tokens are not the bytes in GPT-2's order, or a token comes twice")
    yield "#version: 0.2\n"
    for token in tokens[256:]:
        left, right = ("".join(STAND_INS[bytes([byte])] for byte in part) for part in parts(token, ranks))
        yield f"{left} {right}\n"


def main(files):
    for file in map(Path, files):
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        if digest not in RANK_FILES:
            raise ValueError(f"{file} has SHA-256 {digest}; that is none of tiktoken's rank files")
        name, size = RANK_FILES[digest]
        ranked = [line.split() for line in file.read_bytes().splitlines()[:size]]
        if [int(rank) for _, rank in ranked] != list(range(size)):
            raise ValueError(f"the ranks in {file} are not 0 to {size - 1}, one a line")
        lines = merges([base64.b64decode(token) for token, _ in ranked])
        (HERE / f"{name}.bpe").write_text("".join(lines), encoding="utf-8", newline="\n")
        print(f"{name}.bpe: {size - 256:,} merges")
    shipped = sorted(file for file in HERE.iterdir() if file.suffix in (".bpe", ".tsv"))
    sums = (f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in shipped)
    (HERE / "SHA256SUMS").write_text("".join(sums))


if __name__ == "__main__":
    if len(sys.argv) == 1:
        sys.exit(__doc__)
    main(sys.argv[1:])
