"""LeRobot's layouts on disk (v2.0, v2.1, v3.0): paths, info.json, features, episodes, tasks, statistics."""
