"""Parts of a benchmark that are kept: each a process of its own, in a folder named by code and
configuration.

What is done is read, what was killed goes on from its checkpoint, what has changed is run again, and what
failed keeps its reason and is tried again.
"""

import dataclasses
import functools
import json
import pathlib
import re
import sys
from collections.abc import Callable, Mapping, Sequence

from medgan_jax.configuration import as_dict
from medgan_jax.review import code, learning, processes
from medgan_jax.review.benchmark.process import VALUES
from medgan_jax.review.benchmark.track import Entrant, Track, configuration
from medgan_jax.review.runs import KEY_LENGTH

SHARED = "shared"
OWN = tuple(f"{__package__}.{name}" for name in ("track", "plain", "classical", "cost", "identity", "shared"))


@dataclasses.dataclass(frozen=True)
class Part:
    """One training of an entrant, or all that is not trained where `entrant` is None. root: of all parts.

    source: as the user named it, `phantom` without. factor: of the learning rates. stop: step at which the
    time is up. tested: whether the test cases are looked at.
    """

    track: Track
    preset: str
    root: pathlib.Path
    source: str = "phantom"
    entrant: Entrant | None = None
    seed: int = 0
    factor: float = 1.0
    stop: int | None = None
    tested: bool = True

    @property
    def shares(self) -> bool:
        """Whether entrants read a folder that the track writes."""
        return bool(self.track.shared) and self.source == "phantom"

    @functools.cached_property
    def data(self) -> str:
        """What the entrants' `--data.source` is."""
        if not self.shares:
            return self.source
        key = self._key(self.track.entrants[self.track.origin], "phantom", 1.0)
        return str((self.root / self.preset / self.track.name / "data" / key).resolve())

    def _key(self, entrant: Entrant, source: str, factor: float) -> str:
        config = configuration(self.track, entrant, self.preset, source, factor)
        plain = json.loads(json.dumps(as_dict(config)))
        known, id = learning.implemented(), entrant.id or self.track.host.id
        texts = [code.code(name) for name in (*OWN, self.track.module)]
        return code.digest([learning.fingerprint(known.get(id, id), plain), *texts])[:KEY_LENGTH]

    @functools.cached_property
    def key(self) -> str:
        """Changes with the code of the entrant and of the track, with configuration and data."""
        return self._key(self.entrant or self.track.host, SHARED if self.shares else self.source, self.factor)

    @property
    def title(self) -> str:
        """What is run, in words."""
        if self.entrant is None:
            return f"{self.track.name}: classical methods"
        stop = "" if self.stop is None else f", to step {self.stop}"
        factor = "" if self.factor == 1 else f", rates times {self.factor:g}"
        return f"{self.track.name}: {self.entrant.name}, seed {self.seed}{factor}{stop}"

    @property
    def place(self) -> pathlib.Path:
        """The folder of this part."""
        name = (
            "classical" if self.entrant is None else re.sub(r"\W+", "_", self.entrant.name.lower()).strip("_")
        )
        kind = "" if self.factor == 1 else f"-x{self.factor:g}"
        kind += "" if self.stop is None else f"-to{self.stop}"
        return self.root / self.preset / self.track.name / name / f"{self.key}{kind}" / f"seed_{self.seed}"

    @property
    def command(self) -> list[str]:
        """The process."""
        words = [
            sys.executable,
            "-m",
            f"{__package__}.process",
            "classical" if self.entrant is None else "train",
        ]
        words += ["--tracks", self.track.module, "--track", self.track.name, "--preset", self.preset]
        words += ["--source", self.data, "--place", str(self.place), "--seed", str(self.seed)]
        if self.entrant is None:
            return words + ["--share"] * self.shares
        words += ["--entrant", self.entrant.name, "--factor", repr(self.factor)]
        words += [] if self.stop is None else ["--stop", str(self.stop)]
        return words + ["--test"] * self.tested

    def read(self) -> dict | None:
        """Its values; None if there are none yet, or none of the test cases where they are asked for."""
        values = processes.read(self.place / VALUES)
        if values is None or (self.entrant is not None and self.tested and "test" not in values):
            return None
        if self.shares:
            origin = self.track.entrants[self.track.origin].id
            for tested in (values.get("test"), *values.get("methods", {}).values()):
                if tested and "data" in tested:
                    tested["data"]["source"] = f"phantoms of {origin}, the same files for all"
        return values

    def failure(self) -> str | None:
        """Why it failed the last time; None if it did not."""
        return processes.failure(self.place)


def play(part: Part, environment: Mapping[str, str] | None = None) -> dict | None:
    """The values of a part: read, or made in its process; None if that failed."""
    if (known := part.read()) is not None:
        return known
    succeeded = processes.run(part.command, part.place, environment)
    if succeeded and part.read() is None:
        processes.fail(part.place)
    return part.read()


def play_all(
    parts: Sequence[Part], *, jobs: int = 0, say: Callable[[str], None] = print
) -> dict[Part, dict | None]:
    """The values of parts, None for those that failed; for `jobs` see `processes.play_all`."""

    def one(part: Part, environment: Mapping[str, str]) -> None:
        say(f"{part.title}: running")
        done = play(part, environment)
        say(f"{part.title}: {part.failure() if done is None else 'done'}")

    return processes.play_all(parts, one, jobs=jobs)
