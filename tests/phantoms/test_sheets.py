"""Contact sheets: real images of every layout and format stand below the phantoms, as images and not as masks."""

import types

import nibabel
import numpy as np
import pytest
from PIL import Image

from medgan_jax.errors import UserError
from medgan_jax.phantoms import __main__ as sheets


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        Image.fromarray(array).save(path)
    else:
        nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), path)


def levels(number, shape=(8, 10)):
    """A ramp of 8 bits whose smallest value names the picture."""
    return (np.linspace(0, 200, np.prod(shape)).reshape(shape) + number).astype(np.uint8)


def test_images_are_shown_and_masks_are_not(tmp_path):
    for number in range(8):
        save(tmp_path / "images" / f"p{number}.png", levels(number))
        save(tmp_path / "masks" / f"p{number}.png", np.zeros((8, 10), np.uint8))
    shown = sheets.read_folder(tmp_path, 4)
    assert len(shown) == 4
    for image in shown:
        assert image.shape == (8, 10) and (image.min(), image.max()) == (0, 1)


def test_domains_show_their_images_in_colour(tmp_path):
    for domain in ("violet", "pink"):
        for number in range(6):
            save(tmp_path / domain / "images" / f"{domain[0]}{number}.png", levels(number, (8, 8, 3)))
            save(tmp_path / domain / "labels" / f"{domain[0]}{number}.png", np.zeros((8, 8), np.uint16))
    shown = sheets.read_folder(tmp_path, 6)
    assert [image.shape for image in shown] == [(8, 8, 3)] * 6 and all(image.max() == 1 for image in shown)


@pytest.mark.parametrize("layout", ["same", "other"])
def test_pairs_and_unpaired_domains_are_shown(tmp_path, layout):
    for number in range(6):
        for domain in "AB":
            name = f"{domain if layout == 'other' else 'p'}{number}.nii.gz"
            save(tmp_path / domain / name, np.arange(120, dtype=np.int16).reshape(4, 5, 6))
    assert all(np.ptp(image) == 1 for image in sheets.read_folder(tmp_path, 3))


def test_archives_in_hounsfield_units_are_windowed(tmp_path):
    raw = np.tile(np.array([-3024, -1000, 0, 1000, 3000], np.int16), (6, 4, 1))
    scaled = {"slope": np.ones(6), "intercept": np.full(6, -1.0), "ids": np.arange(6).astype(str)}
    np.savez(tmp_path / "train.npz", raw=raw + 1, **scaled)
    np.savez(tmp_path / "test.npz", raw=raw[:2] + 1, **{name: value[:2] for name, value in scaled.items()})
    shown = sheets.read_folder(tmp_path, 3)
    assert len(shown) == 3
    np.testing.assert_allclose(shown[0][0], [0, 0, 0.5, 1, 1])


def test_volumes_show_their_middle_slice(tmp_path):
    values = np.random.default_rng(0).uniform(0, 1e6, (5, 6, 7)).astype(np.float32)
    for number in range(6):
        save(tmp_path / "images" / f"p{number}.nii.gz", values)
        save(tmp_path / "labels" / f"p{number}.nii.gz", np.zeros((5, 6, 7), np.uint8))
    volume = sheets.open_folder(tmp_path, split="train")[0]["image"][..., 0]
    middle = volume[len(volume) // 2]
    for image in sheets.read_folder(tmp_path, 2):
        np.testing.assert_allclose(image, (middle - middle.min()) / np.ptp(middle), atol=1e-6)


def test_other_folders_show_their_pictures_and_say_so(tmp_path, capsys):
    for number in range(3):
        save(tmp_path / "deep" / "er" / f"{number}.png", levels(number))
    assert len(sheets.read_folder(tmp_path, 6)) == 3
    assert "3 pictures" in capsys.readouterr().err
    (tmp_path / "deep" / "er" / "1.png").write_bytes(b"none")
    with pytest.raises(UserError, match="cannot be read as a picture"):
        sheets.read_folder(tmp_path, 6)
    with pytest.raises(UserError, match="does not exist"):
        sheets.read_folder(tmp_path / "nowhere", 6)


def test_what_is_shown_of_an_image():
    opaque = np.concatenate([np.arange(48.0).reshape(4, 4, 3), np.full((4, 4, 1), 255)], -1)
    assert sheets.shown(opaque).shape == (4, 4, 3) and sheets.shown(opaque).max() == 1
    assert sheets.shown(np.random.default_rng(0).normal(size=(4, 4, 4))).shape == (4, 4)
    assert sheets.shown(np.full((4, 4, 1), 7.0)).max() == 0


def test_the_sheet_has_a_row_of_real_images(tmp_path, monkeypatch):
    for number in range(6):
        save(tmp_path / "real" / "images" / f"p{number}.png", levels(number, (16, 16)))
        save(tmp_path / "real" / "masks" / f"p{number}.png", np.zeros((16, 16), np.uint8))
    drawn = types.SimpleNamespace(sheet=lambda keys: {"drawn": np.zeros((len(keys), 16, 16))})
    monkeypatch.setattr(sheets, "_module", lambda name: drawn)
    options = ["--output", str(tmp_path / "sheet.png"), "--columns", "3", "--size", "16"]
    assert sheets.main(["head", *options, "--folder", str(tmp_path / "real")]) == 0
    with Image.open(tmp_path / "sheet.png") as sheet:
        real = np.asarray(sheet.convert("L"))[-16:]
    assert all(np.ptp(real[:, 16 * column : 16 * (column + 1)]) > 200 for column in range(3))
