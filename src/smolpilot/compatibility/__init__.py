"""Do a dataset, a robot, a policy and an instruction fit each other? Comparisons with a verdict each."""
