//! The program's heap.
//!
//! That of musl maps and unmaps a few pages for each size of block: in commands that live for milliseconds, a tenth of
//! their time. This one takes 64 KiB at a time; what is free of it is given back when there is time.

use std::alloc::{GlobalAlloc, Layout};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use dlmalloc::{Allocator, Dlmalloc};

const PAGE_BYTES: usize = 4096;
/// So often a thread looks whether the heap is free before it sleeps.
const SPINS: usize = 1000;

#[global_allocator]
static HEAP: Heap = Heap(Mutex::new(Dlmalloc::new_with_allocator(Pages)));
/// Whether the heap has to do with what it has.
static IS_FULL: AtomicBool = AtomicBool::new(false);

struct Heap(Mutex<Dlmalloc<Pages>>);

/// Gives all pages of the heap that hold nothing back to the kernel.
pub(crate) fn release() {
    const SIZES: [usize; 5] = [64 << 10, 32 << 10, 16 << 10, 2 * PAGE_BYTES, PAGE_BYTES];
    const MOST: usize = 128;
    let mut taken = [(ptr::null_mut::<u8>(), 0); MOST];
    let mut count = 0;
    let mut heap = HEAP.lock();
    // What is free is taken, emptied and freed.
    IS_FULL.store(true, Ordering::Relaxed);
    for size in SIZES {
        while count < MOST {
            // SAFETY: nothing else uses the heap while it is locked.
            let block = unsafe { heap.malloc(size, PAGE_BYTES) };
            if block.is_null() {
                break;
            }
            // SAFETY: the block begins with a page and is nobody's yet.
            unsafe { libc::madvise(block.cast(), size, libc::MADV_DONTNEED) };
            taken[count] = (block, size);
            count += 1;
        }
    }
    for (block, size) in &taken[..count] {
        // SAFETY: it was allocated above, with this size.
        unsafe { heap.free(*block, *size, PAGE_BYTES) };
    }
    IS_FULL.store(false, Ordering::Relaxed);
    // SAFETY: as above.
    unsafe { heap.trim(0) };
}

impl Heap {
    fn lock(&self) -> MutexGuard<'_, Dlmalloc<Pages>> {
        // It is held for a fraction of a microsecond: going to sleep and being woken takes longer than to look again.
        for _ in 0..SPINS {
            match self.0.try_lock() {
                Ok(heap) => return heap,
                Err(TryLockError::Poisoned(error)) => return error.into_inner(),
                Err(TryLockError::WouldBlock) => std::hint::spin_loop(),
            }
        }
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

/// Where the heap has its memory from: anonymous mappings.
struct Pages;

// SAFETY: a mapping is the heap's until it is unmapped, and what is mapped anew is zero.
unsafe impl Allocator for Pages {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        let nothing = (ptr::null_mut(), 0, 0);
        if IS_FULL.load(Ordering::Relaxed) {
            return nothing;
        }
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping touches nothing that is there.
        match unsafe { libc::mmap(ptr::null_mut(), size, access, kind, -1, 0) } {
            libc::MAP_FAILED => nothing,
            start => (start.cast(), size, 0),
        }
    }

    fn remap(&self, start: *mut u8, old_size: usize, new_size: usize, can_move: bool) -> *mut u8 {
        let flags = if can_move { libc::MREMAP_MAYMOVE } else { 0 };
        // SAFETY: the heap owns the mapping, and knows where it is afterwards.
        match unsafe { libc::mremap(start.cast(), old_size, new_size, flags) } {
            libc::MAP_FAILED => ptr::null_mut(),
            start => start.cast(),
        }
    }

    fn free_part(&self, start: *mut u8, old_size: usize, new_size: usize) -> bool {
        self.free(start.wrapping_add(new_size), old_size - new_size)
    }

    fn free(&self, start: *mut u8, size: usize) -> bool {
        // SAFETY: the heap owns the pages and has given them up.
        unsafe { libc::munmap(start.cast(), size) == 0 }
    }

    fn can_release_part(&self, _flags: u32) -> bool {
        true
    }

    fn allocates_zeros(&self) -> bool {
        true
    }

    fn page_size(&self) -> usize {
        PAGE_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_use_stays_when_the_rest_is_given_back() {
        let mut blocks: Vec<Vec<u8>> = (0..400u16).map(|number| vec![(number % 251) as u8; 5000]).collect();
        let kept: Vec<Vec<u8>> = (0..100).map(|number| blocks.swap_remove(number * 3)).collect();
        let bytes: Vec<u8> = kept.iter().map(|block| block[0]).collect();
        drop(blocks);
        release();
        let again: Vec<Vec<u8>> = (0..100).map(|_| vec![0; 9000]).collect();
        assert!(again.iter().all(|block| block.iter().all(|byte| *byte == 0)));
        for (block, byte) in kept.iter().zip(bytes) {
            assert!(block.len() == 5000 && block.iter().all(|other| *other == byte));
        }
        release();
    }
}
