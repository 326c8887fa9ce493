"""lorarank: which LoRA rank do I need?

Every command is a function: ``lorarank.estimate("run", energy=0.9).r``. Results are frozen dataclasses.
"""

import sys

from lorarank import front

__version__ = "0.1.0"

sys.modules[__name__].__class__ = front.Front
