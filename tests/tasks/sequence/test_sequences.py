"""Tasks over sequences end to end: models of transformers, a new encoder, folders, pipelines, gaps and units."""

from __future__ import annotations

import math
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from scipy import stats
from sklearn import metrics as sk

from sftlib import (
    FineTuner,
    MultiLabelSequenceClassification,
    ResidueClassification,
    Sequence,
    SequenceRegression,
    TaskDataset,
)
from sftlib.errors import DataError, LabelError, OptionError
from sftlib.tasks.base import Task
from sftlib.tasks.sequence.targets import table_of, with_marks

DNA = Sequence(alphabet="dna")
RUN: dict[str, Any] = {"precision": "fp32", "device": "cpu", "seed": 0, "batch_size": 8}


def strings(letters: str, count: int, longest: int = 24) -> list[str]:
    generator = random.Random(1)
    return ["".join(generator.choices(letters, k=generator.randint(5, longest))) for _ in range(count)]


GENES = strings("ACGT", 48)


def classes() -> TaskDataset:
    return TaskDataset({"sequence": GENES, "label": ["rich" if s.count("G") > len(s) / 4 else "poor" for s in GENES]})


def numbers(gaps: bool = False) -> TaskDataset:
    """How much of each is G, in percent, and its length: units that are far apart."""
    share = [100 * s.count("G") / len(s) for s in GENES]
    if not gaps:
        return TaskDataset({"sequence": GENES, "target": share})
    length: list[float | None] = [1000.0 + len(s) if i % 3 else None for i, s in enumerate(GENES)]
    some: list[float | None] = [value if i % 3 == 0 or i % 2 else None for i, value in enumerate(share)]
    return TaskDataset({"sequence": GENES, "share": some, "length": length}, targets=["share", "length"])


def batch(target: Any) -> Any:
    """Targets (N, T) with nan for gaps, as a task marks them."""
    marked = torch.from_numpy(with_marks(np.array(target, np.float64)).astype(np.float64))
    return SimpleNamespace(rows=list(target), targets={"target": marked})


def test_a_new_encoder_learns_and_its_pipeline_agrees(tmp_path: Path) -> None:
    tuner = FineTuner("new:encoder", inputs=DNA, epochs=12, **RUN).fit(classes(), progress=False)
    assert tuner.settings["learning_rate"] == 5e-4
    assert tuner.evaluate(classes())["accuracy"] > 0.9
    tuner.save(tmp_path / "folder")
    again = FineTuner.load(tmp_path / "folder")
    assert again.predict(GENES) == tuner.predict(GENES)
    pipeline = transformers.pipeline("text-classification", str(tmp_path / "folder"))
    for sequence, mine in zip(GENES[:8], tuner.predict(GENES[:8]), strict=True):
        (theirs,) = pipeline([sequence])
        assert theirs["label"] == mine.label
        assert theirs["score"] == pytest.approx(mine.probability, abs=1e-6)
    assert again.predict(GENES[0].lower()) == tuner.predict(GENES[0])
    again.set_params(epochs=1).fit(classes(), progress=False)  # the folder says how letters are read


def family_model(family: str, vocabulary: int) -> Any:
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    size |= {"vocab_size": vocabulary, "max_position_embeddings": 66, "pad_token_id": 0}
    more = {"mask_token_id": 4, "position_embedding_type": "rotary"} if family == "esm" else {}
    config = transformers.AutoConfig.for_model(family, **size, **more)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return transformers.AutoModel.from_config(config)


@pytest.mark.parametrize("family", ["bert", "roberta", "esm"])
@pytest.mark.parametrize("tokens", ["char", "kmer:3"])
def test_models_of_transformers_read_them(family: str, tokens: str, tmp_path: Path) -> None:
    model = family_model(family, 128)
    tuner = FineTuner(model, inputs=Sequence(alphabet="dna", tokens=tokens), epochs=1, **RUN)
    tuner.fit(classes(), progress=False)
    tuner.save(tmp_path / "folder")
    assert FineTuner.load(tmp_path / "folder").predict(GENES) == tuner.predict(GENES)
    one, many = tuner.predict(GENES, batch_size=1), tuner.predict(GENES, batch_size=16)
    for a, b in zip(one, many, strict=True):
        assert a.probability == pytest.approx(b.probability, abs=1e-6)
    (theirs,) = transformers.pipeline("text-classification", str(tmp_path / "folder"))([GENES[0]])
    assert theirs["score"] == pytest.approx(one[0].probability, abs=1e-6)


# Numbers and their units.


def test_one_number_comes_in_its_own_units_everywhere(tmp_path: Path) -> None:
    data = numbers()
    tuner = FineTuner("new:encoder", inputs=DNA, epochs=12, **RUN).fit(data, progress=False)
    found = tuner.evaluate(data)
    values, true = [p.value for p in tuner.predict(data)], data.column("target")
    assert found["rmse"] == pytest.approx(sk.mean_squared_error(true, values) ** 0.5, rel=1e-9)
    assert found["rmse"] < 0.6 * np.std(true)
    assert found["loss"] == pytest.approx(found["rmse"] ** 2 / np.var(true), rel=1e-5)  # in deviations
    tuner.save(tmp_path / "folder")
    assert [p.value for p in FineTuner.load(tmp_path / "folder").predict(data)] == values
    pipeline = transformers.pipeline("text-classification", str(tmp_path / "folder"), function_to_apply="none")
    assert [row["score"] for row in pipeline(GENES[:8])] == pytest.approx(values[:8], rel=1e-5)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "folder")
    assert not any("parametrizations" in name for name in model.state_dict())
    assert tuner.model.state_dict().keys() == model.state_dict().keys()


def test_a_fresh_model_begins_at_the_mean() -> None:
    shares = [1000.0 + share for share in numbers().column("target")]
    data = TaskDataset({"sequence": GENES, "target": shares})
    tuner = FineTuner("new:encoder", inputs=DNA, max_steps=1, learning_rate=0.0, **RUN).fit(data, progress=False)
    values = [p.value for p in tuner.predict(data)]
    assert np.mean(values) == pytest.approx(np.mean(shares), abs=3 * np.std(shares))  # and not at 0, far away


def test_several_numbers_with_gaps(tmp_path: Path) -> None:
    data = numbers(gaps=True)
    tuner = FineTuner("new:encoder", inputs=DNA, epochs=10, **RUN).fit(data, data, progress=False)
    found, predictions, true = tuner.evaluate(data), tuner.predict(data), data.column("targets")
    by_hand: dict[str, dict[str, float]] = {}
    for name in ("share", "length"):
        pairs = [(row[name], p.values[name]) for row, p in zip(true, predictions, strict=True) if row[name] is not None]
        a, b = zip(*pairs, strict=True)
        by_hand[name] = {
            "rmse": sk.mean_squared_error(a, b) ** 0.5,
            "mae": sk.mean_absolute_error(a, b),
            "r2": sk.r2_score(a, b),
            "spearman": stats.spearmanr(a, b).statistic,
            "support": len(pairs),
        }
        for metric, value in by_hand[name].items():
            assert found.per_class()[name][metric] == pytest.approx(value, rel=1e-9)
    for metric in ("rmse", "mae", "r2", "spearman"):
        assert found[metric] == pytest.approx(np.mean([by_hand[name][metric] for name in by_hand]), rel=1e-9)
    assert by_hand["length"]["rmse"] < 7
    tuner.save(tmp_path / "folder")
    again = FineTuner.load(tmp_path / "folder")
    assert again.predict(data) == predictions
    assert dict(again.evaluate(data)) == dict(found)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "folder")
    assert model.config.id2label == {0: "share", 1: "length"}
    low, high = found.interval("rmse", resamples=50)
    assert low < found["rmse"] < high


def test_a_metric_of_one_target_can_be_asked_for_and_watched() -> None:
    data = numbers(gaps=True)
    options = {"metrics": ["rmse", "rmse_length", "spearman_share"], "keep_best": "rmse_length", "epochs": 2}
    tuner = FineTuner("new:encoder", inputs=DNA, **options, **RUN).fit(data, data, progress=False)
    found = tuner.evaluate(data)
    assert found["rmse_length"] == found.per_class()["length"]["rmse"]
    with pytest.raises(OptionError, match="did you mean 'rmse_length'"):
        FineTuner("new:encoder", inputs=DNA, metrics=["rmse_lenght"], **RUN).fit(data, progress=False)


@pytest.mark.parametrize("huber", [None, 0.7])
def test_the_loss_with_gaps_is_that_of_the_targets_one_by_one(huber: float | None) -> None:
    data = numbers(gaps=True)
    task = SequenceRegression(huber_delta=huber).learned_from(data)
    scores = torch.randn(len(data), 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 50 + 100
    target = torch.from_numpy(table_of(data, task.known.targets))
    whole = task.loss(scores, batch(target.tolist()))
    total, count = 0.0, 0
    for column, deviation in enumerate(task.known.deviations):
        for row in range(len(data)):
            if not math.isnan(target[row, column]):
                error = abs(float(scores[row, column] - target[row, column])) / deviation
                delta = huber or math.inf
                loss = error**2 if huber is None else 0.5 * error**2 if error <= delta else delta * (error - delta / 2)
                total, count = total + loss, count + 1
    assert float(whole.total) == pytest.approx(total, rel=1e-9)
    assert float(whole.count) == count == sum(v is not None for row in data.column("targets") for v in row.values())


def test_weights_of_targets() -> None:
    data = numbers(gaps=True)
    plain, weighted = (SequenceRegression(target_weights=w).learned_from(data) for w in (None, {"share": 3}))
    scores, target = torch.ones(2, 2, dtype=torch.float64), [[1.0, float("nan")], [5.0, 9.0]]
    a, b = (task.loss(scores, batch(target)) for task in (plain, weighted))
    assert (float(a.count), float(b.count)) == (3.0, 7.0)
    with pytest.raises(OptionError, match="did you mean 'share'"):
        SequenceRegression(target_weights={"shar": 3}).learned_from(data)
    with pytest.raises(OptionError, match="at least 0"):
        SequenceRegression(target_weights={"share": -1})


def test_other_targets_are_refused() -> None:
    tuner = FineTuner("new:encoder", inputs=DNA, max_steps=1, **RUN).fit(numbers(gaps=True), progress=False)
    other = TaskDataset(
        {"sequence": GENES[:2], "shares": [1.5, 2.0], "length": [1.0, 2.0]}, targets=["shares", "length"]
    )
    with pytest.raises(DataError, match="'shares' is not one that the model learned: did you mean 'share'"):
        tuner.evaluate(other)
    with pytest.raises(DataError, match="target=..., the model learned targets="):
        tuner.evaluate(numbers())


# No and yes with gaps.


def toxic() -> TaskDataset:
    has_g: list[int | None] = [int("GG" in s) if i % 4 else None for i, s in enumerate(GENES)]
    has_c: list[int | None] = [int("CC" in s) if i % 3 or i % 4 == 0 else None for i, s in enumerate(GENES)]
    return TaskDataset({"sequence": GENES, "gg": has_g, "cc": has_c}, targets=["gg", "cc"])


def test_classes_with_gaps() -> None:
    data = toxic()
    tuner = FineTuner("new:encoder", inputs=DNA, epochs=3, **RUN).fit(data, progress=False)
    found, predictions, true = tuner.evaluate(data), tuner.predict(data), data.column("targets")
    areas, losses = [], []
    for name in ("gg", "cc"):
        there = [i for i, row in enumerate(true) if row[name] is not None]
        truth, scores = [true[i][name] for i in there], [predictions[i].probabilities[name] for i in there]
        areas.append(sk.roc_auc_score(truth, scores))
        assert found.per_class()[name]["average_precision"] == pytest.approx(sk.average_precision_score(truth, scores))
        losses += [-math.log(p if t else 1 - p) for t, p in zip(truth, scores, strict=True)]
    assert found["roc_auc"] == pytest.approx(np.mean(areas), rel=1e-9)
    assert found["loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    task = MultiLabelSequenceClassification().learned_from(data)
    assert float(task.loss(torch.zeros(48, 2), batch(table_of(data, ["gg", "cc"]).tolist())).count) == len(losses)


# A label for each letter.


def residues(masked: bool = True) -> TaskDataset:
    proteins = strings("ACDEFGHIKLMNPQRSTVWY", 40, 60)
    labels = [
        "".join("H" if letter in "ACDEFGHIK" else "E" if letter in "LMNPQ" else "C" for letter in p) for p in proteins
    ]
    mask = ["".join("0" if i % 7 == 0 else "1" for i in range(len(p))) for p in proteins]
    hidden = [
        "".join("x" if m == "0" else c for c, m in zip(*pair, strict=True)) for pair in zip(labels, mask, strict=True)
    ]
    if not masked:
        return TaskDataset({"sequence": proteins, "residue_labels": labels})
    return TaskDataset({"sequence": proteins, "residue_labels": hidden, "residue_mask": mask})


def test_letters_are_learned_scored_and_windowed(tmp_path: Path) -> None:
    data = residues()
    reading = Sequence(alphabet="protein", max_length=32)
    tuner = FineTuner("new:encoder", inputs=reading, epochs=12, metrics=["q3", "f1_macro"], **RUN)
    tuner.fit(data, progress=False)
    assert tuner.label_names == ("C", "E", "H")  # what is masked is no label
    found, predictions = tuner.evaluate(data), tuner.predict(data)
    assert all(len(p.labels) == len(row["sequence"]) for p, row in zip(predictions, data, strict=True))
    pairs = [
        (true, label)
        for row, p in zip(data, predictions, strict=True)
        for true, label, mark in zip(row["residue_labels"], p.labels, row["residue_mask"], strict=True)
        if mark == "1"
    ]
    assert found["q3"] > 0.9
    assert found["q3"] == pytest.approx(sk.accuracy_score(*zip(*pairs, strict=True)), rel=1e-9)
    assert found["f1_macro"] == pytest.approx(sk.f1_score(*zip(*pairs, strict=True), average="macro"), rel=1e-9)
    assert found.confusion_matrix.sum() == len(pairs)
    tuner.save(tmp_path / "folder")
    assert FineTuner.load(tmp_path / "folder").predict(data) == predictions
    short = next(row["sequence"] for row in data if len(row["sequence"]) < 28)
    pipeline = transformers.pipeline("token-classification", str(tmp_path / "folder"), ignore_labels=[])
    assert "".join(entity["entity"] for entity in pipeline(short)) == tuner.predict(short).labels


def test_every_letter_counts_once_and_control_tokens_never() -> None:
    for data, counted in (
        (residues(False), lambda row: len(row["sequence"])),
        (residues(), lambda row: row["residue_mask"].count("1")),
    ):
        task: Task = ResidueClassification().learned_from(data)
        encoder = Sequence(alphabet="protein", max_length=16).open(FineTuner("new:encoder")._source)
        encoded = task.encode(data, encoder)
        labels, ids = encoded.targets["labels"], encoded.inputs["input_ids"]
        there = labels.values != -100  # type: ignore[union-attr]
        assert there.sum() == sum(map(counted, data))
        assert not np.isin(ids.values[there], encoder.tokenizer.all_special_ids).any()  # type: ignore[union-attr]


def test_tokens_of_several_letters_cannot_bear_labels() -> None:
    with pytest.raises(OptionError, match="tokens='kmer:2/1'"):
        FineTuner("new:encoder", inputs=Sequence(alphabet="protein", tokens="kmer:2/1"), **RUN).fit(residues())
    options = Sequence(alphabet="protein", augment="shift")
    with pytest.raises(OptionError, match="augment="):
        FineTuner("new:encoder", inputs=options, **RUN).fit(residues(), progress=False)
    data = TaskDataset({"sequence": ["MK", "AC"], "residue_labels": ["HH", "HC"], "residue_mask": ["11", "10"]})
    with pytest.raises(LabelError, match="same label"):
        FineTuner("new:encoder", inputs=Sequence(alphabet="protein"), **RUN).fit(data, progress=False)


# Unlabelled sequences, mistakes, cuts.


def test_adapt_goes_on_from_sequences() -> None:
    tuner = FineTuner("new:encoder", inputs=Sequence(alphabet="dna", tokens="kmer:3"), epochs=1, **RUN)
    tuner.adapt(GENES, max_steps=5, progress=False)
    before = {name: weight.clone() for name, weight in tuner._source._model.state_dict().items()}  # type: ignore[attr-defined]
    tuner.set_params(learning_rate=1e-12).fit(classes(), progress=False)
    assert "adapted" in tuner.settings["model"]
    after = tuner.model.state_dict()["model.embeddings.tok_embeddings.weight"]
    assert torch.allclose(after, before["model.embeddings.tok_embeddings.weight"], atol=1e-6)
    with pytest.raises(DataError, match="row 1"):
        tuner.adapt(["ACGT", "AC-T"], progress=False)


@pytest.mark.parametrize("make", [classes, numbers, lambda: numbers(gaps=True), toxic])
def test_the_cut_of_a_batch_changes_nothing(make: Any) -> None:
    data, inputs = make(), Sequence(alphabet="dna", augment="reverse_complement")
    runs = [
        FineTuner("new:encoder", inputs=inputs, max_steps=4, micro_batch_size=size, **RUN).fit(data, progress=False)
        for size in (8, 3)
    ]
    left, right = ([record["loss"] for record in tuner.history.steps] for tuner in runs)
    assert left == pytest.approx(right, rel=1e-5)


def test_mistakes_are_named() -> None:
    with pytest.raises(OptionError, match="did you mean 'new:encoder'"):
        FineTuner("new:encodr", inputs=DNA)
    with pytest.raises(OptionError, match="nothing in it was trained yet"):
        FineTuner("new:encoder", inputs=DNA, freeze="backbone")
    with pytest.raises(OptionError, match="say what the letters are"):
        FineTuner("new:encoder", **RUN).fit(classes(), progress=False)
    with pytest.raises(DataError, match="row 0"):
        FineTuner("new:encoder", inputs=Sequence(alphabet="rna"), **RUN).fit(
            TaskDataset({"sequence": ["MKVL", "AC"], "label": [0, 1]}), progress=False
        )
    with pytest.raises(DataError, match="give one flat list of inputs"):
        FineTuner("new:encoder", inputs=DNA, max_steps=1, **RUN).fit(classes(), progress=False).predict([["A"]])
