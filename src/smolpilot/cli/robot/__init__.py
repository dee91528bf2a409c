"""The verbs of `smolpilot robot`: profiles, setups, and the arms behind them."""
