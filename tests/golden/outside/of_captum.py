"""Attributions of Captum, on a U-Net of segmentation_models.pytorch."""

from typing import Any

from tests.golden.outside import of_smp, theirs
from tests.outside import recorded

PACKAGES = ("torch", "captum", "segmentation-models-pytorch")
CASES: theirs.Cases = {}
SIZE = (32, 64)
NUMBER, REGION = 1, (slice(6, 20), slice(10, 40))
"""The class whose mean score over a region is explained."""
STEPS, WINDOW, STRIDE = 16, (8, 8), (4, 4)
LAYERS = ("layer2", "layer3")


@theirs.register(CASES, "encoder_unet")
def encoder_unet() -> recorded.Case:
    """Return the case of integrated gradients, occlusion, and Grad-CAM of stages of the encoder."""
    from captum import attr

    network = of_smp.model("Unet", decoder_channels=of_smp.WIDTHS)
    state = theirs.fill(network)
    x = theirs.tensor(recorded.image(SIZE))

    def score(x: Any) -> Any:
        return network(x)[(slice(None), NUMBER, *REGION)].mean(dim=(1, 2))

    def first(found: Any) -> Any:
        return theirs.array(found)[0]

    gradients = attr.IntegratedGradients(score).attribute(
        x, baselines=0.0, n_steps=STEPS, method="gausslegendre"
    )
    hidden = attr.Occlusion(score).attribute(
        x, sliding_window_shapes=(3, *WINDOW), strides=(3, *STRIDE), baselines=0.0
    )
    cams = {}
    for layer in LAYERS:
        made = attr.LayerGradCam(score, getattr(network.encoder, layer)).attribute(
            x, relu_attributions=True
        )
        whole = attr.LayerAttribution.interpolate(made, SIZE, "bilinear")
        cams[f"gradcam_{layer}"] = first(whole)[..., 0]
    arrays = {
        "integrated_gradients": first(gradients).sum(-1),
        "occlusion": first(hidden)[..., 0],  # the same of each channel: they are hidden together
        **cams,
    }
    return recorded.Case({"state": state, "size": SIZE}, arrays)
