"""What models draw by themselves: the same under every cut, or off, and said."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from packaging.version import Version
from torch import Tensor, nn

from sftlib.errors import OptionError
from sftlib.models.checkpointing import checkpointed
from sftlib.models.dropout import DropoutMasks, row_dropout
from sftlib.models.layouts.layout import OwnAttention
from sftlib.models.precision import Fp32
from sftlib.models.randomness import Found, find_randomness, refuse, settled_randomness
from sftlib.train.forward import Forward

ROWS = 8
ROLLS_FOR_NOTHING = ("bart", "conditional-detr", "wav2vec2")
Inputs = dict[str, Tensor]


def laid_out(masks: DropoutMasks, rows: Sequence[int], *, step: int = 0) -> AbstractContextManager[None]:
    """The only place that knows how masks are told of rows."""
    return masks.laid_out(step, torch.tensor(rows))


def made(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pixels(size: int = 32) -> Inputs:
    return {"pixel_values": made(0, ROWS, 3, size, size)}


def swin() -> tuple[nn.Module, Inputs]:
    config = transformers.SwinConfig(
        image_size=32,
        patch_size=4,
        embed_dim=16,
        depths=[2, 2],
        num_heads=[2, 2],
        window_size=4,
        drop_path_rate=0.4,
    )
    return transformers.SwinForImageClassification(config), pixels()


def beit() -> tuple[nn.Module, Inputs]:
    config = transformers.BeitConfig(
        image_size=32,
        patch_size=8,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=64,
        drop_path_rate=0.4,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return transformers.BeitForImageClassification(config), pixels()


def convnext() -> tuple[nn.Module, Inputs]:
    config = transformers.ConvNextConfig(
        image_size=32,
        num_stages=2,
        hidden_sizes=[16, 32],
        depths=[2, 2],
        drop_path_rate=0.4,
        layer_scale_init_value=1.0,
    )
    return transformers.ConvNextForImageClassification(config), pixels()


def segformer() -> tuple[nn.Module, Inputs]:
    """Drop path in the body, BatchNorm in the head."""
    config = transformers.SegformerConfig(
        num_encoder_blocks=2,
        depths=[2, 2],
        sr_ratios=[4, 2],
        hidden_sizes=[16, 32],
        patch_sizes=[7, 3],
        strides=[4, 2],
        num_attention_heads=[1, 2],
        mlp_ratios=[2, 2],
        decoder_hidden_size=16,
        drop_path_rate=0.4,
        classifier_dropout_prob=0.0,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return transformers.SegformerForSemanticSegmentation(config), pixels()


def wave_config(kind: Any, **more: Any) -> Any:
    quiet = ("hidden_dropout", "activation_dropout", "attention_dropout", "feat_proj_dropout", "final_dropout")
    return kind(
        vocab_size=8,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=64,
        conv_dim=(16, 16),
        conv_stride=(4, 4),
        conv_kernel=(8, 4),
        num_feat_extract_layers=2,
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2,
        layerdrop=0.5,
        mask_time_prob=0.4,
        mask_time_length=2,
        mask_feature_prob=0.2,
        mask_feature_length=2,
        **dict.fromkeys(quiet, 0.0),
        **more,
    )


def wav2vec2() -> tuple[nn.Module, Inputs]:
    """Layer drop and time masks."""
    config = wave_config(transformers.Wav2Vec2Config)
    return transformers.Wav2Vec2ForCTC(config), {"input_values": made(0, ROWS, 800)}


def sew_d() -> tuple[nn.Module, Inputs]:
    """A class of dropout of its own."""
    more = {"squeeze_factor": 1, "position_buckets": 8, "max_position_embeddings": 64, "hidden_dropout_prob": 0.0}
    config = wave_config(transformers.SEWDConfig, **more)
    config.attention_dropout = 0.3
    return transformers.SEWDForCTC(config), {"input_values": made(0, ROWS, 800)}


def rt_detr() -> tuple[nn.Module, Inputs]:
    body = transformers.RTDetrResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 8, 16, 16],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )
    config = transformers.RTDetrConfig(
        backbone_config=body,
        encoder_hidden_dim=16,
        encoder_in_channels=[8, 16, 16],
        feat_strides=[8, 16, 32],
        encoder_ffn_dim=32,
        encoder_attention_heads=2,
        d_model=16,
        decoder_in_channels=[16, 16, 16],
        decoder_layers=2,
        decoder_ffn_dim=32,
        decoder_attention_heads=2,
        num_queries=5,
        num_labels=3,
    )
    model = transformers.RTDetrForObjectDetection(config)
    for weight in model.parameters():  # so far apart that no two queries are chosen by rounding
        if weight.dim() > 1:
            nn.init.xavier_uniform_(weight)
    return model, pixels(64)


def conditional_detr() -> tuple[nn.Module, Inputs]:
    config = transformers.ConditionalDetrConfig(
        use_timm_backbone=False,
        backbone=None,
        use_pretrained_backbone=False,
        backbone_config=resnet_config(out_features=["stage2"]),
        d_model=16,
        encoder_layers=2,
        decoder_layers=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        num_queries=5,
        dropout=0.0,
        decoder_layerdrop=0.5,
    )
    return transformers.ConditionalDetrForObjectDetection(config), pixels()


def resnet_config(**more: Any) -> Any:
    return transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", **more)


def resnet() -> tuple[nn.Module, Inputs]:
    return transformers.ResNetForImageClassification(resnet_config()), pixels()


def mobilenet() -> tuple[nn.Module, Inputs]:
    """BatchNorm, and dropout of channels."""
    config = transformers.MobileNetV2Config(image_size=64, depth_multiplier=0.25, classifier_dropout_prob=0.5)
    return transformers.MobileNetV2ForSemanticSegmentation(config), pixels(64)


def bart() -> tuple[nn.Module, Inputs]:
    config = transformers.BartConfig(
        vocab_size=32,
        d_model=16,
        encoder_layers=3,
        decoder_layers=3,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        max_position_embeddings=32,
        dropout=0.0,
        encoder_layerdrop=0.5,
        decoder_layerdrop=0.25,
    )
    tokens = torch.arange(ROWS * 6).view(ROWS, 6) % 28 + 4
    return transformers.BartForConditionalGeneration(config), {"input_ids": tokens, "decoder_input_ids": tokens[:, :4]}


def dinov3() -> tuple[nn.Module, Inputs]:
    """Drop path, and positions that are scaled by chance."""
    config = transformers.DINOv3ViTConfig(
        image_size=32,
        patch_size=8,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        drop_path_rate=0.4,
        layerscale_value=1.0,
    )
    return transformers.DINOv3ViTModel(config), pixels()


def timesformer() -> tuple[nn.Module, Inputs]:
    """Drop path of each frame and each place of a row."""
    config = transformers.TimesformerConfig(
        image_size=16,
        patch_size=8,
        num_frames=2,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=64,
        drop_path_rate=1,  # its config takes whole numbers only
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model = transformers.TimesformerForVideoClassification(config)
    with_rate(model, "drop_prob", 0.4)
    return model, {"pixel_values": made(0, ROWS, 2, 3, 16, 16)}


def levit() -> tuple[nn.Module, Inputs]:
    config = transformers.LevitConfig(
        image_size=64,
        hidden_sizes=[16, 24, 32],
        num_attention_heads=[2, 2, 2],
        depths=[1, 1, 1],
        key_dim=[8, 8, 8],
        mlp_ratio=[2, 2, 2],
        attention_ratio=[2, 2, 2],
    )
    model = transformers.LevitForImageClassification(config)
    with_rate(model, "drop_rate", 0.4)
    return model, pixels(64)


def phimoe() -> tuple[nn.Module, Inputs]:
    """Noise before the router, and experts that are drawn."""
    config = transformers.PhimoeConfig(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=32,
        num_local_experts=4,
        input_jitter_noise=0.1,
    )
    model = transformers.PhimoeForCausalLM(config)
    model.set_experts_implementation("eager")  # others know no double precision
    return model, {"input_ids": torch.arange(ROWS * 6).view(ROWS, 6) % 28 + 4}


def with_rate(model: nn.Module, name: str, value: float) -> None:
    for module in model.modules():
        if hasattr(module, name):
            setattr(module, name, value)


class StochasticDepth(nn.Module):
    """As torchvision has it."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        kept = torch.rand(len(x), *(1 for _ in x.shape[1:])) >= self.p
        return x * kept / (1 - self.p)


class Pixels(nn.Sequential):
    def forward(self, pixel_values: Tensor) -> dict[str, Tensor]:
        return {"logits": super().forward(pixel_values)}


def torchs_own() -> tuple[nn.Module, Inputs]:
    """Every class of torch that draws whole channels, or draws otherwise, and one of another package."""
    model = Pixels(
        nn.Conv2d(3, 8, 3, stride=2),
        nn.BatchNorm2d(8),
        nn.RReLU(),
        nn.Dropout2d(0.3),
        StochasticDepth(0.3),
        nn.FeatureAlphaDropout(0.2),
        nn.Flatten(2),
        nn.Dropout1d(0.2),
        nn.Flatten(),
        nn.Linear(8 * 15 * 15, 6),
        nn.AlphaDropout(0.3),
        nn.Linear(6, 2),
    )
    return model, pixels()


#: Model by name, and what is found in it: kind and what is done.
CASES: dict[str, tuple[Callable[[], tuple[nn.Module, Inputs]], dict[str, str]]] = {
    "swin": (swin, {"drop path": "from counters"}),
    "beit": (beit, {"drop path": "from counters"}),
    "convnext": (convnext, {"drop path": "from counters"}),
    "segformer": (segformer, {"drop path": "from counters", "BatchNorm": "frozen"}),
    "wav2vec2": (wav2vec2, {"layer drop": "off", "time mask": "off"}),
    "sew-d": (sew_d, {"dropout": "from counters", "layer drop": "off", "time mask": "off"}),
    "rt-detr": (rt_detr, {"denoising": "off", "BatchNorm": "frozen"}),
    "conditional-detr": (conditional_detr, {"layer drop": "off"}),
    "resnet": (resnet, {"BatchNorm": "frozen"}),
    "mobilenet": (mobilenet, {"dropout of channels": "from counters", "BatchNorm": "frozen"}),
    "bart": (bart, {"layer drop": "off"}),
    "dinov3": (dinov3, {"drop path": "from counters", "noise on positions": "off"}),
    "timesformer": (timesformer, {"drop path": "from counters"}),
    "levit": (levit, {"drop path of LeViT": "off", "BatchNorm": "frozen"}),
    "phimoe": (phimoe, {"router noise": "off", "PhimoeTopKRouter": "off"}),
    "torch": (
        torchs_own,
        {
            "dropout of channels": "from counters",
            "drop path": "from counters",
            "alpha dropout of channels": "from counters",
            "alpha dropout": "from counters",
            "RReLU": "off",
            "BatchNorm": "frozen",
        },
    ),
}


def built(name: str) -> tuple[nn.Module, Inputs]:
    """A model with statistics that are not those of torch, in double precision, in training."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, inputs = CASES[name][0]()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.uniform_(-0.1, 0.1, generator=torch.Generator().manual_seed(0))
            module.running_var.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(0))
    return model.double().train(), inputs


@contextmanager
def settled(model: nn.Module, masks: DropoutMasks) -> Iterator[None]:
    with row_dropout(model, masks), settled_randomness(model, masks):
        yield


def scores_of(outputs: Any) -> Tensor:
    return outputs["logits"] if "logits" in outputs else outputs["last_hidden_state"]


def one_pass(model: nn.Module, inputs: Inputs, masks: DropoutMasks, cut: int, step: int = 0) -> tuple[Tensor, Tensor]:
    """Scores (B, ...) and the gradient of a sum over rows, of parts of ``cut`` rows."""
    model.zero_grad()
    scores = []
    for start in range(0, ROWS, cut):
        rows = list(range(start, start + cut))
        with laid_out(masks, rows, step=step):
            outputs = scores_of(model(**{name: value[rows] for name, value in inputs.items()}))
        (outputs * made(1, *outputs.shape[1:])).square().sum().backward()
        scores.append(outputs.detach())
    gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    return torch.cat(scores), torch.cat(gradients)


def generators() -> list[Any]:
    numpy: Any = np.random.get_state()
    return [torch.get_rng_state().tolist(), numpy[1].tolist(), numpy[2], random.getstate()]


def spoil_generators() -> None:
    torch.rand(7)
    np.random.rand(3)
    random.random()


# The attention of SEW-D has (B * heads, T, T), whose dropout today's masks do not know as rows.
@pytest.mark.parametrize("name", sorted(set(CASES) - {"sew-d"}))
def test_rows_are_the_same_under_every_cut(name: str) -> None:
    (model, inputs), masks = built(name), DropoutMasks(0)
    with settled(model, masks):
        whole, gradient = one_pass(model, inputs, masks, ROWS)
        for cut in (4, 1):
            spoil_generators()
            scores, other = one_pass(model, inputs, masks, cut)
            torch.testing.assert_close(scores, whole, rtol=1e-6, atol=1e-9)
            torch.testing.assert_close(other, gradient, rtol=1e-6, atol=1e-9 * float(gradient.abs().max()))


@pytest.mark.parametrize("name", sorted(set(CASES) - {"rt-detr"}))  # its denoising needs labels
def test_and_are_not_so_by_themselves(name: str) -> None:
    (model, inputs), masks = built(name), DropoutMasks(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        np.random.seed(0)
        whole, _ = one_pass(model, inputs, masks, ROWS)
        parts, _ = one_pass(model, inputs, masks, 4)
    assert not torch.allclose(whole, parts, rtol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_no_generator_is_asked(name: str) -> None:
    if name in ROLLS_FOR_NOTHING and Version(transformers.__version__) < Version("5.23"):
        pytest.skip(f"{name} of transformers before 5.23 draws a number for each layer at rate 0 too, and uses it not")
    (model, inputs), masks = built(name), DropoutMasks(0)
    with settled(model, masks):
        before = generators()
        one_pass(model, inputs, masks, ROWS)
        assert generators() == before


@pytest.mark.parametrize("name", [name for name, (_, found) in CASES.items() if "from counters" in found.values()])
def test_steps_and_seeds_differ(name: str) -> None:
    model, inputs = built(name)
    seen = []
    for seed, step in ((0, 0), (0, 1), (1, 0)):
        masks = DropoutMasks(seed)
        with settled(model, masks):
            seen.append(one_pass(model, inputs, masks, ROWS, step)[0])
    assert not torch.allclose(seen[0], seen[1])
    assert not torch.allclose(seen[0], seen[2])


def kinds_of(model: nn.Module) -> list[Any]:
    """What a model is made of, with the hooks that are ours to remove."""
    return [
        (where, type(module), module.training, isinstance(module, nn.modules.batchnorm._BatchNorm) and hooks(module))
        for where, module in model.named_modules()
    ]


def hooks(module: nn.Module) -> int:
    return len(module._forward_hooks) + len(module._forward_pre_hooks)


@pytest.mark.parametrize("name", CASES)
def test_the_model_comes_back_as_it_was(name: str) -> None:
    (model, inputs), masks = built(name), DropoutMasks(0)
    config = copy.deepcopy(model.config.to_dict()) if hasattr(model, "config") else None  # type: ignore[operator, union-attr]
    kinds, names, found = kinds_of(model), list(model.state_dict()), find_randomness(model)
    buffers = {where: buffer.clone() for where, buffer in model.named_buffers()}
    with settled(model, masks):
        assert list(model.state_dict()) == names
        one_pass(model, inputs, masks, 4)
        assert list(model.state_dict()) == names
        assert all(module.training for module in model.modules())
    assert kinds_of(model) == kinds
    assert list(model.state_dict()) == names
    assert find_randomness(model) == found
    assert all(torch.equal(buffer, buffers[where]) for where, buffer in model.named_buffers())
    assert config is None or model.config.to_dict() == config  # type: ignore[operator, union-attr]


@pytest.mark.parametrize("name", CASES)
def test_what_is_found_is_said(name: str) -> None:
    model, _ = built(name)
    found = find_randomness(model)
    assert {each.kind: each.done for each in found} == CASES[name][1]
    assert all(each.where for each in found)
    refuse(found)  # nothing to complain about


def sentence(found: Sequence[Found], kind: str) -> str:
    (one,) = [each.sentence for each in found if each.kind == kind]
    return one


def test_sentences() -> None:
    assert sentence(find_randomness(built("swin")[0]), "drop path") == (
        "drop path 0.133 to 0.4 (3 places): drawn from seed, step and row"
    )
    waves = find_randomness(built("wav2vec2")[0])
    assert sentence(waves, "layer drop") == "layer drop is off (layerdrop=0.5): it would be one lot for the whole batch"
    assert sentence(waves, "time mask") == (
        "time mask is off (mask_time_prob=0.4, mask_feature_prob=0.2): "
        "the model would draw it from a generator that all share"
    )
    assert sentence(find_randomness(built("bart")[0]), "layer drop") == (
        "layer drop is off (encoder_layerdrop=0.5, decoder_layerdrop=0.25): it would be one lot for the whole batch"
    )
    assert "num_denoising=100" in sentence(find_randomness(built("rt-detr")[0]), "denoising")
    assert "pos_embed_rescale=2" in sentence(find_randomness(built("dinov3")[0]), "noise on positions")
    assert sentence(find_randomness(built("torch")[0]), "BatchNorm") == (
        "BatchNorm (1 place): statistics are kept; scale and shift are trained"
    )


def test_a_model_that_draws_nothing_is_left_alone() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1), nn.LayerNorm(2), nn.GroupNorm(1, 2), nn.Dropout2d(0.0))
    assert find_randomness(model) == []


def test_adapters_of_wave_models_keep_their_layers() -> None:
    """They draw for themselves, and a layer that is left out changes the length."""
    config = wave_config(transformers.Wav2Vec2Config, add_adapter=True, num_adapter_layers=1)
    model, masks = transformers.Wav2Vec2Model(config).train(), DropoutMasks(0)
    with settled(model, masks), torch.no_grad():
        lengths = {model(made(0, 1, 800).float()).last_hidden_state.shape[1] for _ in range(8)}
    assert len(lengths) == 1


def test_time_masks_that_are_off_are_not_mentioned() -> None:
    model, _ = built("wav2vec2")
    model.config.apply_spec_augment = False  # type: ignore[union-attr]
    assert [each.kind for each in find_randomness(model)] == ["layer drop"]


# BatchNorm


def normed(**options: Any) -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, **options), nn.Linear(4, 1)).train()


def test_statistics_stay_and_the_scale_is_trained() -> None:
    model = normed()
    norm = model[1]
    before = copy.deepcopy(norm.state_dict())
    with settled_randomness(model, DropoutMasks(0)):
        for _ in range(2):
            model.train()  # as the loop does after each evaluation
            model(torch.randn(5, 3, generator=torch.Generator().manual_seed(0))).sum().backward()
            assert norm.training
    assert norm.weight.grad is not None
    assert float(norm.weight.grad.abs().sum()) > 0
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())
    model(torch.ones(5, 3))
    assert norm.num_batches_tracked == 1  # afterwards it counts again


def test_training_flags_are_right_after_an_error() -> None:
    model = normed()
    with settled_randomness(model, DropoutMasks(0)):
        with pytest.raises(RuntimeError):
            model(torch.ones(5, 7))
        with pytest.raises(RuntimeError):
            model[1](torch.ones(5, 7))
        assert model[1].training


def test_missing_statistics_are_said() -> None:
    model = normed()
    assert "1 has none yet" in find_randomness(model)[0].sentence
    model(torch.ones(5, 3))
    assert "none yet" not in find_randomness(model)[0].sentence
    for weight in model[1].parameters():
        weight.requires_grad_(False)
    assert find_randomness(model)[0].sentence == "BatchNorm (1 place): statistics are kept"


def test_batch_norm_may_be_trained() -> None:
    for model in (normed(), normed(track_running_stats=False)):
        (found,) = find_randomness(model, batch_norm="train")
        assert found.done == "as it is"
        assert "couples rows" in found.sentence
    model = normed()
    with settled_randomness(model, DropoutMasks(0), batch_norm="train"):
        model(torch.ones(5, 3))
    assert model[1].num_batches_tracked == 1


class Flattened(nn.Module):
    """BatchNorm of pictures, whose scores lie as LeViT and RT-DETR lay them: each place with its channels."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(6)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(x).flatten(2).transpose(1, 2).contiguous() * made(1, 16, 6)
        return y.square()


@pytest.mark.parametrize("batch_norm", ["frozen", "train"])
def test_a_single_row_has_the_right_gradient(batch_norm: Any) -> None:
    """Without this, torch returns one on the CPU that is wrong by as much as it is large."""
    model, x = Flattened().double().train(), made(0, 1, 6, 4, 4).requires_grad_()
    with settled_randomness(model, DropoutMasks(0), batch_norm=batch_norm):
        assert torch.autograd.gradcheck(model, (x,), check_undefined_grad=False)


# What is refused


class GatedDropPath(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate = 0.1


@pytest.mark.parametrize(
    ("module", "way_out"),
    [
        (nn.FractionalMaxPool2d(2, output_ratio=0.5), "use MaxPool2d"),
        (nn.BatchNorm1d(4, track_running_stats=False), "track_running_stats=True"),
        (GatedDropPath(), "drop_prob"),
    ],
)
def test_what_cannot_be_replaced_is_refused(module: nn.Module, way_out: str) -> None:
    model = nn.ModuleDict({"part": module})
    found = find_randomness(model)
    assert [(each.where, each.done) for each in found] == [(("part",), "refused")]
    with pytest.raises(OptionError, match=f"part: .*{way_out}"):
        refuse(found)
    with settled_randomness(model, DropoutMasks(0)):  # to predict, nothing need be refused
        assert model["part"] is module


def test_hashes_of_a_reformer_are_refused_unless_seeded() -> None:
    config = transformers.ReformerConfig(
        attn_layers=["lsh"], hidden_size=16, axial_pos_embds=False, feed_forward_size=16, num_attention_heads=1
    )
    assert [each.done for each in find_randomness(transformers.ReformerModel(config))] == ["refused"]
    config.hash_seed = 1
    assert find_randomness(transformers.ReformerModel(config)) == []


# How often, and how much


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_rate_and_mean(p: float) -> None:
    count, masks = 20_000, DropoutMasks(0)
    for module, shape in ((StochasticDepth(p), (count, 1, 1)), (nn.Dropout2d(p), (count // 8, 8, 1, 1))):
        model = nn.Sequential(module)
        with settled_randomness(model, masks), laid_out(masks, list(range(shape[0]))):
            dropped = model(torch.ones(shape, dtype=torch.float64))
        kept = dropped != 0
        assert float(kept.double().mean()) == pytest.approx(1 - p, abs=5 * math.sqrt(p * (1 - p) / count))
        assert float(dropped.mean()) == pytest.approx(1.0, abs=5 * math.sqrt(p / (1 - p) / count))
        assert float(dropped[kept].min()) == float(dropped[kept].max()) == pytest.approx(1 / (1 - p))


@pytest.mark.parametrize("module", [nn.AlphaDropout(0.3), nn.FeatureAlphaDropout(0.3)])
def test_alpha_dropout_keeps_mean_and_variance(module: nn.Module) -> None:
    x, masks, model = made(3, 4000, 16), DropoutMasks(0), nn.Sequential(module)
    with settled_randomness(model, masks), laid_out(masks, list(range(len(x)))):
        dropped = model(x)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = model(x)
    assert float(dropped.mean()) == pytest.approx(0.0, abs=0.03)
    assert float(dropped.std()) == pytest.approx(1.0, abs=0.03)
    torch.testing.assert_close(dropped.flatten().mode().values, theirs.flatten().mode().values)  # of what is dropped
    both = (dropped != dropped.flatten().mode().values) & (theirs != theirs.flatten().mode().values)
    torch.testing.assert_close(dropped[both], theirs[both])


@pytest.mark.parametrize("make", [StochasticDepth, nn.Dropout1d, nn.FeatureAlphaDropout])
def test_the_ends_of_the_range(make: Any) -> None:
    x, masks = made(3, 5, 3, 2), DropoutMasks(0)
    for p, expected in ((0.0, x), (1.0, torch.zeros_like(x))):
        model = nn.Sequential(make(p))
        with settled_randomness(model, masks), laid_out(masks, list(range(5))):
            if p:  # their own stochastic depth divides by nothing
                assert torch.equal(model(x), expected)
        assert not find_randomness(nn.Sequential(make(0.0)))


def lots(masks: DropoutMasks, shape: tuple[int, ...], rows: Sequence[int], site: int = 0) -> Tensor:
    with laid_out(masks, rows):
        return masks.kept(shape, 0.5, site)


def test_lots_of_parts_and_channels_are_unrelated() -> None:
    masks, rows = DropoutMasks(0), list(range(200))
    parts = lots(masks, (1600,), rows).view(200, 8)
    channels = lots(masks, (1600, 8), rows).view(200, 8, 8)
    other = lots(masks, (1600,), rows, site=1).view(200, 8)
    columns = torch.cat([parts, channels.flatten(1), other], dim=1).double().T
    matrix = torch.corrcoef(columns).fill_diagonal_(0.0)
    assert float(matrix.abs().max()) < 6 / math.sqrt(200)
    alone = lots(masks, (8, 8), [150])
    assert torch.equal(alone, channels[150])


def test_rows_that_cannot_be_told_apart_are_an_error() -> None:
    with pytest.raises(ValueError, match="7 things of 4 rows.*set its rate to 0"):
        lots(DropoutMasks(0), (7,), [0, 1, 2, 3])


def test_without_rows_torch_draws() -> None:
    masks, x = DropoutMasks(0), torch.ones(1000, 1)
    model = nn.Sequential(StochasticDepth(0.5))
    with settled_randomness(model, masks):
        assert 350 < int((model(x) != 0).sum()) < 650
        model.eval()
        assert torch.equal(model(x), x)
    assert not model[0].training


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_other_number_formats_drop_the_same(dtype: torch.dtype) -> None:
    masks, model = DropoutMasks(0), nn.Sequential(StochasticDepth(0.3))
    with settled_randomness(model, masks):
        with laid_out(masks, range(64)):
            wide = model(torch.ones(64, 2))
        with laid_out(masks, range(64)):
            narrow = model(torch.ones(64, 2, dtype=dtype))
    assert narrow.dtype == dtype
    assert torch.equal(narrow != 0, wide != 0)


def test_a_module_with_two_names_is_replaced_under_both() -> None:
    model = nn.Module()
    model.first = model.second = StochasticDepth(0.5)
    with settled_randomness(model, DropoutMasks(0)):
        assert type(model.first) is type(model.second) is not StochasticDepth
        assert find_randomness(model) == []  # stand-ins are not found again
    assert isinstance(model.first, StochasticDepth)
    assert model.first is model.second
    assert find_randomness(model)[0].where == ("first", "second")


def test_layers_that_are_computed_twice_drop_the_same() -> None:
    gradients = []
    for on in (False, True):
        (model, inputs), masks = built("beit"), DropoutMasks(0)
        with settled(model, masks), checkpointed(model, masks, on=on):
            gradients.append(one_pass(model, inputs, masks, ROWS)[1])
    torch.testing.assert_close(*gradients)


def test_forward_settles_its_model() -> None:
    model, _ = built("bart")
    forward = Forward(
        model,
        device=torch.device("cpu"),
        precision=Fp32(),
        layout=OwnAttention(),
        call=lambda model, inputs: model(**inputs),
        seed=0,
    )
    with forward.prepared():
        assert find_randomness(model) == []
    assert find_randomness(model)
