"""The games in PyTorch, from the same specification: networks, losses, optimisers and the order of the turns.

Written as PyTorch users write them: a fake is made once and detached for the discriminator, whose weights
take no gradient in the generator's turn; activations work in place; Adam is the fused one. Modules have the
names of the library's, so that weights can be copied over.
"""

import contextlib
import itertools
import math
from collections.abc import Callable, Mapping

import torch
from torch import nn
from torch.nn import functional as F

CONV = {2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
BATCH_NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
INSTANCE_NORM = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}


def adam(rate: float, beta1: float, beta2: float, *networks: nn.Module) -> torch.optim.Adam:
    parameters = [parameter for network in networks for parameter in network.parameters()]
    return torch.optim.Adam(parameters, rate, (beta1, beta2), fused=True)


def initialise(module: nn.Module) -> nn.Module:
    """DCGAN's initial values, as the library's factories have them."""
    for part in module.modules():
        if isinstance(part, (*CONV.values(), *TRANSPOSED.values(), nn.Linear)):
            nn.init.normal_(part.weight, 0.0, 0.02)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, tuple(BATCH_NORM.values())):
            nn.init.normal_(part.weight, 1.0, 0.02)
    return module


# ------------------------------------------------------------------------------------------------ networks


def leaky(slope: float = 0.2) -> nn.Module:
    return nn.LeakyReLU(slope, inplace=True)


def relu() -> nn.Module:
    return nn.ReLU(inplace=True)


class Layer(nn.Module):
    """Convolution, normalisation, dropout, activation. `up` doubles the image by a transposed convolution."""

    def __init__(self, inputs: int, features: int, kernel: int = 4, stride: int = 2, padding: int = 1, *,
                 up: bool = False, output_padding: int = 0, mode: str = "zeros", norm: str = "batch",
                 dropout: float = 0.0, activation: nn.Module | None = None, rank: int = 2):
        super().__init__()
        settings = dict(stride=stride, padding=padding, bias=norm == "none")
        if up:
            self.conv = TRANSPOSED[rank](inputs, features, kernel, output_padding=output_padding, **settings)
        else:
            self.conv = CONV[rank](inputs, features, kernel, padding_mode=mode, **settings)
        if norm != "none":
            self.norm = (BATCH_NORM if norm == "batch" else INSTANCE_NORM)[rank](features)
        rest = [nn.Dropout(dropout)] if dropout else []
        self.rest = nn.Sequential(*rest, *([] if activation is None else [activation]))

    def forward(self, x):
        x = self.conv(x)
        return self.rest(self.norm(x) if hasattr(self, "norm") else x)


class Dense(nn.Linear):
    """A dense layer from or to maps (C, *grid), which in the library are in the order (*grid, C)."""

    def __init__(self, inputs: int, outputs: int, *, before=None, after=None, bias: bool = True):
        super().__init__(inputs, outputs, bias)
        self.before, self.after = before, after


class DCGANGenerator(nn.Module):
    """Dense projection, then doublings. `padding` and `output_padding` are those of the kernel."""

    def __init__(self, size: int, channels: int, base: int, latent: int, kernel: int = 4):
        super().__init__()
        stages = int(math.log2(size // 4))
        widths = [base * 2**stage for stage in reversed(range(stages))]
        self.start = (widths[0], 4, 4)
        self.project = Dense(latent, math.prod(self.start), after=self.start, bias=False)
        self.project_norm = nn.BatchNorm2d(widths[0])
        odd = kernel % 2
        settings = dict(kernel=kernel, padding=(kernel - 1) // 2, output_padding=odd, up=True)
        ups = [Layer(before, after, activation=relu(), **settings)
               for before, after in itertools.pairwise(widths)]
        for number, up in enumerate(ups):
            self.add_module(f"up_{number}", up)
        self.ups = len(ups)
        self.head = Layer(widths[-1], channels, norm="none", activation=nn.Tanh(), **settings)

    def forward(self, z):
        x = F.relu(self.project_norm(self.project(z).view(-1, *self.start)), inplace=True)
        for number in range(self.ups):
            x = getattr(self, f"up_{number}")(x)
        return self.head(x)


class DCGANDiscriminator(nn.Module):
    """Halvings, then a dense layer."""

    def __init__(self, size: int, channels: int, base: int, kernel: int = 4, norm: str = "batch"):
        super().__init__()
        self.layers = int(math.log2(size // 4))
        for number in range(self.layers):
            width, before = base * 2**number, base * 2 ** (number - 1) if number else channels
            layer = Layer(before, width, kernel, padding=(kernel - 1) // 2, activation=leaky(),
                          norm=norm if number else "none")
            self.add_module(f"layer_{number}", layer)
        self.head = Dense(width * 16, 1, before=(width, 4, 4))

    def forward(self, x):
        for number in range(self.layers):
            x = getattr(self, f"layer_{number}")(x)
        return self.head(x.flatten(1))


class UNet(nn.Module):
    """pix2pix's generator, skips joined by concatenation."""

    def __init__(self, size: int, base: int, channels: int = 1):
        super().__init__()
        levels = min(int(math.log2(size)), 8)
        down = [base * min(2**level, 8) for level in range(levels)]
        up = down[-2::-1]
        noisy = max(1, min(3, up.count(8 * base)))
        self.levels = levels
        for level, width in enumerate(down):
            layer = Layer(down[level - 1] if level else channels, width, activation=leaky(),
                          norm="none" if level in (0, levels - 1) else "batch")
            self.add_module(f"down_{level}", layer)
        inputs = down[-1]
        for stage, width in enumerate(up):
            layer = Layer(inputs, width, up=True, activation=relu(), dropout=0.5 if stage < noisy else 0.0)
            self.add_module(f"up_{stage}", layer)
            inputs = width + down[-2 - stage]
        self.head = Layer(inputs, channels, up=True, norm="none", activation=nn.Tanh())

    def forward(self, x):
        maps = []
        for level in range(self.levels):
            x = getattr(self, f"down_{level}")(x)
            maps.append(x)
        x = F.relu(maps.pop())
        for stage in range(self.levels - 1):
            x = getattr(self, f"up_{stage}")(x)
            x = torch.cat([F.relu(maps.pop()), x], 1)
        return self.head(x)


class PatchGAN(nn.Module):
    """Strided 4x4 convolutions, one of stride 1, and a map of logits."""

    def __init__(self, layers: int, channels: int, base: int, norm: str = "batch", rank: int = 2):
        super().__init__()
        self.layers = layers + 1
        before = channels
        for number in range(self.layers):
            width = base * min(2**number, 8)
            layer = Layer(before, width, stride=2 if number < layers else 1, activation=leaky(), rank=rank,
                          norm=norm if number else "none")
            self.add_module(f"layer_{number}", layer)
            before = width
        self.head = Layer(before, 1, stride=1, norm="none", rank=rank)

    def forward(self, x):
        for number in range(self.layers):
            x = getattr(self, f"layer_{number}")(x)
        return self.head(x)


class ResidualBlock(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        settings = dict(kernel=3, stride=1, mode="reflect", norm="instance")
        self.first = Layer(width, width, activation=relu(), **settings)
        self.second = Layer(width, width, **settings)

    def forward(self, x):
        return x + self.second(self.first(x))


class ResNetGenerator(nn.Module):
    """CycleGAN's generator: two halvings, residual blocks, and back."""

    def __init__(self, base: int, blocks: int, channels: int = 1):
        super().__init__()
        outer = dict(kernel=7, stride=1, padding=3, mode="reflect")
        inner = dict(kernel=3, norm="instance")
        parts = {"first": Layer(channels, base, activation=relu(), norm="instance", **outer)}
        for level in range(2):
            width = base * 2**level
            parts[f"down_{level}"] = Layer(width, 2 * width, activation=relu(), **inner)
        parts |= {f"block_{number}": ResidualBlock(4 * base) for number in range(blocks)}
        for level in (1, 0):
            width = base * 2**level
            parts[f"up_{level}"] = Layer(2 * width, width, up=True, output_padding=1, activation=relu(),
                                         **inner)
        parts["head"] = Layer(base, channels, norm="none", activation=nn.Tanh(), **outer)
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x):
        for part in self.children():
            x = part(x)
        return x


class SubPixelConv(nn.Module):
    """A convolution of volumes, its channels put between the voxels in the library's order."""

    def __init__(self, inputs: int, features: int):
        super().__init__()
        self.conv = nn.Conv3d(inputs, 8 * features, 3, padding=1)

    def forward(self, x):
        x = self.conv(x)
        batch, channels, *sides = x.shape
        x = x.reshape(batch, 2, 2, 2, channels // 8, *sides).permute(0, 4, 5, 1, 6, 2, 7, 3)
        return x.reshape(batch, channels // 8, *(2 * side for side in sides))


class SRResidualBlock(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        settings = dict(kernel=3, stride=1, rank=3)
        self.first = Layer(width, width, activation=leaky(0.25), **settings)
        self.second = Layer(width, width, **settings)

    def forward(self, x):
        return x + self.second(self.first(x))


class SRGANGenerator(nn.Module):
    """SRResNet on volumes, one doubling."""

    def __init__(self, width: int, blocks: int, up_width: int):
        super().__init__()
        settings = dict(kernel=3, stride=1, rank=3)
        self.first = Layer(1, width, activation=leaky(0.25), **settings)
        self.blocks = blocks
        for number in range(blocks):
            self.add_module(f"block_{number}", SRResidualBlock(width))
        self.last = Layer(width, width, **settings)
        self.up_0 = SubPixelConv(width, up_width)
        self.head = Layer(up_width, 1, norm="none", **settings)

    def forward(self, x):
        y = first = self.first(x)
        for number in range(self.blocks):
            y = getattr(self, f"block_{number}")(y)
        y = self.up_0(first + self.last(y))
        return self.head(F.leaky_relu(y, 0.25, inplace=True))


class SRGANDiscriminator(nn.Module):
    """Pairs of 3x3x3 convolutions of stride 1 and 2, then two dense layers."""

    def __init__(self, size: int, base: int, hidden: int):
        super().__init__()
        stages = min(4, int(math.log2(size)) - 1)
        self.layers, before = 2 * stages, 1
        for number in range(self.layers):
            width = base * 2 ** (number // 2)
            layer = Layer(before, width, kernel=3, stride=1 + number % 2, activation=leaky(0.3), rank=3,
                          norm="batch" if number else "none")
            self.add_module(f"layer_{number}", layer)
            before = width
        maps = (width, *(size // 2**stages,) * 3)
        self.hidden = Dense(math.prod(maps), hidden, before=maps)
        self.head = nn.Linear(hidden, 1)

    def forward(self, x):
        for number in range(self.layers):
            x = getattr(self, f"layer_{number}")(x)
        return self.head(F.leaky_relu(self.hidden(x.flatten(1)), 0.3, inplace=True))


class VNetStage(nn.Module):
    def __init__(self, inputs: int, width: int, convolutions: int):
        super().__init__()
        self.convolutions = convolutions
        for number in range(convolutions):
            self.add_module(f"layer_{number}", Layer(width if number else inputs, width, 3, 1, rank=3))
            self.add_module(f"prelu_{number}", nn.PReLU(width))
        if inputs != width:
            self.shortcut = nn.Conv3d(inputs, width, 1, bias=False)

    def forward(self, x):
        y = x
        for number in range(self.convolutions):
            if number:
                y = getattr(self, f"prelu_{number - 1}")(y)
            y = getattr(self, f"layer_{number}")(y)
        x = self.shortcut(x) if hasattr(self, "shortcut") else x
        return getattr(self, f"prelu_{self.convolutions - 1}")(x + y)


class VNet(nn.Module):
    """Residual stages between strided convolutions and their transposes, joined by concatenation."""

    def __init__(self, base: int, stages: int):
        super().__init__()
        widths = [base * 2**level for level in range(stages)]
        convolutions, before = (1, 2, 3, 3, 3)[:stages], 1
        resample = dict(kernel=2, stride=2, padding=0, rank=3)
        self.stages = stages
        for level, width in enumerate(widths):
            if level:
                self.add_module(f"down_{level}", Layer(before, width, **resample))
                self.add_module(f"down_{level}_prelu", nn.PReLU(width))
            self.add_module(f"encoder_{level}", VNetStage(width if level else 1, width, convolutions[level]))
            before = width
        for level in reversed(range(stages - 1)):
            width = widths[level]
            self.add_module(f"up_{level}", Layer(before, width, up=True, **resample))
            self.add_module(f"up_{level}_prelu", nn.PReLU(width))
            self.add_module(f"decoder_{level}", VNetStage(2 * width, 2 * width, convolutions[level]))
            before = 2 * width
        self.head = nn.Conv3d(before, 1, 1)

    def forward(self, x):
        maps = []
        for level in range(self.stages):
            if level:
                maps.append(x)
                x = getattr(self, f"down_{level}_prelu")(getattr(self, f"down_{level}")(x))
            x = getattr(self, f"encoder_{level}")(x)
        for level in reversed(range(self.stages - 1)):
            x = getattr(self, f"up_{level}_prelu")(getattr(self, f"up_{level}")(x))
            x = getattr(self, f"decoder_{level}")(torch.cat([x, maps.pop()], 1))
        return torch.tanh(self.head(x))


# --------------------------------------------------------------------------------------------------- games


def cross_entropy(scores, label: float):
    return F.binary_cross_entropy_with_logits(scores, torch.full_like(scores, label))


def squared_error(scores, label: float):
    return F.mse_loss(scores, torch.full_like(scores, label))


@contextlib.contextmanager
def constant(*networks: nn.Module):
    """Networks whose weights take no gradient, because another player moves."""
    for network in networks:
        network.requires_grad_(False)
    yield
    for network in networks:
        network.requires_grad_(True)


def descend(optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


class Peer:
    """One game: `networks` by the library's names, and `step(batch) -> logged terms`, channels first."""

    networks: dict[str, nn.Module]

    def step(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        raise NotImplementedError

    def call(self, name: str, *inputs: torch.Tensor) -> torch.Tensor:
        """The network, or what `torch.compile` has made of it, in the precision of the run."""
        return self.networks[name](*inputs)


class DCGAN(Peer):
    def __init__(self, sizes: Mapping[str, int]):
        size, base, channels = sizes["size"], sizes["base"], sizes["channels"]
        self.networks = {"G": DCGANGenerator(size, channels, base, sizes["latent"]),
                         "D": DCGANDiscriminator(size, channels, base)}
        self.optimizers = {name: adam(2e-4, 0.5, 0.999, network) for name, network in self.networks.items()}

    def step(self, batch):
        fake = self.call("G", batch["z"])
        real_scores, fake_scores = self.call("D", batch["x"]), self.call("D", fake.detach())
        loss_d = cross_entropy(real_scores, 1.0) + cross_entropy(fake_scores, 0.0)
        descend(self.optimizers["D"], loss_d)
        with constant(self.networks["D"]):
            loss_g = cross_entropy(self.call("D", fake), 1.0)
            descend(self.optimizers["G"], loss_g)
        return {"D/loss": loss_d, "G/loss": loss_g}


class WGANGP(Peer):
    def __init__(self, sizes: Mapping[str, int]):
        size, base, channels = sizes["size"], sizes["base"], sizes["channels"]
        self.networks = {"G": DCGANGenerator(size, channels, base, sizes["latent"], kernel=5),
                         "f": DCGANDiscriminator(size, channels, base, kernel=5, norm="none")}
        self.optimizers = {name: adam(1e-4, 0.5, 0.9, network) for name, network in self.networks.items()}
        self.mix = lambda count: torch.rand(count, 1, 1, 1)

    def penalty(self, x, fake):
        mix = self.mix(len(x)).to(x)
        between = (mix * x + (1 - mix) * fake).requires_grad_()
        scores = self.networks["f"](between)
        slope, = torch.autograd.grad(scores.sum(), between, create_graph=True)
        return 10.0 * (slope.flatten(1).norm(dim=1) - 1).square().mean()

    def step(self, batch):
        distances, penalties = [], []
        for x, z in zip(batch["x"], batch["z"], strict=True):
            with torch.no_grad():
                fake = self.call("G", z)
            distance = self.call("f", fake).mean() - self.call("f", x).mean()
            penalty = self.penalty(x, fake)
            descend(self.optimizers["f"], distance + penalty)
            distances.append(-distance.detach())
            penalties.append(penalty.detach())
        with constant(self.networks["f"]):
            loss = -self.call("f", self.call("G", batch["z_G"][-1])).mean()
            descend(self.optimizers["G"], loss)
        return {"f/wasserstein": torch.stack(distances).mean(), "f/penalty": torch.stack(penalties).mean(),
                "G/loss": loss}


class Pix2Pix(Peer):
    rank = 2

    def __init__(self, sizes: Mapping[str, int]):
        self.networks = {"G": self.generator(sizes),
                         "D": PatchGAN(sizes["patch_layers"], 2, sizes.get("patch_base", sizes["base"]),
                                       rank=self.rank)}
        self.optimizers = {name: adam(2e-4, 0.5, 0.999, network) for name, network in self.networks.items()}

    def generator(self, sizes):
        return UNet(sizes["size"], sizes["base"])

    def step(self, batch):
        a, b = batch["A"], batch["B"]
        fake = self.call("G", a)
        real_scores = self.call("D", torch.cat([a, b], 1))
        fake_scores = self.call("D", torch.cat([a, fake.detach()], 1))
        loss_d = 0.5 * (cross_entropy(real_scores, 1.0) + cross_entropy(fake_scores, 0.0))
        descend(self.optimizers["D"], loss_d)
        with constant(self.networks["D"]):
            adversarial = cross_entropy(self.call("D", torch.cat([a, fake], 1)), 1.0)
            l1 = 100.0 * F.l1_loss(fake, b)
            descend(self.optimizers["G"], adversarial + l1)
        return {"D/loss": loss_d, "G/l1": l1, "G/adversarial": adversarial}


class Pix2Pix3D(Pix2Pix):
    rank = 3

    def generator(self, sizes):
        return VNet(sizes["base"], sizes["stages"])


class SRGAN3D(Peer):
    def __init__(self, sizes: Mapping[str, int]):
        self.networks = {"G": SRGANGenerator(sizes["width"], sizes["blocks"], sizes["up_width"]),
                         "D": SRGANDiscriminator(sizes["size"], sizes["patch_base"], sizes["hidden"])}
        self.optimizers = {name: adam(1e-4, 0.9, 0.999, network) for name, network in self.networks.items()}

    def step(self, batch):
        fake = self.call("G", batch["low"])
        real_scores, fake_scores = self.call("D", batch["high"]), self.call("D", fake.detach())
        loss_d = squared_error(real_scores, 1.0) + squared_error(fake_scores, 0.0)
        descend(self.optimizers["D"], loss_d)
        with constant(self.networks["D"]):
            l2 = F.mse_loss(fake, batch["high"])
            adversarial = 1e-3 * squared_error(self.call("D", fake), 1.0)
            descend(self.optimizers["G"], l2 + adversarial)
        return {"D/loss": loss_d, "G/l2": l2, "G/adversarial": adversarial}


class CycleGAN(Peer):
    def __init__(self, sizes: Mapping[str, int]):
        generators = {name: ResNetGenerator(sizes["base"], sizes["blocks"]) for name in ("G", "F")}
        discriminators = {name: PatchGAN(sizes["patch_layers"], 1, sizes["base"], "instance")
                          for name in ("D_X", "D_Y")}
        self.networks = {**generators, **discriminators}
        self.optimizers = {"G": adam(2e-4, 0.5, 0.999, *generators.values()),
                           "D": adam(2e-4, 0.5, 0.999, *discriminators.values())}
        self.pools = {"X": [], "Y": []}

    def query(self, name: str, images: torch.Tensor, size: int = 50) -> torch.Tensor:
        """Past fakes: stored while there is room, then half of the time exchanged for an older one."""
        pool, shown = self.pools[name], []
        for image in images.detach():
            if len(pool) < size:
                pool.append(image)
            elif torch.rand(()) < 0.5:
                place = int(torch.randint(size, ()))
                pool[place], image = image, pool[place]
            shown.append(image)
        return torch.stack(shown)

    def step(self, batch):
        x, y = batch["A"], batch["B"]
        with constant(self.networks["D_X"], self.networks["D_Y"]):
            fake_y, fake_x = self.call("G", x), self.call("F", y)
            terms = {
                "G/adversarial_y": squared_error(self.call("D_Y", fake_y), 1.0),
                "G/adversarial_x": squared_error(self.call("D_X", fake_x), 1.0),
                "G/cycle_x": 10.0 * F.l1_loss(self.call("F", fake_y), x),
                "G/cycle_y": 10.0 * F.l1_loss(self.call("G", fake_x), y),
                "G/identity_y": 5.0 * F.l1_loss(self.call("G", y), y),
                "G/identity_x": 5.0 * F.l1_loss(self.call("F", x), x),
            }
            descend(self.optimizers["G"], sum(terms.values()))
        losses = {}
        for name, real, fake in (("D_Y", y, self.query("Y", fake_y)), ("D_X", x, self.query("X", fake_x))):
            real_scores, fake_scores = self.call(name, real), self.call(name, fake)
            losses[name] = 0.5 * (squared_error(real_scores, 1.0) + squared_error(fake_scores, 0.0))
        descend(self.optimizers["D"], losses["D_Y"] + losses["D_X"])
        return {**terms, **{f"D/{name}": loss for name, loss in losses.items()}}


PEERS: dict[str, Callable[[Mapping[str, int]], Peer]] = {
    "dcgan": DCGAN,
    "wgan_gp": WGANGP,
    "pix2pix": Pix2Pix,
    "cyclegan": CycleGAN,
    "srgan3d": SRGAN3D,
    "pix2pix3d": Pix2Pix3D,
}
