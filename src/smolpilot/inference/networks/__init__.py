"""SmolVLA's network in torch for the engine: plain, exact, fast, as CUDA graphs."""
