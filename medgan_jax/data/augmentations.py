"""Random augmentations that several methods share, as functions for `pipeline.Stream`."""

import numpy as np

from medgan_jax.data import transforms
from medgan_jax.data.pipeline import Augment


def enlarged_crop(size: int, enlarge: float) -> Augment:
    """Resize to `enlarge` times `size`, cut out `size` x `size` pixels at random, mirror every second image.

    The jitter of pix2pix and CycleGAN, from 286 to 256 pixels (Isola et al. 2017, appendix 6.2).
    """
    side = round(size * enlarge)

    def change(record, random):
        record = transforms.resize(record, (side, side))
        return transforms.flip(transforms.random_crop(record, random, (size, size)), random)

    return change


def random_crops(size: int) -> Augment:
    """`size` x `size` pixels at a random place; UserError where an image is smaller."""
    return lambda record, random: transforms.random_crop(record, random, (size, size))


def dagan_deformation(size: int, *, elastic: bool = True) -> Augment:
    """Mirror, elastic deformation, rotation, shift, zoom and brightness of magnitude images of side `size`.

    The augmentation of DAGAN's code (Yang et al. 2018), there with an elastic deformation of strength 765 and
    width 25.5 at 256 pixels. That is the costly part, which can be left out.
    """
    side = size - 1

    def change(record, random):
        record = transforms.flip(record, random)
        if elastic:
            record = transforms.elastic(record, random, alpha=3 * side, sigma=0.1 * side)
        record = transforms.affine(record, random, rotation=10, shift=0.1, zoom=(0.9, 1.1))
        # An empty slice has no range.
        return transforms.gamma(record, random, 0.05, span=(0, record["image"].max() or 1))

    return change


def turned_lesion(*, shift: float, zoom: tuple[float, float]) -> Augment:
    """Any rotation, a mirror image, a shift of up to this fraction of the side, an enlargement.

    The classic augmentation of liver lesions (Frid-Adar et al. 2018, section 3.2), drawn anew each time.
    """

    def change(record, random):
        record = transforms.flip(transforms.flip(record, random), random, axis=-3)
        return transforms.affine(record, random, rotation=180, shift=shift, zoom=zoom, fill="reflect")

    return change


def turned_crop(size: int, share: float) -> Augment:
    """Quarter turns, mirroring along both axes, and a cut of up to `share` of the sides, resized to `size`.

    The augmentation of RefineGAN's code (Quan et al. 2018), which cuts up to 12 of 256 pixels.
    """

    def change(record, random):
        record = transforms.quarter_turns(record, random)
        record = transforms.flip(transforms.flip(record, random), random, axis=-3)
        side = size - int(random.integers(int(share * size) + 1))
        return transforms.resize(transforms.random_crop(record, random, (side, side)), (size, size))

    return change


def turned() -> Augment:
    """One of the eight mirrored quarter turns, for images without an upside, such as tissue."""

    def change(record, random):
        return transforms.quarter_turns(transforms.flip(record, random), random)

    return change


def turned_photograph(amount: float) -> Augment:
    """Mirror, any rotation, and brightness, colour and contrast of the image times 1 - amount to 1 + amount.

    The augmentation of V-GAN's code (Son et al. 2017), there every three degrees and with an amount of 0.2.
    What is turned in from outside is black; values stay within 0 and the image's largest.
    """

    def change(record, random):
        record = transforms.affine(transforms.flip(record, random), random, rotation=180, fill=0.0)
        image, (brightness, colour, contrast) = record["image"], random.uniform(1 - amount, 1 + amount, 3)
        limit = image.max()
        image = np.clip(brightness * image, 0, limit)
        grey = image.mean(-1, keepdims=True)
        image = np.clip(grey + colour * (image - grey), 0, limit)
        image = np.clip(grey.mean() + contrast * (image - grey.mean()), 0, limit)
        return {**record, "image": image.astype(record["image"].dtype)}

    return change


def tissue_crop(size: int, *, least: float, fields: tuple[str, str] = ("image", "target")) -> Augment:
    """`size` x `size` pixels at a random place, drawn anew up to ten times while their mean is below `least`.

    The mean is that of the last of `fields`; in CT it keeps out patches of air.
    """

    def change(record, random):
        for _ in range(10):
            patch = transforms.random_crop(record, random, (size, size), fields=fields)
            if patch[fields[-1]].mean() >= least:
                break
        return patch

    return change
