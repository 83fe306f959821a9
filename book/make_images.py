"""Draws the README's picture from a finished run: python book/make_images.py runs/demo"""

import sys
from pathlib import Path

from pefomed.data import load_dataset
from pefomed.predictions import read_predictions
from pefomed.reporting.examples import show_examples

FOLDER = Path(__file__).parent / "images"


def main() -> None:
    answers = {row["id"]: row["prediction"] for row in read_predictions(Path(sys.argv[1]) / "predictions.jsonl")}
    # Questions at even distances: pictures, regions and kinds vary, right and wrong answers as they come.
    rows = [row for row in load_dataset("phantoms", split="test") if row["id"] in answers][4::43][:12]
    figure = show_examples(rows, answers)
    FOLDER.mkdir(exist_ok=True)
    figure.savefig(FOLDER / "answers.png", dpi=80, bbox_inches="tight")


if __name__ == "__main__":
    main()
