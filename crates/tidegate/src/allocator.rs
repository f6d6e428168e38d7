//! mimalloc, called by its short way.
//!
//! The `mimalloc` crate asks for every block with its alignment, and mimalloc 3 then searches: for sizes that are no power
//! of two it takes a longer path, about 60 instructions more. Nearly every block of ours needs no more than the
//! alignment that its plain calls give anyway.
#![allow(unsafe_code)] // the allocator's interface

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::time::{Duration, Instant};

use libmimalloc_sys as mi;

/// `MI_MAX_ALIGN_SIZE`: blocks of at least 16 bytes lie at multiples of 16, smaller ones at multiples of 8.
const PLAIN: usize = 16;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

struct Allocator;

unsafe extern "C" {
    /// mimalloc.h; `libmimalloc-sys` names it only among all that is rare.
    fn mi_collect(force: bool);
}

/// Blocks that other threads freed come back to the thread they are of when that allocates again, or here. A thread that
/// rests would keep what its busiest moment took.
pub(crate) const GIVE_BACK_EVERY: Duration = Duration::from_secs(5);

/// For a thread that rests now and then: see [`give_back`].
pub(crate) fn give_back_now_and_then() {
    thread_local! {
        static LAST: Cell<Option<Instant>> = const { Cell::new(None) };
    }
    let now = Instant::now();
    if LAST.get().is_none_or(|last| now.duration_since(last) >= GIVE_BACK_EVERY) {
        LAST.set(Some(now));
        give_back();
    }
}

/// Pages that were full when others freed their blocks, and empty ones that are kept at hand, are only looked at when asked for by
/// force: seldom, for what is needed again has to come from the system again.
const BY_FORCE_EVERY: Duration = Duration::from_secs(30);

/// What lies free here goes back to the system, as far as this thread can.
pub(crate) fn give_back() {
    thread_local! {
        static FORCED: Cell<Option<Instant>> = const { Cell::new(None) };
    }
    let now = Instant::now();
    let force = FORCED.get().is_some_and(|last| now.duration_since(last) >= BY_FORCE_EVERY);
    if force || FORCED.get().is_none() {
        FORCED.set(Some(now));
    }
    // SAFETY: no conditions.
    unsafe { mi_collect(force) };
}

/// Does any block of `size` bytes lie as `layout` wants it?
const fn is_plain(size: usize, align: usize) -> bool {
    align <= PLAIN && align <= size
}

// SAFETY: every call goes to mimalloc, whose blocks are as large and as aligned as asked for (`is_plain` says when the
// plain calls align enough), are valid until freed, and may be freed and moved by any thread. None of it unwinds.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        // SAFETY: no conditions; a null pointer says that there is no memory, as it does here.
        let block =
            unsafe { if is_plain(size, align) { mi::mi_malloc(size) } else { mi::mi_malloc_aligned(size, align) } };
        block.cast()
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        // SAFETY: as above.
        let block =
            unsafe { if is_plain(size, align) { mi::mi_zalloc(size) } else { mi::mi_zalloc_aligned(size, align) } };
        block.cast()
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, _layout: Layout) {
        // SAFETY: the caller got `block` from one of the functions here, and mimalloc frees all of them alike.
        unsafe { mi::mi_free(block.cast()) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let (block, align) = (block.cast(), layout.align());
        // SAFETY: `block` is ours and lives. Where it stays in place it keeps the alignment it was made with; where it
        // moves, `is_plain` holds for the new block.
        let block = unsafe {
            if is_plain(size, align) { mi::mi_realloc(block, size) } else { mi::mi_realloc_aligned(block, size, align) }
        };
        block.cast()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_lies_as_it_was_asked_to() {
        for align in [1, 2, 4, 8, 16, 32, 64, 128, 4096] {
            for size in (1..600).chain([1_000, 4_000, 40_000, 400_000, 4_000_000]) {
                let layout = Layout::from_size_align(size, align).expect("sane");
                let grown = Layout::from_size_align(size * 2 + 1, align).expect("sane");
                // SAFETY: each block is used within its layout and freed once.
                unsafe {
                    let block = std::alloc::alloc_zeroed(layout);
                    assert_eq!(block.addr() % align, 0, "{layout:?}");
                    assert_eq!(*block.add(size - 1), 0);
                    *block = 7;
                    let block = std::alloc::realloc(block, layout, grown.size());
                    assert_eq!((block.addr() % align, *block), (0, 7), "{grown:?}");
                    let other = std::alloc::alloc(layout);
                    assert_eq!(other.addr() % align, 0, "{layout:?}");
                    std::alloc::dealloc(other, layout);
                    std::alloc::dealloc(block, grown);
                }
            }
        }
    }
}
