"""The profile: TOML text to a Profile, its checks, and the sizes that it leaves open."""
