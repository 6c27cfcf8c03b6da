"""What Ray Serve runs: the ingress, the model replicas, the metrics hub, and the proxy in front."""
