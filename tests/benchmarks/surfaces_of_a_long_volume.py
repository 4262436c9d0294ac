"""Seconds and MiB for surface distances of a 300 x 512 x 512 mask, ours beside surface-distance and MONAI.

    PYTHONPATH=. python tests/benchmarks/surfaces_of_a_long_volume.py [--publish]

`--publish` stores the figures in `records/` and in the README. Each tool runs in a process of its own, so
that its peak memory is its own. MiB is the growth of the resident size, at its peak, over that with the masks
loaded (75 MiB each) and the tool imported. Linux only.
"""

import json
import pathlib
import subprocess
import sys
import time

import numpy as np
from published import publish

SHAPE, SPACING = (300, 512, 512), (1.0, 0.7, 0.7)
SCENES = ("liver", "body")
TOOLS = ("ours, erosion1", "ours, surfel", "surface-distance", "MONAI")


def masks(scene: str) -> tuple[np.ndarray, np.ndarray]:
    """An ellipsoid with bumps and the same one a few voxels away: of a liver's size, or as large as the
    body."""
    radius = np.array((60, 90, 110) if scene == "liver" else (145, 200, 245))
    z, y, x = (np.arange(n, dtype=np.float32) - n / 2 for n in SHAPE)
    angle = np.arctan2(y[:, None], x[None]).astype(np.float32)

    def ellipsoid(shift):
        inside = ((y - shift) / radius[1])[:, None] ** 2 + (x / radius[2])[None] ** 2
        level = inside * (1 + 0.05 * np.sin(9 * angle))
        return np.stack([level + ((k - shift) / radius[0]) ** 2 <= 1 for k in z])

    return ellipsoid(0), ellipsoid(4)


def hausdorff95(tool: str):
    """A function of two masks that gives HD95 with that tool."""
    if tool.startswith("ours"):
        from medgan_jax.evaluation.surfaces import hausdorff

        options = {
            "spacing": SPACING,
            "percentile": 95,
            "definition": "max_of_directed",
            "empty_policy": "nan",
        }
        boundary = tool.split(", ")[1]
        return lambda a, b: hausdorff(a[None, ..., None], b[None, ..., None], boundary=boundary, **options)[0]
    if tool == "surface-distance":
        import surface_distance

        return lambda a, b: surface_distance.compute_robust_hausdorff(
            surface_distance.compute_surface_distances(b, a, SPACING), 95
        )
    import monai.metrics
    import torch

    def monai_hausdorff(a, b):
        x, y = (torch.from_numpy(m[None, None]) for m in (a, b))
        options = {"include_background": True, "percentile": 95, "spacing": SPACING}
        return monai.metrics.compute_hausdorff_distance(x, y, **options).item()

    return monai_hausdorff


def resident(field: str) -> float:
    """Resident size in MiB: 'VmRSS' now, 'VmHWM' at its peak since the last reset."""
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def measure(tool: str, scene: str) -> None:
    function, pair = hausdorff95(tool), masks(scene)
    small = np.zeros((12, 12, 12), bool)
    small[4:8, 4:8, 4:8] = True
    function(small, np.roll(small, 1, 0))
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from here
    before, start = resident("VmRSS"), time.perf_counter()
    value = float(function(*pair))
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "mib": resident("VmHWM") - before, "hd95": value}))


def compare() -> list[dict]:
    """A row for each mask and tool, measured in a process of its own."""
    rows = []
    for scene in SCENES:
        for tool in TOOLS:
            run = subprocess.run([sys.executable, __file__, tool, scene], capture_output=True, text=True)
            row = {"mask": scene, "tool": tool, "HD95, mm": "-", "seconds": "-", "MiB": "-"}
            if run.returncode:
                row["tool"] += f" (not run: {run.stderr.strip().splitlines()[-1]})"
            else:
                found = json.loads(run.stdout.splitlines()[-1])
                row |= {
                    "HD95, mm": f"{found['hd95']:.2f}",
                    "seconds": f"{found['seconds']:.1f}",
                    "MiB": f"{found['mib']:.0f}",
                }
            rows.append(row)
            print(*row.values(), sep=" | ", flush=True)
    return rows


if __name__ == "__main__":
    if len(sys.argv) == 3:
        measure(*sys.argv[1:])
    else:
        table = compare()
        if sys.argv[1:] == ["--publish"]:
            publish("surfaces-speed", table, ("scipy", "surface-distance", "monai", "torch"))
