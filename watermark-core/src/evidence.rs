//! Evidence: what was fixed beforehand, in files that a stranger can check with other tools.
//!
//! Every file here is canonical JSON (RFC 8785), so that its digests can be computed again from any
//! copy of it, however it was printed since. Digests are SHA-256 in hexadecimal.
//!
//! - [`plan`]: what will be tested, sealed before anything is collected;
//! - [`commitment`]: the keys of an epoch, bound before their first use;
//! - [`epochs`]: when each epoch was in use;
//! - [`merkle`]: the tree that it makes of them;
//! - [`canonical`]: one way to write a value;
//! - [`time`]: points in time as RFC 3339 writes them.

pub mod canonical;
pub mod commitment;
pub mod epochs;
pub mod merkle;
pub mod plan;
pub mod time;

/// Thirty-two bytes from 64 lower-case hexadecimal digits.
pub(crate) fn digest_from_hex(hex: &str) -> Option<[u8; 32]> {
    let lower = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    if hex.len() != 64 || !hex.bytes().all(lower) {
        return None;
    }
    let mut bytes = [0; 32];
    for (place, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * place..2 * place + 2], 16).ok()?;
    }
    Some(bytes)
}
