"""Schemathesis, driven by the server's own OpenAPI document, finds nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from serving import serving


@pytest.mark.slow
def test_schemathesis_finds_nothing(trained: Path, tmp_path: Path) -> None:
    with serving(f"digits={trained}") as client:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "run", f"http://127.0.0.1:{client.port}/openapi.json"),
                *("--checks", "all", "--max-examples", "25", "--seed", "1", "--workers", "1", "--no-color"),
                *("--generation-database", "none", "--request-timeout", "20"),
                # No schema can say that bytes are a picture, or that data fills its shape.
                *("--exclude-checks", "positive_data_acceptance"),
            ],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=400,
        )
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        assert client.get("/v2/health/ready").status == 200
