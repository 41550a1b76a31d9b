"""The named recipes, as TOML files beside this one."""
