"""What `robot check` and `robot watch` show of an arm and its cameras: judged, and drawn. Nothing here moves it."""
