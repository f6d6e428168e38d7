//! `cargo xtask chaos`: builds the program as it is tested, and hands over to the harness in namespaces of its own: for processes, mounts
//! and the network. Whatever it made in there is gone with it, however it ends.

use std::path::Path;
use std::process::Command;

use crate::build;
use crate::prerequisites::{C_COMPILER, Consent, ensure, in_ci};
use crate::run::{Result, Stopped, become_program, find_program, run as run_program, say, target};

/// How long, and with what.
pub(crate) struct Order {
    pub(crate) seconds: u64,
    pub(crate) seed: Option<u64>,
    pub(crate) nodes: u8,
    pub(crate) only: Option<String>,
    pub(crate) keep: bool,
}

pub(crate) fn run(consent: Consent, order: &Order) -> Result {
    ensure(&[C_COMPILER], consent)?;
    can_be_done()?;
    let harness = build::harness("dev")?;
    become_program(&mut apart(&harness, order))
}

/// A short one, always the same. The programs are built.
pub(crate) fn as_a_test() -> Result {
    if let Err(why) = can_be_done() {
        say(&format!("SKIPPED: chaos on real nodes in network namespaces: {why}"));
        if in_ci() {
            say("         CI has to be given that right once: `cargo xtask chaos` says what is missing");
        }
        return Ok(());
    }
    let order = Order { seconds: 25, seed: Some(7), nodes: 3, only: None, keep: false };
    run_program(&mut apart(&target().join("debug").join("tidegate-loadtest"), &order))
}

fn apart(harness: &Path, order: &Order) -> Command {
    let mut command = Command::new("unshare");
    command.current_dir(crate::run::root());
    command.args(["--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]).arg(harness);
    command.args(["chaos", "--seconds", &order.seconds.to_string(), "--nodes", &order.nodes.to_string()]);
    if let Some(seed) = order.seed {
        command.args(["--seed", &seed.to_string()]);
    }
    if let Some(only) = &order.only {
        command.args(["--only", only]);
    }
    if order.keep {
        command.arg("--keep");
    }
    command
}

/// Root, or what it takes of it, and the programs that make a network.
fn can_be_done() -> Result {
    for (program, package) in [
        ("unshare", "util-linux"),
        ("nsenter", "util-linux"),
        ("ip", "iproute2"),
        ("iptables", "iptables"),
        ("cc", "gcc"),
    ] {
        if find_program(program).is_none() {
            return Err(Stopped(format!("{program} is missing: Debian's package {package} has it")));
        }
    }
    let try_it = "mount -t tmpfs tmpfs /mnt && ip link add gate type bridge && ip netns add tide && ip netns exec tide iptables -L -n";
    let mut shell = Command::new("unshare");
    shell.args(["--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-ec"]);
    shell.arg(format!("mkdir -p /run/netns && mount -t tmpfs tmpfs /run/netns && {try_it}"));
    crate::run::check(&mut shell).map_err(|why| {
        Stopped(format!("namespaces, mounts and a firewall of its own cannot be made (that takes root): {why}"))
    })
}
