"""lorarank: which LoRA rank do I need?"""

from __future__ import annotations

__version__ = "0.1.0"
