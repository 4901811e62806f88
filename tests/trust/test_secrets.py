"""Trust 25: secrets reach no byte that is written, and text that a user typed never becomes a control token."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sftlib import Callback, FineTuner, TaskDataset
from sftlib.encoders.text.tokenizer import TextEncoder
from sftlib.errors import SftlibError
from sftlib.testing import FAMILIES, SENTENCES, SPECIAL, tiny_folder, tiny_tokenizer
from tests.trust.conftest import Figure
from tests.trust.runs import Interrupted

# Not real ones: each has the looks of its kind.
SECRETS = {
    "hub": "hf_" + "aB3dE5gH7jK9mN1pQ3sT5vW7",
    "key": "sk-" + "proj-Zx8Cv6Bn4Mq2We0Rt9",
    "forge": "ghp_" + "Qw3Er5Ty7Ui9Op1As3Df5Gh7",
    "cloud": "AKIA" + "QX7RT5PLM3NVB2WK",
    "place": "https://someone:pa55-w0rd-planted@hub.example/model",
}
HIDDEN = (*(secret for name, secret in SECRETS.items() if name != "place"), "pa55-w0rd-planted")


class Client(Callback):
    """Holds a secret, as a callback that reports elsewhere would."""

    def __init__(self) -> None:
        self.api_key = SECRETS["key"]


class Failing(Callback):
    """Raises an error that says a secret."""

    def on_step_end(self, training: Any, record: Any) -> None:
        if training.step == 3:
            raise Interrupted(f"cannot reach {SECRETS['place']} with {SECRETS['hub']}")


def rows() -> TaskDataset:
    return TaskDataset({"text": list(SENTENCES), "label": ["bad", "good"] * 8})


def files(place: Path) -> Iterator[Path]:
    return (path for path in place.rglob("*") if path.is_file())


def test_25_no_planted_secret_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, figure: Figure
) -> None:
    for name, secret in (("HF_TOKEN", "hub"), ("OPENAI_API_KEY", "key"), ("AWS_ACCESS_KEY_ID", "cloud")):
        monkeypatch.setenv(name, SECRETS[secret])
    base = tmp_path / SECRETS["forge"] / SECRETS["cloud"]
    base.parent.mkdir()
    tiny_folder(base)
    out = tmp_path / "out"
    options: dict[str, Any] = {"epochs": 1, "batch_size": 4, "device": "cpu", "tokenizer": str(base)}
    with pytest.raises(Interrupted):
        FineTuner(str(base), **options).fit(
            rows(), callbacks=[Client(), Failing()], output_dir=out / "run", save_every=1, progress=False
        )
    tuner = FineTuner(str(base), **options).fit(rows(), callbacks=[Client()], output_dir=out / "run2", progress=False)
    tuner.save(out / "saved")
    FineTuner.load(out / "saved").save(out / "again")
    (out / "history.json").write_text(json.dumps(tuner.history.to_dict()))
    (out / "settings.json").write_text(json.dumps(tuner.settings))
    (out / "log").write_text(caplog.text)
    written = list(files(out))
    for path in written:
        content = path.read_bytes()
        assert not [secret for secret in HIDDEN if secret.encode() in content], path
        assert str(tmp_path).encode() not in content, path
    assert "README.md" in {path.name for path in written}
    figure("secrets planted in options, paths, environment, callbacks and errors; none in so many files", len(written))


@pytest.mark.parametrize("name", ["model", "tokenizer", "keep_best"])
def test_25_a_secret_given_as_an_option_is_not_written(name: str, tmp_path: Path) -> None:
    """Whether it is refused or not."""
    options: dict[str, Any] = {"model": tiny_folder(tmp_path / "base"), "max_steps": 1, "device": "cpu"}
    try:
        tuner = FineTuner(**{**options, name: SECRETS["place"]})
        tuner.fit(rows(), rows(), output_dir=tmp_path / "out" / "run", progress=False).save(tmp_path / "out" / "saved")
    except SftlibError:
        pass
    for path in files(tmp_path / "out"):
        assert not [secret for secret in HIDDEN if secret.encode() in path.read_bytes()], path


TYPED = [
    *SPECIAL,
    "good [SEP] bad [CLS]",
    "[CLS][SEP][PAD][MASK][UNK]",
    "[sep]",
    "<s></s><pad><mask><unk>",
    "<|endoftext|><|im_start|>system<|im_end|>",
    "[SEP]\u200b[SEP]",
    "a[SEP]b",
    "  [SEP]  ",
    "[MASK] is [MASK]",
    "\uff3bSEP\uff3d",
    "[INST] <<SYS>> [/INST]",
]


def control_ids(tokenizer: Any) -> set[int]:
    """Those that mean something to a model; the one for unknown words is what foreign characters become."""
    return {*tokenizer.all_special_ids, *range(5)} - {tokenizer.unk_token_id}


@pytest.mark.parametrize("family", FAMILIES)
def test_25_typed_control_tokens_stay_text(family: str, tmp_path: Path, figure: Figure) -> None:
    """As many control ids as a plain text has, whoever the tokenizer comes from and whatever was typed."""
    data = TaskDataset({"text": list(SENTENCES), "text_pair": list(SENTENCES[::-1]), "label": ["bad", "good"] * 8})
    folder = tiny_folder(tmp_path / "base", family)
    FineTuner(folder, max_steps=1, device="cpu").fit(data, progress=False).save(tmp_path / "saved")
    again = FineTuner.load(tmp_path / "saved")
    assert again._fitted is not None
    cases = 0
    for encoder in (TextEncoder(tiny_tokenizer(family), 64), again._fitted.encoder):
        control = control_ids(encoder.tokenizer)
        for pairs in (None, TYPED[::-1]):
            (plain,) = encoder.encode(["plain"], None if pairs is None else ["plain"])
            expected = [int(i) for i in plain.inputs["input_ids"] if int(i) in control]
            (chunk,) = encoder.encode(TYPED, pairs)
            start = 0
            for text, length in zip(TYPED, chunk.lengths, strict=True):
                found = [int(i) for i in chunk.inputs["input_ids"][start : start + length] if int(i) in control]
                assert found == expected, text
                start += length
                cases += 1
    again.predict([(text, other) for text, other in zip(TYPED, TYPED[::-1], strict=True)])
    figure(f"control tokens typed, {family}: none became one", cases)
