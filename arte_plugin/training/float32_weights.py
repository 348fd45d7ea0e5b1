"""Training in mixed precision as it is meant: float32 weights, bfloat16 arithmetic. Axolotl has no key for it."""

from typing import Any

from axolotl.integrations.base import BasePlugin


class Float32Weights(BasePlugin):
    """With `bf16: false`, which has Axolotl load float32 weights: compute in bfloat16 all the same, by autocast.

    `bf16: true` has Axolotl load the weights themselves in bfloat16, and AdamW step on those: half a step of the format
    is 4e-5 beside a weight of 0.02, so that most updates of a usual fine-tuning are rounded away.
    """

    def get_training_args(self, cfg: Any) -> dict[str, Any]:
        """Autocast for the Trainer; nothing where the config asks for another precision after all."""
        import torch

        # The Trainer has to be told so, to take bfloat16 on a CPU.
        cpu = {} if torch.accelerator.is_available() else {"use_cpu": True}
        return cpu if any(cfg.get(key) for key in ("bf16", "bfloat16", "fp16", "float16")) else {"bf16": True, **cpu}
