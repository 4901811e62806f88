"""Pairs of sequences: what is read of them, answers, folders, and what pairs cannot have."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers

from sftlib import FineTuner, Sequence, TaskDataset
from sftlib.errors import DataError, OptionError
from sftlib.explain import explain
from sftlib.models.sources import open_source
from sftlib.tasks import TASKS

DNA = Sequence(alphabet="dna")
RUN: dict[str, Any] = {"precision": "fp32", "device": "cpu", "seed": 0, "batch_size": 8, "dropout": 0.0}
TARGETS: dict[str, dict[str, Any]] = {
    "sequence-classification": {"label": ["both", "other"]},
    "multi-label-sequence-classification": {"labels": [["both", "short"], ["short"]]},
    "sequence-regression": {"target": [1.0, -1.0]},
}


def rows(count: int, task: str = "sequence-classification", seed: int = 0) -> TaskDataset:
    """Whether both begin with A or C."""
    drawn = random.Random(seed)
    genes = ["".join(drawn.choices("ACGT", k=drawn.randint(4, 12))) for _ in range(2 * count)]
    ((role, values),) = TARGETS[task].items()
    first, second = genes[:count], genes[count:]
    return TaskDataset(
        {
            "sequence": first,
            "sequence_pair": second,
            role: [values[not {a[0], b[0]} <= {*"AC"}] for a, b in zip(first, second, strict=True)],
        }
    )


def numbers_of(prediction: Any) -> list[float]:
    return [prediction.value] if hasattr(prediction, "value") else list(prediction.probabilities.values())


@pytest.mark.parametrize("tokens", ["char", "kmer:3/1"])
def test_both_are_read_between_control_tokens(tokens: str) -> None:
    inputs = Sequence(alphabet="dna", tokens=tokens)
    tuner = FineTuner("new:encoder", inputs=inputs, max_steps=1, **RUN)
    tuner.fit(rows(16), progress=False)
    encoder = inputs.open(open_source("new:encoder"))
    data = TaskDataset({"sequence": ["ACGTA", "GG"], "sequence_pair": ["TTTG", "ACGTACGT"]})
    task = tuner._ready("test").task
    encoded, tokenizer = task.encode(data, encoder), encoder.tokenizer
    for row, pair in enumerate([("ACGTA", "TTTG"), ("GG", "ACGTACGT")]):
        alone = [tokenizer(encoder.as_text(one), add_special_tokens=False)["input_ids"] for one in pair]
        expected = [tokenizer.cls_token_id, *alone[0], tokenizer.sep_token_id, *alone[1], tokenizer.sep_token_id]
        assert np.asarray(encoded.inputs["input_ids"][row]).tolist() == expected


@pytest.mark.parametrize("task", TARGETS)
def test_every_task_takes_pairs_and_comes_back(task: str, tmp_path: Path) -> None:
    data, new = rows(24, task), rows(8, task, seed=1)
    losses = []
    for size in (8, 3):
        tuner = FineTuner("new:encoder", inputs=DNA, max_steps=4, micro_batch_size=size, **RUN)
        tuner.fit(data, progress=False)
        losses.append([step["loss"] for step in tuner.history.steps])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    found = tuner.predict(new)
    pairs = [(row["sequence"], row["sequence_pair"]) for row in new]
    mappings = [{"sequence": first, "sequence_pair": second} for first, second in pairs]
    assert found == tuner.predict(pairs) == tuner.predict(mappings)
    assert tuner.predict(pairs[0]) == found[0]
    assert numbers_of(tuner.predict(pairs[0][::-1])) != numbers_of(found[0])
    tuner.save(tmp_path / "folder")
    loaded = FineTuner.load(tmp_path / "folder")
    assert loaded.predict(pairs) == found
    assert loaded.evaluate(new)["loss"] == pytest.approx(tuner.evaluate(new)["loss"], rel=1e-6)
    plain = transformers.AutoTokenizer.from_pretrained(tmp_path / "folder")
    assert plain("ACGT", "GG")["input_ids"].count(plain.sep_token_id) == 2


def test_both_are_learned_from() -> None:
    """The first says half of it, and the second the other half."""
    drawn = random.Random(2)
    pairs = [(drawn.choice("AC") * drawn.randint(3, 6), drawn.choice("GT") * drawn.randint(3, 6)) for _ in range(96)]
    data = TaskDataset(
        {
            "sequence": [first for first, _ in pairs],
            "sequence_pair": [second for _, second in pairs],
            "label": [first[0] + second[0] for first, second in pairs],
        }
    )
    tuner = FineTuner("new:encoder", inputs=DNA, epochs=6, learning_rate=1e-3, **RUN).fit(data, progress=False)
    assert tuner.evaluate(data)["accuracy"] > 0.95
    why = explain(tuner, ("ACGT", "TTG"))
    assert [text.role for text in why.texts] == ["sequence", "sequence_pair"]
    assert [word.text for word in why.words] == list("ACGTTTG")
    assert why.unread == 0


def test_what_does_not_go_with_pairs_is_said() -> None:
    data = rows(16)
    tuner = FineTuner("new:encoder", inputs=DNA, max_steps=1, **RUN).fit(data, progress=False)
    for given in ("ACGT", ("ACGT",), ("A", "C", "G"), {"sequence": "ACGT"}):
        with pytest.raises(DataError, match="takes pairs: a tuple of two strings, or a mapping with 'sequence' and"):
            tuner.predict(given)
    with pytest.raises(DataError, match="role 'sequence_pair': 1 row with a letter that no DNA sequence has: row 1"):
        tuner.predict([("ACGT", "GG"), ("ACGT", "GZ")])
    single = TaskDataset({"sequence": ["ACGT", "GG"] * 8, "label": ["both", "other"] * 8})
    with pytest.raises(DataError, match="single sequences, the model was made for pairs of sequences"):
        tuner.evaluate(single)
    other = FineTuner("new:encoder", inputs=DNA, max_steps=1, **RUN).fit(single, progress=False)
    with pytest.raises(DataError, match="leave it out with sequence_pair=None"):
        other.evaluate(data)
    with pytest.raises(DataError, match="takes single sequences: .*several sequences go into a list"):
        other.predict(("ACGT", "GG"))
    with pytest.raises(OptionError, match="augment= draws single sequences anew"):
        FineTuner("new:encoder", inputs=Sequence(alphabet="dna", augment="shift"), **RUN).fit(data, progress=False)
    with pytest.raises(OptionError, match="single sequences have views"):
        tuner.predict(data, views="reverse_complement")


def test_molecules_in_pairs_are_read_by_signs() -> None:
    data = TaskDataset(
        {"sequence": ["CCO", "c1ccccc1", "C=O", "CCN"] * 4, "sequence_pair": ["O", "CCl", "N", "CC"] * 4}
        | {"target": [0.1, 0.4, 0.3, 0.2] * 4}
    )
    tuner = FineTuner("new:encoder", inputs=Sequence(alphabet="smiles"), max_steps=2, **RUN).fit(data, progress=False)
    assert tuner.predict(("CCO", "O")) == tuner.predict(data)[0]


@pytest.mark.parametrize("task", ["multi-label-sequence-classification", "sequence-regression"])
def test_what_only_training_data_can_tell_is_not_taken_from_a_head(task: str) -> None:
    kind = next(kind for kind in TASKS if kind.name == task)
    with pytest.raises(OptionError, match="has to be learned, or loaded"):
        kind().brought(("a", "b"), ("sequence",))
