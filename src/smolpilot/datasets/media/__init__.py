"""Video files and images: opened safely, frames exact by time stamp, encoded for random access."""
