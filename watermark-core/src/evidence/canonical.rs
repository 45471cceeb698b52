//! One way to write a value: canonical JSON, RFC 8785 (JCS).
//!
//! Keys are sorted, white space is absent, and a number is written as ECMAScript prints the binary64
//! number that it denotes: `3.0` becomes `3`, `1e-5` becomes `0.00001`.

use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The canonical form of plain data: values whose maps have strings as keys and whose numbers are finite.
///
/// # Panics
/// The value is not plain data. No type of this crate that is written in this way is any other.
pub fn canonical(value: &impl Serialize) -> Vec<u8> {
    // By way of text: a binary32 number then has the digits of its shortest form, as a reader of the
    // printed file sees it.
    let text = serde_json::to_string(value).expect("plain data");
    let value: Value = serde_json::from_str(&text).expect("what was just written");
    serde_json_canonicalizer::to_vec(&value).expect("plain data")
}

/// SHA-256 of the [canonical] form.
pub fn digest(value: &impl Serialize) -> [u8; 32] {
    Sha256::digest(canonical(value)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &impl Serialize) -> String {
        String::from_utf8(canonical(value)).unwrap()
    }

    #[test]
    fn keys_numbers_and_strings() {
        let value: Value = serde_json::from_str(
            r#"{ "b": [3.0, 1e-5, 1e-7, 1E21, -0.0, 9007199254740991], "a": "\u20ac\u000f\"/", "A": null }"#,
        )
        .unwrap();
        let wanted = r#"{"A":null,"a":"€\u000f\"/","b":[3,0.00001,1e-7,1e+21,0,9007199254740991]}"#;
        assert_eq!(text(&value), wanted);
    }

    #[test]
    fn a_small_float_has_its_short_form_and_survives_reading() {
        #[derive(Serialize)]
        struct Small {
            delta: f32,
        }
        let once = text(&Small { delta: 0.1 });
        assert_eq!(once, r#"{"delta":0.1}"#);
        let read: Value = serde_json::from_str(&once).unwrap();
        assert_eq!(text(&read), once);
    }
}
