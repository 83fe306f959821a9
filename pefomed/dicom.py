"""DICOM files to RGB pictures, as a viewer would first show them; needs the extra `dicom` (pydicom).

Grey values go through the steps of DICOM PS3.3, C.11: stored values, then the modality lookup table or the rescale
slope and intercept, then a window (the first pair of WindowCenter and WindowWidth, else the first VOI lookup table,
else the picture's own minimum and maximum) onto 0 to 255. MONOCHROME1 is inverted, so that bone is white throughout.

Only the elements of `_TAGS` and the pixels are read. What names the patient is skipped over, never kept or printed.
Not applied: presentation states, overlays, PresentationLUTShape (it repeats what MONOCHROME1 says), padding values.
"""

from __future__ import annotations

import contextlib
import logging
import math
import re
import struct
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    import pydicom

MAGIC, MAGIC_AT = b"DICM", 128
_DATA_AT = 0x7FE00008  # the first of the elements that may hold pixels; all of the description lies before it
_SYNTAX, _META_AT = (
    0x00020010,
    0x00030000,
)  # TransferSyntaxUID; the first element that does not describe the file itself
_TAGS = (
    0x00280002,  # SamplesPerPixel
    0x00280004,  # PhotometricInterpretation
    0x00280010,  # Rows
    0x00280011,  # Columns
    0x00280100,  # BitsAllocated
    0x00280101,  # BitsStored
    0x00280102,  # HighBit
    0x00280103,  # PixelRepresentation
    0x00281050,  # WindowCenter
    0x00281051,  # WindowWidth
    0x00281052,  # RescaleIntercept
    0x00281053,  # RescaleSlope
    0x00281056,  # VOILUTFunction
    0x00283000,  # ModalityLUTSequence
    0x00283010,  # VOILUTSequence
)
# Explicit and implicit little endian, explicit big endian, RLE: what pydicom reads without a further decoder.
SYNTAXES = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.5")
GREY, COLOUR = ("MONOCHROME1", "MONOCHROME2"), ("RGB", "YBR_FULL", "YBR_FULL_422")

# What pydicom raises on damaged data (found by feeding it damaged data; see tests/test_dicom.py).
_READ_ERRORS = (
    ValueError,
    AttributeError,
    LookupError,
    RuntimeError,
    EOFError,
    OSError,
    TypeError,
    OverflowError,
    AssertionError,
    MemoryError,
    struct.error,
)


def is_dicom(file: BinaryIO) -> bool:
    """Whether an open file has the DICOM mark at byte 128; the file is wound back to its beginning."""
    file.seek(0)
    start = file.read(MAGIC_AT + len(MAGIC))
    file.seek(0)
    return start[MAGIC_AT:] == MAGIC


def read_dicom(file: BinaryIO, *, name: str, max_pixels: int) -> Image.Image:
    """Returns the picture of a DICOM file as RGB, 8 bits a channel; of several frames the first.

    Colour deeper than 8 bits keeps its high bits.

    Args:
        file: A binary file, open at any place.
        name: What error messages call it.
        max_pixels: Bound on rows x columns, checked before any pixel is read.

    Raises:
        ValueError: Not a DICOM file, damaged, too large, without pixels, or in an encoding that is not read here.
        ModuleNotFoundError: pydicom is not installed.
    """
    if not is_dicom(file):
        raise ValueError(f"{name}: not a DICOM file (no {MAGIC.decode()} at byte {MAGIC_AT})")
    try:
        import pydicom.filereader  # noqa: F401
    except ModuleNotFoundError as error:
        message = f"{name}: DICOM files need pydicom; install it with: pip install 'pefomed[dicom]'"
        raise ModuleNotFoundError(message, name=error.name) from error
    try:
        with _silence(), _refusing("damaged or unsupported DICOM file"):
            header = _read_header(file)
            _check_header(header, max_pixels)
            stored = _stored_values(file, header)
            shown = _grey(stored, header) if header.PhotometricInterpretation in GREY else _colour(stored, header)
    except _Refused as error:
        raise ValueError(f"{name}: {error}") from None
    return Image.fromarray(shown).convert("RGB")


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keeps pydicom from warning and logging: both quote the elements that it finds odd."""
    logger = logging.getLogger("pydicom")
    before = logger.handlers, logger.propagate
    logger.handlers, logger.propagate = [logging.NullHandler()], False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.handlers, logger.propagate = before


class _Refused(ValueError):
    """A file that cannot be read: its message lacks only the name, and quotes nothing but numbers and plain words."""


@contextlib.contextmanager
def _refusing(what: str) -> Iterator[None]:
    """Refuses what pydicom fails on; its own words may quote a damaged file's elements, so only the kind is told."""
    from pydicom.errors import BytesLengthException

    try:
        yield
    except _Refused:
        raise
    except (*_READ_ERRORS, BytesLengthException) as error:
        raise _Refused(f"{what} ({type(error).__name__})") from None


def _read_header(file: BinaryIO) -> pydicom.Dataset:
    """Returns the elements of `_TAGS`; refuses an encoding before anything is unpacked."""
    from pydicom.filereader import read_dataset
    from pydicom.uid import UID

    file.seek(MAGIC_AT + len(MAGIC))
    meta = read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag >= _META_AT, specific_tags=[_SYNTAX])
    syntax = UID(str(meta.get("TransferSyntaxUID", "")))
    if not syntax:
        raise _Refused("a DICOM file that does not name its transfer syntax")
    if syntax not in SYNTAXES:
        told = f"{syntax.name!r} ({syntax})" if re.fullmatch(r"[0-9.]{1,64}", syntax) else "that is no UID"
        raise _Refused(
            f"its pixels are in the transfer syntax {told}, which needs another decoder; "
            "convert the file to 'Explicit VR Little Endian' first"
        )
    header = read_dataset(
        file,
        syntax.is_implicit_VR,
        syntax.is_little_endian,
        stop_when=lambda tag, vr, length: tag >= _DATA_AT,
        specific_tags=list(_TAGS),
    )
    header.file_meta = meta
    header.set_original_encoding(syntax.is_implicit_VR, syntax.is_little_endian)
    return header


def _check_header(header: pydicom.Dataset, max_pixels: int) -> None:
    """Refuses what has no size, is too large, or holds other things than grey values or colours."""
    for keyword in ("Rows", "Columns", "BitsAllocated", "BitsStored", "PhotometricInterpretation"):
        if header.get(keyword) is None:
            raise _Refused(f"a DICOM file without {keyword}: it holds no picture, or it is truncated")
    rows, columns = int(header.Rows), int(header.Columns)
    if rows * columns == 0:
        raise _Refused(f"a picture of {columns} x {rows} pixels")
    if rows * columns > max_pixels:
        raise _Refused(
            f"{columns:,} x {rows:,} pixels is more than the {max_pixels:,} allowed; scale the picture down first"
        )
    kind = header.PhotometricInterpretation
    if kind not in GREY + COLOUR:
        raise _Refused(f"photometric interpretation {_plain(kind)}; read are {', '.join(GREY + COLOUR)}")
    high, stored, allocated = _bits(header)
    if not 0 < stored <= high + 1 <= allocated:
        raise _Refused(f"{stored} bits stored with the highest at {high} do not fit into {allocated} allocated")


def _plain(word: object) -> str:
    """Returns a word of the standard's kind in quotes; anything else may be the text of a damaged file."""
    return repr(word) if re.fullmatch(r"[A-Z0-9_ ]{1,16}", str(word)) else "that is no plain word"


def _bits(header: pydicom.Dataset) -> tuple[int, int, int]:
    """Returns the place of the highest bit, the bits stored and the bits allocated."""
    stored = int(header.BitsStored)
    high = header.get("HighBit")
    return stored - 1 if high is None else int(high), stored, int(header.BitsAllocated)


def _stored_values(file: BinaryIO, header: pydicom.Dataset) -> np.ndarray:
    """Returns the first frame's values, (rows, columns) or (rows, columns, 3), with other frames left unread."""
    from pydicom.pixels import pixel_array

    file.seek(0)
    # The plugin is named so that the result does not depend on which other decoders are installed.
    plugin = "pydicom" if header.file_meta.TransferSyntaxUID.is_compressed else ""
    with _refusing("damaged: its pixel data are missing, truncated or not as announced"):
        values = pixel_array(file, index=0, decoding_plugin=plugin, correct_unused_bits=False)
    high, stored, allocated = _bits(header)
    if np.issubdtype(values.dtype, np.integer) and allocated in (8, 16, 32):
        # Old files keep overlays in the unused bits; shifting back carries the sign of signed values along.
        values = (values << (allocated - 1 - high)) >> (allocated - stored)
    return values


def _grey(stored: np.ndarray, header: pydicom.Dataset) -> np.ndarray:
    """Returns the grey values as shown, uint8 of the same shape."""
    item = _first_item(header, "ModalityLUTSequence")
    if item is not None:
        values = _look_up(stored, item, header)[0]
    else:
        slope, intercept = _number(header, "RescaleSlope", 1.0), _number(header, "RescaleIntercept", 0.0)
        values = stored.astype(np.float64) * slope + intercept
    if not np.isfinite(values).all():
        raise _Refused(f"{int((~np.isfinite(values)).sum()):,} pixels are NaN or infinite")
    shares = np.rint(_windowed(values, header) * 255).astype(np.uint8)
    return 255 - shares if header.PhotometricInterpretation == "MONOCHROME1" else shares


def _windowed(values: np.ndarray, header: pydicom.Dataset) -> np.ndarray:
    """Maps values to 0..1 by window, VOI table or their own range; a constant picture becomes 0."""
    centre, width = _number(header, "WindowCenter"), _number(header, "WindowWidth")
    if centre is not None and width is not None:
        return _through_window(values, centre, width, str(header.get("VOILUTFunction") or "LINEAR"))
    item = _first_item(header, "VOILUTSequence")
    if item is not None:
        table, bits = _look_up(values, item, header)
        return table / (2**bits - 1)
    low, high = values.min(), values.max()
    # Halves keep the difference of two extreme floats finite.
    return (values / 2 - low / 2) / (high / 2 - low / 2) if high > low else np.zeros_like(values)


def _through_window(values: np.ndarray, centre: float, width: float, function: str) -> np.ndarray:
    """The three window functions of PS3.3, C.11.2.1.2 and C.11.2.1.3; the first counts whole grey levels."""
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        raise _Refused(f"VOILUTFunction {_plain(function)}; read are LINEAR, LINEAR_EXACT and SIGMOID")
    if not (width >= 1 or (width > 0 and function != "LINEAR")):
        raise _Refused(f"WindowWidth is {width:g}, too narrow for a {function} window")
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -700, 700)))
    if function == "LINEAR":
        centre, width = centre - 0.5, width - 1
    if width == 0:
        return (values > centre).astype(np.float64)
    return np.clip((values - centre) / width + 0.5, 0, 1)


def _look_up(values: np.ndarray, item: pydicom.Dataset, header: pydicom.Dataset) -> tuple[np.ndarray, int]:
    """Returns the table's entries for the values, as float64, and the bits of an entry."""
    entries, first, bits = (int(number) for number in item.LUTDescriptor)
    entries = entries % 2**16 or 2**16  # as the standard has it, 0 stands for 65,536
    data = item.LUTData
    if isinstance(data, bytes):
        order = "<" if header.original_encoding[1] else ">"
        # Tables of 8 bits come packed, or with a byte of padding each.
        packed = bits == 8 and len(data) < 2 * entries
        data = np.frombuffer(data[: entries if packed else 2 * entries], np.uint8 if packed else f"{order}u2")
    table = np.atleast_1d(np.asarray(data, dtype=np.float64))[:entries]
    if len(table) < entries or not 1 <= bits <= 16:
        raise _Refused(f"a lookup table of {len(table):,} entries of {bits} bits, where {entries:,} are announced")
    index = np.clip(np.rint(values.astype(np.float64) - first), 0, entries - 1).astype(np.intp)
    return np.clip(table, 0, 2**bits - 1)[index], bits


def _colour(stored: np.ndarray, header: pydicom.Dataset) -> np.ndarray:
    """Returns the colours as shown, uint8 of shape (rows, columns, 3)."""
    if stored.ndim != 3 or stored.dtype.kind != "u":
        raise _Refused(f"colours of shape {stored.shape} and type {stored.dtype}, expected three unsigned channels")
    return (stored >> max(0, int(header.BitsStored) - 8)).astype(np.uint8)


def _number(header: pydicom.Dataset, keyword: str, default: float | None = None) -> float | None:
    """Returns the first value of an element, or the default where it is absent or empty."""
    value = header.get(keyword)
    if value is not None and not isinstance(value, (str, int, float)):
        value = next(iter(value), None)
    if value is None or value == "":
        return default
    if not math.isfinite(float(value)):
        raise _Refused(f"{keyword} is {float(value)}")
    return float(value)


def _first_item(header: pydicom.Dataset, keyword: str) -> pydicom.Dataset | None:
    """Returns the first item of a sequence, or None."""
    return next(iter(header.get(keyword) or ()), None)
