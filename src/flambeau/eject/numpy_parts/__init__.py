"""A training program in NumPy alone, of which `flambeau eject --numpy` copies what a run needs.

:mod:`flambeau.eject.plain_numpy` begins with ``main`` and takes what that needs, and what this needs in turn. The
docstring of a module becomes the heading of a section. A line that ends in ``# only: NAME`` is copied for runs that
have NAME, one that ends in ``# only: not NAME`` for the others. :mod:`.settings` is a sample of what every
run writes anew.
"""
