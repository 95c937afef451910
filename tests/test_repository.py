"""The repository keeps its promises: layers, documentation from code, what is packed, what is not."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions, version
from pathlib import Path

import pytest

import astrobench
from astrobench.cli import app
from astrobench.recipe import Recipe
from astrobench.simulate import simulate_night
from astrobench.steps import table

ROOT = Path(__file__).parents[1]
CODE = ("astrobench", "widgets", "tests", "benchmarks")
LONGEST = 500  # lines of a module: above that it holds a second thing
LARGEST = 1_000_000  # bytes of a file
README = (ROOT / "README.md").read_text(encoding="utf-8")


def sources(*folders: str) -> list[Path]:
    """Return the Python files of some folders of the repository."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def tracked() -> list[Path]:
    """Return the files that git keeps, or skip where this is no checkout."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip("not a git checkout: nothing to list")
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def third_party(path: Path) -> set[str]:
    """Return the top-level packages that a module imports, the standard library and astrobench apart."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0])
    return names - set(sys.stdlib_module_names) - {"astrobench"}


# --- documentation ----------------------------------------------------------------------------------
def test_the_table_of_steps_in_the_readme_is_that_of_the_code():
    assert table.with_table(README) == README, "stale: run `make docs`"


def test_the_table_names_every_step_parameter_and_choice():
    text = table.markdown_table()

    for name, step in astrobench.STEPS.items():
        assert f"| `{name}` | {table.purpose(step)}" in text
        assert all(f"| `{parameter}` |" in text for parameter in step.model_fields)


def test_the_steps_of_a_deep_sky_picture_come_in_their_order():
    names = [step.name() for step in table.in_order()]

    assert names[: len(Recipe.load("deep-sky").steps)] == [s.name() for s in Recipe.load("deep-sky").steps]
    assert sorted(names) == sorted(astrobench.STEPS)


def test_a_text_without_a_place_for_the_table_is_refused_in_a_sentence():
    with pytest.raises(astrobench.InputError, match="no place for the table"):
        table.with_table("# A heading\n")


def test_the_readme_names_every_preset_and_every_command():
    commands = [each.name or each.callback.__name__ for each in app.registered_commands]

    for name in (*Recipe.preset_names(), *(f"astrobench {command}" for command in commands)):
        assert name in README


def test_the_lines_of_python_in_the_readme_run_as_they_stand(tmp_path, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    simulate_night(tmp_path / "MyWorks", target="M 94", frames=8, shape=(480, 272), faults=False)
    monkeypatch.chdir(tmp_path)

    exec(code, {})

    assert (tmp_path / "m94" / "result.png").exists()


def test_every_file_that_the_readme_points_to_exists():
    links = re.findall(r"\]\(([^)#:]+)\)", README) + re.findall(r'src="([^":]+)"', README)

    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_version_is_said_in_one_place_and_has_a_changelog():
    assert version("astrobench") == astrobench.__version__
    assert f"## {astrobench.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


# --- code -------------------------------------------------------------------------------------------
def test_imports_only_run_down():
    command = [Path(sys.executable).with_name("lint-imports"), "--no-logo", "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


def test_every_module_says_first_what_it_is_for():
    silent = [path for path in sources(*CODE) if not path.read_text(encoding="utf-8").startswith('"""')]

    assert silent == []


def test_no_module_is_longer_than_one_idea():
    long = [path for path in sources(*CODE) if len(path.read_bytes().splitlines()) > LONGEST]

    assert long == []


# --- files ------------------------------------------------------------------------------------------
def test_no_large_file_is_kept():
    assert [path for path in tracked() if path.stat().st_size > LARGEST] == []


def test_notebooks_are_kept_without_outputs():
    for path in sorted((ROOT / "notebooks").rglob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = [cell for cell in cells if cell["cell_type"] == "code"]
        assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code), path.name


def test_ci_calls_one_script_that_can_be_run():
    script = ROOT / ".ci" / "run"

    assert ".ci/run" in (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", script], check=True)


def test_the_wheel_holds_library_panels_presets_and_nothing_else(tmp_path):
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()

    tops = {name.partition("/")[0] for name in names}
    assert tops == {"astrobench", "astrobench_widgets", f"astrobench-{astrobench.__version__}.dist-info"}
    presets = {f"astrobench/presets/{name}.toml" for name in Recipe.preset_names()}
    assert {"astrobench/py.typed", *presets} <= set(names)
    assert not [name for name in names if name.endswith((".fit", ".fits", ".nbi", ".nbc", ".pyc"))]


def test_the_library_depends_on_exactly_what_it_imports():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {re.split(r"[<>=~!\[; ]", each)[0] for each in project["dependencies"]}
    packages = packages_distributions()

    imported = {name for path in sources("astrobench") for name in third_party(path)}
    assert {packages[name][0].lower().replace("_", "-") for name in imported} == declared
