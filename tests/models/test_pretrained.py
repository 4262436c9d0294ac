"""VGG weights from files in every published layout, and a clear line for every file that will not do."""

import hashlib
import importlib.util

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from medgan_jax.errors import UserError
from medgan_jax.models import features, pretrained
from medgan_jax.models.features import VGG
from medgan_jax.models.pretrained import load_vgg

# VGG's depth at a fraction of its width, so that a test file is small.
NARROW = {"vgg16": ((2, 3), (4, 2), (3, 2, 4), (2, 3, 2), (3, 2, 2)),
          "vgg19": ((2, 3), (4, 2), (3, 2, 4, 2), (2, 3, 2, 3), (3, 2, 2, 3))}
TORCHVISION_PLACES = {"vgg16": (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
                      "vgg19": (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)}


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    monkeypatch.setattr(features, "ARCHITECTURES", NARROW)
    monkeypatch.setattr(pretrained, "ARCHITECTURES", NARROW)


def random_weights(architecture):
    """Our names -> kernel (3, 3, in, out), red first, and bias."""
    rng = np.random.default_rng(0)
    shapes = features.kernel_shapes(VGG(("pool5",), NARROW[architecture]))
    draw = lambda shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
    return {name: (draw(shape), draw(shape[-1])) for name, shape in shapes.items()}


def as_torchvision(weights, architecture):
    state = {"classifier.0.weight": np.zeros((7, 5), np.float32)}
    for place, (kernel, bias) in zip(TORCHVISION_PLACES[architecture], weights.values(), strict=True):
        state[f"features.{place}.weight"] = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))
        state[f"features.{place}.bias"] = bias
    return state


def as_keras(weights, kernel_name="/kernel", bias_name="/bias"):
    arrays = {"fc1/kernel": np.zeros((5, 7), np.float32)}
    for name, (kernel, bias) in weights.items():
        block, number = name.removeprefix("conv").split("_")
        stored = kernel[:, :, ::-1] if name == "conv1_1" else kernel
        prefix = f"block{block}_conv{number}"
        arrays |= {prefix + kernel_name: stored, prefix + bias_name: bias}
    return arrays


def save(path, arrays):
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        safetensors.numpy.save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, path)
    return path


def check(network, weights):
    for name, (kernel, bias) in weights.items():
        np.testing.assert_array_equal(network.variables["params"][name]["kernel"], kernel)
        np.testing.assert_array_equal(network.variables["params"][name]["bias"], bias)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("architecture", ["vgg16", "vgg19"])
def test_torchvision_layout(tmp_path, architecture, suffix):
    weights = random_weights(architecture)
    path = save(tmp_path / f"weights{suffix}", as_torchvision(weights, architecture))
    network = load_vgg(path, architecture, ("pool5",))
    check(network, weights)
    assert network.module.preprocessing == "torchvision" and not network.published_scale
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert network.name == f"{architecture}[pool5] sha256:{digest}"


@pytest.mark.parametrize("names", [("/kernel", "/bias"), ("/kernel:0", "/bias:0"), ("_W_1:0", "_b_1:0")])
@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_keras_layout_with_blue_first(tmp_path, names, suffix):
    weights = random_weights("vgg16")
    path = save(tmp_path / f"weights{suffix}", as_keras(weights, *names))
    network = load_vgg(path, "vgg16", ("relu4_3", "pool5"))
    check(network, weights)
    assert network.module.preprocessing == "caffe" and network.published_scale


def test_caffe_weights_for_tensorflow(tmp_path):
    weights = random_weights("vgg16")
    arrays = {"fc6_W": np.zeros((3, 3), np.float32)}
    for name, (kernel, bias) in weights.items():
        arrays |= {f"{name}_W": kernel, f"{name}_b": bias}
    network = load_vgg(save(tmp_path / "vgg16_weights.npz", arrays), "vgg16", ("pool5",))
    check(network, weights)
    assert network.published_scale


def test_only_the_layers_up_to_the_tap_are_needed(tmp_path):
    weights = dict(list(random_weights("vgg16").items())[:4])
    network = load_vgg(save(tmp_path / "cut.npz", as_keras(weights)), "vgg16", ("pool2",))
    assert set(network.variables["params"]) == set(weights)


def test_loaded_features_are_finite_and_resized(tmp_path, compiled):
    path = save(tmp_path / "w.npz", as_keras(random_weights("vgg16")))
    network = load_vgg(path, "vgg16", ("pool4",), resize=(36, 36))
    x = jnp.zeros((1, 20, 20, 1))
    taps = compiled(lambda x: network.module.apply(network.variables, x, train=False))(x)
    assert taps["pool4"].shape == (1, 2, 2, 2) and bool(jnp.isfinite(taps["pool4"]).all())


def refused(match, *arguments):
    with pytest.raises(UserError, match=match) as caught:
        load_vgg(*arguments)
    assert "\n" not in str(caught.value)


def test_files_of_other_kinds_are_refused_with_the_mend(tmp_path):
    taps = ("pool4",)
    refused(r"no weights file .*vgg\.npz", tmp_path / "vgg.npz", "vgg16", taps)
    refused(r"pickle.*convert it: python -c .*safetensors", tmp_path / "vgg.pth", "vgg16", taps)
    refused(r"convert it: python -c .*keras.applications.VGG19", tmp_path / "vgg.h5", "vgg19", taps)
    refused(r"read from \.safetensors or \.npz", tmp_path / "vgg.txt", "vgg16", taps)
    refused("'vgg11' is not one of vgg16, vgg19", tmp_path / "vgg.npz", "vgg11", taps)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_damaged_files(tmp_path, suffix):
    path = save(tmp_path / f"weights{suffix}", as_torchvision(random_weights("vgg16"), "vgg16"))
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"not weights at all"):
        path.write_bytes(content)
        refused("is not a sound", path, "vgg16", ("pool4",))


def test_a_pickled_array_is_not_loaded(tmp_path):
    arrays = as_torchvision(random_weights("vgg16"), "vgg16")
    arrays["features.0.weight"] = np.array([{"code": 1}], dtype=object)
    np.savez(tmp_path / "w.npz", **arrays)
    refused("is not a sound .npz file.*allow_pickle", tmp_path / "w.npz", "vgg16", ("pool4",))


def test_weights_that_do_not_fit(tmp_path):
    arrays, path = as_torchvision(random_weights("vgg16"), "vgg16"), tmp_path / "w.npz"
    refused(r"does not hold vgg19: it lacks features\.16", save(path, arrays), "vgg19", ("pool4",))

    incomplete = {name: value for name, value in arrays.items() if name != "features.7.bias"}
    refused(r"does not hold vgg16: it lacks features\.7", save(path, incomplete), "vgg16", ("pool4",))

    nineteen = as_keras(random_weights("vgg19"))
    refused("does not hold vgg16: it has conv3_4 too", save(path, nineteen), "vgg16", ("pool4",))

    wide = arrays | {"features.0.weight": np.zeros((2, 1, 3, 3), np.float32)}
    refused(r"features\.0\.weight has the shape \(2, 1, 3, 3\)", save(path, wide), "vgg16", ("pool4",))

    broken = arrays | {"features.0.bias": np.array([np.nan, 0], np.float32)}
    refused(r"features\.0\.bias holds values that are not finite", save(path, broken), "vgg16", ("pool4",))

    normalised = arrays | {"features.1.running_mean": np.zeros(2, np.float32)}
    refused("batch normalisation", save(path, normalised), "vgg16", ("pool4",))

    refused("holds no VGG weights", save(path, {"layer": np.zeros(3)}), "vgg16", ("pool4",))


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")
def test_features_agree_with_the_same_layers_in_pytorch(tmp_path, compiled):
    import torch

    layers, channels = [], 3
    for widths in NARROW["vgg19"]:
        for width in widths:
            layers += [torch.nn.Conv2d(channels, width, 3, padding=1), torch.nn.ReLU()]
            channels = width
        layers.append(torch.nn.MaxPool2d(2))
    reference = torch.nn.Sequential(*layers)
    state = {f"features.{name}": value.numpy() for name, value in reference.state_dict().items()}
    network = load_vgg(save(tmp_path / "w.safetensors", state), "vgg19", ("conv3_2", "pool5"))

    x = np.random.default_rng(0).uniform(-1, 1, (2, 45, 50, 3)).astype(np.float32)
    taps = compiled(lambda x: network.module.apply(network.variables, x, train=False))(x)
    standard = ((x + 1) / 2 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    value = torch.from_numpy(standard.astype(np.float32).transpose(0, 3, 1, 2))
    with torch.no_grad():
        conv3_2 = reference[:13](value).numpy().transpose(0, 2, 3, 1)
        last = reference(value).numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(taps["conv3_2"], conv3_2, atol=1e-5)
    np.testing.assert_allclose(taps["pool5"], last, atol=1e-5)
