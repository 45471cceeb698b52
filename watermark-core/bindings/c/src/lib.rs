//! The C interface of [`watermark_core`], and a sampler for llama.cpp.
//!
//! `include/watermark.h` is made from this crate and says the conventions at its top; `README.md` shows the use.
//!
//! - [`status`]: what functions return, and the message beside it;
//! - [`scheme`]: a profile under a key, shared by threads;
//! - [`candidates`]: what a token is chosen from;
//! - [`outcome`]: how tokens came about;
//! - [`session`]: the state of one sequence;
//! - [`batch`]: many sequences at once, and threads for them;
//! - [`rows`]: batches without sessions: row seeds, masks, biased logits, chosen tokens;
//! - [`detect`]: token ids to a p-value;
//! - [`llama`]: a `llama_sampler` that is linked to nothing.
//!
//! Errors are found before anything is changed, and the functions of a step do not allocate once their session or
//! thread has its memory (`tests/allocations.rs`).

#![allow(
    unsafe_code,
    reason = "the C interface takes pointers; every block says whose promise it rests on"
)]
#![allow(
    clippy::missing_safety_doc,
    reason = "the caller's promises are the conventions at the top of the header, the same for every function"
)]

use std::ffi::c_char;

pub mod batch;
pub mod candidates;
mod coins;
pub mod detect;
pub mod llama;
mod memory;
pub mod outcome;
pub mod rows;
pub mod scheme;
pub mod session;
pub mod status;

use status::{Failure, Status, guard};

#[cfg(not(panic = "unwind"))]
compile_error!(
    "a panic must be a status, never the end of the host: build watermark-c with panic = \"unwind\""
);

/// Version of the interface: changes when a program that was compiled against an older header would no longer work.
pub const WMK_ABI_VERSION: u32 = 1;

/// WMK_ABI_VERSION of the library. Compare it with that of the header before anything else.
#[unsafe(no_mangle)]
pub extern "C" fn wmk_abi_version() -> u32 {
    WMK_ABI_VERSION
}

/// Version of the library, for example "0.1.0".
#[unsafe(no_mangle)]
pub extern "C" fn wmk_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// The machine code behind the keyed function. Results do not depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Kernel {
    /// Any machine.
    Portable = 1,
    /// x86-64 with AVX2.
    Avx2 = 2,
    /// x86-64 with AVX-512 F, BW, DQ and VL.
    Avx512 = 3,
}

/// Makes a wmk_kernel that of the whole process, for measurements and for tools that know fewer instructions than the
/// processor. Without a call the fastest one runs.
///
/// WMK_STATUS_UNSUPPORTED: this processor cannot run it.
#[unsafe(no_mangle)]
pub extern "C" fn wmk_kernel_select(kernel: i32) -> Status {
    use watermark_core::kernel::Kernel as Core;
    guard(|| {
        let found = Core::ALL.into_iter().find(|known| *known as i32 == kernel);
        let kernel = found.ok_or_else(|| {
            let message = format!("kernel is {kernel}; a wmk_kernel is 1, 2 or 3");
            Failure::new(Status::Argument, message)
        })?;
        kernel
            .select()
            .map_err(|error| Failure::new(Status::Unsupported, error.to_string()))
    })
}

/// Panics, to show that a panic is a status. Only with the feature `test-panic`, and not in the header.
#[cfg(feature = "test-panic")]
#[unsafe(no_mangle)]
pub extern "C" fn wmk_test_panic() -> Status {
    guard(|| panic!("a test asked for it"))
}
