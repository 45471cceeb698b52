//! The C functions, called as C calls them: what they give is what the library gives, and bad input is a status with a
//! message that says what to do.

#![allow(unsafe_code, reason = "C functions are called")]

use std::ffi::{CStr, CString, c_char};
use std::mem::size_of;
use std::ptr::{null, null_mut};

use watermark_c::batch::*;
use watermark_c::candidates::*;
use watermark_c::detect::*;
use watermark_c::outcome::*;
use watermark_c::rows::*;
use watermark_c::scheme::*;
use watermark_c::session::*;
use watermark_c::status::*;
use watermark_core::candidates::{CandidateBuffer, Sampling as CoreSampling};
use watermark_core::detect::Test;
use watermark_core::key::{Epoch, MasterKey, SlotKey};
use watermark_core::profile::{BUILT_IN, Mark, Profile};
use watermark_core::sampler::Session as CoreSession;
use watermark_core::window::Exhibit as CoreExhibit;

const KEY: [u8; 32] = [3; 32];

fn mark(name: &str) -> Mark {
    let key = SlotKey::from_parts(KEY, Epoch::new("t").unwrap(), 2);
    Profile::built_in(name).unwrap().bind(&key).unwrap()
}

/// Options with nothing in them.
fn options() -> SchemeOptions {
    SchemeOptions {
        struct_size: size_of::<SchemeOptions>(),
        profile: null(),
        profile_json: null(),
        key_file: null(),
        key_line: null(),
        key_bytes: null(),
        key_bytes_len: 0,
        epoch: null(),
        slot: 0,
        account: 0,
    }
}

fn scheme(name: &str) -> *mut Scheme {
    let name = CString::new(name).unwrap();
    let options = SchemeOptions {
        profile: name.as_ptr(),
        key_bytes: KEY.as_ptr(),
        key_bytes_len: 32,
        epoch: c"t".as_ptr(),
        slot: 2,
        ..options()
    };
    let mut scheme = null_mut();
    assert_eq!(unsafe { wmk_scheme_new(&options, &mut scheme) }, Status::Ok);
    scheme
}

fn session(scheme: *const Scheme) -> *mut Session {
    let mut session = null_mut();
    assert_eq!(unsafe { wmk_session_new(scheme, &mut session) }, Status::Ok);
    session
}

const SAMPLING: Sampling = Sampling {
    struct_size: size_of::<Sampling>(),
    temperature: 1.0,
    top_p: 1.0,
    top_k: 0,
    input: 0,
};

fn dense(values: &[f32]) -> Candidates {
    Candidates {
        struct_size: size_of::<Candidates>(),
        values: values.as_ptr(),
        tokens: null(),
        data: null(),
        len: values.len(),
        role: 0,
        reserved: 0,
    }
}

fn windows(tokens: &[i32], rows: usize, stride: usize) -> Windows {
    Windows {
        struct_size: size_of::<Windows>(),
        tokens: tokens.as_ptr(),
        len: tokens.len(),
        rows,
        stride,
        active: null(),
    }
}

fn logits(values: &[f32], rows: usize, vocabulary: usize) -> Logits {
    Logits {
        struct_size: size_of::<Logits>(),
        values: values.as_ptr(),
        len: values.len(),
        rows,
        vocabulary,
        stride: vocabulary,
    }
}

fn zeroed<T>(struct_size: usize) -> T {
    // SAFETY: for structs of the interface, whose first field is struct_size and of which zeros are a value.
    unsafe {
        let mut value = std::mem::zeroed::<T>();
        (&raw mut value).cast::<usize>().write(struct_size);
        value
    }
}

fn message() -> String {
    // SAFETY: this thread's message, copied at once.
    unsafe { CStr::from_ptr(wmk_last_error()) }
        .to_str()
        .unwrap()
        .to_owned()
}

/// The status, and words that the message must have.
fn refused(status: Status, expected: Status, words: &[&str]) {
    let message = message();
    assert_eq!(status, expected, "{message}");
    for word in words {
        assert!(message.contains(word), "{message:?} should say {word:?}");
    }
}

fn row(vocabulary: usize, step: usize) -> Vec<f32> {
    (0..vocabulary)
        .map(|i| ((i * 7919 + step * 104_729) % 1009) as f32 * -0.02)
        .collect()
}

/// The generator that a coin stands for, spelt out.
fn coins(coin: u64) -> rand_chacha::ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&coin.to_le_bytes());
    rand_core::SeedableRng::from_seed(key)
}

#[test]
fn sessions_and_batches_write_what_the_library_writes() {
    const VOCABULARY: usize = 300;
    for name in BUILT_IN {
        let mark = mark(name);
        let scheme = scheme(name);
        let single = session(scheme);
        let batch = [session(scheme), session(scheme)];
        let mut direct = CoreSession::new(&mark);
        let mut buffer = CandidateBuffer::default();
        let mut pool = null_mut();
        assert_eq!(unsafe { wmk_pool_new(2, &mut pool) }, Status::Ok);
        let sampling = Sampling {
            top_k: 40,
            top_p: 0.9,
            temperature: 0.8,
            ..SAMPLING
        };
        let core_sampling = CoreSampling {
            top_k: 40,
            top_p: 0.9,
            temperature: 0.8,
        };
        for step in 0..120 {
            let values = row(VOCABULARY, step % 17);
            let coin = (1 << 63) | (step as u64 * 77);
            let token = direct
                .sample(&values, &core_sampling, &mut buffer, &mut coins(coin))
                .unwrap();
            // Shuffled pairs and whole rows give the same token: the order of candidates matters only to a draw.
            let mut decision = zeroed::<Decision>(0);
            let status = unsafe {
                wmk_session_step(single, &dense(&values), &sampling, coin, &mut decision)
            };
            assert_eq!(status, Status::Ok, "{}", message());
            assert_eq!(
                (decision.token, decision.index),
                (token as i32, i64::from(token)),
                "{name}"
            );
            unsafe { wmk_session_accept(single, decision.token, decision.outcome) };
            let both = [values.clone(), values].concat();
            let mut decisions = [decision; 2];
            let pool = if step % 2 == 0 { pool } else { null_mut() };
            let status = unsafe {
                wmk_sample_rows(
                    pool,
                    batch.as_ptr(),
                    &logits(&both, 2, VOCABULARY),
                    &sampling,
                    [coin; 2].as_ptr(),
                    decisions.as_mut_ptr(),
                )
            };
            assert_eq!(status, Status::Ok, "{}", message());
            assert_eq!(decisions, [decision; 2]);
        }
        let mut counts = zeroed::<Counts>(size_of::<Counts>());
        unsafe { wmk_session_counts(single, &mut counts) };
        assert_eq!(counts.outcomes[0], direct.record().marked);
        assert_eq!(counts.outcomes.iter().sum::<u64>(), 120);
        let mut exhibit = CoreExhibit::new(mark.scheme().context_width());
        exhibit.push(direct.tokens());
        let test = Test::of(&mark, &exhibit);
        let tokens: Vec<i32> = direct.tokens().iter().map(|&id| id as i32).collect();
        let mut detection = zeroed::<Detection>(size_of::<Detection>());
        let status = unsafe { wmk_detect(scheme, tokens.as_ptr(), tokens.len(), &mut detection) };
        assert_eq!(status, Status::Ok);
        assert_eq!(detection.ln_p, test.p.ln());
        assert_eq!(i128::from(detection.sum), test.sum);
        assert_eq!((detection.n_scored, detection.tokens), (test.n_scored, 120));
        // Under H0 (another key) p < 1e-9 comes once in 1e9 runs; the mark that was written is far below.
        assert!(detection.log10_p < -9.0, "{name}: {}", detection.log10_p);
        unsafe {
            wmk_pool_free(pool);
            for session in [single, batch[0], batch[1]] {
                assert_eq!(wmk_session_free(session), Status::Ok);
            }
            wmk_scheme_free(scheme);
        }
    }
}

#[test]
fn candidates_in_any_form_and_order_give_one_token() {
    // Gumbel-max depends on no order and no coin.
    let scheme = scheme("gumbel-h2");
    let values = row(64, 3);
    let order: Vec<i32> = (0..64).map(|i| (i * 37) % 64).collect();
    let shuffled: Vec<f32> = order.iter().map(|&id| values[id as usize]).collect();
    let data: Vec<TokenData> = order
        .iter()
        .map(|&id| TokenData {
            id,
            logit: values[id as usize],
            p: f32::NAN,
        })
        .collect();
    let pairs = Candidates {
        tokens: order.as_ptr(),
        ..dense(&shuffled)
    };
    let structs = Candidates {
        values: null(),
        data: data.as_ptr(),
        ..dense(&shuffled)
    };
    for window in [[1, 2], [5, 9], [7, 7]] {
        for (top_k, top_p) in [(0, 1.0), (20, 1.0), (0, 0.999_999)] {
            let sampling = Sampling {
                top_k,
                top_p,
                ..SAMPLING
            };
            let token = |candidates: &Candidates| {
                let mut index = usize::MAX;
                let status = unsafe {
                    wmk_select_candidates(
                        scheme,
                        window.as_ptr(),
                        2,
                        candidates,
                        &sampling,
                        1,
                        &mut index,
                    )
                };
                assert_eq!(status, Status::Ok, "{}", message());
                index
            };
            let expected = token(&dense(&values)) as i32;
            assert_eq!(order[token(&pairs)], expected);
            assert_eq!(order[token(&structs)], expected);
            let mut chosen = [0];
            let status = unsafe {
                wmk_select_f32(
                    scheme,
                    null(),
                    &windows(&window, 1, 2),
                    &logits(&values, 1, 64),
                    &sampling,
                    [1].as_ptr(),
                    chosen.as_mut_ptr(),
                )
            };
            assert_eq!((status, chosen[0]), (Status::Ok, expected));
        }
    }
    unsafe { wmk_scheme_free(scheme) };
}

#[test]
fn rows_are_those_of_the_library() {
    const VOCABULARY: usize = 1000;
    let mark = mark("greenlist-h2");
    let scheme = scheme("greenlist-h2");
    let core = mark.scheme().as_biaser().unwrap();
    // Three rows at a distance of 3; the second is inactive and holds padding.
    let ids = [1, 2, -1, -1, -1, -1, 8, 9];
    let active = [1, 0, 1];
    let windows = Windows {
        active: active.as_ptr(),
        ..windows(&ids, 3, 3)
    };
    let words = VOCABULARY.div_ceil(32);
    let mut masks = vec![u32::MAX; 3 * (words + 2)];
    let mut seeds = vec![7; 3 * 32];
    let mut biased = vec![0.5; 3 * VOCABULARY];
    let mut pool = null_mut();
    unsafe { wmk_pool_new(2, &mut pool) };
    for pool in [null_mut(), pool] {
        biased.fill(0.5);
        let statuses = unsafe {
            [
                wmk_fill_masks(
                    scheme,
                    pool,
                    &windows,
                    masks.as_mut_ptr(),
                    masks.len(),
                    VOCABULARY,
                    words + 2,
                ),
                wmk_seed_rows(scheme, pool, &windows, seeds.as_mut_ptr(), seeds.len()),
                wmk_bias_rows(
                    scheme,
                    pool,
                    &windows,
                    biased.as_mut_ptr(),
                    biased.len(),
                    VOCABULARY,
                    VOCABULARY,
                ),
            ]
        };
        assert_eq!(statuses, [Status::Ok; 3], "{}", message());
        for (index, window) in [Some([1, 2]), None, Some([8, 9])].into_iter().enumerate() {
            let mut mask = vec![0; words];
            let mut seed = [0; 32];
            let mut logits = vec![0.5; VOCABULARY];
            if let Some(window) = window {
                let row = core.row(&window);
                core.fill_mask(&row, &mut mask);
                mask[words - 1] &= (1 << (VOCABULARY % 32)) - 1;
                core.bias(&row, &mut logits);
                seed = row.seeds()[0].to_bytes();
                let mut expected = [0; 40];
                row.seeds()[0].words(watermark_core::prf::Lane::Gumbel, &mut expected);
                let ids = window.map(|id| id as i32);
                let mut given = [0; 40];
                let status =
                    unsafe { wmk_words(scheme, ids.as_ptr(), 2, 0, 1, given.as_mut_ptr(), 40) };
                assert_eq!((status, given), (Status::Ok, expected));
            }
            assert_eq!(masks[index * (words + 2)..][..words], mask);
            assert_eq!(
                masks[index * (words + 2) + words..][..2],
                [u32::MAX; 2],
                "padding is left alone"
            );
            assert_eq!(seeds[32 * index..][..32], seed);
            assert_eq!(biased[VOCABULARY * index..][..VOCABULARY], logits);
        }
    }
    let mut info = zeroed::<SchemeInfo>(size_of::<SchemeInfo>());
    assert_eq!(unsafe { wmk_scheme_info(scheme, &mut info) }, Status::Ok);
    let key_id = unsafe { CStr::from_ptr(info.key_id.as_ptr()) };
    assert_eq!(key_id.to_str().unwrap(), mark.key_id().to_string());
    assert_eq!(
        (
            info.context_width,
            info.seeds_per_row,
            info.biases,
            info.slot
        ),
        (2, 1, 1, 2)
    );
    unsafe {
        wmk_pool_free(pool);
        wmk_scheme_free(scheme);
    }
}

#[test]
fn sessions_roll_back_clone_and_keep_their_scheme() {
    let scheme = scheme("gumbel-h2");
    let one = session(scheme);
    // The scheme lives on in its sessions.
    unsafe { wmk_scheme_free(scheme) };
    let values = row(50, 1);
    let ask = |session: *mut Session| {
        let mut decision = zeroed::<Decision>(0);
        let status =
            unsafe { wmk_session_decide(session, &dense(&values), &SAMPLING, 9, &mut decision) };
        assert_eq!(status, Status::Ok);
        decision
    };
    assert_eq!(ask(one).outcome, Outcome::PartialContext as i32);
    assert_eq!(ask(one).index, -1);
    for token in [4, 5, 6] {
        unsafe { wmk_session_accept(one, token, 0) };
    }
    let decision = ask(one);
    assert_eq!(decision.outcome, Outcome::Marked as i32);
    assert_eq!(ask(one), decision);
    let mut copy = null_mut();
    unsafe { wmk_session_clone(one, &mut copy) };
    unsafe { wmk_session_accept(one, 7, 0) };
    assert_eq!(ask(copy), decision);
    unsafe { wmk_session_rollback(one, 1) };
    assert_eq!(ask(one), decision);
    unsafe { wmk_session_set_budget(one, 3) };
    assert_eq!(ask(one).outcome, Outcome::Budget as i32);
    unsafe { wmk_session_set_budget(one, u64::MAX) };
    unsafe { wmk_session_set_enabled(one, 0) };
    assert_eq!(ask(one).outcome, Outcome::Disabled as i32);
    unsafe { wmk_session_begin_segment(copy) };
    assert_eq!(ask(copy).outcome, Outcome::PartialContext as i32);
    let (mut tokens, mut len) = ([0; 2], 0);
    unsafe { wmk_session_tokens(one, tokens.as_mut_ptr(), 2, &mut len) };
    assert_eq!((tokens, len), ([4, 5], 3));
    let mut needed = 0;
    let status = unsafe { wmk_session_record(one, null_mut(), 0, &mut needed) };
    refused(status, Status::Buffer, &["needs"]);
    let mut buffer = vec![0 as c_char; needed];
    let status = unsafe { wmk_session_record(one, buffer.as_mut_ptr(), needed, null_mut()) };
    assert_eq!(status, Status::Ok);
    let record = unsafe { CStr::from_ptr(buffer.as_ptr()) }.to_str().unwrap();
    assert!(record.contains(r#""tokens":[4,5,6]"#), "{record}");
    unsafe { wmk_session_reset(one) };
    unsafe { wmk_session_tokens(one, null_mut(), 0, &mut len) };
    assert_eq!(len, 0);
    for session in [one, copy] {
        assert_eq!(unsafe { wmk_session_free(session) }, Status::Ok);
    }
}

/// A profile that is enforced, pins a vocabulary smaller than the model's rows, and has a special token.
#[test]
fn profiles_bind_the_session() {
    let json = r#"{"schema":"watermark.profile/1","id":"x","enforced":true,"special_tokens":[9],
        "scheme":{"type":"greenlist","context_width":1,"gamma":0.5,"delta":2},
        "vocabulary":{"size":40,"sha256":"00"}}"#;
    let json = CString::new(json).unwrap();
    let options = SchemeOptions {
        profile_json: json.as_ptr(),
        key_bytes: KEY.as_ptr(),
        key_bytes_len: 32,
        ..options()
    };
    let mut scheme = null_mut();
    let status = unsafe { wmk_scheme_new(&options, &mut scheme) };
    assert_eq!(status, Status::Ok, "{}", message());
    let one = session(scheme);
    let off = unsafe { wmk_session_set_enabled(one, 0) };
    refused(off, Status::Enforced, &["enforced"]);
    let rationed = unsafe { wmk_session_set_budget(one, 5) };
    refused(rationed, Status::Enforced, &["budget"]);
    unsafe { wmk_session_accept(one, 3, Outcome::Replaced as i32) };
    // Padding of the model's rows is never chosen, however probable, in any form.
    let mut values = vec![0.0; 64];
    values[40..].fill(30.0);
    let order: Vec<i32> = (0..64).rev().collect();
    let reversed: Vec<f32> = values.iter().rev().copied().collect();
    let pairs = Candidates {
        tokens: order.as_ptr(),
        ..dense(&reversed)
    };
    for coin in 0..50 {
        for candidates in [&dense(&values), &pairs] {
            let mut decision = zeroed::<Decision>(0);
            let status =
                unsafe { wmk_session_step(one, candidates, &SAMPLING, coin, &mut decision) };
            assert_eq!(status, Status::Ok, "{}", message());
            assert!((0..40).contains(&decision.token), "{decision:?}");
        }
    }
    let mut outcome = 0;
    let status = unsafe { wmk_session_bias(one, values.as_mut_ptr(), 64, 1.0, &mut outcome) };
    assert_eq!((status, outcome), (Status::Ok, Outcome::Marked as i32));
    let green = values[..40].iter().filter(|&&logit| logit == 2.0).count();
    assert!((5..35).contains(&green));
    assert!(values[40..].iter().all(|&logit| logit == f32::NEG_INFINITY));
    // A special token ends a segment, in writing and in reading.
    unsafe { wmk_session_accept(one, 9, 0) };
    let mut counts = zeroed::<Counts>(size_of::<Counts>());
    unsafe { wmk_session_counts(one, &mut counts) };
    assert_eq!((counts.segments, counts.tokens), (2, 2));
    assert_eq!(counts.outcomes[Outcome::Replaced as usize], 1);
    let mut detection = zeroed::<Detection>(size_of::<Detection>());
    let read = unsafe { wmk_detect(scheme, [1, 2, 9, 3, 4].as_ptr(), 5, &mut detection) };
    assert_eq!(
        (read, detection.segments, detection.cells),
        (Status::Ok, 2, 2)
    );
    let other = unsafe { wmk_detect(scheme, [1, 40].as_ptr(), 2, &mut detection) };
    refused(other, Status::Token, &["40", "another tokenizer"]);
    unsafe {
        wmk_session_free(one);
        wmk_scheme_free(scheme);
    }
}

#[test]
fn keys_and_profiles_are_refused_by_name_and_never_shown() {
    let try_options = |options: &SchemeOptions| {
        let mut scheme = null_mut();
        let status = unsafe { wmk_scheme_new(options, &mut scheme) };
        assert!(scheme.is_null());
        status
    };
    let named = SchemeOptions {
        profile: c"greenlist-h1".as_ptr(),
        ..options()
    };
    let keyed = SchemeOptions {
        key_bytes: KEY.as_ptr(),
        key_bytes_len: 32,
        ..named
    };
    refused(
        try_options(&options()),
        Status::Argument,
        &["profile", "profile_json"],
    );
    refused(
        try_options(&named),
        Status::Argument,
        &["key_file", "key_line"],
    );
    let unknown = SchemeOptions {
        profile: c"magic".as_ptr(),
        ..keyed
    };
    refused(
        try_options(&unknown),
        Status::Profile,
        &["magic", "greenlist-h1"],
    );
    let field = c"{\"schema\":\"watermark.profile/1\",\"id\":\"x\",\"scheme\":{\"type\":\"gumbel\",\"context_width\":2},\"colour\":1}";
    let json = SchemeOptions {
        profile: null(),
        profile_json: field.as_ptr(),
        ..keyed
    };
    refused(try_options(&json), Status::Profile, &["colour", "line 1"]);
    let short = SchemeOptions {
        key_bytes_len: 31,
        ..keyed
    };
    refused(try_options(&short), Status::Key, &["31", "32 bytes"]);
    let decoy = SchemeOptions { slot: 33, ..keyed };
    refused(try_options(&decoy), Status::Slot, &["decoy", "0 to 32"]);
    let account = SchemeOptions {
        account: 5,
        ..keyed
    };
    refused(try_options(&account), Status::Profile, &["account 5"]);
    let bad_text = SchemeOptions {
        profile: c"\xff".as_ptr(),
        ..keyed
    };
    refused(try_options(&bad_text), Status::Text, &["profile", "UTF-8"]);

    let slot = MasterKey::from_bytes([9; 32]).slot(&Epoch::new("2026q4").unwrap(), 1);
    let line = CString::new(slot.to_line().as_str()).unwrap();
    let other = SchemeOptions {
        key_line: line.as_ptr(),
        epoch: c"2027q1".as_ptr(),
        ..named
    };
    refused(try_options(&other), Status::Slot, &["2026q4/1"]);
    let garbled =
        CString::new(line.to_str().unwrap().replace("QQ", "QP").replace('9', "8")).unwrap();
    let bad_line = SchemeOptions {
        key_line: garbled.as_ptr(),
        ..named
    };
    refused(try_options(&bad_line), Status::Key, &["garbled"]);
    assert!(!message().contains(&garbled.to_str().unwrap()[16..22]));

    let mut scheme = null_mut();
    let good = SchemeOptions {
        key_line: line.as_ptr(),
        ..named
    };
    assert_eq!(unsafe { wmk_scheme_new(&good, &mut scheme) }, Status::Ok);
    unsafe { wmk_scheme_free(scheme) };
    let nowhere = unsafe { wmk_scheme_new(&good, null_mut()) };
    refused(nowhere, Status::NullPointer, &["scheme is NULL"]);
}

#[cfg(unix)]
#[test]
fn a_key_file_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("provider.key");
    let line = MasterKey::from_bytes([9; 32]).to_line();
    watermark_core::key::write_key_file(&path, &line).unwrap();
    let name = CString::new(path.to_str().unwrap()).unwrap();
    let options = SchemeOptions {
        profile: c"greenlist-h1".as_ptr(),
        key_file: name.as_ptr(),
        ..options()
    };
    let mut scheme = null_mut();
    assert_eq!(unsafe { wmk_scheme_new(&options, &mut scheme) }, Status::Ok);
    unsafe { wmk_scheme_free(scheme) };
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let status = unsafe { wmk_scheme_new(&options, &mut scheme) };
    refused(status, Status::KeyFile, &["read by others", "chmod 600"]);
    let none = SchemeOptions {
        key_file: c"/nowhere/no.key".as_ptr(),
        ..options
    };
    let status = unsafe { wmk_scheme_new(&none, &mut scheme) };
    refused(status, Status::KeyFile, &["/nowhere/no.key"]);
}

#[test]
fn structs_of_other_sizes() {
    let scheme = scheme("gumbel-h2");
    let ask = |sampling: *const Sampling| {
        let values = row(50, 1);
        let mut index = 0;
        unsafe {
            wmk_select_candidates(
                scheme,
                [1, 2].as_ptr(),
                2,
                &dense(&values),
                sampling,
                1,
                &mut index,
            )
        }
    };
    for size in [0, 8, 23, 4097, usize::MAX] {
        let other = Sampling {
            struct_size: size,
            ..SAMPLING
        };
        refused(ask(&other), Status::StructSize, &["wmk_sampling", "sizeof"]);
    }
    #[repr(C)]
    struct Newer {
        sampling: Sampling,
        field: u64,
    }
    let mut newer = Newer {
        sampling: Sampling {
            struct_size: size_of::<Newer>(),
            ..SAMPLING
        },
        field: 0,
    };
    assert_eq!(ask((&raw const newer).cast()), Status::Ok);
    newer.field = 1;
    refused(
        ask((&raw const newer).cast()),
        Status::StructSize,
        &["does not know"],
    );
    // A struct to be filled keeps its size, and what the library does not know is not touched.
    #[repr(C)]
    struct NewerInfo {
        info: SchemeInfo,
        field: u64,
    }
    let mut info = zeroed::<NewerInfo>(size_of::<NewerInfo>());
    info.field = 77;
    assert_eq!(
        unsafe { wmk_scheme_info(scheme, (&raw mut info).cast()) },
        Status::Ok
    );
    assert_eq!(
        (info.info.struct_size, info.field),
        (size_of::<NewerInfo>(), 77)
    );
    unsafe { wmk_scheme_free(scheme) };
}

#[test]
fn arrays_and_numbers_are_checked() {
    let scheme = scheme("gumbel-h2");
    let values = row(50, 1);
    let candidates = dense(&values);
    let mut index = 0;
    let mut ask = |scheme: *const Scheme,
                   window: &[i32],
                   candidates: &Candidates,
                   sampling: &Sampling| unsafe {
        wmk_select_candidates(
            scheme,
            window.as_ptr(),
            window.len(),
            candidates,
            sampling,
            1,
            &mut index,
        )
    };
    refused(
        ask(null(), &[1, 2], &candidates, &SAMPLING),
        Status::NullPointer,
        &["scheme"],
    );
    refused(
        ask(scheme, &[1], &candidates, &SAMPLING),
        Status::Length,
        &["1 tokens", "takes 2"],
    );
    refused(
        ask(scheme, &[1, -2], &candidates, &SAMPLING),
        Status::Token,
        &["window[1] is -2"],
    );
    let nan = [f32::NAN, f32::NEG_INFINITY];
    refused(
        ask(scheme, &[1, 2], &dense(&nan), &SAMPLING),
        Status::NoCandidate,
        &["no candidate"],
    );
    refused(
        ask(scheme, &[1, 2], &dense(&[]), &SAMPLING),
        Status::NoCandidate,
        &["no candidate"],
    );
    let missing = Candidates {
        values: null(),
        ..candidates
    };
    refused(
        ask(scheme, &[1, 2], &missing, &SAMPLING),
        Status::NullPointer,
        &["values and data"],
    );
    let ids = [-1; 50];
    let negative = Candidates {
        tokens: ids.as_ptr(),
        ..candidates
    };
    refused(
        ask(scheme, &[1, 2], &negative, &SAMPLING),
        Status::Token,
        &["tokens[0] is -1"],
    );
    let crooked = Candidates {
        values: values.as_ptr().cast::<u8>().wrapping_add(1).cast(),
        ..candidates
    };
    refused(
        ask(scheme, &[1, 2], &crooked, &SAMPLING),
        Status::Alignment,
        &["values", "4 bytes"],
    );
    let endless = Candidates {
        len: usize::MAX / 2,
        ..candidates
    };
    refused(
        ask(scheme, &[1, 2], &endless, &SAMPLING),
        Status::Length,
        &["candidates"],
    );
    let role = Candidates {
        role: 9,
        ..candidates
    };
    refused(
        ask(scheme, &[1, 2], &role, &SAMPLING),
        Status::Argument,
        &["wmk_role"],
    );
    let draft = Candidates {
        role: 1,
        ..candidates
    };
    refused(
        ask(scheme, &[1, 2], &draft, &SAMPLING),
        Status::Unsupported,
        &["dual-key"],
    );
    for (sampling, word) in [
        (
            Sampling {
                temperature: -1.0,
                ..SAMPLING
            },
            "temperature",
        ),
        (
            Sampling {
                temperature: f32::NAN,
                ..SAMPLING
            },
            "temperature",
        ),
        (
            Sampling {
                top_p: 0.0,
                ..SAMPLING
            },
            "top-p",
        ),
        (
            Sampling {
                input: 1,
                top_k: 3,
                ..SAMPLING
            },
            "top_k 0",
        ),
    ] {
        refused(
            ask(scheme, &[1, 2], &candidates, &sampling),
            Status::Sampling,
            &[word],
        );
    }
    let input = Sampling {
        input: 2,
        ..SAMPLING
    };
    refused(
        ask(scheme, &[1, 2], &candidates, &input),
        Status::Argument,
        &["input"],
    );

    // Batches.
    let mut masks = [0_u32; 4];
    let pair = windows(&[1, 2], 1, 2);
    let status = unsafe { wmk_fill_masks(scheme, null(), &pair, masks.as_mut_ptr(), 4, 100, 4) };
    refused(
        status,
        Status::Unsupported,
        &["gumbel-h2", "wmk_select_f32"],
    );
    let mut chosen = [0; 2];
    let mut select = |windows: &Windows, logits: &Logits| unsafe {
        wmk_select_f32(
            scheme,
            null(),
            windows,
            logits,
            &SAMPLING,
            [1, 2].as_ptr(),
            chosen.as_mut_ptr(),
        )
    };
    let two = [1, 2, 3, 4];
    let both = [row(50, 1), vec![f32::NAN; 50]].concat();
    refused(
        select(&windows(&two, 2, 1), &logits(&both, 2, 50)),
        Status::Length,
        &["stride"],
    );
    refused(
        select(&windows(&two, 3, 2), &logits(&both, 2, 50)),
        Status::Length,
        &["3 rows"],
    );
    refused(
        select(&windows(&two, 2, 2), &logits(&both, 2, 51)),
        Status::Length,
        &["wmk_logits"],
    );
    refused(
        select(&windows(&two, 1, 2), &logits(&both, 2, 50)),
        Status::Length,
        &["1 rows"],
    );
    refused(
        select(&windows(&[1, 2, 3, -4], 2, 2), &logits(&both, 2, 50)),
        Status::Token,
        &["row 1"],
    );
    let huge = Windows {
        rows: usize::MAX,
        ..windows(&two, 2, 2)
    };
    refused(
        select(&huge, &logits(&both, 2, 50)),
        Status::Length,
        &["wmk_windows"],
    );
    refused(
        select(&windows(&two, 2, 2), &logits(&both, 2, 50)),
        Status::NoCandidate,
        &["row 1"],
    );
    assert!(chosen[0] >= 0 && chosen[1] == -1, "the other rows are done");

    // Sessions.
    let one = session(scheme);
    let mut decisions = [zeroed::<Decision>(0); 2];
    let mut sample = |sessions: [*mut Session; 2]| unsafe {
        let logits = logits(&both, 2, 50);
        wmk_sample_rows(
            null(),
            sessions.as_ptr(),
            &logits,
            &SAMPLING,
            [1, 2].as_ptr(),
            decisions.as_mut_ptr(),
        )
    };
    refused(sample([one, one]), Status::Argument, &["twice"]);
    refused(
        sample([one, null_mut()]),
        Status::NullPointer,
        &["sessions[1]"],
    );
    refused(
        unsafe { wmk_session_accept(one, -5, 0) },
        Status::Token,
        &["-5"],
    );
    refused(
        unsafe { wmk_session_accept(one, 5, 99) },
        Status::Argument,
        &["99"],
    );
    refused(
        unsafe { wmk_session_accept(null_mut(), 5, 0) },
        Status::NullPointer,
        &["session"],
    );
    let mut pool = null_mut();
    refused(
        unsafe { wmk_pool_new(0, &mut pool) },
        Status::Argument,
        &["NULL for the pool"],
    );
    refused(
        watermark_c::wmk_kernel_select(9),
        Status::Argument,
        &["wmk_kernel"],
    );
    let mut exhibit = null_mut();
    let mut detection = zeroed::<Detection>(size_of::<Detection>());
    unsafe {
        wmk_exhibit_new(scheme, &mut exhibit);
        assert_eq!(wmk_exhibit_exclude(exhibit, [1, 2].as_ptr(), 2), Status::Ok);
        wmk_exhibit_push(exhibit, [1, 2, 3, 4].as_ptr(), 4);
        refused(
            wmk_exhibit_exclude(exhibit, [3, 4].as_ptr(), 2),
            Status::Argument,
            &["reach back"],
        );
        refused(
            wmk_exhibit_push(exhibit, [-1].as_ptr(), 1),
            Status::Token,
            &["segment[0]"],
        );
        assert_eq!(wmk_exhibit_test(exhibit, &mut detection), Status::Ok);
        assert_eq!(
            (detection.excluded, detection.n_scored, detection.partial),
            (1, 1, 2)
        );
        // Nothing at all is a defined result.
        assert_eq!(wmk_detect(scheme, null(), 0, &mut detection), Status::Ok);
        assert_eq!((detection.ln_p, detection.n_scored), (0.0, 0));
        wmk_exhibit_free(exhibit);
        wmk_session_free(one);
        wmk_scheme_free(scheme);
        assert_eq!(wmk_session_free(null_mut()), Status::Ok);
    }
}

/// Eight threads on one scheme, and on one session that each sometimes finds in use.
#[test]
fn threads_share_a_scheme_and_are_kept_apart_on_a_session() {
    struct Shared(*mut Scheme, *mut Session);
    // SAFETY: what the header says of schemes and sessions, which is under test.
    unsafe impl Sync for Shared {}
    let scheme = scheme("tournament-h2");
    let shared = &Shared(scheme, session(scheme));
    let values = &row(2000, 1);
    let select = move || {
        let mut index = 0;
        let status = unsafe {
            wmk_select_candidates(
                shared.0,
                [1, 2].as_ptr(),
                2,
                &dense(values),
                &SAMPLING,
                5,
                &mut index,
            )
        };
        assert_eq!(status, Status::Ok);
        index
    };
    let expected = select();
    let accepted: usize = std::thread::scope(|scope| {
        let work = || {
            let mut accepted = 0;
            for token in 0..50 {
                assert_eq!(select(), expected);
                match unsafe { wmk_session_accept(shared.1, token, 0) } {
                    Status::Ok => accepted += 1,
                    status => refused(status, Status::Busy, &["one call at a time"]),
                }
            }
            accepted
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    let mut len = 0;
    unsafe { wmk_session_tokens(shared.1, null_mut(), 0, &mut len) };
    assert_eq!(len, accepted);
    unsafe {
        wmk_session_free(shared.1);
        wmk_scheme_free(scheme);
    }
}
