"""The installed product: the wheel, made from the sdist, in an empty environment, as an ordinary user."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
from collections.abc import Iterator, Mapping
from email import message_from_bytes
from pathlib import Path
from zipfile import ZipFile

import pytest

from helpers.paths import ROOT
from seqsup import __version__

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

NOBODY = 65534  # the user nobody
PYTHONS = [found for minor in range(11, 16) if (found := shutil.which(f"python3.{minor}", path="/usr/bin"))]
WRITTEN = ("dashboards", "prometheus", "provisioning", "compose.yml")
VERSIONS = [f"3.{minor}" for minor in range(11, 16)]
HOME = Path.home()  # before a test's own
KEPT = ("PIP_", "UV_", "SSL_", "LANG", "SEQSUP_TEST")


def call(*command: object, env: Mapping[str, str] | None = None, cwd: Path = ROOT) -> str:
    ended = subprocess.run(
        [*map(str, command)], env={**os.environ, **(env or {})}, cwd=cwd, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, f"{command}: {ended.stdout}{ended.stderr}"
    assert "Warning" not in ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def dist() -> Iterator[Path]:
    """sdist and wheel of a clean copy of the repository, readable by all users."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        files = subprocess.run(
            ["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, capture_output=True, check=False
        ).stdout
        for file in (Path(os.fsdecode(each)) for each in files.split(b"\0") if each):
            if (ROOT / file).is_file():
                (folder / "source" / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / file, folder / "source" / file)
        built = subprocess.run(
            [sys.executable, "-m", "build", "--outdir", str(folder / "dist"), str(folder / "source")],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if "No matching distribution" in built.stdout + built.stderr:
            pytest.skip("no package index can be reached")
        assert built.returncode == 0, built.stdout + built.stderr
        yield folder / "dist"


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    return next(dist.glob("*.whl"))


def test_the_wheel_has_all_that_the_package_has(wheel: Path) -> None:
    package = ROOT / "supervisor" / "seqsup"
    there = {path.relative_to(package.parent).as_posix() for path in package.rglob("*") if path.is_file()}
    there = {path for path in there if "__pycache__" not in path}
    inside = set(ZipFile(wheel).namelist())
    assert there <= inside
    assert "seqsup/py.typed" in inside
    assert any(path.endswith("share/man/man1/seqsup.1") for path in inside)
    assert any(path.endswith("share/seqsup/grafana/dashboards/seqsup-memory.json") for path in inside)
    assert f"seqsup-{__version__}-py3" in wheel.name


def test_the_sdist_has_what_tests_and_profiles_need(dist: Path) -> None:
    with tarfile.open(next(dist.glob("*.tar.gz"))) as sdist:
        inside = {path.partition("/")[2] for path in sdist.getnames()}
    wanted = [
        "profiles/demo.toml",
        "profiles/agents/works.mjs",
        "tests/conftest.py",
        "docs/reference/cli.md",
        "man/seqsup.1",
    ]
    wanted += ["grafana/make.py", "grafana/dashboard-top.png", "benchmarks/lab.py"]
    assert set(wanted) <= inside


def test_pypi_takes_both_and_shows_a_page_without_relative_links(dist: Path, wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "env", with_pip=True)
    call(tmp_path / "env/bin/pip", "install", "--quiet", "twine>=6.1")  # older ones refuse License-Expression
    call(tmp_path / "env/bin/twine", "check", "--strict", *dist.iterdir())
    (name,) = [name for name in ZipFile(wheel).namelist() if name.endswith(".dist-info/METADATA")]
    told = message_from_bytes(ZipFile(wheel).read(name))
    description = str(told.get_payload())
    assert told["Description-Content-Type"] == "text/markdown"
    assert description.startswith("# seqsup\n")
    links = re.findall(r"\]\(([^)]*)\)", description)
    assert len(links) > 15
    assert [link for link in links if not link.startswith("https://")] == []
    assert told["Author"]
    assert told["Keywords"]
    assert {each.partition(",")[0] for each in told.get_all("Project-URL", [])} >= {"Homepage", "Issues", "Source"}


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder of the ordinary user's."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if os.geteuid() == 0:
            os.chown(folder, NOBODY, NOBODY)
        yield folder


def as_user(home: Path, *command: object) -> str:
    become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"] if os.geteuid() == 0 else []
    kept = {name: value for name, value in os.environ.items() if name.startswith(KEPT)}
    env = {"HOME": str(home), "PATH": f"{home}/.local/bin:/usr/local/bin:/usr/bin:/bin", **kept}
    ended = subprocess.run(
        [*become, *map(str, command)], env=env, cwd=home, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert ended.returncode == 0, f"{command}: {ended.stdout}{ended.stderr}"
    return ended.stdout


def files_of(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("python", PYTHONS)
def test_an_ordinary_user_installs_it_and_runs_the_demonstration(python: str, wheel: Path, home: Path) -> None:
    as_user(home, python, "-m", "venv", home / "env")
    node = "" if shutil.which("node", path="/usr/local/bin:/usr/bin:/bin") else "[node]"
    as_user(home, home / "env/bin/pip", "install", "--quiet", "--no-cache-dir", f"{wheel}{node}")
    own = home / "env/bin/seqsup"
    assert as_user(home, own, "--version") == f"seqsup {__version__}\n"
    assert as_user(home, home / "env/bin/python", "-m", "seqsup", "--version") == f"seqsup {__version__}\n"
    assert json.loads(as_user(home, own, "schema"))["title"] == "seqsup profile"
    as_user(home, own, "grafana")
    assert files_of(home / "grafana") == {file for file in files_of(ROOT / "grafana") if file.parts[0] in WRITTEN}
    write_examples(home, own)
    assert "FAIL" not in as_user(home, own, "doctor")
    lines = as_user(home, own, "start", "demo/demo.toml", "--json").splitlines()
    assert json.loads(lines[-1])["completed"] == 7
    assert "7 of 7 completed" in as_user(home, own, "status")
    assert (home / "env/share/man/man1/seqsup.1").exists()


def write_examples(home: Path, own: Path) -> None:
    """Write each example to a folder of its own, and plan it."""
    for name in ("claude", "gemini", "npx"):
        as_user(home, "mkdir", "-p", ".local/bin")
        as_user(home, "ln", "-sf", "/bin/true", f".local/bin/{name}")
    names = [line.split()[0] for line in as_user(home, own, "init", "--example").splitlines()]
    assert names == sorted(file.stem for file in (ROOT / "profiles").glob("*.toml"))
    for name in names:
        as_user(home, own, "init", name, "--example", name)
        assert f"{name}  " in as_user(home, own, "plan", f"{name}/{name}.toml", "--task", "the login page")
    assert {file for name in names for file in files_of(home / name)} == files_of(ROOT / "profiles")


def interpreter(version: str) -> str | None:
    """Return a Python of that version: the system's, that of python/install, or one of pyenv's. Links of pyenv on PATH
    only work for the chosen one.
    """
    root = Path(os.environ.get("PYENV_ROOT") or HOME / ".pyenv")
    versions = sorted(map(str, root.glob(f"versions/{version}.*/bin/python{version}")))
    path = f"/usr/local/bin:/usr/bin:{HOME}/.cache/seqsup-python/usr/bin"
    return shutil.which(f"python{version}", path=path) or (versions[-1] if versions else None)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_python_that_is_here_runs_it(version: str, wheel: Path, tmp_path: Path) -> None:
    python = interpreter(version)
    if python is None:
        pytest.skip(f"there is no Python {version} here")
    call(python, "-m", "venv", tmp_path / "env")
    call(tmp_path / "env/bin/pip", "install", "--quiet", wheel)
    (tmp_path / "smallest.toml").write_text('[[agents]]\nname = "a"\ncommand = ["true"]\n')
    state = {"XDG_STATE_HOME": str(tmp_path / "state"), "PYTHONPATH": "", "PYTHONWARNINGS": "error"}
    call(tmp_path / "env/bin/seqsup", "start", "smallest.toml", env=state, cwd=tmp_path)
    assert "1 of 1 completed" in call(tmp_path / "env/bin/seqsup", "status", env=state, cwd=tmp_path)


@pytest.mark.parametrize("tool", ["uv", "pipx"])
def test_tools_that_install_programs_install_it_and_then_node(tool: str, wheel: Path, home: Path) -> None:
    as_user(home, PYTHONS[0], "-m", "venv", home / "tools")
    as_user(home, home / "tools/bin/pip", "install", "--quiet", "--no-cache-dir", tool)
    words = ["uv", "tool", "install", "--python", PYTHONS[0]] if tool == "uv" else ["pipx", "install"]
    as_user(home, home / "tools/bin" / words[0], *words[1:], wheel)
    own = home / ".local/bin/seqsup"
    assert as_user(home, own, "--version") == f"seqsup {__version__}\n"
    remedy = checks(home, own)["node"]["remedy"]
    assert remedy.startswith({"uv": "uv tool install --with ", "pipx": "pipx inject "}[tool])
    as_user(home, "env", f"PATH={home}/tools/bin:/usr/bin:/bin", "sh", "-c", remedy)
    assert "packaged one is used" in checks(home, own)["node"]["finding"]


def checks(home: Path, own: Path) -> dict[str, dict[str, str]]:
    """Return the checks of doctor on a machine without Node."""
    told = json.loads(as_user(home, *without_node(home), own, "doctor", "--json"))
    return {check["what"]: check for check in told["checks"]}


def without_node(home: Path) -> list[str]:
    (home / "bin").mkdir(exist_ok=True)
    for tool in ("sh", "setpriv"):
        if not (home / "bin" / tool).exists():
            (home / "bin" / tool).symlink_to(shutil.which(tool) or tool)
    return ["env", f"PATH={home}/bin"]


def test_types_are_shipped(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env/bin/python"
    call(python, "-m", "pip", "install", "--quiet", wheel, "mypy")
    uses = tmp_path / "uses.py"
    uses.write_text(
        "from seqsup.units import parse_size\nfrom seqsup.model.plan import Plan\nreveal_type(parse_size('1G'))\n"
    )
    told = call(python, "-m", "mypy", "--strict", uses, cwd=tmp_path, env={"PYTHONPATH": ""})
    assert 'Revealed type is "int"' in told or "builtins.int" in told
    uses.write_text("from seqsup.units import parse_size\nx: str = parse_size('1G')\n")
    checked = subprocess.run([python, "-m", "mypy", uses], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert "Incompatible types in assignment" in checked.stdout


def test_node_can_be_installed_with_seqsup_and_npx_works(wheel: Path, home: Path) -> None:
    as_user(home, PYTHONS[0], "-m", "venv", home / "env")
    as_user(home, home / "env/bin/pip", "install", "--quiet", "--no-cache-dir", f"{wheel}[node]")
    own = [*without_node(home), home / "env/bin/seqsup"]
    as_user(home, *own, "run", "--", "npx", "--version")
    assert re.search(r"^\d+\.\d+\.\d+$", as_user(home, *own, "logs", "npx"), re.MULTILINE)
