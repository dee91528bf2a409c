"""What every room stands on: errors, atomic files, digests, YAML with lines, texts made safe to show."""
