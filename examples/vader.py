"""Real rows for the examples: short texts in four domains, each with a human score of its sentiment.

The source distribution of ``vaderSentiment`` 3.3.2 (MIT) carries the ground truth of Hutto & Gilbert, "VADER: A
Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text" (ICWSM 2014): 10,605 sentences of movie
reviews, 4,200 tweets, 3,708 sentences of product reviews and 5,190 of editorials; each score is the mean of 20 people's
ratings from -4 (most negative) to 4 (most positive). The package is fetched by pip, once, into a cache folder. It is
never installed, and its archives are read in memory: nothing is unpacked.

``python examples/vader.py movies reviews.csv`` writes the rows of a domain with the columns ``review``, ``sentiment``
and ``score``.
"""

from __future__ import annotations

import argparse
import csv
import io
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REQUIREMENT = "vaderSentiment==3.3.2"
ARCHIVE = "vaderSentiment-3.3.2.tar.gz"
DOMAINS = {
    "movies": "movieReviewSnippets_GroundTruth.txt",
    "tweets": "tweets_GroundTruth.txt",
    "products": "amazonReviewSnippets_GroundTruth.txt",
    "editorials": "nytEditorialSnippets_GroundTruth.txt",
}
CACHE = Path(__file__).resolve().parent.parent / ".cache" / "vader"


def fetch(cache: Path = CACHE) -> Path:
    """Return the source distribution in ``cache``, which pip fills on the first call."""
    archive = cache / ARCHIVE
    if not archive.exists():
        cache.mkdir(parents=True, exist_ok=True)
        options = ["--no-deps", "--no-binary", ":all:", "--dest", str(cache)]
        command = [sys.executable, "-m", "pip", "download", *options, REQUIREMENT]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return archive


def scored(domain: str = "movies", *, cache: Path = CACHE) -> list[dict[str, Any]]:
    """Every row of a domain, in the file's order.

    Args:
        domain: ``movies``, ``tweets``, ``products`` or ``editorials``.
        cache: the folder that keeps the download.

    Returns:
        Rows with ``id`` (text, unique within the domain), ``text``, and ``score`` (a number from -4 to 4).
    """
    name = DOMAINS[domain]
    content = _member(fetch(cache), name).decode("utf-8")
    rows = []
    # Not splitlines(): it also cuts at characters that occur inside a text, such as U+0085.
    for line in content.removeprefix("\ufeff").split("\n"):
        if line.strip():
            identity, score, text = line.rstrip("\r").split("\t", 2)
            rows.append({"id": identity, "text": text.strip(), "score": float(score)})
    return rows


def sentiments(domain: str = "movies", *, cache: Path = CACHE) -> list[dict[str, Any]]:
    """The rows of a domain with ``label``: ``positive`` or ``negative``, the sign of the score; zeros are dropped."""
    return [
        {**row, "label": "positive" if row["score"] > 0 else "negative"}
        for row in scored(domain, cache=cache)
        if row["score"] != 0
    ]


def _member(archive: Path, name: str) -> bytes:
    """The bytes of ``name`` in the archive inside ``additional_resources/`` of the source distribution."""
    with tarfile.open(archive) as outer:
        for inner_member in _files(outer):
            folder, _, file = inner_member.name.rpartition("/")
            if not folder.endswith("additional_resources") or not file.endswith(".tar.gz"):
                continue
            with tarfile.open(fileobj=io.BytesIO(_read(outer, inner_member))) as inner:
                for member in _files(inner):
                    if member.name.rpartition("/")[2] == name:
                        return _read(inner, member)
    raise FileNotFoundError(f"{archive} holds no {name}")


def _files(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    return (member for member in archive if member.isfile())


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = archive.extractfile(member)
    assert stream is not None  # _files yields plain files only
    return stream.read()


def main() -> None:
    """Write a domain as a CSV file."""
    parser = argparse.ArgumentParser(description="Write the rows of a domain as a CSV file.")
    parser.add_argument("domain", choices=DOMAINS)
    parser.add_argument("path", type=Path)
    chosen = parser.parse_args()
    with chosen.path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["review", "sentiment", "score"])
        writer.writerows((row["text"], row["label"], row["score"]) for row in sentiments(chosen.domain))


if __name__ == "__main__":
    main()
