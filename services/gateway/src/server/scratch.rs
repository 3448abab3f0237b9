//! One read buffer per thread, lent out for the length of one poll.
//!
//! Connections that wait hold no buffer, and slow ones do not each leave one behind in the allocator.

use std::cell::RefCell;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Lends this thread's buffer, `len` bytes of anything. Not to be nested.
pub(super) fn with<T>(len: usize, use_it: impl FnOnce(&mut [u8]) -> T) -> T {
    BUFFER.with_borrow_mut(|buffer| {
        if buffer.len() < len {
            buffer.resize(len, 0);
        }
        use_it(&mut buffer[..len])
    })
}
