"""A policy as files that run without torch: ONNX graphs, transforms, tokenizer, an example, and a parity report."""
