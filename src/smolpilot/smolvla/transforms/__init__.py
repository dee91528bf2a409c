"""The one ordered list of transforms between a robot frame and the network."""
