"""One run in several processes: begun here, or by torchrun, SLURM or anything else that says so.

Who begins processes tells each by torchrun's environment variables: RANK, WORLD_SIZE, LOCAL_RANK,
LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from datetime import timedelta
from types import FrameType
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import TorchElasticEnvironment
from lightning_fabric.strategies import DDPStrategy

from dsm.engine.device import keep_to_cores
from dsm.engine.interrupt import Interrupted, leave_by_exception
from dsm.engine.progress import console
from dsm.errors import USER_ERROR, UserError, sentence
from dsm.signals import WARNINGS

Config = TypeVar("Config")
GOES_ON = "The same command goes on from what was saved; `dsm pretrain` and `dsm finetune` with --resume."


LONGEST_STEP = 600
"""Seconds that processes which are stopped have to finish a step and to save; then they are killed."""
LONGEST_TELLING = 10
"""Seconds for another to say what is wrong; it may be killed meanwhile."""
LONGEST_WAIT = timedelta(hours=6)
"""For another process; while one looks at a list (``--monitor.list``, ``--data.test``) the others wait."""


def begun_from_outside() -> bool:
    """Whether this is one of several processes already."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


def is_first() -> bool:
    """Whether this is the process that writes and tells for all."""
    return os.environ.get("RANK", "0") == "0"


def make_fabric() -> Fabric:
    """Devices and distribution, by what the environment says: one process, or one of many."""
    if not begun_from_outside():
        keep_to_cores()
        return Fabric(accelerator="auto", devices=1)
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    world = int(os.environ["WORLD_SIZE"])
    if torch.cuda.is_available() and torch.cuda.device_count() < local:
        raise UserError(
            f"{local} processes on a machine of {torch.cuda.device_count()} GPUs; one process a GPU, please."
        )
    if not torch.cuda.is_available():
        keep_to_cores(local)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    fabric = Fabric(
        accelerator="cuda" if torch.cuda.is_available() else "cpu",
        devices=local,
        num_nodes=world // local,
        # Buffers need no broadcast: statistics are computed over all processes, the queue gathers from all.
        strategy=DDPStrategy(
            cluster_environment=TorchElasticEnvironment(), broadcast_buffers=False, timeout=LONGEST_WAIT
        ),
    )
    fabric.launch()
    return fabric


def trains_on_cpu() -> bool:
    """Whether :func:`make_fabric` will find nothing but the processor."""
    alone = not begun_from_outside() and torch.backends.mps.is_available()
    return not (torch.cuda.is_available() or alone)


def greatest(fabric: Fabric, *numbers: int) -> list[int]:
    """The greatest that any process gives of each number; all processes must ask."""
    if fabric.world_size == 1:
        return list(numbers)
    tensor = torch.tensor(numbers, device=fabric.device)
    dist.all_reduce(tensor, dist.ReduceOp.MAX)
    return tensor.tolist()


def mean(fabric: Fabric, number: float) -> float:
    """The mean of what the processes give; all must ask."""
    if fabric.world_size == 1:
        return number
    tensor = torch.tensor(number, dtype=torch.float64, device=fabric.device)
    dist.all_reduce(tensor)
    return float(tensor) / fabric.world_size


def joined(fabric: Fabric, items: list[Any]) -> list[Any]:
    """The lists of all processes, one after the other; all processes must ask."""
    if fabric.world_size == 1:
        return items
    lists: list[Any] = [None] * fabric.world_size
    dist.all_gather_object(lists, items)
    return [item for one in lists for item in one]


def in_processes(count: int, function: Callable[[Config], Any], config: Config) -> None:
    """Call ``function(config)`` in so many processes of this machine; when one fails, all are ended.

    Raises:
        SystemExit: one ended with an error, which it has told.
        UserError: one was killed.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for name in ("torch.distributed", "torch.multiprocessing"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # we tell it in a sentence
    # torch before 2.10 or so knows no such setting, and kills them after half a minute.
    patient: Any = {"shutdown_timeout": LONGEST_STEP} if hasattr(LaunchConfig, "shutdown_timeout") else {}
    launch = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=count, rdzv_backend="c10d", rdzv_endpoint="localhost:0",
        local_addr="localhost", max_restarts=0, start_method="spawn", run_id=str(os.getpid()), **patient,
    )  # fmt: skip
    before = {number: signal.getsignal(number) for number in signal.valid_signals()}
    warned: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        """torch hands SIGTERM on to the processes, and waits for them; warnings it does not know."""
        warned.append(number)
        signal.raise_signal(signal.SIGTERM)

    if threading.current_thread() is threading.main_thread():
        for number in WARNINGS:
            if before[number] in (signal.SIG_DFL, signal.getsignal(signal.SIGTERM)):
                signal.signal(number, pass_on)
    told = torch.multiprocessing.get_context("spawn").Value("b", False)
    try:
        elastic_launch(launch, _child)(function, config, told)
    except ChildFailedError as error:
        # One that was killed is the cause, though another may have noticed before we did.
        rank, failure = min(
            error.failures.items(), key=lambda item: (item[1].exitcode > 0, item[1].timestamp)
        )
        if failure.exitcode > 0:
            raise SystemExit(failure.exitcode) from None
        name = signal.Signals(-failure.exitcode).name
        raise UserError(
            f"process {rank} of {count} was killed by {name}"
            f"{', perhaps for want of memory' if name == 'SIGKILL' else ''}; the others were ended. "
            f"{GOES_ON}"
        ) from None
    except Exception as error:
        if type(error).__name__ != "SignalException":
            raise
        number = warned[0] if warned else int(error.sigval)  # type: ignore[attr-defined]
        raise SystemExit(128 + number) from None
    finally:  # torch leaves its own handlers behind
        for number, handler in before.items():
            if signal.getsignal(number) != handler and threading.current_thread() is threading.main_thread():
                signal.signal(number, handler)


def _child(function: Callable[[Config], Any], config: Config, told: Any) -> None:
    """What each process runs: an error ends it, and is told by the first that meets one.

    ``told`` is a flag that the processes share: what is wrong in one is often wrong in all.
    """
    leave_by_exception()
    try:
        function(config)
    except Interrupted as stopped:
        if is_first():
            console.print(f"dsm: {stopped}.")
        leave(stopped.exit_code)
    except Exception as error:
        if lost_contact(error):  # who has gone is told by who began us, and must be seen to have gone first
            raise
        said = sentence(error)
        # Held while it is told: the first to leave has the others ended.
        held = told.get_lock().acquire(timeout=LONGEST_TELLING)
        if not told.get_obj().value:
            told.get_obj().value = True
            if said is None:
                traceback.print_exc()  # who began this process is not told it
            else:
                console.print(f"dsm: {said}", style="red")
        if held:
            told.get_lock().release()
        leave(1 if said is None else USER_ERROR)


def lost_contact(error: Exception) -> bool:
    """Whether an error says that another process has gone."""
    text = str(error)
    return any(words in text for words in ("Connection closed by peer", "Connection reset", "Broken pipe"))


def leave(code: int) -> None:
    """End this process without waiting for others, which may wait for it."""
    sys.stderr.flush()
    os._exit(code)
