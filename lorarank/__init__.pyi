# What a type checker sees of lorarank/front.py: the commands are functions.
from lorarank.callback import LoraRankCallback as LoraRankCallback
from lorarank.commands import audit as audit
from lorarank.commands import compare as compare
from lorarank.commands import convert as convert
from lorarank.commands import diagnose as diagnose
from lorarank.commands import estimate as estimate
from lorarank.commands import export as export
from lorarank.commands import extract as extract
from lorarank.commands import heuristics as heuristics
from lorarank.commands import inspect as inspect
from lorarank.commands import plot as plot
from lorarank.commands import probe as probe
from lorarank.commands import report as report
from lorarank.commands import resize as resize
from lorarank.commands import sweep as sweep

__all__: list[str]
__version__: str
