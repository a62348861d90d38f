"""Inception-v3 on random weights: what it is fed, and that it computes what torchvision and torch-fidelity do."""

import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torch_fidelity.feature_extractor_inceptionv3 as fidelity
from PIL import Image
from safetensors.torch import save_file
from torchvision.models import inception_v3
from torchvision.transforms import Normalize

from studyguide.image.features import InceptionFeatures, extract

NORMALIZE = Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])  # ImageNet's, as torchvision documents


def random_weights(classes):
    """Of a size that keeps features in range, and batch norms that do something; with the auxiliary head, as published."""
    with torch.random.fork_rng():
        torch.manual_seed(classes)
        network = inception_v3(weights=None, num_classes=classes, aux_logits=True, init_weights=False)
        for name, tensor in network.state_dict().items():
            if tensor.ndim == 4:
                torch.nn.init.kaiming_normal_(tensor)
            elif "bn.running_mean" in name or "bn.bias" in name:
                tensor.normal_(std=0.3)
            elif "bn.running_var" in name or "bn.weight" in name:
                tensor.uniform_(0.7, 1.4)
    return network.state_dict()


@pytest.fixture(scope="module", params=["ImageNet", "2015"])
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def weights(kind):
    return random_weights({"ImageNet": 1000, "2015": 1008}[kind])


@pytest.fixture(scope="module")
def extractor(weights):
    old = {name: tensor for name, tensor in weights.items() if not name.endswith("num_batches_tracked")}
    with tempfile.TemporaryDirectory() as folder:
        save_file(old, Path(folder, "w.safetensors"))
        return InceptionFeatures(Path(folder, "w.safetensors"))


@pytest.fixture(scope="module")
def images():
    """Noise, and noise that is darker on one side: (2, 3, 299, 299) uint8, the smallest and the largest value in it."""
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 299, 299))
    images[1, :, :, 150:] //= 4
    images[0, :, 0, :2] = 0, 255
    return torch.tensor(images, dtype=torch.uint8)


@pytest.fixture(scope="module")
def features(extractor, images):
    return extract(images, extractor)


class SeenError(Exception):
    """Carries what the first convolution was given; nothing after it is computed."""


def seen_by(extractor, images):
    def look(_, inputs):
        raise SeenError(inputs[0])

    hook = extractor.network.Conv2d_1a_3x3.register_forward_pre_hook(look)
    with pytest.raises(SeenError) as seen:
        extract(images, extractor)
    hook.remove()
    return seen.value.args[0]


def close(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * theirs.abs().mean().item())


def test_range_at_the_networks_input(extractor, kind, images):
    seen = seen_by(extractor, images)
    assert seen.shape == (2, 3, 299, 299)
    assert (seen.min(), seen.max()) == (-1, {"ImageNet": 1, "2015": 127 / 128}[kind])
    expected = images.double() / {"ImageNet": 127.5, "2015": 128}[kind] - 1
    torch.testing.assert_close(seen.double(), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(seen_by(extractor, images / 255), seen)


def test_it_equals_the_network_of_another_library(extractor, kind, weights, images, features, monkeypatch):
    """torchvision, fed as it documents; torch-fidelity, which resizes nothing at 299 x 299."""
    logits = extractor.head(features)
    if kind == "ImageNet":
        theirs = inception_v3(weights=None, transform_input=True, init_weights=False).eval()
        theirs.load_state_dict(weights)
        with torch.no_grad():
            expected_logits = theirs(NORMALIZE(images / 255))
            theirs.fc = torch.nn.Identity()
            expected = theirs(NORMALIZE(images / 255))
    else:
        no_aux = {name: tensor for name, tensor in weights.items() if not name.startswith("AuxLogits")}
        monkeypatch.setattr(fidelity, "load_state_dict_from_url", lambda *args, **kwargs: no_aux)
        expected, expected_logits = fidelity.FeatureExtractorInceptionV3("theirs", ["2048", "logits"])(images)
    assert features.shape == (2, 2048)
    assert (features[0] - features[1]).abs().mean() > 0.01 * features.mean()  # the images are told apart
    close(features, expected)
    close(logits, expected_logits)
    with torch.no_grad():
        torch.testing.assert_close(extractor.logits(images[:1] / 255), logits[:1], rtol=1e-4, atol=1e-3)


def test_the_two_networks_differ_on_the_same_weights(images, monkeypatch):
    """In their pools alone: were the 2015 weights read by torchvision's network, the features would be others."""
    weights = random_weights(1008)
    monkeypatch.setattr("studyguide.image.inception.load_weights", lambda name: weights)
    ours = extract(images[:1], InceptionFeatures("2015"))
    theirs = inception_v3(weights=None, num_classes=1008, init_weights=False).eval()
    theirs.load_state_dict(weights)
    theirs.fc = torch.nn.Identity()
    with torch.no_grad():
        theirs = theirs((images[:1].float() - 128) / 128)
    assert (ours - theirs).abs().mean() > 0.01 * theirs.abs().mean()


def test_the_whole_image_is_resized_with_antialiasing(extractor, kind):
    """800 x 400 pixels, by Pillow's bilinear filter, which is antialiased; no crop: all four corners are there."""
    image = np.random.default_rng(1).random((400, 800), dtype=np.float32)
    seen = seen_by(extractor, torch.tensor(image).expand(1, 3, 400, 800))
    expected = np.asarray(Image.fromarray(image).resize((299, 299), Image.Resampling.BILINEAR))
    expected = {"ImageNet": 2 * expected - 1, "2015": (255 * expected - 128) / 128}[kind]
    np.testing.assert_allclose(seen[0], np.stack([expected] * 3), atol=1e-4)


def test_both_edges_of_a_wide_image_count(extractor):
    grey = torch.full((3, 3, 400, 800), 0.5)
    grey[1, :, :, :20] = 1  # a centre crop would see neither
    grey[2, :, :, -20:] = 1
    plain, left, right = extract(grey, extractor)
    assert min((plain - left).abs().max(), (plain - right).abs().max(), (left - right).abs().max()) > 1e-3


def test_small_and_grey_images(extractor):
    grey = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    seen = seen_by(extractor, grey)
    assert seen.shape == (1, 3, 299, 299)
    assert torch.equal(seen, seen_by(extractor, grey.expand(1, 3, 8, 8)))


def test_batches_and_sizes_change_nothing(extractor, images, features):
    mixed = [images[0], images[1, :, :, :200], images[1] / 255]
    apart = extract(mixed, extractor, batch_size=1)
    close(apart[[0, 2]], features)
    assert (apart[1] - apart[2]).abs().mean() > 0.01 * features.mean()


def test_its_name_says_which_weights(extractor, kind):
    assert extractor.name == f"inception-v3 ({kind} weights, antialiased resize)"
    assert extractor.dimensions == 2048
    assert not any(parameter.requires_grad for parameter in extractor.parameters())


def test_training_mode_is_an_error(extractor, images):
    """In it torchvision's network returns a pair, normalises by the batch, and drops features at random."""
    extractor.train()
    try:
        with pytest.raises(ValueError, match="is in training mode; expected one set to evaluate"):
            extract(images, extractor)
    finally:
        extractor.eval()


def test_random_weights_are_named_seeded_and_leave_the_global_state():
    before = torch.get_rng_state()
    a, b = InceptionFeatures("random"), InceptionFeatures("random")
    assert torch.equal(torch.get_rng_state(), before)
    assert a.name == "inception-v3 (random weights, antialiased resize)"
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def test_errors(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="weights 'timm/inception_v3.tv_in1k' can't be had"):
        InceptionFeatures("timm/inception_v3.tv_in1k")
    (tmp_path / "w.pth").write_bytes(b"")
    with pytest.raises(ValueError, match="w.pth is no .safetensors file"):
        InceptionFeatures(tmp_path / "w.pth")
    save_file({"fc.weight": torch.zeros(10, 3)}, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=re.escape("are for 10 classes; expected Inception-v3's, 1000 (ImageNet)")):
        InceptionFeatures(tmp_path / "w.safetensors")
    save_file({"fc.weight": torch.zeros(1000, 3)}, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"weights are not Inception-v3's: [\s\S]*Conv2d_1a_3x3"):
        InceptionFeatures(tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=re.escape("expects (n, 1 or 3, height, width)")):
        extract(torch.zeros(1, 2, 8, 8), InceptionFeatures("random"))


@pytest.mark.gpu
def test_cuda_agrees_with_cpu(extractor, images, features):
    expected = features
    wide = torch.rand(1, 3, 400, 800, generator=torch.Generator().manual_seed(0))
    expected_wide = extract(wide, extractor)
    with torch.backends.cudnn.flags(allow_tf32=False):
        on_cuda = extract(images, extractor, device="cuda")
        features_wide = extract(wide, extractor)
    extractor.cpu()
    assert on_cuda.device.type == "cuda"
    torch.testing.assert_close(on_cuda.cpu(), expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(features_wide.cpu(), expected_wide, rtol=1e-3, atol=1e-3)
