"""The benchmark of probing on a tiny random Llama: its contenders agree, and what it counts is what was computed."""

import json

import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch")

from benchmarks.probing import contenders, measure, run, table, work, worker  # noqa: E402
from tests.staged_server import Staged, answer  # noqa: E402
from tests.tiny import tiny_model  # noqa: E402

WORKS = ["600/real", "600/fixed"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def bench(folder, tmp_path, monkeypatch):
    """Runs the command, with its workers in this process: starting another takes longer than all that it does."""

    def in_process(spec):
        if spec["contender"] == "ceilings":
            return measure.ceilings("cpu", torch.float32, size=64, numbers=4096)
        return json.loads(json.dumps(list(worker.run(json.loads(json.dumps(spec))))))

    monkeypatch.setattr(run, "run_worker", in_process)

    def start(*more, names="naive,batched,engine"):
        given = ["--model", folder, "--prefixes", 600, "--siblings", 2, "--turns", 1, "--contenders", names, *more]
        done = CliRunner().invoke(run.main, [*map(str, given), "--out", str(tmp_path)], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return json.loads((tmp_path / "results.json").read_text()), (tmp_path / "table.md").read_text()

    return start


def test_everybody_gives_the_same_replies_and_is_counted(bench):
    results, shown = bench()
    assert table.works(results) == WORKS
    for name in WORKS:
        naive, batched, engine = table.summaries(results, name)
        assert [one.contender for one in (naive, batched, engine)] == ["naive", "batched", "engine"]
        assert (naive.equal, naive.compared) == (0, 0)
        assert (batched.equal, batched.compared) == (engine.equal, engine.compared) == (2, 2)
        # One by one, every prompt is computed once and whole.
        assert (naive.computed, naive.padding) == (1.0, 0.0)
        assert batched.computed >= 1.0 and batched.padding > 0
        assert engine.computed < 0.7
        for one in (naive, batched, engine):
            assert one.probes_per_second > 0 and one.peak_memory > 1 << 20
            assert one.flops_share > 0 and one.bytes_share > 0
    rows = {row["contender"]: row for row in results["turns"] if row["work"] == "600/fixed"}
    assert {row["new_tokens"] for row in rows.values()} == {2 * work.FIXED_TOKENS}
    assert all(row["length_kept"] for row in results["turns"])
    assert shown.count("2 of 2") == 4 and "1.00 x" in shown
    assert "True" not in json.dumps(results["turns"]), "no word of a question or reply is kept"


def test_a_reply_that_differs_is_told(bench, monkeypatch):
    answer = contenders.Engine.run

    def otherwise(self, prompts):
        first, *others = answer(self, prompts)
        return [contenders.Output(first.text + "!", first.new_tokens), *others]

    monkeypatch.setattr(contenders.Engine, "run", otherwise)
    results, shown = bench("--lengths", "fixed")
    _, batched, engine = table.summaries(results, "600/fixed")
    assert (batched.equal, engine.equal, engine.compared) == (2, 1, 2)
    assert "1 of 2" in shown


def test_fewer_for_the_naive_loop(bench):
    results, shown = bench("--lengths", "real", "--naive-siblings", 1, "--batched-siblings", 2)
    naive, batched, engine = table.summaries(results, "600/real")
    assert (naive.probes, batched.probes, batched.compared, engine.compared) == (1, 2, 1, 2)
    assert "was asked 1 of the 2 probes" in shown
    assert [work.spread(40, 4), work.spread(3, 8)] == [[0, 10, 20, 30], [0, 1, 2]]


def test_a_run_goes_on_from_another_with_other_works_or_more_turns(bench, tmp_path):
    first, _ = bench("--lengths", "real", names="engine")
    (tmp_path / "first.json").write_text(json.dumps(first))
    add = ("--lengths", "fixed", "--add", tmp_path / "first.json")
    both, _ = bench(*add, names="engine")
    assert table.works(both) == WORKS and both["turns"][0] == first["turns"][0]
    assert len(both["ceilings"]) == 2
    (tmp_path / "both.json").write_text(json.dumps(both))
    more, shown = bench("--add", tmp_path / "both.json", "--turns", 2, names="engine")
    assert [(row["turn"], row["work"]) for row in more["turns"]] == [(n, name) for n in range(3) for name in WORKS]
    assert "Medians of 3 turns." in shown and len(more["ceilings"]) == 4 and more["settings"]["turns"] == 3
    with pytest.raises(AssertionError, match="comes from other settings"):
        bench(*add, "--batch-size", 3, names="engine")


def test_a_server_that_does_not_answer_is_told_of_at_once(tmp_path):
    given = ["--server", "http://127.0.0.1:9/v1", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(run.main, given)
    assert done.exit_code == 2 and "no server answers at http://127.0.0.1:9/v1 (" in done.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("api", ["vllm", "sglang", "transformers", "openai"])
def test_what_a_server_is_asked(api, folder):
    """Replies of a fixed length end at no token, where the server can be told so."""
    server, renderer = Staged(answer("so", "length", 2)), worker.load_renderer(str(folder))
    for length in ("real", "fixed"):
        given = work.make_work(work.read_task(run.QUESTIONS), renderer, 600, length, 2)
        found = contenders.Server(renderer, given, server.url, api, "m").run(given.prompts)
        assert found == [contenders.Output("so", 2)] * 2
    real, *_, fixed = server.bodies
    assert (real["max_tokens"], fixed["max_tokens"]) == (work.REAL_TOKENS, work.FIXED_TOKENS)
    assert "stop" not in fixed and ("stop" in real) == (api != "openai")
    end = renderer.tokenizer.eos_token_id
    taken = {
        "vllm": ({"stop_token_ids": [end]}, {"ignore_eos": True}),
        "sglang": ({"stop_token_ids": [end]}, {"ignore_eos": True}),
        "transformers": ({}, {"eos_token_id": -1}),
        "openai": ({}, {}),
    }
    for body, told in zip((real, fixed), taken[api], strict=True):
        body |= json.loads(body.get("generation_config", "{}"))
        assert {name: body[name] for name in ("stop_token_ids", "ignore_eos", "eos_token_id") if name in body} == told
    server.shutdown()
    server.server_close()


def test_replies_of_other_lengths_are_told(bench, monkeypatch):
    """As those of a server that ends its replies all the same."""
    answer = contenders.Engine.run
    monkeypatch.setattr(
        contenders.Engine,
        "run",
        lambda self, prompts: [contenders.Output(one.text, one.new_tokens - 1) for one in answer(self, prompts)],
    )
    results, shown = bench("--lengths", "fixed", names="naive,engine")
    assert [row["length_kept"] for row in results["turns"]] == [True, False]
    assert shown.count("gave replies of other lengths than were asked for") == 1
    assert "arte_plugin's engine gave replies of other lengths" in shown


def test_a_contender_that_fails_is_shown_with_its_reason(bench, monkeypatch):
    workers = run.run_worker

    def refuse(spec):
        if spec["contender"] == "batched":
            raise run.WorkerError("out of memory")
        return workers(spec)

    monkeypatch.setattr(run, "run_worker", refuse)
    results, shown = bench("--lengths", "real")
    assert [one.error for one in table.summaries(results, "600/real")] == [None, "out of memory", None]
    assert "failed: out of memory" in shown


def test_one_table_has_the_speeds_at_all_works(bench):
    results, _ = bench(names="naive,engine")
    for number, seconds in enumerate((4, 1, 2)):
        for row in results["turns"][:4]:
            results["turns"].append({**row, "turn": number, "seconds": seconds})
    results["turns"] = [*results["turns"][4:], {"contender": "engine", "work": "600/fixed", "error": "no memory"}]
    results["turns"][-1]["prefix_tokens"] = results["turns"][0]["prefix_tokens"]
    head, _, real, fixed = table.overview(results).splitlines()
    assert head == "| prefix | replies | `generate`, one by one | arte_plugin's engine |"
    assert real.endswith("| real lengths | 1.00 (0.50 to 2.00) | 1.00 (0.50 to 2.00) |")
    assert fixed.endswith(f"| {work.FIXED_TOKENS} new tokens each | 1.00 (0.50 to 2.00) | failed |")
    assert "### Probes/s\n\n| prefix" in table.page(results, "###")
    assert "## Probes/s" not in bench("--lengths", "real")[1], "the table of one work says it all"


def test_targets_are_met_or_not_by_the_figures_alone():
    counts = {"forwards": 9, "stepped": 0, "masked": 0, "keys": 0, "logits": 0}

    def row(name, seconds, tokens):
        return {
            "turn": 0, "contender": name, "work": "512/real", "seconds": seconds, "probes": 10, "prompt_tokens": 6000,
            "prefix_tokens": 500, "needed_tokens": 1500, "new_tokens": 110, "extra_tokens": 0, "equal": 0,
            "compared": 0, "length_kept": True, "counts": {**counts, "tokens": tokens},
        }  # fmt: skip

    ceilings = [{"flops_per_second": 1.0, "bytes_per_second": 1.0}]
    names = {"naive": "a", "batched": "b", "engine": "d"}
    slow, fast = (
        {"settings": {"contenders": names}, "ceilings": ceilings, "turns": turns}
        for turns in (
            [row("naive", 20, 6100), row("batched", 15, 6100), row("engine", 10, 2000)],
            [row("naive", 60, 6100), row("batched", 20, 6100), row("engine", 10, 1700)],
        )
    )
    assert [line[-2:] for line in table.targets(slow)[1:]] == [["2.00 x", "no"], ["1.50 x", "no"], ["20.0 %", "no"]]
    assert [line[-2:] for line in table.targets(fast)[1:]] == [["6.00 x", "yes"], ["2.00 x", "yes"], ["5.9 %", "yes"]]


def test_flops_and_bytes_of_a_known_model(folder):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    shape, meter = measure.Shape.of(model), measure.Meter(model)
    layer = 64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 128 + 2 * 64
    head = 64 * model.config.vocab_size
    assert (shape.body, shape.head) == (2 * layer + 64, head)
    ids = torch.ones(3, 5, dtype=torch.long)
    mask = torch.tensor([[0, 0, 1, 1, 1], [1] * 5, [1] * 5])
    model(input_ids=ids, attention_mask=mask)
    counts = meter.counts()
    assert counts == measure.Counts(forwards=1, tokens=15, stepped=0, masked=2, keys=45, logits=15)
    assert shape.flops(counts) == 2 * (2 * layer + 64) * 15 + 2 * head * 15 + 4 * 2 * 4 * 16 * 45
    assert shape.bytes_read(counts, 7) == (2 * layer + 64 + head) * 4 + 2 * 2 * 2 * 16 * 4 * 7
    meter.start()
    model(torch.ones(1, 2, dtype=torch.long), position_ids=torch.tensor([[9, 4]]), logits_to_keep=1)
    assert meter.counts() == measure.Counts(forwards=1, tokens=2, keys=15, logits=1)


def test_what_generate_batch_writes_is_cut_and_its_extra_tokens_counted(folder):
    renderer = worker.load_renderer(str(folder))
    task = work.read_task(run.QUESTIONS)
    given = work.make_work(task, renderer, 600, "real", 2)

    class Settings:
        generation_config = type("", (), {"eos_token_id": renderer.tokenizer.eos_token_id})

    paged = contenders.Paged(Settings, renderer, given, 2, 2)
    tokens = renderer.tokenizer("so <ans>A</ans> and more")["input_ids"]
    assert paged.read(tokens) == contenders.Output("so <ans>A</ans>", len(tokens), len(" and more"))
    end = renderer.tokenizer.eos_token_id
    assert paged.read([*tokens[:4], end]) == contenders.Output("so <", 5, 0)
    padded = [*tokens[:15], *[renderer.tokenizer.pad_token_id] * 5]
    assert paged.read(padded, renderer.tokenizer.pad_token_id) == contenders.Output("so <ans>A</ans>", 15, 0)
