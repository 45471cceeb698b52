//! From a token as a server prints it back to its id.

use std::collections::HashMap;

use watermark_core::text::Tokenizer;

/// The ids of a vocabulary by the bytes that they stand for.
///
/// Three notations of names are known: byte-level BPE (every byte is a printable character, a
/// space is `Ġ`), SentencePiece (a space is `▁`, single bytes are `<0x0A>`), and names that are
/// the text itself. Special tokens are their own names in all three.
pub(super) struct Vocabulary {
    /// `None` where two ids stand for the same bytes: neither is meant for sure.
    ids: HashMap<Vec<u8>, Option<u32>>,
    size: usize,
}

impl Vocabulary {
    pub(super) fn new(tokenizer: &dyn Tokenizer) -> Self {
        let size = tokenizer.vocab_size();
        let names: Vec<Option<String>> = (0..size as u32).map(|id| tokenizer.token(id)).collect();
        let any = |test: &dyn Fn(&str) -> bool| names.iter().flatten().any(|name| test(name));
        let notation = if any(&|name| name == "Ġ") && any(&|name| name == "Ċ") {
            Notation::ByteLevel
        } else if any(&|name| name.starts_with('▁')) {
            Notation::SentencePiece
        } else {
            Notation::Plain
        };
        let mut ids = HashMap::with_capacity(size);
        // Single bytes of SentencePiece stand in where no piece has the byte.
        let mut fallback = Vec::new();
        for (id, name) in names.iter().enumerate() {
            let Some(name) = name else { continue };
            let id = id as u32;
            match notation.bytes(name) {
                Bytes::Piece(bytes) => {
                    ids.entry(bytes)
                        .and_modify(|known| *known = None)
                        .or_insert(Some(id));
                }
                Bytes::Fallback(byte) => fallback.push((vec![byte], id)),
            }
        }
        for (bytes, id) in fallback {
            ids.entry(bytes).or_insert(Some(id));
        }
        Self { ids, size }
    }

    /// The id of a printed token: `token_id:123` (vLLM with `return_tokens_as_token_ids`), the
    /// token's bytes where the server gave them, `bytes:\xe2\x80` (OpenAI's completions), or the
    /// text itself. `None` for what no id, or more than one, stands for. U+FFFD in a text is what
    /// a server prints for bytes that are no text, and tells nothing.
    pub(super) fn id(&self, token: &str, bytes: Option<&[u8]>) -> Option<u32> {
        if let Some(id) = token.strip_prefix("token_id:") {
            return id
                .parse()
                .ok()
                .filter(|&id: &u32| (id as usize) < self.size);
        }
        let lost = |bytes: &[u8]| {
            std::str::from_utf8(bytes).is_ok_and(|text| text.contains(char::REPLACEMENT_CHARACTER))
        };
        let printed = match bytes {
            Some(bytes) => bytes.to_vec(),
            None => match token.strip_prefix("bytes:") {
                Some(escaped) => unescape(escaped)?,
                None => token.as_bytes().to_vec(),
            },
        };
        if lost(&printed) {
            return None;
        }
        self.ids.get(&printed).copied().flatten()
    }
}

#[derive(Clone, Copy)]
enum Notation {
    ByteLevel,
    SentencePiece,
    Plain,
}

enum Bytes {
    Piece(Vec<u8>),
    Fallback(u8),
}

impl Notation {
    fn bytes(self, name: &str) -> Bytes {
        Bytes::Piece(match self {
            Self::ByteLevel => {
                let bytes: Option<Vec<u8>> = name.chars().map(byte_of).collect();
                bytes.unwrap_or_else(|| name.as_bytes().to_vec())
            }
            Self::SentencePiece => {
                let hex = name
                    .strip_prefix("<0x")
                    .and_then(|rest| rest.strip_suffix('>'));
                if let Some(byte) = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
                    return Bytes::Fallback(byte);
                }
                name.replace('▁', " ").into_bytes()
            }
            Self::Plain => name.as_bytes().to_vec(),
        })
    }
}

/// The byte that a character of byte-level BPE stands for: printable bytes stand for themselves,
/// the others, in ascending order, are U+0100 and on.
fn byte_of(character: char) -> Option<u8> {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let code = u32::from(character);
    match u8::try_from(code) {
        Ok(byte) => printable(byte).then_some(byte),
        Err(_) => (0..=u8::MAX)
            .filter(|&byte| !printable(byte))
            .nth(code as usize - 0x100),
    }
}

/// `\xe2\x80` and text between, as OpenAI's completions print bytes that are no text.
fn unescape(escaped: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = escaped;
    while !rest.is_empty() {
        if let Some(hex) = rest.strip_prefix("\\x") {
            bytes.push(u8::from_str_radix(hex.get(..2)?, 16).ok()?);
            rest = &hex[2..];
        } else {
            let next = rest.chars().next()?;
            bytes.extend_from_slice(next.encode_utf8(&mut [0; 4]).as_bytes());
            rest = &rest[next.len_utf8()..];
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Names(Vec<&'static str>);

    impl Tokenizer for Names {
        fn encode(&self, _: &str) -> Vec<u32> {
            Vec::new()
        }
        fn decode(&self, _: &[u32]) -> String {
            String::new()
        }
        fn vocab_size(&self) -> usize {
            self.0.len()
        }
        fn token(&self, id: u32) -> Option<String> {
            self.0.get(id as usize).map(|&name| name.to_owned())
        }
    }

    #[test]
    fn byte_level_names() {
        let names = ["<|end|>", "Ġ", "Ċ", "Ġthe", "the", "âĢ", "Â"];
        let vocabulary = Vocabulary::new(&Names(names.to_vec()));
        for (token, id) in [
            ("<|end|>", Some(0)),
            (" ", Some(1)),
            ("\n", Some(2)),
            (" the", Some(3)),
            ("the", Some(4)),
            ("Ġthe", None),
            ("token_id:5", Some(5)),
            ("token_id:7", None),
            ("bytes:\\xe2\\x80", Some(5)),
            ("bytes:\\xe", None),
            ("\u{fffd}", None),
        ] {
            assert_eq!(vocabulary.id(token, None), id, "{token}");
        }
        // OpenAI gives the bytes of half a character beside an escaped text.
        assert_eq!(vocabulary.id("\\xe2\\x80", Some(&[0xe2, 0x80])), Some(5));
        // vLLM gives the bytes of U+FFFD instead.
        let replaced = "\u{fffd}".as_bytes();
        assert_eq!(vocabulary.id("\u{fffd}", Some(replaced)), None);
        assert_eq!(vocabulary.id("x", Some(&[0xc2])), Some(6));
    }

    #[test]
    fn sentence_piece_names() {
        let names = ["</s>", "<0x0A>", "<0x61>", "▁the", "a", "▁"];
        let vocabulary = Vocabulary::new(&Names(names.to_vec()));
        let ids = ["</s>", "\n", "a", " the", " "].map(|token| vocabulary.id(token, None));
        assert_eq!(ids, [Some(0), Some(1), Some(4), Some(3), Some(5)]);
    }

    #[test]
    fn what_two_ids_stand_for_is_not_guessed() {
        let vocabulary = Vocabulary::new(&Names(vec!["▁a", " a", "b"]));
        assert_eq!(vocabulary.id(" a", None), None);
        assert_eq!(vocabulary.id("b", None), Some(2));
    }

    #[test]
    fn every_byte_has_its_character() {
        let tokenizer = watermark_core::text::HfTokenizer::from_bytes(
            watermark_corpora::tokenizer_json(),
            "embedded",
        )
        .unwrap();
        let vocabulary = Vocabulary::new(&tokenizer);
        let found = (0..=u8::MAX).filter(|&byte| vocabulary.id("", Some(&[byte])).is_some());
        assert_eq!(found.count(), 256);
        // Token by token, the bytes of the names are the text.
        let text = "The state of the union, naïve ☃ text.\n";
        for id in tokenizer.encode(text) {
            let printed = tokenizer.decode(&[id]);
            if !printed.contains(char::REPLACEMENT_CHARACTER) {
                assert_eq!(vocabulary.id(&printed, None), Some(id), "{printed:?}");
            }
        }
    }
}
