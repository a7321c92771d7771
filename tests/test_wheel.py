"""What a user installs: the built wheel, alone in a fresh environment that borrows the dependencies of this one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.conformance

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {
    "cli": "drivetrain",
    "agents": "drivetrain/agents",
    "envs": "drivetrain/envs",
    "policies": "drivetrain/policies",
}

IMPORT_EVERYTHING = """
import importlib, json, pkgutil, drivetrain
names = ["drivetrain", *(found.name for found in pkgutil.walk_packages(drivetrain.__path__, "drivetrain."))]
names.remove("drivetrain.__main__")  # importing it would run the program
print(json.dumps({name: importlib.import_module(name).__file__ for name in names}))
"""


def run(command: list[str | Path], cwd: Path) -> str:
    """Standard output of a command that must succeed, with nothing of this process's import path."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{command} exited {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy of the sources, so that no build product lands in the checkout."""
    source = tmp_path_factory.mktemp("source")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", source / "dist", source], cwd=source)
    (built,) = (source / "dist").glob("drivetrain-*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment with the wheel in it."""
    home = tmp_path_factory.mktemp("fresh") / "env"
    venv.create(home, with_pip=True)
    paths = {"base": str(home), "platbase": str(home)}
    site = Path(sysconfig.get_path("purelib", "venv", vars=paths))
    interpreter = Path(sysconfig.get_path("scripts", "venv", vars=paths)) / Path(sys.executable).name
    # A .pth file adds folders but does not read the .pth files in them: an editable drivetrain there stays unseen.
    parents = dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    (site / "parent_dependencies.pth").write_text("\n".join(parents) + "\n")
    run([interpreter, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel], cwd=home)
    return interpreter


def test_the_wheel_holds_every_file_of_the_four_folders_and_their_data_and_nothing_else(wheel: Path) -> None:
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = {f"{target}/{path.name}" for folder, target in FOLDERS.items() for path in (ROOT / folder).glob("*.py")}
    data = {"drivetrain/py.typed", "drivetrain/envs/score.npz"}
    data |= {f"drivetrain/agents/{path.name}" for path in (ROOT / "agents").glob("preset_*.toml")}
    assert packed == expected | data


def test_every_module_imports_from_the_fresh_environment(python: Path, tmp_path: Path) -> None:
    files = json.loads(run([python, "-c", IMPORT_EVERYTHING], cwd=tmp_path).splitlines()[-1])
    home = python.parent.parent.resolve()
    assert files
    assert [path for path in files.values() if not Path(path).resolve().is_relative_to(home)] == []


def test_the_installed_command_prints_its_help(python: Path, tmp_path: Path) -> None:
    assert "train" in run([python.parent / "drivetrain", "--help"], cwd=tmp_path)


def test_three_updates_run_from_the_wheel(python: Path, tmp_path: Path) -> None:
    # 16 cars × 8 steps = 128 steps an update; 3 updates = 384 steps
    sizes = ["--num-envs", "16", "--num-steps", "8", "--num-minibatches", "2", "--steps", "384"]
    command = [
        python,
        "-m",
        "drivetrain",
        "train",
        "ppo",
        "racing",
        *sizes,
        "--device",
        "cpu",
        "--name",
        "three",
        "--json",
    ]
    report = json.loads(run(command, cwd=tmp_path).splitlines()[-1])
    assert report["status"] == "done"
    assert report["steps"] == 384
    assert (tmp_path / "runs" / "three" / "config.json").is_file()
