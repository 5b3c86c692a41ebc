"""How a job of several processes starts on each system."""

import subprocess

import pytest

from gpt2.common.errors import InputError
from gpt2.common.processes import CREATE_NEW_PROCESS_GROUP, job_arguments
from tests.conftest import ROOT


@pytest.mark.parametrize("system", ["linux", "darwin"])
def test_a_job_is_a_shell_command_that_may_begin_with_variables(system):
    job = job_arguments('GREETING="good day" printenv GREETING', system)
    done = subprocess.run(**job, cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr, done.returncode) == ("good day\n", "", 0)


def test_on_windows_a_job_is_the_program_that_path_finds_with_its_arguments_as_they_are(tmp_path, monkeypatch):
    program = tmp_path / "torchrun"
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    command = r"torchrun --nproc-per-node=2 --log-dir C:\logs -m stages.pretrain"
    expected = {"args": command, "executable": str(program), "creationflags": CREATE_NEW_PROCESS_GROUP}
    assert job_arguments(command, "win32") == expected
    with pytest.raises(InputError, match="machine.launcher = 'nothing -m x': found no program nothing in PATH"):
        job_arguments("nothing -m x", "win32")
