"""Every policy that smolpilot can run, behind one contract; `open_policy` finds the right one."""
