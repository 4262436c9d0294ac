"""Records of what experiments learn are of the present code and keep the bounds that they declare.

`python -m medgan_jax.review.learning ID` makes a record anew; the slow test does so for each.
"""

import json
from typing import get_args

import pytest

from medgan_jax import cli
from medgan_jax.models.pooling_discriminator import Field
from medgan_jax.review import learning

EXPERIMENTS = learning.implemented()


def test_every_record_is_of_an_experiment():
    assert {path.stem for path in learning.RECORDS.glob("*.json")} <= set(EXPERIMENTS)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_record_is_of_the_present_code_and_holds(name):
    state = learning.state_of(name, EXPERIMENTS[name])
    assert state == "holds", f"{state}: run `python -m medgan_jax.review.learning {name}`"
    record = json.loads((learning.RECORDS / f"{name}.json").read_text())
    assert record["bounds"] and all(each["holds"] for each in record["bounds"])
    assert record["data"]["source"].startswith("phantom:")
    assert record["train_seconds"] <= 360, "a learning run takes at most six minutes"
    twin = cli.load(EXPERIMENTS[name]).preset("small").twin()
    assert (record["twin"] is not None) == (twin is not None)


@pytest.mark.parametrize("path", sorted(learning.RECORDS.glob("ablations/*.json")), ids=lambda path: path.stem)
def test_ablation_is_of_the_present_code(path):
    known = json.loads(path.read_text())
    name = known["experiment"]
    assert path.stem.startswith(f"{name}-") and known["changes"]
    assert learning.state_of(path.stem, EXPERIMENTS[name], path.parent) != "stale", f"run `{known['command']}`"


def test_each_receptive_field_of_v_gan_is_reported():
    records = [learning.RECORDS / "vgan_retina.json", *learning.RECORDS.glob("ablations/vgan_retina-*.json")]
    configurations = [json.loads(path.read_text())["configuration"]["config"] for path in records]
    assert {each["discriminator"] for each in configurations} >= set(get_args(Field))


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_learning_run_holds_again(name, tmp_path):
    assert learning.learn(name, EXPERIMENTS[name], tmp_path)["holds"]
