"""
The imitated model: an output made of the words of a request, without any language model.

The same request brings the same output. No I/O, no prices and no script.
"""
