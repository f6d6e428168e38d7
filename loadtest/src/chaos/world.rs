//! The network: a bridge, and behind it a namespace for each node, in which the node hears of others only what the firewall lets
//! through. All of it lies in namespaces of this process, and is gone with it, however it ends.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::process::output_of;

const NAMESPACES: &str = "/run/netns";
/// Where clients and backends are.
pub(super) const OUTSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 1));

pub(super) struct World {
    count: usize,
}

impl World {
    pub(super) fn make(count: usize) -> Result<Self> {
        let own = std::process::id() == 1;
        ensure!(
            own,
            "this needs namespaces of its own for processes, mounts and the network: `cargo xtask chaos` makes them"
        );
        std::fs::create_dir_all(NAMESPACES)?;
        run("mount", &["-t", "tmpfs", "tmpfs", NAMESPACES])?;
        run("ip", &["link", "set", "lo", "up"])?;
        run("ip", &["link", "add", "gate", "type", "bridge"])?;
        run("ip", &["addr", "add", &format!("{OUTSIDE}/24"), "dev", "gate"])?;
        run("ip", &["link", "set", "gate", "up"])?;
        let world = Self { count };
        for at in 0..count {
            let (name, outer) = (name(at), format!("v{at}"));
            run("ip", &["netns", "add", &name])?;
            run("ip", &["link", "add", &outer, "type", "veth", "peer", "name", "eth0", "netns", &name])?;
            run("ip", &["link", "set", &outer, "master", "gate", "up"])?;
            run("ip", &["-n", &name, "addr", "add", &format!("{}/24", address(at)), "dev", "eth0"])?;
            run("ip", &["-n", &name, "link", "set", "eth0", "up"])?;
            run("ip", &["-n", &name, "link", "set", "lo", "up"])?;
            world.wall(at, &["-L", "-n"])?; // Said now, if there is no firewall to be had.
        }
        Ok(world)
    }

    fn wall(&self, at: usize, words: &[&str]) -> Result<()> {
        let mut command = inside(at);
        command.args(["iptables", "-w"]).args(words);
        output_of(&mut command).map(drop)
    }

    /// From now on this node hears nothing of that one.
    pub(super) fn deafen(&self, to: usize, from: usize) -> Result<()> {
        self.wall(to, &["-A", "INPUT", "-s", &address(from).to_string(), "-j", "DROP"])
    }

    /// This node loses such a part of what other nodes send.
    pub(super) fn lose(&self, at: usize, part: f64) -> Result<()> {
        for other in (0..self.count).filter(|other| *other != at) {
            let (from, part) = (address(other).to_string(), format!("{part:.3}"));
            let random = ["-m", "statistic", "--mode", "random", "--probability", &part];
            self.wall(at, &[&["-A", "INPUT", "-s", &from], &random[..], &["-j", "DROP"]].concat())?;
        }
        Ok(())
    }

    /// Everybody hears everybody.
    pub(super) fn mend(&self) -> Result<()> {
        (0..self.count).try_for_each(|at| self.wall(at, &["-F", "INPUT"]))
    }
}

fn name(at: usize) -> String {
    format!("n{}", at + 1)
}

pub(super) fn namespace(at: usize) -> PathBuf {
    PathBuf::from(NAMESPACES).join(name(at))
}

pub(super) fn address(at: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 77, 0, u8::try_from(at + 11).unwrap_or(u8::MAX)))
}

pub(super) fn at_port(at: usize, port: u16) -> SocketAddr {
    SocketAddr::new(address(at), port)
}

/// A program in a node's network.
pub(super) fn inside(at: usize) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", namespace(at).display())).arg("--");
    command
}

pub(super) fn run(program: &str, words: &[&str]) -> Result<()> {
    output_of(Command::new(program).args(words)).map(drop)
}
