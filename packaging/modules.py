"""Which of our modules every start needs, read from the sources, so that no list has to be kept by hand.

Hot: everything that `cni_reaper_plugin.__main__` reaches by imports at the top of a module. The bootloader runs these straight
out of the executable, in an order in which each finds what it imports. Cold: the others, imported inside functions.
"""

import ast
from pathlib import Path

PACKAGE = "cni_reaper_plugin"
MAIN = f"{PACKAGE}.__main__"


def sources(root: Path) -> dict[str, Path]:
    """Return module name -> file of every module of the package below `root`."""
    found = {}
    for file in sorted((root / PACKAGE).rglob("*.py")):
        name = ".".join(file.relative_to(root).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = file
    return found


def hot(modules: dict[str, Path]) -> list[str]:
    """Return the hot modules, each behind all that it imports; a package comes before its modules."""
    order: list[str] = []

    def visit(name: str) -> None:
        if name in order:
            return
        parent = name.rpartition(".")[0]
        if parent:
            visit(parent)
        for other in _imports(modules[name], modules):
            visit(other)
        if name not in order:
            order.append(name)

    visit(MAIN)
    return order


def _imports(file: Path, modules: dict[str, Path]) -> list[str]:
    """Return the modules of the package that a file imports at its top, without those for type checkers only."""
    found = []
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name in modules]
        elif isinstance(node, ast.ImportFrom) and node.module in modules:
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [name for name in inside if name in modules] or [node.module]
    return found
