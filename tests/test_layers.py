"""House rules that a linter cannot state, read off the syntax trees. Each has a planted offence that it must catch."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).resolve().parent.parent
PRODUCT = ("agents", "cli", "envs", "policies")
REACHES = {
    "envs": {"envs"},
    "policies": {"policies"},
    "agents": {"agents", "envs", "policies"},
    "cli": {"agents", "cli", "envs", "policies"},
}
FILE_LINES, FUNCTION_LINES = 400, 60

# (file, function) -> why it may be longer than the budget. A line that is no longer needed fails a test below.
LONG_FUNCTIONS: dict[tuple[str, str], str] = {}

LAZY = (
    "pygame",
    "wandb",
    "matplotlib",
    "av",
    "Box2D",
    "tensorboard",
    "torch.utils.tensorboard",
    "gymnasium.envs.box2d",
)
TORCH_DRAWS = {"rand", "randn", "randint", "randperm", "normal", "multinomial", "bernoulli", "poisson"}
TORCH_DRAWS |= {"rand_like", "randn_like", "randint_like"}
TENSOR_DRAWS = {"normal_", "uniform_", "random_", "exponential_", "bernoulli_", "cauchy_", "geometric_", "log_normal_"}
NUMPY_SEEDED = {"Generator", "SeedSequence", "PCG64", "Philox", "MT19937", "BitGenerator", "default_rng", "RandomState"}
FIXED_INITS = {"zeros_", "ones_", "constant_", "eye_", "dirac_"}
UNSAFE_MODULES = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
UNSAFE_CALLS = {
    "torch.load",
    "torch.save",
    "yaml.load",
    "yaml.full_load",
    "yaml.unsafe_load",
    "eval",
    "exec",
    "compile",
}
# The letter classes keep this list from finding itself.
WORKPLACE = re.compile(
    r"/wor[k]/|/opt/(?:pyp[i]|wheel[s])|\bissu[e] #?\d|\bthis sessio[n]\b"
    r"|\bsub-?agen[t]\b|\bthe brie[f]\b|\bnotes/\w+\.m[d]",
    re.IGNORECASE,
)

Found = Iterator[tuple[int, str]]
Rule = Callable[[str, str], Found]


# ---- reading a file ------------------------------------------------------------------------------------------------


def module_of(path: str) -> str:
    """cli/main.py -> drivetrain.main; agents/ppo.py -> drivetrain.agents.ppo."""
    folder, stem = PurePosixPath(path).parts[0], PurePosixPath(path).stem
    package = "drivetrain" if folder == "cli" else f"drivetrain.{folder}"
    return package if stem == "__init__" else f"{package}.{stem}"


def package_of(path: str) -> str:
    return module_of(path) if path.endswith("/__init__.py") else module_of(path).rpartition(".")[0]


def imports(path: str, tree: ast.AST) -> Iterator[tuple[ast.AST, int, str]]:
    """Every imported name in full, with the level of a relative import (0 = absolute)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node, 0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package_of(path).split(".")[: -(node.level - 1) or None]
                base = ".".join([*above, base] if base else above)
            yield from ((node, node.level, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            by_name = ast.unparse(node.func) in {"importlib.import_module", "import_module", "__import__"}
            yield from [(node, 0, str(node.args[0].value))] if by_name else []


def layer_of(name: str) -> str | None:
    """Which folder an imported name lives in; None when it is not ours."""
    head, _, rest = name.partition(".")
    if head != "drivetrain":
        return None
    first = rest.partition(".")[0]
    return first if first in REACHES else "cli"


def dotted(tree: ast.AST) -> Callable[[ast.expr], str]:
    """A function that writes a name or attribute in full, aliases undone: `np.random.rand` -> numpy.random.rand."""
    known: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            known |= {
                a.asname or a.name.split(".")[0]: a.name if a.asname else a.name.split(".")[0] for a in node.names
            }
        elif isinstance(node, ast.ImportFrom) and not node.level:
            known |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}

    def full(expression: ast.expr) -> str:
        if isinstance(expression, ast.Name):
            return known.get(expression.id, expression.id)
        if isinstance(expression, ast.Attribute):
            return f"{full(expression.value)}.{expression.attr}"
        return "?"

    return full


def functions(tree: ast.AST, outer: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], bool, ast.FunctionDef]]:
    """(names from the outside in, whether it is nested in a function, node) of every function of a file."""

    def visit(node: ast.AST, names: tuple[str, ...], nested: bool) -> Iterator:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                yield (*names, child.name), nested, child
                yield from visit(child, (*names, child.name), True)
            elif isinstance(child, ast.ClassDef):
                yield from visit(child, (*names, child.name), nested)
            else:
                yield from visit(child, names, nested)

    yield from visit(tree, outer, False)


def given(call: ast.Call, keyword: str) -> bool:
    return any(k.arg in (keyword, None) for k in call.keywords)


def is_true(call: ast.Call, keyword: str) -> bool:
    return any(k.arg == keyword and getattr(k.value, "value", None) is True for k in call.keywords)


# ---- the rules -----------------------------------------------------------------------------------------------------


def arrows(path: str, source: str) -> Found:
    """envs and policies know only themselves; agents knows both; cli knows all."""
    folder = PurePosixPath(path).parts[0]
    for node, _, name in imports(path, ast.parse(source)):
        target = layer_of(name)
        if target and target not in REACHES[folder]:
            yield node.lineno, f"{folder} must not import {name} ({target})"


def relative_inside(path: str, source: str) -> Found:
    """agents, envs and policies reach each other by relative imports; cli writes drivetrain in full."""
    folder = PurePosixPath(path).parts[0]
    for node, level, name in imports(path, ast.parse(source)):
        if folder != "cli" and not level and layer_of(name):
            yield node.lineno, f"write {name} as a relative import"
        if folder == "cli" and level:
            yield node.lineno, f"write {name} in full"


def bare_imports(path: str, source: str) -> Found:
    """The folder names are not import names."""
    for node, level, name in imports(path, ast.parse(source)):
        if not level and name.split(".")[0] in {"agents", "cli", "envs", "policies"}:
            yield node.lineno, f"write drivetrain.{name}"


def global_random(path: str, source: str) -> Found:
    """Generators are arguments; nothing draws from, or seeds, a generator shared by the whole process."""
    tree = ast.parse(source)
    full = dotted(tree)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute | ast.Name) or not isinstance(node.ctx, ast.Load):
            continue
        name = full(node)
        parent, _, last = name.rpartition(".")
        if parent == "numpy.random" and last not in NUMPY_SEEDED:
            yield node.lineno, f"{name} uses numpy's shared generator"
        if parent == "random" and last != "Random":
            yield node.lineno, f"{name} uses Python's shared generator"
        if name.startswith("torch.") and last in {"manual_seed", "manual_seed_all", "seed", "seed_all"}:
            yield node.lineno, f"{name} seeds torch's shared generator"
    for call in calls:
        name = full(call.func)
        parent, _, last = name.rpartition(".")
        if name in {"numpy.random.default_rng", "numpy.random.SeedSequence"} and not call.args + call.keywords:
            yield call.lineno, f"{name}() without a seed differs from run to run"
        unfed = not given(call, "generator")
        function = (parent == "torch" and last in TORCH_DRAWS) or (
            parent == "torch.nn.init" and last not in FIXED_INITS
        )
        method = isinstance(call.func, ast.Attribute) and last in TENSOR_DRAWS and parent != "torch.nn.init"
        if unfed and (function or method):
            yield call.lineno, f"{name if function else last} needs generator="


def code_on_load(path: str, source: str) -> Found:
    """Nothing that is read from a file is ever executed."""
    tree = ast.parse(source)
    full = dotted(tree)
    for node, level, name in imports(path, tree):
        if not level and name.split(".")[0] in UNSAFE_MODULES:
            yield node.lineno, f"{name} can run code on load"
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        tensors_alone = full(call.func) == "torch.load" and is_true(call, "weights_only")
        if full(call.func) in UNSAFE_CALLS and not tensors_alone:
            yield call.lineno, f"{full(call.func)} can run code on load"
        if any(k.arg == "allow_pickle" and getattr(k.value, "value", None) is not False for k in call.keywords):
            yield call.lineno, "allow_pickle can run code on load"


def short_files(path: str, source: str) -> Found:
    lines = len(source.splitlines())
    if lines > FILE_LINES:
        yield lines, f"{lines} lines, the budget is {FILE_LINES}: split it along a concept"


def length(node: ast.FunctionDef) -> int:
    """Lines from `def` to the end, the docstring left out."""
    first = node.body[0]
    text = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    documented = first.end_lineno - first.lineno + 1 if text else 0
    return node.end_lineno - node.lineno + 1 - documented


def short_functions(path: str, source: str) -> Found:
    for names, _, node in functions(ast.parse(source)):
        if length(node) > FUNCTION_LINES and (path, ".".join(names)) not in LONG_FUNCTIONS:
            yield node.lineno, f"{'.'.join(names)} has {length(node)} lines, the budget is {FUNCTION_LINES}"


def named_arguments(path: str, source: str) -> Found:
    """A public function says what it takes; **settings: Unpack[SomeTypedDict] says it too."""
    for names, nested, node in functions(ast.parse(source)):
        private = any(name.startswith("_") and not name.startswith("__") for name in names)
        kwarg = node.args.kwarg
        typed = kwarg is not None and kwarg.annotation is not None and "Unpack[" in ast.unparse(kwarg.annotation)
        if kwarg and not typed and not nested and not private:
            yield node.lineno, f"{'.'.join(names)} takes **{kwarg.arg}: name its arguments"


def lazy_imports(path: str, source: str) -> Found:
    """Slow or optional packages are imported by the function that uses them."""

    def at_import_time(node: ast.AST) -> Iterator[ast.stmt]:
        for child in ast.iter_child_nodes(node):
            typing_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) or typing_only:
                continue
            if isinstance(child, ast.Import | ast.ImportFrom):
                yield child
            yield from at_import_time(child)

    for statement in at_import_time(ast.parse(source)):
        for node, level, name in imports(path, statement):
            if not level and any(name == lazy or name.startswith(lazy + ".") for lazy in LAZY):
                yield node.lineno, f"import {name} inside the function that needs it"


def product_words(path: str, source: str) -> Found:
    """The repository speaks of the product, not of how or where it was made."""
    for number, line in enumerate(source.splitlines(), 1):
        if match := WORKPLACE.search(line):
            yield number, f"{match.group()!r} does not belong into the product"


# ---- what they run on ----------------------------------------------------------------------------------------------


def files(*folders: str, suffixes: tuple[str, ...] = (".py",)) -> list[str]:
    found = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in suffixes]
    return sorted(path.relative_to(ROOT).as_posix() for path in found if "__pycache__" not in path.parts)


def texts() -> list[str]:
    top = [
        path.name
        for path in ROOT.iterdir()
        if path.is_file() and path.suffix in {"", ".md", ".toml", ".txt", ".cff"} and path.name != ".git"
    ]
    inside = (*PRODUCT, "tests", "benchmarks", "docs", "examples", ".ci", ".github", "runs/baselines")
    found = files(*inside, suffixes=(".py", ".md", ".toml", ".yml", ".yaml", ".json", ".txt", ".csv", ""))
    return sorted([*top, *(path for path in found if (ROOT / path).is_file())])


def everything() -> list[str]:
    return files(*PRODUCT, "tests", "benchmarks", "docs", "examples")


def product() -> list[str]:
    return files(*PRODUCT)


def code_we_run() -> list[str]:
    return files(*PRODUCT, "benchmarks", "examples")


MANY_LINES = "x = 1\n" * (FILE_LINES + 1)
LONG_BODY = "def long():\n" + "    x = 1\n" * FUNCTION_LINES
RULES: dict[str, tuple[Rule, Callable[[], list[str]], str, tuple[str, ...], str]] = {
    # name: (rule, files it holds for, path of the plants, sources that must be caught, a source that must pass)
    "envs know no agents": (
        arrows,
        product,
        "envs/a.py",
        (
            "from ..agents import ppo",
            "from .. import policies",
            "from ..policies.heads import gaussian",
            "from drivetrain.agents.ppo import PPO",
            "from .. import main",
            "import drivetrain",
            "def f():\n    from ..agents import ppo",
            "import importlib\nimportlib.import_module('drivetrain.policies')",
        ),
        "from .state import CarState\nfrom ..envs import spec\nfrom . import track\nimport torch",
    ),
    "policies know no envs": (
        arrows,
        product,
        "policies/a.py",
        ("from ..envs.observe import OBS_SIZE", "from ..agents import ppo", "import drivetrain.envs"),
        "from .heads import gaussian\nfrom gymnasium import spaces",
    ),
    "agents know no commands": (
        arrows,
        product,
        "agents/a.py",
        ("from ..rundir import RunDir", "from .. import main", "from drivetrain import __version__"),
        "from ..envs.sim import Sim\nfrom ..policies import build\nfrom . import returns",
    ),
    "layers are reached by relative imports": (
        relative_inside,
        product,
        "agents/a.py",
        ("from drivetrain.envs import sim", "import drivetrain.policies.build"),
        "from ..envs import sim",
    ),
    "commands write names in full": (
        relative_inside,
        product,
        "cli/a.py",
        ("from .agents import PPO", "from . import rundir"),
        "from drivetrain.agents import PPO\nfrom drivetrain import rundir",
    ),
    "no bare folder names": (
        bare_imports,
        everything,
        "tests/a.py",
        ("import agents", "from envs.sim import Sim", "import policies.build as b", "__import__('envs')"),
        "import drivetrain.envs\nfrom drivetrain.agents import PPO",
    ),
    "no global random calls": (
        global_random,
        code_we_run,
        "envs/a.py",
        (
            "import numpy as np\nnp.random.seed(0)",
            "import numpy as np\nx = np.random.rand(3)",
            "from numpy import random as r\nr.shuffle([1])",
            "from numpy.random import randint\nrandint(3)",
            "import numpy as np\nrng = np.random.default_rng()",
            "import random\nrandom.random()",
            "from random import choice\nchoice([1])",
            "import torch\ntorch.manual_seed(0)",
            "import torch\ntorch.cuda.manual_seed_all(0)",
            "from torch import randn\nrandn(3)",
            "import torch\ntorch.randperm(3)",
            "import torch\nx = torch.empty(3).normal_(0, 1)",
            "from torch import nn\nnn.init.orthogonal_(w, 1.0)",
        ),
        "import numpy as np\nimport torch\nfrom torch import nn\nimport random\n"
        "rng = np.random.default_rng(0)\nrng.shuffle([1])\ng = torch.Generator().manual_seed(0)\n"
        "x = torch.randn(3, generator=g).normal_(generator=g)\nnn.init.zeros_(x)\nnn.init.orthogonal_(x, generator=g)\n"
        "r = random.Random(0)\nr.random()\n",
    ),
    "nothing is executed on load": (
        code_on_load,
        code_we_run,
        "agents/a.py",
        (
            "import pickle",
            "from cloudpickle import dumps",
            "import torch as t\nt.load('x')",
            "import torch\ntorch.load('x', weights_only=False)",
            "import torch\ntorch.load('x', weights_only=safe)",
            "from torch import save\nsave(1, 'x')",
            "import yaml\nyaml.load('a')",
            "eval('1')",
            "exec('1')",
            "import numpy as np\nnp.load('x', allow_pickle=True)",
        ),
        "import torch, yaml, re, numpy as np\npolicy.eval()\nyaml.safe_load('a')\nre.compile('a')\ntorch.compile(f)\n"
        "torch.load('x', weights_only=True)\n"
        "np.load('x', allow_pickle=False)",
    ),
    "files are short": (short_files, product, "envs/a.py", (MANY_LINES,), "x = 1\n" * FILE_LINES),
    "functions are short": (
        short_functions,
        product,
        "envs/a.py",
        (LONG_BODY, "class A:\n" + "".join(f"    {line}\n" for line in LONG_BODY.splitlines())),
        'def fine():\n    """One.\n' + "\n" * 80 + '    """\n    return 1\n',
    ),
    "public functions name their arguments": (
        named_arguments,
        product,
        "envs/a.py",
        ("def f(**kwargs): ...", "class A:\n    def __init__(self, **options): ..."),
        "def _f(**kwargs): ...\ndef g(a, *, b=1): ...\ndef h(**settings: Unpack[Settings]): ...\n"
        "class _A:\n    def m(self, **kwargs): ...\ndef i():\n    def j(**kwargs): ...\n",
    ),
    "slow packages are imported late": (
        lazy_imports,
        product,
        "envs/a.py",
        (
            "import pygame",
            "import matplotlib.pyplot as plt",
            "try:\n    import av\nexcept ImportError:\n    av = None",
            "from gymnasium.envs.box2d.car_racing import CarRacing",
            "from torch.utils.tensorboard import SummaryWriter",
        ),
        "import torch\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import av\n"
        "def draw():\n    import pygame\n    return pygame",
    ),
    "only product words": (
        product_words,
        texts,
        "docs/a.md",
        ("see /" + "work/plan", "as issu" + "e 12 asks", "written by a sub" + "agent", "read notes/" + "style.md"),
        "see runs/demo, networks, sub-steps and gymnasium#1624",
    ),
}


def offences(rule: Rule, path: str, source: str) -> list[str]:
    return [f"{path}:{line}: {what}" for line, what in rule(path, source)]


@pytest.mark.parametrize("name", RULES)
def test_the_repository_keeps_the_rule(name: str) -> None:
    rule, where, *_ = RULES[name]
    paths = where()
    assert paths, "a rule that looks at nothing proves nothing"
    found = [text for path in paths for text in offences(rule, path, (ROOT / path).read_text(encoding="utf-8"))]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(("name", "plant"), [(name, plant) for name, entry in RULES.items() for plant in entry[3]])
def test_the_rule_catches_a_planted_offence(name: str, plant: str) -> None:
    rule, _, path, _, _ = RULES[name]
    assert offences(rule, path, plant)


@pytest.mark.parametrize("name", RULES)
def test_the_rule_leaves_innocent_code_alone(name: str) -> None:
    rule, _, path, _, innocent = RULES[name]
    assert offences(rule, path, innocent) == []


def test_every_long_function_that_is_excused_is_still_long() -> None:
    for (path, wanted), reason in LONG_FUNCTIONS.items():
        lengths = {".".join(names): length(node) for names, _, node in functions(ast.parse((ROOT / path).read_text()))}
        assert reason
        assert lengths.get(wanted, 0) > FUNCTION_LINES, f"{path}: {wanted} needs no excuse any more"


# ---- folders -------------------------------------------------------------------------------------------------------


def not_flat(paths: list[str]) -> list[str]:
    """Sub-packages would be missing from the wheel; a folder called drivetrain would hide the installed package."""
    deep = [path for path in paths if path.split("/")[0] in (*PRODUCT, "tests") and path.count("/") > 1]
    hiding = [path for path in paths if path.startswith("drivetrain/")]
    return deep + hiding + [path for path in paths if path == "tests/__init__.py"]


def test_folders_are_flat() -> None:
    assert not_flat(everything() + files("drivetrain")) == []


@pytest.mark.parametrize(
    "path", ["envs/tracks/oval.py", "drivetrain/ppo.py", "tests/__init__.py", "tests/envs/test_a.py"]
)
def test_a_sub_package_is_noticed(path: str) -> None:
    assert not_flat(["envs/sim.py", "tests/test_a.py", path]) == [path]


def test_every_test_file_is_named_after_a_folder_or_a_house_rule() -> None:
    names = [path for path in files("tests") if PurePosixPath(path).name.startswith("test_")]
    allowed = tuple(f"tests/test_{start}" for start in (*PRODUCT, "layers", "wheel", "docs"))
    assert [path for path in names if not path.startswith(allowed)] == []


@pytest.mark.skipif(sys.platform == "win32", reason="a checkout there may hold text files instead of links")
def test_type_checkers_see_every_file() -> None:
    links = ROOT / "typings" / "drivetrain"
    expected = {PurePosixPath(path).name for path in files("cli")} | {"py.typed", "agents", "envs", "policies"}
    assert {path.name for path in links.iterdir()} == expected, "run `make links`"
    assert all(path.resolve().exists() for path in links.iterdir()), "run `make links`"
