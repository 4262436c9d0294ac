"""Prepares the data sets that this package builds, and knows what became of those of the review's tables."""

import functools
import importlib.resources
import json
import pathlib
from typing import Any


@functools.cache
def review_rows() -> list[dict[str, Any]]:
    """What `review_sets.json` says of the sets that the review's tables name.

    names: as printed there. status: whether they can be had. set: the builder that reads them here, or the
    nearest to them. stand_in: what serves where they cannot be had. note.
    """
    file = importlib.resources.files("medgan_jax.data") / "review_sets.json"
    return json.loads(file.read_text(encoding="utf-8"))["rows"]


def configurations(name: str) -> list[str]:
    """The configurations NAME/CONFIG of a data set, the default first; empty if it has one form only."""
    from medgan_jax.data.prepared import find_builder

    builder = find_builder(name)
    default = builder.builder_config and builder.builder_config.name
    return sorted(builder.builder_configs, key=lambda config: config != default)


def prepare(
    name: str,
    directory: str | pathlib.Path | None = None,
    *,
    processes: int = 1,
    manual: str | pathlib.Path | None = None,
    skip_refused: bool = False,
) -> pathlib.Path:
    """Prepares 'NAME' or 'NAME/CONFIG' under `directory` (None: TFDS' default); returns its folder.

    Does nothing if that was done before. processes, manual, skip_refused: as `prepared.prepare_builder` takes
    them. Raises UserError for an unknown name, missing files that have to be fetched by hand, a missing
    package, or a place that cannot be written.
    """
    from medgan_jax.data.prepared import find_builder, prepare_builder

    builder = find_builder(name, directory)
    return prepare_builder(builder, processes=processes, manual=manual, skip_refused=skip_refused)
