"""Generates `pool_protocol/v1` from `proto/`: the only way that the stubs are made.

Usage: `python scripts/generate_protocol.py [--out DIR]`. With `--out` the stubs go below that
directory instead of the repository, which is how `make check` finds stale ones.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path("pool_protocol") / "v1"


def generate(out: Path) -> list[Path]:
    """Writes the stubs below `out` and returns their paths, sorted."""
    target = out / PACKAGE
    if target.exists():
        shutil.rmtree(target)
    target.mkdir(parents=True)
    protos = sorted((ROOT / "proto" / PACKAGE).glob("*.proto"))
    binaries = Path(sys.executable).parent
    command = [
        sys.executable,
        "-m",
        "grpc_tools.protoc",
        f"-I{ROOT / 'proto'}",
        f"--plugin=protoc-gen-mypy={binaries / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={binaries / 'protoc-gen-mypy_grpc'}",
        f"--python_out={out}",
        f"--grpc_python_out={out}",
        f"--mypy_out={out}",
        f"--mypy_grpc_out={out}",
        *(str(p) for p in protos),
    ]
    subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    for stub in target.glob("*_pb2_grpc.py*"):
        proto = ROOT / "proto" / PACKAGE / (stub.name.split("_pb2_grpc")[0] + ".proto")
        if "\nservice " not in proto.read_text():
            stub.unlink()
    (target / "__init__.py").write_text(
        '"""Generated protobuf and gRPC stubs; made by scripts/generate_protocol.py."""\n'
    )
    return sorted(target.iterdir())


def main() -> None:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT, help="directory to generate below")
    arguments = parser.parse_args()
    for path in generate(arguments.out.resolve()):
        print(path.name)


if __name__ == "__main__":
    main()
