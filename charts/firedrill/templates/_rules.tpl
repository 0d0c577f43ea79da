{{/* What a drill does in the cluster of a region: the same from afar (mode region) and on the hub itself (local.enabled). */}}
{{- define "firedrill.regionRules" -}}
# Which cluster this is: the uid of its kube-system namespace.
- apiGroups: [""]
  resources: [namespaces]
  resourceNames: [kube-system]
  verbs: [get]
# Capacity: what room the nodes have. Cordon: the leaving region's nodes are tainted, where the plan says Nodes.
# Singletons: whether a pod that vanished can still run on its node.
- apiGroups: [""]
  resources: [nodes]
  verbs: [get, list, patch]
# Capacity: what the pods that run already take of the nodes. Singletons: what of them still runs.
- apiGroups: [""]
  resources: [pods]
  verbs: [list]
# Headroom: replicas are raised and put back. Singletons: stopped and started. Claims on workloads are swept.
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, patch]
# A Deployment's claim is copied to its ReplicaSets by Kubernetes; the copies are taken off at the end.
- apiGroups: [apps]
  resources: [replicasets]
  verbs: [list, patch]
# Headroom and singletons, as for Deployments.
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [get, list, patch]
# Headroom: the minimum is raised and put back where a workload is autoscaled.
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [list, patch]
# Singletons: CronJobs are suspended and unsuspended; claims on them are swept.
- apiGroups: [batch]
  resources: [cronjobs]
  verbs: [get, list, patch]
# Singletons: what of a CronJob still runs; ended where the singleton says runningJobs: Delete.
- apiGroups: [batch]
  resources: [jobs]
  verbs: [delete, list]
{{- if .Values.singletons.tokens.enabled }}
# Singletons: the token is made; a name cannot be demanded of what is made.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [create]
# Singletons: the token is read, and raised with every hand-over.
- apiGroups: [""]
  resources: [configmaps]
  {{- with .Values.singletons.tokens.names }}
  resourceNames:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  verbs: [get, update]
{{- end }}
# Singletons: the Lease beside each, which keeps its epoch.
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create, get, update]
# Traffic: the weights of routes that live in this cluster. Claims on routes are swept.
- apiGroups: [gateway.networking.k8s.io]
  resources: [httproutes]
  verbs: [get, list, patch]
{{- end }}
