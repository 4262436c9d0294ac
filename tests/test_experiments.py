"""Every implemented experiment: what it is at full size, and one tiny run from training to prediction.

Programs are compiled without optimisation here: they are used a few times, and compiling takes the time.
"""

import csv
import json

import jax
import nibabel
import numpy as np
import pytest
from PIL import Image

from medgan_jax import cli
from medgan_jax.data.formats import read_image
from medgan_jax.review import catalogue

IMPLEMENTED = {entry.id: entry.module for entry in catalogue.entries() if entry.implemented}
EXPERIMENTS = {**IMPLEMENTED, "_template": "experiments._template"}
PARTS = {"train": 10, "val": 8, "test": 8}


def image(generator, size, bits=8):
    """A smooth blob with some noise: whole numbers of so many bits."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    place, noise = generator.uniform(-0.4, 0.4, 2), generator.uniform(0, 0.2, (size, size))
    blob = np.exp(-4 * ((x - place[0]) ** 2 + (y - place[1]) ** 2)) + noise
    return (blob / blob.max() * (2**bits - 1)).astype(np.uint16 if bits > 8 else np.uint8)


def png_folders(root, size, *, folders, bits=8):
    """`train/FOLDER/sN.png` and so on: paired images of as many subjects."""
    generator, number = np.random.default_rng(0), 0
    for part, count in PARTS.items():
        for _ in range(count):
            number += 1
            for folder in folders:
                place = root / part / folder
                place.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image(generator, size, bits)).save(place / f"s{number:03d}.png")


def domains(root, size, channels=1):
    """`trainA/ trainB/ ...`, unpaired."""
    generator, number = np.random.default_rng(0), 0
    for part, count in PARTS.items():
        for domain in "AB":
            (root / f"{part}{domain}").mkdir(parents=True)
            for _ in range(count):
                number += 1
                pixels = image(generator, size)
                picture = Image.fromarray(pixels if channels == 1 else np.stack([pixels] * 3, -1))
                picture.save(root / f"{part}{domain}" / f"s{number:03d}.png")


def archives(root, size, *, masks=False, classes=0):
    """`train.npz` and so on, with masks of which every second one is empty, or with labels."""
    generator = np.random.default_rng(0)
    for part, count in PARTS.items():
        arrays = {"images": np.stack([image(generator, size) for _ in range(count)])}
        if masks:
            arrays["masks"] = np.zeros((count, size, size), np.uint8)
            arrays["masks"][::2, 2:6, 2:6] = 1
        if classes:
            arrays["labels"] = np.arange(count) % classes
        np.savez(root / f"{part}.npz", ids=np.array([f"{part}{n}" for n in range(count)]), **arrays)


def paired_volumes(root, size):
    """`train/A/sN.nii` and `train/B/sN.nii`, and so on: volumes of as many subjects."""
    generator, number = np.random.default_rng(0), 0
    for part, count in PARTS.items():
        for _ in range(count):
            number += 1
            for folder in "AB":
                place = root / part / folder
                place.mkdir(parents=True, exist_ok=True)
                volume = generator.integers(0, 1000, (size,) * 3).astype(np.int16)
                nibabel.Nifti1Image(volume, np.eye(4)).to_filename(place / f"s{number:03d}.nii")


def arrays(root, shape):
    """`train.npz` and so on: images of this shape, complex ones (H, W, 2) or volumes (D, H, W, 1)."""
    generator = np.random.default_rng(0)
    for part, count in PARTS.items():
        images = generator.uniform(0, 1, (count, *shape)).astype(np.float32)
        np.savez(root / f"{part}.npz", ids=np.array([f"{part}{n}" for n in range(count)]), images=images)


# Data of an experiment's own kind; the others train on their phantoms, as those of `PHANTOM` do in the run.
DATA = {
    "dagan": lambda root, size: png_folders(root, size, folders=["images"], bits=16),
    "pix2pix": lambda root, size: png_folders(root, size, folders=["A", "B"]),
    "cyclegan": domains,
    "wgan_gp": archives,
    "anogan": lambda root, size: archives(root, size, masks=True),
    "refinegan": lambda root, size: arrays(root, (size, size, 2)),
    "mdcsrn_gan": lambda root, size: arrays(root, (*size, 1)),
    "wgan_vgg_ldct": lambda root, size: png_folders(root, size, folders=["images", "targets"], bits=12),
    "sharpness_aware_gan": lambda root, size: png_folders(root, size, folders=["images", "targets"], bits=12),
    "va_gan": domains,
    # Colour at full size; grey, and without the judge of pairs, in the run.
    "staingan": lambda root, size: domains(root, size, channels=1 if size == 16 else 3),
    "context_aware_gan": paired_volumes,
    "lapgan": lambda root, size: archives(root, size, classes=4),
    "pgan": lambda root, size: archives(root, size, classes=4),
    "dcgan_liver_lesion": lambda root, size: archives(root, size, classes=3),
    "pggan_skin_lesion": lambda root, size: arrays(root, (size, size, 3)),
    "_template": archives,
}
PHANTOM = {"wgan_gp"}
# One of each kind of game, whose tiny run is spread over the eight devices: turns of a critic with second derivatives,
# pairs, pools of fakes, growing images, a prior for codes, a search at test time, two streams of cases, two domains
# of bags, volumes that are warped.
ON_EIGHT_DEVICES = {
    "wgan_gp", "pix2pix", "cyclegan", "pgan", "aae", "anogan", "dan_unannotated", "adv_da_histopathology",
    "adv_similarity_registration",
}  # fmt: skip
# Networks without a size that does not fit.
ANY_SIZE = {"wgan_vgg_ldct"}


@pytest.fixture(autouse=True)
def compile_fast():
    """Without optimisation."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def data_options(name, config, root):
    """Options that name data made for this experiment, if there are any."""
    if name not in DATA:
        return []
    root.mkdir()
    DATA[name](root, config.size)
    return ["--data.source", str(root)]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_full_size_is_described_without_computing(name, tmp_path, capsys):
    method = cli.load(EXPERIMENTS[name])
    options = data_options(name, method.preset("paper"), tmp_path / "data")
    assert cli.main(["describe", EXPERIMENTS[name], "--preset", "paper", *options, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["id"] == name
    assert facts["equations"]
    assert facts["metrics"]
    assert facts["baseline"]
    for stage in facts["stages"]:
        assert all(network["parameters"] > 0 for network in stage["networks"])
        trained = {each for phase in stage["phases"] for each in phase["trains"]}
        assert trained <= {network["name"] for network in stage["networks"]}
    # Losses say in words what they are.
    assert all(phase["loss_in_words"] for phase in facts["stages"][-1]["phases"])


def check_metrics(table):
    for row in table.values():
        assert {"mean", "sd", "n", "unit", "higher_is_better"} <= set(row)
        assert row["mean"] is None or np.isfinite(row["mean"])
        assert row["mean"] is not None or row["undefined"]


def check_evaluation(name, experiment, record, workdir):
    """The schema, and the table of cases whose means are the record's."""
    keys = {"experiment", "step", "seed", "data", "metrics", "baseline", "paper", "versions", "notes", "twin"}
    assert keys <= set(record)
    assert record["experiment"] == name
    assert {"source", "fingerprint", "n"} <= set(record["data"])
    test = experiment.stages[-1].data.test
    assert (record["data"]["n"], record["data"]["fingerprint"]) == (len(test), test.fingerprint)
    assert set(record["metrics"]) == set(record["baseline"]) == {each.name for each in experiment.metrics}
    check_metrics(record["metrics"])
    check_metrics(record["baseline"])
    if name in IMPLEMENTED:
        reported = {value.metric for value in getattr(catalogue.find(name), "reported", ())}
        assert set(record["paper"]) == reported
    with (workdir / "cases.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == list(test.ids)
    assert [row["subject"] for row in rows] == list(test.subjects)
    for metric, row in record["metrics"].items():
        if row["sd"] is not None and not row["undefined"]:
            assert np.mean([float(each[metric]) for each in rows]) == pytest.approx(row["mean"], rel=1e-4)
            baseline = np.mean([float(each[f"baseline/{metric}"]) for each in rows])
            assert baseline == pytest.approx(record["baseline"][metric]["mean"], rel=1e-4)
    assert (workdir / "comparison.png").stat().st_size > 0


def written_steps(workdir):
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [line["step"] for line in lines]


def check_predictions(name, workdir, size, root):
    """A 16-bit PNG, and a volume with its geometry: the same format, geometry, type and units come out."""
    source, target = root / "in", root / "out"
    source.mkdir()
    generator = np.random.default_rng(5)
    Image.fromarray(image(generator, size, bits=16)).save(source / "slice.png")
    affine = np.array([[0, 0, 3.0, -9], [0.8, 0, 0, 4], [0, -0.7, 0, 30], [0, 0, 0, 1]])
    volume = np.stack([image(generator, size, bits=12) for _ in range(3)]).astype(np.int16)
    nifti = nibabel.Nifti1Image(volume.transpose(2, 1, 0), affine)
    nifti.header.set_slope_inter(0.5, 0)
    nifti.to_filename(source / "volume.nii.gz")
    places = ["--input", str(source), "--output", str(target)]
    assert cli.main(["predict", EXPERIMENTS[name], "--workdir", str(workdir), *places]) == 0
    for file in ("slice.png", "volume.nii.gz"):
        before, after = read_image(source / file), read_image(target / file)
        assert after.array.shape == before.array.shape
        assert after.stored_dtype == before.stored_dtype
        assert after.unit == before.unit
        assert after.array.std() > 0
    with Image.open(target / "slice.png") as written:
        assert written.mode in ("I;16", "I")
    before, after = (nibabel.load(place / "volume.nii.gz") for place in (source, target))
    assert np.allclose(after.affine, before.affine)
    assert after.header.get_zooms() == before.header.get_zooms()
    assert after.get_data_dtype() == before.get_data_dtype()
    assert after.dataobj.slope == pytest.approx(before.dataobj.slope)
    return source, target


def check_refused_predictions(name, workdir, size, root, capsys):
    """An image of another size, and one of too many channels: a line each, and nothing is written."""
    generator = np.random.default_rng(5)
    odd = Image.fromarray(image(generator, size)).resize((size + 3, size + 5))
    colour = Image.fromarray(np.stack([image(generator, size)] * 3, axis=-1))
    wrongs = {"colour": colour} if name in ANY_SIZE else {"odd": odd, "colour": colour}
    for kind, wrong in wrongs.items():
        wrong.save(root / f"{kind}.png")
        places = ["--input", str(root / f"{kind}.png"), "--output", str(root / kind)]
        assert cli.main(["predict", EXPERIMENTS[name], "--workdir", str(workdir), *places]) == 2, kind
        said = capsys.readouterr()
        assert said.err.startswith("medgan_jax: error: ")
        assert said.err.count("\n") == 1
        assert f"{kind}.png" in said.err
        assert not list(root.glob(f"{kind}/*"))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_tiny_run(name, tmp_path, capsys):
    method, workdir = cli.load(EXPERIMENTS[name]), tmp_path / "run"
    config = method.preset("tiny")
    options = [] if name in PHANTOM else data_options(name, config, tmp_path / "data")
    train = ["train", EXPERIMENTS[name], "--preset", "tiny", "--workdir", str(workdir)]
    devices = 8 if name in ON_EIGHT_DEVICES else 1
    train += ["--mesh.data", str(devices), "--log_every", "1", *options]
    capsys.readouterr()
    assert cli.main([*train, "--steps", "2"]) == 0
    assert f": {devices} cpu device" in "".join(capsys.readouterr())
    assert written_steps(workdir)[-1] == 2
    assert cli.main([*train, "--no_progress"]) == 0

    config, _ = cli._stored_run(method, cli.RunOptions(workdir=str(workdir)))
    experiment = method.factory(config)
    total = sum(stage.steps for stage in experiment.stages)
    steps = written_steps(workdir)
    assert sorted(set(steps)) == list(range(1, total + 1))

    capsys.readouterr()
    assert cli.main(["evaluate", EXPERIMENTS[name], "--workdir", str(workdir), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record == json.loads((workdir / "evaluation.json").read_text())
    check_evaluation(name, experiment, record, workdir)
    if experiment.prediction is not None and experiment.prediction.rank == 2:
        source, target = check_predictions(name, workdir, config.size, tmp_path)
        capsys.readouterr()
        check_refused_predictions(name, workdir, config.size, tmp_path, capsys)
        if name == "dagan":
            # A few steps change little: what comes out is in the values of the file.
            before, after = (read_image(place / "volume.nii.gz").array for place in (source, target))
            assert np.corrcoef(before.ravel(), after.ravel())[0, 1] > 0.9
            assert abs(after.max() / before.max() - 1) < 0.2
