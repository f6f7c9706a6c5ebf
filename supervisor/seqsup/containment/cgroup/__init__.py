"""Process trees kept together by the kernel: cgroup v1 and v2."""
