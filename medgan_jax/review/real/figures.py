"""Figures of runs on real images: the grids of evaluation, small ones of their first rows, one sheet.

The small ones of sets that may be shown again, with their credit, lie beside the records.
"""

import pathlib
import shutil
from collections.abc import Mapping

from PIL import Image, ImageDraw, ImageFont

from medgan_jax.errors import UserError

GRID = "comparison.png"
SMALL_WIDTH, ROW = 640, 18 + 192 + 4  # of a grid: the titles and its first row, in pixels
GAP, TITLE = 8, 16
# Whose images a published figure shows. Not here: radiographs whose licences exclude commercial use.
CREDITS = {
    "brain_mr_ixi": "IXI, Imperial College London, slices of Quan et al. 2018; CC BY-SA 3.0",
    "hippocampus_mr3d": "Medical Segmentation Decathlon, task 4, Simpson et al. 2019; CC BY-SA 4.0",
    "retina_chase": "CHASE_DB1, Fraz et al. 2012; CC BY 4.0",
    "nuclei_fluo_dsb2018": "BBBC038v1, Caicedo et al. 2019; CC0",
    "histology_stain_dsb2018": "BBBC038v1, Caicedo et al. 2019; CC0",
    "ct_chest_tcga": "The Cancer Imaging Archive, TCGA lung collections, Clark et al. 2013; CC BY 3.0",
}


def write(places: Mapping[str, pathlib.Path], folder: pathlib.Path) -> list[pathlib.Path]:
    """`ID.png`, `ID_small.png` and `contact_sheet.png` from work directories of runs that have a grid."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output {folder} cannot be made: {error.strerror}") from error
    written, small = [], {}
    for name, place in places.items():
        if (place / GRID).is_file():
            shutil.copyfile(place / GRID, folder / f"{name}.png")
            small[name] = first_row(folder / f"{name}.png")
            small[name].save(folder / f"{name}_small.png", optimize=True)
            written += [folder / f"{name}.png", folder / f"{name}_small.png"]
    if small:
        contact_sheet(small).save(folder / "contact_sheet.png", optimize=True)
        written.append(folder / "contact_sheet.png")
    return written


def publish(names: Mapping[str, str], folder: pathlib.Path, records: pathlib.Path) -> list[pathlib.Path]:
    """Copies small figures of `folder` beside the `records`; names: ids with their sets. Those without credit stay."""
    published = []
    for name, real_set in names.items():
        if real_set in CREDITS and (folder / f"{name}_small.png").is_file():
            published.append(records / f"{name}.png")
            shutil.copyfile(folder / f"{name}_small.png", published[-1])
    return published


def first_row(path: pathlib.Path) -> Image.Image:
    """Titles and first case of a grid, at most `SMALL_WIDTH` pixels wide."""
    with Image.open(path) as grid:
        row = grid.convert("RGB").crop((0, 0, grid.width, min(ROW, grid.height)))
    scale = min(1.0, SMALL_WIDTH / row.width)
    return row.resize((round(scale * row.width), round(scale * row.height)), Image.Resampling.LANCZOS)


def contact_sheet(rows: Mapping[str, Image.Image]) -> Image.Image:
    """The rows below one another, each under its name."""
    height = sum(row.height + TITLE + GAP for row in rows.values())
    sheet = Image.new("RGB", (max(row.width for row in rows.values()), height), "white")
    draw, font, top = ImageDraw.Draw(sheet), ImageFont.load_default(), 0
    for name, row in rows.items():
        draw.text((2, top + 2), name, fill="black", font=font)
        sheet.paste(row, (0, top + TITLE))
        top += row.height + TITLE + GAP
    return sheet
