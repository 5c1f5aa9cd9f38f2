"""Run folders: who owns the disk. Settings, logs, checkpoints, results, records and cards."""
