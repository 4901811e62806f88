"""The front of `sftlib.testing`: what it names exists, is documented, and is made anew as it was."""

from __future__ import annotations

import inspect

import pytest
import torch

from sftlib import errors, testing


def test_the_list_is_sorted_and_resolves() -> None:
    assert testing.__all__ == sorted(testing.__all__, key=lambda name: (not name.isupper(), name[0].islower(), name))
    for name in testing.__all__:
        value = getattr(testing, name)
        if inspect.isfunction(value) or inspect.isclass(value):
            assert value.__doc__, name


def test_families_are_told_apart() -> None:
    with pytest.raises(errors.OptionError, match="did you mean 'roberta'"):
        testing.tiny_model("robert")
    with pytest.raises(errors.OptionError, match="'vit'"):
        testing.tiny_image_model("bert")
    with pytest.raises(errors.OptionError, match="did you mean 'hubert'"):
        testing.tiny_audio_model("bert")
    every = ", ".join(map(repr, testing.AUDIO_FAMILIES))
    with pytest.raises(errors.OptionError, match=f"known: {every}$"):
        testing.tiny_audio_model("resnet")
    with pytest.raises(errors.OptionError, match="no class of that name"):
        testing.tiny_model(auto_class="AutoModelForEverything")


def test_models_are_equal_for_equal_seeds_and_leave_the_generator_alone() -> None:
    before = torch.get_rng_state()
    for make in (testing.tiny_model, testing.tiny_image_model, testing.tiny_audio_model):
        first, same, other = (
            torch.cat([value.flatten().double() for value in make(seed=seed).state_dict().values()])
            for seed in (0, 0, 1)
        )
        assert torch.equal(first, same)
        assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_folders_open_as_those_of_the_hub_do(tmp_path: object) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = testing.tiny_folder(f"{tmp_path}/model", "bert", 3)
    assert AutoModelForSequenceClassification.from_pretrained(folder).config.num_labels == 3
    assert AutoTokenizer.from_pretrained(folder)("a film")["input_ids"][0] == 2
