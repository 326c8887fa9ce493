"""Results in, text out (floor 4). Nothing here measures, decides, reads or prints.

Of every result one module says what it comes to: *recommended*, *compared*, *resized* and so on. Its ``lay`` puts that
on any sheet, *page* for a terminal, *notebook* or *markdown_text*; its ``to_json`` and ``rows`` are for programs.

The long report goes another way: *chapters* say everything there is to say as blocks, *drawing* makes their pictures,
and *html* and *markdown* make files of them. *figures* draws the same for papers, with matplotlib.
"""
