"""What a user writes: TOML text into a Profile, its checks, and the sizes that it leaves open."""
