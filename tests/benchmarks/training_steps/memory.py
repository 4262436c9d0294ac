"""Memory of this process, from Linux's `/proc`."""

import contextlib
import ctypes
import pathlib
import re

STATUS, REFERENCES = pathlib.Path("/proc/self/status"), pathlib.Path("/proc/self/clear_refs")


def _mebibytes(field: str) -> float | None:
    try:
        found = re.search(rf"^{field}:\s+(\d+) kB", STATUS.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found.group(1)) / 1024 if found else None


def resident() -> float | None:
    """MiB in use now; None where the system does not say."""
    return _mebibytes("VmRSS")


def peak() -> float | None:
    """The most MiB in use since `forget_peak`."""
    return _mebibytes("VmHWM")


def forget_peak() -> None:
    """Gives freed memory back to the system and starts a new high-water mark."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    with contextlib.suppress(OSError):
        REFERENCES.write_text("5")
