"""The plugin under real runtimes: containerd, the kubelet and Podman, each in a private node; `./build.sh e2e` sets them up."""
