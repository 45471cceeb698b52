//! Where in a JSON text something stands: errors of a parser give a line, readers want the field.

/// The path of the value at a line and column, both from 1, such as `report.findings[2].test.sum`; empty at
/// the top. The text up to there is well-formed JSON.
pub(super) fn field_at(text: &str, line: usize, column: usize) -> String {
    let offset: usize = text
        .split_inclusive('\n')
        .take(line.saturating_sub(1))
        .map(str::len)
        .sum::<usize>()
        + column.saturating_sub(1);
    let bytes = &text.as_bytes()[..offset.min(text.len())];
    // Open arrays and objects: the index or the key of what is being read.
    let mut open: Vec<Step> = Vec::new();
    let mut at = 0;
    let mut last_string = String::new();
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                let start = at + 1;
                at = start;
                while at < bytes.len() && bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                let end = at.min(bytes.len());
                last_string = String::from_utf8_lossy(&bytes[start.min(end)..end]).into_owned();
            }
            b':' => {
                if let Some(Step::Key(key)) = open.last_mut() {
                    *key = std::mem::take(&mut last_string);
                }
            }
            b'{' => open.push(Step::Key(String::new())),
            b'[' => open.push(Step::Index(0)),
            // What closes at the very place is what the error is about.
            b'}' | b']' if at + 1 < bytes.len() => {
                open.pop();
            }
            b',' => {
                if let Some(Step::Index(index)) = open.last_mut() {
                    *index += 1;
                }
            }
            _ => {}
        }
        at += 1;
    }
    let mut path = String::new();
    for step in &open {
        match step {
            Step::Key(key) if key.is_empty() => {}
            Step::Key(key) if path.is_empty() => path.push_str(key),
            Step::Key(key) => path += &format!(".{key}"),
            Step::Index(index) => path += &format!("[{index}]"),
        }
    }
    path
}

enum Step {
    Key(String),
    Index(usize),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_of_a_parsers_error() {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        #[allow(dead_code)]
        struct Inner {
            number: u32,
            text: Option<String>,
        }
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        #[allow(dead_code)]
        struct Outer {
            list: Vec<Inner>,
        }
        for (json, path) in [
            (
                "{\"list\": [\n {\"number\": 1},\n {\"number\": -2}]}",
                "list[1].number",
            ),
            ("{\"list\": [{\"number\": \"a, {b\"}]}", "list[0].number"),
            ("{\"list\": [{\"number\": 1, \"text\": 3}]}", "list[0].text"),
            ("{\"list\": 7}", "list"),
        ] {
            let error = serde_json::from_str::<Outer>(json).err().unwrap();
            assert_eq!(
                field_at(json, error.line(), error.column()),
                path,
                "{error}"
            );
        }
        for text in ["", "{", "\"\\", "[[,,", "}}]"] {
            field_at(text, 9, 9);
        }
    }
}
