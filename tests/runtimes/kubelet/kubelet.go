//go:build tools

// Package kubelet keeps k8s.io/kubernetes in go.mod; nothing here is compiled.
package kubelet

import _ "k8s.io/kubernetes/cmd/kubelet/app"
