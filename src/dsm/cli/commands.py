"""The verbs of the ``dsm`` command: a new one is a line here and a file in ``verbs/``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Verb:
    """Where a verb's config and function are, and how it is used."""

    module: str
    config: str
    function: str
    summary: str
    examples: tuple[str, ...]


VERBS = {
    "demo": Verb(
        "dsm.demo", "DemoConfig", "demo",
        "the main job end to end on videos it makes itself: a table and report.html",
        ("dsm demo --out runs/demo", "dsm demo --out runs/demo --seeds 0 1 2"),
    ),
    "data synth": Verb(
        "dsm.verbs.synth", "SynthConfig", "synth",
        "write MotionScenes: made videos in which motion and scene are known apart",
        ("dsm data synth scenes", "dsm data synth scenes-full --preset full --scene-correlation 0.5"),
    ),
    "data index": Verb(
        "dsm.verbs.index", "IndexConfig", "index",
        "a folder of videos -> a list (labels from sub-folders, or --unlabelled)",
        ("dsm data index videos --out train.txt", "dsm data index footage --out all.txt --unlabelled"),
    ),
    "data check": Verb(
        "dsm.verbs.check", "CheckConfig", "check",
        "the ledger: every video of a list or folder decoded and judged",
        (
            "dsm data check train.txt",
            "dsm data check footage --json ledger.json --clean usable.txt",
        ),
    ),
    "data convert": Verb(
        "dsm.verbs.convert", "ConvertConfig", "convert",
        "lists of other tools, official annotation files of UCF101, HMDB51, Kinetics… -> lists",
        (
            "dsm data convert theirs.csv --columns path,label,start,end --out ours.txt",
            "dsm data convert ucf101 --annotations ucfTrainTestlist --videos UCF-101 --out lists/ucf101",
            "dsm data convert hmdb51 --annotations testTrainMulti_7030_splits --out lists/hmdb51",
        ),
    ),
    "data subset": Verb(
        "dsm.verbs.subset", "SubsetConfig", "subset",
        "a class-balanced part of a list; the 1 % is inside the 10 %",
        ("dsm data subset train.txt --fraction 0.1 --out train10.txt",),
    ),
    "data split": Verb(
        "dsm.verbs.subset", "SplitConfig", "split",
        "a list -> train.txt and test.txt, groups never parted",
        ("dsm data split all.txt --group-regex 'camera[0-9]+' --out lists",),
    ),
    "data leaks": Verb(
        "dsm.verbs.subset", "LeaksConfig", "leaks",
        "do two lists share a group of videos?",
        ("dsm data leaks train.txt test.txt --group-regex 'camera[0-9]+'",),
    ),
    "data features": Verb(
        "dsm.verbs.features", "FeaturesConfig", "features",
        "features that another tool made -> a file for retrieve, probe, search and embed",
        ("dsm data features theirs.npz --features feats --labels label --paths names --out test.npz",),
    ),
    "data frames": Verb(
        "dsm.verbs.frames", "FramesConfig", "frames",
        "videos -> folders of jpg frames, and a list of them",
        ("dsm data frames train.txt --out frames --short-side 128",),
    ),
    "data pack": Verb(
        "dsm.verbs.pack", "PackConfig", "pack",
        "videos -> a pack at training size, read many times as fast as they are decoded",
        ("dsm data pack train.txt --out packs/train --short-side 128",),
    ),
    "data preview": Verb(
        "dsm.verbs.preview", "PreviewConfig", "preview",
        "what the disturbances make of a list's videos, over their optical flow",
        (
            "dsm data preview train.txt --out preview.html",
            "dsm data preview train.txt --kinds all --measure 50 --out kinds.html --json kinds.json",
        ),
    ),
    "pretrain": Verb(
        "dsm.verbs.train", "PretrainConfig", "pretrain",
        "train an encoder on unlabelled videos",
        (
            "dsm pretrain --data.train train.txt --method dsm --backbone i3d --out runs/mine",
            "dsm pretrain --data.train train.txt --method dsm --backbone i3d --out runs/mine --resume",
            "dsm pretrain --data.train train.txt --out runs/fast --precision bf16 --monitor.list val.txt",
            "dsm pretrain --data.train train.txt --out runs/two --devices 2",
        ),
    ),
    "finetune": Verb(
        "dsm.verbs.train", "FractionsConfig", "finetune",
        "train a classifier on an encoder, or with --linear-probe on its features",
        (
            "dsm finetune --weights runs/mine --data.train train.txt --data.test test.txt --out runs/tuned",
            "dsm finetune --weights none --backbone r3d18 --data.train train.txt --out runs/scratch",
            "dsm finetune --weights runs/mine --linear-probe --data.train train.txt --out runs/probe",
            "dsm finetune --weights runs/mine --data.train train.txt --data.test test.txt "
            "--fractions 0.01 0.1 1 --steps 240 --out runs/few",
        ),
    ),
    "test": Verb(
        "dsm.verbs.video_test", "VideoTestConfig", "test",
        "video-level test of a classifier: top-1, top-5, per class, confusion matrix",
        (
            "dsm test --weights runs/tuned --data.test test.txt --out results/tuned",
            "dsm test --weights runs/tuned/checkpoints/best.pt --data.test test.txt --crops 3 --out best",
            "dsm test --weights runs/dsm --data.test test.txt --against results/moco --out results/dsm",
        ),
    ),
    "recipes": Verb(
        "dsm.verbs.run_recipe", "RecipesConfig", "recipes",
        "named experiments: the paper's scripts with their true settings, and two for small data",
        ("dsm recipes", "dsm recipes table-ucf101-i3d-dsm"),
    ),
    "run": Verb(
        "dsm.verbs.run_recipe", "RunRecipeConfig", "run",
        "pretrain, fine-tune and test in one go, from a named recipe",
        (
            "dsm run table-ucf101-i3d-dsm --data.root UCF-101 --data.train lists/ucf101/train1.txt "
            "--data.test lists/ucf101/test1.txt --out runs/table",
            "dsm run still-camera --data.train train/list.txt --data.test test/list.txt --out runs/own",
        ),
    ),
    "extract": Verb(
        "dsm.verbs.extract", "ExtractConfig", "extract",
        "videos -> features [videos, dim] with paths and labels",
        (
            "dsm extract --weights runs/mine --data test.txt --out test.npz",
            "dsm extract --weights runs/mine --data archive --per-clip --every 2 --out archive.parquet",
        ),
    ),
    "retrieve": Verb(
        "dsm.verbs.retrieve", "RetrieveConfig", "retrieve",
        "recall at 1, 5, 10, 20, 50 of one features file in another",
        (
            "dsm retrieve --gallery train.npz --queries test.npz --out results/retrieval",
            "dsm retrieve --gallery all.npz --queries all.npz --groups groups.tsv --across-groups --out r",
        ),
    ),
    "look": Verb(
        "dsm.verbs.look", "LookConfig", "look",
        "where a network looks: maps over a video, or over a list how much of them is on what moves",
        (
            "dsm look --weights runs/mine video.mp4 --out look.gif",
            "dsm look --weights runs/tuned video.mp4 --target-class fight --out look.png --probe all",
            "dsm look --weights runs/mine test.txt --score --out results/look",
        ),
    ),
    "probe": Verb(
        "dsm.verbs.probe", "ProbeConfig", "probe",
        "what a linear classifier and a vote of neighbours find in features, in seconds",
        (
            "dsm probe --train train.npz --test test.npz --out results/probe",
            "dsm probe --train train.npz --test test.npz --groups groups.tsv --out results/probe",
        ),
    ),
    "embed": Verb(
        "dsm.verbs.embed", "EmbedConfig", "embed",
        "a map of the videos to look into, and how well labels lie apart",
        (
            "dsm embed test.npz --gallery train.npz --out results/embedding",
            "dsm embed moco.npz dsm.npz --colour place=places.tsv --map tsne umap --out results/two",
        ),
    ),
    "search": Verb(
        "dsm.verbs.search", "SearchConfig", "search",
        "the nearest videos of an archive to one; near-duplicates; a local page to search with",
        (
            "dsm extract --weights runs/mine --data archive --per-clip --out archive.npz",
            "dsm search --index archive.npz --query clip.mp4 --time 12.5 --out found.png",
            "dsm search --index archive.npz --duplicates --out duplicates.tsv",
            "dsm search --index archive.npz --serve",
        ),
    ),
    "bias": Verb(
        "dsm.verbs.bias", "BiasConfig", "bias",
        "how much of what weights know is scene: variants of a test, four numbers, pictures",
        (
            "dsm bias --weights runs/tuned --data.test test.txt --out results/bias",
            "dsm bias --weights runs/moco runs/dsm none --backbone i3d --data.train train.txt "
            "--data.test test.txt --out results/bias",
        ),
    ),
    "report": Verb(
        "dsm.verbs.report", "ReportConfig", "report",
        "one run or several on one page that opens anywhere: settings, curves, health; with lists, measured",
        (
            "dsm report runs/mine --out report.html",
            "dsm report runs/moco runs/dsm --out report.html --data.train train.txt --data.test test.txt",
            "dsm report runs/moco runs/dsm --out report.html --results results/bias --curves curves.pdf",
        ),
    ),
    "export": Verb(
        "dsm.verbs.export", "ExportConfig", "export",
        "an encoder -> safetensors, ONNX or a program of torch.export",
        (
            "dsm export --weights runs/mine --out mine.safetensors",
            "dsm export --weights runs/mine --out mine.onnx --head projection",
        ),
    ),
    "card": Verb(
        "dsm.verbs.card", "CardConfig", "card",
        "the model card of a run, written anew with the numbers of tests and probes",
        ("dsm card runs/tuned --results results/tuned results/bias",),
    ),
    "weights inspect": Verb(
        "dsm.verbs.weights", "InspectConfig", "inspect",
        "what a checkpoint holds, whoever wrote it, and what would be loaded of it",
        ("dsm weights inspect r3d_18.pth", "dsm weights inspect runs/mine"),
    ),
    "models": Verb(
        "dsm.verbs.machine", "ModelsConfig", "models", "the available backbones", ("dsm models",)
    ),
    "doctor": Verb(
        "dsm.verbs.machine", "DoctorConfig", "doctor",
        "is this machine ready: versions, cores, devices, codecs", ("dsm doctor",),
    ),
}  # fmt: skip


GROUPS = {name.split()[0] for name in VERBS if " " in name}
"""First words of verbs that have two."""
