"""Picture files to RGB pictures: every greyscale depth, palette, transparency and orientation, and every broken file.

Two ways of reading are offered. The default shows what a viewer shows: deep greys are windowed over their own range,
transparency lies on black, the camera's orientation is applied. With `window_16bit=False, drop_alpha=True,
apply_exif=False` a file is read exactly as the published code reads it: `Image.open(file).convert("RGB")`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import math
import os
import struct
import warnings
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from pefomed.dicom import is_dicom, read_dicom

MAX_PIXELS = 2**26  # 8192 x 8192: four times a large radiograph, 192 MiB once it is RGB

# Formats that radiology data sets use. Others stay shut: EPS, for one, would start a PostScript interpreter.
FORMATS = ("PNG", "JPEG", "JPEG2000", "BMP", "GIF", "TIFF", "WEBP", "PPM")

# What Pillow's decoders raise on damaged data (found by feeding them damaged data; see tests/test_images.py).
_DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    KeyError,
    IndexError,
    TypeError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)

Source = str | Path | bytes | Image.Image | Mapping[str, Any]


def open_image(
    source: Source,
    *,
    name: str | None = None,
    window_16bit: bool = True,
    drop_alpha: bool = False,
    apply_exif: bool = True,
    max_pixels: int = MAX_PIXELS,
) -> Image.Image:
    """Opens a picture and returns it as RGB, 8 bits a channel.

    Of an animation or a file with several pages the first frame is taken. 16-bit RGB files keep their high bytes.
    DICOM files, known by their mark or by the name .dcm, are read as `pefomed.dicom.read_dicom` says; they have a
    window of their own, no transparency and no EXIF orientation.

    Args:
        source: A file name, the bytes of a file, an open picture, or a `{"bytes", "path"}` mapping as in the `image`
            column of a data set (bytes are preferred where both are given).
        name: What error messages call the picture; the default is the file name where there is one.
        window_16bit: Map modes deeper than 8 bits (16-bit grey, integer, float) linearly from their own minimum and
            maximum to 0 and 255; a constant picture becomes black. False clips at 255, as the published code does.
        drop_alpha: Ignore transparency (the colours stored under it show). False lays the picture on black.
        apply_exif: Turn and mirror the picture as its EXIF orientation says.
        max_pixels: Bound on width x height, read from the header before anything is decoded.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is a directory, empty, no picture, damaged, too large, or holds NaN or infinite values.
        ModuleNotFoundError: A DICOM file, and pydicom is not installed.
    """
    name, opened = _locate(source, name)
    with _open(opened, name, max_pixels) as image:
        if image.width * image.height > max_pixels:
            size = f"{image.width:,} x {image.height:,} pixels"
            raise ValueError(f"{name}: {size} is more than the {max_pixels:,} allowed; scale the picture down first")
        if image.width * image.height == 0:
            raise ValueError(f"{name}: a picture of {image.width} x {image.height} pixels")
        try:
            image.load()
            if apply_exif:
                image = ImageOps.exif_transpose(image)
            if image.mode.startswith(("I", "F")) and window_16bit:
                return _windowed(image, name)
            if image.has_transparency_data and not drop_alpha:
                return _on_black(image)
            return image.convert("RGB")
        except _DECODE_ERRORS as error:
            if isinstance(error, _NotFinite):
                raise
            raise ValueError(f"{name}: damaged or unsupported picture ({_one_line(error)})") from error


class _NotFinite(ValueError):
    """A float picture that cannot be windowed: its message is complete already."""


def _locate(source: Source, name: str | None) -> tuple[str, bytes | Path | Image.Image]:
    """Returns the name for messages and one of bytes, a file that exists, or an open picture."""
    if isinstance(source, Mapping):
        path, data = source.get("path"), source.get("bytes")
        name = name or (str(path) if path else None)
        source = path if data is None else data
        if source is None:
            raise ValueError(f"{name or 'image'}: a mapping with neither bytes nor a path")
    if isinstance(source, Image.Image):
        return name or getattr(source, "filename", "") or "image", source
    if isinstance(source, (bytes, bytearray, memoryview)):
        name = name or f"image of {len(source):,} bytes"
        if not source:
            raise ValueError(f"{name}: empty (0 bytes)")
        return name, bytes(source)
    if not isinstance(source, (str, Path)):
        raise ValueError(f"{name or 'image'}: expected a file name, bytes or a picture, found {type(source).__name__}")
    path, name = Path(source), name or str(source)
    if os.path.isdir(path):
        raise ValueError(f"{name}: a directory, where a picture file is expected")
    if not os.path.isfile(path):  # unlike Path.is_file, also for names that no file system takes
        raise FileNotFoundError(f"{name}: no such picture file")
    if path.stat().st_size == 0:
        raise ValueError(f"{name}: empty (0 bytes)")
    return name, path


@contextlib.contextmanager
def _open(opened: bytes | Path | Image.Image, name: str, max_pixels: int) -> Iterator[Image.Image]:
    """Yields the picture with its header read and its pixels not; closes what it opened."""
    if isinstance(opened, Image.Image):
        yield opened
        return
    file = io.BytesIO(opened) if isinstance(opened, bytes) else opened.open("rb")
    with file:
        called = opened.name if isinstance(opened, Path) else name
        if called.lower().endswith(".dcm") or is_dicom(file):
            yield read_dicom(file, name=name, max_pixels=max_pixels)
            return
        try:
            with warnings.catch_warnings():
                # Pillow only warns of large pictures: open_image's own bound replaces that.
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                image = Image.open(file, formats=FORMATS)
        except Image.UnidentifiedImageError as error:
            raise ValueError(f"{name}: not a picture in any of the formats {', '.join(FORMATS)}") from error
        except Image.DecompressionBombError as error:
            raise ValueError(f"{name}: more than the {max_pixels:,} pixels allowed ({_one_line(error)})") from error
        except _DECODE_ERRORS as error:
            raise ValueError(f"{name}: damaged picture header ({_one_line(error)})") from error
        with image:
            yield image


def _windowed(image: Image.Image, name: str) -> Image.Image:
    """Maps a grey picture of any depth from its own minimum..maximum to 0..255; a constant one becomes black."""
    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all():
        raise _NotFinite(f"{name}: {int((~np.isfinite(values)).sum()):,} pixels are NaN or infinite")
    low, high = values.min(), values.max()
    # Halves keep the difference of two extreme floats finite.
    scaled = (values / 2 - low / 2) / (high / 2 - low / 2) if high > low else np.zeros_like(values)
    return Image.fromarray(np.rint(scaled * 255).astype(np.uint8)).convert("RGB")


def _on_black(image: Image.Image) -> Image.Image:
    """Lays a picture with an alpha channel, a transparent palette entry or a transparent colour on black."""
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba).convert("RGB")


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def resize_bicubic(image: Image.Image, size: int) -> Image.Image:
    """Scales to size x size pixels, bicubically, the columns first and then the rows.

    The order is spelt out because Pillow's own differs between 10.4, which recorded the published pixels, and 13; that
    moves single values by 1 of 255.
    """
    return image.resize((size, image.height), Image.Resampling.BICUBIC).resize((size, size), Image.Resampling.BICUBIC)


def safe_join(folder: str | Path, relative: str) -> Path:
    """Joins a path that a data set names to the data set's folder, and makes sure that it stays inside.

    Returns:
        The absolute path with symbolic links resolved; the file need not exist.

    Raises:
        ValueError: The path is empty, absolute, or leads out of the folder by ".." or a symbolic link.
    """
    if not isinstance(relative, str) or not relative.strip() or "\0" in relative:
        raise ValueError(f"{relative!r}: not a usable path below {folder}")
    root = Path(folder).resolve()
    try:
        joined = (root / relative).resolve()
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{relative!r}: not a usable path below {folder} ({_one_line(error)})") from error
    if Path(relative).is_absolute() or not joined.is_relative_to(root) or joined == root:
        raise ValueError(f"{relative!r}: leads out of {folder}; a data set may name only files inside its own folder")
    return joined


@dataclasses.dataclass(frozen=True)
class CropBox:
    """A rectangle in pixels, and whether the crop is mirrored left to right."""

    top: int
    left: int
    height: int
    width: int
    flipped: bool = False


def draw_crop_box(
    width: int,
    height: int,
    rng: np.random.Generator,
    *,
    scale: tuple[float, float] = (0.5, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> CropBox:
    """Draws a rectangle with a share of the area in `scale` and a width:height in `ratio`; mirrored half the time.

    The share is uniform and the ratio log-uniform. After ten rectangles that do not fit, the largest centred one of an
    allowed ratio is taken. The published settings are the defaults (PeFoMed's image processor for training).
    """
    flipped = bool(rng.random() < 0.5)
    for _ in range(10):
        area = width * height * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
            return CropBox(top, left, h, w, flipped)
    w = max(1, min(width, round(height * ratio[1])))
    h = max(1, min(height, round(width / ratio[0])))
    return CropBox((height - h) // 2, (width - w) // 2, h, w, flipped)


def random_resized_crop_flip(
    image: Image.Image, size: int, *, rng: np.random.Generator | None = None, box: CropBox | None = None
) -> Image.Image:
    """Crops, scales to size x size pixels and perhaps mirrors: the published training transform.

    The published stage-2 configurations apply it to test pictures too, which swaps left and right half of the time.

    Args:
        image: An RGB picture.
        size: Width and height of the result.
        rng: Draws the rectangle; needed where no box is given.
        box: The rectangle to take, as recorded or drawn before.

    Raises:
        ValueError: Neither or both of `rng` and `box` are given, or the box does not lie inside the picture.
    """
    if (rng is None) == (box is None):
        raise ValueError("random_resized_crop_flip needs either rng or box, and not both")
    box = box or draw_crop_box(image.width, image.height, rng)
    right, bottom = box.left + box.width, box.top + box.height
    if box.top < 0 or box.left < 0 or min(box.width, box.height) < 1 or right > image.width or bottom > image.height:
        raise ValueError(f"{box} does not lie inside a picture of {image.width} x {image.height} pixels")
    crop = resize_bicubic(image.crop((box.left, box.top, right, bottom)), size)
    return crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if box.flipped else crop
