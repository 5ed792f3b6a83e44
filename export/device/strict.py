"""JSON read without forgiveness: nothing twice, nothing unknown, nothing infinite. Standard library only."""

from __future__ import annotations

import json
import math
from dataclasses import fields, is_dataclass
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

JSON = (dict, list, str, int, float, bool, type(None))


class BundleError(ValueError):
    """A bundle that must not be used; the message names what was found, what was expected, and what to do."""


def parse(data: bytes, where: str) -> Any:
    """The JSON value in `data`. Raises BundleError for anything but strict JSON in UTF-8, without duplicate keys."""

    def pairs(entries: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in entries]
        if repeated := sorted({key for key in keys if keys.count(key) > 1}):
            raise ValueError(f"it has the key {repeated[0]!r} twice")
        return dict(entries)

    def number(text: str) -> float:
        if not math.isfinite(value := float(text)):
            raise ValueError(f"it has the number {text}, which is not finite")
        return value

    try:
        return json.loads(
            data.decode("utf-8"), object_pairs_hook=pairs, parse_float=number, parse_constant=number, parse_int=_integer
        )
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{where} is not strict JSON: {error}; export the bundle again") from error


def _integer(text: str) -> int:
    if len(text) > 18:
        raise ValueError(f"it has an integer of {len(text)} digits")
    return int(text)


def record(value: Any, where: str, **kinds: type | tuple[type, ...]) -> dict[str, Any]:
    """`value` if it is an object with exactly the keys of `kinds`, each of its kind. Raises BundleError."""
    if not isinstance(value, dict):
        raise BundleError(f"{where} is {_show(value)}, expected an object; export the bundle again")
    if set(value) != set(kinds):
        unknown, missing = sorted(set(value) - set(kinds)), sorted(set(kinds) - set(value))
        raise BundleError(
            f"{where} has the unknown keys {unknown} and lacks {missing}, expected exactly {sorted(kinds)}; "
            "export the bundle again, with the version that reads it"
        )
    for key, kind in kinds.items():
        allowed = kind if isinstance(kind, tuple) else (kind,)
        if type(value[key]) not in allowed:
            names = " or ".join("null" if entry is type(None) else entry.__name__ for entry in allowed)
            raise BundleError(f"{where}.{key} is {_show(value[key])}, expected {names}; export the bundle again")
    return value


def numbers(value: Any, where: str) -> tuple[float, ...]:
    """`value` if it is a list of numbers. Raises BundleError."""
    if not isinstance(value, list) or any(type(entry) not in (int, float) for entry in value):
        raise BundleError(f"{where} is {_show(value)}, expected a list of numbers; export the bundle again")
    return tuple(float(entry) for entry in value)


def fits(value: Any, kind: Any, where: str) -> None:
    """Raises BundleError unless `value` is JSON for the annotation `kind`.

    Dataclasses are objects with exactly their fields, tuples of one type are lists, a float may lack its point, and
    `X | None` is X or null.
    """
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        names = [field.name for field in fields(kind)]
        record(value, where, **dict.fromkeys(names, JSON))
        for name in names:
            fits(value[name], hints[name], f"{where}.{name}")
    elif get_origin(kind) is UnionType:
        if value is not None:
            fits(value, next(part for part in get_args(kind) if part is not type(None)), where)
    elif get_origin(kind) is tuple:
        part, *rest = get_args(kind)
        count = "" if ... in rest else f" {len(rest) + 1}"
        if not isinstance(value, list) or (count and len(value) != len(rest) + 1):
            raise BundleError(f"{where} is {_show(value)}, expected a list of{count} values; export the bundle again")
        if part is float:
            numbers(value, where)
        else:
            for index, entry in enumerate(value):
                fits(entry, part, f"{where}[{index}]")
    else:
        allowed = (int, float) if kind is float else (kind,)
        if type(value) not in allowed:
            names = [entry.__name__ for entry in allowed]
            raise BundleError(f"{where} is {_show(value)}, expected {' or '.join(names)}; export the bundle again")


def positive(value: int, where: str) -> int:
    """`value` if it is at least 1. Raises BundleError."""
    if value < 1:
        raise BundleError(f"{where} is {value}, expected at least 1; export the bundle again")
    return value


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
