"""What a sweep meets in the world: no network, lost packets, a full disk, a read-only one, a clock moved back.

    sudo .venv/bin/python scripts/adversity.py [disk] [clock] [network]

Each is made for real, in namespaces of its own (Linux, as root; the clock with the program `faketime`). Whatever fails
must say so in one line, and the same command must finish, with the same numbers, once the world is well again.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from experiments.records.folder import RESULT, RunFolder, stable

OPTIONS = ("model.hidden_sizes=[16]", "data.source=synthetic", "optim.learning_rate=0.01", "norm=none,layer")
SWEEP = [sys.executable, "-m", "experiments.run", "-m", *OPTIONS, "seed=range(0,10)", "updates=300", "evaluations=50"]
DATA = [sys.executable, "-m", "data"]
# A network device that swallows whatever is sent.
SWALLOW = """
ip link set lo up; ip link add v0 type veth peer name v1; ip link set v0 up; ip link set v1 up
ip addr add 10.9.9.2/24 dev v0; ip route add default via 10.9.9.1; ip neigh add 10.9.9.1 lladdr 02:00:00:00:00:01 dev v0
"""
LATER = "the records are whole, layernorm mirror shows them later"
ONLINE = {"WANDB_MODE": "online", "WANDB_API_KEY": "0" * 40}


def told(
    name: str,
    command: list[str],
    *,
    within: str = "",
    prefix: tuple[str, ...] = (),
    environment: Mapping[str, str] | None = None,
) -> tuple[int, str]:
    """Run a command, after the shell commands `within` in network and mount namespaces of its own."""
    if within:
        prefix = ("unshare", "--net", "--mount", "bash", "-c", f'{within}\nexec "$@"', "bash", *prefix)
    began = time.monotonic()
    done = subprocess.run(
        [*prefix, *command], cwd=ROOT, env=os.environ | dict(environment or {}), capture_output=True, text=True
    )
    errors = [line for line in done.stderr.splitlines() if not line.startswith(("downloading", "running"))]
    print(f"{name}: exit code {done.returncode} after {time.monotonic() - began:.0f} s; {errors[0] if errors else ''}")
    return done.returncode, done.stderr


def numbers(results: Path) -> dict[str, Any]:
    records = [RunFolder(path.parent).record() for path in results.rglob(RESULT)]
    return {record["run"]: stable(record) for record in records if record}


def one_error(code: int, text: str, *expected: str) -> None:
    errors = [line for line in text.splitlines() if line.startswith("error: ")]
    assert code != 0 and len(errors) == 1 and "Traceback" not in text, text
    assert any(part in errors[0] for part in expected), errors


def network(base: Path, well: dict[str, Any]) -> None:
    for name, within in (("no network", ":"), ("lost packets", SWALLOW)):
        results = base / name.replace(" ", "-")
        code, _ = told(f"{name}, wandb offline", [*SWEEP, f"results={results}"], within=within)
        assert code == 0 and numbers(results) == well
        shutil.rmtree(results)
        code, text = told(f"{name}, wandb online", [*SWEEP, f"results={results}"], within=within, environment=ONLINE)
        assert code == 0 and numbers(results) == well and text.count(LATER) == 1, text
        cache = {"LAYERNORM_DATA": str(base / "no-data"), "XDG_CACHE_HOME": str(base), "npm_config_cache": str(base)}
        code, text = told(f"{name}, no data yet", DATA, within=within, environment=cache)
        assert code != 0 and text.count("cannot fetch") == 2 and "Traceback" not in text, text
        shutil.rmtree(base / "no-data", ignore_errors=True)


def disk(base: Path, well: dict[str, Any]) -> None:
    mounted = base / "disk"
    mounted.mkdir()
    command = [*SWEEP, f"results={mounted}", "tracking=none"]
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", mounted], check=True)
    try:
        one_error(*told("a full disk", command), "No space left on device")
        before = numbers(mounted)
        subprocess.run(["mount", "-o", "remount,size=50M", mounted], check=True)
        code, text = told("with room again", command)
        assert code == 0 and before and f"{len(before)} found done" in text and numbers(mounted) == well, text
        subprocess.run(["mount", "-o", "remount,ro", mounted], check=True)
        one_error(*told("a read-only disk", [*command, "seed=range(0,11)"]), "Read-only file system")
        assert numbers(mounted) == well
    finally:
        subprocess.run(["umount", mounted], check=True)


def clock(base: Path, well: dict[str, Any]) -> None:
    if not shutil.which("faketime"):
        return print("a clock moved back: not tried, for the program faketime is missing")
    results = base / "clock"
    command = [*SWEEP, f"results={results}", "tracking=none"]
    assert told("the clock as it is, half the seeds", [*command, "seed=range(0,5)"])[0] == 0
    code, text = told("the clock three days back", command, prefix=("faketime", "-f", "-3d"))
    assert code == 0 and "10 found done" in text and numbers(results) == well, text


ADVERSITIES = {"disk": disk, "clock": clock, "network": network}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", help=f"{', '.join(ADVERSITIES)} (all, if none is named)")
    kinds = parser.parse_args().kinds or list(ADVERSITIES)
    if unknown := set(kinds) - ADVERSITIES.keys():
        parser.error(f"there is no {', '.join(sorted(unknown))}; choose from {', '.join(ADVERSITIES)}")
    if os.geteuid() != 0 or not shutil.which("unshare"):
        sys.exit("error: namespaces and mounts need Linux and root")
    base = Path(tempfile.mkdtemp(prefix="adversity-"))
    try:
        assert told("a world that is well", [*SWEEP, f"results={base / 'well'}", "tracking=none"])[0] == 0
        well = numbers(base / "well")
        for kind in kinds:
            ADVERSITIES[kind](base, well)
    finally:
        shutil.rmtree(base)


if __name__ == "__main__":
    main()
