//! The keyed function "wmk1" in a straight line, from SPEC.md alone: no caching, no library
//! code, nothing but one-shot SHA-256. The library must equal it.

#![allow(dead_code, reason = "each test binary uses a part")]

pub(crate) mod weights;

use serde_json::Value;
use sha2::{Digest, Sha256};

pub(crate) fn sha256(message: &[u8]) -> [u8; 32] {
    Sha256::digest(message).into()
}

/// RFC 2104 for keys of at most 64 bytes, which is all that wmk1 has.
pub(crate) fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let padded = |pad: u8| -> Vec<u8> {
        (0..64)
            .map(|i| key.get(i).copied().unwrap_or(0) ^ pad)
            .collect()
    };
    let inner = sha256(&[padded(0x36), message.to_vec()].concat());
    sha256(&[padded(0x5c), inner.to_vec()].concat())
}

/// RFC 5869 for 32 bytes of output.
pub(crate) fn hkdf(salt: &[u8], ikm: &[u8], info: &[u8]) -> [u8; 32] {
    let extracted = hmac(salt, ikm);
    hmac(&extracted, &[info, &[1]].concat())
}

/// SPEC.md section 1.
pub(crate) fn slot_key(master: &[u8; 32], epoch: &str, index: u32) -> [u8; 32] {
    hkdf(
        b"wmk/v1",
        master,
        format!("slot|{epoch}|{index}").as_bytes(),
    )
}

/// SPEC.md section 1.
pub(crate) fn key_id(key: &[u8; 32]) -> [u8; 8] {
    let name = [&b"wmk-keyid/v1\0"[..], &hmac(key, b"id")].concat();
    sha256(&name)[..8].try_into().unwrap()
}

/// One block of ChaCha: 64-bit counter in words 12 and 13, lane in 14, plane in 15.
pub(crate) fn chacha(
    seed: &[u8; 32],
    counter: u64,
    lane: u32,
    plane: u32,
    rounds: u32,
) -> [u32; 16] {
    let mut start = [0u32; 16];
    start[..4].copy_from_slice(&[0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574]);
    for i in 0..8 {
        start[4 + i] = u32::from_le_bytes(seed[4 * i..4 * i + 4].try_into().unwrap());
    }
    start[12..].copy_from_slice(&[counter as u32, (counter >> 32) as u32, lane, plane]);
    let mut x = start;
    let mut quarter = |a: usize, b: usize, c: usize, d: usize| {
        x[a] = x[a].wrapping_add(x[b]);
        x[d] = (x[d] ^ x[a]).rotate_left(16);
        x[c] = x[c].wrapping_add(x[d]);
        x[b] = (x[b] ^ x[c]).rotate_left(12);
        x[a] = x[a].wrapping_add(x[b]);
        x[d] = (x[d] ^ x[a]).rotate_left(8);
        x[c] = x[c].wrapping_add(x[d]);
        x[b] = (x[b] ^ x[c]).rotate_left(7);
    };
    for _ in 0..rounds / 2 {
        quarter(0, 4, 8, 12);
        quarter(1, 5, 9, 13);
        quarter(2, 6, 10, 14);
        quarter(3, 7, 11, 15);
        quarter(0, 5, 10, 15);
        quarter(1, 6, 11, 12);
        quarter(2, 7, 8, 13);
        quarter(3, 4, 9, 14);
    }
    for i in 0..16 {
        x[i] = x[i].wrapping_add(start[i]);
    }
    x
}

/// SPEC.md section 6: `-ln((r + 1) / 2^32)` in Q24.
pub(crate) fn neg_ln_q24(r: u32) -> u64 {
    let x = u128::from(r) + 1;
    let mut whole = 0;
    while x >> (whole + 1) != 0 {
        whole += 1;
    }
    let mut mantissa = x << (63 - whole);
    let mut log2 = whole as u128;
    for _ in 0..28 {
        mantissa = (mantissa * mantissa) >> 63;
        log2 *= 2;
        if mantissa >= 1 << 64 {
            mantissa >>= 1;
            log2 += 1;
        }
    }
    let all = 32u128 << 28;
    let difference = if log2 + 2 > all { 0 } else { all - log2 - 2 };
    ((difference * 744_261_117) >> 34) as u64
}

/// SPEC.md section 4: the nearest share, as (T, bits).
pub(crate) fn green_share(gamma: f64) -> (u32, u32) {
    for bits in [1, 2, 4, 8] {
        let t = gamma * f64::from(1 << bits);
        if t == t.floor() {
            return (t as u32, bits);
        }
    }
    ((gamma * 65536.0).round() as u32, 16)
}

/// A mark: a profile's parameters, a slot key, an account.
#[derive(Debug)]
pub(crate) struct Plain {
    pub(crate) scheme: u8,
    pub(crate) context_width: u8,
    pub(crate) leak: bool,
    pub(crate) account: u32,
    pub(crate) rounds: u8,
    pub(crate) bits: u32,
    pub(crate) parameter: u32,
    key: [u8; 32],
}

impl Plain {
    /// From the JSON form of a profile.
    pub(crate) fn new(profile: &Value, slot_key: &[u8; 32], account: u32) -> Self {
        let spec = &profile["scheme"];
        let number = |field: &str| spec[field].as_u64().unwrap() as u32;
        let (scheme, bits, parameter) = match spec["type"].as_str().unwrap() {
            kind @ ("greenlist" | "greenlist-selfhash") => {
                let (t, bits) = green_share(spec["gamma"].as_f64().unwrap());
                (if kind == "greenlist" { 1 } else { 5 }, bits, t)
            }
            "gumbel" => (2, 32, 0),
            "gumbel-dual" => (3, 32, 0),
            "tournament" => {
                let leaves = spec["leaves"].as_u64().unwrap_or(2) as u32;
                (4, 32, number("depth") + (leaves << 16))
            }
            other => panic!("no scheme {other}"),
        };
        let mut plain = Self {
            scheme,
            context_width: number("context_width") as u8,
            leak: profile["slot"].as_str() == Some("leak"),
            account,
            rounds: profile["rounds"].as_u64().unwrap_or(8) as u8,
            bits,
            parameter,
            key: [0; 32],
        };
        plain.key = hmac(slot_key, &plain.scheme_key_message());
        plain
    }

    /// SPEC.md section 2: what is bound into the scheme key.
    pub(crate) fn scheme_key_message(&self) -> Vec<u8> {
        let (kind, tile) = if self.leak { (1, 16) } else { (0, 1) };
        let mut message = b"wmk1/scheme".to_vec();
        message.extend([kind, self.scheme, self.context_width, tile]);
        message.extend([self.bits as u8, self.rounds]);
        message.extend(self.parameter.to_le_bytes());
        message
    }

    pub(crate) fn row_seed(&self, role: u8, tokens: &[u32]) -> [u8; 32] {
        let mut message = b"wmk1/ctx".to_vec();
        message.push(role);
        message.push(tokens.len() as u8);
        for token in tokens {
            message.extend(token.to_le_bytes());
        }
        hmac(&self.key, &message)
    }

    /// All seeds of a window, in the order of SPEC.md section 3.
    pub(crate) fn row(&self, window: &[u32]) -> Vec<[u8; 32]> {
        match self.scheme {
            3 => vec![self.row_seed(0, window), self.row_seed(1, window)],
            5 => {
                let mut tokens = window.to_vec();
                tokens.sort();
                tokens.dedup();
                tokens
                    .iter()
                    .map(|&token| self.row_seed(2, &[token]))
                    .collect()
            }
            _ => vec![self.row_seed(0, window)],
        }
    }

    /// SPEC.md section 4: the field of a token.
    pub(crate) fn field(
        &self,
        seed: &[u8; 32],
        lane: u32,
        plane: u32,
        bits: u32,
        token: u32,
    ) -> u32 {
        let at = u64::from(token) * u64::from(bits);
        let (word, shift) = (at / 32, at % 32);
        let account = u64::from(self.account);
        let (lo, hi, index) = if self.leak {
            (word, account / 16, account % 16)
        } else {
            (word / 16, account, word % 16)
        };
        let block = chacha(seed, (hi << 32) + lo, lane, plane, u32::from(self.rounds));
        ((u64::from(block[index as usize]) >> shift) % (1 << bits)) as u32
    }

    /// The seed that decides about a token: the anchor's for self-hash, else the first.
    pub(crate) fn deciding(&self, window: &[u32], token: u32) -> [u8; 32] {
        let row = self.row(window);
        let mut best = row[0];
        if self.scheme == 5 {
            for seed in row {
                if self.field(&seed, 3, 0, 32, token) < self.field(&best, 3, 0, 32, token) {
                    best = seed;
                }
            }
        }
        best
    }

    pub(crate) fn is_green(&self, window: &[u32], token: u32) -> bool {
        let seed = self.deciding(window, token);
        self.field(&seed, 0, 0, self.bits, token) < self.parameter
    }

    /// The whole words that a score is made of: one for each seed of a Gumbel row, one for each
    /// 32 layers of a tournament; for a green list the single field.
    pub(crate) fn words(&self, window: &[u32], token: u32) -> Vec<u32> {
        match self.scheme {
            2 | 3 => self
                .row(window)
                .iter()
                .map(|seed| self.field(seed, 1, 0, 32, token))
                .collect(),
            4 => {
                let seed = self.row(window)[0];
                let planes = (self.parameter & 0xffff).div_ceil(32);
                (0..planes)
                    .map(|plane| self.field(&seed, 2, plane, 32, token))
                    .collect()
            }
            _ => {
                let seed = self.deciding(window, token);
                vec![self.field(&seed, 0, 0, self.bits, token)]
            }
        }
    }

    pub(crate) fn score(&self, window: &[u32], token: u32) -> u64 {
        let words = self.words(window, token);
        match self.scheme {
            2 | 3 => words.into_iter().map(neg_ln_q24).sum(),
            4 => {
                let mut ones = 0;
                for layer in 0..self.parameter & 0xffff {
                    ones += u64::from(words[layer as usize / 32] >> (layer % 32) & 1);
                }
                ones
            }
            _ => u64::from(words[0] < self.parameter),
        }
    }

    pub(crate) fn mask(&self, window: &[u32], words: usize) -> Vec<u32> {
        let mut mask = vec![0; words];
        for token in 0..words as u32 * 32 {
            if self.is_green(window, token) {
                mask[token as usize / 32] |= 1 << (token % 32);
            }
        }
        mask
    }
}

/// SPEC.md section 8, cells in ascending order.
pub(crate) fn cells_digest(context_width: u8, cells: &[Vec<u32>]) -> [u8; 32] {
    let mut cells = cells.to_vec();
    cells.sort();
    let mut message = b"wmk1/cells".to_vec();
    message.push(context_width);
    message.extend((cells.len() as u64).to_le_bytes());
    for token in cells.concat() {
        message.extend(token.to_le_bytes());
    }
    sha256(&message)
}

/// SPEC.md section 8.
pub(crate) fn texts_digest(texts: &[&[u32]], starts: &[usize]) -> [u8; 32] {
    let mut message = b"wmk1/texts".to_vec();
    message.extend((texts.len() as u64).to_le_bytes());
    for (text, &start) in texts.iter().zip(starts) {
        message.extend((start as u64).to_le_bytes());
        message.extend((text.len() as u64).to_le_bytes());
        for id in *text {
            message.extend(id.to_le_bytes());
        }
    }
    sha256(&message)
}

/// SPEC.md section 8.
pub(crate) fn vocabulary_digest(names: &[Option<&str>]) -> [u8; 32] {
    let mut message = b"wmk1/vocabulary".to_vec();
    message.extend((names.len() as u32).to_le_bytes());
    for name in names {
        match name {
            Some(name) => {
                message.extend((name.len() as u32).to_le_bytes());
                message.extend(name.as_bytes());
            }
            None => message.extend(u32::MAX.to_le_bytes()),
        }
    }
    sha256(&message)
}

/// BIP 350 in lower case, any length; `constant` is that of the checksum.
pub(crate) fn bech32(prefix: &str, payload: &[u8], padding: u8, constant: u32) -> String {
    let bits: Vec<u8> = payload
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |i| byte >> i & 1))
        .collect();
    let mut data: Vec<u8> = bits
        .chunks(5)
        .map(|five| {
            let value = five.iter().fold(0, |value, bit| value << 1 | bit);
            let free = 5 - five.len();
            value << free | padding & ((1 << free) - 1)
        })
        .collect();
    let mut checked: Vec<u8> = prefix.bytes().map(|c| c >> 5).collect();
    checked.push(0);
    checked.extend(prefix.bytes().map(|c| c & 31));
    checked.extend(&data);
    checked.extend([0; 6]);
    let mut state = 1u32;
    for value in checked {
        let top = state >> 25;
        state = (state & 0x01ff_ffff) << 5 ^ u32::from(value);
        let generators = [
            0x3b6a_57b2,
            0x2650_8e6d,
            0x1ea1_19fa,
            0x3d42_33dd,
            0x2a14_62b3,
        ];
        for (i, generator) in generators.iter().enumerate() {
            if top >> i & 1 == 1 {
                state ^= generator;
            }
        }
    }
    let checksum = state ^ constant;
    data.extend((0..6).map(|i| (checksum >> (5 * (5 - i)) & 31) as u8));
    let letters = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
    let tail: String = data
        .iter()
        .map(|&v| char::from(letters[usize::from(v)]))
        .collect();
    format!("{prefix}1{tail}")
}

pub(crate) const BECH32M: u32 = 0x2bc8_30a3;
pub(crate) const BECH32: u32 = 1;

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2)
        .map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap())
        .collect()
}
