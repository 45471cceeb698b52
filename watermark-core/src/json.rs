//! What is said of JSON that could not be read: never a string that stands in it, which may be a key in the
//! wrong place.

/// Line, column, and the message without the place (which serde_json appends) and without strings.
pub(crate) fn place_and_message(error: &serde_json::Error) -> (usize, usize, String) {
    let message = error.to_string();
    let message = message
        .rsplit_once(" at line ")
        .map_or(message.as_str(), |(message, _)| message);
    (error.line(), error.column(), without_string(message))
}

/// The message with its place.
pub(crate) fn message(error: &serde_json::Error) -> String {
    let (line, column, message) = place_and_message(error);
    format!("line {line}, column {column}: {message}")
}

/// `invalid type: string "abc", expected u32` without the `"abc"`.
fn without_string(message: &str) -> String {
    let names_value =
        message.starts_with("invalid type: ") || message.starts_with("invalid value: ");
    match message.rsplit_once(", expected ") {
        Some((found, expected)) if names_value => {
            let kind = found.split('"').next().unwrap_or(found).trim_end();
            format!("{kind}, expected {expected}")
        }
        _ => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_left_out_and_places_kept() {
        let of = |json: &str| message(&serde_json::from_str::<Vec<u8>>(json).unwrap_err());
        let cases = [
            (
                "\"a, expected b\"",
                "line 1, column 15: invalid type: string, expected a sequence",
            ),
            (
                "[\n\"abc\"]",
                "line 2, column 5: invalid type: string, expected u8",
            ),
            (
                "[300]",
                "line 1, column 4: invalid value: integer `300`, expected u8",
            ),
            (
                "[1.5]",
                "line 1, column 4: invalid type: floating point `1.5`, expected u8",
            ),
            (
                "{}",
                "line 1, column 0: invalid type: map, expected a sequence",
            ),
            ("[1", "line 1, column 2: EOF while parsing a list"),
        ];
        for (json, wanted) in cases {
            assert_eq!(of(json), wanted);
        }
    }
}
