"""Sources from TFDS data sets that were prepared as array_record files, read without TensorFlow."""

import contextlib
import copy
import difflib
import functools
import importlib
import itertools
import json
import logging
import pathlib
import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from medgan_jax.data import builders
from medgan_jax.data.folders import SPLITS
from medgan_jax.data.records import Record, Records, Source, digest, split_validation
from medgan_jax.errors import UserError

FILE_FORMAT = "array_record"
# What is known of the records without reading them, beside their files.
INDEX = "records.json"
# Bytes; above the size of any record that is read often, and below the 32 MiB that glibc heeds.
_LARGE_BLOCK = 24 << 20


class PreparedSource(Records):
    """One split of a prepared TFDS data set.

    Images (the feature 'image' and those of type Image) are float32, other whole numbers int32, texts str;
    nested features are named 'outer/inner'. Arrays may be read-only. Features 'subject' and 'id' name the
    records; without them each is its own subject. A feature 'given' lists the features that a record has; its
    others are left out. The fingerprint covers the version, the files' names and sizes, and the numbers of
    records, not the files' contents, which may be too large to read at every start.

    index: ids, subjects and shapes of its records, where they were read before.
    """

    def __init__(self, builder: tfds.core.DatasetBuilder, split: str, index: Mapping[str, Any] | None = None):
        keep_freed_memory()
        self._features = dict(builder.info.features.items())
        self._decoder = builder.info.features
        raw = tfds.decode.DeserializeMethod.RAW_BYTES
        self._data = builder.as_data_source(split, deserialize_method=raw)
        info = builder.info.splits[split]
        shards = [(path.name, path.stat().length) for path in info.filepaths]
        self.fingerprint = digest(builder.info.full_name, split, list(info.shard_lengths), shards)
        index = index or _known(builder, split)
        label = self._features.get("label")
        class_names = (isinstance(label, tfds.features.ClassLabel) and label.names) or ()
        super().__init__(_resolved_name(builder), index["ids"], index["subjects"], class_names=class_names)
        self._shapes = index.get("shapes", {})

    def read(self, index: int) -> Record:
        values = self._decoder.deserialize_example_np(self._data[index])
        given = values.pop("given", None)
        if given is not None:
            kept = given.decode().split(",")
            values = {name: value for name, value in values.items() if name in kept}
        return dict(self._converted(values, self._features))

    def shapes(self, field: str) -> list[tuple[int, ...]] | None:
        known = self._shapes.get(field)
        return known and [tuple(shape) for shape in known]

    def with_fields(self, fields: Sequence[str]) -> Source:
        """The same records with no other features than those of `fields`, which alone are decoded."""
        wanted = {"given", *(field.partition("/")[0] for field in fields)}
        features = {name: feature for name, feature in self._features.items() if name in wanted}
        narrowed = copy.copy(self)
        narrowed._decoder = tfds.features.FeaturesDict(features)
        return narrowed

    def _converted(
        self, values: Mapping[str, Any], features: Mapping[str, Any], outer: str = ""
    ) -> Iterator[tuple[str, np.ndarray | str]]:
        for name, value in values.items():
            feature = features[name]
            if isinstance(value, Mapping):
                yield from self._converted(value, getattr(feature, "feature", feature), f"{outer}{name}/")
            elif isinstance(value, bytes):
                yield outer + name, value.decode()
            else:
                array = np.asarray(value)
                is_label = isinstance(feature, tfds.features.LabeledImage)
                is_image = name == "image" or (isinstance(feature, tfds.features.Image) and not is_label)
                is_float = is_image or array.dtype.kind == "f"
                yield outer + name, array.astype(np.float32 if is_float else np.int32, copy=False)


@functools.cache
def keep_freed_memory() -> None:
    """Lets the C library reuse the memory of records, which it gives back to the system otherwise.

    glibc keeps free blocks up to the size of the largest one that has been freed. Asking the system for the
    buffers of every record anew takes longer than reading it.
    """
    np.empty(_LARGE_BLOCK, np.uint8)


def _known(builder: tfds.core.DatasetBuilder, split: str) -> dict[str, Any]:
    """Ids and subjects of the records of a split, and shapes where they were noted."""
    return _read_index(builder, split) or _index(builder, split)


def _index(builder: tfds.core.DatasetBuilder, split: str) -> dict[str, list]:
    """Ids and subjects of the records of a split, which takes reading all that is not an image."""
    features = dict(builder.info.features.items())
    images = [name for name, feature in features.items() if isinstance(feature, tfds.features.Image)]
    records = builder.as_data_source(split, decoders=dict.fromkeys(images, tfds.decode.SkipDecoding()))
    ids, subjects = [], []
    for number in range(len(records)):
        record = records[number] if features.keys() & {"id", "subject"} else {}
        ids.append(record["id"].decode() if "id" in record else f"{split}-{number:06d}")
        subjects.append(record["subject"].decode() if "subject" in record else ids[-1])
    return {"ids": ids, "subjects": subjects}


def _write_index(builder: tfds.core.DatasetBuilder) -> None:
    """Notes ids, subjects and shapes of the records once, so that opening a set reads no image."""
    found = {}
    for split, info in builder.info.splits.items():
        source = PreparedSource(builder, split)
        shapes: dict[str, list] = {}
        for number in range(len(source)):
            for field, value in source[number].items():
                if isinstance(value, np.ndarray):
                    shapes.setdefault(field, []).append(value.shape)
        found[split] = {
            "lengths": list(info.shard_lengths),
            "ids": source.ids,
            "subjects": source.subjects,
            "shapes": {field: known for field, known in shapes.items() if len(known) == len(source)},
        }
    (pathlib.Path(builder.data_path) / INDEX).write_text(json.dumps(found), encoding="utf-8")


def _read_index(builder: tfds.core.DatasetBuilder, split: str) -> dict[str, Any] | None:
    """The notes, unless there are none or they are of other files."""
    path = pathlib.Path(builder.data_path) / INDEX
    try:
        found = _parsed(path, path.stat().st_mtime_ns)[split]
        matches = found["lengths"] == list(builder.info.splits[split].shard_lengths)
        return found if matches and len(found["ids"]) == sum(found["lengths"]) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


@functools.lru_cache(maxsize=4)
def _parsed(path: pathlib.Path, changed: int) -> Any:
    return json.loads(path.read_text("utf-8"))


def open_prepared(name: str, *, split: str, directory: str | pathlib.Path | None = None) -> Source:
    """One part ('train', 'validation', 'test') of a prepared data set 'NAME' or 'NAME/CONFIG'.

    Without a validation split, a fifth of the training subjects validates (`records.split_validation`).
    directory: where TFDS keeps its data; None is its own default. Raises UserError, with the command that
    prepares the set, if it is not there, and if the feature 'subject' is the same in two of the parts.
    """
    builder = find_builder(name, directory)
    _check_prepared(builder, name, directory)
    splits = list(builder.info.splits)
    official = _disjoint(builder, name)
    if split in splits:
        source = PreparedSource(builder, split, official.get(split))
        return source if split != "train" or "validation" in splits else split_validation(source)[0]
    if split == "validation" and "train" in splits:
        return split_validation(PreparedSource(builder, "train", official.get("train")))[1]
    raise UserError(f"tfds:{name} has no split '{split}'; it has {', '.join(splits)}")


def _disjoint(builder: tfds.core.DatasetBuilder, name: str) -> dict[str, dict[str, Any]]:
    """What is known of each part; UserError if two share a subject. Empty where the set tells no subjects."""
    if "subject" not in dict(builder.info.features.items()):
        return {}
    known = {split: _known(builder, split) for split in SPLITS if split in builder.info.splits}
    for one, other in itertools.combinations(known, 2):
        if shared := set(known[one]["subjects"]) & set(known[other]["subjects"]):
            raise UserError(
                f"tfds:{name} in {builder.data_path}: '{one}' and '{other}' share {len(shared)} of their "
                f"subjects, such as '{min(shared)}': a subject belongs to one part; mend its builder"
            )
    return known


def find_builder(name: str, directory: str | pathlib.Path | None = None) -> tfds.core.DatasetBuilder:
    """The TFDS builder of 'NAME' or 'NAME/CONFIG', of this package or of TFDS; UserError if there is none."""
    _register_builders(name.partition("/")[0])
    try:
        _check_configuration(name)
        with _quiet():
            return tfds.builder(name, data_dir=directory and str(directory), file_format=FILE_FORMAT)
    except tfds.core.DatasetNotFoundError as error:
        raise UserError(f"TFDS knows no data set '{name}': see python -m medgan_jax data list") from error
    except ImportError as error:
        raise UserError(f"the TFDS data set '{name}' cannot be loaded here: {_one_line(error)}") from error
    except ValueError as error:
        raise UserError(f"TFDS cannot open '{name}': {_one_line(error)}") from error


def prepare_builder(
    builder: tfds.core.DatasetBuilder,
    *,
    processes: int = 1,
    manual: str | pathlib.Path | None = None,
    skip_refused: bool = False,
) -> pathlib.Path:
    """Prepares a data set as array_record files, unless that was done before; returns its folder.

    processes: how many read or draw records. manual: where files fetched by hand lie (None: the folder
    `downloads/manual/NAME` beside the prepared sets). skip_refused: leave out cases whose files are refused.
    Raises UserError if files have to be fetched by hand first, a package is missing, or the place cannot be
    written.
    """
    with _quiet():
        prepared = builder.is_prepared()
    if prepared:
        return pathlib.Path(builder.data_path)
    _set_options(builder, processes, skip_refused)
    folder = pathlib.Path(manual or _manual_folder(builder)).expanduser()
    if builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
        _check_manual(builder, folder)
    try:
        options = tfds.download.DownloadConfig(manual_dir=str(folder))
        builder.download_and_prepare(download_config=options)
        _write_index(builder)
    except ImportError as error:
        raise UserError(
            f"preparing {builder.name} needs a package that is missing: {_one_line(error)}"
        ) from error
    except (AssertionError, OSError, NotImplementedError) as error:
        raise UserError(f"{builder.name} cannot be prepared: {_one_line(error)}") from error
    return pathlib.Path(builder.data_path)


def _set_options(builder: tfds.core.DatasetBuilder, processes: int, skip_refused: bool) -> None:
    if processes < 1:
        raise UserError(f"--processes is {processes}; it must be at least 1")
    for name, value, usual in (("processes", processes, 1), ("skip_refused", skip_refused, False)):
        if hasattr(builder, name):
            setattr(builder, name, value)
        elif value != usual:
            raise UserError(f"{builder.name} does not take --{name}: leave it out")


def _manual_folder(builder: tfds.core.DatasetBuilder) -> pathlib.Path:
    root = pathlib.Path(getattr(builder, "_data_dir_root", builder.data_dir)).expanduser()
    return root / "downloads" / "manual" / builder.name


def _check_manual(builder: tfds.core.DatasetBuilder, folder: pathlib.Path) -> None:
    empty = not folder.is_dir() or not any(folder.iterdir())
    if empty:
        state = "is empty" if folder.is_dir() else "is a file" if folder.exists() else "does not exist"
        raise UserError(
            f"{builder.name} has to be fetched by hand into {folder}, which {state}: "
            f"`python -m medgan_jax data list {builder.name}` says how; --manual names another folder"
        )


def _check_prepared(
    builder: tfds.core.DatasetBuilder, name: str, directory: str | pathlib.Path | None
) -> None:
    where = f" --directory {directory}" if directory else ""
    command = f"python -m medgan_jax data prepare {name}{where}"
    with _quiet():
        prepared = builder.is_prepared()
    if not prepared:
        earlier = _other_versions(builder)
        note = f" (version {', '.join(earlier)}, which is there, is stored otherwise)" if earlier else ""
        raise UserError(f"tfds:{name} is not prepared in {builder.data_dir}{note}: run {command}")
    formats = builder.info.available_file_formats()
    if not any(kind.value == FILE_FORMAT for kind in formats):
        have = ", ".join(sorted(kind.value for kind in formats))
        raise UserError(
            f"{builder.data_dir} holds {have} files, not {FILE_FORMAT}: remove it and run {command}"
        )


def _other_versions(builder: tfds.core.DatasetBuilder) -> list[str]:
    """Versions of a set that lie beside the one that is read, such as those of an earlier release."""
    folders = pathlib.Path(builder.data_dir).parent.glob("*.*.*/dataset_info.json")
    return sorted({folder.parent.name for folder in folders} - {str(builder.version)})


def _check_configuration(name: str) -> None:
    name, _, configuration = name.partition("/")
    there = tfds.builder_cls(name).builder_configs
    if configuration and "/" not in configuration and configuration not in there:
        nearest = difflib.get_close_matches(configuration, there, n=5, cutoff=0) or ["none"]
        raise UserError(
            f"tfds:{name} has no configuration '{configuration}'; the nearest are {', '.join(nearest)}"
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without TFDS' warnings about a data set that is not there: the error says so in one line."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@functools.cache
def _register_builders(name: str) -> None:
    # TFDS finds a builder by its class, which registers itself on import. Phantoms need JAX, others do not.
    own = [module.name for module in pkgutil.iter_modules(builders.__path__)]
    importlib.import_module(f"{builders.__name__}.{name if name in own else 'public'}")


def _resolved_name(builder: tfds.core.DatasetBuilder) -> str:
    config = f"/{builder.builder_config.name}" if builder.builder_config else ""
    return f"tfds:{builder.name}{config}"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
