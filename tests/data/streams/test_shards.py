"""Shards and the order of their rows: each row once a pass, and found again without what lies before it."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sftlib import TaskStream
from sftlib.data.streams.base import Shard, Unreadable
from sftlib.data.streams.iterables import OfIterable, shards_of
from sftlib.data.streams.jsonl import JsonLines
from sftlib.data.streams.order import Cursor, Reader, order_of_rows
from sftlib.data.streams.parquet import Parquet
from sftlib.data.streams.tar import Tar
from sftlib.errors import DataError, LabelError, OptionError

ROWS = 40


class Counting:
    """Mappings that are counted as they are handed out."""

    def __init__(self, rows: int) -> None:
        self.rows, self.given = rows, 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for number in range(self.rows):
            self.given += 1
            yield {"text": f"row {number}", "label": number % 2}


class Knowing(Counting):
    """As `datasets` has it: parts, which know how far they are."""

    num_shards = 2

    def __init__(self, rows: int, first: int = 0) -> None:
        super().__init__(rows)
        self.first = self.at = first

    def shard(self, num_shards: int, index: int) -> Knowing:
        half = self.rows // num_shards
        return Knowing(half, first=index * half)

    def state_dict(self) -> dict[str, Any]:
        return {"at": self.at}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.at = state["at"]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while self.at < self.first + self.rows:
            self.at += 1
            yield {"text": f"row {self.at - 1}", "label": self.at % 2}


def line(number: int) -> dict[str, Any]:
    return {"text": f"row {number}", "label": number % 2}


def write_jsonl(file: Path, rows: list[dict[str, Any]]) -> Path:
    content = "\n\n".join(map(json.dumps, rows)) + "\n"  # a blank line after each
    file.write_bytes(gzip.compress(content.encode()) if file.suffix == ".gz" else content.encode())
    return file


def write_parquet(file: Path, rows: list[dict[str, Any]]) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(rows), file, row_group_size=7, compression="none")
    return file


def write_tar(file: Path, rows: list[dict[str, Any]]) -> Path:
    with tarfile.open(file, "w:gz" if file.suffix == ".gz" else "w") as archive:
        for number, row in enumerate(rows):
            for suffix, content in (("txt", row["text"]), ("png", "x" * 300), ("cls", str(row["label"]))):
                info = tarfile.TarInfo(f"some.folder/{number:04}.{suffix}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content.encode()))
    return file


def shard_of(form: str, folder: Path, first: int = 0, count: int = ROWS) -> Shard:
    rows = [line(number) for number in range(first, first + count)]
    file = folder / f"part-{first:03}.{form}"
    if "jsonl" in form:
        return JsonLines(write_jsonl(file, rows))
    return Parquet(write_parquet(file, rows)) if form == "parquet" else Tar(write_tar(file, rows))


def texts(rows: Any) -> list[str]:
    return [row["text"] if "text" in row else row["txt"] for row in rows]


FORMS = ("jsonl", "jsonl.gz", "parquet", "tar", "tar.gz")


@pytest.mark.parametrize("form", FORMS)
def test_any_row_is_where_reading_goes_on(form: str, tmp_path: Path) -> None:
    shard = shard_of(form, tmp_path)
    whole = list(shard.read())
    assert texts(value for _, value in whole) == [f"row {number}" for number in range(ROWS)]
    for stop in (0, 1, 6, 7, 20, ROWS - 1, ROWS):
        reading = shard.read()
        before = list(islice(reading, stop))
        row = before[-1][0] + 1 if before else 0
        mark = json.loads(json.dumps(reading.mark()))
        reading.close()
        assert list(shard.read(row, mark)) == whole[stop:], "from the mark"
        assert list(shard.read(row)) == whole[stop:], "from the number alone"


@pytest.mark.parametrize("form", ["jsonl", "parquet", "tar"])
def test_what_lies_before_is_not_read(form: str, tmp_path: Path) -> None:
    shard = shard_of(form, tmp_path)
    reading = shard.read()
    last = [number for number, _ in islice(reading, 28)][-1]  # four groups of Parquet
    mark = reading.mark()
    reading.close()
    rest = list(shard.read(last + 1, mark))
    assert len(rest) == ROWS - 28
    (file,) = tmp_path.iterdir()
    content = bytearray(file.read_bytes())
    start = content.find(b"row 20") if form == "parquet" else content.find(b"row 27")
    content[4:start] = b"\xff" * (start - 4)  # Parquet begins with four bytes that it looks at
    file.write_bytes(bytes(content))
    assert list(shard.read(last + 1, mark)) == rest


def test_an_iterable_that_knows_where_it_is_goes_on_from_there() -> None:
    rows = Knowing(20)
    first, second = shards_of(rows)
    assert texts(value for _, value in second.read()) == [f"row {number}" for number in range(10, 20)]
    reading = second.read()
    next(reading), next(reading)
    assert reading.mark() == {"at": 12}
    assert texts(value for _, value in second.read(2, reading.mark())) == texts(
        v for _, v in islice(second.read(), 2, None)
    )
    assert rows.at == 0, "the user's own object stays where it was"
    assert isinstance(first, OfIterable)


def test_an_iterable_that_does_not_is_read_past() -> None:
    rows = Counting(10)
    (shard,) = shards_of(rows)
    assert [number for number, _ in shard.read(7)] == [7, 8, 9]
    assert rows.given == 10


@pytest.mark.parametrize("seed", range(8))
def test_each_row_once_a_pass_in_an_order_that_repeats(seed: int, tmp_path: Path) -> None:
    generator = np.random.default_rng(seed)
    counts = generator.integers(0, 9, size=4).tolist()
    counts[0] += 1
    parts = tuple(
        OfIterable([line(100 * part + row) for row in range(count)], 0, 1) for part, count in enumerate(counts)
    )
    size, total = int(generator.integers(1, 12)), sum(counts)
    reader = Reader(parts, seed=seed)
    blocks: list[list[str]] = []
    cursors: list[Cursor] = []
    while reader.cursor.done < 3:
        cursors.append(reader.cursor)
        blocks.append(texts(row.value for row in reader.block(size)))
    flat = [text for block in blocks for text in block]
    expected = sorted(f"row {100 * part + row}" for part, count in enumerate(counts) for row in range(count))
    passes = [flat[start : start + total] for start in range(0, 3 * total, total)]
    assert all(sorted(seen) == expected for seen in passes)
    ends = np.cumsum([len(block) for block in blocks])
    assert set(range(total, 3 * total + 1, total)) <= set(ends.tolist()), "a block lies in one pass"
    number = int(generator.integers(len(cursors)))
    again = Reader(parts, seed=seed, cursor=Cursor.from_dict(json.loads(json.dumps(cursors[number].to_dict()))))
    assert [texts(row.value for row in again.block(size)) for _ in blocks[number:]] == blocks[number:]


def test_shards_come_in_another_order_in_each_pass() -> None:
    parts = tuple(OfIterable([line(part)], 0, 1) for part in range(6))
    reader = Reader(parts, seed=3)
    passes = [texts(row.value for row in reader.block(6)) for _ in range(4)]
    assert len({tuple(seen) for seen in passes}) > 2
    assert texts(row.value for row in Reader(parts, seed=4).block(6)) != passes[0]
    orders = {tuple(order_of_rows(9, seed=0, block=block).tolist()) for block in range(20)}
    assert len(orders) == 20


def test_a_stream_without_rows_ends() -> None:
    with pytest.raises(DataError, match="no rows"):
        Reader(shards_of(Counting(0)), seed=0).block(3)


def test_all_that_is_wrong_with_a_block_is_one_error(tmp_path: Path) -> None:
    good = [json.dumps(line(number)) for number in range(4)]
    (tmp_path / "a.jsonl").write_text("\n".join([*good, '{"text": 7, "label": 1}', "{broken", "[1]"]), encoding="utf-8")
    (tmp_path / "b.jsonl").write_text('\n\n{"text": "x", "label": 9}\n', encoding="utf-8")
    stream = TaskStream.from_jsonl(tmp_path / "*.jsonl", label_names=[0, 1])
    with pytest.raises(DataError) as caught:
        stream.take(20)
    said = str(caught.value)
    for place in ("a.jsonl, line 5 (7", "a.jsonl, line 6 (Expecting", "a.jsonl, line 7", "b.jsonl, line 3 (9"):
        assert place in said
    dropping = TaskStream.from_jsonl(tmp_path / "*.jsonl", label_names=[0, 1], on_invalid="drop")
    assert dropping.take(20).column("text") == [f"row {number}" for number in range(4)]
    taken = Reader(dropping.shards, seed=None).block(20)
    assert dropping.block(taken).left_out == 4
    assert [row.value.what for row in taken if isinstance(row.value, Unreadable)] == ["no JSON"]


def test_labels_that_were_not_named_are_refused_with_their_place(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [line(0), line(1), {"text": "c", "label": 2}])
    with pytest.raises(LabelError, match=r"a\.jsonl, line 5 \(2"):
        TaskStream.from_jsonl(tmp_path / "a.jsonl", label_names=[0, 1]).take(9)


def test_label_names_of_a_first_pass(tmp_path: Path) -> None:
    for part in range(3):
        write_jsonl(tmp_path / f"part-{part}.jsonl", [{"review": "a", "mood": name} for name in (f"n{part}", "x")])
    stream = TaskStream.from_jsonl(tmp_path / "part-*.jsonl", text="review", label="mood", buffer=4)
    assert "label_names=('n0', 'n1', 'n2', 'x')" in repr(stream.with_label_names())
    with pytest.raises(OptionError, match="with_label_names"):
        stream.settled(stream.take(2))


def test_columns_of_an_archive(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, content in (
            ("1.json", '{"text": "a", "n": [1]}'),
            ("1.cls", "7"),
            ("2.json", "[3]"),
            ("2.cls", "x\n"),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content.encode()))
        link = tarfile.TarInfo("3.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "../secret"
        archive.addfile(link)
    found = [value for _, value in Tar(tmp_path / "a.tar").read()]
    assert found == [
        {"__key__": "1", "json.text": "a", "json.n": [1], "cls": 7},
        {"__key__": "2", "json": [3], "cls": "x"},
    ]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: TaskStream(iter([{"text": "a"}])), "gone through once"),
        (lambda: TaskStream("a.jsonl"), "from_jsonl"),
        (lambda: TaskStream.from_jsonl("nowhere/*.jsonl"), "no such folder"),
        (lambda: TaskStream.from_jsonl([]), "a pattern"),
        (lambda: TaskStream.from_jsonl("."), "a folder: name its files, with a pattern"),
        (lambda: TaskStream([{}], buffer=0, on_invalid="keep"), "buffer=0"),
        (lambda: TaskStream([{}], bufer=3), "bufer"),
    ],
)
def test_what_is_no_stream_is_refused(make: Any, said: str) -> None:
    with pytest.raises((DataError, OptionError), match=said):
        make().take(1)
