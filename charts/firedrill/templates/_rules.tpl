{{/* What a drill does in the cluster of a region: the same from afar (mode region) and on the hub itself (local.enabled). */}}
{{- define "firedrill.regionRules" -}}
# Which cluster this is: the uid of its kube-system namespace.
- apiGroups: [""]
  resources: [namespaces]
  resourceNames: [kube-system]
  verbs: [get]
# Capacity: what room the nodes have. Cordon: the leaving region's nodes are tainted, where the plan says Nodes.
- apiGroups: [""]
  resources: [nodes]
  verbs: [list, patch]
# Capacity: what the pods that run already take of the nodes.
- apiGroups: [""]
  resources: [pods]
  verbs: [list]
# Headroom: replicas are raised and put back. Claims on workloads are swept.
- apiGroups: [apps]
  resources: [deployments]
  verbs: [list, patch]
# A Deployment's claim is copied to its ReplicaSets by Kubernetes; the copies are taken off at the end.
- apiGroups: [apps]
  resources: [replicasets]
  verbs: [list, patch]
# Headroom, as for Deployments.
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [list, patch]
# Headroom: the minimum is raised and put back where a workload is autoscaled.
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [list, patch]
# Traffic: the weights of routes that live in this cluster. Claims on routes are swept.
- apiGroups: [gateway.networking.k8s.io]
  resources: [httproutes]
  verbs: [get, list, patch]
{{- end }}
