"""What makes the environments whose simulations lie in `simulators`: settings, profile, instructions."""
