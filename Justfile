# The verbs. Each calls cargo or `cargo xtask`, so that nothing here is needed to work on the project.

# Does it compile, and does clippy like it?
check:
    cargo xtask lint

# Repair what can be repaired.
fix:
    cargo clippy --fix --allow-dirty --allow-staged --locked --workspace --all-targets
    cargo fmt --all

# Every test.
test *runner:
    cargo xtask test -- {{runner}}

# Seeded lives of clusters: Raft, disks and networks that fail.
life seeds="200":
    cargo xtask life --seeds {{seeds}}

# The seeded simulation of the limits, and the figures.
sim seeds="5000":
    cargo xtask sim --seeds {{seeds}}

# Turn each guard of the limits off: something must notice.
mutants:
    cargo xtask mutants

# Measure against nginx, HAProxy and empty proxies.
load *flags:
    cargo xtask load {{flags}}

# The program laid out by what runs under load: two slow builds and a load test.
pgo:
    cargo xtask pgo

# A real cluster of three on this machine, with curl lines to paste.
dev *flags:
    cargo run --locked -p tidegate -- dev --nodes 3 {{flags}}

# Three nodes under load while nodes join, die, return and leave.
demo *flags:
    cargo xtask demo {{flags}}

# Ten minutes of everything at once: nothing may pile up.
soak *flags:
    cargo xtask soak {{flags}}

# Two minutes of everything going wrong: nothing acknowledged may be lost (needs root).
chaos *flags:
    cargo xtask chaos {{flags}}

# The crates' documentation.
docs:
    cargo doc --locked --workspace --no-deps
