"""Folders made from real sets for methods that do not take them as they are: cut, padded, paired or changed.

Each is made once, beside the runs, and named by what it is made from: the code, the settings that it reads of
an experiment's configuration, and the set's files. Parts are by subject as in the set, and validation
subjects are held out of the training part exactly as `open_folder` does, so that no cut moves a subject from
part to part.
"""

import dataclasses
import json
import pathlib
import shutil
from collections.abc import Callable, Mapping

from medgan_jax.data.records import digest
from medgan_jax.errors import UserError
from medgan_jax.review import code
from medgan_jax.review.real.sets import brain, ct, hippocampus, histology, retina

FACTS = "facts.json"


@dataclasses.dataclass(frozen=True)
class Derived:
    """A folder to be made. make: (set, folder, configuration) -> facts; uses: fields of it that it reads."""

    make: Callable[[pathlib.Path, pathlib.Path, object], Mapping]
    uses: tuple[str, ...]

    @property
    def code(self) -> str:
        """The code of its module."""
        return code.code(self.make.__module__)


DERIVED = {
    "brain_complex": Derived(brain.complex_slices, ()),
    "brain_effects": Derived(brain.inserted_effects, ("size",)),
    "brain_lesions": Derived(brain.inserted_lesions, ("size",)),
    "retina_pairs": Derived(retina.pairs, ("size",)),
    "retina_crops": Derived(retina.crops, ("size", "vessels", "field_of_view")),
    "histology_tiles": Derived(histology.tiles, ("size",)),
    "histology_centres": Derived(histology.centres, ("size",)),
    "hippocampus_reflected": Derived(hippocampus.reflected, ("size",)),
    "hippocampus_matched": Derived(hippocampus.matched, ("shape",)),
    "ct_doses": Derived(ct.doses, ("size", "photons")),
}


def prepared(name: str, source: pathlib.Path, config, root: pathlib.Path) -> pathlib.Path:
    """The folder `name`, made from the set at `source` for a configuration where it is not there yet."""
    derived = DERIVED[name]
    stamp = sorted((path.relative_to(source).as_posix(), path.stat().st_size)
                   for path in source.rglob("*") if path.is_file())  # fmt: skip
    settings = [getattr(config, field) for field in derived.uses]
    place = root / digest(derived.code, settings, stamp)[:12]
    if not (place / name / FACTS).is_file():
        shutil.rmtree(place, ignore_errors=True)
        making = place / f"{name}.part"
        try:
            making.mkdir(parents=True)
        except OSError as error:
            raise UserError(f"{place} cannot be made: {error.strerror}") from error
        facts = derived.make(source, making, config)
        (making / FACTS).write_text(json.dumps(facts, indent=1) + "\n")
        making.rename(place / name)
    return place / name


def facts(folder: pathlib.Path) -> dict:
    """What was measured while a derived folder was made; empty for a set as it is."""
    path = folder / FACTS
    return json.loads(path.read_text()) if path.is_file() else {}
