//! The functions of a step do not allocate once their session and thread have their memory.

#![allow(unsafe_code, reason = "an allocator, and C functions")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ffi::CString;
use std::mem::size_of;
use std::ptr::{null, null_mut};

use watermark_c::batch::{Logits, wmk_sample_rows};
use watermark_c::candidates::{Candidates, Sampling, TokenData, wmk_select_candidates};
use watermark_c::outcome::Decision;
use watermark_c::rows::{Windows, wmk_bias_rows, wmk_fill_masks, wmk_seed_rows, wmk_select_f32};
use watermark_c::scheme::{SchemeOptions, wmk_scheme_free, wmk_scheme_new};
use watermark_c::session::{
    wmk_session_accept, wmk_session_free, wmk_session_new, wmk_session_reserve, wmk_session_step,
};
use watermark_c::status::Status;
use watermark_core::profile::BUILT_IN;

/// The system's allocator, counting this thread's calls.
struct Counting;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.set(CALLS.get() + 1);
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        CALLS.set(CALLS.get() + 1);
        // SAFETY: as the caller promised.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const VOCABULARY: usize = 40_000;

#[test]
fn steps_do_not_allocate() {
    let values: Vec<f32> = (0..VOCABULARY)
        .map(|i| -((i * 7919 % VOCABULARY) as f32) / 100.0)
        .collect();
    let data: Vec<TokenData> = (0..50)
        .map(|id| TokenData {
            id,
            logit: id as f32 * -0.1,
            p: 0.0,
        })
        .collect();
    let dense = Candidates {
        struct_size: size_of::<Candidates>(),
        values: values.as_ptr(),
        tokens: null(),
        data: null(),
        len: VOCABULARY,
        role: 0,
        reserved: 0,
    };
    let few = Candidates {
        values: null(),
        data: data.as_ptr(),
        len: data.len(),
        ..dense
    };
    let logits = Logits {
        struct_size: size_of::<Logits>(),
        values: values.as_ptr(),
        len: VOCABULARY,
        rows: 1,
        vocabulary: VOCABULARY,
        stride: VOCABULARY,
    };
    let plain = Sampling {
        struct_size: size_of::<Sampling>(),
        temperature: 1.0,
        top_p: 1.0,
        top_k: 0,
        input: 0,
    };
    let truncated = Sampling {
        top_k: 50,
        top_p: 0.95,
        ..plain
    };
    for name in BUILT_IN {
        let profile = CString::new(name).unwrap();
        let options = SchemeOptions {
            struct_size: size_of::<SchemeOptions>(),
            profile: profile.as_ptr(),
            profile_json: null(),
            key_file: null(),
            key_line: null(),
            key_bytes: [1; 32].as_ptr(),
            key_bytes_len: 32,
            epoch: null(),
            slot: 0,
            account: 0,
        };
        let (mut scheme, mut session) = (null_mut(), null_mut());
        unsafe {
            assert_eq!(wmk_scheme_new(&options, &mut scheme), Status::Ok);
            assert_eq!(wmk_session_new(scheme, &mut session), Status::Ok);
            wmk_session_reserve(session, 1000);
        }
        let width = watermark_core::profile::Profile::built_in(name)
            .unwrap()
            .context_width();
        let window = vec![7; width];
        let windows = Windows {
            struct_size: size_of::<Windows>(),
            tokens: window.as_ptr(),
            len: width,
            rows: 1,
            stride: width,
            active: null(),
        };
        let mut out = vec![0.0; VOCABULARY];
        let mut masks = vec![0; VOCABULARY / 32];
        let mut seeds = vec![0; 32 * 11];
        let mut decision = Decision {
            index: 0,
            token: 0,
            outcome: 0,
        };
        let mut round = || unsafe {
            for sampling in [&plain, &truncated] {
                for candidates in [&dense, &few] {
                    assert_eq!(
                        wmk_session_step(session, candidates, sampling, 3, &mut decision),
                        Status::Ok
                    );
                    assert_eq!(
                        wmk_session_accept(session, decision.token, decision.outcome),
                        Status::Ok
                    );
                    let mut index = 0;
                    let status = wmk_select_candidates(
                        scheme,
                        window.as_ptr(),
                        width,
                        candidates,
                        sampling,
                        3,
                        &mut index,
                    );
                    assert_eq!(status, Status::Ok);
                }
                let mut chosen = 0;
                let status =
                    wmk_select_f32(scheme, null(), &windows, &logits, sampling, &3, &mut chosen);
                assert_eq!(status, Status::Ok);
                let status =
                    wmk_sample_rows(null(), &session, &logits, sampling, &3, &mut decision);
                assert_eq!(status, Status::Ok);
            }
            assert_eq!(
                wmk_seed_rows(scheme, null(), &windows, seeds.as_mut_ptr(), seeds.len()),
                Status::Ok
            );
            if name.starts_with("greenlist") {
                let biased = wmk_bias_rows(
                    scheme,
                    null(),
                    &windows,
                    out.as_mut_ptr(),
                    VOCABULARY,
                    VOCABULARY,
                    VOCABULARY,
                );
                let (words, masks) = (masks.len(), masks.as_mut_ptr());
                let filled =
                    wmk_fill_masks(scheme, null(), &windows, masks, words, VOCABULARY, words);
                assert_eq!([biased, filled], [Status::Ok; 2]);
            }
        };
        round();
        let before = CALLS.get();
        (0..10).for_each(|_| round());
        assert_eq!(CALLS.get() - before, 0, "{name}");
        unsafe {
            wmk_session_free(session);
            wmk_scheme_free(scheme);
        }
    }
}
