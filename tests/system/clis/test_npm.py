"""The programs that other tests get from npm are there and what they say they are."""

import subprocess
from pathlib import Path

import pytest

from helpers.npm import MCP_SERVERS, bin_folder, each_node, mcp_server


@each_node
def test_a_node_is_of_its_version(node: Path, request: pytest.FixtureRequest) -> None:
    told = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    wanted = request.node.callspec.params["node"]
    assert told.startswith("v" if wanted == "path" else f"v{wanted}.")


@pytest.mark.long
@pytest.mark.parametrize("name", MCP_SERVERS)
def test_an_mcp_server_is_a_script(name: str) -> None:
    assert mcp_server(name).read_text().startswith("#!/usr/bin/env node")


@pytest.mark.parametrize("name", ["tsx"])
def test_a_command_is_linked(name: str) -> None:
    assert (bin_folder(name) / name).exists()
