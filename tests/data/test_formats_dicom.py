"""DICOM made by pydicom alone: what is read, what is refused, and what a written copy holds."""

import os
import warnings

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
    generate_uid,
)

from medgan_jax.data import formats
from medgan_jax.data.formats import image as limits
from medgan_jax.errors import UserError

GENERATOR = np.random.default_rng(9)
SERIES = generate_uid()
STORED = GENERATOR.integers(0, 4096, (7, 6)).astype(np.uint16)


def dicom(path, pixels, *, syntax=ExplicitVRLittleEndian, bits=12, compress=None, **elements):
    """A CT slice, or what `elements` make of it; None leaves an element out."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
    colour = pixels.shape[-1] == 3
    given = {
        "Modality": "CT",
        "PatientName": "Phantom^One",
        "SeriesInstanceUID": SERIES,
        "StudyInstanceUID": SERIES,
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "Rows": pixels.shape[-3 if colour else -2],
        "Columns": pixels.shape[-2 if colour else -1],
        "SamplesPerPixel": 3 if colour else 1,
        "PhotometricInterpretation": "RGB" if colour else "MONOCHROME2",
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
        "BitsAllocated": pixels.dtype.itemsize * 8,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelSpacing": [0.75, 0.5],
        "SliceThickness": 3,
        "ImagePositionPatient": [-100, -90, 40],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "RescaleSlope": 1,
        "RescaleIntercept": -1024,
        **({"PlanarConfiguration": 0} if colour else {}),
        **elements,
    }
    for keyword, value in given.items():
        if value is not None:
            setattr(dataset, keyword, value)
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    dataset.PixelData = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    dataset["PixelData"].VR = "OW" if pixels.dtype.itemsize > 1 else "OB"
    if compress:
        dataset.compress(compress, generate_instance_uid=False)
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)
    return path


def slices(folder, count=5, step=3.0, **elements):
    """A series whose file names run against its positions."""
    folder.mkdir(exist_ok=True)
    stored = GENERATOR.integers(0, 4096, (count, 7, 6)).astype(np.uint16)
    for index in range(count):
        place = {"ImagePositionPatient": [-100, -90, 40 + step * index], "InstanceNumber": index + 1}
        dicom(folder / f"{count - index}.dcm", stored[index], **{**place, **elements})
    return stored


def refused(path, *words):
    with pytest.raises(UserError) as caught:
        formats.read_image(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    for word in words:
        assert word in message, message


def round_trip(path, target, array=None):
    image = formats.read_image(path)
    formats.write_image(target, image, array)
    back = formats.read_image(target)
    if array is None:
        np.testing.assert_array_equal(back.array, image.array)
    assert (back.unit, back.spacing, back.stored_dtype) == (image.unit, image.spacing, image.stored_dtype)
    return image, back


@pytest.mark.parametrize(
    "options",
    [
        {"syntax": ExplicitVRLittleEndian},
        {"syntax": ImplicitVRLittleEndian},
        {"syntax": ExplicitVRBigEndian},
        {"syntax": DeflatedExplicitVRLittleEndian},
        {"compress": RLELossless},
        {"compress": JPEG2000Lossless},
    ],
)
@pytest.mark.parametrize("signed", [False, True])
def test_ct_is_in_hounsfield_units_under_every_transfer_syntax(tmp_path, options, signed):
    if options.get("compress") == JPEG2000Lossless:
        pytest.importorskip("openjpeg", reason="JPEG 2000 needs pylibjpeg-openjpeg")
    # JPEG 2000 halves an image five times, so it needs some size.
    stored = np.tile(STORED, (10, 11))
    stored = stored.astype(np.int16) - 2048 if signed else stored
    path = dicom(tmp_path / "a.dcm", stored, RescaleSlope=2, **options)
    image, _ = round_trip(path, tmp_path / "b.dcm")
    np.testing.assert_array_equal(image.array[..., 0], stored.astype(int) * 2 - 1024)
    assert image.unit == "HU" and image.spacing == (0.75, 0.5)
    written = pydicom.dcmread(tmp_path / "b.dcm")
    np.testing.assert_array_equal(written.pixel_array, stored)
    expected = ExplicitVRLittleEndian if "compress" in options else options["syntax"]
    assert written.file_meta.TransferSyntaxUID == expected


def test_a_written_copy_is_a_new_instance_that_keeps_the_rest(tmp_path):
    path = dicom(tmp_path / "a.dcm", STORED, SmallestImagePixelValue=0, WindowCenter=40)
    image = formats.read_image(path)
    formats.write_image(tmp_path / "b.dcm", image, np.full(image.array.shape, -1024.0))
    before, after = pydicom.dcmread(path), pydicom.dcmread(tmp_path / "b.dcm")
    assert (
        after.SOPInstanceUID != before.SOPInstanceUID and after.SeriesInstanceUID != before.SeriesInstanceUID
    )
    assert after.file_meta.MediaStorageSOPInstanceUID == after.SOPInstanceUID
    assert after.SourceImageSequence[0].ReferencedSOPInstanceUID == before.SOPInstanceUID
    assert after.ImageType == ["DERIVED", "SECONDARY", "AXIAL"]
    for keyword in (
        "StudyInstanceUID",
        "PatientName",
        "PixelSpacing",
        "ImagePositionPatient",
        "RescaleIntercept",
    ):
        assert after[keyword].value == before[keyword].value
    for keyword in ("BitsStored", "HighBit", "BitsAllocated", "PixelRepresentation", "WindowCenter"):
        assert after[keyword].value == before[keyword].value
    assert after.pixel_array.max() == 0 and after.SmallestImagePixelValue == 0


def test_values_are_rounded_and_clipped_to_the_stored_bits(tmp_path):
    image = formats.read_image(dicom(tmp_path / "a.dcm", STORED))
    values = np.zeros(image.array.shape, np.float32)
    values.flat[:4] = -5000, 5000, 10.4, -1024
    formats.write_image(tmp_path / "b.dcm", image, values)
    back = formats.read_image(tmp_path / "b.dcm").array.ravel()
    np.testing.assert_array_equal(back[:5], [-1024, 4095 - 1024, 10, -1024, 0])


def test_monochrome1_is_inverted_and_restored_but_hounsfield_units_are_not(tmp_path):
    shown = {"PhotometricInterpretation": "MONOCHROME1"}
    plain = {"Modality": "DX", "RescaleSlope": None, "RescaleIntercept": None}
    image, _ = round_trip(dicom(tmp_path / "a.dcm", STORED, **shown, **plain), tmp_path / "b.dcm")
    np.testing.assert_array_equal(image.array[..., 0], 4095 - STORED)
    written = pydicom.dcmread(tmp_path / "b.dcm")
    np.testing.assert_array_equal(written.pixel_array, STORED)
    assert written.PhotometricInterpretation == "MONOCHROME1"
    signed = STORED.astype(np.int16) - 2048
    image, _ = round_trip(dicom(tmp_path / "c.dcm", signed, **shown, **plain), tmp_path / "d.dcm")
    np.testing.assert_array_equal(image.array[..., 0], -1 - signed)
    image, _ = round_trip(dicom(tmp_path / "e.dcm", STORED, **shown), tmp_path / "f.dcm")
    np.testing.assert_array_equal(image.array[..., 0], STORED.astype(int) - 1024)


def test_series_is_sorted_by_position_and_written_under_the_same_names(tmp_path):
    stored = slices(tmp_path / "in")
    (tmp_path / "in" / "notes.txt").write_text("not DICOM")
    image, _ = round_trip(tmp_path / "in", tmp_path / "out")
    np.testing.assert_array_equal(image.array[..., 0], stored.astype(int) - 1024)
    assert image.spacing == (3.0, 0.75, 0.5)
    # Column 2, row 3, slice 4 in LPS is (-100 + 1, -90 + 2.25, 52); RAS turns the signs of x and y.
    np.testing.assert_allclose(image.affine @ [4, 3, 2, 1], [99, 87.75, 52, 1])
    written = [pydicom.dcmread(tmp_path / "out" / f"{5 - index}.dcm") for index in range(5)]
    for index, dataset in enumerate(written):
        np.testing.assert_array_equal(dataset.pixel_array, stored[index])
    assert len({dataset.SeriesInstanceUID for dataset in written} | {SERIES}) == 2
    assert len({dataset.SOPInstanceUID for dataset in written}) == 5


def test_a_tilted_gantry_and_an_oblique_plane_keep_their_geometry(tmp_path):
    tilt = np.array([0, 0.5, 3.0])
    (tmp_path / "in").mkdir()
    for index in range(4):
        place = (np.array([0, 0, 10]) + index * tilt).tolist()
        dicom(tmp_path / "in" / f"{index}.dcm", STORED, ImagePositionPatient=place)
    image = formats.read_image(tmp_path / "in")
    assert image.spacing == pytest.approx((3.0, 0.75, 0.5))
    np.testing.assert_allclose(image.affine[:3, 0], [0, -0.5, 3])


def test_slices_with_their_own_slopes_go_out_under_them(tmp_path):
    (tmp_path / "in").mkdir()
    slopes = (0.5, 2.0, 1.5)
    for index, slope in enumerate(slopes):
        elements = {"Modality": "PT", "Units": "BQML", "RescaleSlope": slope, "RescaleIntercept": 0}
        dicom(tmp_path / "in" / f"{index}.dcm", STORED, ImagePositionPatient=[0, 0, index], **elements)
    image, _ = round_trip(tmp_path / "in", tmp_path / "out")
    np.testing.assert_allclose(image.array[..., 0], STORED * np.array(slopes)[:, None, None])
    assert image.unit == "BQML"


def test_missing_doubled_and_mixed_slices_are_refused_with_their_positions(tmp_path):
    slices(tmp_path / "a")
    (tmp_path / "a" / "3.dcm").unlink()
    refused(tmp_path / "a", "missing", "43 and 49 mm", "40, 43, 49, 52")
    slices(tmp_path / "b")
    dicom(tmp_path / "b" / "again.dcm", STORED, ImagePositionPatient=[-100, -90, 46])
    refused(tmp_path / "b", "doubled slice at 46 mm", "3.dcm", "again.dcm", "40, 43, 46, 46, 49, 52")
    slices(tmp_path / "c")
    dicom(tmp_path / "c" / "wide.dcm", np.zeros((7, 8), np.uint16), ImagePositionPatient=[-100, -90, 55])
    refused(tmp_path / "c", "size", "(7, 6)", "(7, 8)")
    slices(tmp_path / "d")
    turned = {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1], "ImagePositionPatient": [-100, -90, 55]}
    dicom(tmp_path / "d" / "scout.dcm", STORED, **turned)
    refused(tmp_path / "d", "orientation", "scout.dcm")
    slices(tmp_path / "e")
    dicom(tmp_path / "e" / "other.dcm", STORED, SeriesInstanceUID=generate_uid())
    refused(tmp_path / "e", "2 DICOM series", "other.dcm")
    slices(tmp_path / "f", ImagePositionPatient=None)
    refused(tmp_path / "f", "no position")
    slices(tmp_path / "g")
    dicom(tmp_path / "g" / "aside.dcm", STORED, ImagePositionPatient=[-60, -90, 55])
    refused(tmp_path / "g", "one line")


@pytest.mark.parametrize(
    ("step", "count", "elements", "missing"),
    [
        (9.0, 2, {"SpacingBetweenSlices": 3}, True),
        (6.0, 5, {"SpacingBetweenSlices": 3}, True),
        (6.0, 5, {"SpacingBetweenSlices": -3}, True),
        (3.0, 5, {"SpacingBetweenSlices": 1.5, "SliceThickness": None}, True),
        (6.0, 5, {"SpacingBetweenSlices": 3, "SliceThickness": 2}, True),
        (3.0, 5, {"SpacingBetweenSlices": 3}, False),
        (4.0, 5, {"SpacingBetweenSlices": 3, "SliceThickness": None}, False),
        (1.5, 5, {"SpacingBetweenSlices": 3}, False),
        (6.0, 5, {"SliceThickness": 3}, False),
        (6.0, 5, {"SpacingBetweenSlices": 0}, False),
        # The gap between slices of 5 mm in place of their distance, and a number that slices which touch belie.
        (6.0, 5, {"SpacingBetweenSlices": 1, "SliceThickness": 5}, False),
        (3.0, 5, {"SpacingBetweenSlices": 1}, False),
    ],
)
def test_even_steps_that_the_headers_contradict_are_refused(tmp_path, step, count, elements, missing):
    slices(tmp_path / "in", count, step, **elements)
    if missing:
        given = f"{abs(elements['SpacingBetweenSlices']):g} mm"
        words = f"the step is {step:g} mm", f"SpacingBetweenSlices {given}", f"positions: 40, {40 + step:g}"
        refused(tmp_path / "in", "missing", *words)
        return
    image, _ = round_trip(tmp_path / "in", tmp_path / "out")
    assert image.spacing == (step, 0.75, 0.5)


def test_interleaved_echoes_keep_their_gaps_in_instance_numbers(tmp_path):
    stored = slices(tmp_path / "in", Modality="MR", RescaleSlope=None, RescaleIntercept=None)
    for number, path in enumerate(sorted((tmp_path / "in").iterdir())):
        dataset = pydicom.dcmread(path)
        dataset.InstanceNumber = 1 + 3 * number
        dataset.save_as(path)
    np.testing.assert_array_equal(formats.read_image(tmp_path / "in").array[..., 0], stored)


def test_odd_entries_of_a_series_are_named(tmp_path):
    slices(tmp_path / "in")
    for entry, make in {
        "0.dcm": lambda path: path.symlink_to("nowhere"),
        "9.dcm": lambda path: path.mkdir(),
        "8.ima": os.mkfifo,
    }.items():
        make(tmp_path / "in" / entry)
        with pytest.raises(UserError, match=rf"in/{entry}: not a file, or a link to nothing"):
            formats.read_image(tmp_path / "in")
        (tmp_path / "in" / entry).rename(tmp_path / f"was_{entry}")
    (tmp_path / "in" / "reports").mkdir()
    os.mkfifo(tmp_path / "in" / "pipe")
    assert len(formats.read_image(tmp_path / "in").array) == 5


@pytest.mark.parametrize(
    ("elements", "unit"),
    [
        ({}, "HU"),
        ({"RescaleType": "HU"}, "HU"),
        ({"RescaleType": "US"}, "raw"),
        ({"RescaleSlope": None, "RescaleIntercept": None}, "raw"),
        ({"RescaleIntercept": None}, "raw"),
        ({"RescaleSlope": ""}, "raw"),
        ({"Modality": "MR"}, "raw"),
    ],
)
def test_only_a_rescaled_ct_is_in_hounsfield_units(tmp_path, elements, unit):
    path = dicom(tmp_path / "a.dcm", STORED, **elements)
    image, _ = round_trip(path, tmp_path / "b.dcm")
    assert image.unit == unit
    if elements.get("RescaleSlope", 1) is None:
        np.testing.assert_array_equal(image.array[..., 0], STORED)
    formats.write_image(
        tmp_path / "c.dcm", formats.with_storage(image, np.uint8, "label"), STORED[..., None] % 3
    )
    back = formats.read_image(tmp_path / "c.dcm")
    assert back.unit == "raw"
    np.testing.assert_array_equal(back.array[..., 0], STORED % 3)


def test_a_truncated_slice_is_named(tmp_path):
    slices(tmp_path / "in")
    path = tmp_path / "in" / "2.dcm"
    content = path.read_bytes()
    for length in range(0, len(content) - 1, 97):
        path.write_bytes(content[:length])
        with pytest.raises(UserError, match=r"2\.dcm"):
            formats.read_image(tmp_path / "in")


def test_multi_frame_files_are_volumes(tmp_path):
    stored = GENERATOR.integers(0, 4096, (4, 7, 6)).astype(np.uint16)
    path = dicom(tmp_path / "plain.dcm", stored, NumberOfFrames=4, SpacingBetweenSlices=2.5)
    image, _ = round_trip(path, tmp_path / "b.dcm")
    np.testing.assert_array_equal(image.array[..., 0], stored.astype(int) - 1024)
    assert image.spacing == (2.5, 0.75, 0.5)

    def sequence(**elements):
        item = Dataset()
        for keyword, value in elements.items():
            setattr(item, keyword, value)
        return [item]

    shared = sequence(
        PixelMeasuresSequence=sequence(PixelSpacing=[0.4, 0.3], SliceThickness=9),
        PlaneOrientationSequence=sequence(ImageOrientationPatient=[1, 0, 0, 0, 1, 0]),
        PixelValueTransformationSequence=sequence(RescaleSlope=2, RescaleIntercept=-10, RescaleType="HU"),
    )
    heights = [30, 10, 20, 0]
    frames = [
        sequence(PlanePositionSequence=sequence(ImagePositionPatient=[0, 0, height]))[0] for height in heights
    ]
    alone = dict.fromkeys(
        (
            "PixelSpacing",
            "ImagePositionPatient",
            "ImageOrientationPatient",
            "RescaleSlope",
            "RescaleIntercept",
        )
    )
    groups = {"SharedFunctionalGroupsSequence": shared, "PerFrameFunctionalGroupsSequence": frames}
    path = dicom(tmp_path / "enhanced.dcm", stored, NumberOfFrames=4, **alone, **groups)
    image, _ = round_trip(path, tmp_path / "b.dcm")
    np.testing.assert_array_equal(image.array[..., 0], stored[[3, 1, 2, 0]].astype(int) * 2 - 10)
    assert image.spacing == (10.0, 0.4, 0.3) and image.unit == "HU"
    np.testing.assert_array_equal(pydicom.dcmread(tmp_path / "b.dcm").pixel_array, stored)
    formats.write_image(
        tmp_path / "label.dcm", formats.with_storage(image, np.uint8, "label"), image.array > 0
    )
    np.testing.assert_array_equal(formats.read_image(tmp_path / "label.dcm").array, image.array > 0)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_colour_and_eight_bits_of_odd_length(tmp_path, syntax):
    stored = GENERATOR.integers(0, 256, (3, 5, 3)).astype(np.uint8)
    plain = {"Modality": "US", "RescaleSlope": None, "RescaleIntercept": None, "bits": 8, "syntax": syntax}
    image, _ = round_trip(dicom(tmp_path / "a.dcm", stored, **plain), tmp_path / "b.dcm")
    np.testing.assert_array_equal(image.array, stored)
    formats.write_image(tmp_path / "grey.dcm", image, stored[..., 0])
    written = pydicom.dcmread(tmp_path / "grey.dcm")
    assert written.PhotometricInterpretation == "MONOCHROME2" and "PlanarConfiguration" not in written
    np.testing.assert_array_equal(formats.read_image(tmp_path / "grey.dcm").array[..., 0], stored[..., 0])


def test_palette_colour_comes_and_goes_as_colour(tmp_path):
    index = GENERATOR.integers(0, 256, (8, 6)).astype(np.uint8)
    tables = GENERATOR.integers(0, 256, (3, 256)).astype(np.uint16)
    elements = {"PhotometricInterpretation": "PALETTE COLOR", "RescaleSlope": None, "RescaleIntercept": None}
    for name, table in zip(("Red", "Green", "Blue"), tables, strict=True):
        elements[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        elements[f"{name}PaletteColorLookupTableData"] = (table * 257).astype("<u2").tobytes()
    path = dicom(tmp_path / "a.dcm", index, bits=8, Modality="US", **elements)
    image, _ = round_trip(path, tmp_path / "b.dcm")
    np.testing.assert_array_equal(image.array, tables.T[index])


def test_label_map_in_the_geometry_of_a_series(tmp_path):
    slices(tmp_path / "in")
    image = formats.read_image(tmp_path / "in")
    labels = GENERATOR.integers(0, 3, image.spatial_shape)
    formats.write_image(tmp_path / "out", formats.with_storage(image, np.uint8, "label"), labels)
    back = formats.read_image(tmp_path / "out")
    np.testing.assert_array_equal(back.array[..., 0], labels)
    assert back.unit == "raw" and back.stored_dtype == np.uint8
    formats.check_geometry(image, back)


def test_what_cannot_be_read_right_is_refused(tmp_path):
    path = tmp_path / "a.dcm"
    for elements, word in [
        ({"Rows": 65535, "Columns": 65535}, "claims"),
        ({"Rows": 5}, "bytes of pixels"),
        ({"PhotometricInterpretation": "HSV"}, "HSV"),
        ({"HighBit": 15}, "high bit 15"),
        ({"RescaleSlope": 0}, "RescaleSlope is 0"),
        ({"PixelSpacing": [1, 2, 3]}, "PixelSpacing"),
        ({"NumberOfFrames": 1000000}, "claims"),
        ({"ModalityLUTSequence": [Dataset()]}, "Modality LUT"),
    ]:
        refused(dicom(path, STORED, **elements), word)
    path.write_bytes(b"\0" * 400)
    refused(path, "no DICM mark")
    dicom(path, STORED)
    dataset = pydicom.dcmread(path)
    del dataset.PixelData
    dataset.save_as(path)
    refused(path, "no pixel data")


def test_a_deflated_file_that_grows_without_end_is_refused(tmp_path, monkeypatch):
    path = dicom(tmp_path / "a.dcm", np.zeros((500, 500), np.uint16), syntax=DeflatedExplicitVRLittleEndian)
    assert path.stat().st_size < 5000
    monkeypatch.setattr(limits, "MAXIMUM_BYTES", 400_000)
    refused(path, "claims 5")


def test_floating_point_pixels_are_exact(tmp_path):
    values = GENERATOR.normal(size=(7, 6)).astype(np.float32)
    dataset = pydicom.dcmread(dicom(tmp_path / "a.dcm", STORED, RescaleSlope=None, RescaleIntercept=None))
    for keyword in ("PixelData", "BitsStored", "HighBit", "PixelRepresentation"):
        delattr(dataset, keyword)
    dataset.BitsAllocated, dataset.FloatPixelData, dataset.Modality = 32, values.tobytes(), "MR"
    dataset.save_as(tmp_path / "a.dcm")
    image, _ = round_trip(tmp_path / "a.dcm", tmp_path / "b.dcm")
    np.testing.assert_array_equal(image.array[..., 0], values)


def test_files_without_a_suffix_are_known_by_their_content(tmp_path):
    dicom(tmp_path / "IM0001", STORED)
    assert formats.format_of(tmp_path / "IM0001") == "dicom"
    round_trip(tmp_path / "IM0001", tmp_path / "IM0002")


def test_reading_bent_files_says_nothing(tmp_path, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = dicom(tmp_path / "a.dcm", STORED, PatientID="x" * 80, StudyDate="someday")
    formats.read_image(path)
    assert capfd.readouterr().err == ""
