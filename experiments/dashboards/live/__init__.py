"""The live page of a sweep: `layernorm dashboard`.

runs.py      the folders of runs, read as they change
curves.py    groups of runs, their bands, results against a number
texts.py     the texts of the page as HTML
plots.py     the charts
page.py      what one visitor has chosen and sees
table.py     the table of runs
server.py    the server on 127.0.0.1
"""
