//! Keys of other engines: one integer or several, given in a file or derived from a slot key.
//!
//! The file has mode 0600 and holds one JSON object,
//!
//! ```json
//! {"schema": "watermark.engine-key/1", "function": "vllm", "key": "1234567890123456789"}
//! ```
//!
//! `key` is what the engine is configured with, an integer or a list of them: a decimal string, a string of
//! hexadecimal digits after `0x`, or a JSON integer. Numbers with a point or an exponent are refused: past 2^53
//! they are no longer the integer that was meant.
//!
//! | function | integers | range |
//! |---|---|---|
//! | `vllm` | the key | 0 .. 2^64 - 1 |
//! | `sglang` | key, and key B of a dual-key mark | 0 .. 2^64 - 1 |
//! | `hf-kgw` | `hashing_key` | 1 .. 2^63 - 1 |
//! | `hf-synthid`, `synthid-text` | `keys`, one a layer | -2^63 .. 2^63 - 1 |
//! | `three-bricks` | `seed`, `salt_key` | 0 .. 2^63 - 1 |
//! | `textseal` | `secret_key` | -2^63 .. 2^63 - 1 |

use core::fmt;
use std::borrow::Cow;

use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{KeyId, SlotKey, hmac_sha256};
use crate::profile::Function;

/// The value of an engine key's `schema` field.
pub const ENGINE_KEY_SCHEMA: &str = "watermark.engine-key/1";

/// The key of an engine's function. Debug shows its function only.
#[derive(ZeroizeOnDrop)]
pub struct EngineKey {
    #[zeroize(skip)]
    function: Function,
    /// In two's complement.
    integers: Vec<u64>,
}

impl fmt::Debug for EngineKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EngineKey({})", self.function)
    }
}

/// Why a text is not an engine key. No variant carries any part of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EngineKeyError {
    /// Not such an object.
    #[error(
        "line {line}, column {column}: this is not an engine key: a JSON object of `schema`, `function` and `key`, each once, and nothing else"
    )]
    Form {
        /// Line, from 1.
        line: usize,
        /// Column.
        column: usize,
    },
    /// Another schema.
    #[error("field `schema` is not `{ENGINE_KEY_SCHEMA}`, which is what this version reads")]
    Schema,
    /// Not a function with integers as keys.
    #[error(
        "field `function` names no engine's function; known are: {known}",
        known = Function::FOREIGN.map(Function::name).join(", ")
    )]
    Function,
    /// A float.
    #[error(
        "field `key`: a number with a point or an exponent, or beyond 64 bits; write the integer with all its digits, best as a string: \"1234567890123456789\""
    )]
    NotAnInteger,
    /// Text that is no integer.
    #[error(
        "field `key`: a string that is no integer; write decimal digits, or `0x` and hexadecimal digits"
    )]
    Digits,
    /// Neither an integer nor a list of them.
    #[error("field `key` is neither an integer nor a list of integers")]
    Kind,
    /// Too small or too large.
    #[error("field `key`, number {number}: outside {range}, which is what `{function}` takes")]
    Range {
        /// Which of the list, from 1.
        number: usize,
        /// What is taken.
        range: &'static str,
        /// The function.
        function: Function,
    },
    /// Too few or too many integers.
    #[error("field `key` holds {given} integers; `{function}` takes {wanted}")]
    Count {
        /// As given.
        given: usize,
        /// What is taken.
        wanted: &'static str,
        /// The function.
        function: Function,
    },
}

/// Integers as they are read, or what is wrong with them: an error of the parser would repeat them.
struct Integers(Result<Zeroizing<Vec<i128>>, EngineKeyError>);

impl<'de> Deserialize<'de> for Integers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        fn one(value: Result<i128, EngineKeyError>) -> Integers {
            Integers(value.map(|value| Zeroizing::new(vec![value])))
        }
        impl<'de> Visitor<'de> for Reader {
            type Value = Integers;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer or a list of integers")
            }
            fn visit_u64<E>(self, value: u64) -> Result<Integers, E> {
                Ok(one(Ok(value.into())))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Integers, E> {
                Ok(one(Ok(value.into())))
            }
            fn visit_f64<E>(self, _: f64) -> Result<Integers, E> {
                Ok(one(Err(EngineKeyError::NotAnInteger)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Integers, E> {
                let hexadecimal = text.strip_prefix("0x").or(text.strip_prefix("0X"));
                let digits = |digits: &str, radix| {
                    let plain = !digits.starts_with(['+', '-']);
                    plain.then(|| i128::from_str_radix(digits, radix).ok())?
                };
                let value = match (hexadecimal, text.strip_prefix('-')) {
                    (Some(text), _) => digits(text, 16),
                    (None, Some(text)) => digits(text, 10).map(|value| -value),
                    (None, None) => digits(text, 10),
                };
                Ok(one(value.ok_or(EngineKeyError::Digits)))
            }
            fn visit_bool<E>(self, _: bool) -> Result<Integers, E> {
                Ok(one(Err(EngineKeyError::Kind)))
            }
            fn visit_unit<E>(self) -> Result<Integers, E> {
                Ok(one(Err(EngineKeyError::Kind)))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Integers, A::Error> {
                let mut all = Ok(Zeroizing::new(Vec::with_capacity(256)));
                while let Some(Integers(next)) = list.next_element()? {
                    match (&mut all, next) {
                        (Ok(all), Ok(next)) => all.extend_from_slice(&next),
                        (Ok(_), Err(error)) => all = Err(error),
                        (Err(_), _) => {}
                    }
                }
                Ok(Integers(all))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File<'a> {
    #[serde(borrow)]
    schema: Cow<'a, str>,
    #[serde(borrow)]
    function: Cow<'a, str>,
    key: Integers,
}

impl EngineKey {
    /// A key from its integers, in the order of the table above.
    ///
    /// # Errors
    /// Their number or one of them does not fit the function.
    pub fn new(function: Function, integers: &[i128]) -> Result<Self, EngineKeyError> {
        let (least, most, range) = match function {
            Function::Wmk1 => return Err(EngineKeyError::Function),
            Function::Vllm | Function::Sglang => (0, u64::MAX.into(), "0 .. 2^64 - 1"),
            Function::HfKgw => (1, i64::MAX.into(), "1 .. 2^63 - 1"),
            Function::ThreeBricks => (0, i64::MAX.into(), "0 .. 2^63 - 1"),
            Function::HfSynthid | Function::SynthidText | Function::Textseal => {
                (i64::MIN.into(), i64::MAX.into(), "-2^63 .. 2^63 - 1")
            }
        };
        let (counts, wanted) = match function {
            Function::Sglang => (1..=2, "1, or 2 for a dual-key mark"),
            Function::ThreeBricks => (2..=2, "2, seed and salt_key"),
            Function::HfSynthid | Function::SynthidText => (1..=255, "1 to 255, one a layer"),
            _ => (1..=1, "1"),
        };
        if !counts.contains(&integers.len()) {
            return Err(EngineKeyError::Count {
                given: integers.len(),
                wanted,
                function,
            });
        }
        let bad = |&integer: &i128| !(least..=most).contains(&integer);
        if let Some(at) = integers.iter().position(bad) {
            return Err(EngineKeyError::Range {
                number: at + 1,
                range,
                function,
            });
        }
        Ok(Self {
            function,
            integers: integers.iter().map(|&integer| integer as u64).collect(),
        })
    }

    /// Parses the JSON form.
    ///
    /// # Errors
    /// It is none; no error repeats any part of it.
    pub fn from_json(json: &str) -> Result<Self, EngineKeyError> {
        let file: File<'_> = serde_json::from_str(json).map_err(|error| EngineKeyError::Form {
            line: error.line(),
            column: error.column(),
        })?;
        if file.schema != ENGINE_KEY_SCHEMA {
            return Err(EngineKeyError::Schema);
        }
        let function = Function::FOREIGN
            .into_iter()
            .find(|function| function.name() == file.function)
            .ok_or(EngineKeyError::Function)?;
        Self::new(function, &file.key.0?)
    }

    /// The JSON form, for a file of mode 0600. This is the secret itself.
    pub fn to_json(&self) -> Zeroizing<String> {
        let list: Vec<Zeroizing<String>> = self
            .decimals()
            .map(|digits| Zeroizing::new(format!("\"{}\"", *digits)))
            .collect();
        let mut key = Zeroizing::new(String::with_capacity(24 * list.len() + 2));
        for (at, digits) in list.iter().enumerate() {
            key.push_str(if at == 0 { "" } else { ", " });
            key.push_str(digits);
        }
        let (open, close) = if list.len() == 1 {
            ("", "")
        } else {
            ("[", "]")
        };
        Zeroizing::new(format!(
            "{{\"schema\": \"{ENGINE_KEY_SCHEMA}\", \"function\": \"{}\", \"key\": {open}{}{close}}}\n",
            self.function, *key
        ))
    }

    /// The key that stands for a slot in an engine's configuration: integer i is, of
    ///
    /// ```text
    /// H(slot_key, "wmk1/engine" || length of name u8 || name of the function || i u32)
    /// ```
    ///
    /// the first eight bytes, little-endian, without the highest bit where the function takes 63; 0 becomes 1. For
    /// `hf-synthid` an integer is passed over whose low 16 bits an earlier one has, and i counts on.
    /// So commitment, custody and decoys of slots hold for engines as well.
    ///
    /// # Errors
    /// The function has no integers as keys, or not so many.
    pub fn of_slot(
        function: Function,
        count: usize,
        slot: &SlotKey,
    ) -> Result<Self, EngineKeyError> {
        Self::drawn(function, count, |parts| slot.derive(parts))
    }

    /// The same of a key that nobody holds: decoy `index` for keys that come from no slot. It is derived as that of a
    /// slot whose key is `SHA256("wmk1/engine-decoy" || index u32)`; anyone can make it, nobody has written with
    /// it, and it is independent of a key that was drawn at random. (A key of a dozen digits that somebody thought of
    /// was not: then the decoys show that the test's law holds, and not how likely a key is.)
    ///
    /// # Errors
    /// As [`of_slot`](Self::of_slot).
    pub fn decoy(function: Function, count: usize, index: u32) -> Result<Self, EngineKeyError> {
        let digest: [u8; 32] = Sha256::new()
            .chain_update(b"wmk1/engine-decoy")
            .chain_update(index.to_le_bytes())
            .finalize()
            .into();
        Self::drawn(function, count, |parts| {
            Zeroizing::new(hmac_sha256(&digest, parts))
        })
    }

    fn drawn(
        function: Function,
        count: usize,
        bytes: impl Fn(&[&[u8]]) -> Zeroizing<[u8; 32]>,
    ) -> Result<Self, EngineKeyError> {
        let name = function.name().as_bytes();
        let whole = matches!(function, Function::Vllm | Function::Sglang);
        let mut integers = Zeroizing::new(Vec::with_capacity(count));
        for index in 0u32.. {
            if integers.len() >= count {
                break;
            }
            let drawn = bytes(&[
                b"wmk1/engine",
                &[name.len() as u8],
                name,
                &index.to_le_bytes(),
            ]);
            let mut first = Zeroizing::new([0; 8]);
            first.copy_from_slice(&drawn[..8]);
            let integer = u64::from_le_bytes(*first) & if whole { u64::MAX } else { u64::MAX >> 1 };
            // Two layers of 16 bits must not be one: of 30, that is so in one key of 150.
            let taken = |other: &i128| *other as u16 == integer as u16;
            if function != Function::HfSynthid || !integers.iter().any(taken) {
                integers.push(i128::from(integer.max(1)));
            }
        }
        Self::new(function, &integers)
    }

    /// Whose key it is.
    pub fn function(&self) -> Function {
        self.function
    }

    /// Number of integers.
    pub fn count(&self) -> usize {
        self.integers.len()
    }

    /// In two's complement.
    pub(crate) fn integers(&self) -> &[u64] {
        &self.integers
    }

    /// The integers in decimal digits.
    pub(crate) fn decimals(&self) -> impl ExactSizeIterator<Item = Zeroizing<String>> + '_ {
        let signed = !matches!(self.function, Function::Vllm | Function::Sglang);
        self.integers.iter().map(move |&integer| {
            Zeroizing::new(if signed {
                (integer as i64).to_string()
            } else {
                integer.to_string()
            })
        })
    }

    /// A public name of the key: that of the last of 65,536 HMACs in a chain, `x -> H(x, "wmk1/engine-key")`, from
    /// `SHA256("wmk1/engine-key" || length of name u8 || name || integers, u64 each)`. The chain makes guessing a
    /// small key from its name slow; from text under it the key can be guessed anyway.
    pub fn id(&self) -> KeyId {
        const CHAIN: usize = 1 << 16;
        let name = self.function.name().as_bytes();
        let mut digest = Sha256::new()
            .chain_update(b"wmk1/engine-key")
            .chain_update([name.len() as u8])
            .chain_update(name);
        for integer in &self.integers {
            digest.update(integer.to_le_bytes());
        }
        let mut state: [u8; 32] = digest.finalize().into();
        for _ in 0..CHAIN {
            state = hmac_sha256(&state, &[b"wmk1/engine-key"]);
        }
        let id = KeyId::of(&state);
        state.zeroize();
        id
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for EngineKey {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "EngineKey".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let functions = Function::FOREIGN.map(Function::name);
        let integer = serde_json::json!({
            "anyOf": [
                {"type": "integer"},
                {"type": "string", "pattern": "^(-?[0-9]+|0x[0-9a-fA-F]+)$"},
            ],
        });
        schemars::json_schema!({
            "description": "Another engine's key, in a file of mode 0600. This is the secret itself.",
            "type": "object",
            "properties": {
                "schema": {"type": "string", "const": ENGINE_KEY_SCHEMA},
                "function": {"description": "Whose key it is.", "enum": functions},
                "key": {
                    "description": "One integer or several, as SPEC.md says for each function.",
                    "anyOf": [integer, {"type": "array", "items": integer}],
                },
            },
            "required": ["schema", "function", "key"],
            "additionalProperties": false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(function: &str, key: &str) -> Result<Vec<u64>, EngineKeyError> {
        let json =
            format!(r#"{{"schema":"watermark.engine-key/1","function":"{function}","key":{key}}}"#);
        EngineKey::from_json(&json).map(|key| key.integers.clone())
    }

    #[test]
    fn integers_are_read_to_the_last_digit() {
        let large = 1_234_567_890_123_456_789;
        assert_eq!(read("vllm", r#""1234567890123456789""#), Ok(vec![large]));
        assert_eq!(read("vllm", "1234567890123456789"), Ok(vec![large]));
        assert_eq!(read("vllm", "18446744073709551615"), Ok(vec![u64::MAX]));
        assert_eq!(read("sglang", r#"["0xff", 2]"#), Ok(vec![255, 2]));
        assert_eq!(
            read("hf-synthid", r#"[1, "-2"]"#),
            Ok(vec![1, u64::MAX - 1])
        );
    }

    #[test]
    fn what_is_no_integer_is_refused_and_never_shown() {
        use EngineKeyError as E;
        for (function, key, error) in [
            ("vllm", "1e18", E::NotAnInteger),
            ("vllm", "1.5", E::NotAnInteger),
            ("vllm", "9007199254740993.0", E::NotAnInteger),
            ("vllm", "18446744073709551616", E::NotAnInteger),
            ("hf-synthid", "[1, 1e3]", E::NotAnInteger),
            ("vllm", r#""1e18""#, E::Digits),
            ("vllm", r#""""#, E::Digits),
            ("vllm", r#""+5""#, E::Digits),
            ("vllm", r#""0x-5""#, E::Digits),
            ("vllm", "true", E::Kind),
            ("vllm", "null", E::Kind),
            ("other", "7777777", E::Function),
            ("wmk1", "7777777", E::Function),
        ] {
            assert_eq!(read(function, key), Err(error), "{function} {key}");
        }
        for (function, key) in [
            ("vllm", "-7777777"),
            ("vllm", "[7777777, 7777778]"),
            ("sglang", r#""18446744073709551616""#),
            ("hf-kgw", "0"),
            ("hf-kgw", r#""0xffffffff77777777""#),
            ("three-bricks", "7777777"),
            ("hf-synthid", "[]"),
            ("vllm", r#"{"7777777": 1}"#),
        ] {
            let error = read(function, key).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("7777777"), "{error}");
        }
        for json in [
            "7777777",
            "{}",
            r#"{"schema":"watermark.engine-key/1","function":"vllm"}"#,
            r#"{"schema":"watermark.engine-key/1","function":"vllm","key":7777777,"7777777":1}"#,
            r#"{"schema":"watermark.engine-key/1","function":"vllm","key":7777777"#,
        ] {
            let error = EngineKey::from_json(json).unwrap_err();
            assert!(matches!(error, E::Form { .. }), "{json}: {error:?}");
            assert!(!error.to_string().contains("7777777"), "{error}");
        }
        let json = r#"{"schema":"watermark.engine-key/2","function":"vllm","key":1}"#;
        assert_eq!(EngineKey::from_json(json).unwrap_err(), E::Schema);
    }

    /// Of 600 keys of 30 layers some four would have two layers in one, by chance.
    #[test]
    fn layers_are_never_one() {
        for index in 0..600 {
            let key = EngineKey::decoy(Function::HfSynthid, 30, index).unwrap();
            let mut low: Vec<u16> = key.integers.iter().map(|&key| key as u16).collect();
            low.sort_unstable();
            low.dedup();
            assert_eq!(low.len(), 30);
        }
    }

    #[test]
    fn a_key_survives_a_round_trip_and_debug_shows_none_of_it() {
        for function in Function::FOREIGN {
            let count = match function {
                Function::ThreeBricks | Function::Sglang => 2,
                Function::HfSynthid => 30,
                _ => 1,
            };
            let key = EngineKey::decoy(function, count, 5).unwrap();
            let read = EngineKey::from_json(&key.to_json()).unwrap();
            assert_eq!(read.integers, key.integers);
            assert_eq!(format!("{key:?}"), format!("EngineKey({function})"));
            let other = EngineKey::decoy(function, count, 6).unwrap();
            assert_ne!(other.integers, key.integers);
        }
        let key = EngineKey::decoy(Function::Vllm, 1, 5).unwrap();
        assert_ne!(
            key.id(),
            EngineKey::decoy(Function::Vllm, 1, 6).unwrap().id()
        );
    }
}
