"""One version of the hub's flash kernel for all models of a run, in whatever order they are loaded."""


def pin_flash_kernel() -> None:
    """Have transformers take the version of `kernels-community/flash-attn2` that Axolotl takes.

    Where the package flash-attn is missing, `flash_attention_2` is that kernel, in the version of transformers' own
    choice, which fails in the backward pass of every model with grouped-query attention. Axolotl's loader pins an
    older one, but only once it has loaded a teacher. Newer Axolotl has no pin, and needs none.
    """
    try:
        from axolotl.monkeypatch.attention.fa2_hub_kernel import patch_fa2_hub_kernel_version
    except ImportError:
        return
    patch_fa2_hub_kernel_version()
