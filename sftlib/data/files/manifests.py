"""Lists of sounds with what is said in them: tables, JSON Lines, and the folders of Kaldi and LJSpeech."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from sftlib.data.files.paths import BadLines, entries, opened
from sftlib.data.files.readers import read_jsonl
from sftlib.data.files.separated import AUTO, read_csv
from sftlib.data.files.tables import Table
from sftlib.data.pictures import UnreadableError
from sftlib.data.problems import SHOWN, brief, listed
from sftlib.data.sounds import SUFFIXES, Sound, sound_of
from sftlib.errors import DataError, OptionError
from sftlib.support.checking import user_path

_KALDI, _LJ = "wav.scp", "metadata.csv"
_OF_NEMO = {"audio_filepath": "audio"}  # names that its manifests are known for
_EXPECTED = (
    "expected a .csv, .tsv or .jsonl file, a Kaldi folder (with wav.scp), or an LJSpeech folder (with metadata.csv and "
    "wavs)"
)


def read_manifest(path: str | os.PathLike[str], *, encoding: str = "utf-8", quoting: str | None = AUTO) -> Table:
    """A row for each sound.

    Args:
        path: a table with a header, a JSON Lines file, or a folder.
        encoding: of tables.
        quoting: in tables, as for `read_csv`.

    Raises:
        DataError: there is no such thing, or lines that cannot be used, all of them.
    """
    if not isinstance(path, str | os.PathLike):
        raise OptionError(f"path={brief(path)}: expected a path, as a string or a pathlib.Path")
    place = user_path(path)
    if place.is_dir():
        return _of_folder(place)
    if place.name == _LJ and (place.parent / "wavs").is_dir():
        return _of_ljspeech(place.parent)
    if place.suffix.lower() in (".jsonl", ".ndjson", ".json"):
        return _renamed(read_jsonl(place))
    delimiter = "\t" if place.suffix.lower() == ".tsv" else ","
    return _renamed(read_csv(place, delimiter=delimiter, quoting=quoting, encoding=encoding))


def _renamed(table: Table) -> Table:
    names = {name: _OF_NEMO.get(name, name) for name in table.columns}
    if len(set(names.values())) < len(names):
        return table  # it has a column of that name already
    columns = {names[name]: values for name, values in table.columns.items()}
    return replace(table, columns=columns)


def _of_folder(folder: Path) -> Table:
    names = {entry.name for entry in entries(folder)}
    if _KALDI in names:
        return _of_kaldi(folder)
    if {_LJ, "wavs"} <= names:
        return _of_ljspeech(folder)
    raise DataError(
        f"{folder} is no folder of a known layout: {_EXPECTED}; found {listed(sorted(names), 5) or 'nothing'}"
    )


# LJSpeech: a table without a header, and without quotes.


def _of_ljspeech(folder: Path) -> Table:
    """``id|text|normalised text``, and a file for each id in ``wavs``."""
    file, wavs = folder / _LJ, folder / "wavs"
    sounds = {entry.stem: str(entry.absolute()) for entry in entries(wavs) if entry.suffix.lower() in SUFFIXES}
    columns: dict[str, list[object]] = {"audio": [], "text": [], "normalized_text": [], "id": []}
    bad = BadLines(file)
    for line, text in _lines(file):
        cells = text.split("|")
        if len(cells) not in (2, 3):
            bad.add(line, f"has {len(cells)} cells, expected id|text|normalised text")
        elif cells[0] not in sounds:
            bad.add(line, f"names {cells[0]!r}, and wavs holds no sound of that name")
        else:
            name, said, spoken = (*cells, cells[1])[:3]
            for column, value in zip(columns, (sounds[name], said, spoken, name), strict=True):
                columns[column].append(value)
    bad.raise_any()
    return Table(columns, len(columns["id"]), options=("encoding",))


# Kaldi: small files of which each line begins with the name of an utterance.


def _of_kaldi(folder: Path) -> Table:
    """``wav.scp``, and where they are there ``segments``, ``text`` and ``utt2spk``."""
    sounds = {name: _kaldi_path(folder, name, rest) for name, rest in _pairs(folder / _KALDI).items()}
    segments = folder / "segments"
    audio: Mapping[str, object] = _cut(segments, sounds) if segments.is_file() else sounds
    columns: dict[str, list[object]] = {"audio": list(audio.values()), "id": list(audio)}
    for column, name in (("text", "text"), ("speaker", "utt2spk"), ("language", "utt2lang")):
        if (folder / name).is_file():
            known = _pairs(folder / name)
            missing = [utterance for utterance in audio if utterance not in known]
            if missing:
                raise DataError(f"{folder / name} lacks {len(missing):,} utterances: {listed(missing, SHOWN)}")
            columns[column] = [known[utterance] for utterance in audio]
    return Table(columns, len(audio), options=("encoding",))


def _pairs(file: Path) -> dict[str, str]:
    """The name that each line begins with -> the rest of it."""
    found: dict[str, str] = {}
    bad = BadLines(file)
    for line, text in _lines(file):
        name, *rest = text.split(None, 1)
        if name in found:
            bad.add(line, f"names {name!r} once more")
        found[name] = rest[0].strip() if rest else ""
    bad.raise_any()
    return found


def _kaldi_path(folder: Path, name: str, rest: str) -> str:
    """The file of a recording.

    Raises:
        DataError: a command instead of a file: nothing that a list says is ever run.
    """
    if not rest or rest.endswith("|"):
        found = f"the command {rest!r:.60}, and commands are not run" if rest else "no path"
        raise DataError(f"{folder / _KALDI}: {name!r} has {found}; write the sounds to files first")
    beside = folder / rest
    return str(beside.absolute() if beside.exists() else Path(rest).absolute())


def _cut(file: Path, sounds: Mapping[str, str]) -> dict[str, object]:
    """The parts of recordings that ``segments`` names, held in memory: name -> samples and their rate.

    Raises:
        DataError: lines that cannot be used, all of them.
    """
    found: dict[str, object] = {}
    bad = BadLines(file)
    read: dict[str, Sound] = {}  # the last recording: its parts follow each other
    for line, text in _lines(file):
        cells = text.split()
        try:
            name, recording, start, stop = cells[0], cells[1], float(cells[2]), float(cells[3])
            path = sounds[recording]
        except (IndexError, ValueError, KeyError):
            bad.add(line, "expected a name, a recording of wav.scp, and where it begins and ends in seconds")
            continue
        try:
            read = read if path in read else {path: sound_of(path)}
        except UnreadableError as problem:
            bad.add(line, f"names {path!r}, which is {problem.what}")
            continue
        samples, rate = read[path]
        first, behind = round(start * rate), round(stop * rate)
        if not 0 <= first < behind <= len(samples) + rate // 10:  # ends are rounded
            bad.add(line, f"is from {start:g} s to {stop:g} s, and the recording has {len(samples) / rate:g} s")
            continue
        found[name] = {"array": samples[first:behind], "sampling_rate": rate}
    bad.raise_any()
    return found


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """Every line with its number, blank ones left out."""
    with opened(file, "r") as stream:
        for number, line in enumerate(stream, 1):
            if line.strip():
                yield number, line.rstrip("\r\n")
