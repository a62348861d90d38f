"""Draws the validation and test scenes and writes the checksums.

    python data/shapes/build.py

The scenes hang on the seed in `studyguide.datasets.shapes` alone.
"""

import hashlib
import json
from pathlib import Path

from studyguide.datasets import shapes

HERE = Path(__file__).parent


def main():
    for split in ("validation", "test"):
        lines = (json.dumps(scene) + "\n" for scene in shapes.draw(split))
        (HERE / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8", newline="\n")
    files = sorted(HERE.glob("*.jsonl"))
    sums = (f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files)
    (HERE / "SHA256SUMS").write_text("".join(sums), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
