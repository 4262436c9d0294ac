"""Eight simulated CPU devices and one compilation cache for the whole test run."""

import os
import pathlib
import tempfile

DEVICES = "--xla_force_host_platform_device_count=8"
CACHE = pathlib.Path(tempfile.gettempdir()) / f"medgan_jax_test_cache_{os.getuid()}"

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {DEVICES}".strip()
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("MEDGAN_JAX_TEST_DATA", str(pathlib.Path(__file__).resolve().parents[2] / "shared" / "data"))


def pytest_collection_modifyitems(items):
    """Notebooks, the longest tests, first: no worker is left alone with one at the end."""
    items.sort(key=lambda item: "test_notebook" not in item.nodeid)
