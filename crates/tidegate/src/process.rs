//! What std lacks about processes: asking a child to end, and ending with one's parent.
#![allow(unsafe_code)] // two libc calls

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

/// Tells systemd that the service is up, if it asked to be told (sd_notify(3)).
pub(crate) fn notify_ready() {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let Ok(socket) = std::os::unix::net::UnixDatagram::unbound() else { return };
    let path = std::path::Path::new(&path);
    if let Err(error) = socket.send_to(b"READY=1\n", path) {
        tracing::warn!(%error, socket = %path.display(), "cannot tell systemd that this node is ready");
    }
}
