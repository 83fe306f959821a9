"""DICOM files written by the tests: exact grey values of every way of storing and showing them, and broken files."""

import io
import re
import sys
import traceback

import numpy as np
import pytest
from PIL import Image

from pefomed.images import open_image

pydicom = pytest.importorskip("pydicom")

from pydicom.dataset import Dataset, FileMetaDataset  # noqa: E402
from pydicom.sequence import Sequence  # noqa: E402
from pydicom.uid import (  # noqa: E402
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    RLELossless,
)

PLAIN = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian)
RAMP = np.arange(0, 4096, 273, dtype=np.uint16).reshape(4, 4)  # 0, 273, ... 4095


def _dataset(values, *, bits=None, photometric="MONOCHROME2", **elements):
    """A picture with made-up patient data; `elements` are added, or taken away by None."""
    data = Dataset()
    data.PatientName, data.PatientID = "Doe^Jane", "4711-secret"
    data.Rows, data.Columns = values.shape[-2:] if values.ndim == 2 else values.shape[-3:-1]
    data.SamplesPerPixel = 1
    data.PhotometricInterpretation = photometric
    data.BitsAllocated = values.dtype.itemsize * 8
    data.BitsStored = bits or data.BitsAllocated
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(values.dtype.kind == "i")
    for keyword, value in elements.items():
        setattr(data, keyword, value)
    return data


def _file(values, syntax=ExplicitVRLittleEndian, leave_out=(), **elements):
    """The bytes of a DICOM file with these stored values."""
    data = _dataset(values, **elements)
    little = syntax != ExplicitVRBigEndian
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    raw = values.astype(values.dtype.newbyteorder("<" if little else ">")).tobytes()
    data.PixelData = raw + b"\0" * (len(raw) % 2)
    data["PixelData"].VR = "OW" if values.dtype.itemsize > 1 else "OB"
    for keyword in leave_out:
        delattr(data, keyword)
    if syntax == RLELossless:
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        stored, data.BitsStored = data.BitsStored, data.BitsAllocated  # no writer lets rubbish pass
        data.compress(RLELossless, arr=values, generate_instance_uid=False)
        data.BitsStored = stored
    return _written(data, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=little)


def _written(data, **options):
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, data, enforce_file_format=False, **options)
    content = buffer.getvalue()
    return content if content[128:132] == b"DICM" else b"\0" * 128 + b"DICM" + content


def _grey(content, **options):
    image = open_image(content, **options)
    assert image.mode == "RGB"
    values = np.asarray(image)
    assert (values == values[..., :1]).all()
    return values[..., 0].astype(int)


def _table(entries, first, bits, data=None):
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(entries), first, bits])
    item.add_new("LUTData", "OW", np.asarray(entries, np.uint16).tobytes() if data is None else data)
    return Sequence([item])


# Stored values


@pytest.mark.parametrize("syntax", [*PLAIN, RLELossless])
@pytest.mark.parametrize("dtype", ["u1", "u2", "i2"])
def test_own_range_in_every_syntax_and_type(syntax, dtype):
    values = (np.arange(15).reshape(3, 5) * 17 - (100 if dtype == "i2" else 0)).astype(dtype)
    expected = np.arange(15).reshape(3, 5) * 255 / 14
    np.testing.assert_array_equal(_grey(_file(values, syntax)), np.rint(expected))


@pytest.mark.parametrize("syntax", [*PLAIN, RLELossless])
def test_twelve_bits_with_rubbish_in_the_other_four(syntax):
    dirty = RAMP | np.uint16(0xA000)
    np.testing.assert_array_equal(_grey(_file(dirty, syntax, bits=12)), np.rint(RAMP.astype(int) * 255 / 4095))


def test_signed_twelve_bits_with_rubbish_in_the_other_four():
    values = np.array([[-2048, -1], [0, 2047]], dtype=np.int16)
    dirty = ((values & 0x0FFF) | 0x5000).astype(np.int16)
    expected = np.rint((values.astype(int) + 2048) * 255 / 4095)
    np.testing.assert_array_equal(_grey(_file(dirty, bits=12)), expected)


def test_bits_at_the_high_end():
    shifted = (RAMP << 4).astype(np.uint16)
    np.testing.assert_array_equal(_grey(_file(shifted, bits=12, HighBit=15)), np.rint(RAMP.astype(int) * 255 / 4095))


def test_monochrome1_is_inverted():
    straight, inverted = _grey(_file(RAMP)), _grey(_file(RAMP, photometric="MONOCHROME1"))
    assert straight[0, 0] == 0 and inverted[0, 0] == 255
    np.testing.assert_array_equal(inverted, 255 - straight)


def test_a_constant_picture_is_black():
    assert not _grey(_file(np.full((2, 3), 900, np.uint16))).any()


def test_the_first_of_several_frames_is_read_alone():
    frames = np.stack([RAMP, RAMP[::-1], RAMP])
    whole = _file(frames, NumberOfFrames=3, Rows=4, Columns=4)
    np.testing.assert_array_equal(_grey(whole), np.rint(RAMP.astype(int) * 255 / 4095))
    np.testing.assert_array_equal(_grey(whole[: -RAMP.nbytes]), _grey(_file(RAMP)))
    with pytest.raises(ValueError, match="truncated"):
        open_image(whole[: -2 * RAMP.nbytes - 4])


def test_colours():
    values = np.random.default_rng(0).integers(0, 256, (4, 5, 3)).astype(np.uint8)
    options = {"photometric": "RGB", "SamplesPerPixel": 3, "PlanarConfiguration": 0}
    for syntax in (*PLAIN, RLELossless):
        np.testing.assert_array_equal(np.asarray(open_image(_file(values, syntax, **options))), values)
    deep = values.astype(np.uint16) * 257
    np.testing.assert_array_equal(np.asarray(open_image(_file(deep, **options))), values)
    options["PlanarConfiguration"] = 1
    by_plane = np.ascontiguousarray(values.transpose(2, 0, 1)).reshape(4, 5, 3)
    np.testing.assert_array_equal(np.asarray(open_image(_file(by_plane, **options))), values)


def test_ybr_becomes_rgb():
    ybr = np.array([[[76, 85, 255], [150, 44, 21]]], dtype=np.uint8)  # full red and full green
    content = _file(ybr, photometric="YBR_FULL", SamplesPerPixel=3, PlanarConfiguration=0)
    assert np.abs(np.asarray(open_image(content)).astype(int) - [[[255, 0, 0], [0, 255, 0]]]).max() <= 2


# From stored to shown values


@pytest.mark.parametrize("syntax", PLAIN)
def test_window_of_the_first_pair(syntax):
    values = np.array([[0, 100, 149], [150, 199, 4000]], dtype=np.uint16)
    content = _file(values, syntax, WindowCenter=[150, 9], WindowWidth=[101, 2])
    # PS3.3, C.11.2.1.2: black to 150 - 0.5 - 50, white from 150 - 0.5 + 50, between ((x - 149.5) / 100 + 0.5) * 255
    np.testing.assert_array_equal(_grey(content), np.rint([[0, 0.5 * 2.55, 126.225], [128.775, 253.725, 255]]))


def test_window_functions():
    values = np.array([[0, 100, 150, 200, 300]], dtype=np.uint16)
    window = {"WindowCenter": 150, "WindowWidth": 100}
    exact = _grey(_file(values, VOILUTFunction="LINEAR_EXACT", **window))
    assert exact.tolist() == [[0, 0, 128, 255, 255]]
    sigmoid = _grey(_file(values, VOILUTFunction="SIGMOID", **window))
    expected = 255 / (1 + np.exp(-4 * (values.astype(float) - 150) / 100))
    np.testing.assert_array_equal(sigmoid, np.rint(expected))
    narrow = _grey(_file(values, WindowCenter=150, WindowWidth=1))
    assert narrow.tolist() == [[0, 0, 255, 255, 255]]


def test_the_window_acts_on_rescaled_values():
    values = np.array([[0, 1000, 1024, 1064, 2000]], dtype=np.uint16)
    rescaled = {"RescaleSlope": 1, "RescaleIntercept": -1024}
    content = _file(values, WindowCenter=0.5, WindowWidth=81, **rescaled)
    assert _grey(content).tolist() == [[0, round((-24 / 80 + 0.5) * 255), 128, 255, 255]]
    assert _grey(_file(values, RescaleSlope=-2, RescaleIntercept=7))[0, [0, -1]].tolist() == [255, 0]


def test_half_a_window_is_none():
    np.testing.assert_array_equal(_grey(_file(RAMP, WindowCenter=3)), _grey(_file(RAMP)))
    np.testing.assert_array_equal(_grey(_file(RAMP, WindowCenter="", WindowWidth="")), _grey(_file(RAMP)))


@pytest.mark.parametrize("syntax", PLAIN[:2])
def test_modality_table(syntax):
    values = np.array([[0, 9, 10, 11, 12, 13, 60000]], dtype=np.uint16)
    tables = _table([50, 10, 30, 40], first=10, bits=16)
    content = _file(values, syntax, ModalityLUTSequence=tables, RescaleSlope=-5, RescaleIntercept=0)
    assert _grey(content).tolist() == [[255, 255, 255, 0, 128, 191, 191]]


def test_voi_table():
    values = np.array([[-3, -2, -1, 0, 1, 2]], dtype=np.int16)
    content = _file(values, VOILUTSequence=_table([0, 1023, 512, 100], first=-2, bits=10))
    assert _grey(content).tolist() == [[0, 0, 255, round(512 / 1023 * 255), round(100 / 1023 * 255), 25]]
    packed = _table([0, 51, 102, 255], first=0, bits=8, data=bytes([0, 51, 102, 255]))
    deep = np.array([[0, 1, 2, 3, 300, 65535]], dtype=np.uint16)
    assert _grey(_file(deep, VOILUTSequence=packed)).tolist() == [[0, 51, 102, 255, 255, 255]]
    padded = _table([0, 51, 102, 255], first=0, bits=8)
    assert _grey(_file(deep, VOILUTSequence=padded)).tolist() == [[0, 51, 102, 255, 255, 255]]


def test_a_window_goes_before_a_voi_table():
    both = {"VOILUTSequence": _table([7] * 4, 0, 8), "WindowCenter": 2048, "WindowWidth": 4096}
    assert _grey(_file(RAMP, **both))[[0, -1], [0, -1]].tolist() == [0, 255]


def test_a_table_of_65536_entries_in_big_endian():
    entries = np.arange(65535, -1, -1).astype(">u2").tobytes()
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [0, 0, 16])
    item.add_new("LUTData", "OW", entries)
    content = _file(RAMP, ExplicitVRBigEndian, VOILUTSequence=Sequence([item]))
    np.testing.assert_array_equal(_grey(content), np.rint((65535 - RAMP.astype(int)) / 257))


# How it is opened


def test_by_name_by_mark_and_from_a_row(tmp_path):
    content = _file(RAMP)
    for name in ("a.dcm", "b.DCM", "without_ending"):
        (tmp_path / name).write_bytes(content)
        assert _grey(tmp_path / name).shape == (4, 4)
    assert _grey({"bytes": content, "path": None}).shape == (4, 4)
    assert _grey({"bytes": None, "path": str(tmp_path / "a.dcm")}, name="row 3").shape == (4, 4)
    (tmp_path / "a.dcm").unlink()  # nothing holds the file open


def test_nothing_of_the_patient_is_kept_or_printed(capsys, monkeypatch):
    content = _file(RAMP, WindowCenter=1, WindowWidth=9)
    read = []
    original = Dataset.__getitem__
    monkeypatch.setattr(Dataset, "__getitem__", lambda self, key: read.append(key) or original(self, key))
    image = open_image(content)
    assert read and not [key for key in read if not isinstance(key, slice) and pydicom.tag.Tag(key).group == 0x0010]
    assert "secret" not in repr(vars(image)) and "Doe" not in repr(vars(image))
    with pytest.raises(ValueError) as caught:
        open_image(_file(RAMP, WindowCenter=1, WindowWidth=-9))
    printed = capsys.readouterr()
    assert not [text for text in (str(caught.value), printed.out, printed.err) if "secret" in text or "Doe" in text]


def test_without_pydicom_the_extra_is_named(monkeypatch):
    content = _file(RAMP)
    for module in [name for name in sys.modules if name.split(".")[0] == "pydicom"]:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModuleNotFoundError, match=re.escape("row 7: DICOM files need pydicom")) as caught:
        open_image(content, name="row 7")
    assert "pip install 'pefomed[dicom]'" in str(caught.value)


# Files that cannot be read


def _compressed(syntax):
    data = _dataset(RAMP)
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    data.PixelData = pydicom.encaps.encapsulate([b"\xff\x4f\xff\x51"])
    data["PixelData"].is_undefined_length = True
    return _written(data)


def _without_syntax():
    data = _dataset(RAMP)
    return _written(data, implicit_vr=False, little_endian=True)


def _not_finite():
    data = _dataset(np.zeros((2, 2), np.float32))
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    del data.PixelRepresentation
    data.FloatPixelData = np.array([[0, np.nan], [np.inf, 1]], "<f4").tobytes()
    return _written(data)


SHORT_TABLE = _table([1, 2, 3, 4], 0, 16, data=b"\1\0\2\0")
BROKEN = {
    "text": (b"this is no picture\n" * 20, "not a DICOM file (no DICM at byte 128)"),
    "short": (b"DICM", "not a DICOM file"),
    "mark_alone": (b"\0" * 128 + b"DICM", "does not name its transfer syntax"),
    "no_syntax": (_without_syntax(), "does not name its transfer syntax"),
    "truncated_header": (_file(RAMP)[:220], "without"),
    "truncated_pixels": (_file(RAMP)[:-9], "truncated"),
    "truncated_rle": (_file(RAMP, RLELossless)[:-30], "truncated"),
    "no_pixels": (_file(RAMP, leave_out=["PixelData"]), "its pixel data are missing"),
    "no_rows": (_file(RAMP, leave_out=["Rows"]), "without Rows"),
    "no_size": (_file(RAMP, Rows=0), "a picture of 4 x 0 pixels"),
    "bomb": (_file(RAMP, Rows=65535, Columns=65535), "65,535 x 65,535 pixels is more than the 67,108,864 allowed"),
    "jpeg2000": (_compressed(JPEG2000Lossless), "'JPEG 2000 Image Compression (Lossless Only)' (1.2.840.10008"),
    "jpeg": (_compressed(JPEGLosslessSV1), "1.2.840.10008.1.2.4.70), which needs another decoder"),
    "deflated": (_compressed(DeflatedExplicitVRLittleEndian), "'Deflated Explicit VR Little Endian'"),
    "palette": (_file(RAMP, photometric="PALETTE COLOR"), "photometric interpretation 'PALETTE COLOR'"),
    "bits": (_file(RAMP, bits=17), "17 bits stored with the highest at 16 do not fit into 16 allocated"),
    "odd_bits": (_file(RAMP, BitsAllocated=13, BitsStored=12, HighBit=11), "not as announced"),
    "window": (_file(RAMP, WindowCenter=3, WindowWidth=0), "WindowWidth is 0, too narrow for a LINEAR window"),
    "function": (_file(RAMP, WindowCenter=3, WindowWidth=9, VOILUTFunction="CUBIC"), "VOILUTFunction 'CUBIC'"),
    "table": (_file(RAMP, VOILUTSequence=SHORT_TABLE), "2 entries of 16 bits, where 4 are announced"),
    "empty_table": (_file(RAMP, ModalityLUTSequence=Sequence([Dataset()])), "damaged"),
    "not_finite": (_not_finite(), "2 pixels are NaN or infinite"),
    "signed_colour": (
        _file(np.zeros((2, 2, 3), np.int8), photometric="RGB", SamplesPerPixel=3, PlanarConfiguration=0),
        "three unsigned channels",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.filterwarnings("error")
def test_a_broken_file_is_one_clear_line(kind, tmp_path):
    content, message = BROKEN[kind]
    (tmp_path / f"{kind}.dcm").write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        open_image(tmp_path / f"{kind}.dcm")
    assert f"{kind}.dcm: " in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(ValueError) as caught:
        open_image(content, name="row 7")
    assert str(caught.value).startswith("row 7: ")


def test_the_bound_is_a_parameter():
    assert open_image(_file(RAMP), max_pixels=16).size == (4, 4)
    with pytest.raises(ValueError, match="4 x 4 pixels is more than the 15 allowed"):
        open_image(_file(RAMP), max_pixels=15)


@pytest.mark.parametrize("syntax", [*PLAIN, RLELossless])
def test_damage_anywhere_is_one_line_without_the_patient_or_a_picture(syntax, caplog, capsys):
    window = {"WindowCenter": 3, "WindowWidth": 9, "VOILUTSequence": _table([1, 2, 3, 4], 0, 16)}
    content = _file(RAMP, syntax, **window)
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(150):
        damaged = bytearray(content[: int(rng.integers(len(content)))] if rng.random() < 0.3 else content)
        for place in rng.integers(len(damaged), size=int(rng.integers(1, 6))):
            damaged[place] = int(rng.integers(256))
        try:
            assert open_image(bytes(damaged), name="x.dcm").mode == "RGB"
        except ValueError as error:
            refused += 1
            assert str(error).startswith("x.dcm: ") and "\n" not in str(error)
            told = "".join(traceback.format_exception(error))
            assert "Doe" not in told and "secret" not in told and len(str(error)) < 300
    assert not caplog.text and capsys.readouterr() == ("", "")
    assert 20 < refused < 150


def test_an_ordinary_picture_needs_no_pydicom(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydicom", None)
    buffer = io.BytesIO()
    Image.new("L", (30, 20), 40).save(buffer, "PNG")
    assert open_image(buffer.getvalue()).size == (30, 20)
