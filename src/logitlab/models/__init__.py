"""Backbones by name, and checkpoints of a backbone with its head."""

from .all_cnn import AllCnnC
from .backbone import Backbone
from .checkpoint import CHECKPOINT_VERSION, ModelDescription, load_checkpoint, save_checkpoint
from .factory import create_backbone, list_backbones
from .lsoftmax import LSoftmaxCifar, LSoftmaxMnist2d
from .resnet34_cifar import ResNet34Cifar
from .resnet_cifar import ResNetCifar
from .small import Mlp, SmallCnn
from .timm_backbone import TimmBackbone
from .weight_file import WEIGHT_FILE, weight_file_digest
from .wide_resnet import WideResNet

__all__ = [
    "CHECKPOINT_VERSION",
    "WEIGHT_FILE",
    "AllCnnC",
    "Backbone",
    "LSoftmaxCifar",
    "LSoftmaxMnist2d",
    "Mlp",
    "ModelDescription",
    "ResNet34Cifar",
    "ResNetCifar",
    "SmallCnn",
    "TimmBackbone",
    "WideResNet",
    "create_backbone",
    "list_backbones",
    "load_checkpoint",
    "save_checkpoint",
    "weight_file_digest",
]
