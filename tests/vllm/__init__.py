"""A real vLLM on the CPU: `make test-vllm`. Not among the tests of `make test`, for vLLM wants a torch of its own."""
