"""Records gathered head by head: the seeds of one configuration stand in one row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from logitlab.config.errors import InputError
from logitlab.config.specification import Specification
from logitlab.config.trial import canonical_json

from .columns import OOD_KEY

Record = Mapping[str, Any]

#: Key of a row → key of each set whose mean it is.
_OOD_MEANS = {OOD_KEY: "max_logit_ap", "ood_base_rate": "base_rate"}


@dataclass(frozen=True)
class Trial:
    """What one seed measured.

    Attributes:
        identity: of the trial, which names its folder.
        seed: its seed.
        measures: key of a column → value, None where it is undefined; empty for a failed trial.
        failure: why the trial failed, in one line; None for a finished one.
    """

    identity: str
    seed: int
    measures: Mapping[str, float | None]
    failure: str | None


@dataclass(frozen=True)
class HeadRecords:
    """One row: a head under one recipe.

    Attributes:
        label: the head as written on the command line; where two rows share it, followed by what differs.
        trials: its seeds, failed ones included.
        ood: names of the out-of-distribution sets of the study, the same for every row.
        config: what the trials share: every setting but the seed and the place of the images.
    """

    label: str
    trials: tuple[Trial, ...]
    ood: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def finished(self) -> tuple[Trial, ...]:
        """The trials that did not fail."""
        return tuple(trial for trial in self.trials if trial.failure is None)

    def values(self, key: str) -> list[float | None]:
        """Return one value a finished seed; None where the measure is undefined."""
        return [trial.measures.get(key) for trial in self.finished]


def group_by_head(records: Iterable[Record]) -> list[HeadRecords]:
    """Gather records whose configurations differ in nothing but the seed.

    Args:
        records: finished trials (``identity``, ``config``, ``result``, ``provenance``) and failed ones
            (``identity``, ``config``, ``error``), as ``logitlab.records.Store.records`` returns them. A trial
            that comes twice counts once. Finished ones may have ``"ood"``: name of a set → its measures.

    Returns:
        Rows in the order in which their heads first appear; seeds in increasing order.

    Raises:
        InputError: the records are of more than one data set; their numbers cannot be compared.
    """
    records = list(records)
    ood = tuple(dict.fromkeys(name for record in records for name in record.get("ood") or ()))
    configs: dict[str, Mapping[str, Any]] = {}
    trials: dict[str, dict[str, Trial]] = {}
    for record in records:
        config = _recipe(record["config"])
        key = canonical_json(config)
        configs[key] = config
        trials.setdefault(key, {})[record["identity"]] = _trial(record, ood)
    names = {config["data_fingerprint"] for config in configs.values()}
    if len(names) > 1:
        raise InputError(
            f"Expected records of one data set, or of one version of it. Got {len(names)}: build one table for each."
        )
    labels = _labels(configs)
    return [
        HeadRecords(labels[key], tuple(sorted(found.values(), key=lambda trial: trial.seed)), ood, configs[key])
        for key, found in trials.items()
    ]


def _recipe(config: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out the seed, and where the images lay: what they are stands in the fingerprint."""
    recipe = {key: value for key, value in config.items() if key != "seed"}
    recipe["data"] = {key: value for key, value in config["data"].items() if key != "name"}
    return recipe


def _trial(record: Record, ood: tuple[str, ...]) -> Trial:
    identity, seed = str(record["identity"]), int(record["config"]["seed"])
    if "error" in record:
        error = record["error"]
        # A message of several lines would tear a plain table apart.
        message = " ".join(str(error.get("message") or error.get("kind") or "no reason given").split())
        return Trial(identity, seed, {}, message)
    measures = {**record["result"]["test"], "seconds": record["provenance"].get("seconds")}
    return Trial(identity, seed, {**measures, **_ood(record, ood)}, None)


def _ood(record: Record, names: tuple[str, ...]) -> dict[str, float | None]:
    """Average over the sets; a trial that lacks one has no mean that could be compared with the others'."""
    found = record.get("ood") or {}
    sets = [found.get(name) or {} for name in names]
    return {mean: _mean([values.get(key) for values in sets]) for mean, key in _OOD_MEANS.items()}


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def _labels(configs: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Name each row by its head; rows that would share a name also say in which settings they differ."""
    plain = {
        key: str(Specification(config["head"]["name"], dict(config["head"]["parameters"])))
        for key, config in configs.items()
    }
    labels = {}
    for key, label in plain.items():
        namesakes = [_flat(configs[other]) for other, same in plain.items() if same == label]
        settings = _flat(configs[key])
        differing = [
            f"{path}={value}"
            for path, value in settings.items()
            if any(other.get(path) != value for other in namesakes)
        ]
        labels[key] = f"{label} [{', '.join(differing)}]" if differing else label
    return labels


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found.update(_flat(value, f"{prefix}{key}."))
        else:
            found[f"{prefix}{key}"] = value
    return found
