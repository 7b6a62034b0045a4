"""From the definition of a study to its trials, those included that hang on what others have found."""

from .engine import StudyEngine
from .making import TrialMaker

__all__ = ["StudyEngine", "TrialMaker"]
