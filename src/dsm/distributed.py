"""Devices, and one run in several processes, started here or by torchrun, SLURM or another launcher.

Launchers describe each process in torchrun's environment variables: RANK, WORLD_SIZE, LOCAL_RANK,
LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT. BatchNorm is computed over the batch of all processes;
PyTorch's own SyncBatchNorm works on GPUs only and is used there.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import TorchElasticEnvironment
from lightning_fabric.strategies import DDPStrategy
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dsm.errors import USER_ERROR, UserError, sentence
from dsm.locks import work
from dsm.signals import WARNINGS, Interrupted, leave_by_exception
from dsm.terminal import console
from dsm.workers import usable_cores


def best_device() -> torch.device:
    """The first available of CUDA, Apple's MPS and the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    keep_to_cores()
    return torch.device("cpu")


def keep_to_cores(processes: int = 1) -> None:
    """Limit torch to its share of the usable cores, unless ``OMP_NUM_THREADS`` sets the number of threads.

    With more threads than cores (a container limited to two cores of a 64-core machine, or several processes
    that each use all cores) torch is many times slower.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        share = max(1, usable_cores() // processes)
        torch.set_num_threads(share if processes > 1 else min(share, torch.get_num_threads()))


MOST_WORKERS = 12
"""Decoding processes beside a GPU, if nothing else is asked for."""


def reading_workers(asked: int | None, decoder: str = "pyav") -> int:
    """The number of processes that decode for this one: as ``asked`` or, for None, by the machine.

    One on a CPU, where the network needs the cores. A GPU needs more clips than one core decodes: beside it
    the cores are shared between the processes of this machine, and one of each share is left for the process
    itself. A GPU that decodes has to do so in that process.
    """
    if asked is not None:
        return asked
    if decoder == "torchcodec-cuda":
        return 0
    if not torch.cuda.is_available():
        return 1
    # SLURM gives each task its own cores.
    sharing = 1 if "SLURM_CPUS_PER_TASK" in os.environ else int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, min(MOST_WORKERS, usable_cores() // sharing - 1))


class _Sum(torch.autograd.Function):
    """The sum of a tensor over all processes; its gradient is summed too, since all losses depend on it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        gradient = gradients[0].clone()
        dist.all_reduce(gradient)
        return gradient


def _sum(x: Tensor) -> Tensor:
    return cast(Tensor, _Sum.apply(x))  # type: ignore[no-untyped-call]


class SyncBatchNorm(_BatchNorm):
    """``nn.BatchNorm1d``, 2d and 3d over the batch of all processes, which must have equal sizes."""

    def _check_input_dim(self, input: Tensor) -> None:
        """Accept any shape: (B, C) or (B, C, ...)."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        x = input.to(torch.promote_types(input.dtype, torch.float32))
        axes = [axis for axis in range(x.ndim) if axis != 1]
        shape = [1, -1] + [1] * (x.ndim - 2)
        count = x.numel() // x.shape[1] * dist.get_world_size()
        mean = _sum(x.sum(axes)) / count  # (C,)
        centred = x - mean.view(shape)
        variance = _sum(centred.square().sum(axes)) / count
        self._remember(mean.detach(), variance.detach() * count / (count - 1))
        normed = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            normed = normed * self.weight.view(shape) + self.bias.view(shape)
        return normed.to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        if not self.track_running_stats:
            return
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)


def synchronise_norms(module: nn.Module, device: torch.device) -> nn.Module:
    """Replace every BatchNorm with one over all processes; weights keep their names."""
    if device.type == "cuda":
        return cast(nn.Module, nn.SyncBatchNorm.convert_sync_batchnorm(module))  # type: ignore[no-untyped-call]
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm):
            new = SyncBatchNorm(
                child.num_features, child.eps, child.momentum, child.affine, child.track_running_stats
            )
            new._parameters, new._buffers, new.training = child._parameters, child._buffers, child.training
            setattr(module, name, new)
        else:
            synchronise_norms(child, device)
    return module


Config = TypeVar("Config")
GOES_ON = "Run the same command again to continue; add --resume to `dsm pretrain` and `dsm finetune`."


LONGEST_STEP = 600
"""Seconds that stopped processes have to finish a step and save, before they are killed."""
LONGEST_TELLING = 10
"""Seconds to wait while another process reports an error; it may be killed meanwhile."""
LONGEST_EXCHANGE = timedelta(minutes=30)
"""Time limit for what processes exchange within a step: reading a batch, and compiling, must take less."""
LONGEST_WAIT = timedelta(hours=6)
"""Time limit for waiting on a process that evaluates a list (``--monitor.list``, ``--data.test``)."""


def begun_from_outside() -> bool:
    """Whether a launcher has already started this as one of several processes."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


def is_first() -> bool:
    """Whether this is the process that writes files and messages for all."""
    return os.environ.get("RANK", "0") == "0"


class _OwnDevice(TorchElasticEnvironment):  # type: ignore[misc]
    """For launchers that show each process one GPU, which is number 0 in each."""

    def local_rank(self) -> int:
        return 0


def gpus_to_choose_from(processes: int, visible: int, environment: Mapping[str, str]) -> int:
    """The number of GPUs that the processes of this machine choose from.

    Args:
        processes: number of processes on this machine.
        visible: GPUs that this process sees.
        environment: environment variables. ``CUDA_VISIBLE_DEVICES`` may hide other processes' GPUs; but
            torchrun, which sets ``TORCHELASTIC_RUN_ID``, shows the same GPUs to all its processes.

    Returns:
        ``processes`` if each takes the GPU with its own number; 1 if the launcher shows each process its own
        GPU alone, as SLURM does with ``--gpus-per-task``.

    Raises:
        UserError: processes would have to share a GPU.
    """
    if visible >= processes:
        return processes
    hidden = environment.get("CUDA_VISIBLE_DEVICES") and "TORCHELASTIC_RUN_ID" not in environment
    if visible == 1 and hidden:
        return 1
    raise UserError(f"{processes} processes for {visible} GPUs; use at most one process per GPU.")


def make_fabric() -> Fabric:
    """Set up devices and distribution from the environment: a single process, or one of many."""
    if not begun_from_outside():
        keep_to_cores()
        return Fabric(accelerator="auto", devices=1)
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    world = int(os.environ["WORLD_SIZE"])
    devices = local
    if torch.cuda.is_available():
        devices = gpus_to_choose_from(local, torch.cuda.device_count(), os.environ)
    else:
        keep_to_cores(local)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    fabric = Fabric(
        accelerator="cuda" if torch.cuda.is_available() else "cpu",
        devices=devices,
        num_nodes=world // devices,
        # Buffers need no broadcast: statistics are computed over all processes, and the queue gathers from
        # all.
        strategy=DDPStrategy(
            cluster_environment=TorchElasticEnvironment() if devices == local else _OwnDevice(),
            broadcast_buffers=False,
            timeout=LONGEST_EXCHANGE,
        ),
    )
    fabric.launch()
    _beside.append(dist.new_group(backend="gloo", timeout=LONGEST_WAIT))
    return fabric


_beside: list[dist.ProcessGroup] = []
"""A group of all processes for messages beside the training, the newest last. They go from CPU to CPU, so
nobody waits for a GPU, and may take long: one process saves and evaluates while the others wait."""


@contextmanager
def algorithms(device_type: str, *, deterministic: bool) -> Iterator[None]:
    """Let CUDA use only deterministic algorithms, or else those that are fastest for the shapes it meets.

    cuDNN times its algorithms when it meets a shape, and may choose others in each run. PyTorch warns of
    operations without a deterministic algorithm. cuBLAS reads its part of this setting when the process uses
    it for the first time. CPUs are always deterministic.
    """
    cudnn = torch.backends.cudnn
    before, benchmark = torch.are_deterministic_algorithms_enabled(), cudnn.benchmark
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    if device_type == "cuda":
        cudnn.benchmark = not deterministic
        if deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warns)
        cudnn.benchmark = benchmark


def trains_on_cpu() -> bool:
    """Whether :func:`make_fabric` will use the CPU."""
    alone = not begun_from_outside() and torch.backends.mps.is_available()
    return not (torch.cuda.is_available() or alone)


def greatest(fabric: Fabric, *numbers: int) -> list[int]:
    """The maximum of each number over all processes; every process must call this."""
    if fabric.world_size == 1:
        return list(numbers)
    tensor = torch.tensor(numbers)
    dist.all_reduce(tensor, dist.ReduceOp.MAX, _beside[-1])
    return tensor.tolist()


def mean(fabric: Fabric, number: float) -> float:
    """The mean of a number over all processes; every process must call this."""
    if fabric.world_size == 1:
        return number
    tensor = torch.tensor(number, dtype=torch.float64)
    dist.all_reduce(tensor, group=_beside[-1])
    return float(tensor) / fabric.world_size


def wait_for_all(fabric: Fabric) -> None:
    """Wait until every process is here."""
    greatest(fabric, 0)


def joined(fabric: Fabric, items: list[Any]) -> list[Any]:
    """The lists of all processes, concatenated; every process must call this."""
    if fabric.world_size == 1:
        return items
    lists: list[Any] = [None] * fabric.world_size
    dist.all_gather_object(lists, items, group=_beside[-1])
    return [item for one in lists for item in one]


def in_processes(count: int, function: Callable[[Config], Any], config: Config) -> None:
    """Call ``function(config)`` in ``count`` processes on this machine; if one fails, all are ended.

    Raises:
        SystemExit: a process ended with an error, which it has reported.
        UserError: a process was killed.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for name in ("torch.distributed", "torch.multiprocessing"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # dsm reports it in one sentence
    # Older versions of torch (before about 2.10) lack this setting and kill processes after 30 seconds.
    patient: Any = {"shutdown_timeout": LONGEST_STEP} if hasattr(LaunchConfig, "shutdown_timeout") else {}
    launch = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=count, rdzv_backend="c10d", rdzv_endpoint="localhost:0",
        local_addr="localhost", max_restarts=0, start_method="spawn", run_id=str(os.getpid()), **patient,
    )  # fmt: skip
    before = {number: signal.getsignal(number) for number in signal.valid_signals()}
    warned: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        """torch passes SIGTERM on to the processes and waits for them, but does not handle warnings."""
        warned.append(number)
        signal.raise_signal(signal.SIGTERM)

    if threading.current_thread() is threading.main_thread():
        for number in WARNINGS:
            if before[number] in (signal.SIG_DFL, signal.getsignal(signal.SIGTERM)):
                signal.signal(number, pass_on)
    reported = torch.multiprocessing.get_context("spawn").Value("b", False)
    try:
        elastic_launch(launch, _child)(function, config, reported)
    except ChildFailedError as error:
        # A killed process is the cause, even if another one failed visibly before.
        rank, failure = min(
            error.failures.items(), key=lambda item: (item[1].exitcode > 0, item[1].timestamp)
        )
        if failure.exitcode > 0:
            raise SystemExit(failure.exitcode) from None
        name = signal.Signals(-failure.exitcode).name
        raise UserError(
            f"process {rank} of {count} was killed by {name}"
            f"{', perhaps because memory ran out' if name == 'SIGKILL' else ''}; the others were ended. "
            f"{GOES_ON}"
        ) from None
    except Exception as error:
        if type(error).__name__ != "SignalException":
            raise
        number = warned[0] if warned else int(error.sigval)  # type: ignore[attr-defined]
        raise SystemExit(128 + number) from None
    finally:  # torch does not restore the handlers
        for number, handler in before.items():
            if signal.getsignal(number) != handler and threading.current_thread() is threading.main_thread():
                signal.signal(number, handler)


def _child(function: Callable[[Config], Any], config: Config, reported: Any) -> None:
    """The body of each process. An error ends it; the first process with an error reports it.

    ``reported`` is a flag shared by the processes, because they often all fail for the same reason.
    """
    leave_by_exception()
    try:
        with work():
            function(config)
    except Interrupted as stopped:
        if is_first():
            console.print(f"dsm: {stopped}.")
        leave(stopped.exit_code)
    except Exception as error:
        if lost_contact(error):  # the parent must see that the other process failed first
            raise
        message = sentence(error)
        # Hold the lock while reporting: when the first process leaves, the others are killed.
        held = reported.get_lock().acquire(timeout=LONGEST_TELLING)
        if not reported.get_obj().value:
            reported.get_obj().value = True
            if message is None:
                traceback.print_exc()  # the parent process does not receive it
            else:
                console.print(f"dsm: {message}", style="red")
        if held:
            reported.get_lock().release()
        leave(1 if message is None else USER_ERROR)


LOST = (
    "Connection closed by peer", "Connection reset", "Broken pipe",  # gloo
    # NCCL:
    "remote process exiting prematurely", "Connection closed by remote peer", "communicator was aborted",
)  # fmt: skip


def lost_contact(error: Exception) -> bool:
    """Whether an error means that another process has ended."""
    return any(words in str(error) for words in LOST)


def leave(code: int) -> None:
    """End this process at once, without waiting for others that may be waiting for it."""
    sys.stderr.flush()
    os._exit(code)
