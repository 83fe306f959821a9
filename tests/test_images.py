"""Pictures of every mode, the recorded pixels of the published code, and files that are no pictures."""

import io
import json
import re
import zlib

import numpy as np
import pytest
from PIL import Image

from pefomed.images import (
    FORMATS,
    CropBox,
    draw_crop_box,
    open_image,
    random_resized_crop_flip,
    resize_bicubic,
    safe_join,
)

MEAN = np.array([0.48145466, 0.4578275, 0.40821073], dtype=np.float32)
DEVIATION = np.array([0.26862954, 0.26130258, 0.27577711], dtype=np.float32)
RELEASED = {"window_16bit": False, "drop_alpha": True, "apply_exif": False}


def _normalised(image):
    return ((np.asarray(image, dtype=np.float32) / 255 - MEAN) / DEVIATION).transpose(2, 0, 1)


def _encoded(image, file_format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def _values(image):
    assert image.mode == "RGB"
    return np.asarray(image)


def _picture(width=40, height=30):
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([x * 6, y * 8, (x + y) * 3], axis=-1).astype(np.uint8))


# Recorded pixels


def test_released_pixels_are_the_recorded_ones(shared):
    safetensors = pytest.importorskip("safetensors.numpy")
    recorded = safetensors.load_file(shared / "reference" / "vision.safetensors")
    names = sorted(path.name for path in (shared / "reference" / "images").glob("*.png"))
    assert len(names) == 10
    for name in names:
        image = open_image(shared / "reference" / "images" / name, **RELEASED)
        assert np.abs(_normalised(resize_bicubic(image, 112)) - recorded[f"pixels/{name}"]).max() <= 1e-6, name
        np.testing.assert_array_equal(_values(resize_bicubic(image, 112)), recorded[f"uint8/{name}"])
    small = open_image(shared / "reference" / "images" / "gray_small.png", **RELEASED)
    large = _normalised(resize_bicubic(small, 448))[:1]
    assert np.abs(large - recorded["pixels448/gray_small.png"]).max() <= 1e-6


def test_training_transform_is_the_recorded_one(shared):
    safetensors = pytest.importorskip("safetensors.numpy")
    recorded = safetensors.load_file(shared / "reference" / "train_transform.safetensors")
    items = json.loads((shared / "reference" / "train_transform.json").read_text(encoding="utf-8"))["items"]
    assert len(items) == 3
    for item in items:
        image = open_image(shared / "reference" / "images" / item["image"], **RELEASED)
        box = CropBox(item["top"], item["left"], item["height"], item["width"], item["flipped"])
        pixels = _normalised(random_resized_crop_flip(image, 112, box=box))
        assert np.abs(pixels - recorded[f"train_pixels/{item['image']}"]).max() <= 1e-6, item["image"]


def test_recorded_16bit_pictures_are_no_longer_white(shared):
    for name in ("gray16_full.png", "gray16_12bit.png"):
        path = shared / "reference" / "images" / name
        clipped, windowed = _values(open_image(path, **RELEASED)), _values(open_image(path))
        assert (clipped == 255).mean() > 0.8
        assert windowed.min() == 0 and windowed.max() == 255 and (windowed == 255).mean() < 0.05


# Modes


def test_8bit_grey_and_rgb_are_unchanged():
    picture = _picture()
    np.testing.assert_array_equal(_values(open_image(picture)), np.asarray(picture))
    grey = picture.convert("L")
    for source in (grey, _encoded(grey), {"bytes": _encoded(grey), "path": None}):
        np.testing.assert_array_equal(_values(open_image(source))[..., 2], np.asarray(grey))
    assert set(np.unique(_values(open_image(picture.convert("1"))))) <= {0, 255}


@pytest.mark.parametrize("kind", ["16-bit PNG", "16-bit TIFF", "big-endian", "32-bit integer", "float"])
def test_deep_greys_are_windowed(kind):
    ramp = np.linspace(1000, 3000, 12 * 10).reshape(12, 10)
    if kind == "32-bit integer":
        source = Image.fromarray((ramp * 100 - 200_000).astype(np.int32))
    elif kind == "float":
        source = _encoded(Image.fromarray((ramp / 1e4 - 0.2).astype(np.float32)), "TIFF")
    elif kind == "big-endian":
        source = Image.frombytes("I;16B", (10, 12), ramp.astype(">u2").tobytes())
    else:
        source = _encoded(Image.fromarray(ramp.astype(np.uint16)), kind.split()[1])
    expected = np.linspace(0, 255, ramp.size).reshape(ramp.shape)
    windowed = _values(open_image(source))
    assert np.abs(windowed[..., 0] - expected).max() <= 0.75
    assert (windowed[..., 0] == windowed[..., 1]).all() and (windowed[..., 0] == windowed[..., 2]).all()


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_a_constant_deep_picture_is_black(dtype):
    with np.errstate(all="raise"):
        assert not _values(open_image(Image.fromarray(np.full((5, 4), 3000, dtype=dtype)))).any()


def test_the_largest_floats_do_not_overflow():
    extreme = np.finfo(np.float32).max
    with np.errstate(all="raise"):
        values = _values(open_image(Image.fromarray(np.array([[-extreme, 0, extreme]], dtype=np.float32))))
    assert values[0, :, 0].tolist() == [0, 128, 255]


def test_without_window_deep_greys_are_read_as_pillow_reads_them():
    deep = Image.fromarray(np.array([[0, 100, 255, 256, 60_000]], dtype=np.uint16))
    np.testing.assert_array_equal(_values(open_image(deep, window_16bit=False)), np.asarray(deep.convert("RGB")))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_lies_on_black_or_is_dropped(mode):
    picture = Image.new("RGBA", (3, 1), (200, 200, 200, 255))
    picture.putpixel((1, 0), (200, 200, 200, 0))
    picture.putpixel((2, 0), (200, 200, 200, 128))
    picture = picture.convert(mode)
    on_black = _values(open_image(picture))[0, :, 0]
    np.testing.assert_allclose(on_black, [200, 0, 100], atol=1)
    assert (_values(open_image(picture, drop_alpha=True)) == 200).all()


def test_palette_and_transparent_colour():
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 200, 100, 50])
    palette.putpixel((1, 0), 1)
    assert _values(open_image(_encoded(palette)))[0].tolist() == [[10, 20, 30], [200, 100, 50]]
    clear = _encoded(palette, transparency=1)
    assert _values(open_image(clear))[0].tolist() == [[10, 20, 30], [0, 0, 0]]
    assert _values(open_image(clear, drop_alpha=True))[0].tolist() == [[10, 20, 30], [200, 100, 50]]
    grey = _encoded(Image.fromarray(np.array([[7, 9]], dtype=np.uint8)), transparency=9)
    assert _values(open_image(grey))[0, :, 0].tolist() == [7, 0]


def test_cmyk():
    cmyk = _encoded(_picture().convert("CMYK"), "JPEG", quality=95)
    assert Image.open(io.BytesIO(cmyk)).mode == "CMYK"
    difference = np.abs(_values(open_image(cmyk)).astype(int) - np.asarray(_picture()))
    assert difference.mean() < 6


def test_exif_orientation():
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its left side
    turned = _encoded(_picture(), "PNG", exif=exif)
    np.testing.assert_array_equal(_values(open_image(turned)), np.rot90(np.asarray(_picture()), -1))
    np.testing.assert_array_equal(_values(open_image(turned, apply_exif=False)), np.asarray(_picture()))


@pytest.mark.parametrize("file_format", FORMATS)
def test_every_format_opens(file_format):
    picture = _picture().quantize(256) if file_format == "GIF" else _picture()
    try:
        data = _encoded(picture, file_format)
    except OSError as error:  # this Pillow was built without the codec
        pytest.skip(f"Pillow cannot write {file_format}: {error}")
    assert np.abs(_values(open_image(data)).astype(int) - np.asarray(_picture())).mean() < 12


def test_first_frame_of_an_animation():
    frames = [Image.new("L", (4, 4), value) for value in (10, 100, 200)]
    animated = _encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    pages = _encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    assert (_values(open_image(animated)) == 10).all() and (_values(open_image(pages)) == 10).all()


def test_the_source_is_left_alone(tmp_path):
    picture = Image.new("RGBA", (2, 2), (9, 9, 9, 9))
    open_image(picture)
    assert picture.mode == "RGBA" and picture.getpixel((0, 0)) == (9, 9, 9, 9)
    path = tmp_path / "a.png"
    _picture().save(path)
    assert open_image(path).size == open_image(str(path)).size == open_image({"bytes": None, "path": str(path)}).size
    path.unlink()  # nothing holds the file open


# What is no picture


def _bomb(width, height):
    header = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big")
    data = bytearray(_encoded(Image.new("L", (1, 1))))
    data[: len(header)] = header
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    return bytes(data)


NOT_PICTURES = {
    "empty.png": (b"", "empty"),
    "text.jpg": (b"this is no picture\n" * 20, "not a picture"),
    "truncated.jpg": (_encoded(_picture(300, 200), "JPEG")[:-2000], "truncated"),
    "truncated.png": (_encoded(_picture())[:-60], "damaged"),
    "header.png": (_encoded(_picture())[:20], "picture"),
    "bomb.png": (_bomb(20_000, 5_000), "20,000 x 5,000 pixels is more than the 67,108,864 allowed"),
    "larger_bomb.png": (_bomb(60_000, 60_000), "67,108,864 pixels allowed"),
    "nan.tif": (_encoded(Image.fromarray(np.array([[0, np.nan, np.inf]], dtype=np.float32)), "TIFF"), "2 pixels are"),
    "script.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n", "not a picture"),
}


@pytest.mark.parametrize("name", NOT_PICTURES)
@pytest.mark.filterwarnings("error")
def test_a_broken_file_is_one_clear_line(name, tmp_path):
    data, message = NOT_PICTURES[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        open_image(tmp_path / name)
    assert name in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        open_image(data, name="row 7")
    assert str(caught.value).startswith("row 7: ")


def test_missing_files_directories_and_other_sources(tmp_path):
    for missing in (tmp_path / "none.png", "x" * 5000):
        with pytest.raises(FileNotFoundError, match="no such picture file"):
            open_image(missing)
    with pytest.raises(ValueError, match="a directory"):
        open_image(tmp_path)
    with pytest.raises(ValueError, match="found int"):
        open_image(3)
    with pytest.raises(ValueError, match="neither bytes nor a path"):
        open_image({"bytes": None, "path": None})


def test_the_bound_is_a_parameter():
    assert open_image(_picture(10, 10), max_pixels=100).size == (10, 10)
    with pytest.raises(ValueError, match="11 x 10 pixels is more than the 100 allowed"):
        open_image(_encoded(_picture(11, 10)), max_pixels=100)


def test_paths_that_lead_out_of_the_folder(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    (tmp_path / "secret.png").write_bytes(b"")
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    (folder / "loop").symlink_to(folder / "loop")
    for relative in ("../secret.png", "a/../../secret.png", str(tmp_path / "secret.png"), "link.png", ".", "", "a\0b"):
        with pytest.raises(ValueError, match="leads out of|not a usable path"):
            safe_join(folder, relative)
    with pytest.raises(ValueError, match="3: not a usable path"):
        safe_join(folder, 3)
    assert safe_join(folder, "a/b.png") == (folder / "a" / "b.png").resolve()
    assert safe_join(folder, "a/../b.png") == (folder / "b.png").resolve()
    (tmp_path / "alias").symlink_to(folder)
    assert safe_join(tmp_path / "alias", "b.png") == (folder / "b.png").resolve()


# Crop and flip


def test_drawn_boxes_keep_to_scale_and_ratio():
    rng = np.random.default_rng(0)
    boxes = [draw_crop_box(200, 150, rng) for _ in range(500)]
    areas = np.array([box.width * box.height for box in boxes]) / (200 * 150)
    ratios = np.array([box.width / box.height for box in boxes])
    assert areas.min() >= 0.49 and areas.max() <= 1.0
    assert ratios.min() >= 0.74 and ratios.max() <= 1.35
    assert 0.4 < np.mean([box.flipped for box in boxes]) < 0.6
    assert all(box.top + box.height <= 150 and box.left + box.width <= 200 for box in boxes)
    assert draw_crop_box(200, 150, np.random.default_rng(5)) == draw_crop_box(200, 150, np.random.default_rng(5))


def test_a_very_long_picture_gets_a_centred_box():
    box = draw_crop_box(1000, 10, np.random.default_rng(0))
    assert (box.height, box.width, box.top, box.left) == (10, 13, 0, 493)
    tall = draw_crop_box(1, 300, np.random.default_rng(0))
    assert tall.width == 1 and tall.height == 1


def test_crop_and_flip():
    picture = _picture()
    whole = CropBox(0, 0, 30, 40)
    plain = np.asarray(random_resized_crop_flip(picture, 16, box=whole))
    np.testing.assert_array_equal(plain, np.asarray(resize_bicubic(picture, 16)))
    mirrored = random_resized_crop_flip(picture, 16, box=CropBox(0, 0, 30, 40, flipped=True))
    np.testing.assert_array_equal(np.asarray(mirrored), plain[:, ::-1])
    drawn = [np.asarray(random_resized_crop_flip(picture, 16, rng=np.random.default_rng(3))) for _ in range(2)]
    np.testing.assert_array_equal(*drawn)
    for wrong in ({}, {"box": whole, "rng": np.random.default_rng(0)}):
        with pytest.raises(ValueError, match="either rng or box"):
            random_resized_crop_flip(picture, 16, **wrong)
    for box in (CropBox(0, 0, 31, 40), CropBox(-1, 0, 5, 5), CropBox(0, 0, 0, 5)):
        with pytest.raises(ValueError, match="does not lie inside"):
            random_resized_crop_flip(picture, 16, box=box)
