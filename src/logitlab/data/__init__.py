"""Images by name or path, split, augmented and served in batches."""

from .augmentation import Augmentation, prepare_batch
from .corruptions import CORRUPTIONS, CorruptedImages, available_corruptions, corrupt
from .dataset import DataSet
from .decoding import ImageFiles
from .images import Images, MemoryImages
from .loading import content_decides, list_data_sets, load_data, load_test_data
from .ood import OodSet, list_ood_sets, load_ood
from .pixels import pixel_statistics
from .registry import data_set_module, register_data_set
from .sampling import epoch_order
from .splitting import Split, split_data
from .streaming import StreamedImages

__all__ = [
    "CORRUPTIONS",
    "Augmentation",
    "CorruptedImages",
    "DataSet",
    "ImageFiles",
    "Images",
    "MemoryImages",
    "OodSet",
    "Split",
    "StreamedImages",
    "available_corruptions",
    "content_decides",
    "corrupt",
    "data_set_module",
    "epoch_order",
    "list_data_sets",
    "list_ood_sets",
    "load_data",
    "load_ood",
    "load_test_data",
    "pixel_statistics",
    "prepare_batch",
    "register_data_set",
    "split_data",
]
