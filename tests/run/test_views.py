"""The mean over several ways of showing a sequence, against the same mean made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sftlib import FineTuner, Sequence, TaskDataset
from sftlib.data.alphabets import ALPHABETS, has_rdkit
from sftlib.encoders.sequence.augment import RandomSmiles, ReverseComplement, Shift
from sftlib.encoders.sequence.views import Views
from sftlib.errors import DataError, OptionError
from sftlib.models.sources import open_source

GENES = ["AACGTT", "GGTACA", "TTTTACG", "CAGCAGC", "ACGT", "GATTACA"] * 2
RUN: dict[str, Any] = {"precision": "fp32", "device": "cpu", "seed": 0, "batch_size": 4, "max_steps": 3}
OTHER: Any = ALPHABETS["dna"].opposite  # type: ignore[attr-defined]
CLOSE: dict[str, float] = {"abs": 1e-6}


def fitted(targets: dict[str, Any], **options: Any) -> FineTuner:
    names = [name for name in targets if name not in ("label", "target")]
    data = TaskDataset({"sequence": GENES, **targets}, **({"targets": names} if names else {}))
    return FineTuner("new:encoder", inputs=Sequence(alphabet="dna", **options), **RUN).fit(data, progress=False)


def test_both_strands_get_one_answer_which_is_the_mean_of_two() -> None:
    tuner = fitted({"label": ["a", "b", "a", "b", "c", "c"] * 2})
    found = tuner.predict(GENES, views="reverse_complement")
    plain, other = tuner.predict(GENES), tuner.predict([OTHER(gene) for gene in GENES])
    for one, a, b in zip(found, plain, other, strict=True):
        for name, value in one.probabilities.items():
            assert value == pytest.approx((a.probabilities[name] + b.probabilities[name]) / 2, **CLOSE)
        assert one.label == max(one.probabilities, key=one.probabilities.__getitem__)
        assert one.probability == one.probabilities[one.label]
    again = tuner.predict([OTHER(gene) for gene in GENES], views="reverse_complement")
    for one, two in zip(found, again, strict=True):
        assert list(one.probabilities.values()) == pytest.approx(list(two.probabilities.values()), **CLOSE)
    alone = tuner.predict(GENES[1], views="reverse_complement")
    assert alone.probability == pytest.approx(found[1].probability, **CLOSE)
    assert tuner.predict(GENES, abstain_below=0.999, views="reverse_complement")[0].abstained


def test_numbers_and_several_targets_have_means_too() -> None:
    tuner = fitted({"target": [float(i) for i in range(12)]})
    values = [one.value for one in tuner.predict(["GATTACA", "ATTACA", "GATTAC", "TTACA", "GATTA"])]
    assert tuner.predict("GATTACA", views=Views(Shift(most=2))).value == pytest.approx(np.mean(values), rel=1e-5)
    tuner = fitted({"x": [float(i) for i in range(12)], "y": [float(i % 3) for i in range(12)]})
    a, b = tuner.predict(["GATTACA", OTHER("GATTACA")])
    both = tuner.predict({"sequence": "GATTACA"}, views=Views(ReverseComplement()))
    assert both.values == pytest.approx({name: (a.values[name] + b.values[name]) / 2 for name in ("x", "y")}, rel=1e-5)


def test_the_views_of_a_row_do_not_depend_on_what_stands_beside_it() -> None:
    tuner = fitted({"label": ["a", "b"] * 6})
    alone = tuner.predict(GENES[3], views=Views("shift", count=4))
    beside = tuner.predict(GENES, views=Views("shift", count=4), batch_size=2)[3]
    assert beside.probability == pytest.approx(alone.probability, **CLOSE)


@pytest.mark.skipif(not has_rdkit(), reason="needs rdkit")
def test_molecules_are_written_in_other_orders() -> None:
    from rdkit import Chem

    encoder = Sequence(alphabet="smiles").open(open_source("new:encoder"))
    aspirin = "CC(=O)Oc1ccccc1C(=O)O"
    shown = encoder.views(aspirin, RandomSmiles(), 5)
    assert len({*shown, aspirin}) == 6
    assert shown == encoder.views(aspirin, RandomSmiles(), 5)
    assert {Chem.CanonSmiles(one) for one in shown} == {Chem.CanonSmiles(aspirin)}
    assert encoder.views("C", RandomSmiles(), 5) == []


def test_what_cannot_be_is_refused() -> None:
    tuner = fitted({"label": ["a", "b"] * 6})
    with pytest.raises(OptionError, match="is no SMILES"):
        tuner.predict(GENES, views="random_smiles")
    with pytest.raises(OptionError, match="expected 'none', 'reverse_complement'"):
        tuner.predict(GENES, views="flip")
    with pytest.raises(OptionError, match="expected one augmentation"):
        Views("none")
    with pytest.raises(OptionError, match="count=0"):
        Views("shift", count=0)
    with pytest.raises(DataError, match="row 1"):
        tuner.predict(["ACGT", "AC*T"], views="shift")
    with pytest.raises(OptionError, match="both strands are one"):
        fitted({"label": ["a", "b"] * 6}, strand="both").predict(GENES, views="reverse_complement")
