"""What a user submits to Kubeflow: pipelines compiled from plans."""
