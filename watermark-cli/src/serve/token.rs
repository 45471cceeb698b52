//! Bearer tokens: who asks, what they may see, and how often.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use axum::http::{HeaderMap, header};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::ServeError;
use super::config::{Role, TokenConfig};
use super::problem::Problem;

/// A token file is one line.
const MAX_FILE: u64 = 4096;
/// Fewer characters can be guessed, or are a password.
const LEAST: usize = 24;

/// One token, by its hash.
pub(super) struct Token {
    pub(super) name: String,
    pub(super) role: Role,
    sha256: [u8; 32],
    per_minute: Option<u32>,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    pub(super) name: String,
    pub(super) role: Role,
    per_minute: Option<u32>,
}

impl Token {
    pub(super) fn read(config: &TokenConfig) -> Result<Self, ServeError> {
        let sha256 = match (&config.sha256, &config.file) {
            (Some(hex), _) => from_hex(hex).ok_or_else(|| ServeError::Token {
                name: config.name.clone(),
                message: "field `sha256` is not 64 hexadecimal digits: give the SHA-256 of the token, `printf %s TOKEN | sha256sum`".to_owned(),
            })?,
            (None, Some(path)) => read_file(path, &config.name)?,
            (None, None) => unreachable!("the configuration was checked"),
        };
        Ok(Self {
            name: config.name.clone(),
            role: config.role,
            sha256,
            per_minute: config.per_minute,
        })
    }
}

/// 32 bytes from hexadecimal digits.
pub(super) fn from_hex(hex: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if hex.len() != 64 || !hex.bytes().all(|c| c.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

/// The hash of the token in a file that nobody else can read.
fn read_file(path: &Path, name: &str) -> Result<[u8; 32], ServeError> {
    use std::io::Read;
    let io = |source| ServeError::Io {
        path: path.to_owned(),
        source,
    };
    let refuse = |message: String| ServeError::Token {
        name: name.to_owned(),
        message: format!("{}: {message}", path.display()),
    };
    let file = std::fs::File::open(path).map_err(io)?;
    // The opened file is what is checked, so that it cannot be exchanged in between.
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let metadata = file.metadata().map_err(io)?;
        if metadata.mode() & 0o077 != 0 {
            return Err(refuse(format!(
                "can be read by others (mode {:03o}); make a new token, in a file of mode 600",
                metadata.mode() & 0o777
            )));
        }
        if metadata.uid() != rustix::process::geteuid().as_raw() {
            return Err(refuse("belongs to another user".to_owned()));
        }
    }
    let mut text = Zeroizing::new(String::new());
    file.take(MAX_FILE).read_to_string(&mut text).map_err(io)?;
    let token = text.trim_end_matches(['\r', '\n']);
    if token.len() < LEAST || !token.bytes().all(|c| c.is_ascii_graphic()) {
        return Err(refuse(format!(
            "is not one line of at least {LEAST} visible ASCII characters; make one with `openssl rand -hex 32`"
        )));
    }
    Ok(Sha256::digest(token.as_bytes()).into())
}

/// The caller of a token, which is compared with every known one by hash, in constant time.
pub(super) fn find(tokens: &[Token], given: &str) -> Option<Caller> {
    let given: [u8; 32] = Sha256::digest(given.as_bytes()).into();
    let mut found = None;
    for token in tokens {
        if bool::from(token.sha256.ct_eq(&given)) {
            found = Some(Caller {
                name: token.name.clone(),
                role: token.role,
                per_minute: token.per_minute,
            });
        }
    }
    found
}

/// The caller of a request.
pub(super) fn caller(tokens: &[Token], headers: &HeaderMap) -> Result<Caller, Problem> {
    let header = headers.get(header::AUTHORIZATION).ok_or_else(|| {
        Problem::unauthorized("this needs a token: `Authorization: Bearer TOKEN`")
    })?;
    let (scheme, token) = header
        .to_str()
        .ok()
        .and_then(|value| value.split_once(' '))
        .ok_or_else(|| Problem::unauthorized("the header `Authorization` is not `Bearer TOKEN`"))?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Problem::unauthorized(
            "the header `Authorization` is not `Bearer TOKEN`",
        ));
    }
    find(tokens, token.trim()).ok_or_else(|| Problem::unauthorized("the token is not known"))
}

/// A bucket of texts a caller, filled evenly.
#[derive(Default)]
pub(super) struct Rates(Mutex<HashMap<String, (f64, Instant)>>);

impl Rates {
    /// Takes `cost` texts from the caller's bucket, or says after how many seconds they are there.
    pub(super) fn take(&self, caller: &Caller, common: u32, cost: usize) -> Result<(), Problem> {
        let capacity = f64::from(caller.per_minute.unwrap_or(common));
        let cost = cost as f64;
        if cost > capacity {
            return Err(Problem::unprocessable(format!(
                "{cost} texts in one request; this token has {capacity} a minute"
            )));
        }
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let (level, at) = buckets
            .entry(caller.name.clone())
            .or_insert((capacity, now));
        *level = (*level + now.duration_since(*at).as_secs_f64() * capacity / 60.0).min(capacity);
        *at = now;
        if *level < cost {
            let wait = ((cost - *level) * 60.0 / capacity).ceil();
            return Err(Problem::too_many(wait as u64));
        }
        *level -= cost;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(name: &str, text: &str) -> Token {
        Token {
            name: name.to_owned(),
            role: Role::Verdict,
            sha256: Sha256::digest(text.as_bytes()).into(),
            per_minute: Some(2),
        }
    }

    #[test]
    fn tokens_are_found_by_their_hash_alone() {
        let tokens = [token("a", "one"), token("b", "two")];
        assert_eq!(find(&tokens, "two").unwrap().name, "b");
        for wrong in [
            "",
            "tw",
            "two ",
            "Two",
            &watermark_core::hex(&tokens[1].sha256),
        ] {
            assert_eq!(find(&tokens, wrong), None);
        }
    }

    #[test]
    fn a_bucket_runs_dry_for_one_caller() {
        let tokens = [token("a", "one"), token("b", "two")];
        let [a, b] = ["one", "two"].map(|text| find(&tokens, text).unwrap());
        let rates = Rates::default();
        assert!(rates.take(&a, 600, 2).is_ok());
        assert_eq!(rates.take(&a, 600, 1).unwrap_err().status(), 429);
        assert!(rates.take(&b, 600, 1).is_ok());
        assert_eq!(rates.take(&b, 600, 3).unwrap_err().status(), 422);
    }

    #[test]
    fn hashes_are_64_digits() {
        assert_eq!(from_hex(&"0f".repeat(32)), Some([0x0f; 32]));
        for wrong in [
            "",
            "0f",
            &"0g".repeat(32),
            &"+f".repeat(32),
            &"é".repeat(32),
        ] {
            assert_eq!(from_hex(wrong), None);
        }
    }
}
