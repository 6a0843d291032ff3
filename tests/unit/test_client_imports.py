"""What the client imports: what every caller has, and nothing else."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

CLIENT = Path(__file__).parents[2] / "service" / "client"
ALLOWED = ("grpc", "google.protobuf", "service.client", "service.gen")


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", sorted(CLIENT.glob("*.py")), ids=lambda path: str(path.name))
def test_only_grpcio_and_protobuf(path: Path) -> None:
    """The standard library, grpcio, protobuf and the generated code; import-linter can't say it."""
    foreign = [
        name
        for name in _imported(ast.parse(path.read_text()))
        if name.split(".")[0] not in sys.stdlib_module_names
        and not any(f"{name}.".startswith(f"{allowed}.") for allowed in ALLOWED)
    ]

    assert foreign == []
