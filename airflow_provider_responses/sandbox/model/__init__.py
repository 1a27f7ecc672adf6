"""
The imitated model: an output made of the words of a request, without any language model.

The same request brings the same output. Nothing here knows HTTP, prices or scripts.
"""
