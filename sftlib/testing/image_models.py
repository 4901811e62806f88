"""Tiny models that look at pictures of 32 x 32 pixels, and what prepares pictures for them, by pillow alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.models.auto.configuration_auto import AutoConfig

from sftlib.models.image_processors import pillow_processor
from sftlib.support.checking import choice, raise_together
from sftlib.support.extras import require
from sftlib.testing.models import built

IMAGE_FAMILIES = ("mobilenet_v2", "resnet", "vit", "convnext", "swin", "segformer", "dinov2")
IMAGE_SIZE = 32

_PATCHES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": IMAGE_SIZE,
    "patch_size": 8,
}
_SQUARE = {"size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE}}
_MIDDLE = {"size": {"shortest_edge": 36}, "crop_size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE}}
_PROCESSORS: dict[str, tuple[str, dict[str, Any]]] = {
    "mobilenet_v2": ("MobileNetV2ImageProcessor", _MIDDLE),
    "resnet": ("ConvNextImageProcessor", {"size": {"shortest_edge": IMAGE_SIZE}}),
    "vit": ("ViTImageProcessor", _SQUARE),
    "convnext": ("ConvNextImageProcessor", {"size": {"shortest_edge": IMAGE_SIZE}}),
    "swin": ("ViTImageProcessor", _SQUARE),
    "segformer": ("SegformerImageProcessor", _SQUARE),
    "upernet": ("SegformerImageProcessor", _SQUARE),
    "detr": ("DetrImageProcessor", _SQUARE | {"do_pad": False}),
    "conditional_detr": ("ConditionalDetrImageProcessor", _SQUARE | {"do_pad": False}),
    "deformable_detr": ("DeformableDetrImageProcessor", _SQUARE | {"do_pad": False}),
    "yolos": ("YolosImageProcessor", _SQUARE | {"do_pad": False}),
    "rt_detr": ("RTDetrImageProcessor", _SQUARE | {"do_pad": False}),
    "dinov2": ("BitImageProcessor", _MIDDLE),
}


def tiny_image_config(family: str, *, num_labels: int = 2, dropout: float = 0.1) -> Any:
    """The configuration of one family at toy size.

    Args:
        family: one of `IMAGE_FAMILIES`.
        num_labels: classes of a picture, or of a pixel.
        dropout: at every site the family has, of whole paths too; ResNet has none.

    Raises:
        OptionError: an unknown family.
    """
    raise_together([choice("family", family, IMAGE_FAMILIES)])
    hidden = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    own: dict[str, dict[str, Any]] = {
        "mobilenet_v2": {
            "depth_multiplier": 0.025,
            "min_depth": 8,
            "finegrained_output": False,
            "image_size": IMAGE_SIZE,
            "classifier_dropout_prob": dropout,
        },
        "resnet": {"embedding_size": 8, "hidden_sizes": [8, 16, 32], "depths": [1, 1, 1], "layer_type": "basic"},
        "vit": {**_PATCHES, **hidden, "intermediate_size": 64},
        "dinov2": {**_PATCHES, **hidden, "mlp_ratio": 2, "drop_path_rate": dropout},
        "convnext": {
            "num_stages": 3,
            "hidden_sizes": [8, 16, 32],
            "depths": [1, 1, 1],
            "patch_size": 2,
            "image_size": IMAGE_SIZE,
            "drop_path_rate": dropout,
        },
        "swin": {
            **hidden,
            "image_size": IMAGE_SIZE,
            "patch_size": 4,
            "embed_dim": 16,
            "depths": [1, 1],
            "num_heads": [2, 2],
            "window_size": 4,
            "drop_path_rate": dropout,
        },
        "segformer": {
            **hidden,
            "hidden_sizes": [8, 16, 32, 32],
            "depths": [1, 1, 1, 1],
            "num_attention_heads": [1, 2, 2, 2],
            "mlp_ratios": [2, 2, 2, 2],
            "decoder_hidden_size": 32,
            "classifier_dropout_prob": dropout,
            "drop_path_rate": dropout,
        },
    }
    return AutoConfig.for_model(family, num_labels=num_labels, **own[family])


def tiny_image_model(
    family: str = "vit",
    num_labels: int = 2,
    dropout: float = 0.1,
    seed: int = 0,
    *,
    auto_class: str = "AutoModelForImageClassification",
) -> PreTrainedModel:
    """A model of pictures with random weights: equal for equal arguments, torch's own generator untouched.

    Args:
        family: one of `IMAGE_FAMILIES`.
        num_labels: classes of a picture, or of a pixel.
        dropout: at every site the family has.
        seed: of the weights.
        auto_class: the class of transformers that makes it, such as ``"AutoModelForSemanticSegmentation"``.

    Returns:
        The model in evaluation mode, as ``from_pretrained`` leaves it.

    Raises:
        OptionError: an unknown family.

    Example:
        >>> import torch
        >>> tiny_image_model("resnet", 3)(torch.zeros(1, 3, 32, 32)).logits.shape
        torch.Size([1, 3])
    """
    model = built(tiny_image_config(family, num_labels=num_labels, dropout=dropout), auto_class, seed)
    if family == "mobilenet_v2":
        _keep_signal(model, seed)
    return model


SEGMENTERS = ("segformer", "mobilenet_v2", "upernet")


def tiny_segmenter(
    family: str = "segformer", num_labels: int = 2, dropout: float = 0.1, seed: int = 0
) -> PreTrainedModel:
    """A model that gives each pixel a class, with random weights: equal for equal arguments.

    Args:
        family: one of `SEGMENTERS`.
        num_labels: classes of a pixel.
        dropout: at every site the family has.
        seed: of the weights.

    Returns:
        The model in evaluation mode; its image processor is `tiny_image_processor` of the same family.

    Raises:
        OptionError: an unknown family.

    Example:
        >>> import torch
        >>> tiny_segmenter("mobilenet_v2", 4)(torch.zeros(1, 3, 32, 32)).logits.shape[:2]
        torch.Size([1, 4])
    """
    raise_together([choice("family", family, SEGMENTERS)])
    if family != "upernet":
        auto_class = "AutoModelForSemanticSegmentation"
        return tiny_image_model(family, num_labels, dropout, seed, auto_class=auto_class)
    backbone = tiny_image_config("resnet")
    backbone.out_features = ["stage1", "stage2", "stage3"]
    config = AutoConfig.for_model(
        "upernet",
        backbone_config=backbone.to_dict(),
        hidden_size=16,
        pool_scales=[1, 2],
        use_auxiliary_head=False,
        num_labels=num_labels,
    )
    return built(config, "AutoModelForSemanticSegmentation", seed)


def _keep_signal(model: nn.Module, seed: int) -> None:
    """Draw convolutions by He's rule.

    In evaluation mode nothing normalises in a network that has not seen data: as transformers draws them, fifty layers
    leave 1e-29 of a picture.
    """
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, generator=generator)


def tiny_image_processor(family: str = "vit") -> Any:
    """The image processor of a family, for 32 x 32 pixels; it needs pillow, and never torchvision.

    Args:
        family: one of `IMAGE_FAMILIES`, `SEGMENTERS` or `DETECTORS`.

    Raises:
        OptionError: an unknown family.
        MissingExtraError: pillow is not installed.
    """
    raise_together([choice("family", family, _PROCESSORS)])
    require("PIL", extra="image", purpose="preparing pictures")
    name, settings = _PROCESSORS[family]
    return pillow_processor(name, **settings)


DETECTORS = ("detr", "conditional_detr", "deformable_detr", "yolos", "rt_detr")

# A body is given: older releases of transformers want to be told that no other is meant.
_NO_OTHER_BODY: dict[str, Any] = {"backbone": None, "use_timm_backbone": False, "use_pretrained_backbone": False}
_SMALL_DETR = {
    "d_model": 32,
    "num_queries": 12,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
}


def tiny_detector(family: str = "detr", num_labels: int = 2, dropout: float = 0.1, seed: int = 0) -> PreTrainedModel:
    """A detector with random weights: equal for equal arguments. It finds twelve objects in a picture at most.

    Args:
        family: one of `DETECTORS`.
        num_labels: of objects.
        dropout: at every site the family has.
        seed: of the weights.

    Returns:
        The model in evaluation mode; its image processor is `tiny_image_processor` of the same family.

    Raises:
        OptionError: an unknown family.

    Example:
        >>> import torch
        >>> tiny_detector("detr", 3)(torch.zeros(1, 3, 32, 32)).pred_boxes.shape
        torch.Size([1, 12, 4])
    """
    raise_together([choice("family", family, DETECTORS)])
    stages = {"detr": ["stage3"], "conditional_detr": ["stage3"]}.get(family, ["stage1", "stage2", "stage3"])
    backbone = {**tiny_image_config("resnet").to_dict(), "out_features": stages}
    backbone.pop("out_indices", None)
    drops = {"dropout": dropout, "attention_dropout": dropout, "activation_dropout": dropout}
    own: dict[str, dict[str, Any]] = {
        "detr": {**_SMALL_DETR, **drops, "backbone_config": backbone, **_NO_OTHER_BODY},
        "conditional_detr": {**_SMALL_DETR, **drops, "backbone_config": backbone, **_NO_OTHER_BODY},
        "deformable_detr": {
            **_SMALL_DETR,
            **drops,
            "backbone_config": backbone,
            **_NO_OTHER_BODY,
            "num_feature_levels": 3,
            "encoder_n_points": 2,
            "decoder_n_points": 2,
        },
        "yolos": {
            **_PATCHES,
            "image_size": [IMAGE_SIZE, IMAGE_SIZE],
            "intermediate_size": 64,
            "num_detection_tokens": 12,
            "hidden_dropout_prob": dropout,
            "attention_probs_dropout_prob": dropout,
        },
        "rt_detr": {
            "d_model": 32,
            "num_queries": 12,
            "encoder_hidden_dim": 32,
            "encoder_in_channels": [8, 16, 32],
            "feat_strides": [4, 8, 16],
            "encoder_layers": 1,
            "encoder_ffn_dim": 32,
            "encoder_attention_heads": 2,
            "decoder_in_channels": [32, 32, 32],
            "decoder_layers": 2,
            "decoder_attention_heads": 2,
            "decoder_ffn_dim": 32,
            "decoder_n_points": 2,
            "dropout": dropout,
            "backbone_config": backbone,
        },
    }
    return built(
        AutoConfig.for_model(family, num_labels=num_labels, **own[family]), "AutoModelForObjectDetection", seed
    )
