"""A frozen prefix that is computed once gives what it gives when it is computed in every step."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

from sftlib import Callback, FineTuner, TaskDataset
from sftlib.models.frozen.prefix_cache import Prefix
from sftlib.models.frozen.prefix_store import PrefixStore
from sftlib.models.language import vocabulary
from sftlib.run import settle
from sftlib.testing import FAMILIES
from tests.contracts.cases import NAMES, case_of, losses, same_weights, tuner_for, weights

NAME = "text-classification"
LAST = ("gpt2", "llama")  # their heads read the last token, those of all others the first or what is pooled of it


@contextmanager
def without_recall() -> Iterator[None]:
    """Frozen layers are computed in every step."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settle, "try_recall", lambda *_: "this is a test")
        yield


def run_of(name: str, family: str, what: Any, **options: Any) -> FineTuner:
    data = case_of(name).data()
    defaults = {"freeze": what, "max_steps": 4, "batch_size": 12, "learning_rate": 1e-2}  # of 3 steps is an epoch
    tuner = tuner_for(name, family, **{**defaults, **options})
    return tuner.fit(data, case_of(name).data(10), progress=False)


def recall_of(tuner: FineTuner) -> Any:
    assert tuner._fitted is not None
    return tuner._fitted.recall


def numbers(record: Any) -> dict[str, float]:
    return {name: value for name, value in record.items() if isinstance(value, float)}


def assert_same_run(left: FineTuner, right: FineTuner) -> None:
    assert losses(left) == pytest.approx(losses(right), rel=1e-6)
    found, expected = weights(left), weights(right)
    assert list(found) == list(expected)
    for name, value in expected.items():
        # A gradient that is rounding alone, as that of keys' biases, moves its weight all the same: by Adam.
        assert torch.allclose(found[name], value, rtol=1e-6, atol=1e-6 * max(1.0, float(value.abs().max()))), name
    for before, after in zip(left.history.evaluations, right.history.evaluations, strict=True):
        assert numbers(before) == pytest.approx(numbers(after), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("padding_free", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_frozen_body_is_computed_once(family: str, padding_free: bool) -> None:
    recalled = run_of(NAME, family, "backbone", padding_free=padding_free)
    with without_recall():
        plain = run_of(NAME, family, "backbone", padding_free=padding_free)
    assert recall_of(plain) is None
    assert recall_of(recalled).layout.prefix.first_only == (family not in LAST)
    assert_same_run(recalled, plain)


slow = pytest.mark.slow


@pytest.mark.parametrize(
    ("count", "padding_free"),
    [(1, True), (2, False), pytest.param(1, False, marks=slow), pytest.param(2, True, marks=slow)],
)
@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "albert"])
def test_frozen_layers_are_computed_once(family: str, count: int, padding_free: bool) -> None:
    options: dict[str, Any] = {"padding_free": padding_free, "learning_rate": 1e-3, "weight_decay": 0.1}
    recalled = run_of(NAME, family, count, **options)
    with without_recall():
        plain = run_of(NAME, family, count, **options)
    assert recall_of(recalled).layout.prefix.layers in (count, None)
    assert_same_run(recalled, plain)


# Filling in words reads every step's own gaps, and an embedding has no head: nothing of theirs is computed once.
RECALLING = [
    name
    for name in NAMES
    if "bert" in case_of(name).families and case_of(name).auto_class not in ("AutoModel", "AutoModelForMaskedLM")
]


NAMED = ["bert.embeddings", "*.layer.0"]  # the same layers as 1, asked for by name


@pytest.mark.parametrize(
    ("name", "what"),
    [
        *((name, what) for name in RECALLING for what in ("backbone", 1)),
        *(pytest.param(name, NAMED, marks=() if name == NAME else slow) for name in RECALLING),
    ],
)
def test_every_task_and_cut(name: str, what: Any) -> None:
    with without_recall():
        plain = run_of(name, "bert", what, keep_best="loss")
    for cut in (5, 1):
        recalled = run_of(name, "bert", what, keep_best="loss", micro_batch_size=cut)
        assert recall_of(recalled) is not None
        assert losses(recalled) == pytest.approx(losses(plain), rel=1e-5)
    data = case_of(name).data()
    assert recalled.evaluate(data)["loss"] == pytest.approx(plain.evaluate(data)["loss"], rel=1e-5)


@pytest.mark.parametrize("what", ["backbone", 1, ["*.layer.0"]])
def test_with_a_small_vocabulary(what: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frozen table is never cut down; one that is trained is, and then nothing above it is constant."""
    whole = run_of(NAME, "bert", what)
    monkeypatch.setattr(vocabulary, "_SMALLEST_TABLE", 1)
    assert_same_run(run_of(NAME, "bert", what), whole)
    assert (recall_of(whole) is None) == isinstance(what, list)


def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of every pass that computes what is not known yet."""
    rows: list[int] = []
    captured = Prefix.captured

    @contextmanager
    def counting(self: Prefix, *, whole: bool = False) -> Iterator[Any]:
        body = self.model.base_model
        hook = body.register_forward_pre_hook(
            lambda _, __, inputs: None if whole else rows.append(len(inputs["attention_mask"])),
            prepend=True,
            with_kwargs=True,
        )
        with captured(self, whole=whole) as outputs:
            yield outputs
        hook.remove()

    monkeypatch.setattr(Prefix, "captured", counting)
    return rows


@pytest.mark.parametrize("what", ["backbone", 1])
def test_folds_and_trials_share_what_was_computed(what: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    data, rows = case_of(NAME).data(), passes(monkeypatch)
    first = tuner_for(NAME, freeze=what, max_steps=2)
    for fold in range(3):
        inside = [i for i in range(len(data)) if i % 3 != fold]
        tuner = first.clone().set_params(learning_rate=1e-3 * (fold + 1))
        tuner.fit(data.select(inside), progress=False)
        tuner.evaluate(data.select([i for i in range(len(data)) if i % 3 == fold]))
    assert sum(rows) == len(data)
    tuner.evaluate(data)
    assert sum(rows) == len(data)
    first.clone().set_params(max_length=8).fit(data, progress=False)  # other tokens
    assert sum(rows) > len(data)


def test_other_weights_are_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    data, rows = case_of(NAME).data(), passes(monkeypatch)
    tuner = tuner_for(NAME, freeze="backbone", max_steps=2).fit(data, progress=False)
    before = dict(tuner.evaluate(data))
    assert sum(rows) == len(data)
    with torch.no_grad():
        for parameter in tuner.model.parameters():
            parameter.mul_(1.5)
    after = dict(tuner.evaluate(data))
    assert sum(rows) == 2 * len(data)
    assert after["loss"] != pytest.approx(before["loss"], rel=1e-3)


def test_a_pair_is_told_from_a_single_text_and_from_its_reverse() -> None:
    columns = case_of(NAME).columns
    data = TaskDataset({**columns, "text_pair": list(reversed(columns["text"]))})
    runs = []
    for recalled in (True, False):
        tuner = tuner_for(NAME, freeze="backbone", max_steps=4)
        if recalled:
            runs.append(tuner.fit(data, progress=False))
            assert recall_of(tuner) is not None
            continue
        with without_recall():
            runs.append(tuner.fit(data, progress=False))
    assert losses(runs[0]) == pytest.approx(losses(runs[1]), rel=1e-6)


@pytest.mark.parametrize("what", ["backbone", 1])
def test_nothing_is_left_in_the_model(what: Any) -> None:
    names: list[list[str]] = []
    data = case_of(NAME).data()

    class Look(Callback):
        def on_step_end(self, training: Any, record: Any) -> None:
            names.append([*training.model.state_dict(), *(type(m).__name__ for m in training.model.bert.children())])
            tuner.predict(["A film.", "?"])
            tuner.evaluate(data)

    tuner = tuner_for(NAME, freeze=what, max_steps=3)
    tuner.fit(data, callbacks=[Look()], progress=False)
    expected = tuner_for(NAME, freeze=what, max_steps=3).fit(data, progress=False)
    assert losses(tuner) == losses(expected)
    assert same_weights(weights(tuner), weights(expected))
    model = tuner.model
    after = [*model.state_dict(), *(type(m).__name__ for m in model.bert.children())]
    assert all(found == after for found in names)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert all(type(module).__module__.startswith(("torch.", "transformers.")) for module in model.modules())


def test_an_error_inside_a_pass_puts_the_modules_back() -> None:
    tuner = run_of(NAME, "bert", "backbone")
    model, layout = tuner.model, recall_of(tuner).layout
    body = model.base_model

    def fail(*_: Any) -> None:
        raise KeyError("a head that fails")

    encoded = tuner._fitted.encode(case_of(NAME).data(3))  # type: ignore[union-attr]
    batch = tuner._fitted.task.collate(encoded, np.arange(3), tuner._fitted.encoder)  # type: ignore[union-attr]
    hook = model.classifier.register_forward_pre_hook(fail)
    with pytest.raises(KeyError), layout.installed(model):
        model(**batch.inputs)
    hook.remove()
    assert model.base_model is body


def test_a_run_with_checkpoints_resumes_to_the_bit(tmp_path: Any) -> None:
    data = case_of(NAME).data()

    class Stop(Callback):
        def __init__(self, stops: bool) -> None:
            self.stops = stops

        def on_step_end(self, training: Any, record: Any) -> None:
            if self.stops and training.step == 4:
                raise KeyError("a test")

    options: dict[str, Any] = {"freeze": 1, "max_steps": 6, "batch_size": 12}
    whole = tuner_for(NAME, **options).fit(data, output_dir=tmp_path / "whole", progress=False)
    tuner = tuner_for(NAME, **options)
    with pytest.raises(KeyError):
        tuner.fit(data, output_dir=tmp_path / "cut", save_every=3, callbacks=[Stop(True)], progress=False)
    again = tuner_for(NAME, **options)
    again.clone().fit(data.select([3, 1, 2]), progress=False)  # rows computed in other company
    again.fit(data, output_dir=tmp_path / "cut", save_every=3, resume=True, callbacks=[Stop(False)], progress=False)
    assert same_weights(weights(again), weights(whole))


def test_what_does_not_fit_lies_in_a_file_and_the_oldest_goes() -> None:
    room: dict[str, Any] = {"vectors": 4, "rows": 2, "width": 8, "pooled": 8, "dtype": torch.float32}
    store = PrefixStore(memory=400)
    first, second, third = (store.shelf(key) for key in ("a", "b", "c"))
    assert store.make_room(first, **room)
    assert store.in_memory == 6 * 8 * 4
    assert store.make_room(second, **room)
    store.shelf("a")  # asked for again: now "b" is the oldest
    assert store.make_room(third, **room)
    assert store.shelf("a") is first
    assert store.shelf("b") is not second
    assert store.make_room(third, **{**room, "vectors": 400})
    assert third.blocks[-1].on_disk
    assert store.in_memory <= 400
    hidden = torch.arange(24.0).view(3, 8)
    third.add([b"x", b"y"], [2, 1], hidden, hidden[:2] + 1)
    places = third.find([b"y", b"x"])
    assert places is not None
    assert torch.equal(third.hidden(places), hidden[[2, 0, 1]])
    pooled = third.pooled(places)
    assert pooled is not None
    assert torch.equal(pooled, hidden[[1, 0]] + 1)
    assert third.find([b"y", b"z"]) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_file_leaves_no_trace(dtype: torch.dtype, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    store = PrefixStore(memory=0)
    assert store.make_room(store.shelf("a"), vectors=3, rows=2, width=4, pooled=None, dtype=dtype)
    store.shelf("a").add([b"x"], [2], torch.ones(2, 4, dtype=dtype), None)
    assert store.in_memory == 0
    assert list(tmp_path.iterdir()) == []


def test_a_run_with_everything_in_a_file() -> None:
    expected = run_of(NAME, "bert", 1)
    tuner = tuner_for(NAME, freeze=1, max_steps=4, batch_size=12, learning_rate=1e-2)
    tuner._store = PrefixStore(memory=0)
    tuner.fit(case_of(NAME).data(), case_of(NAME).data(10), progress=False)
    assert tuner._store.in_memory == 0
    assert_same_run(tuner, expected)


def test_without_room_every_step_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = run_of(NAME, "bert", 1)
    monkeypatch.setattr(PrefixStore, "make_room", _refusing(PrefixStore.make_room))
    assert_same_run(run_of(NAME, "bert", 1), expected)


def _refusing(make_room: Any) -> Any:
    def refuse(self: PrefixStore, shelf: Any, **sizes: Any) -> bool:
        return bool(make_room(self, shelf, **sizes)) if sizes["rows"] < 5 else False  # the trial's few rows have room

    return refuse


def test_copies_start_empty() -> None:
    tuner = run_of(NAME, "bert", "backbone")
    store = tuner._store
    assert store.in_memory > 0
    assert copy.deepcopy(store).in_memory == 0
    assert pickle.loads(pickle.dumps(store)).in_memory == 0
    twin = copy.deepcopy(tuner)
    assert recall_of(twin) is None
    assert twin.evaluate(case_of(NAME).data())["loss"] == pytest.approx(
        tuner.evaluate(case_of(NAME).data())["loss"], rel=1e-6
    )


def test_bf16_gives_what_it_gives_without() -> None:
    recalled = run_of(NAME, "bert", 1, precision="bf16")
    with without_recall():
        plain = run_of(NAME, "bert", 1, precision="bf16")
    assert losses(recalled) == pytest.approx(losses(plain), rel=2e-2)
