"""The page on PyPI is made from README.md; all else about the package is in pyproject.toml."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent
RAW = "https://raw.githubusercontent.com"


def page(readme: str, repository: str, version: str) -> str:
    """Return README.md for a reader without a clone: absolute links, and seqsup installed by its name.

    `repository` is its address on GitHub. Links lead to the files of this version's tag.
    """
    text = re.sub(r"<!-- clone -->.*?<!-- end -->\n*", "", readme, flags=re.DOTALL)
    text = re.sub(r"(install '?)\.", r"\1seqsup", text)
    files = repository.replace("https://github.com", RAW)
    text = re.sub(r"(!\[[^\]]*\]\()(?!https?:)", rf"\g<1>{files}/{version}/", text)
    return re.sub(r"(\]\()(?!https?:|#)", rf"\g<1>{repository}/blob/{version}/", text)


if __name__ == "__main__":  # not in a test: its environment need not have setuptools
    from setuptools import setup

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (version,) = re.findall(r'^__version__ = "(.+)"$', (ROOT / "supervisor/seqsup/__init__.py").read_text(), re.M)
    setup(
        long_description=page((ROOT / "README.md").read_text(), project["urls"]["Homepage"], version),
        long_description_content_type="text/markdown",
    )
