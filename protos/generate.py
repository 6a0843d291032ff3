"""Generate the stubs below service/gen from protos/, or check that they are current.

    python protos/generate.py            write them
    python protos/generate.py --check    exit 1 and name what differs

The generated modules register the file as `plugchat/status/v1/status.proto`, the same name a
caller's own stubs give it, so that both live in one process. That takes protoc with `-Iprotos`,
which makes the gRPC stubs import `plugchat.status.v1`; that one import is then mended to ours.
"""

import re
import sys
import tempfile
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

PROTOS = Path(__file__).parent
TARGET = PROTOS.parent / "service" / "gen"
SOURCE = "plugchat/status/v1/status.proto"
_IMPORT = re.compile(r"^(from |import )plugchat\.status\.v1", re.MULTILINE)
PACKAGES = {
    "": '"""Generated from protos/ by `make gen`; never edited."""\n',
    "plugchat": "",
    "plugchat/status": "",
    "plugchat/status/v1": "",
}


def generate(target: Path) -> None:
    """Write every generated file below `target`."""
    target.mkdir(parents=True, exist_ok=True)
    outputs = ("python_out", "grpc_python_out", "mypy_out=quiet:", "mypy_grpc_out=quiet:")
    scripts = Path(sys.executable).parent
    plugins = [f"--plugin={scripts / name}" for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")]
    bundled = resources.files("grpc_tools") / "_proto"
    includes = [f"-I{PROTOS}", f"-I{bundled}"]
    targets = [f"--{name}{'' if name.endswith(':') else '='}{target}" for name in outputs]
    if protoc.main(["protoc", *includes, *plugins, *targets, SOURCE]) != 0:
        sys.exit("protoc failed")
    for path in target.rglob("*_pb2_grpc.py*"):
        text = path.read_text()
        text = _IMPORT.sub(r"\1service.gen.plugchat.status.v1", text)
        text = text.replace(
            "plugchat.status.v1.status_pb2", "service.gen.plugchat.status.v1.status_pb2"
        )
        text = text.replace("service.gen.service.gen.", "service.gen.")
        path.write_text(text)
    for package, docstring in PACKAGES.items():
        (target / package / "__init__.py").write_text(docstring)


def files(folder: Path) -> dict[str, str]:
    """Each generated file's place and text."""
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob("*.py*"))
        if path.suffix in {".py", ".pyi"}
    }


def main() -> None:
    if sys.argv[1:] != ["--check"]:
        generate(TARGET)
        return
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        fresh, committed = files(Path(folder)), files(TARGET)
    stale = sorted(name for name in fresh | committed if fresh.get(name) != committed.get(name))
    if stale:
        sys.exit(f"not what `make gen` writes: {', '.join(stale)}. Run `make gen`.")


if __name__ == "__main__":
    main()
