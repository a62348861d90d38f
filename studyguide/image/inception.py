"""Inception-v3 as an extractor of features: the network behind published FID, Inception Score and KID.

Two sets of weights go by its name and give different scores. *ImageNet*: torchvision's, a classifier of 1,000 classes.
*2015*: those of the TensorFlow graph of 2015-12-05, with 1,008 outputs, which published FIDs use; its average pools do
not count the padding, and its last block pools by the maximum. Which set a file holds is told by the number of classes.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from studyguide.models import load_weights

SIZE = 299  # pixels, height and width, that the network reads


class InceptionFeatures(nn.Module):
    """2,048 features of images (n, 1 or 3, height, width) in [0, 1], after the last pooling of Inception-v3.

    `weights` is the path of a ``.safetensors`` file; or a repository of the hub with a ``model.safetensors``, such as
    "timm/inception_v3.tv_in1k", torchvision's ImageNet weights, fetched only if it is not in the local cache; or "random",
    weights drawn from a fixed seed. `name` says which they are. The 2015 weights are published by pytorch-fid and
    torch-fidelity as a ``.pth`` file, a kind that is not read here, since it may hold programs: convert it to safetensors
    once, where you would run a program of theirs.

    What the network sees: the whole image, not a part of it, resized to 299 x 299 by antialiased bilinear interpolation;
    a grey image in three equal channels; values 2x - 1 for ImageNet (which is what torchvision's `transform_input` makes
    of images normalised by ImageNet's mean and standard deviation), (255x - 128) / 128 for 2015.
    Convention: the original 2015 graph resizes without antialiasing, and torchvision's recipe crops. Here neither is
    done, so features of the 2015 weights equal those of torch-fidelity for images of 299 x 299 only.
    The last layer is `head`, its output `logits(images)` (n, 1000 or 1008). Published Inception Scores on the 2015 weights
    leave out its bias: ``features @ extractor.head.weight.T``.
    Errors: weights that can't be had, of another network, or in another format; images of another shape.
    Source: Szegedy et al. (2016), "Rethinking the Inception architecture for computer vision"; Heusel et al. (2017),
    "GANs trained by a two time-scale update rule", which defines FID; Parmar et al. (2022), "On aliased resizing and
    surprising subtleties in GAN evaluation".

    >>> InceptionFeatures("random").name
    'inception-v3 (random weights, antialiased resize)'
    """

    dimensions = 2048

    def __init__(self, weights):
        super().__init__()
        tensors = None if weights == "random" else load_weights(weights)
        self.network, self.is_2015 = _network(tensors)
        self.head, self.network.fc = self.network.fc, nn.Identity()
        kind = "random" if weights == "random" else "2015" if self.is_2015 else "ImageNet"
        self.name = f"inception-v3 ({kind} weights, antialiased resize)"
        self.eval().requires_grad_(False)

    def forward(self, images):
        if images.ndim != 4 or images.shape[1] not in (1, 3):
            raise ValueError(f"images have shape {tuple(images.shape)}; {self.name} expects (n, 1 or 3, height, width)")
        if images.shape[2:] != (SIZE, SIZE):
            images = F.interpolate(images, size=(SIZE, SIZE), mode="bilinear", antialias=True)
        images = images.expand(-1, 3, -1, -1)
        return self.network((255 * images - 128) / 128 if self.is_2015 else 2 * images - 1)

    def logits(self, images):
        """(n, classes) scores of the classes; their softmax are the network's probabilities."""
        return self.head(self(images))


class _Pool2015:
    """A block of torchvision's whose pooling branch, the last, pools as the 2015 graph does."""

    pool = staticmethod(partial(F.avg_pool2d, kernel_size=3, stride=1, padding=1, count_include_pad=False))

    def _forward(self, x):
        return [*super()._forward(x)[:-1], self.branch_pool(self.pool(x))]


def _as_2015(block):
    return type(block.__name__, (_Pool2015, block), {})


def _network(tensors):
    """(the network with these weights, whether they are those of 2015); random weights for None."""
    from torchvision.models import inception

    if tensors is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = inception.Inception3(aux_logits=False, init_weights=False)
            for weight in network.parameters():
                if weight.ndim == 4:  # a convolution: keep the scale of what goes through it
                    nn.init.kaiming_normal_(weight)
            return network, False
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("AuxLogits.")}
    classes = len(tensors.get("fc.weight", ()))
    if classes not in (1000, 1008):
        raise ValueError(f"weights are for {classes} classes; expected Inception-v3's, 1000 (ImageNet) or 1008 (2015)")
    names = "BasicConv2d", "InceptionA", "InceptionB", "InceptionC", "InceptionD", "InceptionE", "InceptionAux"
    blocks = [getattr(inception, name) for name in names]
    if classes == 1008:
        blocks[1:6:2] = map(_as_2015, blocks[1:6:2])  # A, C and E
    with torch.device("meta"):  # no weights are drawn, only to be replaced
        network = inception.Inception3(classes, aux_logits=False, init_weights=False, inception_blocks=blocks)
    if classes == 1008:
        network.Mixed_7c.pool = partial(F.max_pool2d, kernel_size=3, stride=1, padding=1)
    try:
        network.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        raise ValueError(f"weights are not Inception-v3's: {error!s:.300}") from None
    return network.float(), classes == 1008
