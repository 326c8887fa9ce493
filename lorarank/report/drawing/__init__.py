"""Drawings as SVG text: numbers in, the same bytes out, no library and no colours of their own (floor 4).

*svg* has elements, scales and axes, *charts* what is drawn with them. Colours are classes, which the page's style
sheet sets for light, dark and print; text is escaped here.
"""
