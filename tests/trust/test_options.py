"""Trust 3, what may be resumed: the same run and no other, with every difference named; and what is asked wrongly."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from sftlib import Callback, CausalLM, FineTuner, Generation, TaskDataset, TextClassification
from sftlib.errors import CheckpointError, OptionError
from sftlib.support.redaction import redacted
from sftlib.testing import tiny_folder, tiny_model, tiny_tokenizer
from tests.contracts.cases import case_of, tuner_for
from tests.trust.runs import STEPS, SignalAt, assert_same, data, fit, raising, tuner, undisturbed


@pytest.fixture
def half(tmp_path: Path) -> Path:
    """A run that was ended after three steps."""
    with raising(KeyboardInterrupt):
        fit(tmp_path / "run", callbacks=[SignalAt(3)])
    return tmp_path / "run"


def test_03_other_options_are_listed(half: Path) -> None:
    with raising(CheckpointError) as caught:
        fit(half, callbacks=[SignalAt(0)], resume=True, learning_rate=1e-3, epochs=3, warmup=1, weight_decay=0)
    said = str(caught[0])
    for line in ("epochs: 2 -> 3", "learning_rate: 0.003 -> 0.001", "warmup: 0.1 -> 1", "weight_decay: 0.01 -> 0"):
        assert f"\n  {line}\n" in said
    assert said.count(" -> ") == 5  # and once to say what the arrow means
    assert_same(fit(half, callbacks=[SignalAt(0)], resume=True))  # a refusal changes nothing


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"early_stopping": None}, 'early_stopping: "EarlyStopping'),
        ({"keep_best": "loss"}, 'keep_best: null -> "loss"'),
        ({"metrics": ["mcc"]}, 'metrics: null -> ["mcc"]'),
        ({"precision": "bf16"}, 'precision: "fp32" -> "bf16"'),
        ({"micro_batch_size": 2}, 'micro_batch_size: "auto" -> 2'),
        ({"seed": 1}, "seed: 0 -> 1"),
        ({"max_length": 5}, "max_length: null -> 5"),
        ({"callbacks": []}, 'callbacks: ["SignalAt"] -> []'),
    ],
)
def test_03_each_difference_is_named(options: dict[str, Any], line: str, half: Path) -> None:
    with pytest.raises(CheckpointError, match="holds another run") as caught:
        fit(half, **{"callbacks": [SignalAt(0)], "resume": True, **options})
    assert line in str(caught.value)


def asked(generation: Generation | None, folder: Path, *, resume: bool, callbacks: Sequence[Callback] = ()) -> None:
    tuner = tuner_for("causal-lm", max_steps=2, task=CausalLM(generation=generation))
    rows = case_of("causal-lm").data()
    tuner.fit(rows, output_dir=folder, save_every=1, resume=resume, progress=False, callbacks=callbacks)


def test_03_each_setting_of_generating_is_compared(tmp_path: Path) -> None:
    with raising(KeyboardInterrupt):
        asked(Generation(max_new_tokens=3), tmp_path / "run", resume=False, callbacks=[SignalAt(1)])
    for other, line in (
        (Generation(max_new_tokens=4, top_p=0.5), "task.generation.max_new_tokens: 3 -> 4"),
        (Generation(max_new_tokens=4, top_p=0.5), "task.generation.top_p: 1.0 -> 0.5"),
        (None, 'task.generation: {"max_new_tokens": 3'),
    ):
        with pytest.raises(CheckpointError, match="holds another run") as caught:
            asked(other, tmp_path / "run", resume=True, callbacks=[SignalAt(0)])
        assert f"\n  {line}" in str(caught.value)
    heard: list[str] = []
    streaming = Generation(max_new_tokens=3, stream=lambda row, piece: heard.append(piece))
    asked(streaming, tmp_path / "run", resume=True, callbacks=[SignalAt(0)])  # who listens changes no result


def test_03_a_task_is_known_by_what_is_asked_of_it(half: Path) -> None:
    """Not by how: a name, a value, a shorthand, or the data."""
    for same in ({"task": "text-classification"}, {"task": TextClassification()}, {"label_smoothing": 0.0}):
        assert_same(fit(half, callbacks=[SignalAt(0)], resume=True, **same))
    for other in ({"label_smoothing": 0.1}, {"task": TextClassification(label_smoothing=0.1)}):
        with pytest.raises(CheckpointError, match=r"\n  task\.label_smoothing: 0\.0 -> 0\.1\n"):
            fit(half, callbacks=[SignalAt(0)], resume=True, **other)


def test_03_what_cannot_change_the_result_is_not_compared(half: Path) -> None:
    again = fit(half, callbacks=[SignalAt(0)], resume=True, progress=True, save_every=2)
    assert_same(again)


def test_03_auto_takes_what_the_run_was_resolved_to(half: Path) -> None:
    again = fit(half, callbacks=[SignalAt(0)], resume=True, precision="auto", device="auto", micro_batch_size="auto")
    assert again.precision == "fp32"
    assert_same(again)


def test_03_the_number_of_threads_is_that_of_the_run(half: Path) -> None:
    seen: list[int] = []

    class Threads(SignalAt):
        def on_step_end(self, training: Any, record: Any) -> None:
            seen.append(torch.get_num_threads())

    Threads.__module__, Threads.__qualname__ = SignalAt.__module__, SignalAt.__qualname__
    undisturbed()
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        assert_same(fit(half, callbacks=[Threads(0)], resume=True))
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)
    assert set(seen) == {before}


@pytest.mark.parametrize("change", ["a label", "a word", "the order", "a row", "validation", "no validation"])
def test_03_changed_data_is_refused(change: str, half: Path) -> None:
    train, valid = data()
    columns = {name: train.column(name) for name in ("text", "label")}
    if change == "a label":
        columns["label"][3] = "good" if columns["label"][3] != "good" else "bad"
    elif change == "a word":
        columns["text"][3] += "!"
    elif change == "the order":
        columns = {name: [*values[1:], values[0]] for name, values in columns.items()}
    elif change == "a row":
        columns = {name: values[1:] for name, values in columns.items()}
    options: dict[str, Any] = {"train": TaskDataset(columns), "valid": valid}
    if change == "validation":
        options = {"train": train, "valid": valid[1:]}
    elif change == "no validation":
        options = {"train": train, "valid": None, "early_stopping": None}
    with pytest.raises(CheckpointError, match=r"(train|valid): \d+ rows, fingerprint \w+ -> (\d+ rows|null)"):
        fit(half, callbacks=[SignalAt(0)], resume=True, **options)


def test_03_another_model_or_tokenizer_is_refused(half: Path) -> None:
    for options, said in (
        ({"model": tiny_model("bert", 3, seed=1)}, "weights of the model given: SHA-256"),
        ({"tokenizer": tiny_tokenizer("roberta")}, "rows of train, as the model reads them: SHA-256"),
    ):
        other = tuner().set_params(**options)
        with pytest.raises(CheckpointError, match=said):
            other.fit(*data(), callbacks=[SignalAt(0)], output_dir=half, resume=True, progress=False)


def test_03_a_folder_in_use_needs_resume(half: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not empty .*checkpoints up to step 3.*resume=True.*another folder"):
        fit(half)
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "thesis.txt").write_text("...")
    with pytest.raises(CheckpointError, match=r"it holds 'thesis.txt'"):
        fit(tmp_path / "papers")
    assert_same(fit(tmp_path / "papers", resume=True))  # asked for, and nothing to continue: from 0
    assert (tmp_path / "papers" / "thesis.txt").read_text() == "..."


def test_03_where_nothing_is_a_resume_starts_at_0(tmp_path: Path) -> None:
    assert_same(fit(tmp_path / "run", resume=True))
    (tmp_path / "empty").mkdir()
    assert_same(fit(tmp_path / "empty"))


def test_03_other_versions_are_said(
    half: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from sftlib.run import open_run as resuming

    now = resuming.libraries()
    monkeypatch.setattr(resuming, "libraries", lambda: {**now, "torch": "9.9"})
    assert_same(fit(half, callbacks=[SignalAt(0)], resume=True, progress=True))
    said = capsys.readouterr().out
    assert f'not to the bit: torch: "{now["torch"]}" -> "9.9"' in said
    assert "resumes after step 3" in said


def test_03_save_every(tmp_path: Path) -> None:
    for save_every, steps in ((None, [5, STEPS]), (3, [9, STEPS]), (4, [8, STEPS]), (5, [5, STEPS]), (99, [STEPS])):
        fit(tmp_path / str(save_every), save_every=save_every)
        found = sorted(int(path.name[5:]) for path in (tmp_path / str(save_every)).iterdir())
        assert found == steps, save_every


def test_03_options_that_make_no_sense() -> None:
    train = case_of("text-classification").data()
    for options, said in (
        ({"resume": True}, "resume=True: say where"),
        ({"save_every": 5}, "save_every=5: say where"),
        ({"output_dir": "x", "save_every": 0}, "save_every=0: expected a whole number"),
        ({"output_dir": "x", "save_every": True}, "save_every=True: expected a whole number"),
        ({"output_dir": 7}, "output_dir=7: expected the path of a folder"),
        ({"output_dir": "x", "resume": "yes"}, "resume='yes': expected True or False"),
    ):
        with pytest.raises(OptionError, match=said):
            tuner(early_stopping=None).fit(train, progress=False, **options)


def test_03_callbacks_may_only_keep_values_and_tensors(tmp_path: Path) -> None:
    class Hoarder(SignalAt):
        def state_dict(self) -> dict[str, Any]:
            return {"kept": {"generator": random.Random(0)}}

    with pytest.raises(CheckpointError, match=r"callbacks: 1\.kept\.generator is a Random: only JSON values, tensors"):
        fit(tmp_path / "run", callbacks=[Hoarder(0)], early_stopping=None, keep_best="loss")


SECRETS = ("hf_abcdefghijklmnopqrstuvwx", "sk-proj-abcdefghijklmnop1234", "me:hunter2", "AKIAABCDEFGHIJKLMNOP")


def test_03_secrets_are_redacted() -> None:
    hidden = redacted(
        {
            "model": f"https://{SECRETS[2]}@host/model",
            "note": f"use {SECRETS[1]} and {SECRETS[3]}",
            "api_key": "plain",
            "headers": {"Authorization": "Basic xyz"},
            "items": [f"password={SECRETS[0]}&x=1"],
            "max_length": 64,
            "tokenizer": "bert",
            "token_weights": [1.0],
        }
    )
    text = str(hidden)
    assert not [secret for secret in (*SECRETS, "plain", "Basic xyz") if secret in text]
    assert hidden["max_length"] == 64
    assert hidden["tokenizer"] == "bert"
    assert hidden["token_weights"] == [1.0]


def test_03_no_secret_of_the_options_is_in_a_checkpoint(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / SECRETS[0], "bert", 3)
    train, valid = data()
    tuned = FineTuner(folder, tokenizer=folder, epochs=1)
    tuned.fit(train, valid, output_dir=tmp_path / "run", progress=False)
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert len(files) >= 5
    assert not [path for path in files if SECRETS[0].encode() in path.read_bytes()]
    assert b"[redacted]" in (tmp_path / "run" / "step-00000001" / "state.json").read_bytes()
