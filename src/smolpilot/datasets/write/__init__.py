"""Recording a dataset."""
