"""The manifests of k8s/: rendered, validated, and held to what docs/kubernetes.md promises of them."""
