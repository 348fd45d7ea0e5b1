"""How an order is put into words, and what rows the reply makes: one file a strategy (`plugs.Operator`)."""

from arte_plugin.operators.reflect import Reflect
from arte_plugin.operators.similar_question import SimilarQuestion
from arte_plugin.plugs import Operator

#: By the name in the YAML.
OPERATORS: dict[str, type[Operator]] = {"reflect": Reflect, "similar_question": SimilarQuestion}
