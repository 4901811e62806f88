"""A new last layer alone learns around the middle of what it reads, and leaves one plain layer behind."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModelForSequenceClassification

from sftlib import Callback, FineTuner, Image, TaskDataset
from sftlib.models.input_scale import SIZE, let_scale, scale_input, scaled
from sftlib.models.pretrained import Pretrained
from sftlib.models.units import make_plain, plain_weights
from sftlib.run.lone_head import rate_of_a_lone_head
from sftlib.run.rates import ONE_LAYER
from sftlib.testing import pictures, tiny_image_model, tiny_image_processor, tiny_model, tiny_tokenizer
from tests.contracts.cases import case_of, losses, same_weights, tuner_for, weights

NAME = "text-classification"
DATA = case_of(NAME).data()
ALONE: dict[str, Any] = {"freeze": "backbone", "learning_rate": None, "max_steps": 6, "batch_size": 4}


def rows(count: int = 40, width: int = 6) -> Tensor:
    """Far to one side of 0."""
    generator = torch.Generator().manual_seed(3)
    return 10.0 + torch.randn(count, width, generator=generator)


def test_a_layer_reads_as_if_around_nothing_and_is_plain_again() -> None:
    layer = nn.Linear(6, 3)
    drawn, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    let_scale(layer)
    assert torch.equal(layer.weight, drawn)
    assert torch.equal(layer.bias, bias)
    scale_input(layer, rows())
    middle = rows() - rows().mean(0)
    around = middle * (SIZE / middle.square().sum(1).mean().sqrt())
    assert torch.allclose(layer(rows()), functional.linear(around, drawn, bias), atol=1e-4)
    answered, written = layer(rows()), plain_weights(layer)
    assert set(written) == {"weight", "bias"}
    make_plain(layer)
    assert torch.equal(layer(rows()), answered)
    assert scaled(layer) is None
    assert all(torch.equal(value, written[name]) for name, value in layer.state_dict().items())


def test_rows_that_are_all_alike_change_nothing() -> None:
    layer = nn.Linear(6, 3)
    before = layer(rows())
    let_scale(layer)
    scale_input(layer, torch.ones(5, 6))
    assert torch.equal(layer(rows()), before)


def test_what_lies_very_close_together_is_not_blown_up_without_end() -> None:
    layer = nn.Linear(6, 3)
    let_scale(layer)
    inputs = 20.0 + 1e-6 * rows()
    scale_input(layer, inputs)
    scale = float(layer.parametrizations.weight[0].scale)  # type: ignore[union-attr, index, arg-type]
    assert scale == pytest.approx(16 * SIZE / float(inputs.mean(0).norm()))


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model that has no head; what it makes of texts lies to one side, as that of real ones."""
    folder = tmp_path_factory.mktemp("body")
    model = tiny_model("bert", auto_class="AutoModel")
    with torch.no_grad():
        aside = torch.randn(model.config.hidden_size, generator=torch.Generator().manual_seed(1))
        model.encoder.layer[-1].output.LayerNorm.bias.add_(aside)  # type: ignore[union-attr, operator, index]
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def tuned(body: Path, *, callbacks: Iterable[Callback] = (), **options: Any) -> FineTuner:
    given = {"pooling": "mean", **ALONE, **options}
    model = Pretrained(str(body), pooling=given.pop("pooling"))
    return FineTuner(model, **given).fit(DATA, progress=False, callbacks=callbacks)


def by_hand(tuner: FineTuner, features: Tensor, target: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """(K, H) and (K,) of a plain loop over features that were moved and scaled beforehand."""
    middle = features.mean(0)
    scale = SIZE / max((features - middle).square().sum(1).mean().sqrt(), middle.norm() / 16)
    layer = nn.Linear(features.shape[1], start.shape[0])
    with torch.no_grad():
        layer.weight.copy_(start)
        layer.bias.zero_()
    groups = [{"params": [layer.weight], "weight_decay": 0.01}, {"params": [layer.bias], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.0)
    for record in tuner.history.steps:
        for group in optimizer.param_groups:
            group["lr"] = record["learning_rate"]
        optimizer.zero_grad()
        functional.cross_entropy(layer((features - middle) * scale), target).backward()
        nn.utils.clip_grad_norm_(layer.parameters(), 1.0)
        optimizer.step()
    weight = layer.weight.detach() * scale
    return weight, layer.bias.detach() - weight @ middle


def test_it_is_a_plain_loop_over_scaled_features(body: Path) -> None:
    given = {"batch_size": len(DATA), "dropout": 0.0, "weight_decay": 0.01, "precision": "fp32"}
    begun = tuned(body, **{**given, "max_steps": 1, "learning_rate": 0.0})
    tuner = tuned(body, **given)
    seen: list[Tensor] = []
    hook = classifier(tuner).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    for text in DATA.column("text"):  # one by one: in one call they would be sorted by length
        tuner.predict(text)
    hook.remove()
    names = list(tuner.label_names or ())
    target = torch.tensor([names.index(label) for label in DATA.column("label")])
    weight, bias = by_hand(tuner, torch.cat(seen), target, classifier(begun).weight.detach())
    assert tuner.settings["learning_rate"] == 5e-2
    assert torch.allclose(classifier(tuner).weight, weight, rtol=1e-3, atol=1e-4)
    assert torch.allclose(classifier(tuner).bias, bias, rtol=1e-3, atol=1e-3)


def classifier(tuner: FineTuner) -> Any:
    return tuner.model.classifier


@pytest.mark.parametrize(("steps", "rate"), [(1, 5e-2), (21, 0.036), (48, 0.016), (75, ONE_LAYER), (900, ONE_LAYER)])
def test_the_rate_follows_the_steps(steps: int, rate: float) -> None:
    assert rate_of_a_lone_head(steps) == rate


@pytest.mark.parametrize(
    ("options", "learns_so"),
    [({}, True), ({"learning_rate": 1e-3}, False), ({"head_learning_rate": 1e-3}, False), ({"freeze": None}, False)],
)
def test_whoever_names_a_rate_or_trains_more_gets_adamw_on_what_is_there(
    body: Path, options: dict[str, Any], learns_so: bool
) -> None:
    seen: list[Any] = []
    tuner = tuned(body, callbacks=[Looks(seen)], **options)
    assert [layer is not None for layer in seen] == [learns_so]
    assert scaled(tuner.model) is None
    assert not any("parametrizations" in key for key in tuner.model.state_dict())


def test_a_head_that_knows_something_goes_on_from_there() -> None:
    seen: list[Any] = []
    tuner_for(NAME, **ALONE).fit(DATA, progress=False, callbacks=[Looks(seen)])
    assert seen == [None]


@pytest.mark.parametrize("kind", ["token-classification", "question-answering"])
def test_what_reads_every_token_is_left_alone(body: Path, kind: str) -> None:
    seen: list[Any] = []
    FineTuner(str(body), **ALONE).fit(case_of(kind).data(), progress=False, callbacks=[Looks(seen)])
    assert seen == [None]


def test_of_pictures(tmp_path: Path) -> None:
    pytest.importorskip("PIL")
    seen: list[Any] = []
    tiny_image_model("mobilenet_v2", auto_class="AutoModel").save_pretrained(tmp_path)
    tuner = FineTuner(str(tmp_path), inputs=Image(processor=tiny_image_processor(), size=32), **ALONE)
    tuner.fit(TaskDataset(pictures(12, classes=3)), callbacks=[Looks(seen)], progress=False)
    assert [layer is not None for layer in seen] == [True]


def test_cut_resumed_and_opened_elsewhere_it_is_the_same(body: Path, tmp_path: Path) -> None:
    whole, cut = tuned(body), tuned(body, micro_batch_size=1)
    assert losses(cut) == pytest.approx(losses(whole), rel=1e-5)
    assert torch.allclose(classifier(cut).weight, classifier(whole).weight, rtol=1e-3, atol=1e-4)
    model, folder = Pretrained(str(body), pooling="mean"), tmp_path / "run"
    FineTuner(model, **ALONE).fit(DATA, output_dir=folder, save_every=2, progress=False)
    for step in folder.glob("step-*[46]"):
        shutil.rmtree(step)
    again = FineTuner(model, **ALONE).fit(DATA, output_dir=folder, resume=True, progress=False)
    assert same_weights(weights(again), weights(whole))
    whole.save(tmp_path / "saved")
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved")
    assert torch.equal(plain.classifier.weight, classifier(whole).weight)
    assert torch.equal(plain.classifier.bias, classifier(whole).bias)


def test_two_dozen_steps_tell_apart_what_lies_far_to_one_side() -> None:
    """As features of sounds do: by AdamW on them as they are, those steps go to what all rows have in common."""
    inputs, right = 10.0 + rows(200), []
    target = (inputs[:, 0] > inputs[:, 0].mean()).long()
    for prepared in (True, False):
        torch.manual_seed(0)
        layer = nn.Linear(6, 2)
        if prepared:
            let_scale(layer)
            scale_input(layer, inputs)
        optimizer = torch.optim.AdamW(layer.parameters(), lr=0.03)
        for _ in range(24):
            optimizer.zero_grad()
            functional.cross_entropy(layer(inputs), target).backward()
            optimizer.step()
        right.append(float((layer(inputs).argmax(1) == target).float().mean()))
    assert right[0] > 0.9 > 0.8 > right[1]


class Looks(Callback):
    """At the layer that learns so, in the first step."""

    def __init__(self, seen: list[Any]) -> None:
        self.seen = seen

    def on_fit_start(self, training: Any) -> None:
        self.seen.append(scaled(training.model))
