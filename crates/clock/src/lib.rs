//! The two clocks that exactness rests on, read from the kernel at the moment they are asked.
//!
//! - [`boot`] counts while the machine sleeps; a time daemon may slew it by up to 8 %. A lease *holder*
//!   uses it: it must never believe that less time has passed than has, so it subtracts a margin of ρ = 0.1.
//! - [`raw`] is the bare oscillator: never slewed, stops while the machine sleeps. A *leader* uses it for the
//!   log clock: it must never believe that more time has passed than has (ρ = 0.001 covers a bad crystal).
//!
//! Neither is cached: a cached clock must not decide an expiry (docs/quota.md).
#![allow(unsafe_code)] // one libc call, below

use tidegate_model::Nanos;

/// Time since boot, sleep included (`CLOCK_BOOTTIME`). Comparable between processes of one machine.
#[inline]
#[must_use]
pub fn boot() -> Nanos {
    read(libc::CLOCK_BOOTTIME)
}

/// Time by the oscillator alone (`CLOCK_MONOTONIC_RAW`).
#[inline]
#[must_use]
pub fn raw() -> Nanos {
    read(libc::CLOCK_MONOTONIC_RAW)
}

/// Wall clock, nanoseconds since 1970 (`CLOCK_REALTIME`): for people and logs, never for limits.
#[inline]
#[must_use]
pub fn wall() -> Nanos {
    #[cfg(debug_assertions)]
    return shifted(read(libc::CLOCK_REALTIME));
    #[cfg(not(debug_assertions))]
    read(libc::CLOCK_REALTIME)
}

#[cfg(debug_assertions)]
static SHIFT: std::sync::atomic::AtomicI64 = std::sync::atomic::AtomicI64::new(0);

/// Sets this process's wall clock wrong by so many milliseconds: for tests of clusters whose clocks disagree.
#[cfg(debug_assertions)]
pub fn shift_wall(millis: i64) {
    SHIFT.store(millis.saturating_mul(1_000_000), std::sync::atomic::Ordering::Relaxed);
}

#[cfg(debug_assertions)]
fn shifted(now: Nanos) -> Nanos {
    Nanos(now.0.saturating_add_signed(SHIFT.load(std::sync::atomic::Ordering::Relaxed)))
}

#[inline]
fn read(clock: libc::clockid_t) -> Nanos {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid timespec for the whole call, which writes it and nothing else.
    // The call cannot fail: these clocks exist on every Linux that Tidegate supports (≥ 3.0).
    unsafe { libc::clock_gettime(clock, &raw mut now) };
    Nanos(now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs())
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_clock_runs_backwards() {
        for clock in [super::boot, super::raw] {
            let first = clock();
            assert!(clock() >= first);
        }
    }
}
