"""The front door: a short list of names, each of which works, and nothing heavy behind it until it is used."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import sftlib

# Adding a public name is a decision: it is made here too.
CURATED = {
    "Audio",
    "AudioClassification",
    "AudioEmbedding",
    "Callback",
    "CausalLM",
    "ContactPrediction",
    "DataReport",
    "Detection",
    "EarlyStopping",
    "FineTuner",
    "Generation",
    "History",
    "Image",
    "ImageClassification",
    "ImageEmbedding",
    "ImageRegression",
    "LoRA",
    "MaskedLM",
    "Metrics",
    "MultiLabelClassification",
    "MultiLabelImageClassification",
    "MultiLabelSequenceClassification",
    "MultiTask",
    "Pretrained",
    "QuestionAnswering",
    "Range",
    "RelationExtraction",
    "SemanticSegmentation",
    "ResidueClassification",
    "Seq2Seq",
    "Sequence",
    "SequenceClassification",
    "SequenceRegression",
    "SpeechRecognition",
    "TaskDataset",
    "TaskStream",
    "Text",
    "TextClassification",
    "TextEmbedding",
    "TextRegression",
    "TokenClassification",
    "audit",
    "__version__",
    "compare",
    "cross_validate",
    "explain",
    "search",
}
HEAVY = (
    "torch",
    "transformers",
    "tokenizers",
    "sklearn",
    "scipy",
    "soundfile",
    "pandas",
    "polars",
    "datasets",
    "matplotlib",
    "numpy",
)


def fresh(code: str) -> object:
    """Run ``code`` in a new interpreter and return what it printed as JSON."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    return json.loads(done.stdout)


def test_the_list_is_curated() -> None:
    assert set(sftlib.__all__) == CURATED
    assert list(sftlib.__all__) == sorted(sftlib.__all__, key=lambda name: (not name[0].isupper(), name))


@pytest.mark.parametrize("name", sorted(CURATED))
def test_every_name_resolves(name: str) -> None:
    value = getattr(sftlib, name)
    assert value is getattr(sftlib, name), "resolved twice, to two objects"
    if isinstance(value, type):
        assert value.__doc__, f"{name} has no docstring"
        assert value.__name__ == name


@pytest.mark.parametrize(
    "statement",
    ["from sftlib import explain", "from sftlib.explain import explain", "import sftlib.explain as explain"],
)
def test_explain_is_called_however_it_is_imported(statement: str) -> None:
    names = fresh(
        f"import json, inspect\n{statement}\n"
        "print(json.dumps([callable(x) for x in (explain, explain.summary, explain.examples)]"
        " + list(inspect.signature(getattr(explain, 'explain', explain)).parameters)[:2]))"
    )
    assert names == [True, True, True, "tuner", "inputs"]


def test_dir_lists_them() -> None:
    assert set(dir(sftlib)) >= CURATED


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="FineTunr"):
        sftlib.FineTunr  # noqa: B018 - the lookup is the test


def test_star_import_gives_the_list() -> None:
    names = fresh("import json\nfrom sftlib import *\nprint(json.dumps(sorted(k for k in globals() if k != 'json')))")
    assert isinstance(names, list)
    assert set(names) >= CURATED - {"__version__"}


@pytest.mark.parametrize("statement", ["import sftlib", "import sftlib.errors", "import sftlib; dir(sftlib)"])
def test_importing_is_light(statement: str) -> None:
    loaded = fresh(f"import json, sys\n{statement}\nprint(json.dumps(sorted(sys.modules)))")
    assert isinstance(loaded, list)
    assert not set(loaded) & set(HEAVY)


def test_what_is_for_tests_is_imported_by_name_alone() -> None:
    """Not even a fit touches it."""
    code = (
        "import json, sys\nimport sftlib\nsftlib.FineTuner\nimport sftlib.tasks\nprint(json.dumps(sorted(sys.modules)))"
    )
    loaded = fresh(code)
    assert isinstance(loaded, list)
    assert "sftlib.finetuner" in loaded
    assert not [name for name in loaded if name.startswith("sftlib.testing")]


def test_a_data_set_and_metrics_need_no_torch() -> None:
    """Rows can be prepared, and scores added up, where torch is not wanted."""
    loaded = fresh("import json, sys\nfrom sftlib import TaskDataset, Metrics\nprint(json.dumps(sorted(sys.modules)))")
    assert isinstance(loaded, list)
    assert not set(loaded) & {"torch", "transformers", "sklearn", "pandas", "matplotlib"}


def test_the_version_is_the_installed_one() -> None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        installed = version("sftlib")
    except PackageNotFoundError:
        pytest.skip("run from a source tree that is not installed")
    assert sftlib.__version__ == installed


def test_the_tuner_needs_no_scikit_learn_before_it_evaluates() -> None:
    loaded = fresh(
        "import json, sys\n"
        "from transformers import GenerationMixin\n"  # which in older versions asks for scikit-learn itself
        "theirs = set(sys.modules)\n"
        "from sftlib import FineTuner, TaskDataset\n"
        "print(json.dumps(sorted(set(sys.modules) - theirs)))"
    )
    assert isinstance(loaded, list)
    assert "sftlib" in loaded
    assert not set(loaded) & {"sklearn", "pandas", "matplotlib", "datasets"}
