//! The simulator's own answer to the system's `getrandom`: the same bytes on every thread of every process.
//!
//! Standard hash maps take their keys from there, and some dependencies iterate over such maps. Only this binary has
//! it; a node must never be linked with it, because its keys would be known to everybody.

#![allow(unsafe_code, reason = "a C symbol can be defined in no other way")]

use std::cell::Cell;
use std::ffi::{c_uint, c_void};

/// By these words a test tells a binary that holds this file from one that must not.
#[used]
static MARK: &[u8] = b"this binary answers getrandom itself";

thread_local! {
    /// A run has a thread of its own, so counting by thread makes it independent of the runs beside and before it.
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

/// Fills `length` bytes at `buffer` from a counter.
///
/// # Safety
/// `buffer` must be valid for writes of `length` bytes, as the system's contract demands of every caller.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut c_void, length: usize, _flags: c_uint) -> isize {
    let call = CALLS.with(|calls| calls.replace(calls.get() + 1));
    // SAFETY: the caller guarantees that the buffer is writable over its whole length.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length) };
    for (at, chunk) in bytes.chunks_mut(8).enumerate() {
        let word = mixed(call.wrapping_mul(0x1_0001).wrapping_add(at as u64)).to_le_bytes();
        chunk.copy_from_slice(&word[..chunk.len()]);
    }
    length as isize
}

/// splitmix64.
fn mixed(state: u64) -> u64 {
    let mut z = state.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
