"""Videos of a copy: packets moved as they are, or encoded again where that is allowed."""
