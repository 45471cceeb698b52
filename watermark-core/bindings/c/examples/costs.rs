//! What a call through the C interface costs beside the same call in Rust: `cargo run --release --package watermark-c --example
//! costs`.
//!
//! Both in one run, in turns, medians of wall time: a busy machine slows both alike, so read the differences and ratios.

#![allow(unsafe_code, reason = "C functions are called")]

use std::cell::RefCell;
use std::hint::black_box;
use std::mem::size_of;
use std::ptr::{null, null_mut};
use std::time::Instant;

use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use watermark_c::candidates::{Candidates, Sampling, TokenData, wmk_select_candidates};
use watermark_c::outcome::Decision;
use watermark_c::rows::{Windows, wmk_bias_rows, wmk_fill_masks};
use watermark_c::scheme::{Scheme, SchemeOptions, wmk_scheme_free, wmk_scheme_new};
use watermark_c::session::{wmk_session_new, wmk_session_step};
use watermark_c::status::Status;
use watermark_core::candidates::Candidates as CoreCandidates;
use watermark_core::key::{Epoch, SlotKey};
use watermark_core::profile::{Mark, Profile};
use watermark_core::sampler::{Outcome, Session};

const VOCABULARY: usize = 128_000;
const KEY: [u8; 32] = [5; 32];

/// Median nanoseconds of one call, of both in turns.
fn beside(mut one: impl FnMut(), mut other: impl FnMut()) -> (f64, f64) {
    const CALLS: u32 = 200;
    let time = |call: &mut dyn FnMut()| {
        let start = Instant::now();
        (0..CALLS).for_each(|_| call());
        start.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS)
    };
    let (mut ones, mut others) = (Vec::new(), Vec::new());
    for _ in 0..101 {
        ones.push(time(&mut one));
        others.push(time(&mut other));
    }
    let median = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    (median(&mut ones), median(&mut others))
}

fn report(what: &str, (rust, c): (f64, f64)) {
    println!(
        "{what:42} Rust {:>9.2} us   C {:>9.2} us   {:+7.0} ns   {:.3}",
        rust / 1e3,
        c / 1e3,
        c - rust,
        c / rust
    );
}

fn both(profile: &Profile) -> (Mark, *mut Scheme) {
    let key = SlotKey::from_parts(KEY, Epoch::new("e1").expect("a label"), 0);
    let mark = profile.bind(&key).expect("a built-in profile");
    let json = std::ffi::CString::new(profile.to_json()).expect("no NUL");
    let options = SchemeOptions {
        struct_size: size_of::<SchemeOptions>(),
        profile: null(),
        profile_json: json.as_ptr(),
        key_file: null(),
        key_line: null(),
        key_bytes: KEY.as_ptr(),
        key_bytes_len: 32,
        epoch: null(),
        slot: 0,
        account: 0,
    };
    let mut scheme = null_mut();
    // SAFETY: the pointers are those of values above.
    let status = unsafe { wmk_scheme_new(&options, &mut scheme) };
    assert_eq!(status, Status::Ok);
    (mark, scheme)
}

fn main() {
    let half = r#"{"schema":"watermark.profile/1","id":"half","scheme":
        {"type":"greenlist","context_width":2,"gamma":0.5,"delta":2},"repeated_contexts":"mark"}"#;
    let (mark, scheme) = both(&Profile::from_json(half).expect("a profile"));
    let biaser = mark.scheme().as_biaser().expect("a green list");
    let windows = Windows {
        struct_size: size_of::<Windows>(),
        tokens: [3, 4].as_ptr(),
        len: 2,
        rows: 1,
        stride: 2,
        active: null(),
    };
    let words = VOCABULARY / 32;
    let (mut mask, mut other_mask) = (vec![0; words], vec![0; words]);
    report(
        "green list, gamma 1/2, mask of 128k",
        beside(
            || biaser.fill_mask(&biaser.row(black_box(&[3, 4])), &mut mask),
            || {
                // SAFETY: the arrays have the lengths that are given.
                let status = unsafe {
                    wmk_fill_masks(
                        scheme,
                        null(),
                        &windows,
                        other_mask.as_mut_ptr(),
                        words,
                        VOCABULARY,
                        words,
                    )
                };
                assert_eq!(status, Status::Ok);
            },
        ),
    );
    assert_eq!(mask, other_mask);
    // One row for both: where it lies in memory matters as much as who writes to it.
    let logits = RefCell::new(vec![0.0; VOCABULARY]);
    report(
        "green list, gamma 1/2, bias of 128k",
        beside(
            || biaser.bias(&biaser.row(black_box(&[3, 4])), &mut logits.borrow_mut()),
            || {
                let out = logits.borrow_mut().as_mut_ptr();
                // SAFETY: as above.
                let status = unsafe {
                    wmk_bias_rows(
                        scheme,
                        null(),
                        &windows,
                        out,
                        VOCABULARY,
                        VOCABULARY,
                        VOCABULARY,
                    )
                };
                assert_eq!(status, Status::Ok);
            },
        ),
    );
    // SAFETY: not used again.
    unsafe { wmk_scheme_free(scheme) };

    for name in [
        "gumbel-h2",
        "gumbel-dual-h2",
        "tournament-h2",
        "greenlist-h2",
    ] {
        let (mark, scheme) = both(&Profile::built_in(name).expect("built in"));
        few(name, &mark, scheme);
        // SAFETY: its session is an owner of its own.
        unsafe { wmk_scheme_free(scheme) };
    }
}

/// A choice among 50 candidates with logits: the weights are part of both.
fn few(name: &str, mark: &Mark, scheme: *mut Scheme) {
    let data: Vec<TokenData> = (0..50)
        .map(|i| TokenData {
            id: i * 2017,
            logit: i as f32 * -0.1,
            p: 0.0,
        })
        .collect();
    let candidates = Candidates {
        struct_size: size_of::<Candidates>(),
        values: null(),
        tokens: null(),
        data: data.as_ptr(),
        len: data.len(),
        role: 0,
        reserved: 0,
    };
    let sampling = Sampling {
        struct_size: size_of::<Sampling>(),
        temperature: 1.0,
        top_p: 1.0,
        top_k: 0,
        input: 0,
    };
    let (mut tokens, mut weights) = (Vec::new(), Vec::new());
    let mut fill = || {
        tokens.clear();
        weights.clear();
        tokens.extend(data.iter().map(|one| one.id as u32));
        weights.extend(data.iter().map(|one| one.logit.exp()));
        (tokens.as_ptr(), weights.as_ptr())
    };
    let coins = |coin: u64| {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&coin.to_le_bytes());
        ChaCha8Rng::from_seed(key)
    };
    let mut index = 0;
    let mut expected = 0;
    let times = beside(
        || {
            let (ids, weights) = fill();
            // SAFETY: both vectors have 50 elements, and are not touched while they are borrowed here.
            let (ids, weights) = unsafe {
                (
                    std::slice::from_raw_parts(ids, 50),
                    std::slice::from_raw_parts(weights, 50),
                )
            };
            let candidates = CoreCandidates::pairs(ids, weights).expect("positive weights");
            let row = mark.scheme().row(black_box(&[3, 4]));
            expected = mark.scheme().choose(&row, &candidates, &mut coins(7));
        },
        || {
            // SAFETY: the pointers are those of values above.
            let status = unsafe {
                wmk_select_candidates(
                    scheme,
                    [3, 4].as_ptr(),
                    2,
                    &candidates,
                    &sampling,
                    7,
                    &mut index,
                )
            };
            assert_eq!(status, Status::Ok);
        },
    );
    assert_eq!(index, expected);
    report(&format!("{name}, choice among 50"), times);

    let mut session = Session::new(mark);
    let mut handle = null_mut();
    // SAFETY: a live scheme.
    assert_eq!(unsafe { wmk_session_new(scheme, &mut handle) }, Status::Ok);
    for token in [3, 4] {
        session.accept(token, Outcome::Marked);
        // SAFETY: a live session.
        unsafe { watermark_c::session::wmk_session_accept(handle, token as i32, 0) };
    }
    let mut decision = Decision {
        index: 0,
        token: 0,
        outcome: 0,
    };
    let mut token = 0;
    let times = beside(
        || {
            let (ids, weights) = fill();
            // SAFETY: as above.
            let (ids, weights) = unsafe {
                (
                    std::slice::from_raw_parts(ids, 50),
                    std::slice::from_raw_parts(weights, 50),
                )
            };
            let candidates = CoreCandidates::pairs(ids, weights).expect("positive weights");
            token = session.step(&candidates, 1.0, &mut coins(7)).0;
        },
        || {
            // SAFETY: the pointers are those of values above.
            let status =
                unsafe { wmk_session_step(handle, &candidates, &sampling, 7, &mut decision) };
            assert_eq!(status, Status::Ok);
        },
    );
    assert_eq!(decision.token as u32, token);
    report(&format!("{name}, a session's step"), times);
    // SAFETY: not used again.
    unsafe { watermark_c::session::wmk_session_free(handle) };
}
