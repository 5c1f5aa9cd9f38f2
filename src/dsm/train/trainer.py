"""The training loop: batches in, checkpoints and metrics out, in one process or many."""

from __future__ import annotations

import json
import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dsm.data.clips import EpochBatches, TrainingClips
from dsm.data.lists import VideoList
from dsm.data.loading import Batches
from dsm.devices import algorithms, reading_workers
from dsm.distributed import greatest, joined, make_fabric, mean, set_up, wait_for_all
from dsm.errors import UserError, machine_fault
from dsm.methods.momentum import queue_age
from dsm.methods.step import StepOutput
from dsm.models.checkpoint_file import checkpoint_of
from dsm.models.precision import compute_in
from dsm.render import render_view
from dsm.runs.bad_videos import BadVideos
from dsm.runs.card import is_ended, write_end
from dsm.runs.checkpoint import keep_best, newest_good, save_checkpoint
from dsm.runs.copies import Copy
from dsm.runs.logs import MONITOR, RunLog
from dsm.runs.results import RESULTS
from dsm.signals import Interrupted, stop_flag
from dsm.terminal import Reporter, console, note, progress
from dsm.train.config import RunConfig
from dsm.train.evaluations import Evaluation, Evaluations
from dsm.train.health import Health, where_broken
from dsm.train.optim import build_optimizer, learning_rate
from dsm.train.prepare import prepare, train_mode
from dsm.train.progress import StepTimer, step_note
from dsm.train.resuming import check_alike, check_length, default_settings, lasting_settings, steps_of
from dsm.train.skipping import Skipping
from dsm.train.start import clips_at_once, write_record


class Trainer:
    """One training run: its setup and its loop."""

    def __init__(
        self,
        config: RunConfig,
        videos: VideoList,
        method: Any,
        about: dict[str, Any],
        evaluation: Evaluation | None = None,
        *,
        channels_last: bool = True,
        fused: bool = True,
    ) -> None:
        """Set up a run, from its newest checkpoint if it resumes.

        Args:
            method: see :class:`dsm.methods.step.Method`.
            about: what checkpoints record about the method, so that its encoder can be rebuilt.
            channels_last: see :func:`dsm.train.prepare.prepare`.
            fused: see :func:`dsm.train.optim.build_optimizer`.
        """
        self.config, self.method, self.videos = config, method, videos
        self.fabric = make_fabric()
        first, device = self.fabric.is_global_zero, self.fabric.device.type
        prepare(method, config, self.fabric, channels_last=channels_last)
        settings = lasting_settings(config, videos)
        self.total = steps_of(config.steps, config.epochs, len(videos), config.data.batch_size)
        state: dict[str, Any] = {}
        if config.resume:
            state = newest_good(
                config.out, settings, default_settings(config, videos), about.get("digest"), rename=first
            )
            check_alike(self.fabric, config.out, int(state["step"]))
            ramped = bool(getattr(getattr(method, "config", None), "ramp", False)) or any(
                view.spatial and view.spatial.ramp for view in method.views
            )
            self.total = check_length(config, videos, state.get("total"), int(state["step"]), ramped=ramped)
        optimizer = build_optimizer(config.optim, method, state.get("optimizer"), device, fused=fused)
        self.module, self.optimizer = set_up(self.fabric, method, optimizer)
        self.scaler = torch.amp.GradScaler(device, enabled=config.precision == "fp16")
        self.step = 0
        self.evaluations = Evaluations(evaluation)
        self.skips = Skipping(method, self.fabric, allowed=config.nonfinite == "skip")
        self.health = Health()
        self.saved_config = {**about, "settings": settings}
        self.title = f"{about['method']} on {about['backbone']}"
        if state:
            try:
                self._load(state)
            except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
                if machine_fault(error) is not None:  # such as too little memory
                    raise
                raise UserError(
                    f"{config.out}: its checkpoints do not fit this version of dsm; continue with the "
                    f"version that wrote them, or begin another run with its encoder: --weights {config.out}."
                ) from error
        self.batches = self._build_batches(videos)
        reading = self.batches.clips.state
        self.bad = BadVideos(config.out, videos, config.data.max_bad, reading, write=first)
        self.copy = Copy(config.out, config.copy_to) if config.copy_to and first else None

    def _build_batches(self, videos: VideoList) -> Batches:
        c, d, parts = self.config, self.config.data, self.config.optim.accumulate
        workers = reading_workers(d.workers, d.decoder)
        clips = TrainingClips(
            videos, c.clip, c.augment, self.method.views, c.seed, d.cache_mb, d.timeout, workers, d.decoder
        )
        order = EpochBatches(
            len(videos), d.batch_size, c.seed, self.step * parts, self.total * parts,
            parts=parts, rank=self.fabric.global_rank, world=self.fabric.world_size,
        )  # fmt: skip
        return Batches(clips, order, workers, d.timeout, pin_memory=self.fabric.device.type == "cuda")

    def run(self) -> None:
        c, first, begun = self.config, self.fabric.is_global_zero, self.step
        # A killed run may have logged the evaluation that is still to be done.
        without = MONITOR if self.evaluations.pending and self.evaluations.videos else ""
        if first and begun:
            write_record(c, self.videos)
        log = RunLog(c.out, keep_steps=self.step, without=without, track=c.track) if first else None
        if first and begun == self.total:
            note(f"{c.out}: all {self.total} steps are done; to train longer, set --steps and --extend.")
        if first and self.step < self.total and not self.evaluations.given_up:
            (c.out / RESULTS).unlink(missing_ok=True)  # results of a shorter run that is now extended
        batches = iter(self.batches)
        train_mode(self.method)
        chosen = algorithms(self.fabric.device.type, deterministic=c.deterministic)
        shown_at = progress(self.title, self.total, start=self.step, shown=first)
        with chosen, stop_flag() as stop, shown_at as bar, self.copy or nullcontext():
            try:
                clock, shown, signal = StepTimer(), "", 0
                if log and begun:
                    self._finish_pending(log, bar)
                elif log:
                    self.evaluations.begin(self.method, log, bar)
                # This also waits for the first process.
                (worse,) = greatest(self.fabric, int(self.evaluations.given_up))
                if first and worse and begun < self.total:
                    note(
                        f"{c.out}: stopped at step {begun}, as adapting made the encoder worse; to train on, "
                        "set --monitor.patience 0."
                    )
                while self.step < self.total and not worse:
                    output, metrics, bad = self.train_step(batches, clock)
                    self.step += 1
                    signal, any_bad, worse = greatest(
                        self.fabric, stop.signal, len(bad), int(self.evaluations.given_up)
                    )
                    if any_bad:
                        self.bad.add(joined(self.fabric, bad))
                    last = self.step == self.total
                    if self.step % c.log_every == 0 or last:
                        metrics["loss"] = mean(self.fabric, metrics["loss"])
                        timing = clock.read(c.data.batch_size)
                        if log:
                            age = queue_age(self.method, c.data.batch_size)
                            health = self.health.read(output, self.step)
                            log.write(self.step, {**metrics, **health, **age, **timing})
                            shown = step_note(metrics, {**health, **self.evaluations.scores}, timing)
                    status = shown or f"loss {metrics['loss']:.3f}"
                    skips = f"  {self.skips.total} skipped" if self.skips.total else ""
                    bar.update(self.step, status + self.bad.note() + skips)
                    if log and (self.step == 1 or self.step % c.save_every == 0 or last):
                        log.write_gradients(self.step, self.method.query)
                    self._save_and_evaluate(log, bar, stopping=bool(signal or worse))
                    if signal or worse:
                        break
                    clock.restart()
            finally:
                if log:
                    log.close(done=self.step == self.total or bool(worse))
            # A run killed after its last checkpoint has finished training but not written its results.
            if first and (self.step == self.total or worse) and (self.step > begun or not is_ended(c.out)):
                self._end(done=True)
                for line in self.evaluations.adapting.words() if self.evaluations.adapting else ():
                    console.print(line)
        signal = signal or stop.signal  # sent to any process, or to this one in or after the last step
        if signal:
            raise Interrupted(f"stopped at step {self.step} of {self.total} and saved", signal)

    def train_step(self, batches: Any, clock: StepTimer) -> tuple[StepOutput, dict[str, float], list[Any]]:
        """One step over all parts of a batch; the output is the last part's.

        Returns:
            The output, the metrics to log, and the bad videos of this batch.
        """
        c, parts = self.config, self.config.optim.accumulate
        self._seed()
        lr = learning_rate(c.optim, self.step, self.total, c.data.batch_size)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["scale"]
        self.skips.begin_step()
        bad: list[Any] = []
        losses: list[Tensor] = []
        keys: list[Tensor] = []
        inspected: dict[str, Tensor] = {}
        self.optimizer.zero_grad()
        for part in range(parts):
            batch = next(batches)
            clock.lap("wait")
            bad += batch.pop("bad") + batch.pop("damaged")
            views = self.render(self.fabric.to_device(batch))
            with self.fabric.no_backward_sync(self.module, enabled=part < parts - 1):
                with compute_in(c.precision, self.fabric.device.type):
                    output: StepOutput = self.module(views)
                self.fabric.backward(self.scaler.scale(output.loss / parts if parts > 1 else output.loss))
            # The views of the first bad part; of the last, if all are good.
            inspected = _unless(losses, inspected, views) if losses else views
            losses.append(output.loss.detach())
            keys += [output.keys] if output.keys is not None else []
            clock.lap("work")
        self.scaler.unscale_(self.optimizer)
        trained = [p for p in self.method.parameters() if p.grad is not None]
        total_norm = torch.nn.utils.get_total_norm(p.grad for p in trained if p.grad is not None)
        sound = _sound(output.anchor, total_norm)
        # The only place where the CPU waits for the GPU.
        *of_parts, norm, embedded = torch.stack([*losses, total_norm, sound]).tolist()
        loss = 0.0
        for one in of_parts:
            loss += one / parts
        if embedded:
            self.health.add(output)
        if self._is_finite(norm, loss, inspected):
            if c.optim.clip:
                torch.nn.utils.clip_grads_with_norm_(trained, c.optim.clip, total_norm)
            self.scaler.step(self.optimizer)
            all_keys = torch.cat(keys) if keys else None
            self.method.after_step(all_keys, progress=(self.step + 1) / self.total)
        self.scaler.update()
        clock.lap("work")
        clock.step_done()
        return output, {"loss": loss, "lr": lr, "grad_norm": norm, "skipped": self.skips.total}, bad

    def render(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """The views of a batch, (B, C, T, H, W) each, ready for the network, and its labels."""
        views = {
            view.name: render_view(
                view,
                batch["clips"],
                batch["parameters"][view.name],
                self.config.clip.modality,
                progress=self.step / self.total,
            ).contiguous(memory_format=torch.channels_last_3d)
            for view in self.method.views
        }
        return {**views, "label": batch["label"]}

    def _is_finite(self, norm: float, loss: float, views: dict[str, Tensor]) -> bool:
        """Whether the gradient is finite, so that the step can be taken; otherwise it is skipped.

        Raises:
            UserError: it is not finite, and skipping is off or does not help.
        """
        if math.isfinite(norm):
            self.skips.take()
            return True
        if self.skips.skip(loss, self.scaler):
            return False
        self._seed()
        where = where_broken(
            self.method, views, precision=self.config.precision, device_type=self.fabric.device.type,
            alone=self.fabric.world_size == 1,
        )  # fmt: skip
        raise UserError(
            f"step {self.step + 1}: numbers that are not finite, {where} (loss {loss:.3g}); try a lower "
            f"--optim.lr, --optim.clip 1 or --precision fp32, or skip such steps with --nonfinite skip. "
            f"The checkpoints in {self.config.out} are from earlier steps."
        )

    def _seed(self) -> None:
        """Seed dropout and the like from the run's seed, the step and the process alone, so that neither
        resuming nor monitoring changes the draws, on CPUs and GPUs."""
        sequence = np.random.SeedSequence((self.config.seed, self.step, self.fabric.global_rank))
        torch.manual_seed(int(sequence.generate_state(1)[0]))

    def _save_and_evaluate(self, log: RunLog | None, bar: Reporter, *, stopping: bool) -> None:
        """Write a checkpoint and run the monitor when due: the first process does so, the others wait.

        The checkpoint is written first, so that no training is lost if the evaluation is killed. It records
        that the evaluation is due, and a resumed run evaluates first.
        """
        c = self.config
        last = self.step == self.total
        evaluating = self.evaluations.due(self.step, last=last)
        saving = last or stopping or self.step % c.save_every == 0
        if not (evaluating or saving):
            return
        if log:
            self._write_and_evaluate(log, bar, evaluating=evaluating, must=last or stopping)
            if stopping and not last:
                self._end(done=False)
            if self.copy:
                self.copy.update()
        wait_for_all(self.fabric)

    def _write_and_evaluate(self, log: RunLog, bar: Reporter, *, evaluating: bool, must: bool) -> None:
        self.evaluations.pending = evaluating
        self._save(must=must)
        if self.evaluations.finish_pending(self.method, self.step, log, bar):
            path = self._save(must=must)  # again: the evaluation is done
            if path and self.evaluations.best_step == self.step:
                keep_best(path)

    def _finish_pending(self, log: RunLog, bar: Reporter) -> None:
        """Do what is still due after the checkpoint of a killed run: its evaluation, or ``best.pt``."""
        path: Path | None = checkpoint_of(self.config.out, self.step)
        if self.evaluations.finish_pending(self.method, self.step, log, bar):
            path = self._save(must=True)
        if path and self.evaluations.best_step == self.step:
            keep_best(path)

    def _save(self, *, must: bool) -> Path | None:
        """Write a checkpoint. If that fails, raise if it ``must`` be written, else print the error."""
        c = self.config
        state = {
            "config": json.dumps(self.saved_config),
            "method": self.method.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            **self.evaluations.state(),
            "health": self.health.state(),
            "skipped": self.skips.total,
            "skipped_in_a_row": self.skips.in_a_row,
            "total": self.total,
        }
        try:
            return save_checkpoint(c.out, self.step, state, keep=c.keep)
        except UserError as error:
            if must:
                raise
            console.print(f"{error} The run continues and will try again.", style="bold yellow")
            return None

    def _end(self, *, done: bool) -> None:
        c, watched = self.config, self.evaluations.videos
        write_end(
            c.out, self.saved_config, self.videos, watched, self.step, done=done,
            batch=c.data.batch_size, part=clips_at_once(c),
        )  # fmt: skip

    def _load(self, state: dict[str, Any]) -> None:
        self.method.load_state_dict(state["method"])
        self.optimizer.load_state_dict(state["optimizer"])
        if state.get("scaler"):
            self.scaler.load_state_dict(state["scaler"])
        self.step = int(state["step"])
        self.evaluations.load(state)
        self.health = Health(self.step, state.get("health"), self.fabric.device)
        self.skips.total = int(state.get("skipped", 0))
        self.skips.in_a_row = int(state.get("skipped_in_a_row", 0))


def _unless(losses: list[Tensor], kept: dict[str, Tensor], views: dict[str, Tensor]) -> dict[str, Tensor]:
    """``views`` if all losses are finite, otherwise ``kept``; decided on their device."""
    good = torch.isfinite(torch.stack(losses)).all()
    return {name: torch.where(good, one, kept[name]) for name, one in views.items()}


def _sound(embeddings: Tensor | None, like: Tensor) -> Tensor:
    """1 if the embeddings are finite, else 0; a scalar like ``like``."""
    if embeddings is None:
        return torch.zeros_like(like)
    return torch.isfinite(embeddings).all().to(like)
