"""Losses over identities, cut and whole; steps of so many rows of each; verdicts, thresholds and open sets."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional

from sftlib import FineTuner, Image, ImageEmbedding, TaskDataset
from sftlib.errors import DataError, LabelError, OptionError
from sftlib.run.assemble import assemble, plan_of
from sftlib.run.choose import choose_task
from sftlib.run.settle import settled
from sftlib.tasks.identities import IdentityPlan, arc_margin, contrastive, cosine_margin, triplet
from sftlib.testing import pictures, tiny_image_model, tiny_image_processor
from sftlib.train.backward import Separate
from sftlib.train.comm import Alone
from sftlib.train.coupled import Coupled
from sftlib.train.plan import Budget

pytest.importorskip("PIL")

ROWS = pictures(24, classes=6, size=32)
DATA = TaskDataset(ROWS, task="image-embedding")
PAIRS = TaskDataset(
    {
        "image": [row["image"] for row in ROWS[:12]],
        "image_pair": [ROWS[i + (6 if i % 2 else 1)]["image"] for i in range(12)],
        "same": [bool(i % 2) for i in range(12)],
    }
)
STILL = Image(processor=tiny_image_processor("vit"), augment="none")


def tuner(family: str = "vit", **options: Any) -> FineTuner:
    reading = Image(processor=tiny_image_processor(family), augment="light")
    more = {"learning_rate": 1e-3, "batch_size": 12, "max_steps": 2, "precision": "fp32", "device": "cpu", **options}
    return FineTuner(tiny_image_model(family, auto_class="AutoModel"), **{"inputs": reading, **more})


def random_batch(seed: int, rows: int = 12, identities: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    found = functional.normalize(torch.randn(rows, 6, generator=generator, dtype=torch.float64), dim=1)
    return found.requires_grad_(), torch.randint(0, identities, (rows,), generator=generator)


# Losses, by definitions written once more, and by another library.


def test_margins_by_their_definitions() -> None:
    for seed in range(200):
        embeddings, target = random_batch(seed)
        centres, _ = random_batch(seed + 1000, rows=4)
        cosines = (embeddings @ centres.T).detach()
        arc, flat = arc_margin(cosines, target, 0.5), cosine_margin(cosines, target, 0.35)
        for row, own in enumerate(target.tolist()):
            for other in range(4):
                value = float(cosines[row, other])
                angle = np.arccos(value)
                turned = np.cos(angle + 0.5) if angle + 0.5 <= np.pi else value - 0.5 * np.sin(0.5)
                assert float(arc[row, other]) == pytest.approx(turned if other == own else value, abs=1e-6)
                assert float(flat[row, other]) == pytest.approx(value - 0.35 * (other == own), abs=1e-12)


def test_losses_by_loops() -> None:
    for seed in range(100):
        embeddings, target = random_batch(seed)
        cosines, who = (embeddings @ embeddings.T).detach().numpy(), target.tolist()
        rows = range(len(who))
        wrong = [
            0.1 - cosines[a, p] + cosines[a, n]
            for a in rows
            for p in rows
            for n in rows
            if a != p and who[a] == who[p] and who[a] != who[n]
        ]
        wrong = [value for value in wrong if value > 0]
        found = triplet(embeddings, target, margin=0.1)
        assert (float(found.total.detach()), int(found.count)) == (pytest.approx(sum(wrong), rel=1e-9), len(wrong))
        terms = []
        for a in rows:
            others = [b for b in rows if b != a]
            below = np.log(sum(np.exp(10 * cosines[a, b]) for b in others))
            own = [10 * cosines[a, b] - below for b in others if who[a] == who[b]]
            terms += [-np.mean(own)] if own else []
        found = contrastive(embeddings, target, scale=10.0)
        assert (float(found.total.detach()), int(found.count)) == (pytest.approx(sum(terms), rel=1e-9), len(terms))


def test_losses_of_another_library() -> None:
    peers = pytest.importorskip("pytorch_metric_learning.losses")
    distances = pytest.importorskip("pytorch_metric_learning.distances")
    for seed in range(20):
        embeddings, target = random_batch(seed)
        centres, _ = random_batch(seed + 1000, rows=4)
        cosines = embeddings @ centres.T
        for ours, peer, margin in (
            (arc_margin, peers.ArcFaceLoss(4, 6, margin=float(np.rad2deg(0.5)), scale=32), 0.5),
            (cosine_margin, peers.CosFaceLoss(4, 6, margin=0.35, scale=32), 0.35),
        ):
            peer.W = nn.Parameter(centres.detach().T.contiguous())
            expected = peer(embeddings, target)
            found = functional.cross_entropy(ours(cosines, target, margin) * 32, target)
            assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
        expected = peers.TripletMarginLoss(margin=0.1, distance=distances.CosineSimilarity())(embeddings, target)
        total, count = triplet(embeddings, target, margin=0.1)
        assert float((total / count).detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
        expected = peers.SupConLoss(temperature=0.1)(embeddings, target)
        total, count = contrastive(embeddings, target, scale=10)
        assert float((total / count).detach()) == pytest.approx(float(expected.detach()), rel=1e-6)


@pytest.mark.parametrize("rows", [16, 4, 1, 7])
@pytest.mark.parametrize("objective", ["arcface", "cosface", "triplet", "contrastive"])
def test_a_step_may_be_cut(objective: str, rows: int) -> None:
    """In float64: the loss and the gradient of the whole, whatever the cut."""

    def run(cut: int) -> tuple[Any, dict[str, Tensor]]:
        asked = tuner(batch_size=24, task=ImageEmbedding(objective=objective))
        task = choose_task(asked._arguments, DATA, None)
        fitted = assemble(asked._arguments, asked._source, task)
        fitted.model.double()
        encoded = fitted.encode(DATA)
        fitted = settled(replace(fitted, comm=Alone()), encoded)
        feed = fitted.feed(encoded, Budget(cut, 2**62), plan=plan_of(asked._arguments, task, encoded))
        forward = fitted.forward()
        fitted.model.train()
        with forward.prepared():
            backward = Coupled(forward, task, feed, Alone()) if task.couples_rows else Separate(forward, task, feed)
            sums = backward(0)
        total, count = (float(sum(part)) for part in zip(*sums, strict=True))
        grads = {name: p.grad for name, p in fitted.model.named_parameters() if p.grad is not None}
        return (total, count), grads

    (expected, gradient), (found, cut) = run(24), run(rows)
    assert found[1] == expected[1] > 0
    assert found[0] == pytest.approx(expected[0], rel=1e-6)
    assert gradient.keys() == cut.keys()
    apart = sum(float((cut[name] - value).square().sum()) for name, value in gradient.items())
    assert (apart / sum(float(value.square().sum()) for value in gradient.values())) ** 0.5 < 1e-6


# Steps.


def test_steps_hold_so_many_rows_of_each_identity() -> None:
    generator = np.random.default_rng(0)
    identities = generator.permutation(np.repeat(np.arange(12), generator.integers(1, 11, 12)))
    plan = IdentityPlan(identities, batch_size=16, rows_of_each=4, seed=3)
    again = IdentityPlan(identities, batch_size=16, rows_of_each=4, seed=3)
    for epoch in range(3):
        steps = [plan.rows(epoch * plan.steps_per_epoch + index) for index in range(plan.steps_per_epoch)]
        assert set(np.concatenate(steps).tolist()) == set(range(len(identities))), "each row at least once"
        for index, rows in enumerate(steps):
            assert len(set(rows.tolist())) == len(rows) <= 16
            assert np.array_equal(rows, again.rows(epoch * plan.steps_per_epoch + index))
        first = steps[0]
        for identity in set(identities[first].tolist()):
            assert (identities[first] == identity).sum() == min(4, (identities == identity).sum())
    assert not np.array_equal(plan.rows(0), plan.rows(plan.steps_per_epoch))


def test_a_run_by_steps_of_identities_goes_on_where_it_stopped(tmp_path: Path) -> None:
    def fresh() -> FineTuner:
        return tuner(task=ImageEmbedding(objective="contrastive", rows_of_each=2), max_steps=6, batch_size=8)

    whole = fresh().fit(DATA, progress=False)
    assert all(record["rows"] == 8 for record in whole.history.steps)
    fresh().fit(DATA, output_dir=tmp_path, save_every=2, progress=False)
    for folder in sorted(tmp_path.iterdir())[2:]:
        if folder.name > "step-00000002":
            for item in sorted(folder.rglob("*"), reverse=True):
                item.unlink() if item.is_file() else item.rmdir()
            folder.rmdir()
    resumed = fresh().fit(DATA, output_dir=tmp_path, save_every=2, resume=True, progress=False)
    left, right = whole.model.state_dict(), resumed.model.state_dict()
    assert all(torch.equal(left[name], right[name]) for name in left)


# What comes of it.


def test_identities_may_be_new_in_other_rows(capsys: pytest.CaptureFixture[str]) -> None:
    train, valid, test = DATA.split(0.5, 0.25, 0.25, by="label", seed=1)
    assert not set(train.column("label")) & set(test.column("label"))
    found = tuner(max_steps=3, inputs=STILL).fit(train, valid)
    assert found.label_names == tuple(sorted(set(train.column("label"))))
    new = len(set(valid.column("label")))
    assert f"3 identities to learn from, {new} to validate on, {new} of them new" in capsys.readouterr().out
    metrics = found.evaluate(test)
    assert set(metrics) == {"loss", "eer", "tar_at_far_1e-2", "roc_auc", "recall_at_1", "map_at_r"}
    assert np.isnan(metrics["loss"]), "there are no centres of these"
    assert 0 <= metrics["eer"] <= 1 or np.isnan(metrics["eer"])
    assert np.isfinite(found.evaluate(train)["loss"])


def test_the_threshold_is_chosen_on_the_validation_rows(tmp_path: Path) -> None:
    train, valid = DATA.split(0.5, 0.5, seed=0)
    without = tuner(inputs=STILL).fit(train, progress=False)
    pair = (ROWS[0]["image"], ROWS[6]["image"])
    verdict = without.predict(pair)
    assert (verdict.same, verdict.threshold) == (None, None)
    one, other = (without.predict(picture).embedding for picture in pair)
    assert verdict.similarity == pytest.approx(float(one @ other), abs=1e-6)
    assert np.linalg.norm(one) == pytest.approx(1, abs=1e-6)

    chosen = tuner(inputs=STILL).fit(train, valid, progress=False)
    verdict = chosen.predict(pair)
    assert verdict.same is (verdict.similarity >= verdict.threshold)
    vectors = np.stack([found.embedding for found in chosen.predict(valid)]).astype(np.float64)
    labels = np.array(valid.column("label"))
    above = np.triu_indices(len(valid), 1)
    cosines, same = (vectors @ vectors.T)[above], (labels[:, None] == labels)[above]
    called = cosines >= verdict.threshold
    false, missed = called[~same].mean(), (~called)[same].mean()
    best = min(max((cosines >= t)[~same].mean(), (cosines < t)[same].mean()) for t in cosines)
    assert max(false, missed) == pytest.approx(best)
    chosen.save(tmp_path / "faces")
    again = FineTuner.load(tmp_path / "faces")
    assert again.predict(pair) == verdict
    assert again.predict({"image": pair[0], "image_pair": pair[1]}) == verdict
    assert again.predict([pair, pair]) == [verdict, verdict]
    strict = tuner(inputs=STILL, task=ImageEmbedding(far=0.01)).fit(train, valid, progress=False)
    assert strict.predict(pair).threshold >= verdict.threshold
    assert (cosines[~same] >= strict.predict(pair).threshold).mean() <= 0.01


def test_pairs_with_verdicts_are_evaluated_and_learned_from(tmp_path: Path) -> None:
    assert PAIRS.task == "image-embedding"
    assert [row["same"] for row in PAIRS] == PAIRS.column("same")
    of_identities = tuner(inputs=STILL, max_steps=20).fit(DATA, PAIRS, progress=False)
    metrics = of_identities.evaluate(PAIRS)
    found = of_identities.predict(PAIRS)
    cosines, same = np.array([p.similarity for p in found]), np.array(PAIRS.column("same"))
    from sklearn.metrics import roc_auc_score

    assert metrics["roc_auc"] == pytest.approx(roc_auc_score(same, cosines), abs=1e-9)
    assert np.isnan(metrics["recall_at_1"])
    loss = np.where(same, 1 - cosines, np.maximum(cosines - 0.3, 0)).mean()
    assert metrics["loss"] == pytest.approx(loss, abs=1e-6)
    assert [p.same for p in found] == [p.similarity >= p.threshold for p in found]

    runs = [tuner(max_steps=4, micro_batch_size=cut, batch_size=6).fit(PAIRS, PAIRS, progress=False) for cut in (6, 1)]
    losses = [[record["loss"] for record in run.history.steps] for run in runs]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    alone, together = (runs[0].predict(PAIRS, batch_size=size) for size in (1, 12))
    assert [p.similarity for p in together] == pytest.approx([p.similarity for p in alone], abs=1e-6)
    runs[0].save(tmp_path / "pairs")
    assert FineTuner.load(tmp_path / "pairs").predict(PAIRS) == runs[0].predict(PAIRS)


@pytest.mark.parametrize("family", ["vit", "resnet", "mobilenet_v2", "convnext", "swin", "dinov2"])
def test_plain_transformers_gives_the_same_embedding(family: str, tmp_path: Path) -> None:
    found = tuner(family, max_steps=3).fit(DATA, progress=False)
    found.save(tmp_path / "faces")
    model = transformers.AutoModel.from_pretrained(tmp_path / "faces")
    processor = tiny_image_processor(family)
    with torch.no_grad():
        pixels = processor(ROWS[0]["image"], return_tensors="pt")["pixel_values"]
        states = model(pixel_values=pixels)[0]
        pooled = states.mean((2, 3)) if states.dim() == 4 else states.mean(1)
    expected = functional.normalize(pooled, dim=1)[0].numpy()
    assert found.predict(ROWS[0]["image"]).embedding == pytest.approx(expected, abs=1e-6)
    opened = transformers.pipeline("image-feature-extraction", model=str(tmp_path / "faces"), device="cpu")
    from PIL import Image as Pillow

    states = torch.tensor(opened(Pillow.fromarray(ROWS[0]["image"])))
    pooled = states.mean((2, 3)) if states.dim() == 4 else states.mean(1)
    assert functional.normalize(pooled, dim=1)[0].numpy() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("family", "pooling"), [("vit", "first"), ("dinov2", "pooler"), ("resnet", "pooler")])
def test_other_ways_to_one_embedding(family: str, pooling: str) -> None:
    found = tuner(family, task=ImageEmbedding(pooling=pooling)).fit(DATA, progress=False)
    with torch.no_grad():
        pixels = tiny_image_processor(family)(ROWS[0]["image"], return_tensors="pt")["pixel_values"]
        outputs = found.model(pixel_values=pixels)
    expected = outputs.pooler_output.flatten(1) if pooling == "pooler" else outputs[0][:, 0]
    expected = functional.normalize(expected, dim=1)[0].detach().numpy()
    assert found.predict(ROWS[0]["image"]).embedding == pytest.approx(expected, abs=1e-6)


def test_a_module_of_ones_own(tmp_path: Path) -> None:
    class Eye(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.out = nn.Conv2d(3, 8, 3, stride=2), nn.Linear(8, 5)

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.out(torch.relu(self.conv(x)).mean((2, 3)))
            return found

    found = FineTuner(Eye(), inputs=Image(size=24), task="image-embedding", max_steps=2, device="cpu")
    found.fit(DATA, progress=False)
    assert found.predict(ROWS[0]["image"]).embedding.shape == (5,)
    found.save(tmp_path / "eye")
    assert FineTuner.load(tmp_path / "eye", model=Eye()).predict(ROWS[3]["image"]) == found.predict(ROWS[3]["image"])


def test_a_model_of_words_and_pictures_is_refused_and_its_part_that_sees_is_not() -> None:
    part = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    eye = {**part, "image_size": 32, "patch_size": 8, "projection_dim": 8}
    whole = transformers.CLIPModel(
        transformers.CLIPConfig(vision_config=eye, text_config={**part, "vocab_size": 99}, projection_dim=8)
    )
    with pytest.raises(OptionError, match="CLIPModel: it cannot be called with pixel_values.*its vision model"):
        FineTuner(whole, inputs=STILL, task="image-embedding", max_steps=1).fit(DATA, progress=False)
    seeing = transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**eye))
    found = FineTuner(seeing, inputs=STILL, task="image-embedding", max_steps=1, device="cpu").fit(DATA, progress=False)
    assert found.predict(ROWS[0]["image"]).embedding.shape == (16,)


def test_an_adapter_learns_and_comes_back(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    base = tiny_image_model("vit", auto_class="AutoModel")
    found = FineTuner(base, inputs=STILL, task="image-embedding", adapter="lora", max_steps=3, device="cpu")
    found.fit(DATA, progress=False)
    found.save(tmp_path / "adapter")
    again = FineTuner.load(tmp_path / "adapter", model=tiny_image_model("vit", auto_class="AutoModel"))
    assert again.predict(ROWS[0]["image"]) == found.predict(ROWS[0]["image"])
    assert dict(again.evaluate(DATA)) == dict(found.evaluate(DATA))


def test_what_cannot_be_learned_or_asked(caplog: pytest.LogCaptureFixture) -> None:
    one = TaskDataset({"image": [row["image"] for row in ROWS[:3]], "label": ["a"] * 3}, task="image-embedding")
    with pytest.raises(LabelError, match="needs at least two"):
        tuner().fit(one, progress=False)
    single = TaskDataset({"image": [r["image"] for r in ROWS[:3]], "label": ["a", "b", "c"]}, task="image-embedding")
    with pytest.raises(LabelError, match="every identity has one row alone"):
        tuner(task=ImageEmbedding(objective="triplet")).fit(single, progress=False)
    with pytest.raises(OptionError, match="objective='triplet' needs the role 'label'"):
        tuner(task=ImageEmbedding(objective="triplet")).fit(PAIRS, progress=False)
    with pytest.raises(OptionError, match="objective='pairs' needs the roles 'image_pair' and 'same'"):
        tuner(task=ImageEmbedding(objective="pairs")).fit(DATA, progress=False)
    with pytest.raises(LabelError, match="every pair is the same"):
        tuner().fit(PAIRS.filter(lambda row: row["same"]), progress=False)
    with pytest.raises(DataError, match=r"1 row with a str instead of True or False: row 1 \('maybe'\)"):
        TaskDataset({"image": [ROWS[0]["image"]] * 2, "image_pair": [ROWS[1]["image"]] * 2, "same": [True, "maybe"]})
    with pytest.raises(OptionError) as error:
        ImageEmbedding(objective="arc", margin=-1, scale=0, rows_of_each=1, pooling="max", far=2)
    assert len(str(error.value).splitlines()) == 6
    found = tuner(inputs=STILL).fit(DATA, progress=False)
    with pytest.raises(DataError, match="row 1: an input of image and image_pair, and row 0 is one of image"):
        found.predict([ROWS[0]["image"], (ROWS[0]["image"], ROWS[1]["image"])])
    with caplog.at_level(logging.ERROR, "sftlib"):
        assert found.self_check(DATA).holds
        assert tuner(inputs=STILL, task=ImageEmbedding(objective="triplet", rows_of_each=2)).self_check(DATA).holds
