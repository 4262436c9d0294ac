"""NIfTI, PNG, JPEG, TIFF and NumPy files of their own libraries come in right and go out as they came."""

import gzip
import io
import math
import struct
import zlib

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image

from medgan_jax.data import formats
from medgan_jax.data.formats import image as limits
from medgan_jax.errors import UserError

GENERATOR = np.random.default_rng(5)
VOLUME = GENERATOR.integers(0, 200, (4, 5, 6))


def refused(path, *words):
    """The one line with which a file is refused: it names the file and holds the words."""
    with pytest.raises(UserError) as caught:
        formats.read_image(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    for word in words:
        assert word in message, message
    return message


def nifti(path, array, affine=None, scaling=None, header=None, kind=nibabel.Nifti1Image):
    picture = kind(array, np.diag([1.0, 2.0, 3.0, 1.0]) if affine is None else affine, header)
    if scaling is not None:
        picture.header.set_slope_inter(*scaling)
    picture.to_filename(path)
    return path


# NIfTI


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("dtype", "scaling"),
    [
        ("u1", None),
        ("i1", None),
        ("i2", (2.0, -1024.0)),
        ("u2", (0.1, 3.0)),
        ("i4", None),
        ("u4", (0.5, 0.0)),
        ("f4", None),
        ("f4", (3.0, 0.7)),
        ("f8", None),
        ("i8", None),
    ],
)
def test_nifti_of_every_type_is_read_as_nibabel_reads_it_and_goes_out_byte_for_byte(
    tmp_path, dtype, scaling, order
):
    header = nibabel.Nifti1Header(endianness=order)
    header.set_data_dtype(np.dtype(dtype).newbyteorder(order))
    header.set_data_shape(VOLUME.shape)
    header.set_sform(np.diag([1.0, 2.0, 3.0, 1.0]), 1)
    header["scl_slope"], header["scl_inter"] = scaling or (1, 0)
    header["vox_offset"] = 352
    stored = VOLUME.astype(np.dtype(dtype).newbyteorder(order))
    path = tmp_path / "in.nii"
    path.write_bytes(header.binaryblock + b"\0\0\0\0" + stored.tobytes(order="F"))

    image = formats.read_image(path)
    expected = nibabel.load(path).get_fdata().transpose(2, 1, 0)[..., None]
    np.testing.assert_allclose(image.array, expected, rtol=1e-6)
    assert image.array.dtype.isnative and image.stored_dtype == np.dtype(dtype)
    assert image.spacing == (3.0, 2.0, 1.0)
    formats.write_image(tmp_path / "out.nii", image)
    assert (tmp_path / "out.nii").read_bytes() == path.read_bytes()


def test_nifti_affine_maps_array_indices_where_nibabel_maps_voxels(tmp_path):
    affine = np.array([[0, -2.0, 0.3, 11], [1.5, 0, 0, -7], [0.2, 0, 3, 90], [0, 0, 0, 1]])
    image = formats.read_image(nifti(tmp_path / "a.nii.gz", VOLUME.astype(np.int16), affine))
    i, j, k = 3, 1, 5
    np.testing.assert_allclose(image.affine @ [k, j, i, 1], affine @ [i, j, k, 1], rtol=1e-5)
    assert image.array[k, j, i, 0] == VOLUME[i, j, k]
    formats.write_image(tmp_path / "b.nii.gz", image, image.array + 1)
    written = nibabel.load(tmp_path / "b.nii.gz")
    np.testing.assert_array_equal(written.affine, nibabel.load(tmp_path / "a.nii.gz").affine)
    np.testing.assert_array_equal(written.get_fdata(), VOLUME + 1)


def test_nifti_extensions_codes_and_units_are_kept(tmp_path):
    picture = nibabel.Nifti1Image(VOLUME.astype(np.float32), np.diag([500.0, 500, 500, 1]))
    picture.set_qform(picture.affine, 3)
    picture.header.set_xyzt_units("micron")
    picture.header["descrip"] = b"kept"
    picture.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"a comment"))
    picture.to_filename(tmp_path / "a.nii")
    image = formats.read_image(tmp_path / "a.nii")
    np.testing.assert_allclose(image.spacing, (0.5, 0.5, 0.5))
    formats.write_image(tmp_path / "b.nii", image, np.zeros_like(image.array))
    written = nibabel.load(tmp_path / "b.nii")
    assert written.header.extensions[0].get_content() == b"a comment"
    assert bytes(written.header["descrip"])[:4] == b"kept" and int(written.header["qform_code"]) == 3


@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 1), (5, 6, 4, 3), (5, 6, 4, 1, 3), (5, 6, 1, 1, 2)])
def test_nifti_axes_beyond_space_are_channels(tmp_path, shape):
    values = GENERATOR.normal(size=shape).astype(np.float32)
    image = formats.read_image(nifti(tmp_path / "a.nii", values))
    channels = math.prod(shape[3:])
    depth = (*shape, 1)[2]
    assert image.array.shape == ((depth, 6, 5, channels) if depth > 1 else (6, 5, channels))
    flat = values.reshape(5, 6, -1, channels)
    np.testing.assert_array_equal(image.array.reshape(-1, 6, 5, channels), flat.transpose(2, 1, 0, 3))
    formats.write_image(tmp_path / "b.nii", image)
    np.testing.assert_array_equal(nibabel.load(tmp_path / "b.nii").get_fdata(), values)


def test_nifti_complex_and_colour_voxels_are_channels(tmp_path):
    wave = (GENERATOR.normal(size=(4, 5, 6)) + 1j * GENERATOR.normal(size=(4, 5, 6))).astype(np.complex64)
    image = formats.read_image(nifti(tmp_path / "wave.nii", wave))
    np.testing.assert_array_equal(image.array[..., 0] + 1j * image.array[..., 1], wave.transpose(2, 1, 0))
    formats.write_image(tmp_path / "out.nii", image)
    np.testing.assert_array_equal(np.asarray(nibabel.load(tmp_path / "out.nii").dataobj), wave)

    colour = np.zeros((4, 5, 6), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    colour["G"] = VOLUME
    image = formats.read_image(nifti(tmp_path / "colour.nii", colour))
    np.testing.assert_array_equal(image.array[..., 1], VOLUME.transpose(2, 1, 0))
    formats.write_image(tmp_path / "out.nii", image)
    np.testing.assert_array_equal(np.asarray(nibabel.load(tmp_path / "out.nii").dataobj), colour)
    formats.write_image(tmp_path / "grey.nii", image, image.array[..., 1])
    np.testing.assert_array_equal(nibabel.load(tmp_path / "grey.nii").get_fdata(), VOLUME)


def test_nifti_two_is_read_and_stays_nifti_two(tmp_path):
    path = nifti(tmp_path / "a.nii.gz", VOLUME.astype(np.uint16), kind=nibabel.Nifti2Image)
    formats.write_image(tmp_path / "b.nii.gz", formats.read_image(path))
    written = nibabel.load(tmp_path / "b.nii.gz")
    assert isinstance(written, nibabel.Nifti2Image)
    np.testing.assert_array_equal(written.get_fdata(), VOLUME)


def test_nifti_result_may_have_other_channels_or_another_dtype(tmp_path):
    image = formats.read_image(nifti(tmp_path / "a.nii", VOLUME.astype(np.int16), scaling=(2.0, 0.0)))
    two = np.concatenate([image.array, image.array * 2], -1)
    formats.write_image(tmp_path / "two.nii", image, two)
    np.testing.assert_allclose(formats.read_image(tmp_path / "two.nii").array, two)
    labels = formats.with_storage(image, np.uint8, "label")
    formats.write_image(tmp_path / "label.nii", labels, VOLUME.transpose(2, 1, 0) % 2)
    written = nibabel.load(tmp_path / "label.nii")
    assert written.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(written.get_fdata(), VOLUME % 2)
    np.testing.assert_array_equal(written.affine, nibabel.load(tmp_path / "a.nii").affine)


def test_integers_are_rounded_and_clipped_to_their_range(tmp_path):
    image = formats.read_image(nifti(tmp_path / "a.nii", VOLUME.astype(np.int16), scaling=(1.0, -1024.0)))
    values = np.full(image.array.shape, 10.6, np.float32)
    values[0, 0, 0], values[0, 0, 1], values[0, 0, 2] = -1024, 1e6, -1e6
    formats.write_image(tmp_path / "b.nii", image, values)
    back = formats.read_image(tmp_path / "b.nii").array[0, 0, :4, 0]
    np.testing.assert_array_equal(back, [-1024, 32767 - 1024, -32768 - 1024, 11])
    with pytest.raises(UserError, match=r"b\.nii.*NaN"):
        formats.write_image(tmp_path / "b.nii", image, values * np.nan)


def patched(path, offset, layout, value):
    content = bytearray(path.read_bytes())
    struct.pack_into(layout, content, offset, value)
    path.write_bytes(bytes(content))


def test_nifti_with_a_lying_header_is_refused(tmp_path):
    def fresh(name="a.nii"):
        return nifti(tmp_path / name, VOLUME.astype(np.int16))

    for offset, layout, value, word in [
        (42, "<h", 32767, "claims"),
        (42, "<h", 3, "more voxels"),
        (42, "<h", -4, "dimensions"),
        (40, "<h", 9, "dimensions"),
        (72, "<h", 32, "bits"),
        (70, "<h", 4096, "data type"),
        (108, "<f", float("nan"), "offset"),
        (108, "<f", 1e30, "claims"),
        (112, "<f", float("inf"), "scl_slope"),
        (280, "<f", float("nan"), "affine"),
        (280, "<f", 0.0, "singular"),
        (344, "<4s", b"ni1\0", ".hdr/.img"),
        (0, "<i", 99, "not a NIfTI"),
    ]:
        path = fresh()
        patched(path, offset, layout, value)
        refused(path, word)
    path = fresh("a.nii.gz")
    content = bytearray(gzip.decompress(path.read_bytes()))
    struct.pack_into("<3h", content, 42, 30000, 30000, 30000)
    path.write_bytes(gzip.compress(bytes(content)))
    refused(path, "claims")


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_nifti_truncated_anywhere_is_refused(tmp_path, name):
    path = nifti(tmp_path / name, VOLUME.astype(np.int16))
    content = path.read_bytes()
    for length in (1, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        refused(path)


def test_not_finite_values_are_refused_unless_asked_for(tmp_path):
    values = VOLUME.astype(np.float32)
    values[0, 0, :2] = np.nan, np.inf
    path = nifti(tmp_path / "a.nii", values)
    refused(path, "2 of 120", "NaN")
    image = formats.read_image(path, finite=False)
    formats.write_image(tmp_path / "b.nii", image)
    np.testing.assert_array_equal(nibabel.load(tmp_path / "b.nii").get_fdata(), values)


# PNG


def reference_png(pixels, bits, colour_type, extra=()):
    """A PNG of (H, W, C) samples whose rows use all five filters in turn, byte by byte."""
    height, width, channels = pixels.shape
    rows = pixels.astype(">u2" if bits == 16 else "u1").reshape(height, -1).view(np.uint8)
    step, out, above = channels * bits // 8, bytearray(), np.zeros(rows.shape[1], np.uint8)
    for number, row in enumerate(rows):
        kind = number % 5
        out.append(kind)
        for place in range(len(row)):
            left = int(row[place - step]) if place >= step else 0
            corner = int(above[place - step]) if place >= step else 0
            up = int(above[place])
            distances = [abs(up - corner), abs(left - corner), abs(left + up - 2 * corner)]
            paeth = [left, up, corner][int(np.argmin(distances))]
            out.append((int(row[place]) - [0, left, up, (left + up) // 2, paeth][kind]) % 256)
        above = row

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    chunks = [(b"IHDR", header), *extra, (b"IDAT", zlib.compress(bytes(out))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks)


@pytest.mark.parametrize(
    ("bits", "channels"), [(8, 1), (8, 2), (8, 3), (8, 4), (16, 1), (16, 2), (16, 3), (16, 4)]
)
def test_png_of_every_kind_is_exact_both_ways(tmp_path, bits, channels):
    pixels = GENERATOR.integers(0, 2**bits, (11, 7, channels)).astype(f"u{bits // 8}")
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    density = (b"pHYs", struct.pack(">IIB", 4000, 4000, 1))
    (tmp_path / "a.png").write_bytes(reference_png(pixels, bits, colour_type, [density]))
    image = formats.read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(image.array, pixels)
    assert image.array.dtype == pixels.dtype
    formats.write_image(tmp_path / "b.png", image)
    np.testing.assert_array_equal(formats.read_image(tmp_path / "b.png").array, pixels)
    with Image.open(tmp_path / "b.png") as picture:
        assert picture.size == (7, 11) and picture.info["dpi"][0] == pytest.approx(101.6)
        if bits == 8 or channels == 1:
            np.testing.assert_array_equal(np.asarray(picture).reshape(pixels.shape), pixels)


def test_png_below_eight_bits_spans_0_to_255_and_keeps_its_depth(tmp_path):
    mask = GENERATOR.integers(0, 2, (9, 13)).astype(bool)
    Image.fromarray(mask).save(tmp_path / "a.png")
    image = formats.read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(image.array[..., 0], mask * 255)
    formats.write_image(tmp_path / "b.png", image, ~mask * 255)
    with Image.open(tmp_path / "b.png") as picture:
        assert picture.mode == "1"
        np.testing.assert_array_equal(np.asarray(picture), ~mask)


def test_png_palette_is_colour_or_indices_and_goes_out_as_palette(tmp_path):
    index = GENERATOR.integers(0, 5, (9, 13)).astype(np.uint8)
    palette = GENERATOR.integers(0, 256, (5, 3)).astype(np.uint8)
    picture = Image.fromarray(index, "L")
    picture.putpalette(palette.ravel().tolist())
    picture.save(tmp_path / "a.png")
    image = formats.read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(image.array, palette[index])
    formats.write_image(tmp_path / "b.png", image)
    with Image.open(tmp_path / "b.png") as written:
        assert written.mode == "P"
        np.testing.assert_array_equal(np.asarray(written.convert("RGB")), palette[index])
    formats.write_image(tmp_path / "c.png", image, 255 - image.array)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "c.png")), 255 - palette[index])

    labels = formats.read_image(tmp_path / "a.png", indexed=True)
    np.testing.assert_array_equal(labels.array[..., 0], index)
    formats.write_image(tmp_path / "d.png", labels, (index + 1) % 5)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "d.png")), (index + 1) % 5)


def test_png_with_any_byte_flipped_or_cut_is_refused(tmp_path):
    pixels = GENERATOR.integers(0, 256, (6, 5, 3)).astype(np.uint8)
    content = reference_png(pixels, 8, 2)
    path = tmp_path / "a.png"
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :])
        refused(path)
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        refused(path)


def test_png_bombs_are_refused_before_they_are_decoded(tmp_path):
    path = tmp_path / "bomb.png"
    pixels = np.zeros((1, 1, 1), np.uint8)
    good = reference_png(pixels, 8, 0)
    for width, height in ((60000, 60000), (2**31 - 1, 2**31 - 1)):
        header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
        body = b"IHDR" + header
        path.write_bytes(good[:12] + body + struct.pack(">I", zlib.crc32(body)) + good[33:])
        refused(path, "claims")
    # Wide enough to be honest about its size, and still too large.
    header = struct.pack(">IIBBBBB", 30000, 30000, 1, 0, 0, 0, 0)
    data = zlib.compress(bytes(30000 * 3751), 1)
    chunks = [(b"IHDR", header), (b"IDAT", data), (b"IEND", b"")]
    content = b"".join(
        struct.pack(">I", len(b)) + n + b + struct.pack(">I", zlib.crc32(n + b)) for n, b in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    refused(path, "limit")


# JPEG


def test_jpeg_is_read_as_pillow_reads_it_and_keeps_its_metadata(tmp_path):
    smooth = np.add.outer(np.arange(40), np.arange(30)).astype(np.uint8)[..., None] * np.array(
        [1, 2, 3], np.uint8
    )
    Image.fromarray(smooth).save(tmp_path / "a.jpg", quality=95, dpi=(300, 300))
    image = formats.read_image(tmp_path / "a.jpg")
    np.testing.assert_array_equal(image.array, np.asarray(Image.open(tmp_path / "a.jpg")))
    formats.write_image(tmp_path / "b.jpg", image)
    with Image.open(tmp_path / "b.jpg") as written:
        assert written.info["dpi"] == (300, 300)
        assert np.abs(np.asarray(written).astype(int) - image.array).mean() < 2
    content = (tmp_path / "a.jpg").read_bytes()
    for length in (1, 30, len(content) // 2, len(content) - 20):
        (tmp_path / "a.jpg").write_bytes(content[:length])
        refused(tmp_path / "a.jpg")


def test_jpeg_that_lies_about_its_size_is_refused(tmp_path):
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "a.jpg")
    content = bytearray((tmp_path / "a.jpg").read_bytes())
    place = content.index(b"\xff\xc0")
    struct.pack_into(">HH", content, place + 5, 12000, 12000)
    (tmp_path / "a.jpg").write_bytes(bytes(content))
    refused(tmp_path / "a.jpg", "claims")


# TIFF


@pytest.mark.parametrize("options", [{}, {"byteorder": ">"}, {"compression": "zlib"}, {"bigtiff": True}])
@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "i4", "f4", "f8"])
def test_tiff_of_every_type_is_exact_both_ways(tmp_path, dtype, options):
    pixels = (GENERATOR.normal(size=(17, 9)) * 50 + 100).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", pixels, **options)
    image = formats.read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(image.array[..., 0], pixels)
    formats.write_image(tmp_path / "b.tif", image)
    with tifffile.TiffFile(tmp_path / "b.tif") as written:
        np.testing.assert_array_equal(written.asarray(), pixels)
        assert written.byteorder == options.get("byteorder", "<")
        assert written.pages[0].dtype == np.dtype(dtype)
        assert (written.pages[0].compression != 1) == ("compression" in options)


def test_tiff_pages_are_a_volume(tmp_path):
    pixels = GENERATOR.integers(0, 65536, (4, 9, 8)).astype(np.uint16)
    tifffile.imwrite(
        tmp_path / "a.tif", pixels, photometric="minisblack", resolution=(50, 25), resolutionunit=3
    )
    image = formats.read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(image.array[..., 0], pixels)
    assert image.spacing is None
    formats.write_image(tmp_path / "b.tif", image, image.array // 2)
    with tifffile.TiffFile(tmp_path / "b.tif") as written:
        assert len(written.pages) == 4 and written.pages[0].resolution == (50, 25)
        np.testing.assert_array_equal(written.asarray(), pixels // 2)


def test_tiff_of_imagej_keeps_axes_spacing_and_description(tmp_path):
    pixels = GENERATOR.integers(0, 65536, (4, 2, 9, 8)).astype(np.uint16)
    tifffile.imwrite(
        tmp_path / "a.tif",
        pixels,
        imagej=True,
        resolution=(4, 2),
        metadata={"axes": "ZCYX", "spacing": 3, "unit": "mm"},
    )
    image = formats.read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(image.array, pixels.transpose(0, 2, 3, 1))
    assert image.spacing == (3.0, 0.5, 0.25)
    formats.write_image(tmp_path / "b.tif", image)
    with tifffile.TiffFile(tmp_path / "b.tif") as written:
        assert written.is_imagej and written.imagej_metadata["spacing"] == 3
        assert written.series[0].axes == "ZCYX"
        np.testing.assert_array_equal(written.asarray(), pixels)


def test_tiff_colour_planar_and_tiled(tmp_path):
    pixels = GENERATOR.integers(0, 65536, (33, 20, 3)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "tiled.tif", pixels, photometric="rgb", tile=(16, 16), compression="zlib")
    tifffile.imwrite(
        tmp_path / "planar.tif", pixels.transpose(2, 0, 1), photometric="rgb", planarconfig="separate"
    )
    for name in ("tiled.tif", "planar.tif"):
        image = formats.read_image(tmp_path / name)
        np.testing.assert_array_equal(image.array, pixels)
        formats.write_image(tmp_path / "out.tif", image)
        np.testing.assert_array_equal(formats.read_image(tmp_path / "out.tif").array, pixels)
        assert tifffile.TiffFile(tmp_path / "out.tif").pages[0].photometric == 2
        formats.write_image(tmp_path / "grey.tif", image, pixels[..., 0])
        np.testing.assert_array_equal(tifffile.imread(tmp_path / "grey.tif"), pixels[..., 0])


def test_tiff_that_tifffile_alone_cannot_decode_goes_through_pillow(tmp_path):
    pixels = (np.arange(30 * 20).reshape(30, 20) * 100).astype(np.uint16)
    for compression in ("tiff_lzw", "packbits"):
        Image.fromarray(pixels).save(tmp_path / "a.tif", compression=compression)
        np.testing.assert_array_equal(formats.read_image(tmp_path / "a.tif").array[..., 0], pixels)


def test_tiff_white_is_zero_and_palette(tmp_path):
    pixels = GENERATOR.integers(0, 256, (9, 8)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="miniswhite")
    image = formats.read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(image.array[..., 0], 255 - pixels)
    formats.write_image(tmp_path / "b.tif", image)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.tif"), pixels)

    colours = GENERATOR.integers(0, 256, (256, 3)).astype(np.uint8)
    tifffile.imwrite(
        tmp_path / "c.tif", pixels, photometric="palette", colormap=colours.T.astype(np.uint16) * 257
    )
    image = formats.read_image(tmp_path / "c.tif")
    np.testing.assert_array_equal(image.array, colours[pixels])
    formats.write_image(tmp_path / "d.tif", image)
    np.testing.assert_array_equal(formats.read_image(tmp_path / "d.tif").array, colours[pixels])
    assert tifffile.TiffFile(tmp_path / "d.tif").pages[0].photometric == 3
    labels = formats.read_image(tmp_path / "c.tif", indexed=True)
    np.testing.assert_array_equal(labels.array[..., 0], pixels)


def test_tiff_damage_is_refused(tmp_path):
    path = tmp_path / "a.tif"
    pixels = GENERATOR.integers(0, 65536, (3, 9, 8)).astype(np.uint16)
    tifffile.imwrite(path, pixels, photometric="minisblack")
    content = path.read_bytes()
    for length in range(1, len(content), 37):
        path.write_bytes(content[:length])
        refused(path)
    tifffile.imwrite(path, pixels[0])
    with tifffile.TiffFile(path) as tif:
        place = tif.pages[0].tags["ImageLength"].valueoffset
    patched(path, place, "<H", 65000)
    refused(path)
    with tifffile.TiffWriter(path) as writer:
        writer.write(pixels[0])
        writer.write(pixels[0, :5])
    refused(path, "differ in size")


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "zlib", "rowsperstrip": 64},
        {"compression": "zlib", "rowsperstrip": 16},
        {"compression": "lzma", "rowsperstrip": 16, "bigtiff": True},
        {"compression": "zlib", "tile": (16, 16)},
        {"compression": "zlib", "tile": (16, 16), "predictor": True},
        {"rowsperstrip": 16},
        {"tile": (16, 16)},
        {"compression": "zlib", "rowsperstrip": 16, "photometric": "rgb", "planarconfig": "separate"},
        {"compression": "zlib", "tile": (16, 16), "photometric": "rgb", "planarconfig": "separate"},
    ],
)
@pytest.mark.parametrize(
    "lie",
    [
        {"ImageLength": 128},
        {"ImageLength": 80},
        {"ImageLength": 128, "RowsPerStrip": 128},
        {"RowsPerStrip": 8},
    ],
)
def test_tiff_of_fewer_strips_or_tiles_than_its_size_needs_is_refused(tmp_path, options, lie):
    shape = (3, 64, 64) if "photometric" in options else (64, 64)
    path, pixels = tmp_path / "a.tif", GENERATOR.integers(1, 256, shape).astype(np.uint8)
    tifffile.imwrite(path, pixels, **options)
    whole = formats.read_image(path).array
    np.testing.assert_array_equal(np.moveaxis(whole, -1, 0).squeeze(), pixels)
    with tifffile.TiffFile(path) as tif:
        order, tags = tif.byteorder, tif.pages[0].tags
        fields = [(tags[name].valueoffset, int(tags[name].dtype), lie[name]) for name in lie if name in tags]
    for place, kind, value in fields:
        patched(path, place, order + {3: "H", 4: "I", 16: "Q"}[kind], value)
    if "ImageLength" in lie or (fields and "compression" in options):
        refused(path, "TIFF" if "compression" in options else "")
    else:
        # Plain pixels in one piece are all there, and tiles have no strips.
        np.testing.assert_array_equal(formats.read_image(path).array, whole)


def test_tiff_of_more_strips_than_its_size_needs_is_refused(tmp_path):
    path, pixels = tmp_path / "a.tif", GENERATOR.integers(1, 256, (64, 64)).astype(np.uint8)
    for options in ({"rowsperstrip": 16}, {"rowsperstrip": 16, "compression": "zlib"}, {"tile": (16, 16)}):
        tifffile.imwrite(path, pixels, **options)
        with tifffile.TiffFile(path) as tif:
            place = tif.pages[0].tags["ImageLength"].valueoffset
        patched(path, place, "<H", 32)
        refused(path, "page 1 of 32 x 64 pixels has", "strips or tiles")


def test_tiff_of_packed_bits_is_as_large_as_its_bits(tmp_path):
    pixels = GENERATOR.integers(0, 2, (33, 21)).astype(bool)
    for compression in (None, "tiff_adobe_deflate", "group4"):
        Image.fromarray(pixels).save(tmp_path / "a.tif", compression=compression)
        np.testing.assert_array_equal(formats.read_image(tmp_path / "a.tif").array[..., 0], pixels * 255)
    Image.fromarray(pixels).save(tmp_path / "a.tif")
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        place = tif.pages[0].tags["ImageLength"].valueoffset
    patched(tmp_path / "a.tif", place, "<H", 66)
    refused(tmp_path / "a.tif")


def test_label_maps_beside_pictures_keep_their_numbers(tmp_path):
    labels = GENERATOR.integers(0, 300, (9, 8))
    pixels = GENERATOR.integers(0, 256, (9, 8, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb")
    tifffile.imwrite(tmp_path / "white.tif", pixels[..., 0], photometric="miniswhite")
    np.savez(tmp_path / "a.npz", image=pixels)
    for name in ("a.png", "a.tif", "white.tif", "a.npz"):
        image = formats.with_storage(formats.read_image(tmp_path / name), np.uint16, "label")
        formats.write_image(tmp_path / f"label_{name}", image, labels)
        back = formats.read_image(tmp_path / f"label_{name}")
        np.testing.assert_array_equal(back.array[..., 0], labels)
        assert back.stored_dtype == np.uint16
    chance = GENERATOR.random((9, 8)).astype(np.float32)
    image = formats.with_storage(formats.read_image(tmp_path / "a.tif"), np.float32, "probability")
    formats.write_image(tmp_path / "chance.tif", image, chance)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "chance.tif"), chance)


# NumPy


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((6, 5), (6, 5, 1)), ((6, 5, 3), (6, 5, 3)), ((6, 7, 5), (6, 7, 5, 1)), ((2, 6, 5, 3), (2, 6, 5, 3))],
)
@pytest.mark.parametrize("dtype", [">i2", "f8", "?"])
def test_numpy_files_keep_shape_dtype_and_neighbours(tmp_path, shape, expected, dtype):
    values = GENERATOR.integers(0, 2, shape).astype(dtype)
    spacing = np.full(len(expected) - 1, 0.5)
    np.savez(tmp_path / "a.npz", image=values, spacing=spacing, unit=np.array("HU"), age=np.array(61))
    np.save(tmp_path / "a.npy", values)
    for name in ("a.npz", "a.npy"):
        image = formats.read_image(tmp_path / name)
        np.testing.assert_array_equal(image.array, values.reshape(expected))
        formats.write_image(tmp_path / f"out{name}", image)
        written = np.load(tmp_path / f"out{name}")
        np.testing.assert_array_equal(written["image"] if name == "a.npz" else written, values)
    image = formats.read_image(tmp_path / "a.npz")
    assert image.unit == "HU" and image.spacing == (0.5,) * len(spacing)
    written = np.load(tmp_path / "outa.npz")
    assert written["image"].shape == shape and written["age"] == 61 and str(written["unit"]) == "HU"


def test_numpy_stacks_are_read_under_their_plural_name(tmp_path):
    values = GENERATOR.integers(0, 255, (6, 5, 3)).astype(np.uint8)
    np.savez_compressed(tmp_path / "a.npz", images=values, ids=np.array(["a", "b"]))
    assert formats.read_image(tmp_path / "a.npz").array.shape == (6, 5, 3, 1)
    assert set(formats.read_arrays(tmp_path / "a.npz")) == {"images", "ids"}


def test_numpy_objects_and_lying_headers_are_refused(tmp_path):
    np.savez(tmp_path / "object.npz", image=np.array([{}, {}], object))
    refused(tmp_path / "object.npz", "objects")
    np.save(tmp_path / "object.npy", np.array([{}], object))
    refused(tmp_path / "object.npy", "objects")
    np.savez(tmp_path / "other.npz", picture=np.zeros((3, 3)))
    refused(tmp_path / "other.npz", "picture")

    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": "<f8", "fortran_order": False, "shape": (10**6, 10**6)}
    )
    (tmp_path / "lie.npy").write_bytes(buffer.getvalue() + bytes(800))
    refused(tmp_path / "lie.npy", "claims")
    for name, values in (
        ("text.npy", np.array("word")),
        ("empty.npy", np.zeros((0, 4))),
        ("wave.npy", np.zeros(3, complex)),
    ):
        np.save(tmp_path / name, values)
        refused(tmp_path / name, "cannot be used")


# All formats


def test_names_that_cannot_be_read(tmp_path):
    refused(tmp_path / "missing.png", "no such file")
    for name in ("zero.png", "zero.nii.gz", "zero.dcm", "zero.tif", "zero.npz"):
        (tmp_path / name).touch()
        refused(tmp_path / name, "zero bytes")
    (tmp_path / "notes.txt").write_text("not an image")
    refused(tmp_path / "notes.txt", "not a supported image")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "no DICOM files")
    Image.new("RGB", (4, 4)).save(tmp_path / "real.jpg")
    (tmp_path / "real.jpg").rename(tmp_path / "fake.png")
    refused(tmp_path / "fake.png", "misnamed")


def test_a_bad_place_to_write_leaves_nothing_behind(tmp_path):
    image = formats.read_image(nifti(tmp_path / "a.nii", VOLUME.astype(np.int16)))
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot be written"):
        formats.write_image(tmp_path / "file" / "b.nii", image)
    with pytest.raises(UserError, match=r"came in as nifti; give a name that ends in \.nii"):
        formats.write_image(tmp_path / "b.png", image)
    with pytest.raises(ValueError, match="spatial shape"):
        formats.write_image(tmp_path / "b.nii", image, image.array[:-1])
    with pytest.raises(UserError, match="cannot store float32"):
        Image.new("L", (4, 4)).save(tmp_path / "a.png")
        formats.with_storage(formats.read_image(tmp_path / "a.png"), np.float32, "probability")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.nii", "a.png", "file"]


def test_a_folder_is_checked_before_a_run(tmp_path):
    for number in range(3):
        Image.new("L", (6, 5), number).save(tmp_path / f"{number}.png")
    paths = sorted(tmp_path.iterdir())
    summaries = formats.check_images(paths)
    assert [each.shape for each in summaries] == [(5, 6, 1)] * 3 and summaries[2].maximum == 2
    for path in paths[1:]:
        path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"1\.png: truncated.*2 bad of 3 files"):
        formats.check_images(paths)


def test_image_and_label_must_lie_on_one_grid(tmp_path):
    image = formats.read_image(nifti(tmp_path / "a.nii", VOLUME.astype(np.int16)))
    formats.check_geometry(image, formats.read_image(nifti(tmp_path / "b.nii", VOLUME.astype(np.uint8))))
    moved = np.diag([1.0, 2.0, 3.0, 1.0])
    moved[0, 3] = 4
    with pytest.raises(UserError, match=r"a\.nii and .*b\.nii differ in affine: .*4\.0"):
        formats.check_geometry(
            image, formats.read_image(nifti(tmp_path / "b.nii", VOLUME.astype(np.uint8), moved))
        )
    with pytest.raises(UserError, match=r"differ in size: \[6, 5, 4\] and \[5, 5, 4\]"):
        formats.check_geometry(
            image, formats.read_image(nifti(tmp_path / "b.nii", VOLUME[..., 1:].astype(np.uint8)))
        )


def test_decoded_size_has_a_limit(tmp_path, monkeypatch):
    path = nifti(tmp_path / "a.nii.gz", VOLUME.astype(np.float64))
    monkeypatch.setattr(limits, "MAXIMUM_BYTES", 500)
    refused(path, "limit of 500")
