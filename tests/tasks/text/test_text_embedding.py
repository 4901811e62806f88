"""Losses against plain loops and sentence-transformers; the folder in other libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn import functional

from sftlib import TaskDataset
from sftlib.errors import DataError, OptionError
from sftlib.tasks.text.text_embedding import TextEmbedding
from tests.contracts.cases import case_of, encoder_for, losses, of_rows, tuner_for

TEXTS = case_of("text-embedding").columns["text"][:8]
PAIRS, NEGATIVES = [*TEXTS[3:], *TEXTS[:3]], [*TEXTS[5:], *TEXTS[:5]]
SCORES = [i / 4 - 1 for i in range(8)]


def data_of(**more: Any) -> TaskDataset:
    return TaskDataset({"text": TEXTS, "text_pair": PAIRS, **more}, task="text-embedding")


def summed(data: TaskDataset, **options: Any) -> tuple[float, float, list[torch.Tensor]]:
    """The loss of eight random embeddings a side, their number, and the sides."""
    task = TextEmbedding(**options).learned_from(data)
    encoded = task.encode(data, encoder_for())
    batch = task.collate(encoded, np.arange(8), encoder_for())
    outputs = functional.normalize(of_rows(batch, 12), dim=1)
    total, count = task.loss(outputs, batch)
    return float(total), float(count), [outputs[i : i + 8] for i in range(0, len(outputs), 8)]


@pytest.mark.parametrize("negatives", [False, True])
def test_in_batch_by_a_plain_loop(negatives: bool) -> None:
    total, count, (text, *others) = summed(data_of(**({"text_negative": NEGATIVES} if negatives else {})))
    expected = 0.0
    for i in range(8):
        scores = [20 * float(text[i] @ other) for side in others for other in side]
        expected += np.log(np.exp(scores).sum()) - scores[i]
    assert (total, count) == (pytest.approx(expected, rel=1e-9), 8)


def test_triplet_by_a_plain_loop() -> None:
    options = {"objective": "triplet", "margin": 0.4}
    total, _, (text, pair, negative) = summed(data_of(text_negative=NEGATIVES), **options)
    expected = sum(max(0.0, 0.4 - float(t @ p) + float(t @ n)) for t, p, n in zip(text, pair, negative, strict=True))
    assert total == pytest.approx(expected, rel=1e-9)


def test_cosine_by_a_plain_loop() -> None:
    total, _, (text, pair) = summed(data_of(score=SCORES))
    expected = sum((float(t @ p) - score) ** 2 for t, p, score in zip(text, pair, SCORES, strict=True))
    assert total == pytest.approx(expected, rel=1e-6)


def test_scored_pairs_are_learned_and_ranked() -> None:
    data = data_of(score=SCORES)
    tuner = tuner_for("text-embedding", max_steps=60, learning_rate=5e-3, dropout=0.0).fit(data, progress=False)
    found = tuner.evaluate(data, batch_size=3)
    text, pair = ([p.embedding for p in tuner.predict(texts)] for texts in (TEXTS, PAIRS))
    cosines = [float(t @ p) for t, p in zip(text, pair, strict=True)]
    assert found["spearman"] == pytest.approx(stats.spearmanr(cosines, SCORES).statistic, abs=1e-6)
    assert found["spearman"] > 0.9
    assert losses(tuner)[-1] < 0.3 * losses(tuner)[0]


def test_embeddings_are_means_over_tokens_at_length_1() -> None:
    tuner = tuner_for("text-embedding", max_steps=2).fit(data_of(), progress=False)
    encoded = encoder_for().tokenizer(TEXTS[4], return_tensors="pt")
    with torch.no_grad():
        mean = tuner.model(**encoded).last_hidden_state[0].mean(dim=0)
    found = tuner.predict(TEXTS)[4].embedding
    np.testing.assert_allclose(found, functional.normalize(mean, dim=0).numpy(), atol=1e-6)
    assert np.linalg.norm(found) == pytest.approx(1, abs=1e-6)


def test_negatives_and_layouts_change_no_loss() -> None:
    data = data_of(text_negative=NEGATIVES)
    runs = [
        tuner_for("text-embedding", max_steps=3, padding_free=free).fit(data, progress=False) for free in (False, True)
    ]
    assert losses(runs[1]) == pytest.approx(losses(runs[0]), rel=1e-5)


def test_the_folder_opens_in_sentence_transformers(tmp_path: Path) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    tuner = tuner_for("text-embedding", max_steps=2).fit(data_of(), progress=False)
    tuner.save(tmp_path / "model")
    model = sentence_transformers.SentenceTransformer(str(tmp_path / "model"), device="cpu")
    expected = model.encode(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose([p.embedding for p in tuner.predict(TEXTS)], expected, atol=1e-5)


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(OptionError, match="text_negative"):
        tuner_for("text-embedding", task=TextEmbedding(objective="triplet")).fit(data_of(), progress=False)
    with pytest.raises(OptionError, match="did you mean 'cosine'"):
        TextEmbedding(objective="cosin")
    with pytest.raises(DataError, match="row 7"):
        tuner_for("text-embedding").fit(data_of(score=[*SCORES[:7], 5.0]), progress=False)
