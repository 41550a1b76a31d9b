"""Networks, one family a file.

A builder is a plain function that carries the public name of its model (dashes become underscores), takes the facts of
the data (``classes``, ``size``, ``channels``) and keyword arguments, and returns a network from float32
``(N, C, H, W)`` to logits ``(N, K)``.
"""
