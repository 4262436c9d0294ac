"""Sources from folders of image files and from archives of arrays, with every file checked before use.

Layouts, by the first rule that fits:

1. `train.npz`, `test.npz` (and `validation.npz`) with arrays `images`, or `raw` with `slope` and `intercept`
   (image = raw * slope + intercept); `labels`, `masks` and any other array with one entry per image; `ids`; a
   subject column (below); `class_names`. A 3-dimensional array holds 2D images; in a 4-dimensional one a last
   axis of at most 4 holds channels, otherwise the images are volumes.
2. `train/`, `test/` (and `validation/`), each laid out as in 4 or 5.
3. Domain sub-folders, each laid out as in 4, or `trainA/ trainB/ testA/ testB/`: their records together, with
   the name of the domain as 'domain' in the metadata. `open_domains` gives each domain as a source.
4. `images/`, or images in the folder itself, beside `labels/`, `masks/` or any other sub-folder whose files
   have the same names before the suffix: each is a target named like its sub-folder, in the singular. XML
   files in Pascal VOC form are bounding boxes. A sub-folder of `images/` with DICOM files is a volume.
5. Paired sub-folders such as `A/ B/`, without images beside them; their names, of `labels/` and `masks/` in
   the singular, are the fields of the records.

Which part a record belongs to says, for 3 to 5, the table `split.csv` (or the one table with the columns `id`
and `split`; for domains it may stand beside them, with a column `domain`) or the lists of names
`splits/train.txt`, ... Without them the fifth of the subjects whose hashes come first are the test part.
Where no validation part is named, a fifth of the training subjects is, in the same way (`records.held_out`).
A subject in two parts is an error; files of one name in `train/` and `test/`, such as `0001.png`, are not.

The subject of a record is the table's first column among `subject`, `patient`, `case`, or else the first that
ends in `group`. Without such a column the name tells: `sub-01` for BIDS names, `p01` for `p01_slice12` (what
stands before the last number, if there is a number in that, too), otherwise the whole name.
"""

import concurrent.futures
import contextlib
import csv
import dataclasses
import functools
import hashlib
import itertools
import os
import pathlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from xml.etree import ElementTree

import numpy as np

from medgan_jax.data import formats
from medgan_jax.data.records import (
    VALIDATION_FRACTION,
    Record,
    Records,
    Source,
    digest,
    held_out,
    split_validation,
)
from medgan_jax.errors import UserError

SPLITS = ("train", "validation", "test")
TEST_FRACTION = 0.2

_SPLIT_NAMES = {"training": "train", "val": "validation", "valid": "validation", "testing": "test"}
_SINGULAR = {
    "images": "image",
    "labels": "label",
    "masks": "mask",
    "targets": "target",
    "annotations": "boxes",
}
_MAPS = ("label", "mask")
_SUBJECT_COLUMNS = ("subject", "patient", "case")
_CHECKING_THREADS = 8
_MAXIMUM_CHANNELS = 4

Table = dict[str, dict[str, str]]
Folders = dict[str | None, pathlib.Path]


@dataclasses.dataclass(frozen=True)
class _Entry:
    """One record before it is read: its files by field, its part, and what a table says of it.

    known: whether a table or the form of the name tells the subject; if not, it is just the name of the file.
    """

    id: str
    files: Mapping[str, pathlib.Path]
    subject: str
    known: bool
    split: str | None
    row: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class _Content:
    """What the check of a file found. binary: one channel of only 0 and 255, or 0 and 1, as masks are.

    path, spacing, affine: as those of `MedicalImage`; the last two where the file has an affine.
    """

    path: pathlib.Path
    size: int
    digest: str
    shape: tuple[int, ...] = ()
    binary: bool = False
    spacing: tuple[float, ...] | None = None
    affine: np.ndarray | None = None

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """(H, W) or (D, H, W)."""
        return self.shape[:-1]


class FolderSource(Records):
    """Records in image files; the module describes the layouts, `open_folder` opens them.

    Targets named 'label' or 'mask', and those whose files are all binary, are int32 maps (binary ones of 0
    and 1); other fields are float32 in natural units. class_names: the words behind a class 'label' of the
    table, and behind the 'box_labels' of boxes.
    """

    def __init__(
        self,
        name: str,
        root: pathlib.Path,
        entries: Sequence[_Entry],
        class_names: Mapping[str, Sequence[str]],
    ):
        super().__init__(
            name,
            [entry.id for entry in entries],
            [entry.subject for entry in entries],
            [entry.row for entry in entries],
            class_names.get("label") or class_names.get("boxes") or (),
        )
        self._entries, self._class_names = tuple(entries), class_names
        self._contents = _check_all({path: field for entry in entries for field, path in entry.files.items()})
        self._binary = {field for field in entries[0].files if self._is_binary(field)}
        self._check_grids()
        self.fingerprint = digest(
            [(path.relative_to(root).as_posix(), c.size, c.digest) for path, c in self._contents.items()],
            self.ids,
            self.subjects,
            [entry.row.get("label") for entry in entries],
        )

    def read(self, index: int) -> Record:
        entry, record = self._entries[index], {}
        for field, path in entry.files.items():
            if _is_xml(path):
                boxes, names = _read_boxes(path)
                labels = [self._class_names["boxes"].index(name) for name in names]
                record |= {"boxes": boxes, "box_labels": np.array(labels, np.int32)}
            elif field in self._binary:
                record[field] = (_read_image(path, field).array > 0).astype(np.int32)
            else:
                array = _read_image(path, field).array
                record[field] = array.astype(np.int32 if field in _MAPS else np.float32)
        if "label" in self._class_names and "label" not in record:
            record["label"] = np.int32(self._class_names["label"].index(entry.row["label"]))
        return record

    def shapes(self, field: str) -> list[tuple[int, ...]] | None:
        if field not in self._entries[0].files or field == "boxes":
            return None
        return [self._contents[entry.files[field]].shape for entry in self._entries]

    def _check_grids(self) -> None:
        """Refuses fields of a record that do not lie on the grid of its image, or of its first field."""
        for entry in self._entries:
            contents = {
                field: self._contents[path] for field, path in entry.files.items() if not _is_xml(path)
            }
            first = contents.pop("image", None) or contents.pop(next(iter(contents), None), None)
            for field, content in contents.items():
                # Without an affine only maps are known to have the image's size: inputs may be smaller.
                both_placed = first.affine is not None and content.affine is not None
                if both_placed or field in (*_MAPS, *self._binary):
                    formats.check_geometry(first, content)

    def _is_binary(self, field: str) -> bool:
        # Without 'image' other fields are paired domains, which stay in the units of their files.
        is_target = field in _MAPS or (field != "image" and "image" in self._entries[0].files)
        return is_target and all(self._contents[entry.files[field]].binary for entry in self._entries)

    def path(self, index: int, field: str = "image") -> pathlib.Path:
        """The file that a record's field is read from, for its geometry."""
        return self._entries[index].files[field]


class ArchiveSource(Records):
    """Records in the arrays of one npz archive; `rows` adds what a table says of its ids.

    known_subjects: those that a column or the form of the id tells; others are just the ids of their records.
    """

    def __init__(self, name: str, path: pathlib.Path, rows: Table):
        arrays, self.fingerprint = _load_archive(path, *_stamp(path))
        count = len(arrays["image"])
        per_record = {
            field: array
            for field, array in arrays.items()
            if array.shape[:1] == (count,) and field not in ("ids", "class_names")
        }
        self._arrays = {field: array for field, array in per_record.items() if array.dtype.kind in "biuf"}
        ids = [str(value) for value in arrays.get("ids", range(count))]
        columns = {field: array for field, array in per_record.items() if array.ndim == 1}
        metadata = [
            {**rows.get(id, {}), **{field: str(column[index]) for field, column in columns.items()}}
            for index, id in enumerate(ids)
        ]
        found = [_subject(id, row) for id, row in zip(ids, metadata, strict=True)]
        self.known_subjects = frozenset(subject for subject, known in found if known)
        subjects = [subject for subject, _ in found]
        super().__init__(name, ids, subjects, metadata, [str(word) for word in arrays.get("class_names", ())])

    def read(self, index: int) -> Record:
        record = {field: array[index] for field, array in self._arrays.items()}
        if "slope" in record and "intercept" in record:
            record["image"] = record["image"] * record["slope"] + record["intercept"]
        shape = record["image"].shape
        return {field: _with_type(field, _with_channels(value, shape)) for field, value in record.items()}


class _Domains(Records):
    """The records of several sources in turn, each with its domain in the metadata."""

    def __init__(self, name: str, domains: Mapping[str, Source]):
        self._places = [(source, index) for source in domains.values() for index in range(len(source))]
        super().__init__(
            name,
            [source.ids[index] for source, index in self._places],
            [source.subjects[index] for source, index in self._places],
            [{**row, "domain": domain} for domain, source in domains.items() for row in source.metadata],
        )
        self.fingerprint = digest([(domain, source.fingerprint) for domain, source in domains.items()])

    def read(self, index: int) -> Record:
        source, position = self._places[index]
        return source[position]


def open_folder(path: str | pathlib.Path, *, split: str) -> Source:
    """The records of one part ('train', 'validation', 'test', or another that its table names) of a folder.

    Every file of that part is read and checked, once in the process, and the fingerprint taken. Raises
    UserError, with the file's name, for a missing or empty folder, a file that cannot be read, values that
    are not finite, names or grids that do not pair, a subject in two parts, and a part without records.
    """
    root, split = _folder(path), _SPLIT_NAMES.get(split, split)
    with _opening(root):
        if archives := _archives(root):
            return _open_archive(root, archives, split)
        if domains := _domains(root):
            return _Domains(root.name, _open_domains(root, domains, split))
        return _open_part(root, _part_folders(root) or {None: root}, split)


def open_domains(path: str | pathlib.Path, *, split: str) -> dict[str, Source]:
    """The unpaired domains of a folder as sources by name: those that have records in this part.

    Reads layout 3 of the module, and sub-folders such as `A/ B/` (also inside `train/`, `test/`) whose files
    need not pair. Raises UserError like `open_folder`.
    """
    root, split = _folder(path), _SPLIT_NAMES.get(split, split)
    with _opening(root):
        domains = _domains(root) or _folders_of_images(root)
        if len(domains) < 2:
            raise UserError(
                f"{root} holds no domains: it needs a sub-folder of images for each, such as A/ and B/"
            )
        return _open_domains(root, domains, split)


def _folders_of_images(root: pathlib.Path) -> dict[str, Folders]:
    """Sub-folders such as `A/ B/` with their folders by part, also inside `train/`, `test/`."""
    parts = _part_folders(root) or {None: root}
    names = sorted({folder.name for part in parts.values() for folder in _folders(part) if _files(folder)})
    return {
        name: {part: folder / name for part, folder in parts.items() if (folder / name).is_dir()}
        for name in names
    }


@contextlib.contextmanager
def _opening(root: pathlib.Path) -> Iterator[None]:
    """Turns what the file system refuses into a UserError, and every UserError into one line."""
    try:
        yield
    except UserError as error:
        # Names in tables may hold line breaks.
        if len(str(error).splitlines()) > 1:
            raise UserError(" ".join(str(error).split())) from error
        raise
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"{error.filename or root} cannot be read ({reason}): mend it or take it out"
        ) from error


def _folder(path: str | pathlib.Path) -> pathlib.Path:
    try:
        root = pathlib.Path(path).expanduser().resolve()
        if not root.is_dir():
            reason = "is a file, not a folder" if root.exists() else "does not exist"
            raise UserError(f"data folder {path} {reason}: name a folder of images, 'phantom' or 'tfds:NAME'")
        empty = not _listing(root)
    except (OSError, RuntimeError, ValueError) as error:
        # Links in a circle and unknown users are RuntimeErrors, names that hold a zero ValueErrors.
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"data folder {path} cannot be read ({reason})") from error
    if empty:
        raise UserError(f"data folder {path} is empty")
    return root


def _listing(folder: pathlib.Path) -> list[pathlib.Path]:
    """What a folder holds, in order of names; hidden files and the like are none of its contents."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith((".", "__")))


def _folders(folder: pathlib.Path) -> list[pathlib.Path]:
    return [path for path in _listing(folder) if path.is_dir()]


def _files(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """Images, series and boxes directly in a folder, by the name before the suffix."""
    found = {}
    for path in _listing(folder):
        name = _name(path)
        if name is None:
            continue
        if name in found:
            raise UserError(
                f"{folder} holds {found[name].name} and {path.name}, two files of one name: keep one"
            )
        found[name] = path
    return found


def _name(path: pathlib.Path) -> str | None:
    """The name before the suffix; None for what is neither an image nor boxes."""
    if path.is_dir():
        return path.name if path.parent.name in _SINGULAR and _is_series(path) else None
    if not path.suffix:
        return path.name if path.is_file() and formats.format_of(path) else None
    return _without_suffix(path.name)


def _is_series(folder: pathlib.Path) -> bool:
    first = next((path for path in _listing(folder) if path.is_file()), None)
    return first is not None and formats.format_of(first) == "dicom"


def _is_xml(path: pathlib.Path) -> bool:
    return path.suffix == ".xml"


def _contents(path: pathlib.Path) -> list[pathlib.Path]:
    """A file, or the files of a series; UserError for what cannot be read, such as a link to nothing."""
    if path.is_dir():
        return [file for file in _listing(path) if file.is_file()]
    if not path.is_file():
        what = (
            "a link to nothing" if path.is_symlink() and not path.exists() else "neither a file nor a folder"
        )
        raise UserError(f"{path} is {what}: mend it or take it out")
    return [path]


def _without_suffix(name: str) -> str | None:
    """What stands before the suffix of a readable format; None if it has none."""
    for suffix in (".nii.gz", ".xml", *formats.SUFFIXES):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return None


def _part_folders(root: pathlib.Path) -> Folders:
    """`train/`, `validation/`, `test/` and their other spellings, by the name of the part."""
    folders = {
        _SPLIT_NAMES.get(folder.name.lower(), folder.name.lower()): folder for folder in _folders(root)
    }
    return {part: folders[part] for part in SPLITS if part in folders}


def _domains(root: pathlib.Path) -> dict[str, Folders]:
    """The domains of layout 3, each with its folders by part (None: a table or the hash tells the parts)."""
    matches = [
        (re.fullmatch(r"(train|val|valid|validation|test)_?([A-Z])", f.name), f) for f in _folders(root)
    ]
    domains = {}
    for match, folder in matches:
        if match:
            part = _SPLIT_NAMES.get(match[1], match[1])
            domains.setdefault(match[2], {})[part] = folder
    if domains or _files(root) or (root / "images").is_dir() or _part_folders(root):
        return domains
    return {folder.name: {None: folder} for folder in _folders(root) if (folder / "images").is_dir()}


def _open_domains(root: pathlib.Path, domains: Mapping[str, Folders], split: str) -> dict[str, Source]:
    entries = {name: _entries(folders) for name, folders in domains.items()}
    if _table_path(root) is not None:
        # Folders may name their subjects alike, but the rows of one table do not.
        _check_disjoint([e for found in entries.values() for e in found if e.row.get("domain")], root.name)
    parts = {name: _assigned(found, split, name) for name, found in entries.items()}
    if not any(parts.values()):
        raise UserError(_no_records(root, split, [entry for found in entries.values() for entry in found]))
    return {
        name: FolderSource(name, root, part, _class_names(entries[name]))
        for name, part in parts.items()
        if part
    }


def _open_part(root: pathlib.Path, folders: Folders, split: str) -> Source:
    entries = _entries(folders)
    part = _assigned(entries, split, root.name)
    if not part:
        raise UserError(_no_records(root, split, entries))
    return FolderSource(root.name, root, part, _class_names(entries))


def _no_records(root: pathlib.Path, split: str, entries: Iterable[_Entry]) -> str:
    counts = Counter(entry.split for entry in entries)
    there = ", ".join(f"{name} ({count})" for name, count in sorted(counts.items(), key=str))
    return f"{root} has no part '{split}', only {there}: name it in split.csv, or add a sub-folder {split}/"


def _entries(folders: Folders) -> list[_Entry]:
    entries = []
    for part, folder in folders.items():
        columns, table = _columns(folder), _table(folder)
        _check_pairs(folder, columns, table)
        for id in table if table is not None else next(iter(columns.values())):
            row = table[id] if table is not None else {}
            files = {field: files[id] for field, files in columns.items()}
            named = row.get("split", "").strip().lower() or None
            subject, known = _subject(id, row)
            split = part or _SPLIT_NAMES.get(named, named)
            entries.append(_Entry(id, files, subject, known or bool(row), split, row))
    return entries


def _columns(folder: pathlib.Path) -> dict[str, dict[str, pathlib.Path]]:
    """Files by field and name; the field that the others have to match stands first."""
    found = {sub.name: _files(sub) for sub in _folders(folder)}
    found = {name: files for name, files in found.items() if files}
    direct = _files(folder)
    if not direct and "images" not in found:
        if not found:
            raise UserError(
                f"{folder} holds no images: none of its files ends in {', '.join(formats.SUFFIXES)}"
            )
        singular = {name: _SINGULAR.get(name, name) for name in found}
        return {name if singular[name] in found else singular[name]: files for name, files in found.items()}
    images = found.pop("images", None) or direct
    columns = {"image": images}
    for name, files in found.items():
        # A sub-folder of another purpose shares no name with the images; a target has to.
        if name in _SINGULAR or files.keys() & images.keys():
            columns[_SINGULAR.get(name, name)] = files
    return columns


def _check_pairs(folder: pathlib.Path, columns: Mapping[str, Mapping], table: Table | None) -> None:
    first, names = next(iter(columns.items()))
    for field, files in columns.items():
        for id in table if table is not None else sorted(names):
            if id not in files:
                other = "split.csv" if table is not None else names[id].relative_to(folder)
                raise UserError(
                    f"{folder}: '{id}' of {other} has no partner among the files of '{field}': "
                    "add it, or take the record out"
                )
        if table is None:
            for id in sorted(files.keys() - names.keys()):
                raise UserError(
                    f"{folder}: {files[id].relative_to(folder)} has no partner among the files of '{first}': "
                    "add it, or take it out"
                )


def _table(folder: pathlib.Path) -> Table | None:
    """What is known of each id: from a csv table, or from lists of names; None where there is neither."""
    if (path := _table_path(folder)) is not None:
        return _read_table(path)
    beside = _table_path(folder.parent)
    if beside is not None:
        rows = {id: row for id, row in _read_table(beside).items() if row.get("domain") == folder.name}
        if rows:
            return rows
    return _read_lists(folder / "splits") or None


def _read_lists(folder: pathlib.Path) -> Table:
    """The part of each id that the lists `train.txt`, `validation.txt`, `test.txt` name."""
    rows: Table = {}
    for path in sorted(folder.glob("*.txt")):
        part = _SPLIT_NAMES.get(path.stem.lower(), path.stem.lower())
        if part not in SPLITS:
            continue
        if not path.is_file():
            raise UserError(f"{path} is not a file: it lists the names of the records of '{part}'")
        for id in path.read_text(encoding="utf-8", errors="replace").split():
            if rows.setdefault(id, {"split": part}) != {"split": part}:
                raise UserError(f"{path} names '{id}', which is in {rows[id]['split']}: keep it in one list")
    return rows


def _table_path(folder: pathlib.Path) -> pathlib.Path | None:
    named = folder / "split.csv"
    if named.is_file():
        return named
    if os.path.lexists(named):
        raise UserError(f"{named} is not a file: it is the table of the records, mend it or take it out")
    files = [path for path in sorted(folder.glob("*.csv")) if path.is_file()]
    tables = [path for path in files if {"id", "split"} <= set(_read_rows(path)[0])]
    if len(tables) > 1:
        names = " and ".join(path.name for path in tables[:2])
        raise UserError(
            f"{folder} has several tables with the columns id and split ({names}): name one split.csv"
        )
    return tables[0] if tables else None


def _read_rows(path: pathlib.Path) -> tuple[list[str], list[dict[str, str]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            return list(reader.fieldnames or ()), [
                {k: v for k, v in row.items() if k and v is not None} for row in reader
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as a table: {error}") from error


def _read_table(path: pathlib.Path) -> Table:
    columns, rows = _read_rows(path)
    if "id" not in columns:
        raise UserError(f"{path} has no column 'id'; its columns are {', '.join(columns) or 'none'}")
    table = {}
    for number, row in enumerate(rows, start=2):
        if not row.get("id"):
            raise UserError(f"{path} has no id in line {number}")
        id = _without_suffix(row["id"]) or row["id"]
        if id in table:
            raise UserError(f"{path} names '{id}' twice: keep one row")
        table[id] = row
    return table


def _subject(id: str, row: Mapping[str, str]) -> tuple[str, bool]:
    """The subject of a record, and whether a column or the form of the name tells it."""
    columns = [*_SUBJECT_COLUMNS, *(column for column in row if column.endswith("group"))]
    for column in columns:
        if row.get(column):
            return row[column], True
    name = _without_suffix(id) or id
    if bids := re.match(r"sub-[A-Za-z0-9]+", name):
        return bids[0], True
    numbered = re.fullmatch(r"(.*\d.*)[_-][A-Za-z]*\d+", name)
    return (numbered[1], True) if numbered else (name, False)


def _assigned(entries: Sequence[_Entry], split: str, name: str) -> list[_Entry]:
    """The entries of a part, after the parts that are not named were held out."""
    if all(entry.split is None for entry in entries):
        test = held_out([entry.subject for entry in entries], TEST_FRACTION, "test", name)
        entries = [dataclasses.replace(e, split="test" if e.subject in test else "train") for e in entries]
    else:
        _check_disjoint(entries, name)
    training = [entry for entry in entries if entry.split == "train"]
    if split == "test" or not training or any(entry.split == "validation" for entry in entries):
        return [entry for entry in entries if entry.split == split]
    if split not in SPLITS:
        return [entry for entry in entries if entry.split == split]
    held = held_out([entry.subject for entry in training], VALIDATION_FRACTION, "validation", name)
    return [entry for entry in training if (entry.subject in held) == (split == "validation")]


def _check_disjoint(entries: Iterable[_Entry], name: str) -> None:
    """UserError if a known subject is in two parts."""
    first: dict[str, _Entry] = {}
    for entry in entries:
        other = first.setdefault(entry.subject, entry)
        if other.split != entry.split and (other.known or entry.known):
            files = " and ".join(str(next(iter(e.files.values()))) for e in (other, entry))
            raise UserError(
                f"'{name}' has subject '{entry.subject}' in {other.split} and in {entry.split} ({files}): a "
                "subject belongs to one part; move one, or name the subjects in a column 'subject' of split.csv"
            )


def _class_names(entries: Sequence[_Entry]) -> dict[str, list[str]]:
    """The words for classes over all parts, so that a class has the same number in each."""
    names = {}
    if entries and all(entry.row.get("label") for entry in entries):
        names["label"] = sorted({entry.row["label"] for entry in entries}, key=_numbers_first)
    boxes = [path for entry in entries for path in entry.files.values() if _is_xml(path)]
    if boxes:
        names["boxes"] = sorted({name for path in boxes for name in _read_boxes(path)[1]})
    return names


def _numbers_first(word: str) -> tuple[int, int, str]:
    return (0, int(word), "") if word.isdecimal() else (1, 0, word)


def _read_boxes(path: pathlib.Path) -> tuple[np.ndarray, list[str]]:
    """Boxes `(K, 4)` as (top, left, bottom, right) in the file's pixels, and the K names of their classes."""
    _contents(path)
    try:
        objects = ElementTree.parse(path).getroot().findall("object")
        corners = [
            [float(o.find("bndbox").findtext(c)) for c in ("ymin", "xmin", "ymax", "xmax")] for o in objects
        ]
        names = [o.findtext("name").strip() for o in objects]
        if not np.isfinite(corners).all():
            raise ValueError("a corner is not a finite number")
    except (OSError, ElementTree.ParseError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise UserError(f"{path} cannot be read as Pascal VOC boxes: {error}") from error
    return np.array(corners, np.float32).reshape(-1, 4), names


def _read_image(path: pathlib.Path, field: str) -> formats.MedicalImage:
    return formats.read_image(path, indexed=field in _MAPS)


def _check_all(files: Mapping[pathlib.Path, str]) -> dict[pathlib.Path, _Content]:
    """What is in each file; one that was checked in this process and has not changed is not read again."""
    with concurrent.futures.ThreadPoolExecutor(_CHECKING_THREADS) as threads:
        found = threads.map(
            lambda path, field: _check(path, field in _MAPS, *_stamp(path)), files, files.values()
        )
        return dict(zip(files, found, strict=True))


def _stamp(path: pathlib.Path) -> tuple[int, int]:
    """Size and time of change of a file, or of the files of a series."""
    try:
        stats = [file.stat() for file in _contents(path)]
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): mend it or take it out") from error
    return sum(stat.st_size for stat in stats), max((stat.st_mtime_ns for stat in stats), default=0)


@functools.cache
def _check(path: pathlib.Path, indexed: bool, size: int, changed: int) -> _Content:
    content = _content_digest(path)
    if _is_xml(path):
        _read_boxes(path)
        return _Content(path, size, content)
    image = formats.read_image(path, indexed=indexed)
    binary = image.channels == 1 and _is_binary(image.array)
    # Pictures give dots per inch for their print.
    spacing = None if image.affine is None else image.spacing
    return _Content(path, size, content, image.array.shape, binary, spacing, image.affine)


def _content_digest(path: pathlib.Path) -> str:
    content = hashlib.sha256()
    for file in _contents(path):
        content.update(file.read_bytes())
    return content.hexdigest()


def _archives(root: pathlib.Path) -> dict[str, pathlib.Path]:
    archives = {_SPLIT_NAMES.get(path.stem.lower(), path.stem.lower()): path for path in root.glob("*.npz")}
    return archives if "train" in archives or "test" in archives else {}


def _open_archive(root: pathlib.Path, archives: Mapping[str, pathlib.Path], split: str) -> Source:
    rows = _table(root) or {}
    parts = [part for part in archives if part in (*SPLITS, split)]
    sources = {part: ArchiveSource(root.name, archives[part], rows) for part in parts}
    _check_archives(sources, archives)
    if split in sources:
        source = sources[split]
        return source if split != "train" or "validation" in sources else split_validation(source)[0]
    if split == "validation" and "train" in sources:
        return split_validation(sources["train"])[1]
    raise UserError(f"{root} has no part '{split}', only {', '.join(sorted(archives))}: add {split}.npz")


def _check_archives(sources: Mapping[str, ArchiveSource], archives: Mapping[str, pathlib.Path]) -> None:
    """UserError if a known subject is in two archives."""
    for one, other in itertools.combinations(sources, 2):
        if shared := sources[one].known_subjects & sources[other].known_subjects:
            raise UserError(
                f"{archives[one]} and {archives[other]} share {len(shared)} of their subjects, such as "
                f"'{min(shared)}': a subject belongs to one part; take its records out of one"
            )


@functools.lru_cache(maxsize=8)
def _load_archive(path: pathlib.Path, size: int, changed: int) -> tuple[dict[str, np.ndarray], str]:
    """The arrays under their singular names, with the images as 'image', and the SHA-256 of the file."""
    arrays = {_SINGULAR.get(name, name): array for name, array in formats.read_arrays(path).items()}
    if "image" not in arrays and "raw" in arrays:
        arrays["image"] = arrays.pop("raw")
    if "image" not in arrays:
        raise UserError(
            f"{path} has neither an array 'images' nor 'raw'; it has {', '.join(arrays) or 'none'}"
        )
    images = arrays["image"]
    if images.ndim not in (3, 4, 5) or images.dtype.kind not in "biuf" or not images.size:
        raise UserError(
            f"{path}: images of shape {images.shape} and dtype {images.dtype} cannot be used; "
            "save numbers as (N,H,W), (N,H,W,C) or (N,D,H,W[,C])"
        )
    _check_columns(path, arrays, len(images))
    for name in arrays.keys() & {"slope", "intercept"}:
        arrays[name] = np.broadcast_to(arrays[name], (len(images),))
    for name, array in arrays.items():
        _check_finite(path, name, array)
        _check_map(path, name, array, images)
        if name != "image" and array.ndim > 2 and _is_binary(array):
            arrays[name] = array > 0
    return arrays, digest(size, _content_digest(path))


def _check_columns(path: pathlib.Path, arrays: Mapping[str, np.ndarray], count: int) -> None:
    """Refuses ids, class names, slopes and intercepts that do not fit `count` images."""
    for name in arrays.keys() & {"slope", "intercept"}:
        if arrays[name].shape not in ((), (1,), (count,)):
            raise UserError(f"{path}: '{name}' has {arrays[name].shape} values for {count} images")
        if arrays[name].dtype.kind not in "iuf":
            raise UserError(f"{path}: '{name}' is of dtype {arrays[name].dtype}; save numbers")
    if "ids" in arrays and arrays["ids"].shape != (count,):
        raise UserError(
            f"{path}: 'ids' has shape {arrays['ids'].shape} for {count} images; save one for each"
        )
    if "class_names" in arrays and arrays["class_names"].ndim != 1:
        raise UserError(
            f"{path}: 'class_names' has shape {arrays['class_names'].shape}; save a list of words"
        )


def _check_map(path: pathlib.Path, name: str, array: np.ndarray, images: np.ndarray) -> None:
    """Refuses maps of another size than the images."""
    if name in _MAPS and array.ndim > 2 and array.shape[:3] != images.shape[:3]:
        raise UserError(
            f"{path}: '{name}' is {array.shape} and the images are {images.shape}; cut them alike"
        )


def _check_finite(path: pathlib.Path, name: str, array: np.ndarray) -> None:
    if array.dtype.kind != "f":
        return
    for number, row in enumerate(np.atleast_1d(array)):
        if not np.isfinite(row).all():
            raise UserError(f"{path}: '{name}' of record {number} holds NaN or infinity: mend or remove it")


def _is_binary(array: np.ndarray) -> bool:
    """Whether whole numbers are only 0 and 255, or 0 and 1, as in masks."""
    if array.dtype.kind not in "iub" or not array.size:
        return False
    return bool(((array == 0) | (array == (255 if array.max() == 255 else 1))).all())


def _with_channels(value: np.ndarray, image: tuple[int, ...]) -> np.ndarray:
    """A map of the image's size with a last axis for channels; other values as they are."""
    has_channels = (len(image) == 3 and image[-1] <= _MAXIMUM_CHANNELS) or len(image) == 4
    spatial = image[:-1] if has_channels else image
    return value[..., None] if np.shape(value) == spatial else value


def _with_type(field: str, value: np.ndarray) -> np.ndarray:
    value = np.asarray(value)
    is_image = value.ndim > 1 and field not in _MAPS and value.dtype.kind != "b"
    return value.astype(np.float32 if is_image or value.dtype.kind == "f" else np.int32)
