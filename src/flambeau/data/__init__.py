"""From labelled data to batches: sources, splits, pictures, augmentation, order. No file here knows a network."""
