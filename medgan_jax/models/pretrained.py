"""VGG weights from a file that the user names, safetensors or npz, in the layouts that are published."""

import contextlib
import hashlib
import pathlib
import re
import zipfile
from collections.abc import Iterable

import jax.numpy as jnp
import numpy as np
import safetensors

from medgan_jax.errors import UserError
from medgan_jax.models.features import ARCHITECTURES, VGG, FeatureNetwork, kernel_shapes, label

TORCH_LINE = (
    'python -c "import torch, safetensors.torch as s; '
    "s.save_file(torch.load('{path}', weights_only=True), '{stem}.safetensors')\""
)
KERAS_LINE = (
    'python -c "import keras, numpy; '
    "m = keras.applications.{model}(weights='{path}', include_top=False); "
    "numpy.savez('{stem}.npz', **{{w.path: numpy.asarray(w) for w in m.weights}})\""
)
FAULTS = (safetensors.SafetensorError, zipfile.BadZipFile, ValueError, TypeError, EOFError, OSError)

# block1_conv1/kernel (Keras), block1_conv1_W_1:0 (older Keras), conv1_1_W (Caffe's weights for TensorFlow).
NAMED = re.compile(r"(?:block(?P<keras>\d)_conv|conv(?P<caffe>\d)_)(?P<number>\d)[/._](?P<part>.+)")
BIAS = re.compile(r"(?:.*[/._])?(?:bias|b)(?:_\d+)?(?::0)?")


@contextlib.contextmanager
def _reading(path: pathlib.Path):
    """The open weights file; every fault of the file is a `UserError`."""
    try:
        if path.suffix == ".safetensors":
            with safetensors.safe_open(path, framework="numpy") as file:
                yield file
        else:
            with np.load(path, allow_pickle=False) as file:
                yield file
    except FAULTS as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path} is not a sound {path.suffix} file ({reason}); "
                        f"copy or convert it again") from None


def _tensor_names(path: pathlib.Path) -> list[str]:
    with _reading(path) as file:
        return list(file.keys())


def _tensors(path: pathlib.Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """The named tensors; others, such as the large dense layers, are not read."""
    with _reading(path) as file:
        read = file.get_tensor if path.suffix == ".safetensors" else file.__getitem__
        return {name: read(name) for name in names}


def _check_path(path: pathlib.Path, architecture: str) -> None:
    if path.suffix in (".pth", ".pt", ".bin", ".pkl"):
        line = TORCH_LINE.format(path=path, stem=path.with_suffix(""))
        raise UserError(f"{path} is a pickle, which could run code and is not opened; convert it: {line}")
    if path.suffix in (".h5", ".hdf5", ".keras"):
        line = KERAS_LINE.format(path=path, stem=path.with_suffix(""), model=architecture.upper())
        raise UserError(f"{path} is in Keras' own format; convert it: {line}")
    if path.suffix not in (".safetensors", ".npz"):
        raise UserError(f"{path}: weights are read from .safetensors or .npz files")
    if not path.is_file():
        raise UserError(f"there is no weights file {path}; name a file with the weights of {architecture}")


def _torchvision_places(architecture: str) -> dict[str, str]:
    """Our name of each convolution -> its place in torchvision's sequence of layers."""
    places, position = {}, 0
    for block, widths in enumerate(ARCHITECTURES[architecture], 1):
        for number in range(1, len(widths) + 1):
            places[f"conv{block}_{number}"] = f"features.{position}"
            position += 2
        position += 1
    return places


def _torchvision_names(names: list[str]) -> dict[str, tuple[str, str]]:
    """Place of each convolution in the file -> names of its kernel and bias."""
    places = {name.rpartition(".")[0] for name in names if name.startswith("features.")}
    return {place: (f"{place}.weight", f"{place}.bias") for place in places}


def _block_names(names: list[str]) -> dict[str, tuple[str, str]]:
    """Our name of each convolution in the file -> the file's names of its kernel and bias."""
    parts: dict[str, dict[bool, str]] = {}
    for name in names:
        if match := NAMED.search(name):
            convolution = f"conv{match['keras'] or match['caffe']}_{match['number']}"
            parts.setdefault(convolution, {})[BIAS.fullmatch(match["part"]) is not None] = name
    return {name: (part.get(False, f"{name} kernel"), part.get(True, f"{name} bias"))
            for name, part in parts.items()}


def _layout(path: pathlib.Path, names: list[str]) -> str:
    """Whose layout the file has: 'torchvision', 'keras' or 'caffe'."""
    if any(name.startswith("features.") for name in names):
        if any(name.endswith("running_mean") for name in names):
            raise UserError(f"{path} is a VGG with batch normalisation; take the weights of the plain one")
        return "torchvision"
    matches = [match for name in names if (match := NAMED.search(name))]
    if not matches:
        raise UserError(f"{path} holds no VGG weights: neither 'features.0.weight' (torchvision) nor "
                        f"'block1_conv1/kernel' (Keras) nor 'conv1_1_W' is in it")
    return "keras" if matches[0]["keras"] else "caffe"


def _array(path: pathlib.Path, name: str, value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """`value` in float32; UserError where its shape is wrong or it is not finite."""
    if value.shape != shape:
        raise UserError(f"{path}: {name} has the shape {value.shape}, not {shape}; check the architecture")
    value = value.astype(np.float32)
    if not np.isfinite(value).all():
        raise UserError(f"{path}: {name} holds values that are not finite; copy or convert it again")
    return value


def _kernel(path: pathlib.Path, layout: str, convolution: str, name: str, value: np.ndarray,
            shape: tuple[int, ...]) -> np.ndarray:
    """A kernel as (3, 3, in, out), red first."""
    if layout == "torchvision":
        return _array(path, name, value, (shape[3], shape[2], *shape[:2])).transpose(2, 3, 1, 0)
    value = _array(path, name, value, shape)
    return value[:, :, ::-1] if layout == "keras" and convolution == "conv1_1" else value


def load_vgg(path: str | pathlib.Path, architecture: str, taps: tuple[str, ...], *,
             resize: tuple[int, ...] | None = None) -> FeatureNetwork:
    """VGG16 or VGG19 features with weights from a .safetensors or .npz file; `taps`, `resize` as in `VGG`.

    Layouts: torchvision's state dict ('features.0.weight', kernels (out, in, 3, 3)); Keras
    ('block1_conv1/kernel', kernels (3, 3, in, out), blue first); the Caffe weights for TensorFlow
    ('conv1_1_W', red first), which DAGAN used. The preprocessing follows the layout: images are [-1, 1], red
    first, with all of them. Dense layers are not read. The name carries the file's SHA-256.
    UserError for a missing, damaged, foreign or pickled file.
    """
    path = pathlib.Path(path)
    if architecture not in ARCHITECTURES:
        raise UserError(f"feature network {architecture!r} is not one of {', '.join(ARCHITECTURES)}")
    _check_path(path, architecture)
    names = _tensor_names(path)
    layout = _layout(path, names)
    preprocessing = "torchvision" if layout == "torchvision" else "caffe"
    module = VGG(tuple(taps), ARCHITECTURES[architecture], preprocessing, resize)

    places = _torchvision_places(architecture)
    if layout != "torchvision":
        places = {name: name for name in places}
    present = _torchvision_names(names) if layout == "torchvision" else _block_names(names)
    foreign = sorted(set(present) - set(places.values()))
    shapes = kernel_shapes(module)
    missing = [places[name] for name in shapes if not set(present.get(places[name], ("",))) <= set(names)]
    if foreign or missing:
        what = f"lacks {missing[0]}" if missing else f"has {foreign[0]} too"
        raise UserError(f"{path} does not hold {architecture}: it {what}; check architecture and file")

    tensors = _tensors(path, [part for name in shapes for part in present[places[name]]])
    params = {}
    for convolution, shape in shapes.items():
        kernel, bias = present[places[convolution]]
        params[convolution] = {
            "kernel": jnp.asarray(_kernel(path, layout, convolution, kernel, tensors[kernel], shape)),
            "bias": jnp.asarray(_array(path, bias, tensors[bias], shape[-1:])),
        }
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FeatureNetwork(module, {"params": params}, f"{label(module)} sha256:{digest}",
                          published_scale=layout != "torchvision")
