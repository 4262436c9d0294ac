"""Small disks to fill, for the tests of what is written; toy games to import."""

import pathlib
import subprocess
import sys

import pytest

# `import games`, in the tests and in the processes that they start.
sys.path.insert(0, str(pathlib.Path(__file__).parent))


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of its own, of 1 MB; skips without the right to mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True)
    except FileNotFoundError:
        pytest.skip("there is no mount on this machine")
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def fill():
    """A function that fills the disk of a folder with the file `large` in it."""

    def write(folder):
        with open(folder / "large", "wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                return

    return write
