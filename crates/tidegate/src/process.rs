//! What std lacks about processes: asking a child to end, and ending with one's parent.
#![allow(unsafe_code)] // a few libc calls

use std::process::Child;

/// SIGTERM: a node drains, then ends.
pub(crate) fn terminate(child: &Child) {
    let Ok(pid) = libc::pid_t::try_from(child.id()) else { return };
    // SAFETY: `kill` touches no memory of ours. The child was not waited for yet, so its pid is still its own.
    unsafe { libc::kill(pid, libc::SIGTERM) };
}

/// From now on this process is asked to end when the thread that started it does.
pub(crate) fn end_with_parent() {
    // SAFETY: `prctl(PR_SET_PDEATHSIG)` reads one integer and touches no memory of ours.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) };
}

/// Raises the bound on open descriptors as far as this process may. What it is then; `None`: the kernel does not say.
pub(crate) fn most_descriptors() -> Option<usize> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one struct of ours.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return None;
    }
    let wanted = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
    // SAFETY: the kernel reads one struct of ours.
    if limit.rlim_cur < limit.rlim_max && unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const wanted) } == 0 {
        limit = wanted;
    }
    Some(usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX))
}

/// A crash leaves no copy of this process' memory, which holds secrets: neither a file nor anything for the program that the kernel
/// would hand it to (core(5), PR_SET_DUMPABLE(2const)).
pub(crate) fn leave_no_core() {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel reads one struct of ours, and then one integer.
    let done = unsafe {
        libc::setrlimit(libc::RLIMIT_CORE, &raw const none) == 0 && libc::prctl(libc::PR_SET_DUMPABLE, 0) == 0
    };
    if !done {
        tracing::warn!(why = %std::io::Error::last_os_error(), "core dumps cannot be switched off; they would hold secrets");
    }
}

/// Bytes of a page of memory.
pub(crate) fn page_size() -> u64 {
    // SAFETY: it touches no memory of ours.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4_096)
}

/// Tells systemd that the service is up, if it asked to be told (sd_notify(3)).
pub(crate) fn notify_ready() {
    notify("READY=1\n");
}

/// Tells it that the service is on its way out, so that it is waited for.
pub(crate) fn notify_stopping() {
    notify("STOPPING=1\nSTATUS=draining: open requests may finish\n");
}

/// Tells it that another process is the service from now on.
pub(crate) fn notify_main(pid: u32) {
    notify(&format!("MAINPID={pid}\n"));
}

/// Shown by `systemctl status`.
pub(crate) fn notify_status(text: &str) {
    notify(&format!("STATUS={}\n", text.replace('\n', " ")));
}

fn notify(message: &str) {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    // `@`: a name in the abstract namespace, as containers have it.
    let address = match path.as_encoded_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&path),
    };
    let sent = address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(message.as_bytes(), &address));
    if let Err(error) = sent {
        tracing::warn!(%error, socket = %path.display(), "cannot tell systemd how this node is");
    }
}
