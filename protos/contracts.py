"""Keeps the contracts: generates the stubs from them, and checks what callers rely on.

`generate` rewrites the stubs in kith/ and openapi.yaml. `check` proves that protos are formatted
and pass buf's lint, that they break no caller of their earlier version, and that what is generated
from them is fresh.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet

from protos.openapi import openapi

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
STUBS = ROOT / "kith"
PACKAGES = ("errors", "feed", "graph", "options")
OPENAPI = PROTOS / "openapi.yaml"
RELEASED = PROTOS / "released"
WORKSPACES = ROOT / "build" / "contracts"
SCRIPTS = Path(sysconfig.get_path("scripts"))
SITE_PACKAGES = Path(sysconfig.get_path("purelib"))  # holds google/api, as protos too


def main() -> int:
    """Do the chore named on the command line; the status the process exits with."""
    match sys.argv[1:]:
        case ["generate"]:
            return generate()
        case ["openapi"]:
            OPENAPI.write_text(openapi(compiled()))
            return 0
        case ["release", version]:
            release(version)
            return 0
        case ["check"]:
            checks = (
                is_formatted,
                is_documented,
                keeps_callers_of_the_release,
                keeps_callers_of_main,
                has_fresh_stubs,
                has_fresh_openapi,
            )
            passed = [check() for check in checks]  # all of them, so that one run tells everything
            return 0 if all(passed) else 1
        case _:
            print(
                "usage: python -m protos.contracts generate | check | release VERSION",
                file=sys.stderr,
            )
            return 2


def generate() -> int:
    """Replace the committed stubs and openapi.yaml by those of the protos as they are now."""
    with tempfile.TemporaryDirectory() as folder:
        fresh = write_stubs(Path(folder))
        for package in PACKAGES:
            shutil.rmtree(STUBS / package, ignore_errors=True)
            shutil.copytree(fresh / package, STUBS / package)
    # In a process of its own, which reads the options by the stubs that are new.
    command = [sys.executable, "-m", "protos.contracts", "openapi"]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def release(version: str) -> None:
    """Keep the contracts as they are now as those of a release."""
    now = write_workspace("now", protos_now())
    image = RELEASED / f"{version}.binpb"
    image.parent.mkdir(exist_ok=True)
    kept = ("build", "protos", "--path", "protos/kith", "--exclude-source-info", "-o", str(image))
    if not buf(*kept, folder=now.parent):
        sys.exit(1)


def is_formatted() -> bool:
    """Whether `make format` would leave the protos alone; buf prints what it would change."""
    return buf("format", "--diff", "--exit-code", "protos", folder=ROOT)


def is_documented() -> bool:
    """Whether names, layout and comments follow buf.yaml."""
    now = write_workspace("now", protos_now())
    return buf("lint", "protos", "--path", "protos/kith", folder=now.parent)


def keeps_callers_of_the_release() -> bool:
    """Whether callers built against the last release can call this version."""
    image = max(RELEASED.glob("*.binpb"), key=version_of)
    return breaks_nothing_of(image, name=f"release {image.stem}")


def keeps_callers_of_main() -> bool:
    """Whether callers built against what has landed last can call this version."""
    commit = landed_commit()
    protos = protos_at(commit) if commit else {}
    if not protos:
        print("contracts: nothing has landed to compare with")
        return True
    return breaks_nothing_of(write_workspace("then", protos), name=f"commit {commit}")


def breaks_nothing_of(earlier: Path, *, name: str) -> bool:
    """Whether callers built against an earlier version can call this one."""
    now = write_workspace("now", protos_now())
    if buf("breaking", "protos", "--against", str(earlier), folder=now.parent):
        return True
    print(f"contracts: compared with {name}", file=sys.stderr)
    return False


def has_fresh_stubs() -> bool:
    """Whether the stubs in kith/ are exactly what the protos generate."""
    with tempfile.TemporaryDirectory() as folder:
        fresh = generated_below(write_stubs(Path(folder)))
    committed = generated_below(STUBS)
    stale = sorted(
        name for name in fresh.keys() | committed if fresh.get(name) != committed.get(name)
    )
    for name in stale:
        print(f"kith/{name} is stale: run `make proto`", file=sys.stderr)
    return not stale


def has_fresh_openapi() -> bool:
    """Whether openapi.yaml is exactly what the protos generate."""
    if OPENAPI.read_text() == openapi(compiled()):
        return True
    print("protos/openapi.yaml is stale: run `make proto`", file=sys.stderr)
    return False


def compiled() -> FileDescriptorSet:
    """Return the protos with their comments."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "protos"
        protoc("--include_source_info", "--include_imports", f"--descriptor_set_out={file}")
        return FileDescriptorSet.FromString(file.read_bytes())


def write_stubs(folder: Path) -> Path:
    """Generate the stubs below `folder`; the package they are in."""
    outputs = {
        "python": "",
        "grpc_python": "",
        "mypy": "quiet:",
        "mypy_grpc": "quiet:",  # with the stubs of grpc.aio, whose types are others
    }
    protoc(*(f"--{plugin}_out={options}{folder}" for plugin, options in outputs.items()))
    stubs = folder / "kith"
    for directory in (path for path in stubs.rglob("*") if path.is_dir()):
        (directory / "__init__.py").write_text('"""Generated by `make proto`; never edited."""\n')
    # How clients should behave lies beside the contracts, for those who call from other languages.
    for config in PROTOS.glob("kith/*/v1/*_grpc_service_config.json"):
        shutil.copy(config, folder / config.relative_to(PROTOS))
    return stubs


def protoc(*outputs: str) -> None:
    """Compile all protos; exits when they cannot be."""
    command = [
        *(sys.executable, "-m", "grpc_tools.protoc"),
        *(f"-I{PROTOS.name}", f"-I{SITE_PACKAGES}"),
        *outputs,
        *sorted(protos_now()),
    ]
    path = os.pathsep.join([str(SCRIPTS), os.environ.get("PATH", os.defpath)])
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"PATH": path}, check=False)
    if done.returncode != 0:
        sys.exit(done.returncode)  # protoc has said what is wrong


def texts_below(folder: Path, *patterns: str) -> dict[str, str]:
    """The text of every file that matches, by its path below `folder`."""
    paths = (path for pattern in patterns for path in folder.glob(pattern))
    return {path.relative_to(folder).as_posix(): path.read_text() for path in paths}


def generated_below(folder: Path) -> dict[str, str]:
    """The text of every generated file, by its path below `folder`, which is that of kith/."""
    patterns = ("*.py", "*.pyi", "*.json")
    return texts_below(folder, *(f"{package}/**/{end}" for package in PACKAGES for end in patterns))


def protos_now() -> dict[str, str]:
    """The text of every proto in the working tree, by its path below protos/."""
    return texts_below(PROTOS, "kith/**/*.proto")


def protos_at(commit: str) -> dict[str, str]:
    """The text of every proto in a commit, by its path below protos/."""
    paths = git("ls-tree", "-r", "--name-only", commit, "protos/kith/").splitlines()
    return {path.removeprefix("protos/"): git("show", f"{commit}:{path}") for path in paths}


def landed_commit() -> str:
    """The newest commit of main that this branch has, or "" when there is none.

    Main is as it was fetched last, where it is fetched from somewhere.
    """
    main = git("rev-parse", "--verify", "origin/main") or git("rev-parse", "--verify", "main")
    return git("merge-base", "HEAD", main) if main else ""


def version_of(image: Path) -> tuple[int, ...]:
    """The version of a release, to be ordered by."""
    return tuple(map(int, image.stem.split(".")))


def write_workspace(name: str, protos: Mapping[str, str]) -> Path:
    """Put `protos` where buf finds their imports without a network; the folder they are in.

    Committing copies of google/api would do the same, until they differ from the installed package.
    """
    folder = WORKSPACES / name / "protos"
    shutil.rmtree(folder, ignore_errors=True)
    texts = {
        "buf.yaml": (PROTOS / "buf.yaml").read_text(),
        **texts_below(SITE_PACKAGES, "google/**/*.proto"),
        **protos,
    }
    for file, text in texts.items():
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def buf(*arguments: str, folder: Path) -> bool:
    """Whether buf is content; it prints its own complaints."""
    return subprocess.run([SCRIPTS / "buf", *arguments], cwd=folder, check=False).returncode == 0


def git(*arguments: str) -> str:
    """What git prints, or "" when it refuses."""
    command = ["git", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


if __name__ == "__main__":
    sys.exit(main())
