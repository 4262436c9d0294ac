"""The data sets that this package builds, for `data list` and `data prepare`."""

import dataclasses
import pathlib


@dataclasses.dataclass(frozen=True)
class Row:
    """One data set that `tfds:NAME` opens; manual: what has to be done by hand before it can be prepared."""

    name: str
    anatomy: str
    modality: str
    targets: tuple[str, ...]
    manual: str = ""


_ROWS = (
    Row(
        name="mr_head_kspace",
        anatomy="head, axial (phantom)",
        modality="MR, complex, with undersampled k-space",
        targets=("kspace", "sampling", "label"),
    ),
)


def available() -> list[Row]:
    """The data sets with a builder here. TFDS' own can be prepared by their names, too."""
    return list(_ROWS)


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
