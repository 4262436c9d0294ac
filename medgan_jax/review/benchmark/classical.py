"""Classical methods that are entrants beside those which the experiments bring: all on a track's cases."""

import importlib.util
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from medgan_jax.classical import tuned
from medgan_jax.errors import UserError
from medgan_jax.game import Baseline
from medgan_jax.inference.pca_gaussian import fit_pca_gaussian, pca_codes
from medgan_jax.inference.wavelets import wavelet_shrinkage

REGISTRATION = "SimpleITK"


def wavelets(scale: float) -> Baseline:
    """`input` by wavelet shrinkage; scale: about the noise's standard deviation. The threshold is the best
    one.
    """
    weights = [scale * 2 ** (exponent / 2) for exponent in range(-6, 9)]
    return tuned("wavelets", wavelet_shrinkage, weights, "output", source="input", target="target")


def principal_residual(components: int = 64) -> Baseline:
    """Score: the absolute sum of what the principal components of healthy images leave of `input`."""

    def fit(batches):
        return fit_pca_gaussian((batch["input"] for batch in batches), components)

    def apply(fitted, case, key):
        x = case["input"]
        near = fitted["mean"] + jnp.tensordot(pca_codes(fitted, x), fitted["directions"], axes=1)
        return {"score": jnp.abs(x - near).sum(tuple(range(1, x.ndim)))}

    return Baseline("principal-component residual", apply, fit)


def registration(name: str, register: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Baseline:
    """`register(moving, fixed)`, of images (*S,), as the `displacement` in voxels, (*S, rank); on the host.
    """

    def batch_of(moving, fixed):
        pairs = zip(np.asarray(moving), np.asarray(fixed), strict=True)
        return np.stack([register(a[..., 0], b[..., 0]) for a, b in pairs]).astype(np.float32)

    def apply(fitted, case, key):
        if importlib.util.find_spec(REGISTRATION) is None:
            raise UserError(
                f"{name} needs {REGISTRATION}, which is not installed: pip install {REGISTRATION}"
            )
        moving = case["moving"]
        shape = jax.ShapeDtypeStruct((*moving.shape[:-1], moving.ndim - 2), jnp.float32)
        return {"displacement": jax.pure_callback(batch_of, shape, moving, case["fixed"])}

    return Baseline(name, apply)


def demons(moving: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    """Fast symmetric-forces demons (Vercauteren et al. 2009) of SimpleITK, 100 iterations, after affine
    alignment.
    """
    import SimpleITK as itk

    start = affine(moving, fixed)
    field = itk.GetImageFromArray(np.ascontiguousarray(start[..., ::-1], np.float64), isVector=True)
    method = itk.FastSymmetricForcesDemonsRegistrationFilter()
    method.SetNumberOfIterations(100)
    method.SetStandardDeviations(1.5)
    return _displacement(method.Execute(_image(fixed), _image(moving), field))


def affine(moving: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    """The affine transform with the least mean square, by gradient descent at three resolutions, of
    SimpleITK.
    """
    import SimpleITK as itk

    target, image = _image(fixed), _image(moving)
    transform = itk.CenteredTransformInitializer(
        target, image, itk.AffineTransform(fixed.ndim), itk.CenteredTransformInitializerFilter.GEOMETRY
    )
    method = itk.ImageRegistrationMethod()
    method.SetMetricAsMeanSquares()
    method.SetInterpolator(itk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-4, 100)
    method.SetOptimizerScalesFromPhysicalShift()
    coarse = [factor for factor in (4, 2, 1) if min(fixed.shape) // factor >= 16] or [1]
    method.SetShrinkFactorsPerLevel(coarse)
    method.SetSmoothingSigmasPerLevel([factor / 2 if factor > 1 else 0 for factor in coarse])
    method.SetInitialTransform(transform, inPlace=False)
    found = method.Execute(target, image)
    return _displacement(itk.TransformToDisplacementField(found, itk.sitkVectorFloat64, target.GetSize()))


def _image(array: np.ndarray):
    import SimpleITK as itk

    return itk.GetImageFromArray(np.ascontiguousarray(array, np.float32))


def _displacement(field) -> np.ndarray:
    """Components in the order of the array's axes; SimpleITK has the last axis first."""
    import SimpleITK as itk

    return itk.GetArrayFromImage(field)[..., ::-1]
