"""Every family of transformers that has a head for the classes of pictures, at toy size, with dropout on.

Those that cannot be tuned stand here too, with the words that say why.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.models.auto.configuration_auto import AutoConfig
from transformers.models.auto.modeling_auto import AutoModel, AutoModelForImageClassification

from sftlib.models.seeds import seeded
from sftlib.testing import pictures

SIZE = 32
DROP = 0.1

_HIDDEN = {"hidden_dropout_prob": DROP, "attention_probs_dropout_prob": DROP}
_SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
_EYE = {"image_size": SIZE, "patch_size": 8}
_VIT = {**_SMALL, **_HIDDEN, **_EYE}
_WINDOWS = {
    **_HIDDEN,
    "image_size": SIZE,
    "patch_size": 4,
    "embed_dim": 16,
    "depths": [1, 1],
    "num_heads": [2, 2],
    "window_size": 4,
    "drop_path_rate": DROP,
}
_BEIT = {**_VIT, "drop_path_rate": DROP, "use_relative_position_bias": True}
_STAGES = {
    "depths": [1, 1, 1, 1],
    "num_attention_heads": [1, 2, 2, 2],
    "hidden_sizes": [8, 16, 16, 32],
    "mlp_ratios": [2, 2, 2, 2],
    "drop_path_rate": DROP,
    **_HIDDEN,
}
_TOWER = {**_SMALL, **_EYE, "attention_dropout": DROP, "projection_dim": 16}
_WORDS = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "vocab_size": 99,
}

CONFIGS: dict[str, dict[str, Any]] = {
    "beit": _BEIT,
    "bit": {"embedding_size": 8, "hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 1, 1], "num_groups": 4},
    "clip": {"vision_config": _TOWER, "text_config": _WORDS, "projection_dim": 16},
    "convnext": {
        "num_stages": 3,
        "hidden_sizes": [8, 16, 32],
        "depths": [1, 1, 1],
        "patch_size": 2,
        "image_size": SIZE,
        "drop_path_rate": DROP,
    },
    "convnextv2": {
        "num_stages": 3,
        "hidden_sizes": [8, 16, 32],
        "depths": [1, 1, 1],
        "patch_size": 2,
        "image_size": SIZE,
        "drop_path_rate": DROP,
    },
    "cvt": {
        "embed_dim": [8, 16, 32],
        "num_heads": [1, 2, 2],
        "depth": [1, 2, 3],  # transformers takes the rate of a stage at the place of its number
        "attention_drop_rate": [DROP] * 3,
        "drop_rate": [DROP] * 3,
        "drop_path_rate": [DROP] * 3,
    },
    "data2vec-vision": _BEIT,
    "deit": _VIT,
    "dinov2": {**_SMALL, **_EYE, **_HIDDEN, "mlp_ratio": 2, "drop_path_rate": DROP},
    "dinov2_with_registers": {**_SMALL, **_EYE, **_HIDDEN, "mlp_ratio": 2, "drop_path_rate": DROP},
    "donut-swin": _WINDOWS,
    "efficientnet": {
        "image_size": SIZE,
        "width_coefficient": 0.25,
        "depth_coefficient": 0.3,
        "hidden_dim": 320,
        "in_channels": [32, 16, 24],
        "out_channels": [16, 24, 40],
        "kernel_sizes": [3, 3, 5],
        "strides": [1, 2, 2],
        "num_block_repeats": [1, 1, 2],
        "expand_ratios": [1, 2, 2],
        "dropout_rate": DROP,
        "drop_connect_rate": DROP,
    },
    "focalnet": {
        "image_size": SIZE,
        "embed_dim": 16,
        "hidden_sizes": [16, 32],
        "depths": [1, 1],
        "focal_levels": [1, 1],
        "focal_windows": [3, 3],
        "hidden_dropout_prob": DROP,
        "drop_path_rate": DROP,
    },
    "hgnet_v2": {
        "embedding_size": 8,
        "depths": [1, 1],
        "hidden_sizes": [16, 32],
        "stem_channels": [3, 8, 8],
        "stage_in_channels": [8, 16],
        "stage_mid_channels": [8, 8],
        "stage_out_channels": [16, 32],
        "stage_num_blocks": [1, 1],
        "stage_downsample": [False, True],
        "stage_downsample_strides": [2, 2],
        "stage_light_block": [False, True],
        "stage_kernel_size": [3, 5],
        "stage_numb_of_layers": [2, 2],
    },
    "hiera": {
        "image_size": [SIZE, SIZE],
        "embed_dim": 16,
        "patch_size": [3, 3],
        "patch_stride": [2, 2],
        "patch_padding": [1, 1],
        "depths": [1, 1, 1],
        "num_heads": [1, 2, 2],
        "num_query_pool": 2,
        "masked_unit_size": [4, 4],
        "masked_unit_attention": [True, True, False],
        "drop_path_rate": DROP,
    },
    "ijepa": _VIT,
    "levit": {
        "image_size": 64,
        "hidden_sizes": [16, 32, 32],
        "num_attention_heads": [2, 2, 2],
        "depths": [1, 1, 1],
        "key_dim": [8, 8, 8],
    },
    "metaclip_2": {"vision_config": _TOWER, "text_config": _WORDS, "projection_dim": 16},
    "mobilenet_v1": {"depth_multiplier": 0.125, "image_size": SIZE, "classifier_dropout_prob": DROP},
    "mobilenet_v2": {
        "depth_multiplier": 0.025,
        "min_depth": 8,
        "finegrained_output": False,
        "image_size": SIZE,
        "classifier_dropout_prob": DROP,
    },
    "mobilevit": {
        "image_size": 64,
        "hidden_sizes": [16, 16, 32],
        "neck_hidden_sizes": [8, 8, 8, 16, 16, 32, 32],
        "num_attention_heads": 2,
        "expand_ratio": 2.0,
        **_HIDDEN,
        "classifier_dropout_prob": DROP,
    },
    "mobilevitv2": {
        "image_size": 64,
        "width_multiplier": 0.125,
        "n_attn_blocks": [1, 1, 1],
        "base_attn_unit_dims": [64, 64, 64],
        "classifier_dropout_prob": DROP,
        "attn_dropout": DROP,
        "ffn_dropout": DROP,
    },
    "perceiver": {
        "num_latents": 4,
        "d_latents": 16,
        "d_model": 16,
        "num_self_attends_per_block": 1,
        "num_self_attention_heads": 2,
        "num_cross_attention_heads": 1,
        "image_size": SIZE,
        "attention_probs_dropout_prob": DROP,
    },
    "poolformer": {"hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 1, 1], "drop_path_rate": DROP},
    "pvt": {**_STAGES, "image_size": SIZE, "sequence_reduction_ratios": [2, 1, 1, 1]},
    "pvt_v2": {**_STAGES, "image_size": SIZE, "sr_ratios": [2, 1, 1, 1]},
    "regnet": {"embedding_size": 8, "hidden_sizes": [8, 16, 32], "depths": [1, 1, 1], "groups_width": 8},
    "resnet": {"embedding_size": 8, "hidden_sizes": [8, 16, 32], "depths": [1, 1, 1], "layer_type": "basic"},
    "segformer": {
        **_HIDDEN,
        "hidden_sizes": [8, 16, 32, 32],
        "depths": [1, 1, 1, 1],
        "num_attention_heads": [1, 2, 2, 2],
        "mlp_ratios": [2, 2, 2, 2],
        "classifier_dropout_prob": DROP,
        "drop_path_rate": DROP,
    },
    "siglip": {"vision_config": {**_SMALL, **_EYE, "attention_dropout": DROP}, "text_config": _WORDS},
    "swiftformer": {
        "image_size": SIZE,
        "depths": [1, 1, 1, 1],
        "embed_dims": [8, 16, 16, 32],
        "mlp_ratio": 2,
        "drop_path_rate": DROP,
        "drop_mlp_rate": DROP,
        "drop_conv_encoder_rate": DROP,
    },
    "swin": _WINDOWS,
    "swinv2": _WINDOWS,
    "textnet": {"image_size": [SIZE, SIZE], "hidden_sizes": [8, 8, 16, 16, 32], "stem_out_channels": 8},
    "vit": _VIT,
    "vit_msn": _VIT,
}

#: Which cannot be tuned, and what is said of each.
REFUSED = {
    "imagegpt": "it reads numbers of colours, and no picture",
    "siglip2": "it reads patches with their places, and no picture",
    "shieldgemma2": "it reads words beside a picture, and its classes are its own",
    "pp_lcnet": "it returns its scores under the name of hidden states, which the pipeline cannot read either",
    "timm_wrapper": "it needs timm, which needs torchvision",
    "dinat": "it needs natten",
}
SIZES = dict.fromkeys(("levit", "mobilevit", "mobilevitv2"), 64)


def tiny(family: str, labels: int = 3, *, auto_class: Any = AutoModelForImageClassification) -> PreTrainedModel:
    """A model with random weights whose answers differ from picture to picture."""
    config = AutoConfig.for_model(family, num_labels=labels, architectures=[], **CONFIGS[family])
    with seeded(0):
        model: PreTrainedModel = auto_class.from_config(config)
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
                if family == "textnet":  # whose four branches of a layer are added up
                    module.weight.data.mul_(0.3)
            if isinstance(module, nn.BatchNorm2d):
                nn.init.ones_(module.weight)
            if isinstance(module, nn.Linear):  # transformers' own draw is so small that all pictures look alike
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
            for name, weight in module.named_parameters(recurse=False):
                if name in ("layer_scale_1", "layer_scale_2", "layer_scale", "lambda_1", "lambda_2", "gamma"):
                    nn.init.constant_(weight, 0.5)
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(torch.randn(buffer.shape) * 0.1)
    _tell_apart(model.eval(), family, labels)
    return model


def _tell_apart(model: PreTrainedModel, family: str, labels: int) -> None:
    """Scale and shift what puts out the scores so that those of pictures have a mean of zero and a deviation of one."""
    rows = [row["image"] for row in pictures(8, classes=4, size=SIZES.get(family, SIZE))]
    with torch.no_grad():
        scores = model(pixel_values=torch.from_numpy(np.stack(rows)).permute(0, 3, 1, 2) / 64 - 2).logits
        factor = 1 / scores.std(dim=0).mean()
        for module in model.modules():
            if isinstance(module, nn.Linear) and module.out_features == labels:
                module.weight.mul_(factor)
                if module.bias is not None:
                    module.bias.copy_((module.bias - scores.mean(dim=0)) * factor)


__all__ = ["CONFIGS", "REFUSED", "SIZE", "SIZES", "AutoModel", "tiny"]
