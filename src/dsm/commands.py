"""The verbs of the ``dsm`` command. A new one needs an entry here, a file in ``verbs/``, and a class for its
settings in a file of ``verbs/settings/``.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Verb:
    """A verb's module, config class and function, its summary and example commands."""

    module: str
    config: str
    """The class of its settings, after the name of its file in ``verbs/settings/``."""
    function: str
    summary: str
    examples: tuple[str, ...]
    first: tuple[str, ...] = ()
    """The settings that `--help` shows, if there are too many for it; `--help-all` shows all."""

    def find_config(self) -> Any:
        """The class of its settings, from a module that does not import torch."""
        file, name = self.config.split(".")
        return getattr(importlib.import_module(f"dsm.verbs.settings.{file}"), name)

    def find_function(self) -> Any:
        """The verb's function, from the settings to a ``Result``; its module is imported here."""
        return getattr(importlib.import_module(self.module), self.function)


VERBS = {
    "doctor": Verb(
        "dsm.verbs.doctor", "weights.DoctorConfig", "doctor",
        "check this machine: versions, cores, devices, codecs", ("dsm doctor",),
    ),
    "demo": Verb(
        "dsm.demo", "training.DemoConfig", "demo",
        "try dsm end to end on generated videos; prints a table, writes report.html",
        ("dsm demo --out runs/demo", "dsm demo --out runs/demo --seeds 0 1 2"),
    ),
    "data synth": Verb(
        "dsm.verbs.synth", "data.SynthConfig", "synth",
        "write MotionScenes: generated videos with known motion and known scene",
        ("dsm data synth scenes", "dsm data synth scenes-full --preset full --scene-correlation 0.5"),
    ),
    "data index": Verb(
        "dsm.verbs.index", "data.IndexConfig", "index",
        "make a list from a folder of videos (labels from sub-folders, or --unlabelled)",
        ("dsm data index videos --out train.txt", "dsm data index footage --out all.txt --unlabelled"),
    ),
    "data check": Verb(
        "dsm.verbs.check", "data.CheckConfig", "check",
        "decode every video of a list or folder, and report the bad ones",
        (
            "dsm data check train.txt --frames 61 --strict",
            "dsm data check footage --json ledger.json --clean usable.txt",
        ),
    ),
    "data convert": Verb(
        "dsm.verbs.convert", "data.ConvertConfig", "convert",
        "make lists from other tools' lists or the annotation files of UCF101, HMDB51 and others",
        (
            "dsm data convert theirs.csv --columns path,label,start,end --out ours.txt",
            "dsm data convert ucf101 --annotations ucfTrainTestlist --videos UCF-101 --out lists/ucf101",
            "dsm data convert hmdb51 --annotations testTrainMulti_7030_splits --out lists/hmdb51",
        ),
    ),
    "data subset": Verb(
        "dsm.verbs.subset", "data.SubsetConfig", "subset",
        "take the same share of each class from a list; the 1 % part lies inside the 10 % part",
        ("dsm data subset train.txt --fraction 0.1 --out train10.txt",),
    ),
    "data split": Verb(
        "dsm.verbs.subset", "data.SplitConfig", "split",
        "split a list into train.txt and test.txt, keeping groups together",
        ("dsm data split all.txt --group-regex 'camera[0-9]+' --out lists",),
    ),
    "data leaks": Verb(
        "dsm.verbs.subset", "data.LeaksConfig", "leaks",
        "check whether two lists share a group of videos",
        ("dsm data leaks train.txt test.txt --group-regex 'camera[0-9]+'",),
    ),
    "data dedup": Verb(
        "dsm.verbs.dedup", "data.DedupConfig", "dedup",
        "remove near-duplicates from a list, keeping one video of each group",
        (
            "dsm extract --weights runs/mine --data train.txt --out train.npz",
            "dsm data dedup train.txt --features train.npz --out clean.txt",
        ),
    ),
    "data export": Verb(
        "dsm.verbs.export_features", "data.DataExportConfig", "export",
        "write features for FiftyOne, LanceDB, vector databases or the Embedding Projector",
        (
            "dsm data export test.npz --to parquet --out test.parquet",
            "dsm data export test.npz --to fiftyone --out test-fiftyone",
        ),
    ),
    "data features": Verb(
        "dsm.verbs.import_features", "data.FeaturesConfig", "features",
        "import another tool's features for retrieve, probe, search and embed",
        ("dsm data features theirs.npz --features feats --labels label --paths names --out test.npz",),
    ),
    "data frames": Verb(
        "dsm.verbs.frames", "data.FramesConfig", "frames",
        "write videos as folders of jpg frames, and a list of them",
        ("dsm data frames train.txt --out frames --short-side 128",),
    ),
    "data pack": Verb(
        "dsm.verbs.pack", "data.PackConfig", "pack",
        "write videos at training size into a pack, which reads much faster than decoding",
        (
            "dsm data pack train.txt --out packs/train --short-side 128",
            "dsm data pack train.txt --out packs/train --short-side 128 --square",
        ),
    ),
    "data preview": Verb(
        "dsm.verbs.preview", "data.PreviewConfig", "preview",
        "show how the disturbances change a list's videos and their optical flow",
        (
            "dsm data preview train.txt --out preview.html",
            "dsm data preview train.txt --kinds all --measure 50 --out kinds.html --json kinds.json",
        ),
        (
            "videos", "out", "json", "root", "clip.frames", "clip.stride", "clip.size", "kinds", "show",
            "measure", "sld.strength", "sld.mixing-strength", "overwrite",
        ),
    ),
    "pretrain": Verb(
        "dsm.verbs.train", "training.PretrainConfig", "pretrain",
        "train an encoder on unlabelled videos",
        (
            "dsm pretrain --data.train train.txt --method dsm --backbone i3d --out runs/mine",
            "dsm pretrain --data.train train.txt --method dsm --backbone i3d --out runs/mine --resume",
            "dsm pretrain --data.train train.txt --out runs/fast --precision bf16 --monitor.list val.txt",
            "dsm pretrain --data.train packs/train/list.txt --backbone r3d18 --data.batch-size 64 "
            "--data.workers 8 --precision bf16 --epochs 100 --out runs/own",
            "dsm pretrain --data.train train.txt --out runs/two --devices 2",
        ),
        (
            "out", "data.train", "data.root", "data.batch-size", "data.workers", "method", "backbone",
            "weights", "clip.frames", "clip.stride", "clip.resize", "clip.size", "epochs", "steps",
            "optim.lr", "precision", "devices", "seed", "track", "resume", "overwrite",
        ),
    ),
    "finetune": Verb(
        "dsm.verbs.train", "training.FractionsConfig", "finetune",
        "fine-tune an encoder with a classifier; with --linear-probe, train only the classifier",
        (
            "dsm finetune --weights runs/mine --data.train train.txt --data.test test.txt --out runs/tuned",
            "dsm finetune --weights none --backbone r3d18 --data.train train.txt --out runs/scratch",
            "dsm finetune --weights runs/mine --linear-probe --data.train labels.csv --data.root footage "
            "--steps 240 --dropout 0 --out runs/probe",
            "dsm finetune --weights runs/mine --data.train train.txt --data.test test.txt "
            "--fractions 0.01 0.1 1 --steps 240 --out runs/few",
        ),
        (
            "out", "data.train", "data.test", "data.root", "data.batch-size", "weights", "backbone",
            "linear-probe", "dropout", "fractions", "data.workers", "clip.frames", "clip.stride",
            "clip.resize", "clip.size", "epochs", "steps", "optim.lr", "precision", "track", "resume",
            "overwrite",
        ),
    ),
    "test": Verb(
        "dsm.verbs.video_test", "evaluation.VideoTestConfig", "test",
        "test a classifier on whole videos: top-1, top-5, per class, confusion matrix",
        (
            "dsm test --weights runs/tuned --data.test test.txt --out results/tuned",
            "dsm test --weights runs/tuned/checkpoints/best.pt --data.test test.txt --crops 3 --out best",
            "dsm test --weights runs/dsm --data.test test.txt --against results/moco --out results/dsm",
        ),
    ),
    "recipes": Verb(
        "dsm.verbs.run_recipe", "training.RecipesConfig", "recipes",
        "list named experiments: the paper's scripts with their actual settings, and two for small data",
        ("dsm recipes", "dsm recipes table-ucf101-i3d-dsm"),
    ),
    "run": Verb(
        "dsm.verbs.run_recipe", "training.RunRecipeConfig", "run",
        "run a recipe: pretrain, fine-tune and test in one command",
        (
            "dsm run table-ucf101-i3d-dsm --data.root UCF-101 --data.train lists/ucf101/train1.txt "
            "--data.test lists/ucf101/test1.txt --out runs/table",
            "dsm run still-camera --data.train train/list.txt --data.test test/list.txt --out runs/own",
        ),
        (
            "name", "out", "data.train", "data.test", "data.root", "data.pretrain", "data.pretrain-root",
            "data.workers", "weights", "seed", "precision", "windows", "track", "overwrite",
            "pretrain.steps", "pretrain.batch-size", "finetune.steps", "finetune.batch-size",
        ),
    ),
    "extract": Verb(
        "dsm.verbs.extract", "evaluation.ExtractConfig", "extract",
        "compute one feature per video or clip, with paths and labels",
        (
            "dsm extract --weights runs/mine --data test.txt --out test.npz",
            "dsm extract --weights runs/mine --data packs/test/list.txt --workers 8 --out test.npz",
            "dsm extract --weights runs/mine --data archive --per-clip --every 2 --out archive.parquet",
        ),
    ),
    "retrieve": Verb(
        "dsm.verbs.retrieve", "evaluation.RetrieveConfig", "retrieve",
        "search one features file for the videos of another: recall at 1, 5, 10, 20, 50",
        (
            "dsm retrieve --gallery train.npz --queries test.npz --out results/retrieval",
            "dsm retrieve --gallery all.npz --queries all.npz --groups groups.tsv --across-groups --out r",
        ),
    ),
    "look": Verb(
        "dsm.verbs.look", "evaluation.LookConfig", "look",
        "map where a network looks in a video, or measure over a list how much falls on motion",
        (
            "dsm look --weights runs/mine video.mp4 --out look.gif",
            "dsm look --weights runs/tuned video.mp4 --target-class fight --out look.png --probe all",
            "dsm look --weights runs/mine test.txt --score --out results/look",
        ),
        (
            "videos", "weights", "out", "score", "probe", "target-class", "target", "map", "layer", "head",
            "start", "other", "colours", "root", "workers", "overwrite", "groups", "group-regex",
        ),
    ),
    "probe": Verb(
        "dsm.verbs.probe", "evaluation.ProbeConfig", "probe",
        "test features in seconds with a linear classifier and a nearest-neighbour vote",
        (
            "dsm probe --train train.npz --test test.npz --out results/probe",
            "dsm probe --train train.npz --test test.npz --groups groups.tsv --out results/probe",
        ),
    ),
    "embed": Verb(
        "dsm.verbs.embed", "evaluation.EmbedConfig", "embed",
        "draw an interactive map of videos, and measure how well features separate labels",
        (
            "dsm embed test.npz --gallery train.npz --out results/embedding",
            "dsm embed moco.npz dsm.npz --colour place=places.tsv --map tsne umap --out results/two",
        ),
    ),
    "search": Verb(
        "dsm.verbs.search", "exploring.SearchConfig", "search",
        "find the videos most like a query, find near-duplicates, or serve a local search page",
        (
            "dsm extract --weights runs/mine --data archive --per-clip --out archive.npz",
            "dsm search --index archive.npz --query clip.mp4 --time 12.5 --out found.png",
            "dsm search --index archive.npz --query clip.mp4 --camera cam3 --k 20 --page 2",
            "dsm search --index archive.npz --duplicates --out duplicates.html",
            "dsm search --index archive.npz --serve",
        ),
    ),
    "explore": Verb(
        "dsm.verbs.explore", "exploring.ExploreConfig", "explore",
        "make a page about unlabelled footage: map, clusters, rare clips, near-duplicates, times",
        (
            "dsm explore footage --weights runs/mine --out explore.html",
            "dsm explore archive.npz --cameras cameras.tsv --out explore.html",
            "dsm explore archive.npz --labels labels.csv --out next.html",
            "dsm explore today --against archive.npz --false-alarms 0.01 --out alerts.html",
        ),
        (
            "source", "out", "weights", "cameras", "camera-regex", "labels", "against", "false-alarms",
            "root", "rarest", "duplicates", "backbone", "frames", "stride", "resize", "size", "windows",
            "per-clip", "every", "workers", "overwrite",
        ),
    ),
    "bias": Verb(
        "dsm.verbs.bias", "evaluation.BiasConfig", "bias",
        "measure whether weights rely on the scene or on the motion: a verdict, numbers, pictures",
        (
            "dsm bias --weights runs/tuned --data.test test.txt --out results/bias",
            "dsm bias --weights runs/moco runs/dsm none --backbone i3d --data.train train.txt "
            "--data.test test.txt --out results/bias",
            "dsm bias --weights runs/mine --data.test unlabelled.txt --out results/bias",
        ),
        (
            "weights", "out", "data.test", "data.train", "data.root", "data.workers", "masks", "opposites",
            "quick", "names", "windows", "batch-size", "precision", "overwrite", "groups", "group-regex",
            "backbone",
        ),
    ),
    "report": Verb(
        "dsm.verbs.report", "evaluation.ReportConfig", "report",
        "write one self-contained page about one or more runs; given lists, measure them too",
        (
            "dsm report runs/mine --out report.html",
            "dsm report runs/moco runs/dsm --out report.html --data.train train.txt --data.test test.txt",
            "dsm report runs/moco runs/dsm --out report.html --results results/bias --curves curves.pdf",
        ),
    ),
    "export": Verb(
        "dsm.verbs.export", "weights.ExportConfig", "export",
        "export an encoder as safetensors, ONNX or a torch.export program",
        (
            "dsm export --weights runs/mine --out mine.safetensors",
            "dsm export --weights runs/mine --out mine.onnx --head projection",
        ),
    ),
    "card": Verb(
        "dsm.verbs.card", "weights.CardConfig", "card",
        "rewrite a run's model card with the numbers of tests and probes",
        ("dsm card runs/tuned --results results/tuned results/bias",),
    ),
    "weights inspect": Verb(
        "dsm.verbs.weights", "weights.InspectConfig", "inspect",
        "show what a checkpoint of any tool contains, and what dsm would load from it",
        ("dsm weights inspect r3d_18.pth", "dsm weights inspect runs/mine"),
    ),
    "models": Verb(
        "dsm.verbs.models", "weights.ModelsConfig", "models", "list the available backbones", ("dsm models",)
    ),
}  # fmt: skip


GROUPS = {name.split()[0] for name in VERBS if " " in name}
"""First words of two-word verbs."""
