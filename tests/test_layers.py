"""Who may import whom: the rules of the house, read from the source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "sftlib"
FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))

# Each room and what it may import from, besides itself. Folders stand for all their files.
GROUND = {"errors", "support", "_version"}
MIDDLE = {"data", "models", "metrics"}  # siblings: none imports another
WIRING = ("arguments", "run", "saved", "preflight", "finetuner", "inside")
# Rooms above the front. Those of `DELEGATES` have verbs of the front too, which imports them inside the method alone.
UPPER = ("sure", "explain", "audits", "cards")
DELEGATES = {"sure", "cards"}
LAYERS: dict[str, set[str]] = {
    **dict.fromkeys(GROUND, GROUND),
    **dict.fromkeys(MIDDLE, GROUND),
    "encoders": GROUND | {"data", "models"},
    "tasks": GROUND | MIDDLE | {"encoders"},
    "train": GROUND | MIDDLE | {"encoders", "tasks"},
    # The wiring, each room above those before it.
    **{name: GROUND | MIDDLE | {"encoders", "tasks", "train"} | set(WIRING[:i]) for i, name in enumerate(WIRING)},
    # What stands beside the front, on its public methods.
    "selection": GROUND | MIDDLE | {"encoders", "tasks", "train"} | set(WIRING),
    "multitask": {"data", "metrics", "selection"},
    # Beside one another above the front, each above those before it.
    **{name: GROUND | MIDDLE | {"encoders", "tasks", "train", *WIRING, *UPPER[:i]} for i, name in enumerate(UPPER)},
    "sklearn": GROUND | MIDDLE | {"encoders", "tasks", "train"} | set(WIRING),
    # Whoever makes a model smaller compares it with the one it came from.
    "export": GROUND | MIDDLE | {"encoders", "tasks", "train", *WIRING, "selection"},
    # The terminal: on public methods, and on what they are called.
    "command": GROUND | {"data", "saved", "finetuner"},
    "__main__": {"command"},
    "loggers": GROUND | {"train"},
    # For tests and notebooks; nobody in the package imports it.
    "testing": GROUND | MIDDLE | {"encoders", "tasks", "train"},
}
# What tasks have in common; a task never imports another.
_OF_A_KIND = {
    "audio.by_frames",
    "audio.by_tokens",
    "audio.sounds",
    "audio.transcript",
    "identities",
    "image.pictures",
    "image.placed",
    "labelled_tokens",
    "pairs",
    "sequence.coloured",
    "sequence.letters",
    "sequence.targets",
    "text.texts",
    "text.writing",
}
_SHARED_HALVES = ("single_label", "multi_label", "regression")
TASK_SHARED = {"around", "base", "plan", "mixing", "labels", "earlier", "vector", *_SHARED_HALVES, *_OF_A_KIND}
TRAIN_KNOWS = {"tasks.base", "tasks.plan"}  # train knows the contract, not the tasks

# The heavy packages, and the only files that may import them at all.
BOUNDARIES: dict[str, tuple[str, ...]] = {
    "torch.distributed": ("train/channel.py", "train/sharded.py"),
    "transformers": ("models/", "encoders/", "testing/"),
}
# Slow or optional packages: imported inside the function that uses them, in these places...
EVERYWHERE = ("",)
# ... but in rooms that are nothing without them, and that nobody else imports.
ROOMS_FOR = {"sklearn": "sklearn/"}
LIGHT = ("errors.py", "support/", "data/", "metrics/")
INSIDE_ONLY: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        ("sklearn", "scipy", "pandas", "polars", "pyarrow", "datasets", "matplotlib", "openpyxl"), EVERYWHERE
    ),
    **dict.fromkeys(("peft", "gguf", "bitsandbytes", "PIL", "rdkit", "soundfile"), EVERYWHERE),
    # The reader of exported models lies in folders of its own, and is imported where it is used.
    "onnx": EVERYWHERE,
    "onnxruntime": ("export/onnx.py", "export/exporting.py"),
    "torch": LIGHT,
}


def imports(source: str, module: str) -> Iterator[tuple[str, int, bool]]:
    """Yield (absolute name, line, at module level) for every import; those for type checkers alone are left out."""
    package = module.split(".")[:-1]

    def walk(node: ast.AST, top: bool) -> Iterator[tuple[str, int, bool]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
                for other in child.orelse:
                    yield from walk(ast.Module([other], []), top)
            elif isinstance(child, ast.Import):
                yield from ((alias.name, child.lineno, top) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                base = package[: len(package) + 1 - child.level] if child.level else []
                start = ".".join([*base, *([child.module] if child.module else [])])
                yield from ((f"{start}.{alias.name}", child.lineno, top) for alias in child.names)
            else:
                inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                yield from walk(child, top and not inside)

    yield from walk(ast.parse(source), True)


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def problems(file: str, source: str) -> list[str]:
    """Every broken rule of one file, as ``path:line what``."""
    module = "sftlib." + file.removesuffix(".py").replace("/", ".")
    layer = file.split("/")[0].removesuffix(".py")
    found = []
    for name, line, top in imports(source, module):
        for boundary, places in BOUNDARIES.items():
            if within(name, boundary) and not file.startswith(places):
                found.append(f"{file}:{line} imports {name}: only {', '.join(places)} may import {boundary}")
        for package, places in INSIDE_ONLY.items():
            own = ROOMS_FOR.get(package)
            if top and within(name, package) and file.startswith(places) and not (own and file.startswith(own)):
                found.append(f"{file}:{line} imports {name} at module level: only inside the function that uses it")
        if not within(name, "sftlib") or layer == "__init__":
            continue
        parts = name.split(".")[1:]
        if not parts or parts == ["__version__"]:
            found.append(f"{file}:{line} imports the front door: import from the module that defines the name")
            continue
        if layer == "finetuner" and parts[0] in DELEGATES and not top:
            continue
        if parts[0] != layer and parts[0] not in LAYERS.get(layer, set()):
            found.append(
                f"{file}:{line} imports {name}: {layer} may import {', '.join(sorted(LAYERS.get(layer, set())))}"
            )
        shared = {".".join(parts[1:2]), ".".join(parts[1:3])} & TASK_SHARED
        another = layer == "tasks" and parts[0] == "tasks" and parts[1:] and not shared
        if another and file != "tasks/__init__.py":
            found.append(f"{file}:{line} imports {name}: a task imports only {', '.join(sorted(TASK_SHARED))} of tasks")
        if layer == "train" and parts[0] == "tasks" and ".".join(parts[:2]) not in TRAIN_KNOWS:
            found.append(f"{file}:{line} imports {name}: train knows {', '.join(sorted(TRAIN_KNOWS))} only")
    return found


@pytest.mark.parametrize("file", FILES)
def test_imports_obey_the_layers(file: str) -> None:
    layer = file.split("/")[0].removesuffix(".py")
    assert layer == "__init__" or layer in LAYERS, f"{file}: give {layer!r} a place in LAYERS"
    found = problems(file, (PACKAGE / file).read_text(encoding="utf-8"))
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("file", "source", "expected"),
    [
        ("data/dataset.py", "from sftlib.metrics.core import Metrics", "data may import"),
        ("data/dataset.py", "from ..metrics import core", "data may import"),
        ("data/dataset.py", "import torch", "only inside the function"),
        ("data/dataset.py", "def f():\n    import torch", None),
        ("data/dataset.py", "import pandas", "only inside the function"),
        ("errors.py", "from sftlib.support.checking import nearest", None),
        ("errors.py", "from sftlib.data import dataset", "errors may import"),
        ("tasks/text/classification.py", "from sftlib.tasks.text.regression import x", "a task imports only"),
        ("tasks/text/classification.py", "from sftlib.tasks.base import Task", None),
        ("tasks/text/classification.py", "from sftlib.train.loop import fit", "tasks may import"),
        ("tasks/text/classification.py", "def f():\n    from transformers import AutoModel", "may import transformers"),
        ("train/loop.py", "from sftlib.tasks.base import Task", None),
        ("train/loop.py", "from sftlib.tasks.text.classification import x", "train knows"),
        ("train/loop.py", "import torch.distributed as dist", "only train/channel.py"),
        ("train/loop.py", "from torch import distributed", "only train/channel.py"),
        ("train/loop.py", "from sftlib import FineTuner", "front door|train may import"),
        ("train/loop.py", "from sftlib.testing import tiny_model", "train may import"),
        ("finetuner.py", "from sftlib.selection.search import search", "finetuner may import"),
        ("selection/search.py", "from sftlib.finetuner import FineTuner", None),
        ("selection/search.py", "from sftlib.testing import tiny_model", "selection may import"),
        ("finetuner.py", "from sftlib.testing import tiny_model", "finetuner may import"),
        ("finetuner.py", "from sftlib.sure.calibration import calibrate", "finetuner may import"),
        ("finetuner.py", "def f():\n    from sftlib.sure.calibration import calibrate", None),
        ("sure/calibration.py", "from sftlib.explain.explaining import explain", "sure may import"),
        ("testing/models.py", "from sftlib.finetuner import FineTuner", "testing may import"),
        ("testing/processes.py", "from sftlib.train.comm import Comm", None),
        ("testing/pictures.py", "from PIL import Image", "only inside the function"),
        (
            "models/heads.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from sftlib.train import loop",
            None,
        ),
    ],
)
def test_the_rules_notice(file: str, source: str, expected: str | None) -> None:
    """The checker itself: what it must refuse, and what it must let pass."""
    found = "\n".join(problems(file, source))
    if expected is None:
        assert found == ""
    else:
        assert any(part in found for part in expected.split("|")), found


@pytest.mark.parametrize("room", ["train", "run", "saved", "preflight"])
def test_rooms_that_any_modality_goes_through_speak_of_none(room: str) -> None:
    """No word of texts where rows may be pictures or sounds: not in names, not in messages, not in comments."""
    words = re.compile("TextEncoder|input_ids|token", re.IGNORECASE)
    found = [
        f"{path.relative_to(PACKAGE)}:{number} {line.strip()}"
        for path in sorted((PACKAGE / room).rglob("*.py"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if words.search(line)
    ]
    assert not found, "\n".join(found)
