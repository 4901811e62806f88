"""The reader of the demo's rows, on an archive made here; the demo itself is a session of its own."""

from __future__ import annotations

import importlib.util
import io
import tarfile
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
MOVIES = "movieReviewSnippets_GroundTruth.txt"


@pytest.fixture(scope="module")
def vader() -> ModuleType:
    spec = importlib.util.spec_from_file_location("vader", EXAMPLES / "vader.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def packed(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def cached(folder: Path, vader: ModuleType, content: bytes) -> Path:
    inner = packed({"../../escape.txt": b"no", f"study/{MOVIES}": content, "study/other.txt": b"1\t2\t3\n"})
    outer = packed({"vader/setup.py": b"raise SystemExit", "vader/additional_resources/study.tar.gz": inner})
    (folder / vader.ARCHIVE).write_bytes(outer)
    return folder


def test_rows_are_read_in_memory(tmp_path: Path, vader: ModuleType) -> None:
    content = "1\t2.5\tLovely,\x85 really.\r\n2\t-1.0\tJirí's\ttab.\r\n3\t0.0\tSo so.\r\n\r\n".encode()
    cache = cached(tmp_path, vader, content)
    rows = vader.scored("movies", cache=cache)
    assert rows == [
        {"id": "1", "text": "Lovely,\x85 really.", "score": 2.5},
        {"id": "2", "text": "Jirí's\ttab.", "score": -1.0},
        {"id": "3", "text": "So so.", "score": 0.0},
    ]
    assert [row["label"] for row in vader.sentiments("movies", cache=cache)] == ["positive", "negative"]
    assert [path.name for path in tmp_path.iterdir()] == [vader.ARCHIVE], "something was unpacked"
    assert not (tmp_path.parent / "escape.txt").exists()


def test_a_domain_that_is_not_there_is_said(tmp_path: Path, vader: ModuleType) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no tweets_GroundTruth\.txt"):
        vader.scored("tweets", cache=cached(tmp_path, vader, b""))
