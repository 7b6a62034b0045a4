"""Options that take one value refuse a second one; the last of several would win in silence."""

from __future__ import annotations

from collections import Counter
from typing import Any

import typer
from typer.core import TyperCommand


class SingleValues(TyperCommand):
    """A command whose options, unless they gather values, may be given once."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the command line.

        Raises:
            typer.BadParameter: an option of one value is given several times.
        """
        # Parsed twice, since the library keeps the order of what it read to itself; the parser empties its list.
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        for name, count in Counter(param.name for param in order).items():
            param: Any = next(param for param in order if param.name == name)
            if count > 1 and param.param_type_name == "option" and not param.multiple and not param.is_flag:
                takers = [f"'{path}' takes several" for path in _gathering(ctx, name)]
                raise typer.BadParameter(
                    f"given {count} times. Give it once; '{ctx.command_path}' takes one"
                    + "".join(f", {taker}" for taker in takers)
                    + ".",
                    ctx=ctx,
                    param=param,
                )
        return super().parse_args(ctx, args)


def _gathering(ctx: Any, name: str | None) -> list[str]:
    """Return the other commands that take an option several times."""
    commands = {} if ctx.parent is None else getattr(ctx.parent.command, "commands", {})
    return [
        f"{ctx.parent.command_path} {other}"
        for other, command in commands.items()
        if any(param.name == name and getattr(param, "multiple", False) for param in command.params)
    ]
