"""Pictures as a role: what passes, what is refused by row and file, and what makes two of them the same."""

from __future__ import annotations

import io
import logging
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sftlib.data import TaskDataset
from sftlib.data.files import spool
from sftlib.data.kinds import media
from sftlib.data.kinds.media import ImageRole
from sftlib.errors import DataError, MissingExtraError
from sftlib.tasks import find_task
from tests.pictures import BROKEN, animated, half_clear, image, pixels, saved, turned

pytest.importorskip("PIL")


def folder_of(tmp_path: Path, count: int, **options: Any) -> list[str]:
    """Paths of different pictures."""
    for number in range(count):
        (tmp_path / f"{number:03}.png").write_bytes(saved(image(pixels(number)), **options))
    return [str(tmp_path / f"{number:03}.png") for number in range(count)]


def labelled(images: list[Any], **options: Any) -> TaskDataset:
    return TaskDataset({"image": images, "label": [row % 2 for row in range(len(images))]}, **options)


def decodes(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Grows by one whenever a picture is decoded."""
    done: list[object] = []
    real = media.facts_of

    def counted(stream: Any, **options: Any) -> Any:
        done.append(stream)
        return real(stream, **options)

    monkeypatch.setattr(media, "facts_of", counted)
    return done


def test_every_form_of_a_picture(tmp_path: Path) -> None:
    path = folder_of(tmp_path, 1)[0]
    content = Path(path).read_bytes()
    forms = [
        path,
        Path(path),
        content,
        bytearray(content),
        {"bytes": content, "path": None},
        {"bytes": None, "path": path},
    ]
    forms += [image(), pixels(), pixels()[..., 0], pixels()[..., :1]]
    data = TaskDataset({"file": forms, "kind": ["ant", "bee"] * 5}, image="file", label="kind")
    assert data.task == "image-classification"
    assert data.label_names == ("ant", "bee")
    assert [type(value).__name__ for value in data.column("image")] == (
        ["str", "str", "bytes", "bytes", "bytes", "str", "Image", "ndarray", "ndarray", "ndarray"]
    )
    assert TaskDataset({"image": [path]}).is_labelled is False


def test_other_tasks_of_pictures(tmp_path: Path) -> None:
    paths = folder_of(tmp_path, 2)
    for name, column in {
        "multi-label-image-classification": {"labels": [["a"], []]},
        "image-regression": {"target": [0.5, 1.5]},
    }.items():
        data = TaskDataset({"image": paths, **column})
        assert data.task == name
        assert find_task(name).name == name


def test_what_was_handed_in_cannot_change_the_data(tmp_path: Path) -> None:
    array, picture = pixels(1), image(pixels(2))
    data = labelled([array, picture])
    before = data.fingerprint()
    array[:] = 0
    picture.putpixel((0, 0), (1, 2, 3))
    assert data.fingerprint() == before
    with pytest.raises(ValueError, match="read-only"):
        data[0]["image"][:] = 0


# --- paths


def test_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From Python they start from the working directory, at the time when the data set is made."""
    expected = folder_of(tmp_path, 2)
    monkeypatch.chdir(tmp_path)
    data = labelled(["000.png", "./001.png"])
    monkeypatch.chdir("/")
    assert data.column("image") == expected
    assert len(data.split(0.5, 0.5)) == 2


def test_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = folder_of(tmp_path, 1)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert labelled(["~/000.png"]).column("image") == expected


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("reader", ["from_csv", "from_jsonl", "from_json", "from_parquet"])
def test_files_name_pictures_beside_them(
    reader: str, large: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if large:
        monkeypatch.setattr(spool, "FILE_LIMIT", 0)
    (tmp_path / "pictures").mkdir()
    expected = folder_of(tmp_path / "pictures", 2)
    rows = [{"file": f"pictures/00{row}.png", "kind": "ab"[row]} for row in range(2)]
    listed = tmp_path / "list"
    if reader == "from_csv":
        listed.write_text("file,kind\n" + "".join(f"{row['file']},{row['kind']}\n" for row in rows))
    elif reader == "from_parquet":
        pyarrow = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(pyarrow.Table.from_pylist(rows), listed)
    else:
        import json

        lines = [json.dumps(row) for row in rows]
        listed.write_text("\n".join(lines) if reader == "from_jsonl" else f"[{','.join(lines)}]")
    data = getattr(TaskDataset, reader)(listed, image="file", label="kind")
    assert data.column("image") == expected
    assert data.task == "image-classification"
    assert data.fingerprint() == TaskDataset({"image": expected, "label": ["a", "b"]}).fingerprint()


def test_columns_of_arrays_and_frames(tmp_path: Path) -> None:
    stacked = np.stack([pixels(row) for row in range(3)])
    data = TaskDataset({"image": stacked, "label": [0, 1, 0]})
    assert data[1]["image"].shape == (20, 30, 3)
    paths = folder_of(tmp_path, 3)
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"image": paths, "label": [0, 1, 0]})
    assert TaskDataset(frame).column("image") == paths


def test_pictures_of_datasets_stay_bytes(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["ant", "bee"])})
    paths = folder_of(tmp_path, 2)
    rows = datasets.Dataset.from_dict(
        {"image": [{"bytes": Path(path).read_bytes(), "path": None} for path in paths], "label": [1, 0]}, features
    )
    data = TaskDataset(rows)
    assert [type(value) for value in data.column("image")] == [bytes, bytes]
    assert data.column("label") == ["bee", "ant"]
    assert data.digest(["image"]) == labelled(paths).digest(["image"])


# --- what is refused


def test_all_broken_files_in_one_error(tmp_path: Path) -> None:
    """Each by its row and its file, in bounded time and memory, and good ones are not named."""
    import resource

    good = folder_of(tmp_path, 3)
    names = []
    for name, (_, make) in BROKEN.items():
        path = tmp_path / f"broken {name}"
        path.write_bytes(make())
        names.append(str(path))
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(DataError) as caught:
        labelled([*good, *names, good[0]])
    message = str(caught.value)
    assert time.process_time() - start < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB
    for row, ((said, _), path) in enumerate(zip(BROKEN.values(), names, strict=True), len(good)):
        line = next(line for line in message.splitlines() if f"row {row} ({path!r}" in line)
        assert said in line
        assert "; " in line
    assert not any(path in message for path in good)


def test_more_than_a_few_broken_files_are_all_named(tmp_path: Path) -> None:
    paths = folder_of(tmp_path, 40)
    for path in paths[::2]:
        Path(path).write_bytes(b"")
    with pytest.raises(DataError, match="20 rows with an empty file") as caught:
        labelled(paths)
    assert [path in str(caught.value) for path in paths] == [True, False] * 20


def test_broken_files_are_dropped_when_asked(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    paths = folder_of(tmp_path, 6)
    Path(paths[1]).write_bytes(b"")
    Path(paths[4]).write_bytes(Path(paths[4]).read_bytes()[:60])
    with caplog.at_level(logging.WARNING, "sftlib"):
        data = labelled([*paths, "gone.png"], on_invalid="drop")
    assert data.column("image") == [paths[row] for row in (0, 2, 3, 5)]
    assert "3 of 7 rows left out" in caplog.text
    assert "1 row with an empty file: row 1" in caplog.text
    assert "row 4" in caplog.text
    assert "a file that does not exist: row 6" in caplog.text


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (None, r"a missing value: row 1; drop"),
        (float("nan"), "a missing value"),
        ("", "a missing value"),
        (7, "an int instead of a picture: row 1; give a path, bytes"),
        ([[1, 2], [3, 4]], "a list instead of a picture"),
        ({"url": "x"}, "a dict instead of a picture"),
        (b"", r"an empty file: row 1 \(0 bytes\)"),
        (b"no picture", "no picture"),
        (
            "http://example.org/ant.jpg",
            r"an address instead of a path: row 1 \('http://example.org/ant.jpg'\); .*download",
        ),
        ("a\0b", "a path that no file can have"),
        ("a\ud800b", "a path that no file can have"),
        (".", "a folder instead of a file"),
        ("x" * 5000, "a file that cannot be opened"),
        (np.zeros((4, 4, 3)), r"other numbers than uint8: row 1 \(float64 of shape \(4, 4, 3\)\); scale it"),
        (np.zeros((3, 9, 9), np.uint8), r"another shape.*\(3, 9, 9\).*put the channels last"),
        (np.zeros((9, 9, 4), np.uint8), r"another shape"),
        (np.zeros((0, 9, 3), np.uint8), "without pixels"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_values_that_are_no_picture(value: Any, match: str) -> None:
    with pytest.raises(DataError, match=match):
        labelled([pixels(), value])


def test_an_image_that_is_not_whole() -> None:
    from PIL import Image

    opened = Image.open(io.BytesIO(saved(image(pixels(height=200, width=200)), "JPEG")[:2000]))
    with pytest.raises(DataError, match="a picture that ends too early: row 0"):
        labelled([opened, pixels()])


def test_a_file_that_is_not_there_is_helped_once(tmp_path: Path) -> None:
    folder_of(tmp_path, 2)
    with pytest.raises(DataError, match=r"row 0 \('.*00.png', did you mean '00..png'\?\), row 1") as caught:
        labelled([str(tmp_path / "00.png"), str(tmp_path / "01.png")])
    assert str(caught.value).count("did you mean") == 1
    with pytest.raises(DataError, match="there is no such folder as"):
        labelled([str(tmp_path / "nowhere" / "a.png")])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with a name")
def test_pipes_and_devices_are_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(DataError, match="2 rows with a pipe or device"):
        labelled([str(tmp_path / "pipe.png"), "/dev/zero"])


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="everything can be opened here")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = folder_of(tmp_path, 1)[0]
    os.chmod(path, 0)
    with pytest.raises(DataError, match="a file that cannot be opened.*Permission denied"):
        labelled([path])


def test_wrong_suffixes_do_not_matter(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.txt", "c"):
        (tmp_path / name).write_bytes(saved())
    assert len(labelled([str(tmp_path / name) for name in ("a.jpg", "b.txt", "c")])) == 3


def test_without_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder_of(tmp_path, 1)[0]
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'sftlib\[image\]'"):
        labelled([path])


# --- what is said


def test_what_is_not_read_as_it_stands_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    grey = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000
    values = [saved(half_clear()), saved(image(mode="CMYK"), "JPEG"), animated(), saved(image(grey)), saved(), b""]
    with caplog.at_level(logging.WARNING, "sftlib"):
        labelled([*values, half_clear()], on_invalid="drop")
    for said in (
        "role 'image': 2 pictures with transparent parts, laid on white: row 0, row 5",
        "1 picture in CMYK, converted to RGB without a colour profile: row 1",
        "1 picture with several frames or pages, of which the first is read: row 2",
        "1 picture with 16 bits a pixel, scaled to 8: row 3",
    ):
        assert caplog.text.count(said) == 1


def test_nothing_is_said_of_ordinary_pictures(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "sftlib"):
        labelled([saved(), saved(form="JPEG"), saved(image(mode="L")), saved(image(mode="RGBA")), turned(6), pixels()])
    assert caplog.text == ""


# --- identity


def test_copies_are_the_same_picture(tmp_path: Path) -> None:
    """Whatever they are called: never on two sides, found as duplicates, conflicts and leakage."""
    paths = folder_of(tmp_path, 20)
    (tmp_path / "copies").mkdir()
    copies = [shutil.copy(path, tmp_path / "copies" / f"other {row}.jpg") for row, path in enumerate(paths)]
    data = TaskDataset({"image": [*paths, *copies], "label": [0, 1] * 20, "number": [*range(20), *range(20)]})
    for seed in range(5):
        left, right = data.split(0.5, 0.5, seed=seed)
        assert not set(left.column("number")) & set(right.column("number"))
    report = data.report()
    assert report.duplicates.count == 20
    assert report.conflicts.count == 0
    assert len(data.clean()) == 20
    with pytest.raises(DataError, match="20 rows stand in the other data set too"):
        labelled(paths).clean(labelled(copies))
    assert labelled(paths).report(labelled(copies)).leakage.exact.count == 20  # type: ignore[union-attr]
    twisted = TaskDataset({"image": [paths[0], copies[0]], "label": [0, 1]})
    assert twisted.report().conflicts.count == 1


def test_what_a_picture_is_does_not_hang_on_its_path(tmp_path: Path) -> None:
    paths = folder_of(tmp_path, 3)
    contents = [Path(path).read_bytes() for path in paths]
    (tmp_path / "elsewhere").mkdir()
    moved = [shutil.copy(path, tmp_path / "elsewhere") for path in paths]
    assert labelled(paths).fingerprint() == labelled(moved).fingerprint() == labelled(contents).fingerprint()
    assert labelled(paths).fingerprint() != labelled(paths[::-1]).fingerprint()
    assert labelled(paths).digest(["image"]) == labelled(moved).digest(["image"])


def test_arrays_and_images_are_the_same_by_their_pixels() -> None:
    role = ImageRole()
    assert role.identity(pixels()) == role.identity(image())
    assert role.identity(pixels()) != role.identity(pixels(1))
    assert role.identity(pixels()) != role.identity(pixels().reshape(30, 20, 3))
    assert role.identity(half_clear()) == role.identity(half_clear()) != role.identity(half_clear().convert("RGB"))
    palette, other = image(mode="L").convert("P"), image(mode="L").convert("P")
    other.putpalette(list(range(256)) * 3)
    assert role.identity(palette) != role.identity(other)


def test_each_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = folder_of(tmp_path, 10)
    done = decodes(monkeypatch)
    data = labelled([*paths, paths[0]], on_invalid="drop")
    assert 10 <= len(done) <= 11  # the repeated one perhaps twice at the same time
    done.clear()
    left, right = data.split(0.5, 0.5)
    assert left.fingerprint() != right.fingerprint()
    left.report(right)
    left.clean(right)
    both = left + right
    both.report()
    both.map(lambda row: row | {"label": 0}).split(0.5, 0.5)
    assert done == []
    other = labelled(paths[:5])
    assert len(done) == 5
    (data + other).report()
    assert len(done) == 5


def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    paths = folder_of(tmp_path, 4)
    data = labelled(paths)
    before = data.digest(["image"]), data.select([0]).fingerprint(), data.select([1]).fingerprint()
    Path(paths[0]).write_bytes(saved(image(pixels(99))))
    os.utime(paths[0], ns=(1, 1))
    assert data.select([0]).fingerprint() != before[1]
    assert data.select([1]).fingerprint() == before[2]
    os.remove(paths[0])
    with pytest.raises(DataError, match=r"000.png' is a file that does not exist, and was a picture when"):
        data.split(0.5, 0.5)


def test_two_data_sets_remember_nothing_of_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = folder_of(tmp_path, 3)
    done = decodes(monkeypatch)
    labelled(paths)
    labelled(paths)
    assert len(done) == 6


def test_data_sets_of_pictures_can_be_copied_whole(tmp_path: Path) -> None:
    import copy

    data = labelled(folder_of(tmp_path, 3))
    assert copy.deepcopy(data).fingerprint() == data.fingerprint()


def test_sizes_are_reported_in_pixels(tmp_path: Path) -> None:
    values = [pixels(0, 10, 20), saved(image(pixels(1, 30, 10))), image(pixels(2, 10, 10)), *folder_of(tmp_path, 1)]
    report = labelled(values).report()
    assert report.measures == {"image": "pixels"}
    assert (report.lengths["image"]["min"], report.lengths["image"]["max"]) == (100, 600)
    assert "image pixels, median" in str(report)


def test_roles_of_pictures_beside_texts(tmp_path: Path) -> None:
    paths = folder_of(tmp_path, 2)
    rows = {"image": paths, "text": ["a", "b"], "label": [0, 1]}
    with pytest.raises(
        DataError, match="task='text-classification' or text='text'.*task='image-classification' or image="
    ):
        TaskDataset(rows)
    assert TaskDataset(rows, image="image").inputs == ("image",)
    assert TaskDataset(rows, text="text").inputs == ("text",)
    with pytest.raises(DataError, match="did you mean 'file'"):
        TaskDataset({"file": paths}, image="fil")
