from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest

import vocalsep

PACKAGE = Path(vocalsep.__file__).parent

LAYERS = (
    {"errors", "release", "cores", "text"},
    {"shapes", "files", "latency", "runs"},
    {"library", "manifests", "remote"},
    {"plots", "claims"},
    {"kinds"},
    {"config"},
    {"audio", "stft", "masks"},
    {"features", "listening"},
    {"nets"},
    {"backends"},
    {"interchange", "means"},
    {"weights"},
    {"extraction", "datasets"},
    {"training", "evaluation", "live", "batches"},
    {"metrics", "cluster"},  # public names
    {"vocalsep"},  # the lazy public names
    {"cli"},
    {"__main__", "yt_dlp_plugins"},
)


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__") or "vocalsep"


def is_published_code(path: Path) -> bool:
    return "__pycache__" not in path.parts


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py")) if is_published_code(path)}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


@functools.cache
def imports(name: str) -> set[str]:
    """Modules of the package that a module imports when it runs, also those inside functions."""
    found: set[str] = set()
    waiting: list[ast.AST] = [TREES[name]]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            waiting += node.orelse
            continue
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            found |= {_inside(alias.name) for alias in node.names if alias.name.split(".")[0] == "vocalsep"}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: write imports of the package in full"
            if node.module and node.module.split(".")[0] == "vocalsep":
                module = _inside(node.module)
                prefix = "" if module == "vocalsep" else f"{module}."
                found |= {f"{prefix}{a.name}" if f"{prefix}{a.name}" in MODULES else module for a in node.names}
    return found - {name}


def _inside(dotted: str) -> str:
    return dotted.removeprefix("vocalsep").removeprefix(".") or "vocalsep"


def layer(name: str) -> int:
    top = name.split(".")[0]
    found = [level for level, names in enumerate(LAYERS) if top in names]
    assert found, f"{name}: which layer is it in? See docs/design.md, and LAYERS here"
    return found[0]


@pytest.mark.parametrize("name", MODULES)
def test_imports_run_one_way(name: str) -> None:
    for other in imports(name):
        tops = name.split(".")[0], other.split(".")[0]
        allowed = layer(other) < layer(name) or tops[0] == tops[1]
        assert allowed, f"{name} imports {other}, which is not below it"


def test_imports_make_no_circle() -> None:
    below = {name: imports(name) for name in MODULES}
    while below:
        free = {name for name, needs in below.items() if not needs}
        assert free, f"these import each other: {sorted(below)}"
        below = {name: needs - free for name, needs in below.items() if name not in free}


def test_the_map_of_imports_sees_what_is_there() -> None:
    assert {"stft", "weights", "features"} <= imports("extraction.masking")
    assert "release" in imports("cli")
    assert "extraction" in imports("batches.work")
    assert imports("vocalsep") == {"release"}


def package(name: str) -> str:
    """The top-level package that a module lies in; the module itself where it lies in none."""
    return name.split(".")[0]


@pytest.mark.parametrize("name", sorted(set(MODULES) - {"vocalsep", "__main__"}))
def test_no_module_has_a_single_foreign_user(name: str) -> None:
    users = {package(user) for user in MODULES if name in imports(user)}
    allowed = {package(name), "cli", "cluster", "vocalsep", "__main__"}  # commands and public names sit on top
    if package(name) == "backends":
        allowed.add("extraction")  # which is what backends are for
    assert len(users) != 1 or users <= allowed, f"{name} belongs on the shelf of its only user, {users}"


@pytest.mark.parametrize("name", MODULES)
def test_every_module_can_be_read_in_one_sitting(name: str) -> None:
    lines = len(MODULES[name].read_text(encoding="utf-8").splitlines())
    assert lines <= 400


@pytest.mark.parametrize("name", MODULES)
def test_every_module_and_public_name_has_a_docstring(name: str) -> None:
    tree = TREES[name]
    bare = [] if ast.get_docstring(tree) else ["the module"]
    waiting: list[tuple[str, ast.stmt]] = [("", node) for node in tree.body]
    while waiting:
        prefix, node = waiting.pop()
        if not isinstance(node, ast.ClassDef | ast.FunctionDef) or node.name.startswith("_"):
            continue
        if not ast.get_docstring(node):
            bare.append(prefix + node.name)
        if isinstance(node, ast.ClassDef):
            waiting += [(f"{prefix}{node.name}.", inner) for inner in node.body]
    assert not bare


@pytest.mark.parametrize("name", sorted(name for name in MODULES if name != "__main__" and name.split(".")[0] != "cli"))
def test_libraries_never_print_exit_or_set_global_switches(name: str) -> None:
    forbidden = {"print", "exit", "input", "set_num_threads", "set_default_dtype", "set_grad_enabled"}
    calls = [ast.unparse(node.func) for node in ast.walk(TREES[name]) if isinstance(node, ast.Call)]
    assert not [call for call in calls if call.split(".")[-1] in forbidden]
