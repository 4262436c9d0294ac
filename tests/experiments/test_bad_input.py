"""Mistakes with a real experiment: one line that names the thing and the mend, and exit status 2."""

import pathlib

import nibabel
import numpy as np
import pytest
from PIL import Image

from medgan_jax import cli

SIZE = 16


@pytest.fixture
def mistake(tmp_path, capsys):
    """Trains an experiment's tiny preset on a folder; returns the one line in which it refuses."""

    def refuse(name, source, *options):
        argv = ["train", name, "--preset", "tiny", "--workdir", str(tmp_path / "run"), "--no_progress"]
        status = cli.main([*argv, "--data.source", str(source), *map(str, options)])
        said = capsys.readouterr()
        assert status == 2
        assert said.out == ""
        assert said.err.startswith("medgan_jax: error: ")
        assert said.err.count("\n") == 1
        assert not list(tmp_path.glob("run/checkpoints/*"))
        return said.err

    return refuse


def noise(shape=(SIZE, SIZE), kind=np.uint8):
    return np.random.default_rng(0).integers(0, 200, shape).astype(kind)


@pytest.fixture
def pngs(tmp_path):
    """A folder of ten images, or of pairs `A/ B/`."""

    def write(*fields, shape=(SIZE, SIZE), kind=np.uint8):
        root = tmp_path / "data"
        for field in fields or ("images",):
            (root / field).mkdir(parents=True)
            for number in range(10):
                Image.fromarray(noise(shape, kind)).save(root / field / f"case{number}.png")
        return root

    return write


def test_missing_and_empty_folder(mistake, tmp_path):
    assert "does not exist" in mistake("dagan", tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "is empty" in mistake("dagan", tmp_path / "empty")
    assert "the phantom belongs to the experiment" in mistake("dagan", "phantom:head")


def test_truncated_png_is_named(mistake, pngs):
    root = pngs()
    damaged = root / "images" / "case3.png"
    damaged.write_bytes(damaged.read_bytes()[:-40])
    assert "case3.png" in mistake("dagan", root)


def test_truncated_nifti_is_named(mistake, tmp_path):
    root = tmp_path / "data" / "images"
    root.mkdir(parents=True)
    for number in range(6):
        nibabel.Nifti1Image(noise((SIZE, SIZE), np.int16), np.eye(4)).to_filename(
            root / f"case{number}.nii.gz"
        )
    damaged = root / "case4.nii.gz"
    damaged.write_bytes(damaged.read_bytes()[:-60])
    assert "case4.nii.gz" in mistake("dagan", root.parent)


def test_truncated_dicom_is_named(mistake, tmp_path):
    import pydicom.data

    root = tmp_path / "data" / "images"
    root.mkdir(parents=True)
    whole = pathlib.Path(pydicom.data.get_testdata_file("CT_small.dcm")).read_bytes()
    for number in range(6):
        (root / f"case{number}.dcm").write_bytes(whole if number != 2 else whole[: len(whole) // 2])
    assert "case2.dcm" in mistake("wgan_gp", root.parent)


def test_nan_in_a_volume_is_named(mistake, tmp_path):
    root = tmp_path / "data" / "images"
    root.mkdir(parents=True)
    for number in range(6):
        values = noise((SIZE, SIZE), np.float32)
        values[3, 4] = np.nan if number == 5 else 0
        nibabel.Nifti1Image(values, np.eye(4)).to_filename(root / f"case{number}.nii")
    error = mistake("dagan", root.parent)
    assert "case5.nii" in error
    assert "NaN" in error


def test_pairs_that_do_not_match(mistake, pngs):
    root = pngs("A", "B")
    (root / "B" / "case7.png").unlink()
    assert "case7" in mistake("pix2pix", root)


def test_pairs_of_different_sizes(mistake, pngs):
    root = pngs("A", "B")
    for path in (root / "B").iterdir():
        Image.fromarray(noise((32, 32))).save(path)
    error = mistake("pix2pix", root)
    assert "'B' of 32x32" in error
    assert "set to 16x16" in error


def test_images_instead_of_pairs_and_one_domain(mistake, pngs):
    root = pngs()
    assert "has no 'A'" in mistake("pix2pix", root)
    assert "domains" in mistake("cyclegan", root)
    assert "masks" in mistake("anogan", root)


def test_mixed_sizes(mistake, pngs):
    root = pngs()
    for number in range(5):
        Image.fromarray(noise((SIZE, 24))).save(root / "images" / f"case{number}.png")
    error = mistake("dagan", root)
    assert "sizes" in error or "of 24x16" in error or "of 16x24" in error


@pytest.mark.parametrize("name", ["dagan", "wgan_gp"])
def test_other_size_than_the_experiment_is_set_to(mistake, pngs, name):
    root = pngs(shape=(32, 32))
    assert "say --config.size 32" in mistake(name, root)


def test_image_that_is_not_square(mistake, pngs):
    assert "crop or pad them to equal sides" in mistake("dagan", pngs(shape=(16, 32)))


@pytest.mark.parametrize(
    ("name", "fields", "said"),
    [
        ("dagan", (), "multiples of 4"),
        ("pix2pix", ("A", "B"), "multiples of 4"),
        ("cyclegan", ("A", "B"), "multiples of 4"),
        ("wgan_gp", (), "can be halved"),
    ],
)
def test_size_that_the_network_cannot_take_says_which_it_can(mistake, pngs, name, fields, said):
    assert said in mistake(name, pngs(*fields, shape=(21, 21)), "--config.size", 21)


def test_patches_smaller_than_the_discriminator_needs(mistake, pngs):
    error = mistake("pix2pix", pngs("A", "B"), "--config.patch_layers", 5)
    assert "at least 96" in error


def test_colour_where_grey_is_needed(mistake, pngs):
    root = pngs(shape=(SIZE, SIZE, 3))
    assert "3 channels; this experiment takes 1" in mistake("dagan", root)


def test_negative_values_are_no_magnitudes(mistake, tmp_path):
    images = noise((6, SIZE, SIZE), np.float32) - 100
    np.savez(tmp_path / "train.npz", images=images)
    np.savez(tmp_path / "test.npz", images=images)
    assert "this experiment takes magnitudes" in mistake("dagan", tmp_path)


def test_data_of_one_value(mistake, tmp_path):
    for part in ("train", "test"):
        np.savez(tmp_path / f"{part}.npz", images=np.ones((6, SIZE, SIZE), np.float32))
    assert "nothing to learn" in mistake("wgan_gp", tmp_path)


def test_no_healthy_case(mistake, tmp_path):
    for part in ("train", "test"):
        arrays = {"images": noise((6, SIZE, SIZE)), "masks": np.ones((6, SIZE, SIZE), np.uint8)}
        np.savez(tmp_path / f"{part}.npz", **arrays)
    assert "none is healthy" in mistake("anogan", tmp_path)


def test_weights_file_that_is_missing_or_a_pickle(mistake, pngs, tmp_path):
    root = pngs()
    missing = tmp_path / "vgg16.npz"
    assert str(missing) in mistake("dagan", root, "--config.features.weights", missing)
    pickled = tmp_path / "vgg16.pth"
    pickled.write_bytes(b"\x80\x04.")
    assert "could run code" in mistake("dagan", root, "--config.features.weights", pickled)


def test_batch_that_the_devices_do_not_divide(mistake, pngs):
    error = mistake("wgan_gp", pngs(), "--config.batch_size", 6, "--mesh.data", 4)
    assert "4 devices do not divide a batch of 6" in error


def test_options_out_of_range(mistake, pngs):
    root = pngs()
    assert "config.features" in mistake("dagan", root, "--config.features.steps", 0)
    assert "config.mask" in mistake("dagan", root, "--config.mask", "gauss")
