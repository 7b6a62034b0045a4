"""What a run of the checks found."""

from __future__ import annotations

from dataclasses import dataclass, field


class CheckFailed(AssertionError):  # noqa: N818 - a verdict of one check, which the runner collects
    """One check does not hold; the message is its reason, in one line."""


class HeadCheckError(AssertionError):
    """A head does not pass; the message lists every failed check, its reason and how to run it again.

    Attributes:
        failures: the reason of each check that failed, by its name.
    """

    def __init__(self, head: str, failures: dict[str, str], again: str) -> None:
        self.failures = failures
        self.arguments = (head, failures, again)
        count = f"{len(failures)} check{'s' if len(failures) > 1 else ''}"
        lines = [f"  {name}: {reason}\n    again: {again.format(name=name)}" for name, reason in failures.items()]
        super().__init__("\n".join([f"{head} fails {count} of check_head:", *lines]))

    def __reduce__(self) -> tuple[type[HeadCheckError], tuple[str, dict[str, str], str]]:
        """Keep the failures when a worker process sends the error home."""
        return type(self), self.arguments


@dataclass(frozen=True)
class HeadReport:
    """What ran, and what did not and why.

    Attributes:
        head: the head, as it shows itself.
        ran: names of the checks that ran and hold.
        switched_off: of each check that a trait, or the lack of an optional method, switched off: the reason.
        skipped: those that the caller left out.
        hypothesis: whether the inputs of ``generated_inputs`` came from Hypothesis.
    """

    head: str
    ran: tuple[str, ...]
    switched_off: dict[str, str] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    hypothesis: bool = False

    def __str__(self) -> str:
        """Show it in lines."""
        lines = [f"{self.head}: {len(self.ran)} checks hold."]
        lines += [f"  off: {name} ({reason})" for name, reason in self.switched_off.items()]
        lines += [f"  skipped: {name}" for name in self.skipped]
        if "generated_inputs" in self.ran and not self.hypothesis:
            lines.append("  generated_inputs used its fixed cases. Install Hypothesis for more: pip install hypothesis")
        return "\n".join(lines)
