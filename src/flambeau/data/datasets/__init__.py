"""The built-in data sets: one module each, with a ``load(root)`` that the catalog names."""
