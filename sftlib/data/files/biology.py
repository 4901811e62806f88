"""Files of sequences and molecules: FASTA, plain or gzipped, and SDF, which rdkit reads."""

from __future__ import annotations

import csv
import gzip
import io
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from sftlib.data.files.paths import BadLines, existing, opened
from sftlib.data.files.spool import gathered
from sftlib.data.files.tables import Table
from sftlib.data.problems import listed
from sftlib.errors import DataError
from sftlib.support.checking import nearest
from sftlib.support.extras import require

_GZIP = b"\x1f\x8b"
_PAIR = re.compile(r"(?:^|(?<=[\s|;]))([A-Za-z_][\w.-]*)=([^\s|;]*)")
_OWN = ("id", "description", "sequence", "residue_labels", "residue_mask")


class Entry(NamedTuple):
    """One sequence of a FASTA file.

    Attributes:
        line: of its header, from 1.
        name: what stands before the first space.
        rest: what stands after it.
        letters: of all its lines.
    """

    line: int
    name: str
    rest: str
    letters: str


@contextmanager
def _bytes(file: Path) -> Iterator[IO[bytes]]:
    """The file, unpacked where it is gzipped, whatever it is called.

    Raises:
        DataError: it cannot be read, or ends before its end.
    """
    with opened(file, "rb", as_it_lies=True) as raw:
        packed = raw.read(2) == _GZIP
        raw.seek(0)
        if not packed:
            yield raw
            return
        try:
            with gzip.open(raw) as stream:
                yield stream  # type: ignore[misc]
        except (gzip.BadGzipFile, EOFError) as error:
            raise DataError(f"{file} is damaged: {error}; copy it again from where it came") from error


def entries_of(file: Path) -> Iterator[Entry]:
    """Every sequence of a FASTA file, in order.

    Raises:
        DataError: lines before the first header, headers without a name or a sequence, all at once; no header at all.
    """
    bad, header, parts, count = BadLines(file), (0, ""), list[str](), 0
    with _bytes(file) as stream:
        for line, raw in enumerate(stream, 1):
            text = raw.decode("utf-8-sig" if line == 1 else "utf-8", "replace").strip()
            if text.startswith(">"):
                if header[0]:
                    yield _entry(header, parts, bad)
                header, parts, count = (line, text[1:].strip()), [], count + 1
            elif text and not text.startswith(";"):
                if not header[0]:
                    bad.add(line, "comes before the first header, a line that begins with '>'")
                parts.append(text)
    if header[0]:
        yield _entry(header, parts, bad)
    bad.raise_any()
    if not count:
        raise DataError(f"{file} holds no sequence: expected a header line that begins with '>'")


def _entry(header: tuple[int, str], parts: list[str], bad: BadLines) -> Entry:
    line, text = header
    name, _, rest = text.partition(" ")
    if not name:
        bad.add(line, "is a header without a name")
    if not "".join(parts):
        bad.add(line, f"is the header of {name!r}, which has no sequence")
    return Entry(line, name, rest.strip(), "".join(parts))


def read_fasta(
    path: str | os.PathLike[str],
    *,
    labels: str | os.PathLike[str] | None = None,
    mask: str | os.PathLike[str] | None = None,
) -> Table:
    """The sequences of a FASTA file, with what their headers say, and what a second file says of them.

    Raises:
        DataError: lines that cannot be used, or names that are not in both files.
    """
    file = existing(path)
    rows: dict[str, dict[str, object]] = {}
    bad = BadLines(file)
    for entry in entries_of(file):
        if entry.name in rows:
            bad.add(entry.line, f"is a second header of {entry.name!r}")
        said = {key.lower(): value for key, value in _PAIR.findall(entry.rest) if key.lower() not in _OWN}
        rows[entry.name] = {"id": entry.name, "description": entry.rest, "sequence": entry.letters, **said}
    bad.raise_any()
    if labels is not None:
        _join(rows, file, existing(labels), "residue_labels")
    if mask is not None:
        _join(rows, file, existing(mask), "residue_mask")
    table = gathered(rows.values(), file.stat().st_size)
    return Table(table.columns, table.rows, textual=True, options=("labels", "mask"), folder=file.parent)


def _join(rows: dict[str, dict[str, object]], file: Path, other: Path, column: str) -> None:
    """Put beside each sequence what another file says under its name: FASTA for letters, CSV for anything."""
    with _bytes(other) as stream:
        is_fasta = stream.read(1) in (b">", b";")
    beside = {entry.name: {column: entry.letters} for entry in entries_of(other)} if is_fasta else _table(other)
    missing, more = [name for name in rows if name not in beside], [name for name in beside if name not in rows]
    if missing or more:
        problems = [f"{other} says nothing of {len(missing):,} sequences of {file.name}: {listed(missing, 5)}"] * bool(
            missing
        )
        problems += [f"{other} names {len(more):,} that are not in {file.name}: {listed(more, 5)}"] * bool(more)
        raise DataError("\n".join(problems))
    for name, row in rows.items():
        row.update(beside[name])


def _table(file: Path) -> dict[str, dict[str, str]]:
    """The rows of a CSV file by their column ``id``, or their first column."""
    with _bytes(file) as stream:
        lines = list(csv.DictReader(io.StringIO(stream.read().decode("utf-8-sig"), newline="")))
    if not lines:
        raise DataError(f"{file} holds no rows: expected FASTA, or CSV with a header")
    names = list(lines[0])
    key = "id" if "id" in names else names[0]
    found = {line[key]: {name: line[name] for name in names if name != key and name != "sequence"} for line in lines}
    if len(found) < len(lines):
        raise DataError(f"{file}: {len(lines) - len(found):,} names stand more than once in the column {key!r}")
    if not any(len(row) for row in found.values()):
        raise DataError(f"{file}: beside {key!r} there is no column with labels: {nearest('label', names)}")
    return found


def read_sdf(path: str | os.PathLike[str], *, drop: bool = False) -> Table:
    """The molecules of an SDF file as canonical SMILES, with their names and properties.

    Raises:
        MissingExtraError: rdkit is not installed.
        DataError: records that are no molecule to rdkit, all of them at once, unless they are to be left out.
    """
    require("rdkit", extra="chem", purpose="reading SDF")
    from rdkit import Chem, rdBase

    file = existing(path)
    rows: list[dict[str, object]] = []
    bad: list[int] = []
    with _bytes(file) as stream, rdBase.BlockLogs():
        content = io.BytesIO(stream.read())
        supplier: Any = Chem.ForwardSDMolSupplier(content)  # None for what it cannot read
        for number, found in enumerate(supplier):
            if found is None:
                bad.append(number)
                continue
            rows.append(_of_molecule(found, Chem))
    if bad:
        count = "1 record that is" if len(bad) == 1 else f"{len(bad):,} records that are"
        shown = ", ".join(f"record {number}" for number in bad[:5]) + (f" and {len(bad) - 5:,} more" * (len(bad) > 5))
        said = f"{file}: {count} no molecule to rdkit (counted from 0): {shown}"
        if not drop or not rows:
            raise DataError(f"{said}; mend them, or leave them out with on_invalid='drop'")
        logging.getLogger("sftlib").warning("%s (left out)", said)
    if not rows:
        raise DataError(f"{file} holds no molecules")
    table = gathered(rows, file.stat().st_size)
    return Table(table.columns, table.rows, textual=True, folder=file.parent)


def _of_molecule(found: Any, chem: Any) -> dict[str, object]:
    properties = {name: found.GetProp(name) for name in found.GetPropNames()}
    name = {"id": found.GetProp("_Name")} if found.HasProp("_Name") and "id" not in properties else {}
    return {**name, **properties, "sequence": chem.MolToSmiles(found)}
