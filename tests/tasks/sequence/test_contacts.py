"""Contacts end to end: what is learned of whom, answers, folders, sequences that are too long, structures."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from sftlib import ContactPrediction, FineTuner, Sequence, TaskDataset
from sftlib.command.files import write_answers
from sftlib.encoders.base import Encoder
from sftlib.encoders.encoded import Encoded
from sftlib.errors import DataError, LabelError, OptionError
from sftlib.models.sources import open_source
from sftlib.tasks.sequence.contact_prediction import Contact, ContactMap
from tests.data.structures import lines_of

DNA = Sequence(alphabet="dna")
RUN: dict[str, Any] = {"precision": "fp32", "device": "cpu", "seed": 0, "batch_size": 8}


def paired(sequence: str) -> list[list[int]]:
    """Where two letters are complements, at any distance."""
    return [
        [i, j] for j in range(len(sequence)) for i in range(j) if sequence[i] + sequence[j] in ("AT", "TA", "CG", "GC")
    ]


def rows(count: int, seed: int, longest: int = 30) -> TaskDataset:
    drawn = random.Random(seed)
    genes = ["".join(drawn.choices("ACGT", k=drawn.randint(8, longest))) for _ in range(count)]
    return TaskDataset({"sequence": genes, "contacts": [paired(gene) for gene in genes]})


def numbers_of(found: ContactMap) -> np.ndarray:
    return found.probabilities.astype(np.float64)


# What is learned.


def opened(max_length: int = 20) -> Encoder:
    return Sequence(alphabet="dna", max_length=max_length).open(open_source("new:encoder"))


def loss_of(
    task: ContactPrediction, encoded: Encoded, encoder: Encoder, chosen: list[int], scores: torch.Tensor
) -> Any:
    batch = task.collate(encoded, np.array(chosen), encoder)
    return task.loss(scores[chosen][:, : batch.inputs["input_ids"].shape[1]], batch)


@pytest.mark.parametrize("separation", [1, 6])
def test_the_loss_is_that_of_a_plain_loop(separation: int) -> None:
    """With a mask, with a sequence that is cut off, with one that has no pair, and without control tokens."""
    genes = ["ACGTACGTAC", "TTTTAAAACCCCGGGGACGTACGT", "AC", "GATTACAGATT"]
    masks = ["1101111111", "1" * 24, "11", "01111011110"]
    data = TaskDataset({"sequence": genes, "contacts": [paired(gene) for gene in genes], "residue_mask": masks})
    encoder, task = opened(), ContactPrediction(separation=separation, rank=3).learned_from(data)
    encoded = task.encode(data, encoder)
    assert encoded.cut.tolist() == [0, 6, 0, 0]
    scores = torch.randn(4, 20, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    total, count = 0.0, 0
    for row, (gene, mask) in enumerate(zip(genes, masks, strict=True)):
        for i in range(min(len(gene), 18)):
            for j in range(i + separation, min(len(gene), 18)):
                if mask[i] + mask[j] == "11":
                    first, second = scores[row, 1 + i], scores[row, 1 + j]  # behind [CLS]
                    band = min(int(2 * math.log2(j - i)), len(task.known.odds) - 1)
                    score = float(first[:3] @ second[3:6] + second[:3] @ first[3:6]) / math.sqrt(3)
                    score += float(first[6] + second[6]) + task.known.odds[band]
                    true = gene[i] + gene[j] in ("AT", "TA", "CG", "GC")
                    total, count = total + math.log1p(math.exp(-score if true else score)), count + 1
    found = loss_of(task, encoded, encoder, [0, 1, 2, 3], scores)
    assert float(found.total) == pytest.approx(total, rel=1e-9)
    assert float(found.count) == count
    parts = [loss_of(task, encoded, encoder, part, scores) for part in ([2], [3, 0], [1])]
    assert float(sum(part.total for part in parts)) == pytest.approx(total, rel=1e-9)
    moved = scores.clone()
    moved[:, 0] = 1e3  # control tokens say nothing
    assert float(loss_of(task, encoded, encoder, [0, 1, 2, 3], moved).total) == float(found.total)
    whole = task.encode(data, opened(max_length=64))
    assert task.units(data) == float(loss_of(task, whole, opened(64), [0, 1, 2, 3], torch.zeros(4, 26, 7)).count)
    assert task.unsupervised(encoded).tolist() == ([2] if separation == 6 else [])


def test_a_fresh_model_says_how_often_such_pairs_are_contacts() -> None:
    data = rows(64, seed=1)
    tuner = FineTuner("new:encoder", inputs=DNA, max_steps=1, learning_rate=0.0, **RUN).fit(data, progress=False)
    found = tuner.predict(data)
    shares = [p.probabilities[0, 7:].mean() for p in found]
    assert np.mean(shares) == pytest.approx(0.25, abs=0.1)  # and not a half
    near = TaskDataset({"sequence": ["A" * 40] * 9, "contacts": [[[i, i + 6] for i in range(34)]] * 9})
    odds = ContactPrediction().learned_from(near).known.odds
    assert odds[int(2 * math.log2(6))] > 0 > odds[int(2 * math.log2(8))]


def test_it_learns_which_letters_pair_and_comes_back(tmp_path: Path) -> None:
    train, new = rows(96, seed=2), rows(24, seed=3)
    task = ContactPrediction(separation=3)
    metrics = ["precision_at_l5", "precision_at_l2", "precision_at_l", "precision_at_l_12"]
    tuner = FineTuner("new:encoder", inputs=DNA, task=task, epochs=8, learning_rate=1e-3, metrics=metrics, **RUN)
    tuner.fit(train, progress=False)
    found, predictions = tuner.evaluate(new), tuner.predict(new)
    assert found["precision_at_l5"] > 0.95  # a quarter of all pairs are contacts
    assert found["precision_at_l_12"] < found["precision_at_l5"]  # of few pairs, not as many are
    for row, prediction in zip(new, predictions, strict=True):
        said = {(i, j) for i, j, _ in prediction.contacts}
        true = {(i, j) for i, j in row["contacts"] if j - i >= 3}
        assert len(said & true) > 0.9 * len(said | true)
    for size in (1, 24):
        again = tuner.predict(new, batch_size=size)
        for mine, theirs in zip(predictions, again, strict=True):
            assert numbers_of(mine) == pytest.approx(numbers_of(theirs), abs=1e-6)
    tuner.save(tmp_path / "folder")
    loaded = FineTuner.load(tmp_path / "folder")
    assert loaded.predict(new) == predictions
    assert dict(loaded.evaluate(new)).items() <= dict(found).items()  # of the usual metrics
    assert loaded.get_params()["task"] == task
    plain = transformers.AutoModelForTokenClassification.from_pretrained(tmp_path / "folder")
    assert plain.config.num_labels == 65


@pytest.mark.parametrize("family", ["esm", "roberta"])
def test_models_of_transformers_learn_it(family: str) -> None:
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    more = {"mask_token_id": 4, "position_embedding_type": "rotary"} if family == "esm" else {}
    config = transformers.AutoConfig.for_model(
        family, **size, **more, vocab_size=64, max_position_embeddings=40, pad_token_id=0
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.AutoModel.from_config(config)
    data = rows(24, seed=4)
    runs = [
        FineTuner(model, inputs=DNA, max_steps=6, learning_rate=1e-2, micro_batch_size=size, **RUN) for size in (8, 3)
    ]
    losses = [[step["loss"] for step in run.fit(data, progress=False).history.steps] for run in runs]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert losses[0][-1] < losses[0][0]


def test_what_is_too_long_is_cut_off_and_stays_in_the_answer() -> None:
    tuner = FineTuner("new:encoder", inputs=Sequence(alphabet="dna", max_length=22), max_steps=2, **RUN)
    train = rows(16, seed=5)
    report = tuner.report(train).train
    assert report.truncated == report.unsupervised == sum(len(row["sequence"]) > 20 for row in train) > 0
    tuner.fit(train, progress=False)
    gene = "ACGT" * 10
    long, short = tuner.predict(gene), tuner.predict(gene[:20])
    assert long.probabilities.shape == (40, 40)
    assert long.probabilities[:20, :20] == pytest.approx(short.probabilities, abs=1e-6)
    assert not long.probabilities[20:].any()
    data = TaskDataset({"sequence": [gene], "contacts": [paired(gene)]})
    assert 0 <= tuner.evaluate(data)["precision_at_l"] <= 1


def test_proteins_with_structures(tmp_path: Path) -> None:
    """A chain that folds back on itself, of which some residues were not observed."""
    columns: dict[str, list[str]] = {"sequence": [], "structure": []}
    drawn = random.Random(6)
    for number in range(12):
        half = drawn.randint(8, 14)
        protein = "".join(drawn.choices("ACDEFGHIKLMNPQRSTVWY", k=2 * half))
        places = [(3.8 * i, 0.0, 0.0) for i in range(half)] + [(3.8 * i, 5.0, 0.0) for i in reversed(range(half))]
        path = tmp_path / f"{number}.pdb"
        path.write_text("\n".join(lines_of(protein, places, first=101, left_out=[2, half])))
        columns["sequence"].append(protein)
        columns["structure"].append(str(path))
    data = TaskDataset(columns, task="contact-prediction")
    tuner = FineTuner("new:encoder", inputs=Sequence(alphabet="protein"), max_steps=3, **RUN)
    tuner.fit(data, progress=False)
    task = ContactPrediction().learned_from(data)
    for row, (reference, protein) in enumerate(zip(task.references(data), columns["sequence"], strict=True)):
        last = len(protein) - 1
        assert reference[0, last] == reference[last, 0] == 1
        assert (reference[2] == -1).all()
        assert reference[0, 5] == -1  # too near in the sequence
        assert task.truth(data, row).known.sum() == last - 1
    assert 0 <= tuner.evaluate(data)["precision_at_l5"] <= 1


# Answers.


def test_an_answer_in_all_its_forms(tmp_path: Path) -> None:
    pairs = np.array([0.1, 0.9, 0.6, 0.6, 0.2, 0.7], np.float32)  # 0-2, 0-3, 0-4, 1-3, 1-4, 2-4
    found = ContactMap.of(pairs, threshold=0.5, separation=2, letters=5)
    assert [(i, j) for i, j, _ in found.contacts] == [(0, 3), (2, 4), (0, 4), (1, 3)]
    assert found.contacts[0] == Contact(0, 3, pytest.approx(0.9))
    assert found.above(0.65) == found.top(2) == found.contacts[:2]
    assert len(found.top(100)) == 6
    assert found.probabilities[4, 2] == found.probabilities[2, 4] == np.float32(0.7)
    assert not found.probabilities.diagonal().any()
    assert not found.probabilities.diagonal(1).any()
    assert repr(found).startswith("Prediction(contacts=((0, 3, 0.9), (2, 4, 0.7), ")
    assert found == ContactMap.of(pairs.copy(), threshold=0.5, separation=2, letters=5) != found.reaching(6)
    assert found.reaching(6).contacts == found.contacts
    write_answers([found], str(tmp_path / "o.jsonl"))
    line = json.loads((tmp_path / "o.jsonl").read_text())
    assert line["contacts"][0][:2] == [0, 3]
    assert "probabilities" not in line
    with pytest.raises(OptionError, match="count=-1"):
        found.top(-1)
    assert ContactMap.of(pairs[:0], threshold=0.5, separation=6, letters=3).contacts == ()


# Mistakes.


def test_mistakes_are_named() -> None:
    for inputs, said in (
        (Sequence(alphabet="dna", tokens="kmer:2"), "tokens='kmer:2': each letter has contacts"),
        (Sequence(alphabet="dna", augment="shift"), "augment="),
        (Sequence(alphabet="dna", strand="both"), "strand='both'"),
    ):
        with pytest.raises(OptionError, match=said):
            FineTuner("new:encoder", inputs=inputs, **RUN).fit(rows(8, seed=0), progress=False)
    with pytest.raises(OptionError, match="separation=0.*\n.*distance=-1"):
        ContactPrediction(separation=0, distance=-1)
    none = TaskDataset({"sequence": ["ACGTACGT"], "contacts": [[[0, 3]]]})
    with pytest.raises(LabelError, match="of 3 pairs of letters at least 6 apart none is a contact"):
        ContactPrediction().learned_from(none)
    assert ContactPrediction(separation=3).learned_from(none)
    tuner = FineTuner("new:encoder", inputs=DNA, max_steps=1, **RUN).fit(rows(8, seed=0), progress=False)
    with pytest.raises(DataError, match="takes sequences"):
        tuner.predict([["A"]])
    unnamed = TaskDataset({"sequence": ["MKVLAAGI"], "structure": ["a.pdb"], "id": ["a"]})
    with pytest.raises(DataError, match="needs the role 'structure'; .*structure='structure'"):
        FineTuner("new:encoder", task="contact-prediction", **RUN).fit(unnamed)
    broken = ContactPrediction(rank=2).learned_from(rows(8, seed=0))
    batch = broken.collate(broken.encode(rows(2, seed=0), opened(40)), np.arange(2), opened(40))
    with pytest.raises(OptionError, match="with rank=2 needs"):
        broken.loss(torch.zeros(2, batch.inputs["input_ids"].shape[1], 7), batch)
