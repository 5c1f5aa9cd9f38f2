"""One run among several processes, started by `dsm`, torchrun, SLURM or another launcher.

Launchers describe each process in torchrun's environment variables: RANK, WORLD_SIZE, LOCAL_RANK,
LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT. BatchNorm is computed over the batch of all processes;
PyTorch's own SyncBatchNorm works on GPUs only and is used there.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, cast

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import TorchElasticEnvironment
from lightning_fabric.strategies import DDPStrategy
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dsm.devices import keep_to_cores
from dsm.errors import UserError


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


PLAIN_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
"""The BatchNorms that do nothing else. Classes derived from them may, such as timm's with its activation."""


def synchronise_norms(module: nn.Module, device: torch.device) -> nn.Module:
    """Replace every plain BatchNorm with one over all processes; weights keep their names.

    Classes derived from them are left as they are; :func:`check_norms` refuses those.
    """
    for name, child in module.named_children():
        if type(child) in PLAIN_NORMS:
            setattr(module, name, _synchronised(cast(_BatchNorm, child), device))
        else:
            synchronise_norms(child, device)
    return module


def _synchronised(norm: _BatchNorm, device: torch.device) -> nn.Module:
    if device.type == "cuda":
        return cast(nn.Module, nn.SyncBatchNorm.convert_sync_batchnorm(norm))  # type: ignore[no-untyped-call]
    new = SyncBatchNorm(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    new._parameters, new._buffers, new.training = norm._parameters, norm._buffers, norm.training
    return new


def check_norms(module: nn.Module) -> None:
    """Check that several processes can train a module.

    Raises:
        UserError: a BatchNorm in training mode does more than normalise, so it cannot be replaced, and each
            process would normalise by its own part of the batch alone.
    """
    for norm in module.modules():
        own = isinstance(norm, _BatchNorm) and type(norm) not in (*PLAIN_NORMS, SyncBatchNorm)
        if own and norm.training:
            raise UserError(
                f"several processes cannot train this network: its {type(norm).__name__} is a BatchNorm of "
                "its own kind, which would see only the part of the batch in its process; train in one "
                "process."
            )


LONGEST_EXCHANGE = timedelta(minutes=30)
"""Time limit for what processes exchange within a step: reading a batch, and compiling, must take less."""
LONGEST_WAIT = timedelta(hours=6)
"""Time limit for waiting on a process that evaluates a list (``--monitor.list``, ``--data.test``)."""


def process_count() -> int:
    """The number of processes of this run, on all machines."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def begun_from_outside() -> bool:
    """Whether a launcher has already started this as one of several processes."""
    return process_count() > 1 and "RANK" in os.environ


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


def check_gpus(processes: int) -> None:
    """Raise UserError if so many processes of this machine would have to share GPUs."""
    if processes > 1 and torch.cuda.is_available():
        gpus_to_choose_from(processes, torch.cuda.device_count(), os.environ)


def make_fabric() -> Fabric:
    """Set up devices and distribution from the environment: a single process, or one of many."""
    # Not its advice on TF32, which docs/gpu.md explains.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    if not begun_from_outside():
        keep_to_cores()
        return Fabric(accelerator="auto", devices=1)
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    world = process_count()
    devices = local
    if torch.cuda.is_available():
        devices = gpus_to_choose_from(local, torch.cuda.device_count(), os.environ)
    else:
        keep_to_cores(local)
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


def set_up(fabric: Fabric, module: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[Any, Any]:
    """Wrap a module and its optimiser for the processes of a run."""
    with warnings.catch_warnings():
        # What is to replace it would copy the first process's buffers to the others.
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        module, optimizer = fabric.setup(module, optimizer)
    return module, optimizer


_beside: list[dist.ProcessGroup] = []
"""A group of all processes for messages beside the training, the newest last. They go from CPU to CPU, so
nobody waits for a GPU, and may take long: one process saves and evaluates while the others wait."""


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


LOST = (
    "Connection closed by peer", "Connection reset", "Broken pipe",  # gloo
    # NCCL:
    "remote process exiting prematurely", "Connection closed by remote peer", "communicator was aborted",
)  # fmt: skip


def lost_contact(error: Exception) -> bool:
    """Whether an error means that another process has ended."""
    return any(words in str(error) for words in LOST)
