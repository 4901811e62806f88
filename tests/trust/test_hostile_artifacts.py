"""Trust 24: folders made to harm whoever opens them are refused, and do nothing on the way.

The writer of such a folder can compute sums over it, so nearly all of these have a manifest that verifies.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sftlib import FineTuner, TaskDataset
from sftlib.models.files import strict
from sftlib.support import storage
from sftlib.testing import SENTENCES, tiny_model, tiny_tokenizer
from tests.trust.conftest import Figure
from tests.trust.sandbox import watched

SECONDS = 10.0
MEMORY = 2**28

Change = Callable[[Path], object]


class Payload:
    """Makes a marker beside the folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.marker}'",)


def marker_of(folder: Path) -> Path:
    return folder.parent / "executed"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("saved") / "model"
    data = TaskDataset({"text": list(SENTENCES), "label": ["bad", "good"] * 8})
    tuner = FineTuner(tiny_model("bert"), tokenizer=tiny_tokenizer(), max_steps=1, device="cpu", precision="fp32")
    tuner.fit(data, progress=False).save(place)
    FineTuner.load(place).predict("warms up what is imported late")
    return place


def seal(folder: Path, files: dict[str, Any] | None = None, **facts: Any) -> None:
    """A manifest that verifies, over whatever lies there, or over the files given."""
    (folder / "manifest.json").unlink(missing_ok=True)
    if files is None:
        plain = [path for path in folder.iterdir() if path.is_file() and path.name != "README.md"]
        files = {path.name: facts_of(path) for path in sorted(plain)}
    manifest = {"kind": "sftlib model", "version": 1, "libraries": {}, **facts, "files": files}
    storage.write_json(folder / "manifest.json", {**manifest, "sha256": storage._digest(manifest)})


def facts_of(path: Path) -> dict[str, Any]:
    return {"size": path.stat().st_size, "sha256": storage.sha256(path)}


# Ways to change one file.


def written(name: str, content: bytes | str) -> Change:
    raw = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(raw)


def pickled(name: str) -> Change:
    return lambda folder: (folder / name).write_bytes(pickle.dumps(Payload(marker_of(folder))))


def entries(name: str, *path: str, **values: Any) -> Change:
    """Set entries of a JSON file, at the object that a path leads to."""

    def change(folder: Path) -> None:
        whole = json.loads((folder / name).read_text())
        part = whole
        for key in path:
            part = part.setdefault(key, {})
        part.update(values)
        (folder / name).write_text(json.dumps(whole))

    return change


def config(**values: Any) -> Change:
    return entries("config.json", **values)


def nested(**values: Any) -> Change:
    return entries("config.json", "task_specific_params", "deep", "deeper", **values)


def words(**values: Any) -> Change:
    return entries("tokenizer_config.json", **values)


def record(**values: Any) -> Change:
    return entries("sftlib.json", **values)


def task(**values: Any) -> Change:
    return entries("sftlib.json", "task_config", **values)


def asked(**values: Any) -> Change:
    return entries("sftlib.json", "task_config", "options", **values)


def learned(**values: Any) -> Change:
    return entries("sftlib.json", "task_config", "learned", **values)


def flat(**values: Any) -> Change:
    """As version 0.1 wrote it."""
    config = {"pair": False, "label_names": ["bad", "good"], "class_weights": None, "label_smoothing": 0.0}
    return record(task_config={**config, **values})


def setting(**values: Any) -> Change:
    return entries("sftlib.json", "settings", **values)


def replaced(name: str, old: str, new: str) -> Change:
    def change(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1))

    return change


def other_config(**values: Any) -> Change:
    """A config of another family, with outputs as they should be."""

    def change(folder: Path) -> None:
        names = ("id2label", "label2id", "problem_type")
        kept = {name: json.loads((folder / "config.json").read_text())[name] for name in names}
        (folder / "config.json").write_text(json.dumps({**kept, **values}))

    return change


def header(change: Callable[[dict[str, Any]], object]) -> Change:
    """Rewrite the header of the weights, and leave the values."""

    def apply(folder: Path) -> None:
        raw = (folder / "model.safetensors").read_bytes()
        (length,) = struct.unpack("<Q", raw[:8])
        found = json.loads(raw[8 : 8 + length])
        text = json.dumps(change(found) or found).encode()
        text += b" " * (-len(text) % 8)
        (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + length :])

    return apply


def first(found: dict[str, Any]) -> dict[str, Any]:
    return next(entry for name, entry in found.items() if name != "__metadata__")


def linked(name: str, target: str = "/etc/passwd") -> Change:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to(target)

    return change


def moved_and_linked(name: str) -> Change:
    """The very file, elsewhere: sums and sizes are right."""

    def change(folder: Path) -> None:
        (folder / name).rename(folder.parent / f"outside-{name}")
        (folder / name).symlink_to(folder.parent / f"outside-{name}")

    return change


def in_place_of(name: str, make: Callable[[Path], object]) -> Change:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return change


def listed(name: str) -> Change:
    """A manifest that lists a file elsewhere, with its true size and sum."""

    def change(folder: Path) -> None:
        (folder.parent / "outside.json").write_text("{}")
        files = {path.name: facts_of(path) for path in sorted(folder.iterdir()) if path.suffix != ".md"}
        del files["manifest.json"]
        given = name.format(outside=folder.parent / "outside.json")
        seal(folder, {**files, given: facts_of(folder.parent / "outside.json")})

    return change


def chat(template: str) -> Change:
    return lambda folder: words(chat_template=template.format(marker=marker_of(folder)))(folder)


DEEP = 100_000
LABELS = {"id2label": {"0": "a", "1": "b"}, "label2id": {"a": 0, "b": 1}}
CODE = {"AutoModelForSequenceClassification": "modeling.Own", "AutoConfig": "modeling.Own", "AutoTokenizer": "m.Own"}
OFFSETS = "data_offsets"

#: Sealed after the change: size and sum of every file are right.
SEALED: dict[str, Change] = {
    # Pickles.
    **{
        f"a pickle as {name}": pickled(name)
        for name in ("config.json", "model.safetensors", "sftlib.json", "tokenizer.json", "tokenizer_config.json")
    },
    **{
        f"a pickle added as {name}": pickled(name)
        for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "model.pkl", "special_tokens_map.json")
    },
    # Files that do not belong there.
    **{
        f"{name} added": written(name, content)
        for name, content in {
            "modeling.py": "import os; os.system('touch executed')",
            "__init__.py": "raise SystemExit",
            "adapter_config.json": '{"base_model_name_or_path": "/etc"}',
            "model.safetensors.index.json": '{"weight_map": {"a": "../../x"}}',
            "generation_config.json": '{"custom_generate": "x/y"}',
            "sitecustomize.py": "raise SystemExit",
        }.items()
    },
    # JSON.
    "a key twice in config.json": replaced("config.json", "{", '{"model_type": "gpt2", '),
    "a key twice in sftlib.json": replaced("sftlib.json", "{", '{"task": "text-regression", '),
    "a key twice in tokenizer_config.json": replaced("tokenizer_config.json", "{", '{"pad_token": "[SEP]", '),
    "NaN in config.json": config(layer_norm_eps=float("nan")),
    "Infinity in config.json": config(hidden_dropout_prob=float("inf")),
    "Infinity in tokenizer_config.json": words(model_max_length=float("-inf")),
    "a number beyond all numbers in config.json": replaced("config.json", '"hidden_size": 32', '"hidden_size": 1e999'),
    "a number of 100,000 digits": replaced("config.json", '"hidden_size": 32', '"hidden_size": ' + "9" * 100_000),
    "config.json nested 100,000 deep": written("config.json", '{"a":' * DEEP + "1" + "}" * DEEP),
    "sftlib.json nested 100,000 deep": written("sftlib.json", "[" * DEEP + "]" * DEEP),
    "tokenizer_config.json nested 900 deep": written("tokenizer_config.json", '{"a":' * 900 + "1" + "}" * 900),
    "tokenizer.json nested 100,000 deep": written("tokenizer.json", '{"a":' * DEEP + "1" + "}" * DEEP),
    "config.json is a list": written("config.json", "[]"),
    "config.json is no UTF-8": written("config.json", b"\xff\xfe{}"),
    "config.json of 20 MB": written("config.json", '{"a": "' + "x" * 20_000_000 + '"}'),
    "a config of one million entries": config(a={str(i): i for i in range(1_000_000)}),
    # Weights.
    "a header of 2^63 bytes": written("model.safetensors", struct.pack("<Q", 2**63) + b"{}"),
    "a header of 2^40 bytes": written("model.safetensors", struct.pack("<Q", 2**40) + b"{}"),
    "a header larger than its file": written("model.safetensors", struct.pack("<Q", 64) + b"{}"),
    "no weights at all": written("model.safetensors", b""),
    "a header that is no JSON": written("model.safetensors", struct.pack("<Q", 8) + b"\x80\x04\x95aaaaa"),
    "a header nested 100,000 deep": written(
        "model.safetensors", struct.pack("<Q", 2 * DEEP) + b"[" * DEEP + b"]" * DEEP
    ),
    "a shape of 2^80": header(lambda found: first(found).update(shape=[2**40, 2**40])),
    "a shape beyond 64 bits": header(lambda found: first(found).update(shape=[2**70])),
    "a negative shape": header(lambda found: first(found).update(shape=[-1, -32])),
    "a shape larger than the file": header(lambda found: first(found).update(shape=[10**9, 32])),
    "an empty weight of 2^60 rows": header(
        lambda found: found.update(x={"dtype": "F32", "shape": [2**60, 0], OFFSETS: [0, 0]})
    ),
    "offsets that overlap": header(lambda found: first(found).update({OFFSETS: list(found.values())[2][OFFSETS]})),
    "offsets beyond the file": header(lambda found: first(found).update({OFFSETS: [10**12, 10**12 + 128]})),
    "offsets that run backwards": header(lambda found: first(found).update({OFFSETS: first(found)[OFFSETS][::-1]})),
    "a number format that lies": header(lambda found: first(found).update(dtype="F64")),
    "a number format unknown": header(lambda found: first(found).update(dtype="OBJECT")),
    "half as wide, twice as many": header(
        lambda found: (
            [e.update(dtype="F16", shape=[*e["shape"][:-1], 2 * e["shape"][-1]]) for e in list(found.values())[1:]]
            and None
        )
    ),
    "whole numbers as weights": header(
        lambda found: [e.update(dtype="I32") for name, e in found.items() if name != "__metadata__"] and None
    ),
    "metadata of another type": header(lambda found: found.update(__metadata__={"format": ["os", {"system": 1}]})),
    "a weight under another name": header(
        lambda found: {**dict(list(found.items())[:-1]), "../x": list(found.values())[-1]}
    ),
    # What transformers would be asked to do.
    "auto_map": config(auto_map=CODE),
    "auto_map within": nested(auto_map=CODE),
    "auto_map in a list": config(parts=[{"auto_map": CODE}]),
    "trust_remote_code": config(trust_remote_code=True),
    "trust_remote_code within": nested(trust_remote_code=True),
    "custom_pipelines": config(custom_pipelines={"x": {"impl": "own.Pipe", "pt": ["AutoModel"]}}),
    "_attn_implementation_internal": config(_attn_implementation_internal="someone/kernel"),
    "_attn_implementation": config(_attn_implementation="someone/kernel"),
    "attn_implementation": config(attn_implementation="someone/kernel:attention"),
    "_attn_implementation within": nested(_attn_implementation_internal="someone/kernel"),
    "quantization_config": config(quantization_config={"quant_method": "hqq"}),
    "a name of another model": config(_name_or_path="/etc", name_or_path="/etc"),
    "a backbone to fetch": config(backbone="resnet50", use_pretrained_backbone=True, use_timm_backbone=True),
    "no model type": replaced("config.json", '"model_type": "bert"', '"model_type": null'),
    "an unknown model type": config(model_type="../../own"),
    "a model type that is a list": config(model_type=["bert"]),
    "a model without such a head": other_config(model_type="vit"),
    # Models larger than their weights.
    "a million layers": config(num_hidden_layers=10**6),
    "10^12 layers": config(num_hidden_layers=10**12),
    "4,000 layers": config(num_hidden_layers=4_000),
    "rows of 10^9": config(hidden_size=10**9, num_attention_heads=10**3),
    "10^12 words": config(vocab_size=10**12),
    "10^8 words": config(vocab_size=10**8),
    "10^8 positions": config(max_position_embeddings=10**8),
    "10^9 labels": config(num_labels=10**9),
    "10^9 layers by type": other_config(model_type="modernbert", num_hidden_layers=10**9),
    "10^8 layers written short": other_config(
        model_type="gpt_neo", num_layers=2, attention_types=[[["global"], 10**8]]
    ),
    "tables of positions, squared": other_config(
        model_type="gptj", n_layer=1, n_embd=32, n_head=1, vocab_size=208, n_positions=10**6
    ),
    # Configs that make no model.
    "no heads": config(num_attention_heads=0),
    "minus one layer": config(num_hidden_layers=-1),
    "a width in words": config(hidden_size="32"),
    "an activation that is none": config(hidden_act="__import__('os').system"),
    "other labels than the task": config(**LABELS),
    "another problem": config(problem_type="regression"),
    # Tokenizers.
    "auto_map of a tokenizer": words(auto_map={"AutoTokenizer": ["own.Slow", "own.Fast"]}),
    **{
        f"tokenizer_class {kind}": words(tokenizer_class=kind)
        for kind in (
            "own.Tokenizer",
            "AutoTokenizer",
            "AutoModel",
            "RagTokenizer",
            "pipeline",
            "os.system",
            3,
            "BertModel",
        )
    },
    "tokenizer_class in config.json": config(tokenizer_class="AutoModel"),
    "a vocabulary elsewhere": words(vocab_file="/etc/passwd"),
    "a tokenizer file elsewhere": words(tokenizer_file="/etc/passwd"),
    "a tokenizer of another name": words(name_or_path="/etc"),
    "trust within a tokenizer": words(extra={"trust_remote_code": True}),
    "a limit in words": words(model_max_length="many"),
    "a limit beyond all numbers": replaced(
        "tokenizer_config.json", '"model_max_length": 64', '"model_max_length": 1e999'
    ),
    "an added token of another type": words(added_tokens_decoder={"7": 7}),
    "a tokenizer without anything": written("tokenizer.json", "{}"),
    "a tokenizer that was cut off": lambda folder: os.truncate(folder / "tokenizer.json", 3000),
    "a normaliser that is broken": entries(
        "tokenizer.json", normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}
    ),
    "a template that is none": entries("tokenizer.json", "post_processor", single=7),
    # Our own record.
    "sftlib.json is empty": written("sftlib.json", "{}"),
    "an unknown entry": record(base_model="/etc"),
    "an unknown task": record(task="os.system"),
    "a task that is a list": record(task=["text-classification"]),
    "a task with other keys": task(loader="own.load"),
    "a task with other options": asked(loader="own.load"),
    "a task that learned other things": learned(loader="own.load"),
    "a flat task with other keys": flat(loader="own.load"),
    "options that are a list": task(options=["label_smoothing"]),
    "options that say what was learned": asked(learned={}),
    "nothing learned": task(learned=None),
    "learned a text": task(learned="x"),
    "options that are a list of a list": asked(class_weights=[[[]]]),
    "weights of objects": asked(class_weights=[[{"a": 1}, 1.0]]),
    "weights in words": asked(class_weights=[["bad", "much"], ["good", "more"]]),
    "a task that is a text": record(task_config="x"),
    "labels of several types": learned(label_names=["bad", 1]),
    "labels that are objects": learned(label_names=[{"bad": 1}, {"good": 2}]),
    "labels twice": learned(label_names=["bad", "bad"]),
    "labels that are a number": learned(label_names=3),
    "a million labels": learned(label_names=list(range(10**6))),
    "weights of another length": learned(class_weights=[1.0] * 10**5),
    "weights that are NaN": learned(class_weights=[float("nan"), 1.0]),
    "smoothing beyond 1": asked(label_smoothing=2),
    "a pair that is a text": learned(pair="no"),
    "flat, labels of several types": flat(label_names=["bad", 1]),
    "flat, labels that are objects": flat(label_names=[{"bad": 1}, {"good": 2}]),
    "flat, labels twice": flat(label_names=["bad", "bad"]),
    "flat, labels that are a number": flat(label_names=3),
    "flat, a million labels": flat(label_names=list(range(10**6))),
    "flat, weights of another length": flat(class_weights=[1.0] * 10**5),
    "flat, weights that are NaN": flat(class_weights=[float("nan"), 1.0]),
    "flat, smoothing beyond 1": flat(label_smoothing=2),
    "flat, a pair that is a text": flat(pair="no"),
    "max_length -1": record(max_length=-1),
    "max_length 10^18": record(max_length=10**18),
    "max_length beyond the model": record(max_length=65),
    "max_length in words": record(max_length="64"),
    "max_length true": record(max_length=True),
    "settings that are a list": record(settings=[]),
    "an unknown setting": setting(loader="own.load"),
    "a folder to write into": setting(cache_dir="/tmp/stolen"),
    "a setting of another type": setting(epochs="3; import os"),
    "a learning rate that is NaN": setting(learning_rate=float("nan")),
    "a model that is an object": setting(model={"path": "/etc"}),
    "a device that is an object": setting(device={"type": "meta"}),
    "a precision unknown": setting(precision="fp0"),
    "metrics that are functions": setting(metrics=[{"import": "os.system"}]),
    "metrics measured in words": record(metrics={"accuracy": "<script>"}),
}

#: The manifest itself, or what no manifest can say.
STRUCTURE: dict[str, Change] = {
    "manifest.json is a pickle": pickled("manifest.json"),
    "manifest.json is a list": written("manifest.json", "[]"),
    "manifest.json nested 900 deep": replaced(
        "manifest.json", '"kind"', '"deep": ' + "[" * 900 + "]" * 900 + ', "kind"'
    ),
    "manifest.json nested 100,000 deep": written("manifest.json", "[" * DEEP + "]" * DEEP),
    "a key twice in manifest.json": replaced("manifest.json", "{", '{"version": 1, '),
    "files that are a list": lambda folder: seal(folder, ["config.json"]),  # type: ignore[arg-type]
    "facts that are a text": lambda folder: seal(folder, {path.name: "ok" for path in folder.iterdir()}),
    "a version to come": lambda folder: seal(folder, version=2),
    "of another kind": lambda folder: seal(folder, kind="sftlib checkpoint"),
    "nothing listed": lambda folder: seal(folder, {}),
    **{
        f"{name!r} listed": listed(name)
        for name in ("../outside.json", "{outside}", "", ".", "..", "sub/../config.json", "config.json\x00")
    },
    "100,000 names listed": lambda folder: seal(folder, {f"{i}.json": {"size": 0} for i in range(100_000)}),
    "100,000 files": lambda folder: [os.mknod(folder / f"{i}.json") for i in range(20_000)],
    **{
        f"{name} is a link to itself elsewhere": moved_and_linked(name)
        for name in ("config.json", "model.safetensors", "sftlib.json", "tokenizer.json", "manifest.json")
    },
    "README.md is a link": linked("README.md"),
    "README.md is a link to nothing": linked("README.md", "nowhere"),
    "README.md is a folder": in_place_of("README.md", Path.mkdir),
    "README.md is a pipe": in_place_of("README.md", os.mkfifo),
    "config.json is a folder": in_place_of("config.json", Path.mkdir),
    "config.json is a pipe": in_place_of("config.json", os.mkfifo),
    "manifest.json is a pipe": in_place_of("manifest.json", os.mkfifo),
    "a device": in_place_of("config.json", lambda path: path.symlink_to("/dev/zero")),
    "a folder added": lambda folder: (folder / "additional_chat_templates").mkdir(),
}

#: Opened, since nothing of it is ever looked at or run.
HARMLESS: dict[str, Change] = {
    "a pickle as README.md": pickled("README.md"),
    "a model elsewhere": setting(model="/etc", device="cuda:99", tokenizer="/etc"),
    "a chat template that escapes": chat("{{{{ cycler.__init__.__globals__.os.system('touch {marker}') }}}}"),
    "a chat template that loops": chat("{{% for i in range(10**12) %}}{{% endfor %}}{marker}"),
    "a chat template that does not parse": chat("{{% for {marker}"),
}


def opened(saved: Path, tmp_path: Path, change: Change, *, sealed: bool) -> Any:
    """What opening a changed copy did; it must leave no marker whatever it was."""
    folder = Path(shutil.copytree(saved, tmp_path / "model"))
    change(folder)
    if sealed:
        seal(folder)
    seen = watched(lambda: FineTuner.load(folder).predict("dull"), inside=folder, report=tmp_path / "report")
    assert not marker_of(folder).exists(), "executed"
    assert seen.events == []
    assert seen.seconds < SECONDS, seen
    assert seen.memory < MEMORY, seen
    return seen


CASES = [
    *(pytest.param(change, True, id=name) for name, change in SEALED.items()),
    *(pytest.param(change, False, id=name) for name, change in STRUCTURE.items()),
]
_seen: list[Any] = []


@pytest.mark.parametrize(("change", "sealed"), CASES)
def test_24_hostile_folders_are_refused(
    change: Change, sealed: bool, saved: Path, tmp_path: Path, figure: Figure
) -> None:
    seen = opened(saved, tmp_path, change, sealed=sealed)
    assert seen.outcome == "ArtifactError", seen
    assert repr(str(tmp_path / "model")) in seen.said
    assert len(seen.said) < 3000
    _seen.append(seen)
    figure("hostile folders refused; nothing executed, nothing outside read or written, no socket", len(_seen))
    figure("the slowest of them, seconds (bound 10)", round(max(case.seconds for case in _seen), 1))
    figure("the most memory of them, MB (bound 268)", round(max(case.memory for case in _seen) / 1e6))


@pytest.mark.parametrize("change", HARMLESS.values(), ids=HARMLESS)
def test_24_what_is_never_looked_at_does_no_harm(change: Change, saved: Path, tmp_path: Path) -> None:
    seen = opened(saved, tmp_path, change, sealed=True)
    assert seen.outcome == "done", seen


def test_24_a_config_is_checked_where_a_model_is_given_to_fill(saved: Path, tmp_path: Path) -> None:
    """It is not built from the config, but transformers reads that to open the tokenizer."""
    folder, model = Path(shutil.copytree(saved, tmp_path / "model")), tiny_model("bert")
    config(num_labels=10**9)(folder)
    seal(folder)
    seen = watched(lambda: FineTuner.load(folder, model=model), inside=folder, report=tmp_path / "report")
    assert (seen.outcome, seen.events) == ("ArtifactError", []), seen
    assert "config.json has num_labels=1000000000" in seen.said
    assert seen.memory < MEMORY


@pytest.mark.parametrize("width", [1, 1000])
def test_24_a_model_larger_than_its_file_is_given_up_while_it_is_made(width: int) -> None:
    """Before its shapes are compared: a config of a few bytes may describe any number of layers."""
    made: list[nn.Module] = []
    with (
        pytest.raises(ValueError, match="describes more weights, or larger ones"),
        strict.bounded({"weight": strict.Stored((2, 2), torch.float32)}),
        torch.device("meta"),
    ):
        made.extend(nn.Linear(width, width) for _ in range(1000))
    assert len(made) < 20


def test_24_the_watch_sees_what_it_should(tmp_path: Path) -> None:
    """The control: a pickle, a program, a socket, files outside, memory and a loop are all noticed."""
    payload = tmp_path / "inside" / "pickle"
    payload.parent.mkdir()
    payload.write_bytes(pickle.dumps(Payload(tmp_path / "marker")))

    def harm() -> None:
        import socket

        pickle.loads(payload.read_bytes())
        subprocess.run(["true"], check=True)
        socket.socket().close()
        Path("/etc/passwd").read_text()
        (tmp_path / "new").write_text("x")
        bytes(2**27).hex()

    seen = watched(harm, inside=payload.parent, report=tmp_path / "report")
    told = "\n".join(seen.events)
    for event in (
        "pickle.find_class",
        "os.system",
        "subprocess.Popen",
        "socket.__new__",
        "reads /etc/passwd",
        "writes",
    ):
        assert event in told
    assert seen.memory > 2**28
    assert (tmp_path / "marker").exists()
