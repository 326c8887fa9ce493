# What a type checker sees of lorarank/front.py: the commands are functions.
from lorarank.callback import LoraRankCallback as LoraRankCallback
from lorarank.commands.audit import audit as audit
from lorarank.commands.compare import compare as compare
from lorarank.commands.convert import convert as convert
from lorarank.commands.diagnose import diagnose as diagnose
from lorarank.commands.estimate import estimate as estimate
from lorarank.commands.export import export as export
from lorarank.commands.extract import extract as extract
from lorarank.commands.heuristics import heuristics as heuristics
from lorarank.commands.inspect import inspect as inspect
from lorarank.commands.plot import plot as plot
from lorarank.commands.probe import probe as probe
from lorarank.commands.report import report as report
from lorarank.commands.resize import resize as resize
from lorarank.commands.sweep import sweep as sweep

__all__: list[str]
__version__: str
