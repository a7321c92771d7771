"""Formulas of one variable, such as sin(x)*exp(-x/3): read off their syntax tree, never run as code."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..envs.errors import UserError, nearest

Numbers = NDArray[np.float64]
Formula = Callable[[Numbers], Numbers]

ONE: tuple[str, ...] = ("sin", "cos", "tan", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh")
ONE += ("arcsinh", "arccosh", "arctanh", "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt", "cbrt")
ONE += ("square", "abs", "sign", "floor", "ceil", "rint", "sinc")
TWO = ("minimum", "maximum", "hypot", "arctan2", "mod", "power")
FUNCTIONS: dict[str, tuple[np.ufunc | Callable[..., Numbers], int]] = {
    **{name: (getattr(np, name), 1) for name in ONE},
    **{name: (getattr(np, name), 2) for name in TWO},
}
"""numpy functions that a formula may call, and how many numbers they take"""
CONSTANTS = {"pi": math.pi, "e": math.e}
OPERATORS: dict[type[ast.operator], Callable[[Numbers, Numbers], Numbers]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.Pow: np.power,
}
LONGEST, DEEPEST = 1_000, 50
ALLOWED = "numbers, x, pi, e, + - * / **, parentheses and numpy functions such as sin, exp, sqrt, minimum"


def parse_formula(text: str) -> Formula:
    """A function of arrays of x [N] float64 → [N] float64; where it has no value it gives NaN or infinity.

    Raises:
        UserError: anything but numbers, x, the four operations, powers and known functions; names the piece.
    """
    if len(text) > LONGEST:
        raise UserError("the formula is too long", got=f"{len(text)} characters", allowed=f"up to {LONGEST}")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        found = text.strip()[max(0, (error.offset or 1) - 1) :] or text
        raise _refused(f"the formula cannot be read from here on: {found!r}", text) from None
    except (ValueError, RecursionError, MemoryError):
        raise _refused("the formula cannot be read", text) from None
    inner = _read(tree, text, 0)

    def formula(x: Numbers) -> Numbers:
        with np.errstate(all="ignore"):
            found = inner(np.asarray(x, np.float64))
        return np.broadcast_to(found, np.shape(x)).astype(np.float64)

    return formula


def _read(node: ast.expr, text: str, depth: int) -> Formula:
    """A piece of a formula as a function."""
    if depth > DEEPEST:
        raise _refused(f"the formula is nested deeper than {DEEPEST} pieces", text)
    if isinstance(node, ast.Constant):
        return _constant(node, text)
    if isinstance(node, ast.Name):
        return _name(node, text)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        part, sign = _read(node.operand, text, depth + 1), -1.0 if isinstance(node.op, ast.USub) else 1.0
        return lambda x: sign * part(x)
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        operator = OPERATORS[type(node.op)]
        left, right = _read(node.left, text, depth + 1), _read(node.right, text, depth + 1)
        return lambda x: operator(left(x), right(x))
    if isinstance(node, ast.Call):
        return _call(node, text, depth)
    hint = "; powers are written **" if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitXor) else ""
    raise _refused(f"the formula holds something that is not allowed: {_piece(node, text)}{hint}", text)


def _constant(node: ast.Constant, text: str) -> Formula:
    if isinstance(node.value, bool) or not isinstance(node.value, (int, float)):
        raise _refused(f"the formula holds something that is no number: {_piece(node, text)}", text)
    try:
        value = np.float64(node.value)
    except OverflowError:
        raise _refused(f"the formula holds too large a number: {_piece(node, text)}", text) from None
    return lambda x: np.full_like(x, value)


def _name(node: ast.Name, text: str) -> Formula:
    if node.id == "x":
        return lambda x: x
    if node.id not in CONSTANTS:
        raise _unknown(node.id, text)
    value = CONSTANTS[node.id]
    return lambda x: np.full_like(x, value)


def _call(node: ast.Call, text: str, depth: int) -> Formula:
    name = node.func.id if isinstance(node.func, ast.Name) else _piece(node.func, text)
    if not isinstance(node.func, ast.Name) or name not in FUNCTIONS:
        raise _unknown(name, text)
    function, count = FUNCTIONS[name]
    if node.keywords or len(node.args) != count:
        raise _refused(f"{name} takes {count} number{'s' * (count > 1)}: {_piece(node, text)}", text)
    parts = [_read(argument, text, depth + 1) for argument in node.args]
    return lambda x: function(*(part(x) for part in parts))


def _piece(node: ast.expr, text: str) -> str:
    return ast.get_source_segment(text.strip(), node) or type(node).__name__


def _refused(what: str, text: str) -> UserError:
    return UserError(what, got=text, allowed=ALLOWED)


def _unknown(name: str, text: str) -> UserError:
    near = nearest(name.rpartition(".")[2], [*FUNCTIONS, *CONSTANTS, "x"])
    fix = f"did you mean {near}?" if near else None
    return UserError(f"the formula holds an unknown name: {name}", got=text, allowed=ALLOWED, fix=fix)
