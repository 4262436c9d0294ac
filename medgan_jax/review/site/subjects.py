"""What the site says of each row of the review: its facts, its game, its measured values, or why they are
missing.
"""

import dataclasses
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence

from medgan_jax import cli
from medgan_jax.review import catalogue, describe
from medgan_jax.review.site import dataflow
from medgan_jax.review.site.measurements import Measurement

KINDS_OF_IMAGE = {
    "MR": r"\bMRI?\b|\bMRA\b",
    "CT": r"\bC?CTA?\b",
    "PET": r"\bPET\b",
    "X-ray": r"X-ray",
    "ultrasound": r"\bUS\b|ultra-?sound|TRUS|echo",
    "fundus": r"retina|fundus|vessel tree",
    "OCT": r"OCT",
    "skin": r"skin",
    "histopathology": r"histopath|H&E",
    "microscopy": r"microscop|\bcell\b|fungus",
}
ANY_IMAGE = "any images"
APPLICATIONS = {
    "base": "Base models",
    "synthesis_unconditional": "Synthesis, unconditional",
    "synthesis_conditional": "Synthesis, conditional",
    "denoising": "De-noising",
}


@dataclasses.dataclass(frozen=True)
class Game:
    """An experiment as it is defined: facts of `describe`, its docstring, and what its losses do, by stage.

    turns: by number of the stage, for one stage of each kind; trouble: why they could not be traced.
    """

    facts: Mapping
    docstring: str
    turns: Mapping[int, tuple[dataflow.Turn, ...]]
    trouble: str | None = None


@dataclasses.dataclass(frozen=True)
class Subject:
    """A row of the review with all that is known of it. trouble: why an implemented experiment has no game
    here.
    """

    entry: catalogue.Entry
    game: Game | None = None
    trouble: str | None = None
    measurements: tuple[Measurement, ...] = ()
    stale: frozenset[str] = frozenset()

    @property
    def measured(self) -> bool:
        """Whether there is a measured value."""
        return any(each.metrics for each in self.measurements)

    @property
    def modalities(self) -> str:
        """Kinds of image, as one word each: `MR, CT`."""
        return kinds_of_image(getattr(self.entry, "modality", ""))

    @property
    def losses(self) -> tuple[str, ...]:
        """Losses as the review prints them, or as its text has them."""
        return (getattr(self.entry, "losses", None) or ()) or getattr(self.entry, "losses_in_text", ())

    @property
    def table_name(self) -> str:
        """As `reproduce` calls the table of this row."""
        if isinstance(self.entry, catalogue.BaseModel):
            return "base"
        return "text" if self.entry.table is None else f"table{self.entry.table}"


def application_words(application: str) -> str:
    """`De-noising`."""
    return APPLICATIONS.get(application, application.replace("_", " ").capitalize())


def kinds_of_image(modality: str) -> str:
    """The kinds of image that a modality as printed speaks of; the print itself where none is known."""
    found = [kind for kind, words in KINDS_OF_IMAGE.items() if re.search(words, modality, re.IGNORECASE)]
    return ", ".join(found) or modality or ANY_IMAGE


def game(entry: catalogue.Entry, preset: str) -> Game:
    """The game of an implemented experiment; nothing is computed but shapes."""
    method = cli.load(entry.id)
    experiment = method.factory(method.preset(preset))
    facts = describe.facts(experiment, method.module, entry, preset=preset)
    turns, trouble = {}, None
    for number in representatives(facts["stages"]).values():
        try:
            turns[number] = dataflow.turns(experiment.stages[number])
        except Exception as error:
            trouble = reason(error)
    return Game(facts, method.module.__doc__ or "", turns, trouble)


def representatives(stages: Sequence[Mapping]) -> dict[str, int]:
    """The last stage of each kind; stages that differ in sizes and steps alone are of one kind."""
    return {kind_of_stage(stage): number for number, stage in enumerate(stages)}


def kind_of_stage(stage: Mapping) -> str:
    """What two stages have in common whose games are the same."""
    phases = [
        [
            each[name]
            for name in ("name", "trains", "loss", "optimizer", "repeats", "when", "reads", "project")
        ]
        for each in stage["phases"]
    ]
    networks = [each["name"] for each in (*stage["networks"], *stage["frozen"])]
    return repr((phases, networks, stage["prepare"]))


def reason(error: Exception) -> str:
    """An error in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def gather(
    entries: Iterable[catalogue.Entry],
    measured: Mapping[str, Sequence[Measurement]],
    *,
    preset: str,
    stale: Callable[[catalogue.Entry, Measurement], bool] = lambda entry, each: False,
    play: Callable[[catalogue.Entry, str], Game] | None = None,
    say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
) -> list[Subject]:
    """Every row with its game; an experiment that cannot be described keeps its reason, and the others go
    on.
    """
    entries, found = list(entries), []
    count, number = sum(entry.implemented for entry in entries), 0
    for entry in entries:
        subject = Subject(entry, measurements=tuple(measured.get(entry.id, ())))
        if entry.implemented:
            number += 1
            say(f"[{number}/{count}] {entry.id}")
            try:
                old = {each.origin for each in subject.measurements if stale(entry, each)}
                subject = dataclasses.replace(
                    subject, game=(play or game)(entry, preset), stale=frozenset(old)
                )
            except Exception as error:
                say(f"  {entry.id} cannot be described: {reason(error)}")
                subject = dataclasses.replace(subject, trouble=reason(error))
        found.append(subject)
    return found
