"""The manifest of a run's snapshots."""

from pathlib import Path

from gpt2.model.snapshots import Snapshot, read_snapshots, snapshot_directory, write_manifest


def test_the_manifest_gives_the_snapshots_in_order_and_then_the_final_model(tmp_path):
    kept = [Snapshot(step, step * 64, snapshot_directory(tmp_path, step)) for step in (0, 20, 100)]
    write_manifest(tmp_path, kept, step=600, tokens=38_400)
    final = Path("data/models/pretrain")
    assert read_snapshots(tmp_path, final) == [*kept, Snapshot(600, 38_400, final)]


def test_a_run_without_snapshots_has_its_final_model(tmp_path):
    write_manifest(tmp_path, [], step=0, tokens=0)
    assert read_snapshots(tmp_path, tmp_path) == [Snapshot(0, 0, tmp_path)]
