"""The student behind Ray Serve, as in docs/scaling.md, on the CPU: `python serve_app.py MODEL PORT READY`, until it is
ended.

Run by the Python that has vLLM and Ray. Two replicas, and the router that sends prompts with a common beginning to one.
Once both answer there is a file READY.
"""

import contextlib
import os
import signal
import sys
from pathlib import Path

import ray
from ray import serve
from ray.serve.llm import LLMConfig, build_openai_app
from ray.serve.llm.request_router import PrefixCacheAffinityRouter

#: What a replica's vLLM finds in its environment.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}
#: In seconds: on a busy machine nothing that is only slow may be taken for dead. What is killed is seen at once.
LONG = "600"
PATIENCE = {
    "RAY_worker_register_timeout_seconds": LONG,
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": LONG,
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": LONG,
    # Of a replica that is asked how much it has to do: by default 0.1, and again after a pause.
    "RAY_SERVE_QUEUE_LENGTH_RESPONSE_DEADLINE_S": "30",
    "RAY_SERVE_MAX_QUEUE_LENGTH_RESPONSE_DEADLINE_S": "30",
}


def main(model: str, port: int, ready: Path) -> None:
    os.environ.update(ENVIRONMENT | PATIENCE)
    # As many as its parts ask for; on the machine they share what there is.
    ray.init(num_cpus=8, include_dashboard=False, runtime_env={"env_vars": ENVIRONMENT})
    student = LLMConfig(
        model_loading_config={"model_id": "student", "model_source": model},
        accelerator_config={"kind": "cpu"},
        engine_kwargs={
            "dtype": "float32", "max_model_len": 2048, "enable_prefix_caching": True, "enforce_eager": True,
        },
        deployment_config={
            "num_replicas": 2,
            "health_check_period_s": 2,
            "health_check_timeout_s": int(LONG),
            # What is in flight at the end nobody waits for.
            "graceful_shutdown_timeout_s": 1,
            "request_router_config": {
                "request_router_class": PrefixCacheAffinityRouter,
                "request_router_kwargs": {"imbalanced_threshold": 64, "do_eviction": True},
            },
        },
    )  # fmt: skip
    # Ended either way, it shuts down all that belongs to it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    # It waits for a minute. The proxy is on its way all the same.
    with contextlib.suppress(TimeoutError):
        serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(build_openai_app({"llm_configs": [student]}))
    ready.touch()
    signal.pause()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
