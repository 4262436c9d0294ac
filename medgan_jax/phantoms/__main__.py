"""`python -m medgan_jax.phantoms NAME --output sheet.png [--folder DIRECTORY]` draws a contact sheet.

Every module here with a function `sheet(keys) -> {title: images}` is one NAME; without NAME they are listed.
Images are `(B, H, W)` or `(B, H, W, 3)` in [0, 1], a row of the sheet each, with their titles. Real images
from `--folder` stand below, if one is named, to be compared by eye.
"""

import argparse
import importlib
import pathlib
import pkgutil
import sys

import jax
import numpy as np
from PIL import Image, ImageDraw

from medgan_jax import phantoms
from medgan_jax.errors import UserError

TITLE_HEIGHT = 14
PICTURES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"}


def names() -> list[str]:
    """Modules of this package that draw contact sheets."""
    modules = sorted(module.name for module in pkgutil.iter_modules(phantoms.__path__))
    return [name for name in modules if not name.startswith("_") and hasattr(_module(name), "sheet")]


def _module(name: str):
    return importlib.import_module(f"{phantoms.__name__}.{name}")


def contact_sheet(rows: dict[str, np.ndarray], size: int) -> Image.Image:
    """One row of pictures of `size` pixels for each title."""
    columns = max(len(images) for images in rows.values())
    sheet = Image.new("RGB", (columns * size, len(rows) * (size + TITLE_HEIGHT)))
    draw = ImageDraw.Draw(sheet)
    for line, (title, images) in enumerate(rows.items()):
        top = line * (size + TITLE_HEIGHT)
        draw.text((2, top + 1), title, fill=(255, 255, 0))
        for column, image in enumerate(images):
            sheet.paste(_picture(image, size), (column * size, top + TITLE_HEIGHT))
    return sheet


def _picture(image: np.ndarray, size: int) -> Image.Image:
    levels = np.rint(255 * np.clip(np.asarray(image, np.float32), 0, 1)).astype(np.uint8)
    scale = size / max(levels.shape[:2])
    shape = [max(1, round(side * scale)) for side in levels.shape[1::-1]]
    return Image.fromarray(levels).convert("RGB").resize(shape, Image.Resampling.NEAREST)


def read_folder(folder: pathlib.Path, number: int) -> list[np.ndarray]:
    """`number` pictures under `folder`, evenly spread over their sorted paths, in [0, 1]."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURES)
    if not paths:
        raise UserError(f"'{folder}' holds no pictures; name a folder of PNG, JPEG or TIFF files")
    chosen = [paths[i] for i in np.linspace(0, len(paths) - 1, min(number, len(paths))).astype(int)]
    return [_levels(path) for path in chosen]


def _levels(path: pathlib.Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            levels = np.asarray(image, np.float32)
    except (OSError, ValueError) as error:
        raise UserError(f"'{path}' cannot be read as a picture: {error}") from error
    # Pictures of 16 bits have no known window; theirs is shown whole.
    return (levels - levels.min()) / max(np.ptp(levels), 1) if levels.max() > 255 else levels / 255


def main(arguments: list[str] | None = None) -> int:
    """Writes the sheet of one phantom, or prints the names; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m medgan_jax.phantoms", description="Contact sheets.")
    parser.add_argument("name", nargs="?", help="phantom; without it the names are listed")
    parser.add_argument("--output", type=pathlib.Path, help="PNG file to write")
    parser.add_argument("--folder", type=pathlib.Path, help="folder of real pictures to show below")
    parser.add_argument("--columns", type=int, default=6, help="subjects in a row")
    parser.add_argument("--size", type=int, default=160, help="side of a picture on the sheet, in pixels")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        if options.name is None:
            print("\n".join(names()))
        else:
            _write(options)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _write(options: argparse.Namespace) -> None:
    if options.name not in names():
        raise UserError(f"no phantom '{options.name}'; there are {', '.join(names())}")
    if options.output is None:
        raise UserError("name the file to write with --output sheet.png")
    if min(options.columns, options.size) < 1:
        raise UserError("--columns and --size are 1 or more")
    keys = jax.random.split(jax.random.key(options.seed), options.columns)
    rows = {title: np.asarray(images) for title, images in _module(options.name).sheet(keys).items()}
    if options.folder is not None:
        rows[f"real: {options.folder}"] = read_folder(options.folder, options.columns)
    try:
        contact_sheet(rows, options.size).save(options.output)
    except (OSError, ValueError) as error:
        raise UserError(f"'{options.output}' cannot be written: {error}") from error


if __name__ == "__main__":
    sys.exit(main())
