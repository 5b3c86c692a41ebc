"""Checkpoints: the last two are kept, damaged ones are skipped, and a failed write does no harm."""

import errno
import os
import random

import pytest
import torch

from gpt2.common.errors import InputError
from gpt2.training.resume import Checkpoints


def test_the_newest_two_are_kept_and_the_newest_is_loaded(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.load() is None
    for step in (5, 10, 100):
        checkpoints.save(step, {"step": step, "w": torch.full((2,), float(step))})
    assert [path.name for path in checkpoints.paths()] == ["step_00000100.pt", "step_00000010.pt"]
    assert checkpoints.load()["step"] == 100


@pytest.mark.parametrize("damage", ["flipped", "truncated", "empty", "garbage"])
def test_a_damaged_checkpoint_is_skipped_with_a_message(tmp_path, damage, capsys):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"step": 1})
    checkpoints.save(2, {"step": 2, "w": torch.zeros(1000)})
    newest = checkpoints.paths()[0]
    content = bytearray(newest.read_bytes())
    content[content.index(bytes(4000))] = 1  # one bit in the middle of the tensor
    cut = content[: len(content) // 2]
    newest.write_bytes({"flipped": content, "truncated": cut, "empty": b"", "garbage": b"\x80garbage" * 50}[damage])
    assert checkpoints.load()["step"] == 1
    assert capsys.readouterr().err.startswith(f"{newest} is damaged and skipped: ")


def test_a_flipped_bit_anywhere_does_not_crash(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"step": 1})
    (path,) = checkpoints.paths()
    content, chosen = path.read_bytes(), random.Random(0)
    for place in chosen.sample(range(len(content)), 200):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << chosen.randrange(8)]) + content[place + 1 :])
        assert checkpoints.load() in (None, {"step": 1})


def test_a_checkpoint_cannot_run_code(tmp_path, capsys):
    class Hostile:
        def __reduce__(self):
            return (print, ("code ran",))

    checkpoints = Checkpoints(tmp_path)
    torch.save({"step": Hostile()}, tmp_path / "step_00000001.pt")
    assert checkpoints.load() is None
    assert "damaged" in (printed := capsys.readouterr()).err and "code ran" not in printed.out


def test_an_error_for_a_full_disk_names_the_last_checkpoint_which_stays(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"step": 1})
    with monkeypatch.context() as context:
        context.setattr(os, "fsync", full)
        with pytest.raises(
            InputError, match=r"step_00000002\.pt: No space left .*good checkpoint: .*step_00000001\.pt"
        ):
            checkpoints.save(2, {"step": 2})
    assert checkpoints.load()["step"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000001.pt"]


def test_the_rest_of_a_killed_write_is_removed(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"step": 1})
    (tmp_path / ".step_00000002.pt.tmp").write_bytes(b"half")
    assert checkpoints.load()["step"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000001.pt"]
