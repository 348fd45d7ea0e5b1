"""The student behind Ray Serve, as in docs/scaling.md, on the CPU: `python serve_app.py MODEL PORT`, until it is ended.

Run by the Python that has vLLM and Ray. Two replicas, and the router that sends prompts with a common beginning to one.
"""

import os
import signal
import sys

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


def main(model: str, port: int) -> None:
    os.environ.update(ENVIRONMENT)
    # As many as its parts ask for; on the machine they share what there is.
    ray.init(num_cpus=16, include_dashboard=False, runtime_env={"env_vars": ENVIRONMENT})
    student = LLMConfig(
        model_loading_config={"model_id": "student", "model_source": model},
        accelerator_config={"kind": "cpu"},
        engine_kwargs={
            "dtype": "float32", "max_model_len": 2048, "enable_prefix_caching": True, "enforce_eager": True,
        },
        deployment_config={
            "num_replicas": 2,
            "health_check_period_s": 2,
            "request_router_config": {
                "request_router_class": PrefixCacheAffinityRouter,
                "request_router_kwargs": {"imbalanced_threshold": 64, "do_eviction": True},
            },
        },
    )  # fmt: skip
    # Ended either way, it shuts down all that belongs to it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(build_openai_app({"llm_configs": [student]}), blocking=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
