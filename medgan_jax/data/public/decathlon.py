"""Tasks of the Medical Segmentation Decathlon, which are all laid out alike."""

from functools import partial

from medgan_jax.data.public import readers
from medgan_jax.data.public.fields import labels
from medgan_jax.data.public.layout import UNLABELLED, Field, Part, PublicSet


def decathlon(
    task: str,
    prefix: str,
    name: str,
    anatomy: str,
    modality: str,
    training: Field,
    test: Field,
    notes: str = "",
) -> PublicSet:
    """One task; its images for testing come without labels, so the training cases are split."""
    where = {"id": r"\d+"}
    expected = partial(readers.decathlon_cases, task=task, prefix=prefix)
    return PublicSet(
        name=name,
        title=f"Medical Segmentation Decathlon, {task}",
        anatomy=anatomy,
        modality=modality,
        citation="Antonelli et al., The Medical Segmentation Decathlon, Nature Communications 13, 2022",
        licence="CC BY-SA 4.0",
        terms="http://medicaldecathlon.com/",
        steps=(f"Download {task}.tar by the links of the page of the terms and extract it.",),
        notes=notes,
        forms={
            "": (
                Part((training, labels(f"labelsTr/{prefix}_{{id}}.nii.gz")), None, where, expected),
                Part((test,), UNLABELLED, where),
            )
        },
    )
