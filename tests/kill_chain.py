"""Kills the chain at random moments, runs it again, and compares the result with an undisturbed run:

    python -m tests.kill_chain --kills 10 --seed 1

Both runs use the smoke profile, each in a copy of the repository. This takes some minutes and is not part of
`make test`. Each kill hits a random stage at a random moment: SIGINT, SIGTERM or SIGKILL to dvc, the stage, torchrun, a
rank or a worker. After each kill no process may be left, and every file of an out must be complete. After the last kill
`dvc repro` must produce the dvc.lock of the undisturbed run, except for the files that differ from run to run, and no
temporary file may be left.
"""

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from stages.verify import Facts, compare, describe, read_lock
from tests.repository import Repository

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
TEMPORARY = ("data/**/.*.new", "data/**/.*.tmp", "reports/**/.*.new", "reports/**/.*.tmp", ".scratch/*/*")


class Chain(Repository):
    """A copy of the repository in which `dvc repro` runs while we read its output."""

    def __init__(self, place: Path):
        super().__init__(place, "smoke", HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1")
        self._log = place.with_suffix(".log")

    def repro(self) -> subprocess.Popen:
        with open(self._log, "w") as log:
            return self.start("dvc", "repro", stdout=log, stderr=subprocess.STDOUT)

    def printed(self) -> str:
        """The output of the last `dvc repro` so far."""
        return self._log.read_text()

    def reached(self) -> list[str]:
        """The stages that it has run, skipped or is running."""
        return re.findall(r"^(?:Running s|S)tage '(\w+)'", self.printed(), re.MULTILINE)

    def lock(self) -> dict[str, Facts]:
        return read_lock((self.path / "dvc.lock").read_bytes(), "dvc.lock")

    def torn(self, whole: "Chain") -> list[str]:
        """Files of outs that differ from those of another copy."""
        outs = [path for facts in whole.lock().values() for kind, path in facts if kind == "out"]
        names = {file.relative_to(self.path) for out in outs for file in self._files(self.path / out)}
        return [str(name) for name in sorted(names) if not _same(self.path / name, whole.path / name)]

    @staticmethod
    def _files(out: Path) -> list[Path]:
        return [file for file in (out, *out.rglob("*")) if file.is_file()]

    def delete_torn_rwlock(self) -> bool:
        """If DVC is killed while it writes .dvc/tmp/rwlock, it refuses to run again. Returns whether that happened."""
        path = self.path / ".dvc/tmp/rwlock"
        try:
            json.loads(path.read_bytes() if path.exists() else "{}")
        except ValueError:
            path.unlink()
            return True
        return False

    def leftovers(self) -> list[str]:
        """Files that should exist only while a stage runs."""
        return sorted(str(path.relative_to(self.path)) for glob in TEMPORARY for path in self.path.glob(glob))


def _same(file: Path, other: Path) -> bool:
    return other.is_file() and file.read_bytes() == other.read_bytes()


def run_undisturbed(chain: Chain) -> dict[str, float]:
    """Runs the chain and returns the seconds that each stage took."""
    process, began = chain.repro(), {}
    while process.poll() is None:
        for stage in chain.reached():
            began.setdefault(stage, time.monotonic())
        time.sleep(0.05)
    assert process.returncode == 0, chain.reached()
    ends = [*list(began.values())[1:], time.monotonic()]
    return {stage: end - start for (stage, start), end in zip(began.items(), ends, strict=True)}


def kill_once(chain: Chain, stage: str, delay: float, chance: random.Random) -> str:
    """Runs the chain until `delay` seconds into a stage, signals one process, and waits until all have ended.

    If the stage ends sooner, the signal comes when the next one begins. Returns a line that describes the event.
    """
    process = chain.repro()
    while process.poll() is None and stage not in chain.reached():
        time.sleep(0.05)
    ends = time.monotonic() + delay
    while time.monotonic() < ends and process.poll() is None and chain.reached()[-1] == stage:
        time.sleep(0.02)
    running = sorted(chain.processes().items())
    if not running:
        assert process.wait() == 0, f"dvc repro failed by itself: {chain.printed()[-2000:]}"
        return f"{stage}: ended before the kill"
    (pid, name), number = chance.choice(running), chance.choice(SIGNALS)
    at = chain.reached()[-1]
    os.kill(pid, number)
    process.wait()  # on SIGINT dvc waits for the stage
    chain.wait_for(lambda: not chain.processes())
    torn = "; deleted the incomplete .dvc/tmp/rwlock" if chain.delete_torn_rwlock() else ""
    return f"{at}: {number.name} to {name}; dvc ended with status {process.returncode}{torn}"


def main() -> int:
    """Prints a line per kill and every problem. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.kill_chain", description="Kills the chain, and compares.")
    parser.add_argument("--kills", type=int, default=10, metavar="N", help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="seed of the kills; default: %(default)s")
    args = parser.parse_args()
    chance, wrong = random.Random(args.seed), []
    with tempfile.TemporaryDirectory() as place:
        undisturbed, killed = (Chain(Path(place, name)) for name in ("undisturbed", "killed"))
        seconds = run_undisturbed(undisturbed)
        order = list(seconds)
        print(f"undisturbed: {len(order)} stages in {sum(seconds.values()):.0f} s", flush=True)
        for stage in sorted(chance.choices(order, weights=list(seconds.values()), k=args.kills), key=order.index):
            print(kill_once(killed, stage, chance.uniform(0, seconds[stage]), chance), flush=True)
            if torn := killed.torn(undisturbed):
                wrong += torn
                print(f"  incomplete: {', '.join(torn)}", flush=True)
        killed.ok("dvc", "repro")
        locks = undisturbed.lock(), killed.lock()
        wrong += [*describe(list(compare(*locks, order)), *locks), *killed.leftovers()]
        print("\n".join(wrong) or "the last run produced the dvc.lock of the undisturbed run, and no temporary files")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
