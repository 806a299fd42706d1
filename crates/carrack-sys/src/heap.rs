//! The program's heap.
//!
//! That of musl maps and unmaps a few pages for each size of block: in commands that live for milliseconds, a tenth of
//! their time. This one takes 64 KiB at a time, and gives back what is free at its end when it is told to.

use std::alloc::{GlobalAlloc, Layout};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dlmalloc::Dlmalloc;

#[global_allocator]
static HEAP: Heap = Heap(Mutex::new(Dlmalloc::new()));

struct Heap(Mutex<Dlmalloc>);

/// Gives the free end of the heap back to the kernel, at the beginning of what may be a long wait.
pub(crate) fn trim() {
    let mut heap = HEAP.lock();
    // SAFETY: nothing else uses the heap while it is locked.
    unsafe { heap.trim(0) };
}

impl Heap {
    fn lock(&self) -> MutexGuard<'_, Dlmalloc> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// SAFETY: each call goes to the same method of the heap that keeps the contract, alone, and nothing in it panics.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of the allocator, which is that of the heap.
        unsafe { self.lock().malloc(layout.size(), layout.align()) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe { self.lock().calloc(layout.size(), layout.align()) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { self.lock().free(pointer, layout.size(), layout.align()) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: as above.
        unsafe { self.lock().realloc(pointer, layout.size(), layout.align(), new_size) }
    }
}
