//! What a verb needs beyond Rust: found, or installed with apt after asking, or named so that a person can install it.

use std::env;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::Path;
use std::process::Command;

use crate::run::{Result, Stopped, check, find_program, run, say};

/// A program and the Debian package that brings it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Need {
    pub(crate) program: &'static str,
    pub(crate) package: &'static str,
    pub(crate) why: &'static str,
}

/// aws-lc is C.
pub(crate) const C_COMPILER: Need = Need { program: "cc", package: "build-essential", why: "to build the TLS library" };
pub(crate) const CADDY: Need = Need { program: "caddy", package: "caddy", why: "to compare with" };
pub(crate) const CURL: Need = Need { program: "curl", package: "curl", why: "as a client that decompresses" };
pub(crate) const H2LOAD: Need = Need { program: "h2load", package: "nghttp2-client", why: "to ask by h2 and TLS" };
pub(crate) const HAPROXY: Need = Need { program: "haproxy", package: "haproxy", why: "as load balancer" };
pub(crate) const NGINX: Need = Need { program: "nginx", package: "nginx-light", why: "to compare with" };
pub(crate) const TESTSSL: Need = Need { program: "testssl", package: "testssl.sh", why: "to examine TLS" };
pub(crate) const NODE: Need = Need { program: "node", package: "nodejs", why: "for SDKs of language models" };
pub(crate) const NPM: Need = Need { program: "npm", package: "npm", why: "to install SDKs" };
pub(crate) const PEBBLE: Need =
    Need { program: "pebble", package: "pebble", why: "as a certificate authority for tests" };
pub(crate) const OPENSSL: Need =
    Need { program: "openssl", package: "openssl", why: "to make certificates, and to speak TLS with" };
/// With what makes places for packages: in Debian a package of its own.
pub(crate) const PYTHON: Need =
    Need { program: "python3", package: "python3-venv", why: "for SDKs of language models" };
pub(crate) const REDIS: Need = Need { program: "redis-server", package: "redis-server", why: "to share responses" };
pub(crate) const VALGRIND: Need = Need { program: "valgrind", package: "valgrind", why: "to count instructions" };
pub(crate) const SLOWHTTPTEST: Need =
    Need { program: "slowhttptest", package: "slowhttptest", why: "as many slow clients" };
pub(crate) const VARNISH: Need = Need { program: "varnishd", package: "varnish", why: "to compare with" };
pub(crate) const WRK: Need = Need { program: "wrk", package: "wrk", why: "to ask as fast as possible" };

impl Need {
    fn is_there(&self) -> bool {
        find_program(self.program).is_some() && (self.program != PYTHON.program || makes_places())
    }
}

fn makes_places() -> bool {
    check(Command::new(PYTHON.program).args(["-c", "import venv, ensurepip"])).is_ok()
}

/// May packages be installed?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Consent {
    /// `--yes`, or CI=true.
    Given,
    /// A person is at the terminal.
    Ask,
    /// Neither: say what is missing.
    Withheld,
}

impl Consent {
    pub(crate) fn of(yes: bool) -> Self {
        if yes || in_ci() {
            Self::Given
        } else if io::stdin().is_terminal() && io::stderr().is_terminal() {
            Self::Ask
        } else {
            Self::Withheld
        }
    }
}

pub(crate) fn in_ci() -> bool {
    env::var("CI").is_ok_and(|value| value == "true" || value == "1")
}

/// Returns when all of it is there.
pub(crate) fn ensure(needs: &[Need], consent: Consent) -> Result {
    let missing: Vec<Need> = needs.iter().copied().filter(|need| !need.is_there()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    for need in &missing {
        eprintln!("missing: {} ({}), Debian package {}", need.program, need.why, need.package);
    }
    let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    let sudo = if is_root() { "" } else { "sudo " };
    let by_hand = format!("install it first: {sudo}apt-get install {}  (or say --yes)", packages.join(" "));
    let by_hand = Stopped(by_hand);
    let Some(apt) = apt() else { return Err(by_hand) };
    let agreed = match consent {
        Consent::Given => true,
        Consent::Ask => ask(&format!("Install {} with apt?", packages.join(", ")))?,
        Consent::Withheld => false,
    };
    if !agreed {
        return Err(by_hand);
    }
    install(&apt, &packages)?;
    match missing.iter().find(|need| !need.is_there()) {
        None => Ok(()),
        Some(need) => Err(Stopped(format!("{} is still missing after installing {}", need.program, need.package))),
    }
}

/// How packages are installed by whoever we are; `None`: not by us.
fn apt() -> Option<Vec<&'static str>> {
    find_program("apt-get")?;
    if is_root() {
        return Some(vec!["apt-get"]);
    }
    find_program("sudo").map(|_| vec!["sudo", "--preserve-env=DEBIAN_FRONTEND", "apt-get"])
}

/// The owner of /proc/self is who runs us.
fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    Path::new("/proc/self").metadata().is_ok_and(|process| process.uid() == 0)
}

fn install(apt: &[&str], packages: &[&str]) -> Result {
    let command = |arguments: &[&str]| {
        let mut command = Command::new(apt[0]);
        command.args(&apt[1..]).args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    let mut install = command(&["install", "--yes", "--no-install-recommends"]);
    install.args(packages);
    if run(&mut install).is_ok() {
        return Ok(());
    }
    say("the package lists may be old");
    run(&mut command(&["update"]))?;
    run(&mut install)
}

fn ask(question: &str) -> Result<bool> {
    eprint!("{question} [Y/n] ");
    let _ = io::stderr().flush();
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(|why| Stopped(why.to_string()))?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "" | "y" | "yes"))
}
