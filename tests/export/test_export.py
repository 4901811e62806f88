"""`export`: the folder says what the model says, read by its own reader without torch, or nothing is written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sftlib import FineTuner, TaskDataset
from sftlib.errors import ArtifactError, DataError, NotFittedError, OptionError
from sftlib.export import Export, export, onnx
from sftlib.testing import SENTENCES, tiny_model, tiny_tokenizer

ODD = ["", "[SEP] [CLS] a [MASK]", "word " * 200, "\u2603", "A film."]


def rows(count: int = 48) -> TaskDataset:
    words = ["film", "card"]
    texts = [f"{words[n % 2]} {SENTENCES[n % 16]} {words[n % 2]} {n}" for n in range(count)]
    return TaskDataset({"text": texts, "label": [words[n % 2] for n in range(count)]})


def tuned(**options: Any) -> FineTuner:
    given = {"max_steps": 40, "learning_rate": 3e-3, "batch_size": 16, **options}
    return FineTuner(tiny_model("bert", dropout=0.0), tokenizer=tiny_tokenizer(), **given)


@pytest.fixture(scope="module")
def tuner() -> FineTuner:
    return tuned().fit(rows(), progress=False)


@pytest.fixture(scope="module")
def written(tuner: FineTuner, tmp_path_factory: pytest.TempPathFactory) -> Export:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    return export(tuner, tmp_path_factory.mktemp("exported") / "model", check=rows(), precision="fp32")


def test_the_reader_says_what_the_model_says(tuner: FineTuner, written: Export) -> None:
    from sftlib.export.reader import Reader

    texts = [*SENTENCES, *ODD]
    expected = tuner.predict(texts)
    for size in (1, 7, 64):
        found = Reader(written.folder).predict(texts, batch_size=size)
        assert [one["label"] for one in found] == [one.label for one in expected]
        np.testing.assert_allclose(
            [one["probability"] for one in found], [one.probability for one in expected], atol=1e-5
        )
    assert Reader(written.folder).predict([]) == []


def test_the_folder_needs_no_torch(written: Export) -> None:
    names = {path.name for path in written.folder.iterdir()}
    assert names == {"export.json", "model.onnx", "reader.py", "tokenizer.json"}
    without = (
        "import sys; sys.modules['torch'] = sys.modules['transformers'] = sys.modules['sftlib'] = None; "
        "sys.argv = ['reader.py', 'A warm film.']; import runpy; runpy.run_path('reader.py', run_name='__main__')"
    )
    command = [sys.executable, "-c", without]
    found = subprocess.run(command, cwd=written.folder, capture_output=True, text=True, check=True)
    assert json.loads(found.stdout)["label"] in ("card", "film")


def test_what_it_says_of_itself(written: Export) -> None:
    assert written.agreement == 1.0
    assert written.difference is not None
    assert written.difference.value == 0.0
    assert set(written.milliseconds) == {1, 32}
    assert all(time > 0 for pair in written.milliseconds.values() for time in pair)
    assert written.megabytes[1] > 0.5 * written.megabytes[0]
    measured = json.loads((written.folder / "export.json").read_text(encoding="utf-8"))["measured"]
    assert measured["agreement"] == 1.0
    assert "the same of 100.0% of 48 rows" in str(written)
    slow = Export(**{**vars(written), "milliseconds": {1: (1.0, 2.0), 32: (2.0, 1.0)}})
    assert slow.slower == (1,)
    assert "SLOWER here than torch in fp32 at 1 rows a call" in str(slow)


def test_eight_bits_are_smaller_and_agree(tuner: FineTuner, written: Export, tmp_path: Path) -> None:
    found = export(tuner, tmp_path / "small", check=list(rows().column("text")))
    assert found.precision == "int8"
    assert found.agreement >= 0.99
    assert found.megabytes[1] < written.megabytes[1]
    assert found.difference is None
    assert not (tmp_path / "small" / "fp32.onnx").exists()
    again = export(tuner, tmp_path / "small", check=rows())  # an earlier export is replaced
    assert again.agreement == found.agreement


def test_what_loses_too_much_is_refused(tuner: FineTuner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    tried = []

    def another(source: Path, target: Path, *, whole: bool) -> None:
        """In place of rounding: a model that says the contrary."""
        tried.append(whole)
        flipped = source.with_suffix(".other")
        if not flipped.exists():
            onnx.write_onnx(_contrary(tuner), flipped)
        target.write_bytes(flipped.read_bytes())

    monkeypatch.setattr(onnx, "write_int8", another)
    with pytest.raises(ArtifactError, match=r"the same of 0.0% of 48 rows only.*although the embedding"):
        export(tuner, tmp_path / "bad", check=rows())
    assert tried == [True, False]
    assert list(tmp_path.iterdir()) == []


def _contrary(tuner: FineTuner) -> Any:
    import copy
    from dataclasses import replace

    from sftlib.inside import fitted_of

    fitted = fitted_of(tuner, "test")
    model = copy.deepcopy(fitted.model)
    model.classifier.weight.data.neg_()
    model.classifier.bias.data.neg_()
    return replace(fitted, model=model)


def test_what_is_refused_before_anything_is_traced(tuner: FineTuner, tmp_path: Path) -> None:
    with pytest.raises(NotFittedError):
        export(tuned(), tmp_path / "x", check=rows())
    for given, message in [
        ({"to": "onxn"}, "did you mean 'onnx'|onnx"),
        ({"precision": "int4"}, "int8"),
        ({"accept_loss": 1}, "accept_loss"),
    ]:
        with pytest.raises(OptionError, match=message):
            export(tuner, tmp_path / "x", check=rows(), **given)
    with pytest.raises(DataError, match="at least 20"):
        export(tuner, tmp_path / "x", check=rows(4))
    with pytest.raises(DataError, match=r"export \(check\): found 7"):
        export(tuner, tmp_path / "x", check=7)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(ArtifactError, match="nothing else is replaced"):
        export(tuner, tmp_path / "mine", check=rows())
    tags = FineTuner(tiny_model("bert"), tokenizer=tiny_tokenizer(), max_steps=1)
    tags.fit(TaskDataset({"tokens": [["a", "film"]] * 4, "tags": [["O", "B-X"]] * 4}), progress=False)
    with pytest.raises(OptionError, match="not token-classification"):
        export(tags, tmp_path / "x", check=rows())
    assert not (tmp_path / "x").exists()


def test_the_extra_is_named(tuner: FineTuner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sftlib.errors import MissingExtraError

    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'sftlib\[onnx\]'"):
        export(tuner, tmp_path / "x", check=rows())
