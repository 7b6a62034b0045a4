"""The control of W Figure 3a: a network that has not been trained, with the moments of batch normalisation of one."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from logitlab.data import Images
from logitlab.heads import Classifier
from logitlab.models import ModelDescription, create_backbone
from logitlab.models.weight_file import WEIGHT_FILE

from .passes import PassOptions


def initial_model(model: Classifier, description: ModelDescription, seed: int, *, zero_init_last: bool) -> Classifier:
    """Build the backbone of a model again with weights as initialised; the head stays, and means nothing on it.

    Weights that the backbone once started from (a timm download, a file) are left out: the control knows no images.

    Args:
        model: the trained one.
        description: of it.
        seed: of the weights; torch's global generator is left as it was.
        zero_init_last: whether its trial began with residual blocks as the identity.
    """
    given = description.backbone.parameters
    parameters = {key: value for key, value in given.items() if key not in ("pretrained", WEIGHT_FILE)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = create_backbone(
            description.backbone.name,
            channels=description.channels,
            image_size=description.image_size,
            parameters=parameters,
            zero_init_last=zero_init_last,
        )
    return Classifier(backbone, model.head).eval()


@torch.no_grad()
def set_batch_moments(backbone: nn.Module, images: Images, indices: Tensor, options: PassOptions) -> None:
    """Let batch normalisation take its means and variances from images: the average over batches, each counted alike.

    Everything but batch normalisation stays in evaluation mode. A network without such layers is left as it is.

    Args:
        backbone: on the CPU; it is left on ``options.device``.
        images: training images.
        indices: which of them.
        options: how the network looks at them.
    """
    backbone.to(options.device).eval()
    layers = [module for module in backbone.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    if not layers:
        return
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        # None: the plain average of all batches.
        layer.momentum = None
        layer.train()
    try:
        for pixels, _ in images.batches(indices, options.batch_size, options.device):
            # A last batch of one image has no variance.
            if len(pixels) > 1:
                backbone(options.prepare(pixels))
    finally:
        for layer, momentum in zip(layers, momenta):
            layer.momentum = momentum
            layer.eval()
