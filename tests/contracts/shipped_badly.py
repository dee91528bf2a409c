"""A list of shipped names with a mistake."""

SHIPPED = {"missing": f"{__name__}:Missing"}
