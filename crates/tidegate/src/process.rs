//! What std lacks about processes: asking a child to end, and ending with one's parent.
#![allow(unsafe_code)] // two libc calls

use std::process::Child;

/// SIGTERM: a node drains, then ends.
pub fn terminate(child: &Child) {
    let Ok(pid) = libc::pid_t::try_from(child.id()) else { return };
    // SAFETY: `kill` touches no memory of ours. The child was not waited for yet, so its pid is still its own.
    unsafe { libc::kill(pid, libc::SIGTERM) };
}

/// From now on this process is asked to end when the thread that started it does.
pub fn end_with_parent() {
    // SAFETY: `prctl(PR_SET_PDEATHSIG)` reads one integer and touches no memory of ours.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) };
}
