"""Which experiments can use a folder: as it is, with an option, with another name, and which cannot."""

import csv
import json
import os
import pathlib

import nibabel
import numpy as np
import pytest
from PIL import Image

from medgan_jax.cli import main
from medgan_jax.data.needs import Declaration, Needs, Offer, declaration, fits, instead
from medgan_jax.review import data_sets

REAL = pathlib.Path(os.environ.get("MEDGAN_JAX_TEST_DATA", "nowhere"))
NUMBER = 8
VOC = (
    "<annotation><object><name>cell</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>4</xmax><ymax>4</ymax>"
    "</bndbox></object></annotation>"
)
RETINA_OPTIONS = "--config.vessels NAME --config.field_of_view NAME"


def image(path, shape, seed=0, values=256):
    """Random whole numbers as a PNG, or as NIfTI."""
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.random.default_rng(seed).integers(0, values, shape).astype(np.uint8)
    if path.suffix == ".png":
        Image.fromarray(array).save(path)
    else:
        nibabel.save(nibabel.Nifti1Image(array.astype(np.int16), np.eye(4)), path)


def images(folder, shape=(8, 8), suffix="png", values=256, names="p"):
    for number in range(NUMBER):
        image(folder / f"{names}{number}.{suffix}", shape, number, values)


def usable(folder):
    return set(data_sets.folder(folder).experiments)


@pytest.mark.parametrize("targets", ["labels", "masks", "annotations"])
def test_images_beside_targets_are_no_domains(tmp_path, targets):
    images(tmp_path / "images", (8, 8, 3))
    if targets == "annotations":
        (tmp_path / targets).mkdir()
        for number in range(NUMBER):
            (tmp_path / targets / f"p{number}.xml").write_text(VOC)
    else:
        images(tmp_path / targets, values=3)
    facts = data_sets.folder(tmp_path)
    assert facts.domains == () and facts.alike
    assert not {"cyclegan", "staingan", "dann", "va_gan", "adv_da_histopathology"} & set(facts.experiments)
    assert {"mgan", "pggan_skin_lesion"} <= set(facts.experiments)


def test_domains_have_to_have_what_an_experiment_takes(tmp_path):
    for domain in ("pink", "violet"):
        images(tmp_path / domain / "images", (8, 8, 3), names=domain)
        images(tmp_path / domain / "labels", values=3, names=domain)
    facts = data_sets.folder(tmp_path)
    assert facts.domains == ("pink", "violet") and {"cyclegan", "staingan"} <= set(facts.experiments)
    # Of one channel, or with a class for each case, which a map is not.
    assert not {"va_gan", "dann", "adv_da_histopathology"} & set(facts.experiments)


def test_domains_with_classes(tmp_path):
    rows = []
    for domain in ("pink", "violet"):
        images(tmp_path / domain / "images", (8, 8, 3), names=domain)
        for number in range(NUMBER):
            split = "test" if number > 5 else "train"
            rows.append({"id": f"{domain}{number}", "domain": domain, "split": split, "label": number % 2})
    with (tmp_path / "split.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    assert {"cyclegan", "staingan", "dann", "adv_da_histopathology"} <= usable(tmp_path)


@pytest.mark.parametrize("names", ["pq", "pp"])
def test_folders_of_domains_with_and_without_pairs(tmp_path, names):
    for folder, name in zip("AB", names, strict=True):
        images(tmp_path / folder, names=name)
    found = usable(tmp_path)
    assert {"cyclegan", "va_gan"} <= found and "staingan" not in found
    assert ("pix2pix" in found) == (names == "pp")


def test_domains_of_volumes_are_not_for_slices(tmp_path):
    for folder in "AB":
        images(tmp_path / folder, (8, 8, 8), "nii.gz")
    found = usable(tmp_path)
    assert "context_aware_gan" in found and not {"cyclegan", "va_gan", "pix2pix"} & found


def test_a_map_of_another_name_serves_when_it_is_renamed(tmp_path):
    images(tmp_path / "images", (8, 8, 8), "nii.gz")
    images(tmp_path / "labels", (8, 8, 8), "nii.gz", values=3)
    facts = data_sets.folder(tmp_path)
    assert {"mdcsrn_gan", "scgan"} <= set(facts.experiments)
    assert facts.otherwise == {"adv_similarity_registration": "after renaming NAME to 'mask'"}
    assert facts.maps == ("label",)
    (tmp_path / "labels").rename(tmp_path / "masks")
    assert "adv_similarity_registration" in usable(tmp_path)


def test_maps_that_options_name(tmp_path):
    images(tmp_path / "images", (8, 8, 3))
    for mask in ("first", "view"):
        images(tmp_path / mask, values=2)
    facts = data_sets.folder(tmp_path)
    assert facts.otherwise["vgan_retina"] == RETINA_OPTIONS and facts.maps == ("first", "view")
    assert "vgan_retina" not in facts.experiments
    (tmp_path / "first").rename(tmp_path / "vessels")
    assert data_sets.folder(tmp_path).otherwise["vgan_retina"] == "--config.field_of_view NAME"
    (tmp_path / "view").rename(tmp_path / "field_of_view")
    assert "vgan_retina" in usable(tmp_path)


def test_classes_are_no_maps_and_maps_no_classes(tmp_path):
    arrays = {"images": np.random.default_rng(0).integers(0, 256, (NUMBER, 8, 8)).astype(np.uint8),
              "ids": np.array([f"p{number}" for number in range(NUMBER)])}  # fmt: skip
    for name, labels in {"classes": np.arange(NUMBER) % 2, "maps": arrays["images"] // 100}.items():
        (tmp_path / name).mkdir()
        for part in ("train", "test"):
            np.savez(tmp_path / name / f"{part}.npz", labels=labels, **arrays)
    assert {"cgan", "acgan", "dcgan_liver_lesion"} <= usable(tmp_path / "classes")
    assert "dan_unannotated" not in usable(tmp_path / "classes")
    assert "dan_unannotated" in usable(tmp_path / "maps")
    assert not {"cgan", "acgan", "dcgan_liver_lesion"} & usable(tmp_path / "maps")


def test_detection_learns_from_cases_with_an_empty_mask(tmp_path):
    images(tmp_path / "images")
    images(tmp_path / "masks", values=2)
    assert "anogan" not in usable(tmp_path) and "segan" in usable(tmp_path)
    for path in (tmp_path / "masks").iterdir():
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(path)
    assert "anogan" in usable(tmp_path)


def test_images_that_differ_in_channels_and_sizes(tmp_path):
    images(tmp_path / "images")
    image(tmp_path / "images" / "q.png", (8, 9, 3))
    facts = data_sets.folder(tmp_path)
    assert not facts.alike and not {"gan", "dagan", "pggan_skin_lesion"} & set(facts.experiments)


def test_the_command_says_what_to_give(tmp_path, capsys):
    root = tmp_path / "retina_chase"
    images(root / "images", (8, 10, 3))
    for mask in ("fov", "vessels_1st"):
        images(root / mask, (8, 10), values=2)
    (root / "about.json").write_text(json.dumps({"anatomy": "retina", "modality": "photograph"}))
    assert main(["data", "list", str(root)]) == 0
    said = capsys.readouterr().out
    assert "anatomy: retina (about.json)" in said and "modality: photograph (about.json)" in said
    assert "with a map of another name (NAME: fov, vessels_1st): " in said
    assert f"; vgan_retina {RETINA_OPTIONS}" in said
    assert "crop or pad these first" in said
    plan = "vgan_retina --config.vessels vessels_1st --config.field_of_view fov --config.discriminator image"
    assert plan in said and "retinal_aae_pix2pix on retina_pairs, which it makes of the set" in said
    assert main(["data", "list", "--help"]) == 0
    assert "about.json" in capsys.readouterr().out


def test_what_is_not_known_counts_as_there():
    assert fits(Declaration(Needs(fields=("image", "label"), channels=1)), [Offer(frozenset({"image", "label"}))])
    volume = Offer(frozenset({"image"}), 3, 1, maps=frozenset())
    assert not fits(Declaration(Needs()), [volume]) and fits(Declaration(Needs(rank=3)), [volume])
    assert instead(Declaration(Needs(fields=("image", "mask"), rank=3)), volume) == ""


def test_options_that_rename_fields_are_read_from_the_configuration():
    found = declaration("experiments.segmentation.vgan_retina", "segmentation")
    assert found.renamed == {"vessels", "field_of_view"}
    # Its option `form` has "image" for a value, which names no field.
    assert declaration("experiments.base.gan", "base").renamed == set()


ON_REAL = {
    "blood_bccd": ({"mgan"}, {"cyclegan", "staingan", "adv_da_histopathology", "va_gan"}),
    "hippocampus_mr3d": ({"mdcsrn_gan", "scgan"}, {"cyclegan", "staingan", "adv_da_histopathology", "va_gan"}),
    "histology_stain_dsb2018": ({"cyclegan", "staingan"}, {"va_gan", "dann", "adv_da_histopathology"}),
    "nuclei_fluo_dsb2018": ({"dan_unannotated", "dcgan"}, {"cgan", "acgan"}),
    "mednist_6class": ({"cgan", "acgan"}, {"dan_unannotated"}),
    "us_breast_busi": ({"anogan", "segan"}, {"cyclegan", "va_gan"}),
    "retina_chase": ({"mgan"}, {"cyclegan", "staingan"}),
}
OTHERWISE = {"retina_chase": "vgan_retina", "hippocampus_mr3d": "adv_similarity_registration"}


@pytest.mark.parametrize("name", ON_REAL)
def test_experiments_on_the_real_sets(name):
    if not (REAL / name).is_dir():
        pytest.skip("MEDGAN_JAX_TEST_DATA names no folder of the real data")
    facts, (wanted, refused) = data_sets.folder(REAL / name), ON_REAL[name]
    assert wanted <= set(facts.experiments) and not refused & set(facts.experiments)
    assert name not in OTHERWISE or OTHERWISE[name] in facts.otherwise
