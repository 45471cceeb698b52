//! A profile under a key, shared by threads.

use std::ffi::c_char;
use std::path::Path;
use std::sync::Arc;

use watermark_core::key::{
    ACTIVE_SLOTS, Epoch, KeyFileError, KeyLineError, SecretKey, SlotKey, read_key_file,
};
use watermark_core::profile::{BUILT_IN, Mark, Profile};
use watermark_core::scheme::Biaser;
use zeroize::Zeroizing;

use crate::memory::{handle, put, put_text, read, slice, text, versioned, write};
use crate::status::{Failure, Status, guard};

/// A profile under a key. Counted: see wmk_scheme_ref.
#[derive(Debug)]
pub struct Scheme {
    pub(crate) mark: Arc<Mark>,
}

/// What wmk_scheme_new makes a scheme from: one of the two profiles, and one of the three keys. Strings end with a NUL.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct SchemeOptions {
    /// sizeof(wmk_scheme_options).
    pub struct_size: usize,
    /// The name of a built-in profile, for example "gumbel-dual-h2", or NULL.
    pub profile: *const c_char,
    /// A profile as JSON, or NULL.
    pub profile_json: *const c_char,
    /// The path of a key file, or NULL. It must belong to the process's user, with mode 600.
    pub key_file: *const c_char,
    /// The line of a key file, or NULL. The caller wipes it after the call; the library wipes its copies.
    pub key_line: *const c_char,
    /// The 32 bytes of a slot key, or NULL. The caller wipes them after the call; the library wipes its copies.
    pub key_bytes: *const u8,
    /// Number of key_bytes: 32.
    pub key_bytes_len: usize,
    /// The slot's epoch. NULL: that of a slot key, else "e1".
    pub epoch: *const c_char,
    /// The slot's index in the epoch, below 33. Where the key is a slot's own, it must be that slot's, or 0.
    pub slot: u32,
    /// The account of a leak slot, from 1; 0 for a provider slot.
    pub account: u32,
}
versioned!(SchemeOptions, "wmk_scheme_options");

/// What wmk_scheme_info says.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct SchemeInfo {
    /// sizeof(wmk_scheme_facts).
    pub struct_size: usize,
    /// Tokens of a window, h.
    pub context_width: usize,
    /// Seeds that wmk_seed_rows writes for a window: 1, 2 for dual keys, h for self-hash.
    pub seeds_per_row: usize,
    /// 1 if wmk_fill_masks and wmk_bias_rows work: the scheme adds a constant to the logits of a set of tokens.
    pub biases: u32,
    /// 1 if one token under a random key keeps the candidates' distribution.
    pub preserves_distribution: u32,
    /// The constant, in nats; 0 where biases is 0.
    pub delta: f32,
    /// The slot's index.
    pub slot: u32,
    /// The account of a leak slot, else 0.
    pub account: u32,
    /// 0.
    pub reserved: u32,
    /// The public name of the slot's key: 16 hexadecimal digits and a NUL.
    pub key_id: [c_char; 24],
    /// The slot's epoch, with a NUL.
    pub epoch: [c_char; 40],
}
versioned!(SchemeInfo, "wmk_scheme_facts");

/// Makes a scheme; *scheme is to be freed by wmk_scheme_free.
///
/// WMK_STATUS_PROFILE, _KEY, _KEY_FILE, _SLOT or _ARGUMENT: the message names the field or the file.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wmk_scheme_new(
    options: *const SchemeOptions,
    scheme: *mut *mut Scheme,
) -> Status {
    guard(|| {
        // SAFETY: the header's conventions.
        let options = unsafe { read(options) }?;
        // SAFETY: as above.
        let (profile, key) = unsafe { (profile(&options)?, key(&options)?) };
        let mark = profile
            .bind_account(&key, options.account)
            .map_err(|error| Failure::new(Status::Profile, error.to_string()))?;
        let made = Arc::new(Scheme {
            mark: Arc::new(mark),
        });
        let raw = Arc::into_raw(made).cast_mut();
        // SAFETY: as above; and where it cannot be put, the handle was this function's alone.
        unsafe {
            put(scheme, raw, "scheme")
                .inspect_err(|_| Arc::decrement_strong_count(raw.cast_const()))
        }
    })
}

unsafe fn profile(options: &SchemeOptions) -> Result<Profile, Failure> {
    // SAFETY: the caller of `wmk_scheme_new` promises it.
    let (name, json) = unsafe {
        (
            text(options.profile, "profile")?,
            text(options.profile_json, "profile_json")?,
        )
    };
    match (name, json) {
        (Some(name), None) => Profile::built_in(name).ok_or_else(|| {
            let known = BUILT_IN.join(", ");
            let message = format!(
                "no built-in profile is named `{name}`: use one of {known}, or profile_json"
            );
            Failure::new(Status::Profile, message)
        }),
        (None, Some(json)) => Profile::from_json(json)
            .map_err(|error| Failure::new(Status::Profile, format!("profile_json: {error}"))),
        _ => Err(Failure::new(
            Status::Argument,
            "give one of profile and profile_json, and leave the other NULL",
        )),
    }
}

unsafe fn key(options: &SchemeOptions) -> Result<SlotKey, Failure> {
    // SAFETY: the caller of `wmk_scheme_new` promises it.
    let (file, line, bytes, epoch) = unsafe {
        (
            text(options.key_file, "key_file")?,
            text(options.key_line, "key_line")?,
            slice(options.key_bytes, options.key_bytes_len, "key_bytes")?,
            text(options.epoch, "epoch")?,
        )
    };
    let epoch = match epoch {
        Some(label) => {
            Some(Epoch::new(label).map_err(|error| Failure::new(Status::Slot, error.to_string()))?)
        }
        None => None,
    };
    let first = || Epoch::new("e1").expect("a constant label");
    let held = match (file, line, bytes) {
        (Some(path), None, []) => read_key_file(Path::new(path)).map_err(key_file_error)?,
        (None, Some(line), []) => SecretKey::from_line(line).map_err(key_line_error)?,
        (None, None, [_, ..]) => {
            let bytes: &[u8; 32] = bytes.try_into().map_err(|_| {
                let message = format!("key_bytes_len is {}; a slot key has 32 bytes", bytes.len());
                Failure::new(Status::Key, message)
            })?;
            let bytes = Zeroizing::new(*bytes);
            check_active(options.slot)?;
            let epoch = epoch.clone().unwrap_or_else(first);
            SecretKey::Slot(SlotKey::from_parts(*bytes, epoch, options.slot))
        }
        _ => {
            let message = "give one of key_file, key_line and key_bytes, and leave the others NULL";
            return Err(Failure::new(Status::Argument, message));
        }
    };
    match held {
        SecretKey::Master(master) => {
            check_active(options.slot)?;
            Ok(master.slot(&epoch.unwrap_or_else(first), options.slot))
        }
        SecretKey::Slot(slot) => {
            let label = slot.label();
            let other = epoch.is_some_and(|epoch| epoch != label.epoch)
                || (options.slot != 0 && options.slot != label.index);
            if other {
                let (epoch, index) = (&label.epoch, label.index);
                let message = format!(
                    "the key is that of slot {epoch}/{index}: leave epoch NULL and slot 0, or use the key of the slot \
                     that you name"
                );
                return Err(Failure::new(Status::Slot, message));
            }
            Ok(slot)
        }
    }
}

fn check_active(slot: u32) -> Result<(), Failure> {
    if slot < ACTIVE_SLOTS {
        return Ok(());
    }
    let message = format!(
        "slot {slot} is a decoy and marks nothing; active slots are 0 to {}",
        ACTIVE_SLOTS - 1
    );
    Err(Failure::new(Status::Slot, message))
}

fn key_line_error(error: KeyLineError) -> Failure {
    Failure::new(Status::Key, error.to_string())
}

fn key_file_error(error: KeyFileError) -> Failure {
    let status = match error {
        KeyFileError::Content { .. } => Status::Key,
        _ => Status::KeyFile,
    };
    Failure::new(status, error.to_string())
}

/// Counts one more owner: each calls wmk_scheme_free once. Sessions and exhibits keep what they need of the scheme and
/// may outlive it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wmk_scheme_ref(scheme: *mut Scheme) -> Status {
    guard(|| {
        // SAFETY: the header's conventions: a live handle, which `wmk_scheme_new` made by `Arc::into_raw`.
        unsafe {
            handle(scheme, "scheme")?;
            Arc::increment_strong_count(scheme.cast_const());
        }
        Ok(())
    })
}

/// One owner less; the last one frees the scheme and wipes its key.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wmk_scheme_free(scheme: *mut Scheme) -> Status {
    guard(|| {
        if !scheme.is_null() {
            // SAFETY: the header's conventions: a live handle, which `wmk_scheme_new` made by `Arc::into_raw`.
            unsafe { Arc::decrement_strong_count(scheme.cast_const()) };
        }
        Ok(())
    })
}

/// The facts of a scheme.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wmk_scheme_info(scheme: *const Scheme, info: *mut SchemeInfo) -> Status {
    guard(|| {
        // SAFETY: the header's conventions.
        let mark = unsafe { &*handle(scheme, "scheme")?.mark };
        let biaser = mark.scheme().as_biaser();
        let facts = SchemeInfo {
            struct_size: 0,
            context_width: mark.scheme().context_width(),
            seeds_per_row: seeds_per_row(mark),
            biases: u32::from(biaser.is_some()),
            preserves_distribution: u32::from(mark.scheme().preserves_distribution()),
            delta: biaser.map_or(0.0, Biaser::delta),
            slot: mark.label().index,
            account: mark.account(),
            reserved: 0,
            key_id: fixed(&mark.key_id().to_string()),
            epoch: fixed(mark.label().epoch.as_str()),
        };
        // SAFETY: the header's conventions.
        unsafe { write(info, facts) }
    })
}

/// The profile as JSON, with a NUL, into a buffer of len bytes; *needed, unless it is NULL, gets the length with the NUL.
///
/// WMK_STATUS_BUFFER: the buffer is too small, and *needed says how long it must be.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wmk_scheme_profile(
    scheme: *const Scheme,
    buffer: *mut c_char,
    len: usize,
    needed: *mut usize,
) -> Status {
    guard(|| {
        // SAFETY: the header's conventions.
        let mark = unsafe { &*handle(scheme, "scheme")?.mark };
        // SAFETY: the header's conventions.
        unsafe { put_text(&mark.profile().to_json(), buffer, len, needed) }
    })
}

/// Seeds of a row: those of a window without equal tokens.
pub(crate) fn seeds_per_row(mark: &Mark) -> usize {
    let scheme = mark.scheme();
    let window: [u32; watermark_core::prf::MAX_CONTEXT] = std::array::from_fn(|i| i as u32);
    scheme.row(&window[..scheme.context_width()]).seeds().len()
}

/// Text with a NUL, and zeros.
fn fixed<const N: usize>(text: &str) -> [c_char; N] {
    let mut out = [0; N];
    for (to, from) in out[..N - 1].iter_mut().zip(text.bytes()) {
        *to = from as c_char;
    }
    out
}
