"""What runs beside a robot: setups, drivers, cameras, the governor. Loads no torch."""
