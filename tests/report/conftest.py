"""Made-up records in the form of ``logitlab.records``, and a browser that looks at the pages made of them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

MEASURES = {
    "accuracy": 0.9,
    "nll": 0.3,
    "ece": 0.02,
    "class_separation": 0.5,
    "miss_ap": 0.95,
    "miss_base_rate": 0.9,
    "class_angle": 40.0,
    "kappa": None,
    "kappa_star": 4.5,
}


def make_config(head: str, seed: int, parameters: dict[str, Any] | None = None, **training: Any) -> dict[str, Any]:
    return {
        "data": {
            "name": "digits",
            "image_size": None,
            "train_limit": None,
            "validation_fraction": 0.1,
            "split_seed": 0,
        },
        "data_fingerprint": "ab" * 32,
        "backbone": {"name": "small_cnn", "parameters": {}, "module": None, "source": None},
        "head": {"name": head, "parameters": parameters or {}, "module": None, "source": None},
        "training": {"epochs": 30, "learning_rate": 0.05, **training},
        "seed": seed,
    }


def make_record(
    head: str, seed: int, parameters: dict[str, Any] | None = None, *, seconds: float = 10.0, **measures: Any
) -> dict[str, Any]:
    config = make_config(head, seed, parameters)
    return {
        "identity": f"{head}{parameters}{seed}",
        "config": config,
        "result": {"test": {**MEASURES, **measures}, "history": []},
        "provenance": {"seconds": seconds},
    }


def make_failure(head: str, seed: int, message: str = "The loss is not finite.", **error: Any) -> dict[str, Any]:
    return {
        "identity": f"{head}None{seed}",
        "config": make_config(head, seed),
        "error": {"kind": "TrialError", "message": message, **error},
    }


def make_head(head: str, parameters: dict[str, Any] | None = None, **measures: Sequence[Any]) -> list[dict[str, Any]]:
    """One record a seed; every measure is given as one value a seed."""
    seeds = range(len(next(iter(measures.values()))))
    return [
        make_record(head, seed, parameters, **{key: values[seed] for key, values in measures.items()}) for seed in seeds
    ]


@pytest.fixture
def make() -> SimpleNamespace:
    """Makers of records: ``config``, ``record``, ``failure``, ``head``."""
    return SimpleNamespace(config=make_config, record=make_record, failure=make_failure, head=make_head)


@pytest.fixture
def root(tmp_path):
    """The folder of a study."""
    return tmp_path / "runs"


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None and os.environ.get("CI"):
        pytest.fail("The tests of the page need chromium: apt-get install chromium")
    if CHROMIUM is None:
        pytest.skip("No chromium on this machine, and CI is not set: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        # Containers of CI run as root, where Chromium's sandbox refuses to start. The page is our own.
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def open_page(browser, report):
    """Open the page of the fixture ``report``; at the end nothing may have been asked for or complained about."""
    contexts, requests, complaints = [], [], []

    def visit(width=1280, height=900, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(report.as_uri(), wait_until="load")
        return page

    yield visit
    for context in contexts:
        context.close()
    assert complaints == []
    outside = [url for url in requests if not url.startswith("data:") and url.split("#")[0] != report.as_uri()]
    assert outside == []
    assert requests
