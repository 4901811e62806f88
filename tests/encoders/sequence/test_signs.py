"""Published vocabularies of molecules: a list of signs that transformers would read as pieces of words."""

from __future__ import annotations

from pathlib import Path

import transformers

from sftlib import Sequence
from sftlib.models.sources import open_source
from sftlib.testing import tiny_model

SIGNS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"cC()O12=N.n3F", "Cl", "Br", "[nH]", "[C@@H]"]


def test_signs_are_read_one_by_one(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(SIGNS))
    tiny_model("bert").save_pretrained(tmp_path)
    encoder = Sequence(alphabet="smiles").open(open_source(str(tmp_path)))
    smiles = "C[C@@H](N)C(=O)Oc1ccccc1Cl"
    found = encoder.tokenizer([smiles])["input_ids"][0]
    assert transformers.AutoTokenizer.from_pretrained(tmp_path)([smiles])["input_ids"][0] != found  # reads words
    assert found == [SIGNS.index(sign) for sign in ["[CLS]", "C", "[C@@H]", *"(N)C(=O)Oc1ccccc1", "Cl", "[SEP]"]]
    assert not encoder.spaced
    encoder.save(tmp_path / "out")
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert again([smiles])["input_ids"][0] == found
    assert Sequence(alphabet="smiles", tokenizer=again).open(open_source("new:encoder")).tokenizer([smiles])[
        "input_ids"
    ] == [found]
