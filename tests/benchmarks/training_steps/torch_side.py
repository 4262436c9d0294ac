"""The process that plays a game with PyTorch."""

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from tests.benchmarks.training_steps import games, peers
from tests.benchmarks.training_steps.serving import Side, serve

LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def channels_first(array: np.ndarray, *, mirrored: bool) -> np.ndarray:
    """`(B, *S, C)` as `(B, C, *S)`, space mirrored on demand; vectors as they are."""
    if mirrored:
        array = np.flip(array, tuple(range(1, array.ndim - 1)))
    return np.moveaxis(array, -1, 1)


def copy_weights(network: torch.nn.Module, arrays: dict[str, np.ndarray], *, mirrored: bool) -> None:
    """Weights of the library's network of the same structure; raises where any is missing or left over."""
    arrays = dict(arrays)

    def copy(parameter, value):
        if parameter.shape != value.shape:
            raise ValueError(f"a weight is {tuple(parameter.shape)} here and {value.shape} there")
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(np.array(value)))

    for name, part in network.named_modules():
        path, flip = name.replace(".", "/"), mirrored
        if isinstance(part, peers.Dense):
            kernel = arrays.pop(f"{path}/kernel")
            if part.before is not None:
                kernel = _channels_of_rows_first(kernel, part.before, mirrored)
            if part.after is not None:
                kernel = _channels_of_rows_first(kernel.T, part.after, mirrored).T
            copy(part.weight, kernel.T)
        elif isinstance(part, (*peers.CONV.values(), *peers.TRANSPOSED.values())):
            kernel = arrays.pop(f"{path}/kernel")
            if isinstance(part, tuple(peers.TRANSPOSED.values())):
                kernel, flip = np.swapaxes(kernel, -1, -2), not mirrored
            kernel = np.flip(kernel, range(kernel.ndim - 2)) if flip else kernel
            copy(part.weight, np.moveaxis(kernel, (-1, -2), (0, 1)))
        elif isinstance(part, torch.nn.PReLU):
            copy(part.weight, arrays.pop(f"{path}/slope"))
            continue
        elif isinstance(part, torch.nn.Linear):
            copy(part.weight, arrays.pop(f"{path}/kernel").T)
        elif isinstance(part, tuple(peers.BATCH_NORM.values())):
            copy(part.weight, arrays.pop(f"{path}/scale"))
        else:
            continue
        if part.bias is not None:
            copy(part.bias, arrays.pop(f"{path}/bias"))
    if arrays:
        raise ValueError(f"weights without a place: {', '.join(arrays)}")


def _channels_of_rows_first(kernel: np.ndarray, maps: tuple[int, ...], mirrored: bool) -> np.ndarray:
    """Rows that stand for maps in the order (*grid, C) put in the order (C, *grid)."""
    channels, *grid = maps
    kernel = kernel.reshape(*grid, channels, -1)
    if mirrored:
        kernel = np.flip(kernel, range(len(grid)))
    return np.moveaxis(kernel, len(grid), 0).reshape(channels * int(np.prod(grid)), -1)


def without_dropout(network: torch.nn.Module) -> None:
    for part in network.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0


class Operations(TorchDispatchMode):
    """Counts floating-point operations; `FlopCounterMode` itself does not bear gradients of gradients."""

    total = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        known = function._overloadpacket in flop_registry
        if not known:
            with self:
                parts = function.decompose(*args, **kwargs or {})
            if parts is not NotImplemented:
                return parts
        result = function(*args, **kwargs or {})
        if known:
            self.total += flop_registry[function._overloadpacket](*args, **kwargs or {}, out_val=result)
        return result


class TorchSide(Side):
    def __init__(self, options):
        super().__init__(options)
        if options.threads:
            torch.set_num_threads(options.threads)
        # What XLA does too, on a CPU and on a GPU.
        torch.set_flush_denormal(True)
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True
        torch.manual_seed(0)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    def wait(self) -> None:
        if self.on_gpu:
            torch.cuda.synchronize()

    def about(self) -> dict:
        name = torch.cuda.get_device_name() if self.on_gpu else "cpu"
        return {"platform": self.device.type, "device": name, "version": torch.__version__}

    def product(self, size: int):
        a = torch.ones(size, size, device=self.device)

        def multiply():
            _ = a @ a
            self.wait()

        return multiply

    def put(self, array: np.ndarray) -> torch.Tensor:
        array = channels_first(array, mirrored=self.game.mirrored)
        return self.laid_out(torch.from_numpy(np.ascontiguousarray(array)).to(self.device))

    def laid_out(self, value):
        """Images, or networks, in the memory format of this process."""
        if self.options.layout == "contiguous":
            return value
        if isinstance(value, torch.nn.Module):
            return value.to(memory_format=LAST[4 if self.rank == 2 else 5])
        return value.contiguous(memory_format=LAST[value.ndim]) if value.ndim in LAST else value

    def start(self) -> dict:
        self.make()
        self.play(1)
        return {"parameters": {name: sum(p.numel() for p in network.parameters())
                               for name, network in self.peer.networks.items()}}

    def make(self) -> None:
        """Networks and the batch, on the device."""
        stacked = "critic_steps" in self.sizes
        self.rank = max(array.ndim for array in self.batch.values()) - 2 - stacked
        self.peer = peers.PEERS[self.game.kind](self.sizes)
        if self.game.inference:
            self.peer.networks = {"G": self.peer.networks["G"].eval()}
        for network in self.peer.networks.values():
            self.laid_out(peers.initialise(network).to(self.device))
        self.on_device = {
            name: [self.put(part) for part in array] if stacked else self.put(array)
            for name, array in self.batch.items()
        }
        self.prepare_calls()

    def prepare_calls(self) -> None:
        """On a GPU networks are compiled; in bfloat16 they run under autocast, but for gradient penalties."""
        called = dict(self.peer.networks)
        if self.on_gpu:
            called = {name: torch.compile(network) for name, network in called.items()}
        narrow = self.options.precision == "bfloat16"

        def call(name, *inputs):
            if not narrow:
                return called[name](*inputs)
            with torch.autocast(self.device.type, torch.bfloat16):
                return called[name](*inputs).float()

        self.peer.call = call

    def play(self, count: int) -> None:
        for _ in range(count):
            if self.game.inference:
                with torch.inference_mode():
                    self.peer.call("G", self.on_device["A"])
            else:
                self.peer.step(self.on_device)
        self.wait()

    def peak(self):
        return torch.cuda.max_memory_allocated() / 2**20 if self.on_gpu else super().peak()

    def operations(self) -> dict:
        """Floating-point operations of a step: those of convolutions and matrix products."""
        with Operations() as counted:
            self.play(1)
        return {"gflop": counted.total / 1e9}

    def check(self, path: str) -> dict:
        """Every network's largest difference from the library's output, relative to its largest value."""
        with np.load(path) as stored:
            arrays = {name: stored[name] for name in stored.files}
        probes = games.probes(self.game.kind, self.batch)
        return {"differences": {name: self.difference(name, probes[name], arrays)
                                for name in self.peer.networks}}

    def difference(self, name: str, probe: np.ndarray, arrays: dict[str, np.ndarray]) -> float:
        network, start = self.peer.networks[name], f"weights|{name}|"
        weights = {key.removeprefix(start): value for key, value in arrays.items() if key.startswith(start)}
        copy_weights(network, weights, mirrored=self.game.mirrored)
        without_dropout(network.train())
        with torch.no_grad():
            made = network(self.put(probe)).cpu().numpy()
        expected = channels_first(arrays[f"outputs|{name}"], mirrored=self.game.mirrored)
        return float(np.abs(made - expected).max() / np.abs(expected).max())


if __name__ == "__main__":
    serve(TorchSide)
