"""Trust 13: adapters, merged or not, on or off, saved and opened again, on the right base only.

And trust 24: folders of adapters that are made to harm whoever opens them are refused.
"""

from __future__ import annotations

import copy
import functools
import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from sftlib import FineTuner, LoRA
from sftlib.errors import ArtifactError, OptionError
from sftlib.models.adapters import adapter_off, without_adapter
from sftlib.testing import tiny_folder, tiny_model, tiny_tokenizer
from tests.contracts.cases import NAMES, case_of, having, same_weights, thinned, tuner_for, weights
from tests.trust.conftest import Figure
from tests.trust.sandbox import watched
from tests.trust.test_hostile_artifacts import (
    DEEP,
    MEMORY,
    SECONDS,
    Change,
    entries,
    first,
    linked,
    marker_of,
    moved_and_linked,
    pickled,
    seal,
    written,
)

peft = pytest.importorskip("peft")

NAME = "text-classification"
ADAPTER, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
FAMILIES = ("bert", "distilbert", "deberta-v2", "gpt2", "llama")


@functools.cache
def tuned(name: str = NAME, family: str | None = None) -> FineTuner:
    """A tuner whose adapter has moved far from where it began; not to be changed."""
    given: dict[str, Any] = {"adapter": LoRA(r=4, dropout=0.1), "max_steps": 6, "learning_rate": 1e-2}
    return tuner_for(name, family, **given).fit(case_of(name).data(), progress=False)


def outputs(model: nn.Module) -> Any:
    """Every number that a model gives for a few tokens, padding left out, or for one picture or sound of noise."""
    with torch.no_grad():
        found = model(**fed(model))
    return torch.cat([x.flatten() for x in found.values() if isinstance(x, torch.Tensor)])


def fed(model: nn.Module) -> dict[str, torch.Tensor]:
    """What `model` reads, one row of it."""
    device, generator = next(model.parameters()).device, torch.Generator().manual_seed(0)
    if model.main_input_name == "input_values":
        return {"input_values": torch.randn(1, 4000, generator=generator).to(device)}
    if model.main_input_name == "pixel_values":
        size = getattr(model.config, "image_size", 32)
        sides = (size, size) if isinstance(size, int) else tuple(size)
        noise = torch.randn(1, 3, *sides, generator=generator)
        return {"pixel_values": noise.to(device)}
    ids = torch.tensor([[2, 40, 60, 80, 55, 3]], device=device)
    named = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if getattr(model.config, "is_encoder_decoder", False):  # type: ignore[union-attr]
        named["decoder_input_ids"] = ids
    return named


def inputs(name: str) -> list[Any]:
    data = case_of(name).data(6)
    return [{role: data[i][role] for role in data.inputs} for i in range(6)]


@pytest.mark.parametrize(("name", "family"), thinned(having(FAMILIES)))
def test_13_merged_against_unmerged(name: str, family: str, tmp_path: Path, figure: Figure) -> None:
    tuner = tuned(name, family)
    before = weights(tuner)
    plain = tuner.merge()
    apart = float((outputs(plain.model) - outputs(tuner.model)).abs().max())
    scale = max(1.0, float(outputs(tuner.model).abs().max()))
    assert apart <= 1e-6 * scale
    _apart.append(apart / scale)
    figure("merged against unmerged, largest difference (bound 1e-6)", f"{max(_apart):.1e}")
    assert same_weights(weights(tuner), before), "the tuner itself is not changed"
    plain.save(tmp_path / "plain")
    assert "model.safetensors" in {path.name for path in (tmp_path / "plain").iterdir()}
    again = FineTuner.load(tmp_path / "plain")
    assert again.predict(inputs(name)) == plain.predict(inputs(name))
    assert same_weights(weights(again), weights(plain))
    with pytest.raises(OptionError, match="no adapter"):
        plain.merge()


_apart: list[float] = []


@pytest.mark.parametrize(("name", "family"), having(FAMILIES))
def test_13_off_is_the_base(name: str, family: str) -> None:
    tuner = tuned(name, family)
    base = without_adapter(tuner.model).eval()
    on = outputs(tuner.model)
    with adapter_off(tuner.model):
        assert torch.equal(outputs(tuner.model), outputs(base))
    assert torch.equal(outputs(tuner.model), on)
    assert not torch.equal(on, outputs(base))
    given, body = case_of(name).model(family), base.base_model_prefix  # type: ignore[union-attr]
    for weight, value in given.state_dict().items():
        if weight.startswith(f"{body}."):
            assert torch.equal(base.state_dict()[weight][: len(value)], value), weight  # below: rows of new tokens


@pytest.mark.parametrize(("name", "family"), thinned(having(FAMILIES)))
def test_13_saved_and_opened_again(name: str, family: str, tmp_path: Path) -> None:
    tuner, base = tuned(name, family), case_of(name).model(family)
    tuner.save(tmp_path / "adapter")
    again = FineTuner.load(tmp_path / "adapter", model=base)
    assert same_weights(_own(again), _own(tuner))
    for mine, theirs in zip(tuner.predict(inputs(name)), again.predict(inputs(name)), strict=True):
        assert vars(mine) == vars(theirs)
    again.save(tmp_path / "twice")
    readers = {"tokenizer.json", "preprocessor_config.json"} & {path.name for path in (tmp_path / "adapter").iterdir()}
    assert readers, "what reads the inputs is saved too"
    for file in (ADAPTER, WEIGHTS, *readers):
        assert (tmp_path / "twice" / file).read_bytes() == (tmp_path / "adapter" / file).read_bytes()
    assert "model.safetensors" not in {path.name for path in (tmp_path / "adapter").iterdir()}


def _own(tuner: FineTuner) -> dict[str, torch.Tensor]:
    return {name: value for name, value in weights(tuner).items() if "original_module" not in name}


@pytest.mark.parametrize(("name", "family"), thinned(having(FAMILIES)))
def test_13_peft_opens_it_with_equal_outputs(name: str, family: str, tmp_path: Path) -> None:
    tuner = tuned(name, family)
    tuner.save(tmp_path / "adapter")
    theirs = peft.PeftModel.from_pretrained(without_adapter(tuner.model), tmp_path / "adapter").eval()
    assert torch.equal(outputs(theirs), outputs(tuner.model))


def test_13_peft_opens_it_on_a_folder_of_transformers(tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    folder = tiny_folder(tmp_path / "base", "roberta", 3)
    tuner = FineTuner(folder, adapter="lora", max_steps=4, learning_rate=1e-2, precision="fp32")
    tuner.fit(case_of(NAME).data(), progress=False).save(tmp_path / "adapter")
    base = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3)
    alone = outputs(base.eval())
    theirs = peft.PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    assert torch.equal(outputs(theirs), outputs(tuner.model))
    with theirs.disable_adapter():
        assert torch.equal(outputs(theirs), alone)
    assert FineTuner.load(tmp_path / "adapter", model=folder).predict("a film") == tuner.predict("a film")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("saved") / "model"
    tuned().save(place)
    FineTuner.load(place, model=case_of(NAME).model()).predict("warms up what is imported late")
    return place


def test_13_a_wrong_base_is_refused_by_its_sum(saved: Path, tmp_path: Path, figure: Figure) -> None:
    right = case_of(NAME).model()
    refused = 0
    for name, weight in right.named_parameters():
        if name.startswith("classifier"):
            continue  # trained whole, so no part of the base
        wrong = copy.deepcopy(right)
        with torch.no_grad():
            flat = wrong.get_parameter(name).view(-1)
            flat[len(flat) // 2] = torch.nextafter(flat[len(flat) // 2], torch.tensor(9.0))
        with pytest.raises(ArtifactError, match=r"is not the base .* SHA-256"):
            FineTuner.load(saved, model=wrong)
        refused += weight.numel() > 0
    figure("bases with one weight changed by one bit, refused", refused)
    other: list[Any] = [tiny_model("bert", 3, seed=5), tiny_model("roberta", 3), tiny_model("distilbert", 3)]
    for base in [
        *other,
        tiny_folder(tmp_path / "other", "bert", 3, seed=9),
        None,
        tmp_path / "nowhere",
        nn.Linear(2, 2),
    ]:
        with pytest.raises(ArtifactError):
            FineTuner.load(saved, model=base)
    right.save_pretrained(tmp_path / "right")
    for base in (right, tmp_path / "right", str(tmp_path / "right"), right.bert):
        FineTuner.load(saved, model=base)


def test_13_the_base_is_never_looked_for(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not under the name in the folder, and not beside it."""
    monkeypatch.chdir(tmp_path)
    tiny_folder(tmp_path / "BertForSequenceClassification", "bert", 3)
    with pytest.raises(ArtifactError, match=r"give the model it was trained on as model="):
        FineTuner.load(saved)
    for place in ("/etc", "BertForSequenceClassification", "someone/model"):
        folder = Path(shutil.copytree(saved, tmp_path / f"named-{len(place)}"))
        entries(ADAPTER, base_model_name_or_path=place)(folder)
        seal(folder, kind="sftlib adapter")
        with pytest.raises(ArtifactError, match=r"give the model"):
            FineTuner.load(folder)
        FineTuner.load(folder, model=case_of(NAME).model())


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_13_numbers_that_are_not_finite_are_refused(bad: float, saved: Path, tmp_path: Path) -> None:
    names = list(safetensors.torch.load_file(saved / WEIGHTS))
    for name in (names[0], names[-1], next(name for name in names if "classifier" in name)):
        folder = Path(shutil.copytree(saved, tmp_path / name))
        content = safetensors.torch.load_file(folder / WEIGHTS)
        content[name].view(-1)[-1] = bad
        safetensors.torch.save_file(content, folder / WEIGHTS)
        seal(folder, kind="sftlib adapter")
        with pytest.raises(ArtifactError, match="not finite"):
            FineTuner.load(folder, model=case_of(NAME).model())


def test_13_an_adapter_in_memory_with_nan_is_not_saved(tmp_path: Path) -> None:
    tuner = copy.deepcopy(tuned())
    with torch.no_grad():
        next(p for name, p in tuner.model.named_parameters() if "lora_A" in name)[0, 0] = float("nan")
    with pytest.raises(ArtifactError, match="not finite"):
        tuner.save(tmp_path / "adapter")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", NAMES)
def test_13_every_file_is_covered(name: str, tmp_path: Path) -> None:
    tuned(name).save(tmp_path / "adapter")
    for path in sorted((tmp_path / "adapter").iterdir()):
        if path.name == "README.md":
            continue
        good = path.read_bytes()
        path.write_bytes(good[:-2] + bytes([good[-2] ^ 1]) + good[-1:])
        with pytest.raises(ArtifactError, match=path.name):
            FineTuner.load(tmp_path / "adapter", model=case_of(name).model())
        path.write_bytes(good)
    FineTuner.load(tmp_path / "adapter", model=case_of(name).model())


# Folders that are made to harm; their sums verify.


def setting(**values: Any) -> Change:
    return entries(ADAPTER, **values)


def header(change: Callable[[dict[str, Any]], object]) -> Change:
    def apply(folder: Path) -> None:
        raw = (folder / WEIGHTS).read_bytes()
        (length,) = struct.unpack("<Q", raw[:8])
        found = json.loads(raw[8 : 8 + length])
        text = json.dumps(change(found) or found).encode()
        text += b" " * (-len(text) % 8)
        (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + length :])

    return apply


SEALED: dict[str, Change] = {
    **{f"a pickle as {name}": pickled(name) for name in (ADAPTER, WEIGHTS, "sftlib.json")},
    **{
        f"{name} added": written(name, content)
        for name, content in {
            "adapter_model.bin": "x",
            "config.json": '{"model_type": "bert"}',
            "model.safetensors": "x",
            "modeling.py": "raise SystemExit",
            "pytorch_model.bin": "x",
        }.items()
    },
    "a class to import": setting(auto_mapping={"base_model_class": "system", "parent_library": "os"}),
    "a module to import": setting(megatron_config={"a": 1}, megatron_core="os"),
    "a file to read": setting(corda_config={"cache_file": "/etc/passwd"}),
    "another start": setting(init_lora_weights="pissa"),
    "a start from a file": setting(init_lora_weights="eva", eva_config={}),
    "weights to quantise": setting(loftq_config={"loftq_bits": 4}, init_lora_weights="loftq"),
    "layers to repeat": setting(layer_replication=[[0, 2]] * 1000),
    "biases of the base": setting(bias="all"),
    "a revision": setting(revision="main"),
    "code": setting(trust_remote_code=True),
    "a kind unknown": setting(peft_type="os.system"),
    "a kind that is a list": setting(peft_type=["LORA"]),
    "a kind of tokens": setting(peft_type="PROMPT_TUNING", num_virtual_tokens=10**9),
    "a kind that adds experts": setting(peft_type="XLORA", adapters={"a": "/etc"}),
    "another kind": setting(peft_type="IA3"),
    "a rank of 10^12": setting(r=10**12),
    "a rank of 60,000": setting(r=60_000),
    "a rank of 0": setting(r=0),
    "a rank in words": setting(r="4"),
    "ranks by name of 60,000": setting(rank_pattern={"query": 60_000}),
    "another rank": setting(r=5),
    "a scale that is NaN": setting(lora_alpha=float("nan")),
    "a scale in words": setting(lora_alpha="8"),
    "a dropout of 1": setting(lora_dropout=1),
    "targets as a regular expression": setting(target_modules=r"(.*)*query"),
    "targets that are none": setting(target_modules=None),
    "no targets": setting(target_modules=[]),
    "a target that is an expression": setting(target_modules=["(a+)+$"]),
    "a target that is not there": setting(target_modules=["own"]),
    "a pattern that never ends": setting(rank_pattern={"(a+)+$": 1}),
    "a layer pattern that never ends": setting(layers_pattern=["(a+)+"], layers_to_transform=[0]),
    "a million targets": setting(target_modules=[f"layer.{i}" for i in range(10**6)]),
    "60,000 targets": setting(target_modules=["own.layer"] * 60_000),
    "no head": setting(modules_to_save=None),
    "the whole model as a head": setting(modules_to_save=["bert"]),
    "a head that is not there": setting(modules_to_save=["own"]),
    "a head that is an expression": setting(modules_to_save=["(.*)+"]),
    "tokens beyond the table": setting(trainable_token_indices=[10**9]),
    "tokens below the table": setting(trainable_token_indices=[-1]),
    "tokens by name of nothing": setting(trainable_token_indices={"own": [1]}),
    "a task of its own": setting(task_type="OWN"),
    "an unknown setting": setting(loader="own.load"),
    "a key twice": lambda folder: (folder / ADAPTER).write_text(
        (folder / ADAPTER).read_text().replace("{", '{"peft_type": "LORA",', 1)
    ),
    "settings nested 100,000 deep": written(ADAPTER, '{"a":' * DEEP + "1" + "}" * DEEP),
    "settings that are a list": written(ADAPTER, "[]"),
    "settings of 20 MB": written(ADAPTER, '{"a": "' + "x" * 20_000_000 + '"}'),
    "no weights at all": written(WEIGHTS, b""),
    "a header of 2^63 bytes": written(WEIGHTS, struct.pack("<Q", 2**63) + b"{}"),
    "a shape of 2^80": header(lambda found: first(found).update(shape=[2**40, 2**40])),
    "a shape turned round": header(lambda found: first(found).update(shape=first(found)["shape"][::-1])),
    "a number format that lies": header(lambda found: first(found).update(dtype="I32")),
    "a weight of the base": header(
        lambda found: {**dict(list(found.items())[:-1]), "bert.pooler.dense.bias": list(found.values())[-1]}
    ),
    "a weight under another name": header(
        lambda found: {**dict(list(found.items())[:-1]), "base_model.model.own": list(found.values())[-1]}
    ),
    "no sum of a base": lambda folder: _without_base(folder),
    "a sum of a base that is none": entries("sftlib.json", base="x"),
    "a sum of a base that is a list": entries("sftlib.json", base=["0" * 64]),
    "the sum of another base": entries("sftlib.json", base="0" * 64),
    "another task": entries("sftlib.json", task="text-regression"),
}
STRUCTURE: dict[str, Change] = {
    f"{ADAPTER} is a link": linked(ADAPTER),
    f"{WEIGHTS} is a link to itself elsewhere": moved_and_linked(WEIGHTS),
    "called a plain model": lambda folder: seal(folder),
    "its settings are gone": lambda folder: ((folder / ADAPTER).unlink(), seal(folder, kind="sftlib adapter")),
}


def _without_base(folder: Path) -> None:
    record = json.loads((folder / "sftlib.json").read_text())
    del record["base"]
    (folder / "sftlib.json").write_text(json.dumps(record))


CASES = [
    *(pytest.param(change, True, id=name) for name, change in SEALED.items()),
    *(pytest.param(change, False, id=name) for name, change in STRUCTURE.items()),
]
_seen: list[Any] = []


@pytest.mark.parametrize(("change", "sealed"), CASES)
def test_24_hostile_adapters_are_refused(
    change: Change, sealed: bool, saved: Path, tmp_path: Path, figure: Figure
) -> None:
    folder, base = Path(shutil.copytree(saved, tmp_path / "model")), case_of(NAME).model()
    change(folder)
    if sealed:
        seal(folder, kind="sftlib adapter")
    work = lambda: FineTuner.load(folder, model=base).predict("dull")  # noqa: E731
    seen = watched(work, inside=folder, report=tmp_path / "report")
    assert not marker_of(folder).exists(), "executed"
    assert seen.events == []
    assert seen.seconds < SECONDS, seen
    assert seen.memory < MEMORY, seen
    assert seen.outcome == "ArtifactError", seen
    assert len(seen.said) < 3000
    _seen.append(seen)
    figure("hostile adapters refused; nothing executed, nothing outside read or written, no socket", len(_seen))


def test_24_a_good_adapter_is_opened_under_the_same_watch(saved: Path, tmp_path: Path) -> None:
    base = case_of(NAME).model()
    seen = watched(lambda: FineTuner.load(saved, model=base).predict("dull"), inside=saved, report=tmp_path / "report")
    assert (seen.outcome, seen.events) == ("done", []), seen


def test_24_a_plain_folder_is_no_base_for_itself(tmp_path: Path) -> None:
    FineTuner(tiny_model("bert", 3), tokenizer=tiny_tokenizer(), max_steps=1).fit(
        case_of(NAME).data(), progress=False
    ).save(tmp_path / "plain")
    with pytest.raises(OptionError, match="expected a torch.nn.Module to fill"):
        FineTuner.load(tmp_path / "plain", model="somewhere")
