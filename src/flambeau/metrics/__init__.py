"""How predictions are scored: counting metrics that add up over batches, tables with intervals, and calibration."""
