"""Which of our modules every start needs, read from the sources, so that no list has to be kept by hand.

Hot: everything that `cni_reaper_plugin.__main__` reaches by imports at the top of a module, and then either `plugin.version` or
`plugin.verbs`, one of which plugin/call.py imports. bootstrap.py runs these in an order in which each finds what it imports.
Cold: the others, imported inside functions.
"""

import ast
import importlib.util
import marshal
from pathlib import Path
from types import CodeType

PACKAGE = "cni_reaper_plugin"
MAIN = f"{PACKAGE}.__main__"
VERSION, VERBS = f"{PACKAGE}.plugin.version", f"{PACKAGE}.plugin.verbs"
VERSION_PLACE = b"the freeze puts here the hot modules of VERSION"
VERBS_PLACE = ("the freeze puts here where in the archive the hot modules of all other calls are, and their length",)
COLD_PLACE = b"the freeze puts here where the cold ones are"


def sources(root: Path) -> dict[str, Path]:
    """Return module name -> file of every module of the package below `root`."""
    found = {}
    for file in sorted((root / PACKAGE).rglob("*.py")):
        name = ".".join(file.relative_to(root).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = file
    return found


def hot(modules: dict[str, Path], way: str) -> list[str]:
    """Return the hot modules of one way, VERSION or VERBS: each behind all that it imports, a package before its modules."""
    order: list[str] = []

    def visit(name: str) -> None:
        if name in order:
            return
        parent = name.rpartition(".")[0]
        if parent:
            visit(parent)
        for other in _imports(name, modules):
            visit(other)
        if name not in order:
            order.append(name)

    visit(MAIN)
    visit(way)
    return order


def _imports(name: str, modules: dict[str, Path]) -> list[str]:
    """Return the modules of the package that a module imports at its top, without those for type checkers only."""
    package = name if _is_package(modules[name]) else name.rpartition(".")[0]
    found = []
    for node in ast.parse(modules[name].read_bytes()).body:
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            found += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return [one for one in found if one in modules and one != package]


def marshalled(root: Path, names: list[str]) -> bytes:
    """Return modules of the package below `root` as bootstrap.py runs them, all in one, so that each name is there only once.

    The names of their files are relative to `root`. Of a package that says only what it is there is no code.
    """
    found = sources(root)
    every = []
    for name in names:
        parent, _, own_name = name.rpartition(".")
        code = _compiled(found[name], root) if _does_something(found[name]) else None
        every.append((name, parent, own_name, _is_package(found[name]), code))
    return marshal.dumps(every)


def bootstrap_with(file: Path, version: bytes, verbs: tuple[int, int], cold: bytes) -> CodeType:
    """Compile bootstrap.py with what is its own of an executable in it.

    version: the hot modules of VERSION, `marshalled`; verbs: place and length of the others' in the archive; cold: the cold
    ones' part of the archive's table. Raises ValueError where bootstrap.py has no place for them.
    """
    code = _compiled(file, file.parent)
    given: dict[object, object] = {VERSION_PLACE: version, VERBS_PLACE: verbs, COLD_PLACE: cold}
    if not given.keys() <= {one for one in code.co_consts if isinstance(one, tuple | bytes)}:
        msg = f"{file.name} has no place for the hot modules, or for where the cold ones are"
        raise ValueError(msg)
    return code.replace(co_consts=tuple(given.get(one, one) if isinstance(one, tuple | bytes) else one for one in code.co_consts))


def _does_something(file: Path) -> bool:
    body = ast.parse(file.read_bytes()).body
    return any(not (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant)) for one in body)


def _is_package(file: Path) -> bool:
    return file.name == "__init__.py"


def untyped(source: bytes) -> bytes:
    """Return a module's source without what only a type checker reads: typing's TYPE_CHECKING, and what stands below it.

    Every line keeps its number. PyInstaller's analysis is given this, so that nothing is packed for types only.
    """
    lines = source.split(b"\n")
    for node in ast.parse(source).body:
        if ast.unparse(node) == "from typing import TYPE_CHECKING" or (
            isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not node.orelse
        ):
            lines[node.lineno - 1 : node.end_lineno] = [b""] * ((node.end_lineno or node.lineno) - node.lineno + 1)
    return b"\n".join(lines)


def cold(file: Path, root: Path) -> CodeType:
    """Compile a module that is imported when it is needed: as a hot one, but with what a traceback and dataclasses read."""
    return _unannotated(file, root, _KeepsFields())


class _Unannotated(ast.NodeTransformer):
    """Takes annotations out: nothing reads them at run time, and making them costs a start half a million instructions."""

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.stmt:
        """Leave out what says how annotations are read."""
        return ast.copy_location(ast.Pass(), node) if node.module == "__future__" else node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        """Leave names and defaults."""
        self.generic_visit(node)
        node.returns = None
        return node

    def visit_arg(self, node: ast.arg) -> ast.arg:
        """Leave the name."""
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.stmt:
        """Leave the assignment, if there is one."""
        made = ast.Pass() if node.value is None else ast.Assign([node.target], node.value)
        return ast.copy_location(made, node)


class _KeepsFields(_Unannotated):
    """Leaves the annotations in classes as texts, which is how dataclasses and typing.NamedTuple find their fields."""

    def __init__(self) -> None:
        self._in_class = False

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        """Go through a class's own statements."""
        before, self._in_class = self._in_class, True
        self.generic_visit(node)
        self._in_class = before
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        """Leave names and defaults."""
        before, self._in_class = self._in_class, False
        super().visit_FunctionDef(node)
        self._in_class = before
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.stmt:
        """Leave a field with its annotation as a text, of anything else the assignment."""
        if not self._in_class:
            return super().visit_AnnAssign(node)
        node.annotation = ast.copy_location(ast.Constant(ast.unparse(node.annotation)), node.annotation)
        return node


def _compiled(file: Path, root: Path) -> CodeType:
    return _bare(_unannotated(file, root, _Unannotated()))


def _unannotated(file: Path, root: Path, without: _Unannotated) -> CodeType:
    tree = ast.fix_missing_locations(without.visit(ast.parse(untyped(file.read_bytes()))))
    return compile(tree, str(file.relative_to(root)), "exec", dont_inherit=True, optimize=2)


def _bare(code: CodeType) -> CodeType:
    """Take out what only a traceback would show, and the frozen plugin prints none: lines, and qualified names of functions."""
    constants = (_bare(one) if isinstance(one, CodeType) else one for one in code.co_consts)
    return code.replace(co_linetable=b"", co_qualname=code.co_name, co_consts=tuple(constants))
