# ---
# jupyter:
#   jupytext:
#     formats: py:percent,ipynb
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Metrics that disagree
#
# One segmentation and one reconstruction, each measured by the same metrics under different conventions. No
# image changes between two rows of a table; only what the paper may have left unsaid does. This is why
# `data_range`, `window`, `spacing`, `percentile`, `boundary` and `empty_policy` are required arguments here.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from medgan_jax.evaluation import surfaces
from medgan_jax.metrics import image, measure, overlap
from medgan_jax.phantoms.head import head_slice
from medgan_jax.physics import fourier, masks

# %% [markdown]
# ## 1. One reconstruction
#
# A phantom of a head, magnitude in [0, 1] with air around it, and its zero-filled reconstruction from 30 %
# of k-space.

# %%
keys = jax.random.split(jax.random.key(0), 1)
y = jax.jit(jax.vmap(lambda key: head_slice(key, 128)["image"]))(keys)
y = y / y.max()
mask = masks.make_mask("gaussian1d", (128, 128), 0.3)
x = jnp.abs(fourier.zero_filled(y[..., 0], mask))[..., None]

figure, axes = plt.subplots(1, 3, figsize=(9, 3))
pictures = {"target": y, "zero-filled": x, "error": abs(x - y)}
for ax, (title, picture) in zip(axes, pictures.items(), strict=True):
    ax.imshow(picture[0, ..., 0], cmap="gray", vmin=0, vmax=1 if title != "error" else 0.3)
    ax.set_title(title)
    ax.axis("off")
plt.show()

# %% [markdown]
# **PSNR** is `10 log10(R^2 / MSE)`. On [-1, 1] network outputs the error doubles and so does the range: no
# difference, as long as R follows. Forgetting it costs 6 dB, and a mostly-empty image flatters.

# %%
body = (y > 0.05).astype(jnp.uint8)


def show(rows):
    for name, value in rows.items():
        print(f"{name:52s} {float(value[0]):8.4f}")


psnr = {
    "PSNR dB, [0, 1], R = 1": image.psnr(x, y, data_range=1.0),
    "PSNR dB, [-1, 1], R = 2": image.psnr(2 * x - 1, 2 * y - 1, data_range=2.0),
    "PSNR dB, [-1, 1], R = 1 (range not adapted)": image.psnr(2 * x - 1, 2 * y - 1, data_range=1.0),
    "PSNR dB, R = maximum of the prediction": image.psnr(x, y, data_range=x.max()),
    "PSNR dB, inside the body only": image.psnr(x, y, data_range=1.0, mask=body),
}
show(psnr)

# %% [markdown]
# **SSIM** has three conventions in daily use, and **NMSE** two under one name: fastMRI's, and the square root
# that DAGAN's code reports, which moreover depends on the offset of the images.

# %%
show(
    {
        "SSIM, Gaussian window of 11 (Wang 2004)": image.ssim(x, y, data_range=1.0, window=image.WANG_2004),
        "SSIM, uniform window of 7 (scikit-image)": image.ssim(x, y, data_range=1.0, window=image.UNIFORM_7),
        "SSIM, Wang 2004, [0, 1] with R = 255": image.ssim(x, y, data_range=255.0, window=image.WANG_2004),
        "SSIM, Wang 2004, inside the body only": image.ssim(
            x, y, data_range=1.0, window=image.WANG_2004, mask=body
        ),
        "NMSE (fastMRI)": image.nmse(x, y),
        "NMSE as DAGAN reports it": image.nmse_dagan(x, y),
        "NMSE as DAGAN reports it, on [-1, 1]": image.nmse_dagan(2 * x - 1, 2 * y - 1),
        "NRMSE over the range": image.nrmse(x, y, denominator="min-max"),
        "NRMSE over the mean": image.nrmse(x, y, denominator="mean"),
    }
)

# %% [markdown]
# ## 2. One segmentation
#
# An ellipse and a prediction that is shifted, has a bay and a spur, and one stray pixel far away. Pixels
# are 0.5 mm wide and 2 mm high.

# %%
row, column = np.mgrid[:96, :96]
reference = ((row - 48) ** 2 / 4 + (column - 40) ** 2 <= 14**2)[None, ..., None]
prediction = np.roll(reference, 2, axis=2)
prediction[:, 40:48, 20:34] = False
prediction[:, 47:50, 54:74] = True
prediction[:, 10, 90] = True
spacing = (2.0, 0.5)

plt.imshow(reference[0, ..., 0] + 2.0 * prediction[0, ..., 0], aspect=4)
plt.title("reference 1, prediction 2, both 3")
plt.show()

# %% [markdown]
# **Dice and IoU** are one number in two clothes, and have been taken for one another. **Hausdorff** answers
# to a single pixel, so most report its 95th percentile, of which there are two. What counts as the boundary
# changes every distance. Isotropic pixels and swapped axes are the two usual mistakes.

# %%
show(
    {
        "Dice": overlap.dice(prediction, reference, empty_policy="nan"),
        "IoU": overlap.iou(prediction, reference, empty_policy="nan"),
    }
)
common = {"spacing": spacing, "boundary": "erosion1", "empty_policy": "nan"}
directed = {"percentile": 95, "definition": "max_of_directed", **common}
distances = {
    "Hausdorff mm, maximum": surfaces.hausdorff(prediction, reference, **{**directed, "percentile": None}),
    "HD95 mm, larger of two directions (MONAI)": surfaces.hausdorff(prediction, reference, **directed),
    "HD95 mm, both directions pooled (MedPy)": surfaces.hausdorff(
        prediction, reference, **{**directed, "definition": "pooled"}
    ),
    "HD95 mm, surface elements (DeepMind)": surfaces.hausdorff(
        prediction, reference, **{**directed, "boundary": "surfel"}
    ),
    "HD95 'mm', spacing forgotten": surfaces.hausdorff(
        prediction, reference, **{**directed, "spacing": (1, 1)}
    ),
    "HD95 'mm', spacing in the wrong order": surfaces.hausdorff(
        prediction, reference, **{**directed, "spacing": spacing[::-1]}
    ),
    "ASD mm, prediction to reference": surfaces.asd(prediction, reference, **common),
    "ASD mm, reference to prediction": surfaces.asd(reference, prediction, **common),
    "ASSD mm (both, pooled)": surfaces.assd(prediction, reference, **common),
    "MASD mm (mean of the two)": surfaces.masd(prediction, reference, **common),
    "Surface Dice at 1 mm": surfaces.nsd(prediction, reference, tolerance=1.0, **common),
    "Surface Dice at 2 mm": surfaces.nsd(prediction, reference, tolerance=2.0, **common),
}
show(distances)

# %% [markdown]
# **Empty masks**: a test set in which half of the cases have no lesion, and a network that finds nothing at
# all on them and half of each lesion on the others.

# %%
truth = np.zeros((4, 16, 16, 1), bool)
truth[:2, 4:12, 4:12] = True
found = truth.copy()
found[:, 8:] = False
for policy in ("nan", "best_worst"):
    score = measure(overlap.dice, found, truth, empty_policy=policy)
    mean, undefined = np.nanmean(score.values), score.n_undefined
    print(f"mean Dice with empty_policy={policy!r}: {mean:.3f}, undefined {undefined} of 4")
counted_as_zero = np.nan_to_num(measure(overlap.dice, found, truth, empty_policy="nan").values)
print(f"mean Dice where undefined cases silently became 0: {counted_as_zero.mean():.3f}")

# %% [markdown]
# The same four cases score 0.667, 0.833 or 0.333. None of the three is wrong; a table that does not say
# which it prints is.
