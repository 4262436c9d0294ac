"""Inception-v3, whose pooled features make the FID, with weights from a file that the user names."""

import hashlib
import pathlib
import zipfile
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from medgan_jax.errors import UserError
from medgan_jax.metrics.features import INCEPTION, FeatureExtractor

BATCH_NORM_EPSILON = 1e-3  # of the published networks; folded into the kernels when weights are read
SMALLEST_SIDE, PUBLISHED_SIDE, FEATURES = 75, 299, 2048
RESIZES = ("bilinear", "clean")


class InceptionV3(nn.Module):
    """Inception-v3 (Szegedy et al. 2016) up to its global average: `(B, H, W, 3)` in [-1, 1] -> `(B, 2048)`.

    Convolutions carry their batch normalisation folded in. `tensorflow_pooling` is the network for which FID
    is defined: average pooling does not count the padding, and the last block pools by the maximum; without
    it, the network as torchvision trained it. Modules are named as in torchvision.
    """

    tensorflow_pooling: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        if min(x.shape[1:3]) < SMALLEST_SIDE or x.shape[-1] != 3:
            raise ValueError(
                f"Inception-v3 takes (B, H, W, 3) with sides of at least {SMALLEST_SIDE}, not {x.shape}"
            )
        x = self.unit(x, "Conv2d_1a_3x3", 32, 3, stride=2, padding="VALID")
        x = self.unit(x, "Conv2d_2a_3x3", 32, 3, padding="VALID")
        x = self.unit(x, "Conv2d_2b_3x3", 64, 3)
        x = nn.max_pool(x, (3, 3), (2, 2))
        x = self.unit(x, "Conv2d_3b_1x1", 80, 1)
        x = self.unit(x, "Conv2d_4a_3x3", 192, 3, padding="VALID")
        x = nn.max_pool(x, (3, 3), (2, 2))
        for name, pooled in (("Mixed_5b", 32), ("Mixed_5c", 64), ("Mixed_5d", 64)):
            x = self.block_a(x, name, pooled)
        x = self.block_b(x, "Mixed_6a")
        for name, width in (("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)):
            x = self.block_c(x, name, width)
        x = self.block_d(x, "Mixed_7a")
        x = self.block_e(x, "Mixed_7b", self.average(x))
        x = self.block_e(x, "Mixed_7c", self.maximum(x) if self.tensorflow_pooling else self.average(x))
        return jnp.mean(x, axis=(1, 2))

    def unit(self, x, name: str, width: int, kernel, *, stride: int = 1, padding: str = "SAME") -> jax.Array:
        """Convolution with folded batch normalisation, and ReLU; 'SAME' pads alike on both sides at stride
        1."""
        size = (kernel, kernel) if isinstance(kernel, int) else kernel
        return nn.relu(nn.Conv(width, size, (stride, stride), padding, name=name)(x))

    def chain(self, x, block: str, *units) -> jax.Array:
        """Units `(branch name, width, kernel[, stride])` one after another; stride 2 does not pad."""
        for branch, width, kernel, *stride in units:
            options = {"stride": stride[0], "padding": "VALID"} if stride else {}
            x = self.unit(x, f"{block}.{branch}", width, kernel, **options)
        return x

    def average(self, x: jax.Array) -> jax.Array:
        return nn.avg_pool(x, (3, 3), (1, 1), "SAME", count_include_pad=not self.tensorflow_pooling)

    def maximum(self, x: jax.Array) -> jax.Array:
        return nn.max_pool(x, (3, 3), (1, 1), "SAME")

    def block_a(self, x, name: str, pooled: int) -> jax.Array:
        return jnp.concatenate(
            [
                self.chain(x, name, ("branch1x1", 64, 1)),
                self.chain(x, name, ("branch5x5_1", 48, 1), ("branch5x5_2", 64, 5)),
                self.chain(
                    x, name, ("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3)
                ),
                self.chain(self.average(x), name, ("branch_pool", pooled, 1)),
            ],
            axis=-1,
        )

    def block_b(self, x, name: str) -> jax.Array:
        return jnp.concatenate(
            [
                self.chain(x, name, ("branch3x3", 384, 3, 2)),
                self.chain(
                    x,
                    name,
                    ("branch3x3dbl_1", 64, 1),
                    ("branch3x3dbl_2", 96, 3),
                    ("branch3x3dbl_3", 96, 3, 2),
                ),
                nn.max_pool(x, (3, 3), (2, 2)),
            ],
            axis=-1,
        )

    def block_c(self, x, name: str, width: int) -> jax.Array:
        return jnp.concatenate(
            [
                self.chain(x, name, ("branch1x1", 192, 1)),
                self.chain(
                    x,
                    name,
                    ("branch7x7_1", width, 1),
                    ("branch7x7_2", width, (1, 7)),
                    ("branch7x7_3", 192, (7, 1)),
                ),
                self.chain(
                    x,
                    name,
                    ("branch7x7dbl_1", width, 1),
                    ("branch7x7dbl_2", width, (7, 1)),
                    ("branch7x7dbl_3", width, (1, 7)),
                    ("branch7x7dbl_4", width, (7, 1)),
                    ("branch7x7dbl_5", 192, (1, 7)),
                ),
                self.chain(self.average(x), name, ("branch_pool", 192, 1)),
            ],
            axis=-1,
        )

    def block_d(self, x, name: str) -> jax.Array:
        return jnp.concatenate(
            [
                self.chain(x, name, ("branch3x3_1", 192, 1), ("branch3x3_2", 320, 3, 2)),
                self.chain(
                    x,
                    name,
                    ("branch7x7x3_1", 192, 1),
                    ("branch7x7x3_2", 192, (1, 7)),
                    ("branch7x7x3_3", 192, (7, 1)),
                    ("branch7x7x3_4", 192, 3, 2),
                ),
                nn.max_pool(x, (3, 3), (2, 2)),
            ],
            axis=-1,
        )

    def block_e(self, x, name: str, pooled: jax.Array) -> jax.Array:
        wide = self.chain(x, name, ("branch3x3_1", 384, 1))
        double = self.chain(x, name, ("branch3x3dbl_1", 448, 1), ("branch3x3dbl_2", 384, 3))
        return jnp.concatenate(
            [
                self.chain(x, name, ("branch1x1", 320, 1)),
                self.chain(wide, name, ("branch3x3_2a", 384, (1, 3))),
                self.chain(wide, name, ("branch3x3_2b", 384, (3, 1))),
                self.chain(double, name, ("branch3x3dbl_3a", 384, (1, 3))),
                self.chain(double, name, ("branch3x3dbl_3b", 384, (3, 1))),
                self.chain(pooled, name, ("branch_pool", 192, 1)),
            ],
            axis=-1,
        )


def kernel_shapes() -> dict[str, tuple[int, ...]]:
    """Shapes `(height, width, in, out)` of all kernels, by the module's name."""
    images = jax.ShapeDtypeStruct((1, SMALLEST_SIDE, SMALLEST_SIDE, 3), jnp.float32)
    variables = jax.eval_shape(InceptionV3(True).init, jax.random.key(0), images)
    return {name: leaves["kernel"].shape for name, leaves in variables["params"].items()}


def _read(path: pathlib.Path) -> dict[str, np.ndarray]:
    if path.suffix not in (".safetensors", ".npz"):
        raise UserError(
            f"{path}: weights are read from .safetensors or .npz files; a pickle could run code and is "
            f"not opened, convert it with safetensors.torch.save_file"
        )
    if not path.is_file():
        raise UserError(f"there is no weights file {path}; name a file with the weights of Inception-v3")
    try:
        if path.suffix == ".safetensors":
            return safetensors.numpy.load_file(path)
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (
        safetensors.SafetensorError,
        zipfile.BadZipFile,
        ValueError,
        TypeError,
        EOFError,
        OSError,
    ) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{path} is not a sound {path.suffix} file ({reason}); copy or convert it again"
        ) from None


def _folded(path: pathlib.Path, tensors: Mapping[str, np.ndarray], name: str, shape) -> dict[str, jax.Array]:
    """Kernel and bias of one convolution with its batch normalisation folded in, in float64 until the end."""
    parts = ("conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var")
    missing = [f"{name}.{part}" for part in parts if f"{name}.{part}" not in tensors]
    if missing:
        raise UserError(
            f"{path} does not hold Inception-v3 in torchvision's or pytorch-fid's layout: "
            f"{missing[0]} is missing"
        )
    kernel, scale, shift, mean, variance = (
        np.asarray(tensors[f"{name}.{part}"], np.float64) for part in parts
    )
    if kernel.shape != (shape[3], shape[2], shape[0], shape[1]):
        raise UserError(
            f"{path}: {name}.conv.weight has the shape {kernel.shape}, not "
            f"{(shape[3], shape[2], shape[0], shape[1])}"
        )
    gain = scale / np.sqrt(variance + BATCH_NORM_EPSILON)
    folded = {"kernel": kernel.transpose(2, 3, 1, 0) * gain, "bias": shift - mean * gain}
    if not all(np.isfinite(value).all() for value in folded.values()):
        raise UserError(f"{path}: {name} holds values that are not finite; copy or convert the file again")
    return {part: jnp.asarray(value, jnp.float32) for part, value in folded.items()}


def load_inception(path: str | pathlib.Path, *, resize: str) -> FeatureExtractor:
    """The feature extractor of FID: images `(B, H, W, 1 or 3)` in [-1, 1] -> `(B, 2048)`.

    The file, .safetensors or .npz, has torchvision's names ('Mixed_5b.branch1x1.conv.weight'). With the 1008
    classes of pytorch-fid's port it is the network of TensorFlow for which published FIDs hold; with
    torchvision's 1000, the network that torchvision trained, whose values differ. `resize` to 299 x 299:
    'bilinear' (as pytorch-fid, without antialiasing) or 'clean' (bicubic with antialiasing, Parmar et al.
    2022); values differ again. The detail carries all of it with the file's SHA-256. Grey images are repeated
    in three channels. UserError for a bad file.
    """
    if resize not in RESIZES:
        raise UserError(f"resize must be one of {', '.join(RESIZES)}, not {resize!r}")
    path = pathlib.Path(path)
    tensors = _read(path)
    params = {name: _folded(path, tensors, name, shape) for name, shape in kernel_shapes().items()}
    classes = len(tensors["fc.bias"]) if "fc.bias" in tensors else 0
    if classes not in (1000, 1008):
        raise UserError(
            f"{path} has {classes or 'no'} classes: give pytorch-fid's file (1008) or torchvision's (1000), "
            f"with its last layer, by which they are told apart"
        )
    module = InceptionV3(tensorflow_pooling=classes == 1008)
    method = {"bilinear": ("linear", False), "clean": ("cubic", True)}[resize]

    @jax.jit
    def features(params, images):
        if images.ndim != 4 or images.shape[-1] not in (1, 3):
            raise ValueError(f"Inception-v3 takes images (B, H, W, 1 or 3), not {images.shape}")
        x = jnp.broadcast_to(images.astype(jnp.float32), (*images.shape[:-1], 3))
        x = jax.image.resize(
            x, (x.shape[0], PUBLISHED_SIDE, PUBLISHED_SIDE, 3), method[0], antialias=method[1]
        )
        if classes == 1000:  # torchvision standardises by the colours of ImageNet
            deviation, mean = jnp.array((0.229, 0.224, 0.225)), jnp.array((0.485, 0.456, 0.406))
            x = ((x + 1) / 2 - mean) / deviation
        return module.apply({"params": params}, x)

    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    port = "pytorch-fid" if classes == 1008 else "torchvision"
    detail = f"{port} weights sha256:{digest}, {resize} resize"
    return FeatureExtractor(INCEPTION, detail, lambda images: features(params, jnp.asarray(images)))
