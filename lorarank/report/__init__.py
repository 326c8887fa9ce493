"""Results in, text out (floor 4). Nothing here measures, decides, reads or prints.

*content* chooses what is said and in which order; *table* lays it out for a terminal, *export* for files, other
programs and PEFT; *reference* does both for the reference table.

The long report goes another way: *chapters* say everything there is to say as blocks, *drawing* makes their pictures,
and *html* and *markdown* make files of them. *figures* draws the same for papers, with matplotlib.
"""
