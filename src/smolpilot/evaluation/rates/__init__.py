"""Success rates with what they can show: intervals, tests, the episodes that a difference needs, and the words."""
