"""Write a page and a picture for each built-in head: ``python docs/heads/make.py``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import matplotlib
import torch

import logitlab as ll
from logitlab.heads.description import describe_head
from logitlab.heads.papers import full_source
from logitlab.heads.presets import ALIASES, NAMED_HEADS
from texts import TEXTS

matplotlib.use("Agg")
from matplotlib import pyplot

FOLDER = Path(__file__).parent
CLASSES, FEATURES, LENGTH = 10, 16, 10.0
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
# What a head without a safe default is drawn with.
DRAWN: dict[str, dict[str, Any]] = {"squared_error": {"preset": "cifar10"}}
# Several curves, where a parameter is what it is about: T Figure 2, L Figure 3.
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "cosine": {f"κ {kappa}": {"kappa": kappa, "bias": False} for kappa in (5, 10, 20, 60)},
    "lsoftmax": {f"m {margin}": {"margin": margin, "annealing": None} for margin in (1, 2, 3, 4)},
    "sphereface": {f"m {margin}": {"margin": margin, "annealing": None} for margin in (1, 2, 3, 4)},
    "cosface": {f"m {margin}": {"margin": margin} for margin in (0.2, 0.35, 0.5)},
    "arcface": {f"m {margin}": {"margin": margin} for margin in (0.3, 0.5, 1.0)},
    "group_softmax": {f"type {kind}": {"kind": kind} for kind in ("I", "II")},
    "label_smoothing": {f"α {alpha}": {"alpha": alpha} for alpha in (0.05, 0.1, 0.3)},
    "logit_penalty": {f"β {beta}": {"beta": beta} for beta in (6e-4, 1e-2)},
}


def curve(name: str, parameters: dict[str, Any]) -> tuple[list[float], list[float]]:
    """Loss against the target's cosine, as at the start of training; κ that adapts stands at its running mean."""
    head = ll.create_head(name, FEATURES, CLASSES, **parameters).eval()
    with torch.no_grad():
        head.weight.zero_()
        rows = head.weight.view(CLASSES, -1, FEATURES)
        rows[torch.arange(CLASSES), :, torch.arange(CLASSES)] = 1.0
        if head.bias is not None:
            head.bias.zero_()
    cosine = torch.linspace(-1, 1, 201)
    sine = (1 - cosine.square()).clamp_min(0).sqrt()
    features = torch.zeros(len(cosine), FEATURES)
    # One rival stands at half the sine; the last axis belongs to no class.
    features[:, 0], features[:, 1], features[:, -1] = cosine, sine / 2, sine * math.sqrt(3) / 2
    target = torch.zeros(len(cosine), dtype=torch.long)
    with torch.no_grad():
        return cosine.tolist(), head(LENGTH * features, target, reduction="none").tolist()


def draw(name: str, path: Path) -> None:
    """Draw the loss of a head, and what its margin makes of the cosine, into a PNG."""
    from PIL import Image

    variants = VARIANTS.get(name, {name: DRAWN.get(name, {})})
    margin = NAMED_HEADS[name].margin
    figure, panels = pyplot.subplots(
        1, 2 if margin else 1, figsize=(8.4 if margin else 5.6, 3.2), dpi=100, squeeze=False
    )
    axes = panels[0, 0]
    if name != "softmax":
        axes.plot(*curve("softmax", {}), label="softmax", color="0.6", linestyle="--")
    for number, (label, parameters) in enumerate(variants.items()):
        axes.plot(*curve(name, parameters), label=label, color=COLOURS[number])
    axes.set_xlabel("cosine to the class of the target")
    axes.set_ylabel("loss" if name == "squared_error" else "loss, nats")
    axes.set_ylim(bottom=0)
    if margin:
        angle = torch.linspace(0, math.pi, 181)
        for number, (label, parameters) in enumerate(variants.items()):
            head = ll.create_head(name, FEATURES, CLASSES, **parameters)
            phi = head.margin(angle.cos(), torch.zeros(len(angle), dtype=torch.long))
            panels[0, 1].plot(angle.rad2deg().tolist(), phi.tolist(), label=label, color=COLOURS[number])
        panels[0, 1].plot(angle.rad2deg().tolist(), angle.cos().tolist(), label="cos θ", color="0.6", linestyle="--")
        panels[0, 1].set_xlabel("angle θ to the class of the target, degrees")
        panels[0, 1].set_ylabel("what stands for cos θ")
        panels[0, 1].set_xticks(range(0, 181, 45))
    for panel in panels[0]:
        panel.grid(alpha=0.3)
        panel.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)
    with Image.open(path) as image:
        image.convert("RGB").quantize(48, dither=Image.Dither.NONE).save(path, optimize=True)


def page(name: str) -> str:
    """Return the page of a head, in Markdown."""
    text, described = TEXTS[name], describe_head(name)
    also = [alias for alias, known in ALIASES.items() if known == name]
    adapts = "temperature" in described.keywords
    own = [parameter for parameter in described.parameters if parameter.own]
    lines = [
        f"# {text.title}",
        "",
        f'`ll.create_head("{name}", in_features, num_classes)`'
        + (f"; also known as {', '.join(f'`{alias}`' for alias in also)}" if also else ""),
        "",
        f"Source: {full_source(described.source)}.",
        "",
        f"$$ {text.formula} $$",
        "",
        f"**When.** {text.when}",
        "",
        f"**Inference.** `head(features)` returns {text.inference}",
        *(["", f"**To know.** {text.notes}"] if text.notes else []),
        "",
        f"![Loss of {name} against the target's cosine]({name}.png)",
        "",
        f"Loss of one sample against the cosine to its class: ten orthogonal classes, one rival at half the sine, the others "
        f"at zero, ‖x‖ = {LENGTH:g}, no bias{'; κ as it is at the start' if adapts else ''}. Dashed: softmax.",
        "",
        "| parameter | values | default | meaning |",
        "| --- | --- | --- | --- |",
    ]
    for parameter in own or []:
        meaning = parameter.meaning.replace("|", "\\|")
        lines.append(f"| `{parameter.name}` | {parameter.expected} | {written(parameter.default)} | {meaning} |")
    if not own:
        lines[-2:] = ["It has no parameters of its own."]
    lines += ["", f"Every head takes more: `logitlab heads {name}` lists them all.", ""]
    return "\n".join(lines)


def written(value: Any) -> str:
    """Return a default as a user would write it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return ", ".join(f"{key} {written(number)}" for key, number in value.items())
    return f"{value:.4g}" if isinstance(value, float) and math.isfinite(value) else str(value)


def index() -> str:
    """Return the page that lists all heads."""
    rows = [
        f"| [`{name}`]({name}.md) | {TEXTS[name].title} | {NAMED_HEADS[name].source} |"
        for name in NAMED_HEADS
        if name in TEXTS
    ]
    return "\n".join(
        [
            "# The heads",
            "",
            "A page a head: formula, loss against the target's cosine, parameters, when to use it, what inference returns.",
            "The pages are written by `python docs/heads/make.py`.",
            "",
            "| name | what it is | source |",
            "| --- | --- | --- |",
            *rows,
            "",
        ]
    )


def main() -> None:
    """Write all pages and pictures."""
    torch.manual_seed(0)
    for name in NAMED_HEADS:
        draw(name, FOLDER / f"{name}.png")
        (FOLDER / f"{name}.md").write_text(page(name), encoding="utf-8")
    (FOLDER / "README.md").write_text(index(), encoding="utf-8")


if __name__ == "__main__":
    main()
