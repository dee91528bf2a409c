"""`smolpilot dataset VERB`: one thin file per verb."""
