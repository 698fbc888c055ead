"""The import direction of the house, read from the source: nothing is imported to find out."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "lorikeet"
SHELVES = (
    {"errors"},
    {"conversation", "chat_template", "artifact", "weights", "progress", "machine", "yaml_file", "process", "processes", "supervisor", "page", "journal"},
    {"bases", "patterns", "statistics"},
    {"storage"},
    {"scoring"},
    {"suite", "evidence", "sickness", "private"},
    {"recipe", "memory", "comparison"},
    {"engine"},
    {"exam", "diagnosis"},
    {"released", "report", "diff", "rerun", "judge", "picks", "doctor", "tidy"},
    {"subjects"},
    {"data", "train", "evaluate", "export", "audit", "feedback", "publish", "serve", "terminal_chat"},
    {"steps"},
    {"crew"},
    {"pipeline", "compare", "cluster"},
    {"sweep", "retrain"},
    {"search"},
    {"arguments"},
    {"commands"},
    {"cli"},
    {"__main__"},
)
"""A module or folder may import from lower shelves, and from its own unless it is a stage."""
STAGES = SHELVES[11]
HEAVY = {"torch", "transformers", "peft", "trl", "gradio", "xllamacpp", "datasets"}
LIGHT = {name for shelf in SHELVES[:7] for name in shelf} | {"exam", "steps", "crew", "pipeline", "arguments", "cli", "__init__", "__main__"}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def unit_of(path: Path) -> str:
    """The module, or the folder of the package, that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def shelf_of(unit: str) -> int:
    found = next((number for number, shelf in enumerate(SHELVES) if unit in shelf), None)
    assert found is not None, f"lorikeet/{unit} stands on no shelf: give it a place in SHELVES and in the design"
    return found


def imported(node: ast.AST, path: Path) -> set[str]:
    """Full names that an import statement names."""
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"{path} imports relatively"
        return {f"{node.module}.{alias.name}" for alias in node.names}
    return set()


def units_imported(path: Path) -> set[str]:
    """Modules and folders of the package that a file imports anywhere, late imports included."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {name for node in ast.walk(tree) for name in imported(node, path)}
    units = {name.split(".")[1] for name in names if name.startswith("lorikeet.")}
    return {unit for unit in units if (PACKAGE / unit).is_dir() or (PACKAGE / f"{unit}.py").is_file()}


def imported_at_once(path: Path) -> set[str]:
    """Top-level packages that are imported when the file is: not inside a function, nor for type checkers only."""
    found: set[str] = set()

    def look(body: list[ast.stmt]) -> None:
        for node in body:
            found.update(name.split(".")[0] for name in imported(node, path))
            if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
                look(node.orelse)
                continue
            for part in ("body", "orelse", "finalbody"):
                if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    look([n for n in getattr(node, part, []) if isinstance(n, ast.stmt)])

    look(ast.parse(path.read_text(encoding="utf-8")).body)
    return found


def name(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


@pytest.mark.parametrize("path", modules(), ids=name)
def test_imports_point_down(path: Path) -> None:
    unit = unit_of(path)
    if unit == "__init__":
        assert units_imported(path) == set()
        return
    above = {other for other in units_imported(path) - {unit} if shelf_of(other) > shelf_of(unit)}
    assert not above, f"{name(path)} imports from above: {sorted(above)}"


@pytest.mark.parametrize("path", [p for p in modules() if unit_of(p) in STAGES], ids=name)
def test_stages_never_import_each_other(path: Path) -> None:
    others = (units_imported(path) & STAGES) - {unit_of(path)}
    assert not others, f"{name(path)} imports the stages {sorted(others)}"


@pytest.mark.parametrize("path", [p for p in modules() if unit_of(p) in LIGHT], ids=name)
def test_what_everybody_imports_imports_nothing_heavy(path: Path) -> None:
    assert not imported_at_once(path) & HEAVY


def test_modules_of_one_shelf_do_not_import_in_a_circle() -> None:
    needs = {unit: set[str]() for shelf in SHELVES for unit in shelf}
    for path in modules():
        if unit_of(path) != "__init__":
            needs[unit_of(path)] |= units_imported(path) - {unit_of(path)}
    while free := {unit for unit, others in needs.items() if not others & needs.keys()}:
        needs = {unit: others for unit, others in needs.items() if unit not in free}
    assert not needs


@pytest.mark.parametrize("module", ["lorikeet", "lorikeet.pipeline", "lorikeet.cli"])
def test_importing_the_front_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert done.stdout.split() == []


@pytest.mark.slow
def test_no_library_tells_anybody_that_it_was_used() -> None:
    code = """
import lorikeet.train.sft, lorikeet.serve.app, gradio, huggingface_hub
assert huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY
assert not gradio.analytics.analytics_enabled()
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, cwd=PACKAGE.parent)
