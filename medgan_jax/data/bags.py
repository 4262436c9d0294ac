"""Bags: the patches of one slide, or the images of one subject, as one record."""

import functools
from collections import defaultdict

import numpy as np

from medgan_jax.data.records import Record, Records, Source, digest
from medgan_jax.errors import UserError


class _Bags(Records):
    def __init__(self, source: Source, size: int):
        members = defaultdict(list)
        for index, subject in enumerate(source.subjects):
            members[subject].append(index)
        # A last bag that is not full takes its subject's first images once more.
        self._members = [
            [indices[(start + n) % len(indices)] for n in range(size)]
            for indices in members.values()
            for start in range(0, len(indices), size)
        ]
        ids = [f"{source.subjects[bag[0]]}/{source.ids[bag[0]]}" for bag in self._members]
        subjects = [source.subjects[bag[0]] for bag in self._members]
        super().__init__(source.name, ids, subjects, class_names=source.class_names)
        self._source = source

    @functools.cached_property
    def fingerprint(self) -> str:
        return digest(self._source.fingerprint, self._members)

    def read(self, index: int) -> Record:
        records = [self._source[member] for member in self._members[index]]
        fields = [name for name, value in records[0].items() if not isinstance(value, str)]
        bag = {name: np.stack([record[name] for record in records]) for name in fields}
        if "label" in bag:
            if len(set(bag["label"].tolist())) > 1:
                raise UserError(
                    f"'{self.name}' gives images of subject '{self.subjects[index]}' different labels: a bag "
                    "has one"
                )
            bag["label"] = bag["label"][0]
        return bag


def bags(source: Source, size: int) -> Source:
    """Records of `size` images of one subject, `image` (size, *S, C), with their common `label`.

    Every image is in one bag; the last bag of a subject is filled up with its first images.
    """
    return _Bags(source, size)
