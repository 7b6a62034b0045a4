"""LogitLab: classifier heads for PyTorch, and the laboratory that compares them.

A head is all that follows the features of a network: the last layer, its temperature, its loss. Names are imported on
first use, so that ``import logitlab`` and ``logitlab --help`` cost nothing and need no torch.

>>> import logitlab as ll
>>> ll.create_head("cosine_ls", in_features=2048, num_classes=1000)  # doctest: +ELLIPSIS
Head(...
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config.errors import (
        ConfigurationError,
        DataError,
        InputError,
        LogitLabError,
        ParameterError,
        RankError,
        TrialError,
    )
    from .data import register_data_set
    from .evaluation.measurements import register_measurement
    from .heads import (
        Classifier,
        CosineHead,
        GroupSoftmaxHead,
        Head,
        MetricLearningHead,
        ShardedHead,
        clip_gradients,
        create_head,
        keep_shards_local,
        list_heads,
        load_sharded,
        param_groups,
        register_head,
        save_sharded,
        update_kappa,
    )
    from .margins import (
        AdditiveAngularMargin,
        AdditiveCosineMargin,
        Annealing,
        Margin,
        MultiplicativeAngularMargin,
    )
    from .serving import Predictor
    from .studies import AnalysisReport, Comparison, TrainedModel, analyze, compare, train
    from .temperature import (
        AdaCos,
        Fixed,
        LeastSquares,
        MaximumLikelihood,
        RuleOfThumb,
        Temperature,
        Trainable,
        register_temperature,
    )
    from .training.stages import register_stage

_EXPORTS: dict[str, str] = {
    "AdaCos": "temperature",
    "AdditiveAngularMargin": "margins",
    "AdditiveCosineMargin": "margins",
    "AnalysisReport": "studies",
    "Annealing": "margins",
    "Classifier": "heads",
    "Comparison": "studies",
    "ConfigurationError": "config.errors",
    "CosineHead": "heads",
    "DataError": "config.errors",
    "Fixed": "temperature",
    "GroupSoftmaxHead": "heads",
    "Head": "heads",
    "InputError": "config.errors",
    "LeastSquares": "temperature",
    "LogitLabError": "config.errors",
    "Margin": "margins",
    "MaximumLikelihood": "temperature",
    "MetricLearningHead": "heads",
    "MultiplicativeAngularMargin": "margins",
    "ParameterError": "config.errors",
    "Predictor": "serving",
    "RankError": "config.errors",
    "RuleOfThumb": "temperature",
    "ShardedHead": "heads",
    "Temperature": "temperature",
    "Trainable": "temperature",
    "TrainedModel": "studies",
    "TrialError": "config.errors",
    "analyze": "studies",
    "clip_gradients": "heads",
    "compare": "studies",
    "create_head": "heads",
    "keep_shards_local": "heads",
    "list_heads": "heads",
    "load_sharded": "heads",
    "param_groups": "heads",
    "register_data_set": "data",
    "register_head": "heads",
    "register_measurement": "evaluation.measurements",
    "register_stage": "training.stages",
    "register_temperature": "temperature",
    "save_sharded": "heads",
    "train": "studies",
    "update_kappa": "heads",
}

_PACKAGES = frozenset(
    {
        "analysis",
        "config",
        "data",
        "evaluation",
        "functional",
        "heads",
        "losses",
        "margins",
        "models",
        "records",
        "report",
        "serving",
        "statistics",
        "studies",
        "temperature",
        "testing",
        "training",
    }
)

__all__ = [
    "AdaCos",
    "AdditiveAngularMargin",
    "AdditiveCosineMargin",
    "AnalysisReport",
    "Annealing",
    "Classifier",
    "Comparison",
    "ConfigurationError",
    "CosineHead",
    "DataError",
    "Fixed",
    "GroupSoftmaxHead",
    "Head",
    "InputError",
    "LeastSquares",
    "LogitLabError",
    "Margin",
    "MaximumLikelihood",
    "MetricLearningHead",
    "MultiplicativeAngularMargin",
    "ParameterError",
    "Predictor",
    "RankError",
    "RuleOfThumb",
    "ShardedHead",
    "Temperature",
    "Trainable",
    "TrainedModel",
    "TrialError",
    "analyze",
    "clip_gradients",
    "compare",
    "create_head",
    "keep_shards_local",
    "list_heads",
    "load_sharded",
    "param_groups",
    "register_data_set",
    "register_head",
    "register_measurement",
    "register_stage",
    "register_temperature",
    "save_sharded",
    "train",
    "update_kappa",
]

#: Version of the installed distribution.
__version__ = version("logitlab")


def __getattr__(name: str) -> Any:
    """Import a name on first use (PEP 562)."""
    if name in _PACKAGES:
        return import_module(f".{name}", __name__)
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_EXPORTS[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Show the lazy names to completion."""
    return sorted({*globals(), *_EXPORTS, *_PACKAGES})
