"""The one gate between what is asked for and the motors."""
