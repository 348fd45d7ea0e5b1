"""The whole loop on a GPU, checked and measured: `make gpu-check`, docs/gpu.md."""
