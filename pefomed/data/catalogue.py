"""The data sets that the package reads: what they are, who made them, under which licence, and where to get them.

`pefomed data list` prints this. Nothing heavy is imported, and nothing is looked up: it comes at once and offline.
"""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Mapping

from pefomed.data.options import TASKS
from pefomed.disclosure import CREDENTIALED_DATASETS

WIDTH = 110
ALL_SPLITS = ("train", "val", "test")


@dataclasses.dataclass(frozen=True)
class Layout:
    """One form in which a data set is handed around.

    Attributes:
        variant: its name, as the option `variant` takes it; "" where there is only one form.
        files: what has to lie in data_dir.
        rows: published rows of each split, for the options' defaults; splits without a known number are absent.
    """

    variant: str
    files: str
    rows: Mapping[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class DataSet:
    """One data set.

    Attributes:
        name: in code and on the command line.
        full_name: its own name.
        about: what it holds.
        citation: who made it, and where it was published.
        licence: under which terms it may be used.
        obtain: where it is to be had, and what has to be done first.
        splits: the splits that it can have.
        layouts: the forms that are read.
        beware: what misleads readers of its numbers; "" for nothing.
    """

    name: str
    full_name: str
    about: str
    citation: str
    licence: str
    obtain: str
    splits: tuple[str, ...]
    layouts: tuple[Layout, ...]
    beware: str = ""

    @property
    def tasks(self) -> tuple[str, ...]:
        """What it can be used for: "vqa", "caption" or "report"."""
        return TASKS[self.name]

    @property
    def credentialed(self) -> bool:
        """Whether it is lent to named persons, so that only counts and hashes of it are ever printed."""
        return self.name in CREDENTIALED_DATASETS

    def __str__(self) -> str:
        lines = [f"{self.name}: {self.full_name}", *_wrapped("", self.about)]
        lines += _wrapped("tasks: ", ", ".join(self.tasks))
        for label, text in (("by: ", self.citation), ("licence: ", self.licence), ("from: ", self.obtain)):
            lines += _wrapped(label, text)
        if self.credentialed:
            lines += _wrapped("credentialed: ", "only counts and hashes of it are printed")
        for layout in self.layouts:
            lines += _wrapped(f"{layout.variant or 'files'}: ", layout.files)
            if layout.rows:
                counts = (f"{split} {layout.rows[split]:,}" for split in ALL_SPLITS if split in layout.rows)
                lines.append(f"      rows: {', '.join(counts)}")
        lines += _wrapped("beware: ", self.beware) if self.beware else []
        return "\n".join(lines)


def _wrapped(label: str, text: str) -> list[str]:
    return textwrap.wrap(label + text, WIDTH, initial_indent="  ", subsequent_indent="      ", break_on_hyphens=False)


PHANTOMS = DataSet(
    name="phantoms",
    full_name="the package's own medical world",
    about="Drawn on the spot: chest, abdomen and head pictures of 112 x 112 pixels with questions, captions, reports.",
    citation="this package",
    licence="Apache-2.0, as the package",
    obtain="comes with the package; use it without data_dir",
    splits=ALL_SPLITS,
    layouts=(Layout("", "none", {"train": 4000, "val": 480, "test": 1600}),),
)

SHAPES = DataSet(
    name="shapes",
    full_name="the package's own general world",
    about="Drawn on the spot: coloured shapes with questions and captions, as the embedded base was pre-trained on.",
    citation="this package",
    licence="Apache-2.0, as the package",
    obtain="comes with the package; use it without data_dir",
    splits=ALL_SPLITS,
    layouts=(Layout("", "none", {"train": 2000, "val": 240, "test": 800}),),
)

VQA_RAD = DataSet(
    name="vqa_rad",
    full_name="VQA-RAD",
    about="315 radiographs, CT and MR pictures, and 2,248 questions that clinicians asked about them.",
    citation="Lau, Gayen, Ben Abacha, Demner-Fushman 2018, Scientific Data 5, doi:10.1038/sdata.2018.251",
    licence="CC0 1.0",
    obtain="https://osf.io/89kps (official); https://github.com/aioz-ai/MICCAI19-MedVQA (mevf, pictures as in the "
    "official form); flaviagiammarino/vqa-rad on the Hugging Face Hub (hf)",
    splits=ALL_SPLITS,
    layouts=(
        Layout(
            "official",
            "'VQA_RAD Dataset Public.json' and the folder 'VQA_RAD Image Folder'",
            {"train": 1797, "test": 451},
        ),
        Layout(
            "mevf",
            "trainset.json and testset.json, as PeFoMed and most papers use them",
            {"train": 3064, "test": 451},
        ),
        Layout("hf", "parquet files; lower case, without types and organs", {"train": 1793, "test": 451}),
    ),
    beware="nearly all test pictures occur in train (mevf: all 203), and 284 training rows of mevf are framed test "
    "questions (left out unless drop_leaked is false). A folder called data_RAD that goes round holds VQA-Med "
    "2019 instead. There is no validation split; val_fraction sets training pictures apart.",
)

SLAKE = DataSet(
    name="slake",
    full_name="SLAKE",
    about="642 CT, MR and X-ray pictures with 14,028 questions, half of them English and half Chinese.",
    citation="Liu, Zhan, Xu, Ma, Yang, Wu 2021, ISBI, doi:10.1109/ISBI48211.2021.9434010",
    licence="CC BY 4.0",
    obtain="https://www.med-vqa.com/slake or BoKelvin/SLAKE on the Hugging Face Hub; unpack imgs.zip",
    splits=ALL_SPLITS,
    layouts=(
        Layout(
            "official",
            "train.json, validate.json (or validation.json), test.json and imgs/xmlabN/source.jpg",
            {"train": 4919, "val": 1053, "test": 1061},
        ),
        Layout("hf", "parquet files, English only", {"train": 4919, "val": 1053, "test": 1061}),
    ),
    beware="each language was split by itself: with language=all, 142 test pictures are in train. The paper counts "
    "4,918 English training questions; the files hold 4,919. Numbers here are of the English questions.",
)

PATH_VQA = DataSet(
    name="path_vqa",
    full_name="PathVQA",
    about="4,998 pathology pictures from two textbooks and a library, and 32,795 questions made from their captions.",
    citation="He, Zhang, Mou, Xing, Xie 2020, arXiv:2003.10286",
    licence="MIT for the questions; the pictures' rights remain with the books' publishers and the PEIR library",
    obtain="https://github.com/UCSD-AI4H/PathVQA (pickle, json) or flaviagiammarino/path-vqa on the Hugging Face Hub",
    splits=ALL_SPLITS,
    layouts=(
        Layout(
            "pickle",
            "qas/{train,val,test}/{split}_qa.pkl and images/{split}/{split}_0000.jpg; code inside is never run",
            {"train": 19755, "val": 6279, "test": 6761},
        ),
        Layout("json", "{split}_qa.json with the same rows, and images/", {"train": 19755, "val": 6279, "test": 6761}),
        Layout("hf", "parquet files; repeated rows are dropped", {"train": 19654, "val": 6259, "test": 6719}),
    ),
    beware="types are not in the files: closed is what yes or no answers, the question type is the first word. Many "
    "pictures are CMYK files.",
)

IU_XRAY = DataSet(
    name="iu_xray",
    full_name="IU-Xray (Indiana University chest X-rays, OpenI)",
    about="7,470 chest radiographs, frontal and lateral, with 3,955 reports.",
    citation="Demner-Fushman et al. 2016, JAMIA 23(2), doi:10.1093/jamia/ocv080; r2gen's split: Chen, Song, Chang, "
    "Wan 2020, EMNLP, arXiv:2010.16056",
    licence="CC BY-NC-ND 4.0",
    obtain="https://openi.nlm.nih.gov/faq#collection (openi); https://github.com/zhjohnchan/R2Gen (r2gen); "
    "raddar/chest-xrays-indiana-university on Kaggle (kaggle)",
    splits=ALL_SPLITS,
    layouts=(
        Layout(
            "r2gen",
            "annotation.json and images/CXR2384_IM-0942/0.png, 1.png",
            {"train": 4138, "val": 592, "test": 1180},
        ),
        Layout("openi", "ecgen-radiology/*.xml and the pictures in NLMCXR_png/"),
        Layout("kaggle", "indiana_reports.csv, indiana_projections.csv and images/images_normalized/"),
    ),
    beware="a row is one view: r2gen's 2,069/296/590 studies give twice as many rows, as PeFoMed counts. A public "
    "copy of annotation.json has blanks for the key 'test'. Words hidden by the de-identification read XXXX.",
)

MIMIC_CXR = DataSet(
    name="mimic_cxr",
    full_name="MIMIC-CXR",
    about="377,110 chest radiographs of 227,835 studies with free-text reports.",
    citation="Johnson et al. 2019, Scientific Data 6, doi:10.1038/s41597-019-0322-0; pictures as JPG: "
    "arXiv:1901.07042",
    licence="PhysioNet Credentialed Health Data License; nothing of it may be passed on, nor sent to others' services",
    obtain="https://physionet.org/content/mimic-cxr (reports) and https://physionet.org/content/mimic-cxr-jpg "
    "(pictures, split, metadata), after the training course and with a signed data use agreement",
    splits=ALL_SPLITS,
    layouts=(
        Layout(
            "",
            "files/pNN/pNNNNNNNN/sNNNNNNNN.txt, files/pNN/pNNNNNNNN/sNNNNNNNN/<dicom_id>.jpg (or .dcm), "
            "mimic-cxr-2.0.0-split.csv.gz and mimic-cxr-2.0.0-metadata.csv.gz",
            {"train": 368960, "val": 2991, "test": 5159},
        ),
    ),
    beware="the published rows are pictures of all views; those in use depend on the views and the section asked for. "
    "The .jpg and the .dcm pictures look different.",
)

ROCO = DataSet(
    name="roco",
    full_name="ROCO, Radiology Objects in COntext",
    about="Radiology pictures from open-access articles with their captions.",
    citation="Pelka et al. 2018, LABELS, doi:10.1007/978-3-030-01364-6_20; v2: Rückert et al. 2024, Scientific Data "
    "11, doi:10.1038/s41597-024-03496-6",
    licence="each picture's own, listed in licences.txt (v1); CC BY and CC BY-NC (v2)",
    obtain="https://github.com/razorx89/roco-dataset (v1); virajbagal/roco-dataset on Kaggle (kaggle); "
    "https://zenodo.org/records/10821435 (v2, the format of ImageCLEF 2023)",
    splits=ALL_SPLITS,
    layouts=(
        Layout(
            "v1",
            "{train,validation,test}/radiology/captions.txt and .../radiology/images/ROCO_00001.jpg",
            {"train": 65420, "val": 8175, "test": 8176},
        ),
        Layout("kaggle", "all_data/{train,validation,test}/radiology*data.csv and .../radiology/images/"),
        Layout(
            "v2",
            "{train,valid,test}_captions.csv and {train,valid,test}/ID.jpg",
            {"train": 59958, "val": 9904, "test": 9927},
        ),
    ),
    beware="v2 splits the pictures of v1 anew: do not train on one and test on the other. Some pictures of "
    "v1's copies are missing or empty.",
)

CLEF2022 = DataSet(
    name="clef2022",
    full_name="ImageCLEFmedical Caption 2022",
    about="Radiology pictures with captions, from the extended ROCO set.",
    citation="Rückert et al. 2022, CLEF working notes, https://ceur-ws.org/Vol-3180/paper-95.pdf",
    licence="for registered participants, under the end user agreement of ImageCLEF",
    obtain="https://www.imageclef.org/2022/medical/caption, after registration",
    splits=("train", "val"),
    layouts=(
        Layout(
            "",
            "ImageCLEFmedCaption_2022_caption_prediction_{train,valid}.csv and {train,valid}/ID.jpg",
            {"train": 83275, "val": 7645},
        ),
    ),
    beware="the .csv files are separated by tabs. Pictures of ROCO's test split may be among them. The captions of "
    "the test pictures were never published.",
)

MEDICAT = DataSet(
    name="medicat",
    full_name="MedICaT",
    about="217,060 figures of open-access papers with captions; radiology figures alone are read by default.",
    citation="Subramanian et al. 2020, Findings of EMNLP, doi:10.18653/v1/2020.findings-emnlp.191",
    licence="for research, on request; each figure also has its paper's licence",
    obtain="https://github.com/allenai/medicat, by the request form",
    splits=ALL_SPLITS,
    layouts=(
        Layout(
            "",
            "s2_full_figures_oa_nonroco_combined_medical_top4_public.jsonl and figures/{pdf_hash}_{fig_uri}",
        ),
    ),
    beware="there are no splits: val_fraction and test_fraction set papers apart.",
)

DATA_SETS = {
    entry.name: entry
    for entry in (PHANTOMS, SHAPES, VQA_RAD, SLAKE, PATH_VQA, IU_XRAY, MIMIC_CXR, ROCO, CLEF2022, MEDICAT)
}


def list_data_sets() -> str:
    """All data sets in words."""
    whole = "\n\n".join(str(entry) for entry in DATA_SETS.values())
    return f"{whole}\n\nCheck a folder with: pefomed data check NAME FOLDER"
