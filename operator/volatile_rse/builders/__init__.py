"""Pure: class and record -> Kubernetes objects, XRootD and token configuration."""
