"""Copy the trained adapter to `yaml_examples/models/demo-teacher` in bf16: half the size, small enough for Git.

python yaml_examples/demo_teacher/publish.py outputs/demo-teacher/run yaml_examples/models/demo-teacher
"""

import argparse
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("trained", type=Path)
    parser.add_argument("target", type=Path)
    options = parser.parse_args()

    options.target.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.to(torch.bfloat16) for name, tensor in load_file(options.trained / WEIGHTS).items()}
    save_file(tensors, options.target / WEIGHTS, metadata={"format": "pt"})
    shutil.copy(options.trained / CONFIG, options.target / CONFIG)


if __name__ == "__main__":
    main()
