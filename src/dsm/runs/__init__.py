"""Run folders: settings, logs, checkpoints, results, records and cards."""
