"""Write ARCHITECTURE.md's table of modules anew from the first line of each module's docstring."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src/logitlab"
PAGE = ROOT / "ARCHITECTURE.md"


def row(module: Path) -> str:
    first = (ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or "").splitlines()[0]
    return f"| `{module.relative_to(PACKAGE)}` | {first.rstrip('.')} |"


def main() -> None:
    page = PAGE.read_text(encoding="utf-8")
    # The drawing of the layers at the top of the page gives their order.
    drawing = re.search(r"```text\n(.*?)```", page, re.DOTALL).group(1)
    layers = [name for line in drawing.splitlines() for name in re.split(r"\s{3,}", line)[0].split()]
    modules = [PACKAGE / "__main__.py"]
    for layer in layers:
        single = PACKAGE / f"{layer}.py"
        modules += [single] if single.exists() else []
        modules += sorted(path for path in (PACKAGE / layer).rglob("*.py") if path.name != "__init__.py")
    table = "\n".join(["| module | what it is |", "| --- | --- |", *map(row, modules)])
    PAGE.write_text(re.sub(r"\| module \|.*?(?=\n\n)", lambda _: table, page, flags=re.DOTALL), encoding="utf-8")


if __name__ == "__main__":
    main()
