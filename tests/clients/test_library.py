"""The Rust library against real Tritons: the example of the README, as it stands there."""
import os
import subprocess

from harness.nodes import ROOT


def test_the_readmes_example_asks_a_real_triton(tritons):
    """The ten lines that a Rust caller starts from: they must get an answer from a Triton, not only from our own pod."""
    for pod in tritons[:2]:
        command = ["cargo", "run", "--quiet", "--locked", "--example", "infer", "--", f"http://127.0.0.1:{pod.grpc}"]
        run = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=110, check=False)
        assert run.returncode == 0, run.stderr
        assert "SERVICE_US INT64 [1]" in run.stdout and pod.name in run.stdout, run.stdout
