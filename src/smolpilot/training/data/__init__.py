"""From datasets to batches: frames, chunks, augmentation, mixtures."""
