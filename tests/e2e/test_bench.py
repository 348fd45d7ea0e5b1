"""The command of `make bench`, its workers in processes of their own, and a real server among those that it times."""

import json
import re
import shutil
import subprocess
import sys
import time

import pytest
from transformers import AddedToken, AutoTokenizer, GenerationConfig

from arte_plugin.engines.own_server import OwnServer
from benchmarks.probing import table
from benchmarks.probing.work import FIXED_TOKENS
from tests.e2e.conftest import ROOT, SERVE

pytest.importorskip("transformers.cli.serving.completion", reason="this transformers serves no /v1/completions")


@pytest.fixture
def model(taught, tmp_path):
    """The taught model, to which " and" is a token that ends a reply: it writes one in each before long."""
    tokenizer = AutoTokenizer.from_pretrained(taught)
    tokenizer.add_tokens(AddedToken("Ġand", special=True, normalized=False))
    settings = GenerationConfig.from_pretrained(taught)
    settings.eos_token_id = [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("Ġand")]
    folder = shutil.copytree(taught, tmp_path / "model")
    tokenizer.save_pretrained(folder)
    settings.save_pretrained(folder)
    return folder


@pytest.fixture
def server(model, tmp_path):
    """The model on `transformers serve`."""
    server = OwnServer("the model", SERVE, {"model": str(model)}, tmp_path / "server.log", 120)
    server.ensure()
    while not server.is_ready():
        time.sleep(0.1)
    yield server
    server.stop()


def test_a_server_is_timed_beside_the_ways_in_this_process(server, model, tmp_path):
    given = {
        "model": model, "prefixes": 600, "siblings": 6, "turns": 1, "contenders": "naive", "threads": 1,
        "server": server.base_url, "server-api": "transformers", "out": tmp_path / "out",
    }  # fmt: skip
    words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.probing.run", *words], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr[-4000:]
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert table.works(results) == ["600/real", "600/fixed"]
    for name in table.works(results):
        naive, served = table.summaries(results, name)
        assert (served.error, served.equal, served.compared) == (None, 6, 6)
        assert served.probes_per_second > 0 and served.tokens_per_second > 0
        # What it computes, and where, can't be seen from here.
        assert naive.computed == 1.0
        assert (served.computed, served.padding, served.peak_memory, served.flops_share) == (None, None, None, None)
    rows = {row["contender"]: row for row in results["turns"] if row["work"] == "600/real"}
    assert rows["naive"]["new_tokens"] == rows["server-1"]["new_tokens"] < 6 * FIXED_TOKENS
    assert all(row["length_kept"] for row in results["turns"])
    assert done.stdout.strip() == (tmp_path / "out/table.md").read_text().strip()
    assert len(re.findall(rf"server at {server.base_url} \(transformers\) \| [\d.]+ \| .* 6 of 6", done.stdout)) == 2
    # A request each, and those of the warm-ups.
    assert server.log_file.read_text().count("POST /v1/completions") == 2 * (6 + 1)
