"""The names in weights on the Hugging Face Hub, in the form its files have (not its classes)."""

from collections.abc import Callable, Mapping
from typing import Any

from segjax.config import lookup
from segjax.pretrained import convert
from segjax.pretrained.convert import Rule


def mit(section: Mapping[str, Any]) -> list[Rule]:
    """Name the modules of `encoders/mit.py` (`nvidia/mit-b0`)."""
    patches, ours, block = r"encoder.patch_embeddings", r"block(\d)_(\d+)", r"encoder.block.\1.\2"
    return [
        Rule("embed0/project/conv", f"{patches}.0.proj", "stem"),
        Rule(r"embed(\d)/project/conv", rf"{patches}.\1.proj"),
        Rule(r"embed(\d)/norm", rf"{patches}.\1.layer_norm"),
        Rule(rf"{ours}/norm(\d)", rf"{block}.layer_norm_\3"),
        Rule(f"{ours}/reduce/conv", f"{block}.attention.self.sr"),
        Rule(f"{ours}/reduce_norm", f"{block}.attention.self.layer_norm"),
        Rule(f"{ours}/attention/out", f"{block}.attention.output.dense"),
        Rule(rf"{ours}/attention/(\w+)", rf"{block}.attention.self.\3"),
        Rule(f"{ours}/expand", f"{block}.mlp.dense1"),
        Rule(f"{ours}/depthwise/conv", f"{block}.mlp.dwconv.dwconv"),
        Rule(f"{ours}/contract", f"{block}.mlp.dense2"),
        Rule(r"norm(\d)", r"encoder.layer_norm.\1"),
    ]


def vit(section: Mapping[str, Any]) -> list[Rule]:
    """Name the modules of `encoders/vit.py` (`facebook/dinov2-small`, `…-with-registers-small`)."""
    ours, block = r"block(\d+)", r"encoder.layer.\1"
    return [
        Rule("token", "embeddings.cls_token", "raw"),
        Rule("registers", "embeddings.register_tokens", "raw"),
        Rule("positions", "embeddings.position_embeddings", "raw"),
        Rule("embed/conv", "embeddings.patch_embeddings.projection", "stem"),
        Rule(rf"{ours}/norm(\d)", rf"{block}.norm\2"),
        Rule(rf"{ours}/scale(\d)", rf"{block}.layer_scale\2.lambda1"),
        Rule(f"{ours}/attention/out", f"{block}.attention.output.dense"),
        Rule(rf"{ours}/attention/(\w+)", rf"{block}.attention.attention.\2"),
        *perceptron(f"{block}.mlp", gated=section.get("variant") == "g"),
        Rule("norm", "layernorm"),
    ]


def perceptron(theirs: str, *, gated: bool) -> list[Rule]:
    """Name the perceptrons of DINOv2's blocks."""
    ours = r"block(\d+)"
    if gated:
        return [
            Rule(f"{ours}/gate", f"{theirs}.weights_in", "0/2"),
            Rule(f"{ours}/expand", f"{theirs}.weights_in", "1/2"),
            Rule(f"{ours}/contract", f"{theirs}.weights_out"),
        ]
    return [
        Rule(f"{ours}/expand", f"{theirs}.fc1"),
        Rule(f"{ours}/contract", f"{theirs}.fc2"),
    ]


def dinov3(section: Mapping[str, Any], layers: str = "layer") -> list[Rule]:
    """Name the modules of `encoders/dinov3.py` (`facebook/dinov3-vits16-pretrain-lvd1689m`)."""
    ours, block = r"block(\d+)", rf"{layers}.\1"
    return [
        Rule("token", "embeddings.cls_token", "raw"),
        Rule("registers", "embeddings.register_tokens", "raw"),
        Rule("embed/conv", "embeddings.patch_embeddings", "stem"),
        Rule(rf"{ours}/norm(\d)", rf"{block}.norm\2"),
        Rule(rf"{ours}/scale(\d)", rf"{block}.layer_scale\2.lambda1"),
        Rule(rf"{ours}/attention/(\w)\w*", rf"{block}.attention.\2_proj"),
        Rule(f"{ours}/gate", f"{block}.mlp.gate_proj"),
        Rule(f"{ours}/expand", f"{block}.mlp.up_proj"),
        Rule(f"{ours}/contract", f"{block}.mlp.down_proj"),
        Rule("norm", "norm"),
    ]


def convnext(section: Mapping[str, Any]) -> list[Rule]:
    """Name the modules of `encoders/convnext.py` (`facebook/convnext-tiny-224`)."""
    ours, block = r"stage(\d)_(\d+)", r"encoder.stages.\1.layers.\2"
    return [
        Rule("patches0/conv", "embeddings.patch_embeddings", "stem"),
        Rule("norm0", "embeddings.layernorm"),
        Rule(r"norm(\d)", r"encoder.stages.\1.downsampling_layer.0"),
        Rule(r"patches(\d)/conv", r"encoder.stages.\1.downsampling_layer.1"),
        Rule(f"{ours}/depthwise/conv", f"{block}.dwconv"),
        Rule(f"{ours}/norm", f"{block}.layernorm"),
        Rule(f"{ours}/expand", f"{block}.pwconv1"),
        Rule(f"{ours}/contract", f"{block}.pwconv2"),
        Rule(f"{ours}/gamma", f"{block}.layer_scale_parameter"),
    ]


def swin(section: Mapping[str, Any]) -> list[Rule]:
    """Name the modules of `encoders/swin.py` (`microsoft/swin-tiny-patch4-window7-224`)."""
    ours, stage = r"block(\d)_(\d+)", r"encoder.layers.\1"
    block = rf"{stage}.blocks.\2"
    merges = [
        rule
        for i in range(1, 4)
        for rule in (
            Rule(f"merge{i}/norm", f"encoder.layers.{i - 1}.downsample.norm"),
            Rule(f"merge{i}/reduce", f"encoder.layers.{i - 1}.downsample.reduction"),
        )
    ]
    return [
        Rule("embed/conv", "embeddings.patch_embeddings.projection", "stem"),
        Rule("embed_norm", "embeddings.norm"),
        Rule(f"{ours}/norm1", f"{block}.layernorm_before"),
        Rule(f"{ours}/norm2", f"{block}.layernorm_after"),
        Rule(f"{ours}/positions", f"{block}.attention.self.relative_position_bias_table", "raw"),
        Rule(f"{ours}/attention/out", f"{block}.attention.output.dense"),
        Rule(rf"{ours}/attention/(\w+)", rf"{block}.attention.self.\3"),
        Rule(f"{ours}/expand", f"{block}.intermediate.dense"),
        Rule(f"{ours}/contract", f"{block}.output.dense"),
        *merges,
    ]


def segformer(section: Mapping[str, Any]) -> list[Rule]:
    """Name the modules of `models/segformer.py` (`nvidia/segformer-b0-finetuned-ade-512-512`)."""
    head = "decode_head"
    return [
        *backbone(section, "segformer", ("mit",)),
        Rule(r"decoder/linear(\d)", rf"{head}.linear_c.\1.proj"),
        Rule("decoder/fuse", f"{head}.linear_fuse.weight", "pointwise"),
        Rule("norm", f"{head}.batch_norm"),
        Rule("head", f"{head}.classifier", "pointwise"),
    ]


def upernet(section: Mapping[str, Any]) -> list[Rule]:
    """Name the modules of `models/upernet.py` (`openmmlab/upernet-convnext-tiny`)."""
    head = "decode_head"
    norms = [
        Rule(f"feature_norm{i}", f"backbone.hidden_states_norms.stage{i + 1}") for i in range(4)
    ]
    return [
        *backbone(section, "backbone", ("convnext", "swin")),
        *norms,
        *unit(r"lateral(\d)", rf"{head}.lateral_convs.\1"),
        *unit(r"level(\d)", rf"{head}.psp_modules.\1.1"),
        *unit("bottleneck", f"{head}.bottleneck"),
        *unit(r"smooth(\d)", rf"{head}.fpn_convs.\1"),
        *unit("fuse", f"{head}.fpn_bottleneck"),
        Rule("head", f"{head}.classifier", "pointwise"),
        *unit("aux_conv", "auxiliary_head.convs.0"),
        Rule("aux_head", "auxiliary_head.classifier", "pointwise"),
    ]


def mask2former(section: Mapping[str, Any]) -> list[Rule]:
    """Name the modules of `models/mask2former.py` (`facebook/mask2former-swin-tiny-coco-panoptic`).

    Their decoder multiplies queries, keys and values by one matrix where it is masked.
    """
    pixels, decoder = "model.pixel_level_module", "model.transformer_module"
    below, ours = f"{pixels}.decoder", r"decoder/layer(\d+)"
    deep, layer = rf"{below}.encoder.layers.\1", rf"{decoder}.decoder.layers.\1"
    norms = [
        Rule(f"feature_norm{i}", f"{pixels}.encoder.hidden_states_norms.stage{i + 1}")
        for i in range(4)
    ]
    joined = [
        Rule(f"{ours}/cross/{part}/{leaf}", f"{layer}.cross_attn.in_proj_{name}", f"{i}/3")
        for i, part in enumerate(("query", "key", "value"))
        for leaf, name in (("kernel", "weight"), ("bias", "bias"))
    ]
    return [
        *backbone(section, f"{pixels}.encoder", ("swin",)),
        *norms,
        Rule(r"input(\d)/conv", rf"{below}.input_projections.\1.0"),
        Rule(r"input(\d)/norm", rf"{below}.input_projections.\1.1"),
        Rule("levels", f"{below}.level_embed", "raw"),
        Rule(
            r"pixel_layer(\d+)/attention/offsets", f"{deep}.self_attn.sampling_offsets", "points|"
        ),
        Rule(r"pixel_layer(\d+)/attention/shares", f"{deep}.self_attn.attention_weights"),
        Rule(r"pixel_layer(\d+)/attention/value", f"{deep}.self_attn.value_proj"),
        Rule(r"pixel_layer(\d+)/attention/out", f"{deep}.self_attn.output_proj"),
        Rule(r"pixel_layer(\d+)/norm1", f"{deep}.self_attn_layer_norm"),
        Rule(r"pixel_layer(\d+)/expand", f"{deep}.fc1"),
        Rule(r"pixel_layer(\d+)/contract", f"{deep}.fc2"),
        Rule(r"pixel_layer(\d+)/norm2", f"{deep}.final_layer_norm"),
        Rule("lateral/conv", f"{below}.adapter_1.0"),
        Rule("lateral/norm", f"{below}.adapter_1.1"),
        Rule("smooth/conv", f"{below}.layer_1.0"),
        Rule("smooth/norm", f"{below}.layer_1.1"),
        Rule("pixels", f"{below}.mask_projection", "pointwise"),
        Rule("decoder/features", f"{decoder}.queries_features.weight", "table"),
        Rule("decoder/places", f"{decoder}.queries_embedder.weight", "table"),
        Rule("decoder/levels", f"{decoder}.level_embed.weight", "table"),
        *joined,
        Rule(f"{ours}/cross/out", f"{layer}.cross_attn.out_proj"),
        Rule(f"{ours}/norm1", f"{layer}.cross_attn_layer_norm"),
        Rule(f"{ours}/among/out", f"{layer}.self_attn.out_proj"),
        Rule(rf"{ours}/among/(\w)\w*", rf"{layer}.self_attn.\2_proj"),
        Rule(f"{ours}/norm2", f"{layer}.self_attn_layer_norm"),
        Rule(f"{ours}/expand", f"{layer}.fc1"),
        Rule(f"{ours}/contract", f"{layer}.fc2"),
        Rule(f"{ours}/norm3", f"{layer}.final_layer_norm"),
        Rule("decoder/norm", f"{decoder}.decoder.layernorm"),
        Rule(r"decoder/head/mask(\d)", rf"{decoder}.decoder.mask_predictor.mask_embedder.\1.0"),
        Rule("decoder/head/classes", "class_predictor"),
    ]


def eomt(section: Mapping[str, Any]) -> list[Rule]:
    """Name the modules of `models/eomt.py` (`tue-mps/coco_panoptic_eomt_large_640`)."""
    types = ("dinov3", "vit")
    type_ = lookup.choose(section["encoder"]["type"], types, what="config.model.encoder.type")
    upscale = r"upscale_block.block.\1"
    return [
        Rule("encoder/norm", "layernorm"),
        *convert.nested(eomt_vit() if type_ == "vit" else dinov3({}, "layers"), "encoder", ""),
        Rule("queries", "query.weight", "table"),
        Rule("head/classes", "class_predictor"),
        *(Rule(f"head/mask{i}", f"mask_head.fc{i + 1}") for i in range(3)),
        Rule(r"head/upscale(\d)/up", f"{upscale}.conv1", "transposed"),
        Rule(r"head/upscale(\d)/depthwise", f"{upscale}.conv2"),
        Rule(r"head/upscale(\d)/norm", f"{upscale}.layernorm2d"),
    ]


def eomt_vit() -> list[Rule]:
    """Name the modules of DINOv2 as EoMT has it: no position of the class token."""
    ours, block = r"block(\d+)", r"layers.\1"
    return [
        Rule("token", "embeddings.cls_token", "raw"),
        Rule("registers", "embeddings.register_tokens", "raw"),
        Rule("positions", "embeddings.position_embeddings.weight", "table"),
        Rule("embed/conv", "embeddings.patch_embeddings.projection", "stem"),
        Rule(rf"{ours}/norm(\d)", rf"{block}.norm\2"),
        Rule(rf"{ours}/scale(\d)", rf"{block}.layer_scale\2.lambda1"),
        Rule(f"{ours}/attention/out", f"{block}.attention.out_proj"),
        Rule(rf"{ours}/attention/(\w)\w*", rf"{block}.attention.\2_proj"),
        Rule(f"{ours}/expand", f"{block}.mlp.fc1"),
        Rule(f"{ours}/contract", f"{block}.mlp.fc2"),
    ]


def backbone(section: Mapping[str, Any], theirs: str, types: tuple[str, ...]) -> list[Rule]:
    """Name a model's encoder, one of `types`."""
    type_ = lookup.choose(section["encoder"]["type"], types, what="config.model.encoder.type")
    return convert.nested(ENCODERS[type_](section["encoder"]), "encoder", theirs)


def unit(ours: str, theirs: str) -> list[Rule]:
    """Name a `ConvNormAct`."""
    return [Rule(f"{ours}/conv", f"{theirs}.conv"), Rule(f"{ours}/norm", f"{theirs}.batch_norm")]


ENCODERS: dict[str, Callable[[Mapping[str, Any]], list[Rule]]] = {
    "convnext": convnext,
    "dinov3": dinov3,
    "mit": mit,
    "swin": swin,
    "vit": vit,
}
MODELS: dict[str, Callable[[Mapping[str, Any]], list[Rule]]] = {
    "eomt": eomt,
    "mask2former": mask2former,
    "segformer": segformer,
    "upernet": upernet,
}
