"""The picture of a game holds every network, phase and term, and no box lies on another."""

import itertools
import re
import xml.etree.ElementTree as ElementTree

import pytest

from medgan_jax.review.site import diagram, layers, subjects
from medgan_jax.review.site.dataflow import Call, Turn

SVG = "{http://www.w3.org/2000/svg}"


def boxes(picture):
    """(title, kind) of every box."""
    found = ElementTree.fromstring(picture).iter(f"{SVG}g")
    return [(each.get("data-node"), each.get("class").split()[1]) for each in found if each.get("data-node")]


def words(picture):
    return [each.text for each in ElementTree.fromstring(picture).iter(f"{SVG}text")]


@pytest.fixture(scope="module")
def picture(toy_game):
    return diagram.stage_picture(
        toy_game.facts["stages"][0], toy_game.turns[0], toy_game.facts["terms"], name="toy"
    )


def test_every_network_phase_term_and_input_is_drawn(picture):
    assert sorted(boxes(picture)) == sorted(
        [
            ("noisy", "data"),
            ("clean", "data"),
            ("G", "held"),
            ("D", "trained"),
            ("D", "trained"),
            ("critic_loss", "loss"),
            ("noisy", "data"),
            ("clean", "data"),
            ("G", "trained"),
            ("D", "held"),
            ("F", "frozen"),
            ("error", "term"),
            ("generator_loss", "loss"),
        ]
    )
    said = " ".join(words(picture))
    for each in (
        "critic: E D(x_hat) - E D(x). Second sentence.",
        "3 updates, each on fresh data",
        "only when every_second",
        "opponents as at the start of the step",
        "weight = 10.0",
        "updates D by RMSProp, then clip",
        "updates G by Adam, a learning-rate schedule",
    ):
        assert each in said


def test_arrows_have_heads_and_the_picture_has_words(picture):
    root = ElementTree.fromstring(picture)
    ids = {each.get("id") for each in root.iter()}
    heads = re.findall(r"url\(#([^)]+)\)", picture)
    assert heads and set(heads) <= ids
    assert root.get("role") == "img" and set(root.get("aria-labelledby").split()) <= ids
    assert "Turn 2, generator" in root.find(f"{SVG}desc").text


def test_without_its_program_a_turn_shows_what_it_trains(toy_game):
    picture = diagram.stage_picture(toy_game.facts["stages"][0], None, {}, name="toy")
    assert boxes(picture) == [
        ("D", "trained"),
        ("critic_loss", "loss"),
        ("G", "trained"),
        ("generator_loss", "loss"),
    ]


def turn(calls):
    return Turn(
        "G",
        tuple(Call(f"call:{name}:{n}", name, "call", reads) for n, (name, reads) in enumerate(calls)),
        (),
        (),
    )


PHASE = {"name": "G", "trains": ["G"], "loss": "L"}


def test_the_same_call_twice_is_one_box():
    drawn = diagram.graph(
        PHASE, turn([("G", ("batch:x",)), ("G", ("batch:x",)), ("G", ("batch:y",))]), (), {}
    )
    assert sorted(node.lines for node in drawn.nodes if node.kind == "trained") == [
        ("G", "trained"),
        ("G", "trained × 2"),
    ]


def test_very_many_calls_are_one_box_a_network():
    calls = [
        ("G" if n % 2 else "F", (f"call:{'F' if n % 2 else 'G'}:{n - 1}",) if n else ("batch:x",))
        for n in range(40)
    ]
    drawn = diagram.graph(PHASE, turn(calls), (), {})
    assert sorted(node.lines for node in drawn.nodes if node.kind in ("trained", "held")) == [
        ("F", "held × 20"),
        ("G", "trained × 20"),
    ]
    layers.place({node.key: node.size for node in drawn.nodes}, drawn.edges, diagram._columns(drawn))


def test_a_weight_is_found_by_the_name_a_term_begins_with():
    weights = {"cycle": "10", "G/identity": "5", "cycle_x": "7"}
    assert diagram.weight("cycle_y", "G", weights) == "10" and diagram.weight("cycle_x", "G", weights) == "7"
    assert diagram.weight("identity", "G", weights) == "5" and diagram.weight("cyclic", "G", weights) is None


def test_no_box_lies_on_another_and_arrows_go_to_the_right():
    names = [f"n{n}" for n in range(12)]
    edges = [(a, b) for n, a in enumerate(names) for b in names[n + 1 :: 3]]
    sizes = {name: (60.0 + 5 * n, 40.0) for n, name in enumerate(names)}
    placed = layers.place(sizes, edges, layers.columns(names, edges))
    for a, b in itertools.combinations(names, 2):
        (left, top), (right, below) = placed.nodes[a], placed.nodes[b]
        apart_x = left + sizes[a][0] <= right or right + sizes[b][0] <= left
        apart_y = top + sizes[a][1] <= below or below + sizes[b][1] <= top
        assert apart_x or apart_y, (a, b)
    for points in placed.edges.values():
        across = [x for x, _ in points]
        assert across == sorted(across)
        assert all(0 <= x <= placed.width and 0 <= y <= placed.height for x, y in points)


def test_a_circle_of_edges_ends():
    assert layers.columns(["a", "b"], [("a", "b"), ("b", "a")]) == {"a": 1, "b": 0}


def test_stages_of_one_kind_differ_in_size_alone(toy_game):
    stage = toy_game.facts["stages"][0]
    assert subjects.kind_of_stage(stage) == subjects.kind_of_stage({**stage, "steps": 99, "name": "later"})
    other = {**stage, "phases": stage["phases"][:1]}
    assert list(subjects.representatives([stage, {**stage, "steps": 5}, other]).values()) == [1, 2]
