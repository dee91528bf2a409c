"""The network in plain PyTorch: vision tower, text model, action expert, flow matching."""
