"""Run with the installed wheel and torch alone: the heads must not need anything else."""

import importlib.resources
import importlib.util
import warnings

for absent in ("numpy", "scipy", "sklearn", "pydantic", "typer", "timm", "torchvision", "safetensors"):
    assert importlib.util.find_spec(absent) is None, f"{absent} is installed: this environment is not clean"

# Without NumPy torch says so once; that is torch's business.
warnings.filterwarnings("ignore", message="Failed to initialize NumPy")

import torch  # noqa: E402

import logitlab as ll  # noqa: E402
import logitlab.analysis  # noqa: E402
import logitlab.statistics  # noqa: E402

for name in ll.list_heads():
    parameters = {"preset": "cifar10"} if name == "squared_error" else {}
    head = ll.create_head(name, 16, 10, **parameters)
    loss = head(torch.randn(4, 16), torch.randint(10, (4,)))
    loss.backward()
    assert loss.isfinite()

# What is not Python must travel too: the report is made of these.
templates = importlib.resources.files("logitlab") / "report" / "templates"
for name in ("report.html", "report.css", "report.js", "macros.html"):
    assert (templates / name).is_file(), f"the wheel lacks report/templates/{name}"

print(f"logitlab {ll.__version__} with torch {torch.__version__} alone: {len(ll.list_heads())} heads train")
