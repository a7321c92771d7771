"""Formulas: what they are worth, what is allowed, and that nothing in them is ever run."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from drivetrain.agents.formula import parse_formula
from drivetrain.agents.functions import sample_formula, values_on
from drivetrain.envs.errors import UserError

X = np.array([0.5, 1.0, 2.0])


@pytest.mark.golden
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("x", lambda x: x),
        ("3", lambda x: 3.0),
        ("-x**2", lambda x: -(x**2)),
        ("(-x)**2", lambda x: x**2),
        ("2**-x", lambda x: 2**-x),
        ("sin(x)*exp(-x/3)", lambda x: math.sin(x) * math.exp(-x / 3)),
        (" +x - 1e-1 * pi / e ", lambda x: x - 0.1 * math.pi / math.e),
        ("minimum(x, 1) + hypot(3*x, 4*x)", lambda x: min(x, 1) + 5 * x),
        ("abs(log(x))", lambda x: abs(math.log(x))),
        ("2**3**2", lambda x: 512.0),
    ],
)
def test_a_formula_is_worth_what_python_says(text: str, value) -> None:
    assert parse_formula(text)(X).tolist() == pytest.approx([value(float(x)) for x in X])


def test_the_shape_of_x_is_kept_and_no_value_is_nan() -> None:
    assert parse_formula("2")(np.zeros((4, 1))).shape == (4, 1)
    assert np.isnan(parse_formula("log(x)")(np.array([-1.0]))).all()
    assert np.isinf(parse_formula("10**10**10 + x")(X)).all()  # floats: no number of ten thousand million digits


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "cannot be read"),
        ("sin(x", "cannot be read"),
        ("2x", "cannot be read"),
        ("x = 1", "cannot be read"),
        ("sinn(x)", "unknown name: sinn"),
        ("y + 1", "unknown name: y"),
        ("x^2", "powers are written **"),
        ("x // 2", "x // 2"),
        ("x @ x", "x @ x"),
        ("~x", "~x"),
        ("not x", "not x"),
        ("x if x else 1", "x if x else 1"),
        ("x < 1", "x < 1"),
        ("[x]", "[x]"),
        ("'a'", "'a'"),
        ("1j", "1j"),
        ("True", "True"),
        ("sin(x, x)", "sin takes 1 number: sin(x, x)"),
        ("minimum(x)", "minimum takes 2 numbers"),
        ("sin(x=x)", "sin takes 1 number"),
        ("sin(*x)", "*x"),
        ("sin", "unknown name: sin"),
        ("1" + "0" * 400, "too large a number"),
        ("-" * 900 + "x", "nested deeper"),
        ("(" * 400 + "x" + ")" * 400, "cannot be read"),
        ("x" * 1_001, "too long"),
        ("x\0", "cannot be read"),
    ],
)
def test_what_is_not_allowed_is_named(text: str, named: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_formula(text)
    assert named in str(caught.value) and caught.value.code == 2


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('touch evil')",
        "().__class__.__bases__[0].__subclasses__()",
        "sin.__globals__",
        "x.tofile('evil')",
        "(lambda: 1)()",
        "[x for x in (1,)]",
        "(y := x)",
        "f'{x}'",
        "open('evil')",
        "eval('1')",
        "np.sin(x)",
        "sin(x).__class__",
        "x[0]",
        "await x",
        "sin((yield x))",
        "{**x}",
        "print(x)",
    ],
)
def test_nothing_evil_is_run(text: str, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError):
        parse_formula(text)
    assert not list(tmp_path.iterdir())


def test_a_formula_without_a_value_on_its_range_says_where() -> None:
    with pytest.raises(UserError, match=r"no value there; got nan at x = -1"):
        values_on(parse_formula("log(x)"), np.array([2.0, -1.0]))


def test_samples_lie_on_the_curve_and_noise_is_as_wide_as_asked() -> None:
    formula = parse_formula("x**2")
    rows = sample_formula(formula, -1.0, 3.0, 20_000, 0.0, torch.Generator().manual_seed(0))
    torch.testing.assert_close(rows.y, rows.x**2)
    assert rows.x.min() >= -1 and rows.x.max() < 3
    noisy = sample_formula(formula, -1.0, 3.0, 20_000, 0.5, torch.Generator().manual_seed(0))
    assert float((noisy.y - noisy.x**2).std()) == pytest.approx(0.5, rel=0.02)
