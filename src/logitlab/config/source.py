"""A digest of the code that a user registers: an edited head, temperature, stage or measurement is another one."""

from __future__ import annotations

import functools
import hashlib
import inspect
import sys
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType
from typing import Any


def file_digest(factory: Callable[..., Any]) -> str | None:
    """SHA-256 of the whole file that defines ``factory``, as it is now; None where no file does (a notebook).

    Taken while the module is imported it is that of the code that runs, whatever happens to the file later.
    """
    module = sys.modules.get(_defined(factory).__module__)
    if module is None or not getattr(module, "__file__", None):
        return None
    try:
        return hashlib.sha256(inspect.getsource(module).encode()).hexdigest()
    except (OSError, TypeError):
        return None


def code_digest(factory: Callable[..., Any]) -> str:
    """SHA-256 of the bytecode of ``factory`` and of all that it reaches in its own module.

    For notebooks, where a class may be edited in one cell and the factory stand in another: it is taken anew
    each time. Another version of Python gives another digest.
    """
    settings = repr((factory.args, sorted(factory.keywords.items()))) if isinstance(factory, functools.partial) else ""
    defined = _defined(factory)
    return hashlib.sha256("\n".join([settings, *_describe(defined, defined.__module__, set())]).encode()).hexdigest()


def _defined(factory: Any) -> Any:
    """Return the function or class behind ``functools.partial`` or a callable object."""
    while isinstance(factory, functools.partial):
        factory = factory.func
    return factory if isinstance(factory, (FunctionType, type)) else type(factory)


def _describe(value: Any, module: str, seen: set[int]) -> Iterator[str]:
    """Yield what identifies a function, or a class, and the globals of ``module`` that it names."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, FunctionType):
        yield repr((value.__qualname__, value.__defaults__, value.__kwdefaults__))
        yield from _describe_code(value.__code__)
        for name in sorted(_names(value.__code__)):
            used = value.__globals__.get(name)
            if getattr(used, "__module__", None) == module:
                yield from _describe(used, module, seen)
            elif isinstance(used, (int, float, str, tuple, bool)):
                yield repr((name, used))
    elif isinstance(value, type):
        yield repr((value.__qualname__, [base.__qualname__ for base in value.__bases__]))
        for base in value.__bases__:
            if base.__module__ == module:
                yield from _describe(base, module, seen)
        for name, part in sorted(vars(value).items()):
            inner = getattr(part, "__func__", getattr(part, "fget", part))
            if isinstance(inner, FunctionType):
                yield from _describe(inner, module, seen)
            elif isinstance(inner, (int, float, str, tuple, bool)) and not name.startswith("__"):
                yield repr((name, inner))


def _describe_code(code: CodeType) -> Iterator[str]:
    yield repr((code.co_code, code.co_names, code.co_varnames))
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _describe_code(constant)
        elif not isinstance(constant, frozenset):  # its order changes from process to process
            yield repr(constant)
        else:
            yield repr(sorted(map(repr, constant)))


def _names(code: CodeType) -> set[str]:
    inner = (_names(constant) for constant in code.co_consts if isinstance(constant, CodeType))
    return set(code.co_names).union(*inner)
