"""Trains digits-vae, a small variational autoencoder of the digits, and keeps its decoder, which draws new ones.

    python data/models/digits-vae/build.py            (about ten seconds on one core)

The encoder makes a few latent numbers of an image and its class, the decoder the image of these and the class. It is
small on purpose: its digits are to be good, but not as good as real ones.
"""

import hashlib
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from studyguide.datasets.digits import LATENT, decoder, digits

HERE = Path(__file__).parent
EPOCHS, BATCH, RATE, SEED = 300, 50, 3e-3, 20261121
NOISE = 0.15  # standard deviation of a pixel about what the decoder draws


def loss_of(encoder, draw, images, classes, rng):
    """Negative evidence lower bound (nats per image, up to a constant)."""
    mean, log_variance = encoder(torch.cat([images, classes], 1)).chunk(2, 1)
    latent = mean + (log_variance / 2).exp() * torch.randn(mean.shape, generator=rng)
    drawn = draw(torch.cat([latent, classes], 1)).sigmoid()
    error = ((drawn - images) ** 2).sum(1) / (2 * NOISE**2)
    divergence = (mean**2 + log_variance.exp() - 1 - log_variance).sum(1) / 2
    return (error + divergence).mean()


def train():
    torch.manual_seed(SEED)  # of the initial weights
    rng = torch.Generator().manual_seed(SEED)
    images, labels = digits("train")
    images, classes = images.flatten(1), F.one_hot(labels, 10).float()
    draw = decoder()
    encoder = nn.Sequential(nn.Linear(64 + 10, 128), nn.SiLU(), nn.Linear(128, 2 * LATENT))
    optimizer = torch.optim.AdamW([*encoder.parameters(), *draw.parameters()])
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=EPOCHS * len(images) // BATCH)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images), generator=rng).split(BATCH):
            loss = loss_of(encoder, draw, images[batch], classes[batch], rng)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rate.step()
    print(f"last batch: {loss.item():.2f} nats per image")
    return draw


def main(folder):
    torch.set_num_threads(1)
    file = folder / "model.safetensors"
    save_file(train().state_dict(), file)
    (folder / "SHA256SUMS").write_text(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
