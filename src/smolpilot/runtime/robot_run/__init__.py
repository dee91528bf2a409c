"""`smolpilot run`: a policy, in a process of its own, drives an arm through the governor while a person watches."""
