"""24: saved folders, checkpoints and chat templates changed at random, with sums that verify: a typed error, or use.

Data is fuzzed in `tests/data/test_dirty.py`, and bits are flipped in `test_damage.py`; there sums do not verify.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from sftlib import FineTuner
from sftlib.encoders.text.templates import Limits, TemplateRenderer
from sftlib.errors import ArtifactError, CheckpointError, DataError, SftlibError
from tests.trust import test_hostile_artifacts, test_hostile_checkpoints
from tests.trust.conftest import Figure
from tests.trust.runs import SignalAt, fit

saved = test_hostile_artifacts.saved
run = test_hostile_checkpoints.run

JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.sampled_from([0, 1, -1, 2**31, 2**63, 10**30]),
        st.floats(),
        st.text(max_size=8),
        st.sampled_from(["../outside", "/etc/passwd", "BertModel", "F32", "model.safetensors", "a" * 10_000]),
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=6,
)
Change = tuple[list[int], str, Any, str]
CHANGES = st.lists(
    st.tuples(
        st.lists(st.integers(0, 30), min_size=1, max_size=5),
        st.sampled_from(["replace", "replace", "remove", "add"]),
        JSON,
        st.text(max_size=8),
    ),
    min_size=1,
    max_size=3,
)
PIECES = [
    *("{{ messages }}", "{% for m in messages %}", "{% endfor %}", "{% if m %}", "{% endif %}", "{{ m.content }}"),
    *("{% set a = 1 %}", "{% generation %}", "{% endgeneration %}", "{% macro f(x) %}", "{% endmacro %}", "{{ f(1) }}"),
    *("{{ loop.index }}", "{{ 1 / 0 }}", "{% break %}", "{{ m['role'] }}", "{{- 'x' -}}", "{# no #}", "{% raw %}"),
    *("{% endraw %}", "{{", "%}", "{{ m.content[::-1] }}", "{{ messages[0].x.y }}"),
]
BOUNDED = settings(
    max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def changed(tree: Any, change: Change) -> Any:
    """A tree of JSON with one entry, found by counting, replaced, removed, or joined by another."""
    path, how, value, name = change
    parent, key, node = None, None, tree
    for number in path:
        if not isinstance(node, dict | list) or not node:
            break
        parent, key = node, (list(node)[number % len(node)] if isinstance(node, dict) else number % len(node))
        node = node[key]
    if parent is None or key is None:
        return value
    if how == "remove":
        del parent[key]
    elif how == "add" and isinstance(parent, dict):
        parent[name] = value
    else:
        parent[key] = value
    return tree


def rewrite(path: Path, changes: list[Change]) -> None:
    """Change a JSON file, or the header of one of tensors."""
    raw = path.read_bytes()
    start = 8 if path.suffix == ".safetensors" else 0
    end = start + struct.unpack("<Q", raw[:8])[0] if start else len(raw)
    tree = json.loads(raw[start:end])
    for change in changes:
        tree = changed(tree, change)
    text = json.dumps(tree).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes((struct.pack("<Q", len(text)) if start else b"") + text + raw[end:] * bool(start))


def fuzzed(template: Path, place: Path, name: str, changes: list[Change], seal: Callable[[Path], None]) -> Path:
    folder = place / "fuzzed"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(template, folder)
    target = next(path for path in folder.rglob(name))
    rewrite(target, changes)
    seal(target.parent)
    return folder


COUNTS: dict[str, int] = {}


def count(what: str, figure: Figure) -> None:
    COUNTS[what] = COUNTS.get(what, 0) + 1
    figure(f"changed at random: {what}", COUNTS[what])


@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer_config.json", "tokenizer.json", "sftlib.json", "model.safetensors"]
)
def test_24_saved_folders_changed_at_random(name: str, saved: Path, tmp_path: Path, figure: Figure) -> None:
    @BOUNDED
    @given(CHANGES)
    def holds(changes: list[Change]) -> None:
        folder = fuzzed(saved, tmp_path, name, changes, test_hostile_artifacts.seal)
        try:
            tuner = FineTuner.load(folder)
        except ArtifactError as error:
            str(error).encode()
            count("saved folders, refused", figure)
            return
        with contextlib.suppress(SftlibError):
            tuner.predict(["A wonderful film.", ""])
        count("saved folders, still of use", figure)

    holds()


@pytest.mark.parametrize("name", ["state.json", "optimizer.safetensors"])
def test_24_checkpoints_changed_at_random(name: str, run: Path, tmp_path: Path, figure: Figure) -> None:
    @settings(BOUNDED, max_examples=20, phases=[Phase.generate])  # a run each: not made smaller when one fails
    @given(CHANGES)
    def holds(changes: list[Change]) -> None:
        folder = fuzzed(run, tmp_path, name, changes, test_hostile_checkpoints.seal)
        try:
            fit(folder, resume=True, callbacks=[SignalAt(99)])
        except CheckpointError as error:
            str(error).encode()
            count("checkpoints, refused", figure)
            return
        count("checkpoints, still of use", figure)

    holds()


@settings(BOUNDED, max_examples=60)
@given(
    st.text("{}%- abcdefmessagrolnt.[]()|'\"0123~+*=", max_size=40).map(lambda body: "{{ " + body + " }}")
    | st.lists(
        st.sampled_from(PIECES),
        max_size=12,
    ).map(" ".join)
)
def test_24_chat_templates_made_at_random(template: str) -> None:
    conversations = [[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], []]
    with TemplateRenderer(template, limits=Limits(seconds=2)) as renderer:
        try:
            found = list(renderer.stream(conversations, spans=True))
        except (ArtifactError, DataError) as error:
            str(error).encode()
            return
    assert len(found) == 2
    assert all(0 <= start < end <= len(text) for text, spans in found for start, end in spans)
