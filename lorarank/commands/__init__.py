"""The commands as functions, as ``lorarank.estimate`` and so on, a file a command (floor 5).

Each takes what the command takes: its arguments, and the fields of its options dataclass as keywords. What only a
command line needs, formats and files for reports, is not among them: results have ``to_dict``, ``to_frame`` and
``_repr_html_``. Calling one loads what it needs, and nothing of the others.
"""
