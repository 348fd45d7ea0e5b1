"""The `engine` block with `kind: server`: what it takes, what it refuses, who is served, and as whom."""

import pytest

from arte_plugin import versions
from arte_plugin.config.arte import ArteArgs
from arte_plugin.config.check import check_config
from arte_plugin.config.engines import ServerEngineArgs
from arte_plugin.engines.base import Request
from arte_plugin.engines.own_server import command_words
from arte_plugin.errors import ConfigError
from arte_plugin.models.request_cache import RequestCache, request_key
from arte_plugin.models.serving import requests_at_a_time, served_by, server_identity, server_loader
from arte_plugin.models.student import student_model
from tests.tiny import tiny_model

TASK = {"name": "sums", "description": "Add.", "questions": {"path": "none.jsonl"}}
URLS = ["http://a:8000/v1", "http://b:8000/v1"]
OURS = {"command": "vllm serve {model} --port {port}"}
LORA = {**OURS, "adapter_options": "--enable-lora --lora-modules {adapter_name}={adapter}"}
REQUEST = Request("Say it.", "a", 9, 0.0, 5)


def block(engine, student="org/small", **keys):
    return {"student": {"base_model": student}, "tasks": [TASK], "engine": engine, **keys}


def make_args(**engine) -> ArteArgs:
    return ArteArgs.model_validate(block({"kind": "server", "api": "vllm", **engine}))


def check(engine, adapter="lora", **keys):
    datasets = [{"path": "arte://pairs", "type": "arte_plugin.preference_pairs"}]
    config = {"rl": "dpo", "plugins": ["arte_plugin.ArtePlugin"], "datasets": datasets, "adapter": adapter}
    return check_config({**config, "arte": block(engine, **keys)})


def test_defaults_and_both_kinds():
    assert ArteArgs.model_validate({"student": {"base_model": "x"}, "tasks": [TASK]}).engine.kind == "transformers"
    assert ArteArgs.model_validate(block({})).engine.cache_gib is None
    assert ArteArgs.model_validate(block({"cache_gib": 2})).engine.cache_gib == 2
    engine = make_args(teacher=LORA, student={"base_urls": URLS}).engine
    assert isinstance(engine, ServerEngineArgs)
    assert (engine.concurrency, engine.cache_gib, engine.rank_timeout) == (64, None, 1800)
    check({"kind": "server", "api": "vllm", "teacher": LORA, "student": {"base_urls": URLS}})
    check({"kind": "server", "api": "vllm", "teacher": OURS}, adapter=None)
    check({"kind": "server", "api": "sglang", "teacher": {"base_urls": URLS}})


def test_a_served_student_cant_tell_how_likely_an_answer_is():
    served = {"kind": "server", "api": "vllm", "student": {"base_urls": URLS}}
    for score in ("likelihood", "likelihood_without_rationale"):
        with pytest.raises(ConfigError, match=rf"`probe.score: {score}` needs the student in this process"):
            check(served, probe={"score": score})
        check({"kind": "server", "api": "vllm", "teacher": LORA}, probe={"score": score})
    with pytest.raises(ConfigError, match="`score: answers` only"):
        check({}, probe={"score": "likelihood", "budget": "racing"})
    with pytest.raises(ConfigError, match="consistency_questions"):
        check({}, probe={"score": "likelihood"}, preference_set={"consistency_questions": 3})


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        ({"kind": "vllm"}, r"arte\.engine: `kind` is `transformers`, `auto` or `server` \(found 'vllm'\)"),
        ({"cache_gb": 1}, r"arte\.engine\.cache_gb: there is no such key; did you mean `cache_gib`\?"),
        ({"page_size": 32}, r"arte\.engine: there is no `page_size` any more, .*: take it out\."),
        ({"kind": "server", "api": "vllm", "student": OURS, "page_size": 32}, r"arte\.engine: there is no `page_size`"),
        ({"student": OURS}, r"arte\.engine\.student: there is no such key"),
        ({"kind": "server", "student": OURS}, r"arte\.engine\.api: this key is required"),
        ({"kind": "server", "api": "ollama", "student": OURS}, r"arte\.engine\.api: Input should be 'vllm', 'sglang'"),
        ({"kind": "server", "api": "vllm"}, r"arte\.engine: `kind: server` needs a `teacher` or a `student` block"),
        (
            {"kind": "server", "api": "vllm", "student": OURS, "concurency": 3},
            r"arte\.engine\.concurency: there is no such key; did you mean `concurrency`\?",
        ),
        (
            {"kind": "server", "api": "vllm", "student": {"base_url": URLS[0]}},
            r"arte\.engine\.student\.base_url: there is no such key; did you mean `base_urls`\?",
        ),
        ({"kind": "server", "api": "vllm", "student": OURS, "concurrency": 0}, r"arte\.engine\.concurrency: .*found 0"),
        ({"kind": "server", "api": "vllm", "student": {}}, r"arte\.engine\.student: give `command` for a server"),
        (
            {"kind": "server", "api": "vllm", "student": {**OURS, "base_urls": URLS}},
            r"arte\.engine\.student: give `command` for a server",
        ),
        (
            {"kind": "server", "api": "vllm", "student": {"command": "vllm serve {model}"}},
            r"arte\.engine\.student: `command` must contain \{port\}",
        ),
        (
            {"kind": "server", "api": "vllm", "student": {"command": "vllm '{model} {port}"}},
            r"arte\.engine\.student: `command` can't be split into words: No closing quotation",
        ),
        (
            {"kind": "server", "api": "vllm", "student": {"base_urls": ["a:8000"]}},
            r"arte\.engine\.student\.base_urls\[0\]: .*found 'a:8000'",
        ),
        (
            {"kind": "server", "api": "vllm", "student": {"base_urls": ["http://a:80000/v1"]}},
            r"arte\.engine\.student: `base_urls` has http://a:80000/v1: Port out of range",
        ),
        (
            {"kind": "server", "api": "vllm", "student": {**OURS, "replicas": 2}},
            r"arte\.engine\.student: with `replicas`, `command` must contain \{replica\}",
        ),
        ({"kind": "server", "api": "vllm", "student": LORA}, r"only the teacher has an adapter"),
        (
            {"kind": "server", "api": "sglang", "prompts": "text", "student": OURS},
            r"arte\.engine: `prompts: text` goes with `api: vllm`",
        ),
        (
            {"kind": "server", "api": "vllm", "teacher": OURS},
            r"trained with an adapter, so `adapter_options` must say how",
        ),
        (
            {"kind": "server", "api": "openai", "teacher": {"base_urls": URLS}},
            r"only a running vLLM or SGLang can be given the aligned teacher's adapter",
        ),
    ],
)
def test_what_is_wrong_is_told_in_the_words_of_the_yaml(engine, said):
    with pytest.raises(ConfigError, match=said) as caught:
        check(engine)
    assert "engine-" not in str(caught.value)


def test_a_model_that_changes_can_t_be_on_a_running_server():
    with pytest.raises(ConfigError, match="trained in full, and a running server has its old weights only"):
        check({"kind": "server", "api": "vllm", "teacher": {"base_urls": URLS}}, adapter=None)
    with pytest.raises(ConfigError, match="later `rounds` have other models than the servers in `base_urls`"):
        check({"kind": "server", "api": "vllm", "student": {"base_urls": URLS}}, rounds=2)
    check({"kind": "server", "api": "vllm", "student": OURS}, rounds=2)


def test_who_is_served():
    args = make_args(student={"base_urls": URLS})
    assert served_by(args, "teacher", "org/large") is None
    assert served_by(args, "student", "org/small") is not None
    assert served_by(args, "student", "org/another-respondent") is None
    assert served_by(make_args(student=OURS), "student", "org/another-respondent") is not None
    assert served_by(ArteArgs.model_validate(block({})), "student", "org/small") is None


def test_batches_keep_all_servers_busy():
    args = make_args(student={"base_urls": URLS}, concurrency=10)
    assert requests_at_a_time(args, args.engine.student) == 16 * 10 * 2


def test_where_a_server_runs_is_no_part_of_a_key_and_what_it_computes_with_is():
    def key(api="vllm", **student):
        args = make_args(api=api, student=student)
        return request_key(server_identity(args, args.engine.student), REQUEST)

    first = key(base_urls=URLS)
    assert first == key(base_urls=["http://c:1/v1"])
    others = [
        key(base_urls=URLS, dtype="awq"),
        key(base_urls=URLS, model="small-awq"),
        key(api="sglang", base_urls=URLS),
        key(**OURS),
        key(command=OURS["command"] + " --quantization fp8"),
    ]
    assert len({first, *others}) == 6


def test_a_served_student_loads_nothing_here(tmp_path):
    folder = tiny_model(tmp_path / "tiny")
    cache = RequestCache(tmp_path / "requests.sqlite")
    args = ArteArgs.model_validate(block({"kind": "server", "api": "vllm", "student": OURS}, student=str(folder)))
    served = student_model(args.student, args, {"output_dir": str(tmp_path)}, cache)
    here = ArteArgs.model_validate(block({}, student=str(folder)))
    unserved = student_model(here.student, here, {"output_dir": str(tmp_path)}, cache)
    assert served.served and not unserved.served
    assert served.identity["model"] == unserved.identity["model"]
    assert unserved.identity["engine"] == versions.engine("transformers")
    engine = served.load()
    assert engine._own[0].log_file == tmp_path / "arte/servers/tiny.log"
    assert engine._own[0]._process is None


def test_the_aligned_teacher_s_adapter_is_named_after_its_content(tmp_path):
    args, adapter = make_args(teacher=LORA), tmp_path / "an adapter"

    def served(adapter=None, fingerprint=None):
        cfg = {"output_dir": str(tmp_path)}
        load = server_loader(args, args.engine.teacher, cfg, "teacher", "org/large", None, adapter, fingerprint)
        own, writer = load()._own[0], load()._writer
        return command_words(own._command, {**own._variables, "port": "8000"}), writer

    words, writer = served()
    assert words == ["vllm", "serve", "org/large", "--port", "8000"]
    assert (writer.model, writer.adapter) == ("org/large", None)
    words, writer = served(adapter, "0123456789abcdef")
    assert words[5:] == ["--enable-lora", "--lora-modules", f"arte-0123456789ab={adapter}"]
    assert (writer.model, writer.adapter) == ("org/large", "arte-0123456789ab")


def test_replicas_have_a_number_and_a_log_each_and_change_no_key(tmp_path):
    command = "env CUDA_VISIBLE_DEVICES={replica} vllm serve {model} --port {port}"
    args = make_args(student={"command": command, "replicas": 2}, concurrency=10)
    alone = make_args(student={"command": command})
    assert server_identity(args, args.engine.student) == server_identity(alone, alone.engine.student)
    assert requests_at_a_time(args, args.engine.student) == 16 * 10 * 2
    load = server_loader(args, args.engine.student, {"output_dir": str(tmp_path)}, "small", "org/small", None)
    own = load()._own
    assert [one.log_file.name for one in own] == ["small-0.log", "small-1.log"]
    words = [command_words(one._command, {**one._variables, "port": "80"}) for one in own]
    assert [one[1] for one in words] == ["CUDA_VISIBLE_DEVICES=0", "CUDA_VISIBLE_DEVICES=1"]


def test_a_missing_key_is_told(tmp_path, monkeypatch):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    folder = str(tiny_model(tmp_path / "tiny"))
    engine = {"kind": "server", "api": "vllm", "student": {"base_urls": URLS}, "api_key_env": "NO_SUCH_KEY"}
    args = ArteArgs.model_validate(block(engine, student=folder))
    model = student_model(args.student, args, {"output_dir": str(tmp_path)}, RequestCache(tmp_path / "c.sqlite"))
    with pytest.raises(ConfigError, match="the environment has no variable NO_SUCH_KEY"):
        model.load()
