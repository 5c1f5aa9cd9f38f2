"""Pretrain on several machines of a SLURM cluster, over as many jobs as it takes.

    pip install 'dsm-video[slurm]'
    python examples/slurm.py --nodes 2 --gpus 8 --partition gpu -- \\
        --data.train packs/train.txt --method dsm --backbone i3d --data.batch-size 256 \\
        --optim.lr-batch 64 --precision bf16 --out runs/large

The words after ``--`` are settings of `dsm pretrain`. One process per GPU starts on each machine. SLURM
warns the job before its time is up; it is then submitted again and resumes. ``--cluster local`` tries the
same on this machine without SLURM, and with ``--gpus 0`` without GPUs.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

import submitit


@dataclass
class Pretrain:
    """A job: `dsm pretrain` with these settings, resumed from the newest checkpoint if there is one."""

    words: list[str]
    again: bool = False
    """Whether the job was submitted again: --out then holds its own files."""

    def __call__(self) -> None:
        from dsm.cli.main import run
        from dsm.models.checkpoint_file import list_checkpoints

        # Sets each process's identity, as torchrun would: RANK, WORLD_SIZE, MASTER_ADDR and so on.
        submitit.helpers.TorchDistributedEnvironment().export(set_cuda_visible_devices=False)
        out = Path(self.words[self.words.index("--out") + 1])
        if list_checkpoints(out):
            more = ["--resume"]
        else:
            more = ["--overwrite"] if self.again else []
        run(["pretrain", *self.words, *(word for word in more if word not in self.words)])

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Called on timeout or preemption; returns the job to submit again."""
        return submitit.helpers.DelayedSubmission(Pretrain(self.words, again=True))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cluster", choices=["slurm", "local"], default="slurm")
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--gpus", type=int, default=8, help="per machine; 0: --processes on CPUs")
    parser.add_argument("--processes", type=int, default=2, help="per machine, with --gpus 0")
    parser.add_argument("--cpus", type=int, default=8, help="per process")
    parser.add_argument("--hours", type=float, default=24)
    parser.add_argument("--partition")
    parser.add_argument("--logs", type=Path, default=Path("slurm-logs"))
    parser.add_argument("--wait", action="store_true", help="wait until it is done")
    parser.add_argument("words", nargs="+", help="settings of `dsm pretrain`, after --")
    args = parser.parse_args()
    if "--out" not in args.words:
        parser.error("the settings of `dsm pretrain` must contain --out")

    # submitit gives up after three timeouts by default.
    often = {"slurm_max_num_timeout": 1000} if args.cluster == "slurm" else {}
    executor = submitit.AutoExecutor(folder=args.logs, cluster=args.cluster, **often)
    executor.update_parameters(
        name="dsm-pretrain",
        nodes=args.nodes,
        tasks_per_node=args.gpus or args.processes,
        cpus_per_task=args.cpus,
        timeout_min=int(args.hours * 60),
        **({"gpus_per_node": args.gpus} if args.gpus else {}),
        **({"slurm_partition": args.partition} if args.partition else {}),
    )
    os.environ.setdefault("OMP_NUM_THREADS", "1" if args.cluster == "local" else str(args.cpus))
    job = executor.submit(Pretrain(args.words))
    print(f"job {job.job_id}; its output: {job.paths.stderr}")
    if args.wait:
        job.results()
        print(f"done: {args.words[args.words.index('--out') + 1]}")


if __name__ == "__main__":
    main()
