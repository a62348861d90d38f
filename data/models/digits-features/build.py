"""Trains digits-features, a small classifier of the digits, whose last but one layer is the course's feature extractor.

    python data/models/digits-features/build.py            (about half a minute on one core)

1,000 digits are few for a network of 56,000 weights, so each is seen a little stretched, turned and shifted.
"""

import hashlib
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from studyguide.datasets.digits import digits
from studyguide.image.features import DigitsFeatures

HERE = Path(__file__).parent
EPOCHS, BATCH, RATE, SEED = 100, 50, 4e-3, 20261121


def distorted(images, rng):
    """The images under small random affine maps of the plane."""
    matrix = torch.eye(2) + 0.12 * torch.randn(len(images), 2, 2, generator=rng)
    shift = 0.12 * torch.randn(len(images), 2, 1, generator=rng)
    grid = F.affine_grid(torch.cat([matrix, shift], 2), images.shape, align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def train():
    rng = torch.Generator().manual_seed(SEED)
    images, labels = digits("train")
    classifier = DigitsFeatures("random").requires_grad_(True).train()
    optimizer = torch.optim.AdamW(classifier.parameters(), weight_decay=0.01)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=EPOCHS * len(images) // BATCH)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images), generator=rng).split(BATCH):
            loss = F.cross_entropy(classifier.logits(distorted(images[batch], rng)), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rate.step()
    return classifier.eval()


def main(folder):
    torch.set_num_threads(1)
    classifier = train()
    with torch.no_grad():
        for split in ("train", "test"):
            images, labels = digits(split)
            accuracy = (classifier.logits(images).argmax(1) == labels).double().mean()
            print(f"{split} accuracy {accuracy:.4f}")
    file = folder / "model.safetensors"
    save_file(classifier.state_dict(), file)
    (folder / "SHA256SUMS").write_text(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
