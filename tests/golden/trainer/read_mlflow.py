"""Reads a store written by `monopass runs export --mlflow DIR` back with MLflow itself: experiments, runs, curves, results.

    pip install mlflow-skinny
    monopass runs export runs/quickstart --mlflow mlruns
    MLFLOW_ALLOW_FILE_STORE=true python tests/golden/trainer/read_mlflow.py mlruns
"""

import sys

from mlflow.store.tracking.file_store import FileStore

store = FileStore(sys.argv[1])
for experiment in store.search_experiments():
    print(experiment.experiment_id, experiment.name)
    for run in store.search_runs([experiment.experiment_id], "", 1):
        losses = store.get_metric_history(run.info.run_id, "train/loss")
        curve = f"{len(losses)} losses, {losses[0].value:.4f} to {losses[-1].value:.4f}, " if losses else ""
        results = sum("/" in name and not name.startswith(("train/", "eval/")) for name in run.data.metrics)
        print(f"  {run.info.run_name}: {run.info.status}, {curve}{results} results, {len(run.data.params)} settings")
