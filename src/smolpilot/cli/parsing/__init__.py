"""What all verbs share: arguments, help, YAML files, renamed and foreign options, completion, progress."""
