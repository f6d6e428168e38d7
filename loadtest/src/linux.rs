//! The few system calls that std does not offer: end with the parent, sleep exactly, be told to stop.
//! Knows nothing of load or nodes; `process`, `generator` and `demo` call it.
#![expect(
    unsafe_code,
    reason = "prctl, sched_setaffinity, setns, setsockopt, kill and signal have no safe form in std"
)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

static STOP: AtomicBool = AtomicBool::new(false);

/// What to do with a child of ours when this process ends, however it ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum WhenOrphaned {
    Kill,
    /// For programs with workers of their own, which only an orderly stop takes along.
    Terminate,
}

/// The child leads a process group of its own, and does not outlive the thread that starts it (start it from `main`'s).
pub(crate) fn tie_to_us(command: &mut Command, when_orphaned: WhenOrphaned, cpus: Option<&[usize]>) {
    command.process_group(0);
    let signal = match when_orphaned {
        WhenOrphaned::Kill => libc::SIGKILL,
        WhenOrphaned::Terminate => libc::SIGTERM,
    };
    let set = cpus.map(cpu_set);
    // SAFETY: the closure runs between fork and exec; prctl and sched_setaffinity are system calls that allocate
    // nothing and take no lock, and `set` is owned by the closure.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, signal) != 0 {
                return Err(io::Error::last_os_error());
            }
            if let Some(set) = &set
                && libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), set) != 0
            {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
}

/// Pins the calling thread, and every thread it starts from now on.
pub(crate) fn pin_this_thread(cpus: &[usize]) -> io::Result<()> {
    let set = cpu_set(cpus);
    // SAFETY: `set` is a live, initialised cpu_set_t of the size that is passed.
    match unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn cpu_set(cpus: &[usize]) -> libc::cpu_set_t {
    // SAFETY: cpu_set_t is a plain bit array, for which all zeroes is the empty set; CPU_SET checks its bound.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        for cpu in cpus {
            libc::CPU_SET(*cpu, &mut set);
        }
        set
    }
}

/// The default slack of 50 µs would be a third of what is measured.
pub(crate) fn sleep_exactly_in_this_thread() {
    // SAFETY: PR_SET_TIMERSLACK reads one integer and touches the calling thread only.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_u64) };
}

/// CPU time of the calling thread: what others did meanwhile does not count.
pub(crate) fn cpu_time_of_this_thread() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a live timespec; the clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// As many open files as this process may have; its children inherit it.
pub(crate) fn open_many_files() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a live rlimit; getrlimit writes it and setrlimit reads it.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}

/// At least so many open files for this process and its children, if it may; how many it may have now.
pub(crate) fn open_files(wanted: u64) -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a live rlimit; getrlimit writes it and setrlimit reads it.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        // Only root raises the hard limit; anybody else takes what there is.
        let more = libc::rlimit { rlim_cur: wanted.max(limit.rlim_cur), rlim_max: limit.rlim_max.max(wanted) };
        if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const more) != 0 {
            open_many_files();
        }
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
    }
    limit.rlim_cur
}

/// Lets `connect` choose the port of a socket that is bound to an address: it knows both ends, and takes a port that is in
/// use towards another.
pub(crate) fn choose_port_at_connect(socket: &impl AsRawFd) -> io::Result<()> {
    let (yes, size) = (1_i32, size_of::<i32>() as libc::socklen_t);
    let option = libc::IP_BIND_ADDRESS_NO_PORT;
    // SAFETY: `yes` is a live integer of the size that is passed.
    match unsafe { libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_IP, option, (&raw const yes).cast(), size) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Does something in another network namespace: sockets that are made meanwhile belong to it for good.
pub(crate) fn in_network<T>(namespace: &Path, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let (own, other) = (File::open("/proc/thread-self/ns/net")?, File::open(namespace)?);
    let enter = |file: &File| {
        // SAFETY: setns takes two integers and changes the calling thread alone.
        match unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    enter(&other)?;
    let done = work();
    enter(&own)?;
    done
}

/// `signal` to the one process.
pub(crate) fn signal(pid: u32, signal: i32) -> io::Result<()> {
    let pid = i32::try_from(pid).map_err(io::Error::other)?;
    // SAFETY: kill takes two integers.
    match unsafe { libc::kill(pid, signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

extern "C" fn note_stop(_signal: i32) {
    STOP.store(true, Ordering::Relaxed);
}

/// From now on Ctrl-C and SIGTERM are noted, for [`asked_to_stop`], instead of ending the process on the spot.
pub(crate) fn note_signals() {
    let handler = note_stop as extern "C" fn(i32);
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: the handler only stores to an atomic, which is async-signal-safe.
        unsafe { libc::signal(signal, handler as libc::sighandler_t) };
    }
}

pub(crate) fn asked_to_stop() -> bool {
    STOP.load(Ordering::Relaxed)
}
