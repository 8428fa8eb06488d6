"""A SLURM cluster on this computer: real daemons in a private folder, on the loopback interface.

Two nodes of one core and one pretended GPU each, so that one of them may die. Jobs find the
configuration at /etc/slurm/slurm.conf only, because Snakemake's job step drops SLURM_CONF: a link
lies there while the cluster runs.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

LINK = Path("/etc/slurm/slurm.conf")
PREFIX = "advdenoise-slurm-"
MARK = "ADVDENOISE_SLURM_TEST"  # in the environment of all that the cluster starts: its folder
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel")
NODES = ("n1", "n2")
PATIENCE = 60  # seconds that a daemon is given


class Unavailable(Exception):
    """No cluster can be started here; the message says why."""


def install() -> None:
    """Debian's SLURM and munge, where they are missing and may be installed."""
    if os.geteuid() != 0:
        raise Unavailable("SLURM's daemons are started as root, and this is another user")
    if all(map(shutil.which, PROGRAMS)):
        return
    if not shutil.which("apt-get"):
        raise Unavailable("SLURM is not installed, and there is no apt-get to install it with")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "update"],
        ["apt-get", "install", "--yes", "--no-install-recommends", "slurm-wlm", "munge"],
    ):
        done = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
    if not all(map(shutil.which, PROGRAMS)):
        raise Unavailable(f"SLURM could not be installed: {done.stdout[-500:]}")


@contextlib.contextmanager
def running() -> Iterator["Cluster"]:
    """A cluster, all of which is gone afterwards."""
    _clear_dead()
    if LINK.exists() or LINK.is_symlink():
        raise Unavailable(f"{LINK} exists: a SLURM is configured here, which is left alone")
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    folder.chmod(0o755)
    created = not LINK.parent.exists()
    try:
        cluster = Cluster(folder)
        LINK.parent.mkdir(exist_ok=True)
        LINK.symlink_to(folder / "slurm.conf")
        cluster.start()
        yield cluster
    finally:
        _remove(folder)
        if created:
            LINK.parent.rmdir()


class Cluster:
    """Its daemons, and what happens to nodes and jobs."""

    def __init__(self, folder: Path):
        self.folder = folder
        (folder / "owner").write_text(str(os.getpid()))
        for name in ("state", "munge", *(f"spool-{node}" for node in NODES)):
            (folder / name).mkdir(mode=0o755)
        (folder / "munge" / "key").write_bytes(os.urandom(64))
        (folder / "munge" / "key").chmod(0o600)
        controller, *ports = _free_ports(1 + len(NODES))
        (folder / "slurm.conf").write_text(_configuration(folder, controller, ports))
        nodes = "\n".join(f"NodeName={node} Name=gpu File=/dev/null" for node in NODES)
        (folder / "gres.conf").write_text(nodes + "\n")

    def start(self) -> None:
        munge = self.folder / "munge"
        self._daemon(
            *("munged", "--force", "--num-threads=2", f"--key-file={munge / 'key'}"),
            *(f"--{name}-file={munge / name}" for name in ("pid", "log", "seed")),
            f"--socket={munge / 'socket'}",
        )
        until(lambda: (munge / "socket").exists(), "munged's socket")
        self._daemon("slurmctld", "-c", "-f", str(self.folder / "slurm.conf"))
        for node in NODES:
            self.start_node(node)
        until(lambda: self.tell("sinfo", "-h", "-o", "%T") == "idle", "idle nodes")

    def start_node(self, node: str) -> None:
        self._daemon("slurmd", "-c", "-f", str(self.folder / "slurm.conf"), "-N", node)

    def kill_node(self, job: str) -> str:
        """Let the node of a job die with all that runs on it; the node."""
        node = self.tell("squeue", "-h", "-j", job, "-o", "%N")
        daemon = int((self.folder / f"slurmd-{node}.pid").read_text())
        steps = [
            process
            for process in psutil.process_iter(["cmdline"])
            if " ".join(process.info["cmdline"] or ()).startswith(f"slurmstepd: [{job}.")
        ]
        jobs = [child for step in steps for child in step.children(recursive=True)]
        for process in [psutil.Process(daemon), *steps, *jobs]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        return node

    def wait_for_job(self, rule: str) -> str:
        """The number of a rule's running job, once there is one."""

        def job_of_rule() -> str:
            text = self.tell("squeue", "-h", "--states=running", "-o", "%i %k")
            jobs = [line.split() for line in text.splitlines()]
            return next((job for job, comment in jobs if comment.startswith(f"rule_{rule}_")), "")

        return until(job_of_rule, f"a job of rule {rule}")

    def state_of(self, job: str) -> str:
        return self.tell("squeue", "-h", "--states=all", "-j", job, "-o", "%T")

    def tell(self, *command: str) -> str:
        """What a command of SLURM prints; nothing where it fails, as it may for a moment."""
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        return done.stdout.strip() if done.returncode == 0 else ""

    def _daemon(self, *command: str) -> None:
        with (self.folder / "daemons.log").open("a") as log:
            subprocess.run(
                command,
                env=os.environ | {MARK: str(self.folder)},
                stdout=log,
                stderr=log,
                check=True,
                timeout=PATIENCE,
            )


def until(true: Callable, what: str, patience: float = PATIENCE):
    """Wait until something is true; what it is."""
    deadline = time.monotonic() + patience
    while not (value := true()):
        assert time.monotonic() < deadline, f"waited {patience} seconds for {what}"
        time.sleep(0.1)
    return value


def _configuration(folder: Path, controller: int, ports: list[int]) -> str:
    host = socket.gethostname().partition(".")[0]
    memory = psutil.virtual_memory().total // 2**20 // len(NODES)
    lines = [
        "ClusterName=test",
        f"SlurmctldHost={host}(127.0.0.1)",
        f"SlurmctldPort={controller}",
        "SlurmUser=root",
        "SlurmdUser=root",
        "AuthType=auth/munge",
        f"AuthInfo=socket={folder}/munge/socket",
        "CredType=cred/munge",
        "CommunicationParameters=NoInAddrAny,NoCtldInAddrAny",
        "ProctrackType=proctrack/linuxproc",
        "TaskPlugin=task/none",
        "MpiDefault=none",
        "AccountingStorageType=accounting_storage/none",
        # Jobs that take more memory than they asked for are killed, without control groups.
        "JobAcctGatherType=jobacct_gather/linux",
        "JobAcctGatherFrequency=task=1",
        "JobAcctGatherParams=OverMemoryKill",
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_Core_Memory",
        "SchedulerParameters=sched_interval=1",
        "PreemptType=preempt/partition_prio",
        "PreemptMode=CANCEL",
        "ReturnToService=2",
        "SlurmdTimeout=10",
        f"StateSaveLocation={folder}/state",
        f"SlurmdSpoolDir={folder}/spool-%n",
        f"SlurmctldPidFile={folder}/slurmctld.pid",
        f"SlurmdPidFile={folder}/slurmd-%n.pid",
        f"SlurmctldLogFile={folder}/slurmctld.log",
        f"SlurmdLogFile={folder}/slurmd-%n.log",
        "SlurmdParameters=config_overrides",
        "GresTypes=gpu",
        *(
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=1 "
            f"RealMemory={memory} Gres=gpu:1"
            for node, port in zip(NODES, ports, strict=True)
        ),
        "PartitionName=cpu Nodes=ALL PriorityTier=1",
        "PartitionName=gpu Nodes=ALL PriorityTier=1",
        "PartitionName=urgent Nodes=ALL PriorityTier=2",
    ]
    return "\n".join(lines) + "\n"


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _clear_dead() -> None:
    """Take away what a test that was killed has left."""
    for owner in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/owner"):
        if not psutil.pid_exists(int(owner.read_text())):
            _remove(owner.parent)


def _remove(folder: Path) -> None:
    """Stop all that a cluster has started, and take away its folder and its link."""
    if LINK.is_symlink() and LINK.readlink().parent == folder:
        LINK.unlink()
    while marked := _marked(folder):
        for pid in marked:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)
    shutil.rmtree(folder, ignore_errors=True)


def _marked(folder: Path) -> list[int]:
    """Processes that the cluster has started: they bear its mark, or work in its folder.

    A job step's own process wipes its environment. What is dead and not yet reaped has neither.
    """
    mark = f"{MARK}={folder}".encode()
    result = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            marked = mark in (process / "environ").read_bytes().split(b"\0")
            if marked or (process / "cwd").readlink() == folder:
                result.append(int(process.name))
    return result
