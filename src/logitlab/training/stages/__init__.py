"""What is done with every trained model after its training: stages, planned, run and recorded beside the trial."""

from .context import StageContext
from .options import FINE_TUNING, AnalyseOptions, FineTuneOptions, LinearProbeOptions, ShiftOptions, TimingOptions
from .planning import plan_stage, stage_identity
from .registry import STAGES, list_stages, register_stage
from .running import run_stages

__all__ = [
    "FINE_TUNING",
    "STAGES",
    "AnalyseOptions",
    "FineTuneOptions",
    "LinearProbeOptions",
    "ShiftOptions",
    "StageContext",
    "TimingOptions",
    "list_stages",
    "plan_stage",
    "register_stage",
    "run_stages",
    "stage_identity",
]
