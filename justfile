# What people type. `just` alone lists this. CI runs .ci/run, whose steps are those of `verify`.

set shell := ["bash", "-euo", "pipefail", "-c"]

# List the recipes.
default:
    @just --list

# Check everything; change nothing.
verify:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --locked -- -D warnings
    cargo test --workspace --locked

# Rewrite what tools can rewrite.
fix:
    cargo clippy --workspace --all-targets --fix --allow-dirty --allow-staged
    cargo fmt --all

# Check licences, bans and advisories of dependencies (needs cargo-deny and its network access).
deny:
    cargo deny check

# A three-region cluster on this machine, until Ctrl-C.
dev *args:
    cargo run --release -- dev {{args}}

# See it work: verdicts, a quarantine, an exhausted quota, a killed leader, the audit trail verified.
demo *args:
    cargo run --release -- demo {{args}}

# Measure what the README states, with its conditions; about five minutes (bench 20 for a short run). `bench audit [RECORDS]`
# measures the audit trail on a million records, `bench audit-10m` on ten million; they say how much of the disk they want.
bench what='' *args:
    case '{{what}}' in \
      audit) cargo bench --locked -p nethical-cluster --bench audit -- {{ if args == '' { '1000000' } else { args } }} ;; \
      audit-10m) cargo bench --locked -p nethical-cluster --bench audit -- 10000000 own ;; \
      *) cargo run --release --quiet -p nethical-tests --bin bench -- {{what}} {{args}} ;; \
    esac

# Run the cluster's code in a fake world (sim/README.md). Its own target folder, because the flags rebuild everything.
sim *args:
    RUSTFLAGS="--cfg tokio_unstable" cargo build --quiet --locked --profile sim -p nethical-sim --features probes --target-dir target-sim
    target-sim/sim/nethical-sim {{args}}

# A hostile link between two programs of this machine: just chaos --listen A --target B --loss-percent 5
chaos *args:
    cargo run --quiet -p nethical-chaos -- relay {{args}}
