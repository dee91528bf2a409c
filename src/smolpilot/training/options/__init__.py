"""Options of a training run, the datasets it names, and the presets by memory. Loads no torch."""
