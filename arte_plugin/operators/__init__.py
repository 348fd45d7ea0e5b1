"""How an order is put into words, and what rows the reply makes: one file a strategy (`plugs.Operator`)."""

from arte_plugin.operators.new_question import NewQuestions
from arte_plugin.operators.reflect import Reflect
from arte_plugin.operators.similar_question import SimilarQuestion
from arte_plugin.operators.solve import Solve
from arte_plugin.operators.technique import Technique
from arte_plugin.plugs import Operator

#: By the name in the YAML.
OPERATORS: dict[str, type[Operator]] = {
    "new_question": NewQuestions,
    "technique": Technique,
    "solve": Solve,
    "similar_question": SimilarQuestion,
    "reflect": Reflect,
}
