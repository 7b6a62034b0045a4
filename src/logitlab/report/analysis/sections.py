"""All sections of an analysis in the order of the page, with its table, its failures and its warnings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from logitlab.records.analysis import Analysis

from ..sections import Grid
from . import answers, confidence, geometry, representations, temperature
from .cka import cka
from .reading import Model, Reading, spoken
from .section import Limits, Section
from .tables import scalar_table


@dataclass(frozen=True)
class AnalysisSections:
    """What a page shows of an analysis.

    Attributes:
        overview: facts below the heading.
        models: in the order of the analysis.
        table: every number of every model.
        sections: the others, from the most asked for.
        failures: what could not be measured: model or the words for all, measure, why.
        warnings: why a number may mislead: measure, model, sentence.
    """

    overview: tuple[tuple[str, str], ...]
    models: tuple[Model, ...]
    table: Grid
    sections: tuple[Section, ...]
    failures: tuple[tuple[str, str, str], ...]
    warnings: tuple[tuple[str, str, str], ...]

    @property
    def size(self) -> int:
        """Roughly how many bytes of the page the pictures take."""
        return sum(each.size for each in self.sections)


def analysis_sections(
    analysis: Analysis, *, places: Mapping[str, int] | None = None, limits: Limits | None = None
) -> AnalysisSections:
    """Return the sections of an analysis; a measure that is missing has no section.

    Args:
        analysis: what was measured.
        places: label of a model → its place in a page that gave every one its colour already; None for the order of
            the analysis.
        limits: how much is drawn; None for as much as one page of a few models holds.
    """
    reading, allowed = Reading(analysis, places), limits or Limits()
    found = [
        *geometry.cards(reading),
        *representations.by_layer(reading),
        *cka(reading, allowed),
        *answers.agreement(reading),
        *representations.planes(reading, allowed),
        *representations.maps(reading, allowed),
        *geometry.angles(reading, allowed),
        *representations.densities(reading, allowed),
        *representations.spectra(reading),
        *geometry.hardness(reading),
        *temperature.loss_by_cosine(reading),
        *temperature.sparse_softmax(reading, allowed),
        *confidence.calibration(reading, allowed),
        *confidence.errors(reading, allowed),
        *confidence.strange(reading),
        *answers.corruptions(reading),
        *answers.probes(reading),
    ]
    return AnalysisSections(
        overview(analysis),
        reading.models,
        scalar_table(reading),
        tuple(found),
        tuple((each.model or "between models", spoken(each.measure), each.message) for each in analysis.failures),
        tuple((spoken(measure), label, sentence) for measure, label, sentence in reading.warnings()),
    )


def overview(analysis: Analysis) -> tuple[tuple[str, str], ...]:
    """Return the facts below the heading: data, images, classes, models.

    Args:
        analysis: what was measured.
    """
    data = analysis.data
    # A path names the folder of a user; its last part says enough.
    name = data.name.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1] or data.name
    facts = [
        ("data", name),
        ("images", f"{data.images:,} {data.part}" if data.part != "all" else f"{data.images:,}"),
        ("classes", str(len(data.class_names))),
        ("models", str(len(analysis.models))),
    ]
    backbones = list(dict.fromkeys(model.backbone for model in analysis.models))
    facts.append(("backbone" if len(backbones) == 1 else "backbones", ", ".join(backbones)))
    return tuple(facts)
