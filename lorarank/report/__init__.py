"""Results in, text out (floor 4). Nothing here measures, decides, reads or prints.

*content* chooses what is said and in which order; *table* lays it out for a terminal, *export* for files, other
programs and PEFT; *reference* does both for the reference table.
"""
