"""Inception-v3 against the same network written in PyTorch, from the same file of weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from medgan_jax.errors import UserError
from medgan_jax.metrics.features import INCEPTION
from medgan_jax.models import inception


@pytest.fixture(scope="module")
def tensors():
    """Random weights in torchvision's layout that keep activations near one."""
    generator, result = np.random.default_rng(0), {}
    for name, (height, width, fan, out) in inception.kernel_shapes().items():
        scale = np.sqrt(2 / (height * width * fan))
        result[f"{name}.conv.weight"] = (scale * generator.standard_normal((out, fan, height, width))).astype(
            "f4"
        )
        result[f"{name}.bn.weight"] = generator.uniform(0.8, 1.2, out).astype("f4")
        result[f"{name}.bn.bias"] = (0.1 * generator.standard_normal(out)).astype("f4")
        result[f"{name}.bn.running_mean"] = (0.1 * generator.standard_normal(out)).astype("f4")
        result[f"{name}.bn.running_var"] = generator.uniform(0.8, 1.2, out).astype("f4")
    result["fc.bias"] = np.zeros(1008, "f4")
    return result


def in_pytorch(tensors, images, tensorflow_pooling):
    torch = pytest.importorskip("torch", reason="the network is compared with PyTorch")
    f = torch.nn.functional
    weights = {name: torch.tensor(value) for name, value in tensors.items()}

    def unit(x, name, stride=1, padding=0):
        x = f.conv2d(x, weights[f"{name}.conv.weight"], stride=stride, padding=padding)
        statistics = [
            weights[f"{name}.bn.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        ]
        return f.relu(f.batch_norm(x, *statistics, eps=1e-3))

    def average(x):
        return f.avg_pool2d(x, 3, 1, 1, count_include_pad=not tensorflow_pooling)

    def run(x, block, *units):
        for name, *padding in units:
            x = unit(x, f"{block}.{name}", 1, padding[0] if padding else 0)
        return x

    tall, wide = (3, 0), (0, 3)
    x = torch.tensor(images).permute(0, 3, 1, 2)
    x = unit(unit(unit(x, "Conv2d_1a_3x3", 2), "Conv2d_2a_3x3"), "Conv2d_2b_3x3", 1, 1)
    x = unit(unit(f.max_pool2d(x, 3, 2), "Conv2d_3b_1x1"), "Conv2d_4a_3x3")
    x = f.max_pool2d(x, 3, 2)
    for b in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
        double = run(x, b, ("branch3x3dbl_1",), ("branch3x3dbl_2", 1), ("branch3x3dbl_3", 1))
        five = run(x, b, ("branch5x5_1",), ("branch5x5_2", 2))
        x = torch.cat([run(x, b, ("branch1x1",)), five, double, run(average(x), b, ("branch_pool",))], 1)
    b = "Mixed_6a"
    double = unit(run(x, b, ("branch3x3dbl_1",), ("branch3x3dbl_2", 1)), f"{b}.branch3x3dbl_3", 2)
    x = torch.cat([unit(x, f"{b}.branch3x3", 2), double, f.max_pool2d(x, 3, 2)], 1)
    for b in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
        seven = run(x, b, ("branch7x7_1",), ("branch7x7_2", wide), ("branch7x7_3", tall))
        double = run(
            x,
            b,
            ("branch7x7dbl_1",),
            ("branch7x7dbl_2", tall),
            ("branch7x7dbl_3", wide),
            ("branch7x7dbl_4", tall),
            ("branch7x7dbl_5", wide),
        )
        x = torch.cat([run(x, b, ("branch1x1",)), seven, double, run(average(x), b, ("branch_pool",))], 1)
    b = "Mixed_7a"
    three = unit(run(x, b, ("branch3x3_1",)), f"{b}.branch3x3_2", 2)
    seven = run(x, b, ("branch7x7x3_1",), ("branch7x7x3_2", wide), ("branch7x7x3_3", tall))
    x = torch.cat([three, unit(seven, f"{b}.branch7x7x3_4", 2), f.max_pool2d(x, 3, 2)], 1)
    for b in ("Mixed_7b", "Mixed_7c"):
        last = b == "Mixed_7c" and tensorflow_pooling
        pool = f.max_pool2d(x, 3, 1, 1) if last else average(x)
        three = run(x, b, ("branch3x3_1",))
        double = run(x, b, ("branch3x3dbl_1",), ("branch3x3dbl_2", 1))
        x = torch.cat(
            [
                run(x, b, ("branch1x1",)),
                run(three, b, ("branch3x3_2a", (0, 1))),
                run(three, b, ("branch3x3_2b", (1, 0))),
                run(double, b, ("branch3x3dbl_3a", (0, 1))),
                run(double, b, ("branch3x3dbl_3b", (1, 0))),
                run(pool, b, ("branch_pool",)),
            ],
            1,
        )
    return x.mean((2, 3)).numpy()


@pytest.mark.parametrize("tensorflow_pooling", [True, False])
def test_features_agree_with_pytorch(tensors, tensorflow_pooling, tmp_path):
    params = {
        name: inception._folded(tmp_path, tensors, name, shape)
        for name, shape in inception.kernel_shapes().items()
    }
    images = np.random.default_rng(1).uniform(-1, 1, (1, 79, 75, 3)).astype(np.float32)
    expected = in_pytorch(tensors, images, tensorflow_pooling)
    apply = jax.jit(
        inception.InceptionV3(tensorflow_pooling).apply,
        compiler_options={"xla_backend_optimization_level": 0},
    )
    value = apply({"params": params}, images)
    assert value.shape == (1, inception.FEATURES)
    np.testing.assert_allclose(value, expected, rtol=1e-3, atol=1e-4 * expected.std())


def test_it_has_the_published_number_of_weights():
    # torchvision's inception_v3 has 23,834,568 parameters without the auxiliary head; fc takes 2048 *
    # 1000 + 1000,
    # and batch normalisation has one scale more per channel than a folded bias.
    shapes = inception.kernel_shapes()
    kernels, channels = sum(map(np.prod, shapes.values())), sum(shape[-1] for shape in shapes.values())
    assert len(shapes) == 94 and kernels + 2 * channels == 23_834_568 - 2_049_000


def test_a_file_is_loaded_with_its_name_and_bad_files_are_refused(tensors, tmp_path):
    path = tmp_path / "weights.safetensors"
    safetensors.numpy.save_file(tensors, path)
    extractor = inception.load_inception(path, resize="clean")
    assert extractor.name == INCEPTION and extractor.distance_name == "fid"
    assert "pytorch-fid" in extractor.detail and "sha256:" in extractor.detail and "clean" in extractor.detail
    assert jax.eval_shape(extractor.function, jnp.zeros((2, 64, 64, 1))).shape == (2, inception.FEATURES)
    for change, message in (
        ({"fc.bias": np.zeros(10, "f4")}, "10 classes"),
        ({"Conv2d_1a_3x3.conv.weight": np.zeros((32, 1, 3, 3), "f4")}, "has the shape"),
        ({"Mixed_7c.branch1x1.bn.bias": np.full(320, np.nan, "f4")}, "not finite"),
    ):
        safetensors.numpy.save_file({**tensors, **change}, path)
        with pytest.raises(UserError, match=message):
            inception.load_inception(path, resize="clean")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match="not a sound"):
        inception.load_inception(path, resize="clean")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(UserError, match="is missing"):
        inception.load_inception(tmp_path / "other.npz", resize="bilinear")
    for name in ("weights.pth", "none.npz"):
        with pytest.raises(UserError):
            inception.load_inception(tmp_path / name, resize="bilinear")
    with pytest.raises(UserError, match="resize"):
        inception.load_inception(path, resize="nearest")
