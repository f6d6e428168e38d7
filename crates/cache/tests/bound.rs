//! The memory tier's bound, measured by the allocator. Alone in its process: nobody else allocates meanwhile.
#![allow(unsafe_code)] // a counting allocator, below

#[path = "common/responses.rs"]
mod responses;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use tidegate_cache::memory::Memory;

use responses::response;

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator as it came; the count is beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps `GlobalAlloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps `GlobalAlloc`'s contract.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn what_the_allocator_gave_stays_within_the_bound() {
    const BOUND: usize = 8 << 20;
    for body in [0, 100, 3_000, 100_000] {
        let memory = Memory::new(BOUND);
        let before = LIVE.load(Ordering::Relaxed);
        for n in 0..(4 * BOUND / (body + 600)) as u64 {
            assert!(memory.insert(response(n, body, None), 4));
            let live = LIVE.load(Ordering::Relaxed).saturating_sub(before);
            assert!(live <= BOUND + (64 << 10), "{live} of {BOUND} with bodies of {body}");
        }
        let facts = memory.facts();
        assert!(facts.bytes > BOUND * 9 / 10 && facts.bytes <= BOUND, "{facts:?}");
        let live = LIVE.load(Ordering::Relaxed).saturating_sub(before);
        assert!(live > BOUND / 3, "the count is far too careful: {live} of {}", facts.bytes);
        memory.clear();
        assert_eq!(memory.facts().bytes, 0);
    }
}
