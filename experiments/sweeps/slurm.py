"""Tasks on a cluster, through submitit: what is asked of Slurm, what a task does, how an array of them is doing.

    <results>/slurm/<name>/      <name>: a hash of the sweep, so the same command finds the array it has submitted
        token                    of the last array; the name of all its tasks as one sweep
        <token>.pkl              the configurations
        <job>_<task>_...         submitit's: the task as a pickle, its log

These pickles are the user's own, written and read with the user's rights, like the code itself.
"""

import io
import pickle
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

from experiments.records import files

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)  # by which Slurm announces the end, to every process
LOG_LINES = 6
WARNING = b"warning: "  # what a line says that whoever watches should see


class ClusterError(files.SuiteError):
    """A cluster that is not there, or does not take what was asked for."""


@dataclass
class Options:
    """What is asked of the cluster, which decides where there is null."""

    # slurm, or local: the same tasks as processes of this machine, for trying it out.
    cluster: str = field(default="slurm", metadata={"choices": ("slurm", "local")})
    partition: str | None = None  # of the cluster
    account: str | None = None  # that pays
    # after which a task goes back into the queue. Slurm says so 90 seconds before the end, or up to a minute earlier.
    time_minutes: int = field(default=60, metadata={"minimum": 3})
    memory_gb: float | None = None  # of a task
    cpus: int = 4  # of a task; without GPU that many runs at a time, unless n_jobs says otherwise
    gpus: int = field(default=0, metadata={"minimum": 0})  # of a task, for device=cuda: as many as a run has ranks
    runs_per_task: int = 16  # the array gets a task for so many missing runs ...
    tasks: int = 32  # ... but not more than this
    requeues: int = field(default=20, metadata={"minimum": 0})  # how often a task that is out of time goes back
    additional: dict[str, Any] = field(default_factory=dict)  # more for sbatch: +hydra.launcher.additional.qos=long


@dataclass
class Task:
    """One task of an array, as submitit stores it: a whole sweep, which the locks of the runs divide among all tasks.

    Nothing here imports torch before it is called: a task must soon be ready for the signal that announces its end.
    """

    configurations: Path
    n_jobs: int
    share: tuple[int, int]
    token: str

    def __call__(self) -> None:
        from experiments.sweeps import arms
        from experiments.training import processes
        from models.kernels import library

        with processes.ignored(*SIGNALS):  # by all workers: they end with the task, not where the end is announced
            processes.server()
        configs = pickle.loads(self.configurations.read_bytes())
        if any(config.device != "cuda" and config.kernel != "reference" for config in configs):
            library.provide()  # this node's processor may be another than that of the node where they were compiled
        arms.run_arms(configs, n_jobs=self.n_jobs, share=self.share, token=self.token)

    def checkpoint(self) -> Any:
        """What goes back into the queue when the end is announced: the same; the runs have their own checkpoints."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class Array:
    """The tasks of one sweep on the cluster; `token` is empty before any has been submitted."""

    def __init__(self, options: Options, folder: Path) -> None:
        self.options, self.folder = options, folder
        self.jobs: list[Any] = []
        self.read: dict[Path, int] = {}  # how many bytes of each log
        self.warned: set[str] = set()
        self.token = (folder / "token").read_text() if (folder / "token").exists() else ""

    def submit(self, configs: Sequence[Any], count: int, n_jobs: int) -> None:
        """Submit an array of `count` tasks; raises ClusterError with what sbatch says where it refuses."""
        executor, self.token = self.executor(), uuid4().hex
        configurations = self.folder.resolve() / f"{self.token}.pkl"
        files.make_folder(self.folder)
        configurations.write_bytes(pickle.dumps(list(configs)))
        files.write(self.folder / "token", self.token)
        tasks = [Task(configurations, n_jobs, (index, count), self.token) for index in range(count)]
        try:
            with redirect_stderr(io.StringIO()):  # submitit prints what it then raises
                self.jobs = executor.submit_array(tasks)
        except RuntimeError as error:
            lines = [line.removeprefix("sbatch: ").removeprefix("error: ") for line in str(error).splitlines()]
            raise ClusterError("sbatch: " + "; ".join(line for line in lines if line)) from error

    def check(self) -> None:
        """Raise ClusterError where nothing can be submitted."""
        if find_spec("submitit") is None:
            raise ClusterError("hydra/launcher=slurm needs submitit: make setup, or pip install submitit")
        if self.options.cluster == "slurm" and not (shutil.which("sbatch") and shutil.which("srun")):
            raise ClusterError("no sbatch here: log in to the cluster, or try hydra.launcher.cluster=local")

    def executor(self) -> Any:
        import submitit

        options, cluster = self.options, self.options.cluster
        requeues: dict[str, Any] = {f"{cluster}_max_num_timeout": options.requeues}
        executor = submitit.AutoExecutor(self.folder, cluster=cluster, **requeues)
        executor.update_parameters(
            name=self.folder.name,
            timeout_min=options.time_minutes,
            mem_gb=options.memory_gb,
            cpus_per_task=options.cpus,
            gpus_per_node=options.gpus or None,
            stderr_to_stdout=True,
            slurm_partition=options.partition,
            slurm_account=options.account,
            # Since Slurm 22.05 srun does not take over the number of CPUs from sbatch.
            slurm_srun_args=[f"--cpus-per-task={options.cpus}"],
            slurm_additional_parameters={"requeue": True, **options.additional},
        )
        return executor

    def states(self) -> Counter[str] | None:
        """How many tasks are waiting or running, by state and reason; None where the queue cannot be asked just now."""
        if self.options.cluster == "local":
            return Counter("RUNNING" for job in self.jobs if not job.done())
        lines = self.squeue("--format=%T %r")
        return None if lines is None else Counter(line.removesuffix(" None") for line in lines)

    def identifier(self) -> str:
        """The array's number, for scancel; empty where none of its tasks is left."""
        return " ".join(sorted(set(self.squeue("--format=%F") or ())))

    def squeue(self, what: str) -> list[str] | None:
        """A line for each task; a name in place of a number, since Slurm soon forgets numbers and gives them again."""
        command = ["squeue", "--me", "--array", "--noheader", f"--name={self.folder.name}", what]
        try:
            told = subprocess.run(command, capture_output=True, text=True, timeout=60)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return told.stdout.split("\n")[:-1] if told.returncode == 0 else None

    def warnings(self) -> list[str]:
        """What tasks have warned of since this was last asked, each once."""
        found = []
        for path in sorted(self.folder.glob("*_log.out")):
            with path.open("rb") as file:
                file.seek(self.read.get(path, 0))
                lines = file.read().splitlines(keepends=True)
            whole = [line for line in lines if line.endswith(b"\n")]
            self.read[path] = self.read.get(path, 0) + sum(map(len, whole))
            found += [line.decode(errors="replace").strip() for line in whole if WARNING in line]
        new = [line for line in dict.fromkeys(found) if line not in self.warned]
        self.warned.update(new)
        return new

    def log(self) -> list[str]:
        """The last lines of the task that has last written any, for a sweep whose tasks are lost."""
        logs = sorted(self.folder.glob("*_log.out"), key=lambda path: path.stat().st_mtime)
        return [str(logs[-1]), *logs[-1].read_text(errors="replace").splitlines()[-LOG_LINES:]] if logs else []
