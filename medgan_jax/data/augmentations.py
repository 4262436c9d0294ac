"""Random augmentations that several methods share, as functions for `pipeline.Stream`."""

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
