"""What a draft, or a question, is worth to a student: one file a strategy (`plugs.Signal`)."""

from arte_plugin.plugs import Signal
from arte_plugin.signals.agreement import Agreement
from arte_plugin.signals.answers import Answers
from arte_plugin.signals.format_length import FormatLength
from arte_plugin.signals.frontier import Frontier
from arte_plugin.signals.ifd import Ifd, ReversedIfd
from arte_plugin.signals.likelihood import AnswerLikelihoods
from arte_plugin.signals.neighbours import Neighbours

#: By the name in the YAML.
SIGNALS: dict[str, type[Signal]] = {
    "answers": Answers,
    "likelihood": AnswerLikelihoods,
    "agreement": Agreement,
    "neighbours": Neighbours,
    "ifd": Ifd,
    "reversed_ifd": ReversedIfd,
    "frontier": Frontier,
    "format_length": FormatLength,
}
