"""Sequences as the model reads them: tokens, tokenizers that reopen, what is refused, what is drawn in training."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers

from sftlib import FineTuner, Sequence, TaskDataset
from sftlib.data.alphabets import ALPHABETS, SMILES_VOCABULARY, has_rdkit
from sftlib.encoders.draws import Draw
from sftlib.encoders.sequence.augment import RandomSmiles, ReverseComplement, Shift
from sftlib.encoders.sequence.encoder import SequenceEncoder
from sftlib.encoders.sequence.words import cut_of, own_tokenizer
from sftlib.encoders.writer import Writer
from sftlib.errors import DataError, OptionError
from sftlib.models.sources import open_source

MOLECULES = [
    "CCO",
    "C[C@@H](N)C(=O)O",
    "c1cc2[nH]ccc2cc1Cl",
    "[Na+].[O-]C(=O)c1ccccc1",
    "BrC=C[Si](C)(C)C",
    "N%12CC%12",
]


def opened(**options: Any) -> SequenceEncoder:
    encoder = Sequence(**options).open(open_source("new:encoder"))
    encoder.text.max_length = encoder.text.longest = 64
    return encoder


def written(encoder: SequenceEncoder, sequences: list[str]) -> list[list[int]]:
    with Writer() as writer:
        encoder.write({"sequence": sequences}, writer)
        column = writer.done().inputs["input_ids"]
    return [column[row].tolist() for row in range(len(sequences))]  # type: ignore[union-attr]


def strings(alphabet: str, count: int) -> list[str]:
    generator, letters = random.Random(0), ALPHABETS[alphabet].plain
    return ["".join(generator.choices(letters, k=generator.randint(1, 40))) for _ in range(count)]


@pytest.mark.parametrize(
    ("alphabet", "tokens"),
    [
        ("dna", "char"),
        ("dna", "kmer:3"),
        ("dna", "kmer:6"),
        ("rna", "kmer:2"),
        ("protein", "char"),
        ("protein", "kmer:2"),
    ],
)
def test_a_tokenizer_of_our_own_reopens_with_equal_ids_and_places(alphabet: str, tokens: str, tmp_path: Path) -> None:
    encoder = opened(alphabet=alphabet, tokens=tokens)
    encoder.save(tmp_path)
    again = transformers.AutoTokenizer.from_pretrained(tmp_path)
    sequences = strings(alphabet, 10_000)
    ids = written(encoder, sequences)
    found = again(sequences, truncation=True, max_length=64, return_offsets_mapping=True)
    assert found["input_ids"] == ids
    assert not any(again.unk_token_id in row for row in ids)
    size = cut_of(tokens).size
    for sequence, places in zip(sequences[:50], found["offset_mapping"][:50], strict=True):
        pieces = [sequence[start:end] for start, end in places[1:-1]]
        assert pieces == [sequence[start : start + size] for start in range(0, len(sequence), size)][: len(pieces)]


def test_words_that_overlap_are_set_apart(tmp_path: Path) -> None:
    encoder = opened(alphabet="dna", tokens="kmer:3/1")
    assert encoder.spaced
    assert encoder.as_text("acgta") == "ACG CGT GTA"
    encoder.save(tmp_path)
    again = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert again(["ACG CGT GTA"])["input_ids"] == written(encoder, ["ACGTA"])
    assert "spaces" in encoder.limit


def test_ten_thousand_rows_of_overlapping_words_reopen_with_equal_ids(tmp_path: Path) -> None:
    encoder, sequences = opened(alphabet="dna", tokens="kmer:4/1"), strings("dna", 10_000)
    encoder.save(tmp_path)
    again = transformers.AutoTokenizer.from_pretrained(tmp_path)
    found = again([encoder.as_text(one) for one in sequences], truncation=True, max_length=64)["input_ids"]
    assert found == written(encoder, sequences)
    assert not any(again.unk_token_id in row for row in found)


#: Each may follow any other; what stands in brackets, two letters or digits is one sign.
PARTS = (
    *("C", "CC", "N(C)", "O", "C(=O)", "C(F)", "C(Cl)", "C(Br)", "S(=O)(=O)", "C#C", "C=C", "[Si](C)(C)", "[13CH2]"),
    *("c1ccc(cc1)", "C1CCC(CC1)", "c1c[nH]c(c1)", "C%12CCN(CC%12)", "[C@@H](N)", "[C@H](O)", "[N+](C)(C)", "[Se]"),
)


def test_ten_thousand_molecules_reopen_with_equal_ids_from_a_saved_model(tmp_path: Path) -> None:
    drawn = random.Random(0)
    molecules = ["C" + "".join(drawn.choices(PARTS, k=drawn.randint(1, 8))) + "C" for _ in range(10_000)]
    rows = {"sequence": molecules[:8], "label": [0, 1] * 4}
    tuner = FineTuner("new:encoder", inputs=Sequence(alphabet="smiles", max_length=64), max_steps=1, device="cpu")
    tuner.fit(TaskDataset(rows), progress=False).save(tmp_path / "folder")
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "folder")
    found = again(molecules, truncation=True, max_length=64)["input_ids"]
    assert found == written(opened(alphabet="smiles"), molecules)
    for smiles, ids in zip(molecules, found, strict=True):
        pieces = cut_of("smiles").pieces(smiles)[:62]
        known = [piece for piece in again.convert_ids_to_tokens(ids[1:-1]) if piece != again.unk_token]
        assert known == pieces  # none unknown, none in another place


def test_every_sign_of_a_molecule_is_known() -> None:
    encoder = opened(alphabet="smiles")
    for smiles, ids in zip(MOLECULES, written(encoder, MOLECULES), strict=True):
        pieces = encoder.tokenizer.convert_ids_to_tokens(ids[1:-1])
        assert "".join(pieces) == smiles
        assert "[UNK]" not in pieces
        assert pieces == cut_of("smiles").pieces(smiles)
    assert len(SMILES_VOCABULARY) == len(set(SMILES_VOCABULARY)) < 250


def test_small_letters_and_the_other_base_are_read_as_usual() -> None:
    encoder = opened(alphabet="dna")
    assert written(encoder, ["acgu"]) == written(encoder, ["ACGT"])
    assert encoder.tokenizer(["acgu"])["input_ids"] == written(encoder, ["ACGT"])  # outside of sftlib too


def test_what_an_alphabet_does_not_have_is_refused_with_all_rows() -> None:
    with pytest.raises(DataError, match=r"2 rows with a letter that no protein sequence has: row 1 .*row 3"):
        written(opened(alphabet="protein"), ["MKV", "MK1", "AC", "A*"])


def test_one_strand_is_read_for_both() -> None:
    encoder = opened(alphabet="dna", tokens="kmer:2", strand="both")
    assert written(encoder, ["AACG"]) == written(encoder, ["CGTT"]) != written(encoder, ["GGGG"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "alphabet"),
        ({"alphabet": "dan"}, "did you mean 'dna'"),
        ({"alphabet": "dna", "tokens": "kmers:6"}, "tokens='kmers:6'"),
        ({"alphabet": "dna", "tokens": "kmer:3/4"}, "tokens"),
        ({"alphabet": "protein", "tokens": "kmer:6"}, "64,|more than a vocabulary"),
        ({"alphabet": "dna", "tokens": "smiles"}, "no atoms"),
        ({"alphabet": "protein", "strand": "both"}, "only DNA and RNA"),
        ({"alphabet": "protein", "augment": "reverse_complement"}, "only DNA and RNA"),
        ({"alphabet": "smiles", "augment": "shift"}, "another one"),
        ({"alphabet": "dna", "augment": "flip"}, "augment='flip'"),
        ({"alphabet": "dna", "augment": ["shift", "shift"]}, "twice"),
        ({"alphabet": "dna", "strand": "both", "augment": "reverse_complement"}, "strand='both'"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        opened(**options)


def test_a_tokenizer_of_words_gets_spaces_and_tells_its_alphabet() -> None:
    letters = own_tokenizer(ALPHABETS["protein"], cut_of("char"))
    letters.backend_tokenizer.pre_tokenizer = __import__("tokenizers").pre_tokenizers.WhitespaceSplit()
    encoder = opened(tokenizer=letters)  # as ProtBert reads proteins
    assert encoder.alphabet.name == "protein"
    assert encoder.spaced
    assert encoder.as_text("MKV") == "M K V"
    with pytest.raises(OptionError, match="does not know"):
        written(opened(tokenizer=own_tokenizer(ALPHABETS["dna"], cut_of("kmer:6")), alphabet="protein"), ["MKVLLW"] * 3)


# What is drawn.


def test_draws_are_functions_of_seed_epoch_and_row() -> None:
    kind, steps = ALPHABETS["dna"], (ReverseComplement(), Shift(most=4))
    texts = strings("dna", 40)
    for step in steps:
        draws = [[step(text, Draw(0, epoch=e, row=r), kind) for r, text in enumerate(texts)] for e in (0, 1)]
        backwards = [step(text, Draw(0, epoch=0, row=r), kind) for r, text in reversed(list(enumerate(texts)))]
        assert backwards[::-1] == draws[0] != draws[1]
    half = [ReverseComplement()(text, Draw(0, epoch=0, row=r), kind) == text for r, text in enumerate(texts)]
    assert 10 < sum(half) < 30


@pytest.mark.skipif(not has_rdkit(), reason="needs rdkit")
def test_random_smiles_are_the_same_molecules() -> None:
    from rdkit import Chem

    kind, step = ALPHABETS["smiles"], RandomSmiles()
    for row, smiles in enumerate(MOLECULES[:5]):
        shown = {step(smiles, Draw(0, epoch=epoch, row=row), kind) for epoch in range(12)}
        assert {Chem.CanonSmiles(text) for text in shown} == {Chem.CanonSmiles(smiles)}
        assert len(shown) > 1


@pytest.mark.parametrize("tokens", ["char", "kmer:3", "kmer:3/1"])
def test_a_batch_shows_what_was_drawn_and_evaluation_nothing(tokens: str) -> None:
    encoder = opened(alphabet="dna", tokens=tokens, augment=[ReverseComplement(probability=1.0)])
    sequences = ["AACGT", "GGGTTTC", "CAT"]
    with Writer() as writer:
        encoder.write({"sequence": sequences}, writer)
        encoded = writer.done()
    rows = np.array([2, 0])
    shown = encoder.load(encoded, rows, lambda row: Draw(0, epoch=0, row=row)).inputs
    opposite = [ALPHABETS["dna"].opposite(sequences[row]) for row in rows]
    assert [ids[mask == 1].tolist() for ids, mask in zip(shown["input_ids"], shown["attention_mask"], strict=True)] == (
        written(encoder, opposite)
    )
    plain = encoder.load(encoded, rows, None).inputs
    assert plain["input_ids"][1][plain["attention_mask"][1] == 1].tolist() == written(encoder, ["AACGT"])[0]
