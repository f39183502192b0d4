"""The smallest model of every timm family: units found on the right axis, and one batch audited under FGSM."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

import selplug
from selplug.core.measures.metrics import ClassSelectivity
from selplug.core.model import layers as rules
from selplug.core.model.capture import Capture, find_layers

timm = pytest.importorskip("timm")

FAMILIES = """
    beit:beit_base_patch16_224@64 byoanet:halonet_h1@256 byobnet:test_byobnet@64 cait:cait_xxs24_224@64
    coat:coat_tiny@64 convit:convit_tiny@64 convmixer:convmixer_768_32@64 convnext:test_convnext@64
    cpubone:cpubone_nano@64 crossvit:crossvit_tiny_240@240 csatv2:csatv2@64 cspnet:cs3darknet_focus_s@64
    cspnext:cspnext_tiny@64 davit:davit_tiny@64 deepseek_vit:deepseek_vit_412m@84 deit:deit_tiny_patch16_224@64
    densenet:densenet121@64 dla:dla46x_c@64 dpn:dpn48b@64 edgenext:edgenext_xx_small@64
    efficientformer:efficientformer_l1@224 efficientformer_v2:efficientformerv2_s0@64
    efficientnet:test_efficientnet@64 efficientvim:efficientvim_m1@64 efficientvit_mit:efficientvit_b0@64
    efficientvit_msra:efficientvit_m0@64 eva:vit_tiny_patch16_dinov3_qkvb@64 fasternet:fasternet_t0@64
    fastvit:fastvit_t8@64 focalnet:focalnet_tiny_srf@64 gcvit:gcvit_xxtiny@64 gemma4_vit:gemma4_vit_167m@64
    ghostnet:ghostnet_050@64 hardcorenas:hardcorenas_b@64 hgnet:hgnetv2_b0@64 hiera:hiera_tiny_224@64
    hieradet_sam2:sam2_hiera_tiny@64 hrnet:hrnet_w18_small@64 iformer:iformer_t@64
    inception_next:inception_next_atto@64 inception_resnet_v2:inception_resnet_v2@96
    inception_v3:inception_v3@96 inception_v4:inception_v4@96 lcnetv2:lcnetv2_small@64 levit:levit_128s@64
    lowformer:lowformer_b0@64 mambaout:test_mambaout@64 maxxvit:test_coatnet@64 metaformer:poolformerv2_s12@64
    mlp_mixer:gmlp_ti16_224@64 mobilenetv3:lcnet_035@64 mobilenetv5:mobilenetv5_base@64
    mobilevit:mobilevit_xxs@64 mvitv2:mvitv2_tiny@64 naflexvit:naflexvit_base_patch16_parfac_gap@64
    nasnet:nasnetalarge@64 nest:nest_tiny@64 nextvit:nextvit_small@64 nfnet:test_nfnet@64 pit:pit_ti_224@64
    pnasnet:pnasnet5large@64 pvt_v2:pvt_v2_b0@64 qwen3_vit:qwen3_vit_88m@64 rdnet:rdnet_tiny@64
    regnet:regnetx_002@64 repghost:repghostnet_050@64 repvit:repvit_m1@64 res2net:res2next50@64
    resnest:resnest14d@64 resnet:test_resnet@64 resnetv2:resnetv2_18@64 rexnet:rexnet_100@64
    selecsls:selecsls42@64 senet:legacy_seresnet18@64 sequencer:sequencer2d_s@64 shvit:shvit_s1@64
    sknet:skresnet18@64 starnet:starnet_s050@64 swiftformer:swiftformer_xs@64
    swin_transformer:swin_tiny_patch4_window7_224@64 swin_transformer_v2:swinv2_tiny_window16_256@64
    swin_transformer_v2_cr:swinv2_cr_tiny_224@64 tiny_vit:tiny_vit_5m_224@64 tnt:tnt_s_legacy_patch16_224@64
    tresnet:tresnet_m@64 twins:twins_svt_small@64 vgg:vgg11@64 visformer:visformer_tiny@64
    vision_transformer:test_vit@64 vision_transformer_hybrid:vit_tiny_r_s16_p8_224@64
    vision_transformer_relpos:test_vit_relpos@64 vision_transformer_sam:samvit_base_patch16_224@64
    vitamin:vitamin_small_224@64 volo:volo_d1_224@64 vovnet:ese_vovnet19b_slim_dw@64 xception:legacy_xception@64
    xception_aligned:xception41p@64 xcit:xcit_nano_12_p8_224@64
"""
#: Joined from heads and their dimensions, so that no single module has that many channels.
JOINED = ("kernel_func",)


def build(name: str, size: int) -> nn.Module:
    torch.manual_seed(0)
    try:
        return timm.create_model(name, img_size=size)
    except TypeError:  # indifferent to the size
        return timm.create_model(name)


def declared_channels(module: nn.Module) -> set[int]:
    """The channel counts that a module was built with, whichever side they are on."""
    names = ("in_channels", "out_channels", "in_features", "out_features", "num_features", "num_channels")
    counts = {value for name in names if isinstance(value := getattr(module, name, None), int)}
    shape = getattr(module, "normalized_shape", None)
    return counts | ({shape[-1]} if isinstance(shape, (tuple, list)) else set())


def neighbours(model: nn.Module, images: torch.Tensor) -> dict[str, list[set[int]]]:
    """Module -> per call, the channel counts of the parametrised modules that run next to it."""
    order: list[tuple[str, nn.Module, str]] = []
    handles = []
    for name, module in model.named_modules():
        if rules.channel_axis(module) is not None or rules.is_activation(module):
            handles.append(module.register_forward_pre_hook(lambda m, i, name=name: order.append((name, m, "start"))))
    with torch.no_grad():
        model(images)
    for handle in handles:
        handle.remove()
    found: dict[str, list[set[int]]] = {}
    for position, (name, module, _) in enumerate(order):
        if rules.is_activation(module):
            before = [m for _, m, _ in order[:position] if declared_channels(m)][-1:]
            after = [m for _, m, _ in order[position + 1 :] if declared_channels(m)][:1]
            found.setdefault(name, []).append(set().union(*map(declared_channels, [*before, *after])))
    return found


@pytest.mark.parametrize("entry", FAMILIES.split(), ids=lambda entry: entry.partition(":")[0])
def test_family(entry: str) -> None:
    name, _, size = entry.partition(":")[2].partition("@")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the models, at construction
        model = build(name, int(size)).eval()
    images = torch.rand(4, 3, int(size), int(size), generator=torch.Generator().manual_seed(0))

    layers = find_layers(model, images[:2])
    channels = neighbours(model, images[:2])
    for layer in layers:
        if not layer.module.endswith(JOINED):
            assert layer.units in channels[layer.module][layer.call - 1], layer

    # A sample's responses go with the sample: the batch axis is the batch.
    with torch.no_grad(), Capture(model, layers) as capture:
        model(images[:2])
    straight = capture.responses
    with torch.no_grad(), capture:
        model(images[:2].flip(0))
    for layer in layers:
        expected = straight[layer.name].flip(0)
        assert expected.shape == (2, layer.units)
        torch.testing.assert_close(
            capture.responses[layer.name], expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()) + 1e-12
        )

    report = selplug.audit(
        model,
        [(images, torch.arange(4))],
        ["fgsm:eps=8/255"],
        measures={"selectivity": ClassSelectivity},
        normalize=((0.5,) * 3, (0.5,) * 3),
        progress=False,
    )
    assert [condition.samples for condition in report.result.conditions] == [4, 4]
    assert report.result.conditions[1].linf_max <= 8 / 255 + 1e-6
    assert [layer.name for layer in report.result.layers] == [layer.name for layer in layers]
    for layer in report.result.layers:
        for values in layer.conditions.values():
            assert 0 <= values["selectivity"]["mean"] <= 1
