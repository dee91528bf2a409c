"""The frame cache: what a frozen vision-language model makes of each frame, computed once."""
