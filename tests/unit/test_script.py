"""The script `python3 supervisor`: what it says about the machine on which the tests run."""

import os
import runpy
import subprocess
from typing import Any

import pytest

from helpers.paths import ROOT


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The script's names, on an idle machine with two cores."""
    names: dict[str, Any] = runpy.run_path(str(ROOT / "supervisor/__main__.py"))["main"].__globals__
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(os, "getloadavg", lambda: (0.5, 1.0, 40.0))
    monkeypatch.setitem(names, "waited", lambda resource: 0.0)
    return names


def test_warning_says_load_and_cores(script: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    script["warn_if_busy"](6.0)
    assert capsys.readouterr().err == ""
    script["warn_if_busy"](40.0)
    assert capsys.readouterr().err.startswith("seqsup: load 40 on 2 cores: timeouts mean little. ")


def test_warning_says_for_what_processes_waited(
    script: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(script, "waited", {"memory": 62.4, "io": 3.0}.__getitem__)
    script["warn_if_busy"](0.0)
    assert capsys.readouterr().err.startswith("seqsup: processes waited for memory 62 % of the last minute: timeouts")


def test_warning_comes_after_a_failed_test_too(
    script: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for code, warned in ((0, False), (1, True), (5, False)):
        monkeypatch.setattr(subprocess, "call", lambda command, code=code: code)
        assert script["pytest"]("-q") == code
        assert ("load 40 on 2 cores" in capsys.readouterr().err) == warned


def test_share_is_zero_where_the_kernel_does_not_say() -> None:
    waited = runpy.run_path(str(ROOT / "supervisor/__main__.py"))["waited"]
    assert 0 <= waited("memory") <= 100
    assert waited("no-such-resource") == 0
