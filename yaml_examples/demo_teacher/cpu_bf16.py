"""bf16 on a CPU that has it: Axolotl has no key for the Trainer's `use_cpu`, without which it refuses bf16 there."""

from axolotl.integrations.base import BasePlugin


class CpuBf16(BasePlugin):
    """Passes `use_cpu` to the Trainer."""

    def get_training_args(self, cfg):
        return {"use_cpu": True}
