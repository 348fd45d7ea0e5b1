"""What a run leaves on disk, roughly, from the weight of real rows and caches."""

from collections.abc import Sequence
from dataclasses import dataclass

from arte_plugin.plan.work import Work


@dataclass(frozen=True)
class Bytes:
    """Bytes of rows as measured on real runs (`benchmarks/lengths`)."""

    #: A probe and a cached request without their text, a draft with a short rationale.
    probe: float = 185.1
    cached: float = 173.9
    draft: float = 1448.0
    #: Of text, for each token.
    token: float = 3.27


def rows_and_cache(works: Sequence[Work], reply: float, rationale: float, sizes: Bytes) -> dict[str, float]:
    """Bytes of the large files by name; `reply` and `rationale` in tokens."""
    calls = {one.what: one.calls for one in works}
    asked = [one for one in works if one.stage != "evaluate"]
    return {
        "03-probe/probes.jsonl": sum(calls.get(what, 0) for what in ("pilot", "probes", "consistency"))
        * (sizes.probe + reply * sizes.token),
        "requests.sqlite": sum(one.calls * sizes.cached + one.new * sizes.token for one in asked),
        "01-elicit/drafts.jsonl": calls.get("rationales", 0) * (sizes.draft + rationale * sizes.token),
    }
