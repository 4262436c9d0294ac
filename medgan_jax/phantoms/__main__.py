"""`python -m medgan_jax.phantoms NAME --output sheet.png [--folder DIRECTORY]` draws a contact sheet.

Every module here with a function `sheet(keys) -> {title: images}` is one NAME; without NAME they are listed.
Images are `(B, H, W)` or `(B, H, W, 3)` in [0, 1], a row of the sheet each, with their titles. Real images
from `--folder` stand below, if one is named, to be compared by eye: the images of its training part, whatever
layout and format that has (see `data.folders`), or else the pictures somewhere in it.
"""

import argparse
import contextlib
import importlib
import pathlib
import pkgutil
import sys

import jax
import numpy as np
from PIL import Image, ImageDraw

from medgan_jax import phantoms
from medgan_jax.data.sources import Record, Source, open_domains, open_folder
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
    """`number` images of `folder` in [0, 1], evenly spread over its training part, or else over its pictures.

    Raises UserError, as `open_folder` does, where the folder has neither; says so where it shows pictures.
    """
    try:
        sources = _sources(folder)
    except UserError as error:
        paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURES)
        if not paths:
            raise
        print(f"shown are {len(paths)} pictures, since this is no data source: {error}", file=sys.stderr)
        return [shown(_picture_file(paths[index])) for index in _spread(len(paths), number)]
    places = [(source, index) for source in sources for index in range(len(source))]
    return [shown(_image(places[place][0][places[place][1]])) for place in _spread(len(places), number)]


def _sources(folder: pathlib.Path) -> list[Source]:
    """The training part of a folder, by domain where its domains do not pair."""
    try:
        return [open_folder(folder, split="train")]
    except UserError:
        with contextlib.suppress(UserError):
            return list(open_domains(folder, split="train").values())
        raise


def _spread(count: int, number: int) -> list[int]:
    return np.linspace(0, count - 1, min(number, count)).astype(int).tolist()


def _image(record: Record) -> np.ndarray:
    """The image of a record; of paired domains, which have no 'image', the first."""
    return record["image"] if "image" in record else next(iter(record.values()))


def _picture_file(path: pathlib.Path) -> np.ndarray:
    """(H, W, C)."""
    try:
        with Image.open(path) as image:
            levels = np.asarray(image, np.float32)
    except (OSError, ValueError) as error:
        raise UserError(f"'{path}' cannot be read as a picture: {error}") from error
    return levels[..., None] if levels.ndim == 2 else levels


def shown(image: np.ndarray) -> np.ndarray:
    """An image (H, W, C), or the middle slice of a volume (D, H, W, C), as (H, W) or in colour, in [0, 1].

    Images that go below -500 are taken for Hounsfield units and shown from -1000 to 1000; others from their
    smallest to their largest value. An opaque fourth channel is left out; of other channels the first is
    shown.
    """
    image = np.asarray(image, np.float32)
    image = image[len(image) // 2] if image.ndim == 4 else image
    if image.shape[-1] == 4 and np.ptp(image[..., 3]) == 0:
        image = image[..., :3]
    image = image if image.shape[-1] == 3 else image[..., 0]
    if image.min() < -500:
        return np.clip((image + 1000) / 2000, 0, 1)
    return (image - image.min()) / max(np.ptp(image), np.finfo(np.float32).tiny)


def main(arguments: list[str] | None = None) -> int:
    """Writes the sheet of one phantom, or prints the names; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m medgan_jax.phantoms", description="Contact sheets.")
    parser.add_argument("name", nargs="?", help="phantom; without it the names are listed")
    parser.add_argument("--output", type=pathlib.Path, help="PNG file to write")
    folder = "real images to show below: a folder as --data.source takes it, or of any pictures"
    parser.add_argument("--folder", type=pathlib.Path, help=folder)
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
