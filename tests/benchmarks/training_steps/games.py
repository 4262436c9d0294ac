"""The games that are measured: their sizes and batches, the same for both sides; imports neither of them."""

import dataclasses
from collections.abc import Mapping

import numpy as np


@dataclasses.dataclass(frozen=True)
class Game:
    """One row of the table.

    kind: which stage (`ours.STAGES`) and which peer (`peers.PEERS`) play it. sizes: their options.
    tiny: other sizes for tests. inference: only the forward pass of G in evaluation mode, no training.
    mirrored: PyTorch pads an odd total at the other end, so there the images and kernels are mirrored.
    """

    name: str
    title: str
    kind: str
    sizes: Mapping[str, int]
    tiny: Mapping[str, int]
    inference: bool = False
    mirrored: bool = False

    def sizes_of(self, tiny: bool) -> dict[str, int]:
        return {**self.sizes, **(self.tiny if tiny else {})}


_PIX2PIX = dict(size=256, base=64, patch_layers=3)
_SMALL_PIX2PIX = dict(size=16, base=4, patch_layers=1)

GAMES = (
    Game("dcgan", "DCGAN 64², batch 64", "dcgan", dict(size=64, base=64, channels=3, latent=100, batch=64),
         dict(size=16, base=4, latent=8, batch=4)),
    Game("wgan_gp", "WGAN-GP 64², batch 32, 5 critic steps", "wgan_gp",
         dict(size=64, base=64, channels=1, latent=128, batch=32, critic_steps=5),
         dict(size=16, base=4, latent=8, batch=4, critic_steps=2), mirrored=True),
    Game("pix2pix_b1", "pix2pix 256², batch 1", "pix2pix", dict(**_PIX2PIX, batch=1), _SMALL_PIX2PIX),
    Game("pix2pix_b4", "pix2pix 256², batch 4", "pix2pix", dict(**_PIX2PIX, batch=4),
         dict(**_SMALL_PIX2PIX, batch=2)),
    Game("cyclegan", "CycleGAN 128², ResNet-9, batch 1", "cyclegan",
         dict(size=128, base=64, blocks=9, patch_layers=3, batch=1),
         dict(size=16, base=4, blocks=1, patch_layers=1)),
    Game("srgan3d", "SRGAN 3D 16³ to 32³, batch 1", "srgan3d",
         dict(size=32, width=32, blocks=6, up_width=8, patch_base=32, hidden=1024, batch=1),
         dict(size=8, width=4, blocks=1, up_width=2, patch_base=4, hidden=8, batch=2)),
    Game("pix2pix3d", "pix2pix 3D 64³ (V-Net), batch 1", "pix2pix3d",
         dict(size=64, base=16, stages=5, patch_layers=3, patch_base=32, batch=1),
         dict(size=16, base=4, stages=2, patch_layers=1, patch_base=4, batch=2)),
    Game("unet_inference", "U-Net 256² inference, batch 4", "pix2pix", dict(**_PIX2PIX, batch=4),
         dict(**_SMALL_PIX2PIX, batch=2), inference=True),
)


def by_name(name: str) -> Game:
    return next(game for game in GAMES if game.name == name)


def batch(kind: str, sizes: Mapping[str, int]) -> dict[str, np.ndarray]:
    """The batch of a step: images, channels last in [-1, 1], and latent vectors, the same for both sides."""
    generator = np.random.default_rng(0)

    def images(size: int, channels: int = 1, *, rank: int = 2, lead: tuple[int, ...] = ()) -> np.ndarray:
        shape = (*lead, sizes["batch"], *(size,) * rank, channels)
        return np.tanh(generator.normal(size=shape)).astype(np.float32)

    def latent(*lead: int) -> np.ndarray:
        return generator.normal(size=(*lead, sizes["batch"], sizes["latent"])).astype(np.float32)

    if kind == "dcgan":
        return {"x": images(sizes["size"], sizes["channels"]), "z": latent()}
    if kind == "wgan_gp":
        repeats = sizes["critic_steps"]
        x = images(sizes["size"], sizes["channels"], lead=(repeats,))
        return {"x": x, "z": latent(repeats), "z_G": latent(repeats)}
    if kind == "srgan3d":
        return {"low": images(sizes["size"] // 2, rank=3), "high": images(sizes["size"], rank=3)}
    rank = 3 if kind == "pix2pix3d" else 2
    return {"A": images(sizes["size"], rank=rank), "B": images(sizes["size"], rank=rank)}


def probes(kind: str, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """For each network an input, by which the two sides' outputs are compared."""
    if kind == "dcgan":
        return {"G": batch["z"], "D": batch["x"]}
    if kind == "wgan_gp":
        return {"G": batch["z"][0], "f": batch["x"][0]}
    if kind == "cyclegan":
        return {"G": batch["A"], "F": batch["B"], "D_X": batch["A"], "D_Y": batch["B"]}
    if kind == "srgan3d":
        return {"G": batch["low"], "D": batch["high"]}
    return {"G": batch["A"], "D": np.concatenate([batch["A"], batch["B"]], axis=-1)}
