"""One pass over every video and image of a dataset, on several cores."""
