//! READ: text to token ids, and the digest that says which ids they are.

use sha2::{Digest, Sha256};

/// Text to token ids and back, under one fixed vocabulary.
pub trait Tokenizer: Send + Sync {
    /// Token ids of `text`, without special tokens added.
    fn encode(&self, text: &str) -> Vec<u32>;
    /// Text of `tokens`; bytes that are no valid UTF-8 become U+FFFD.
    fn decode(&self, tokens: &[u32]) -> String;
    /// Number of ids: every id is below it. One more than the highest id, added tokens included; some may have no name.
    /// A model may have more logits than this.
    fn vocab_size(&self) -> usize;
    /// The name of an id in the vocabulary's own notation.
    fn token(&self, id: u32) -> Option<String>;

    /// SHA-256 over `"wmk1/vocabulary" || size u32 LE`, then for every id
    /// `length u32 LE || name`, with length 2^32 - 1 and nothing else where an id has no name.
    fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        digest.update(b"wmk1/vocabulary");
        digest.update((self.vocab_size() as u32).to_le_bytes());
        for id in 0..self.vocab_size() as u32 {
            match self.token(id) {
                Some(name) => {
                    digest.update((name.len() as u32).to_le_bytes());
                    digest.update(name.as_bytes());
                }
                None => digest.update(u32::MAX.to_le_bytes()),
            }
        }
        digest.finalize().into()
    }
}

/// The text of each token, such that all together are the text of `tokens`.
///
/// A character that several tokens make up belongs to the last of them; the others have the empty
/// string. Tokens are decoded with those before them, since a token's text can depend on what it
/// follows (a space that a vocabulary shows at the start of words).
pub fn pieces(tokenizer: &dyn Tokenizer, tokens: &[u32]) -> Vec<String> {
    let mut pieces = vec![String::new(); tokens.len()];
    // What is told already: tokens before `told`, decoded from `from` on.
    let (mut from, mut told) = (0, 0);
    let mut known = String::new();
    for end in 1..=tokens.len() {
        let text = tokenizer.decode(&tokens[from..end]);
        let open = text.ends_with(char::REPLACEMENT_CHARACTER) && end < tokens.len();
        // No character takes more tokens than it has bytes: longer, and these bytes are no text.
        if open && end - told < 4 {
            continue;
        }
        let fresh = text.strip_prefix(known.as_str()).unwrap_or_default();
        pieces[end - 1] = fresh.to_owned();
        known = tokenizer.decode(&tokens[told..end]);
        (from, told) = (told, end);
    }
    pieces
}

/// A toy for tests and examples: one id a byte.
#[derive(Clone, Copy, Debug, Default)]
pub struct ByteTokenizer;

impl Tokenizer for ByteTokenizer {
    fn encode(&self, text: &str) -> Vec<u32> {
        text.bytes().map(u32::from).collect()
    }

    fn decode(&self, tokens: &[u32]) -> String {
        let bytes: Vec<u8> = tokens.iter().map(|&id| id as u8).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn vocab_size(&self) -> usize {
        256
    }

    fn token(&self, id: u32) -> Option<String> {
        (id < 256).then(|| format!("{id:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_the_text() {
        let text = "plain, naïve, 東京 and 🦀.";
        let tokens = ByteTokenizer.encode(text);
        let pieces = pieces(&ByteTokenizer, &tokens);
        assert_eq!(pieces.len(), tokens.len());
        assert_eq!(pieces.concat(), text);
        let crab = text.find('🦀').unwrap();
        assert_eq!(pieces[crab..crab + 4], ["", "", "", "🦀"]);
    }

    #[test]
    fn bytes_that_are_no_text_end_somewhere() {
        let tokens = [0xff, 0xff, 0xff, 0xff, 0xff, 97, 0xf0, 0x9f];
        let pieces = pieces(&ByteTokenizer, &tokens);
        assert!(pieces.concat().contains('a'));
        assert!(pieces.concat().ends_with(char::REPLACEMENT_CHARACTER));
        assert!(super::pieces(&ByteTokenizer, &[]).is_empty());
    }
}

#[cfg(feature = "hf-tokenizers")]
pub use hf::{HfTokenizer, TokenizerError};

#[cfg(feature = "hf-tokenizers")]
mod hf {
    use std::path::{Path, PathBuf};

    use super::Tokenizer;

    /// A `tokenizer.json`, through the library that defines the format.
    pub struct HfTokenizer {
        inner: tokenizers::Tokenizer,
        size: usize,
    }

    /// Why a tokenizer file could not be used.
    #[derive(Debug, thiserror::Error)]
    pub enum TokenizerError {
        /// The operating system refused.
        #[error("tokenizer {}: {source}", path.display())]
        Io {
            /// The file.
            path: PathBuf,
            /// What the system said.
            source: std::io::Error,
        },
        /// Not a tokenizer.json.
        #[error("tokenizer {name} is not a tokenizer.json: {message}")]
        Format {
            /// The file, or what the bytes are.
            name: String,
            /// What the library said.
            message: String,
        },
        /// The library numbers added tokens itself, one after the other behind the model's entries, and this file has
        /// other ids: which of the two an engine uses cannot be told.
        #[error(
            "tokenizer {name}: added token `{token}` has id {written} in the file, but the library gives it {given}, as ids of the vocabulary are missing before it; fill the gaps with unused entries, or give token ids instead of text"
        )]
        AddedToken {
            /// The file, or what the bytes are.
            name: String,
            /// The token.
            token: String,
            /// Its id in the file.
            written: u32,
            /// Its id in the library.
            given: u32,
        },
    }

    /// The part of a file that is read a second time.
    #[derive(serde::Deserialize)]
    struct Ids {
        #[serde(default)]
        added_tokens: Vec<AddedId>,
    }

    #[derive(serde::Deserialize)]
    struct AddedId {
        id: u32,
        content: String,
    }

    impl HfTokenizer {
        /// Wraps a loaded tokenizer. Truncation and padding, which some files carry, are
        /// switched off: they would lose or invent tokens.
        pub fn new(mut inner: tokenizers::Tokenizer) -> Self {
            let _ = inner.with_truncation(None);
            inner.with_padding(None);
            let highest = inner.get_vocab(true).into_values().max();
            Self {
                size: highest.map_or(0, |id| id as usize + 1),
                inner,
            }
        }

        /// The library's own type.
        pub fn inner(&self) -> &tokenizers::Tokenizer {
            &self.inner
        }

        /// The ids that the file flags as special, ascending: a start for a profile's
        /// [`special_tokens`](crate::profile::Profile::special_tokens). Markers of reasoning and of tool calls often are
        /// added tokens without this flag.
        pub fn special_tokens(&self) -> Vec<u32> {
            let added = self.inner.get_added_tokens_decoder();
            let special = added.iter().filter(|(_, token)| token.special);
            let mut ids: Vec<u32> = special.map(|(&id, _)| id).collect();
            ids.sort_unstable();
            ids
        }

        /// Reads a `tokenizer.json`.
        pub fn from_file(path: &Path) -> Result<Self, TokenizerError> {
            let bytes = std::fs::read(path).map_err(|source| TokenizerError::Io {
                path: path.to_owned(),
                source,
            })?;
            Self::from_bytes(&bytes, &path.display().to_string())
        }

        /// Parses a `tokenizer.json`; `name` is used in errors.
        pub fn from_bytes(bytes: &[u8], name: &str) -> Result<Self, TokenizerError> {
            let format = |message: String| TokenizerError::Format {
                name: name.to_owned(),
                message,
            };
            let inner = tokenizers::Tokenizer::from_bytes(bytes)
                .map_err(|error| format(error.to_string()))?;
            let ids: Ids =
                serde_json::from_slice(bytes).map_err(|error| format(error.to_string()))?;
            for AddedId { id, content } in ids.added_tokens {
                if let Some(given) = inner.token_to_id(&content).filter(|&given| given != id) {
                    return Err(TokenizerError::AddedToken {
                        name: name.to_owned(),
                        token: content,
                        written: id,
                        given,
                    });
                }
            }
            Ok(Self::new(inner))
        }
    }

    impl Tokenizer for HfTokenizer {
        fn encode(&self, text: &str) -> Vec<u32> {
            // The library fails on normalisers that reject a text; none of the byte-level or
            // sentence-piece families do, and an empty result is reported as unscored text.
            self.inner
                .encode_fast(text, false)
                .map(|encoding| encoding.get_ids().to_vec())
                .unwrap_or_default()
        }

        fn decode(&self, tokens: &[u32]) -> String {
            self.inner.decode(tokens, false).unwrap_or_default()
        }

        fn vocab_size(&self) -> usize {
            self.size
        }

        fn token(&self, id: u32) -> Option<String> {
            self.inner.id_to_token(id)
        }
    }
}

#[cfg(all(test, feature = "hf-tokenizers"))]
mod hf_tests {
    use super::*;
    use sha2::{Digest, Sha256};

    /// A vocabulary of whole words, and added tokens.
    fn file(words: &str, added: &[(u32, &str, bool)]) -> Result<HfTokenizer, TokenizerError> {
        let added: Vec<_> = added
            .iter()
            .map(|(id, content, special)| {
                serde_json::json!({"id": id, "content": content, "single_word": false, "lstrip": false,
                    "rstrip": false, "normalized": false, "special": special})
            })
            .collect();
        let words: serde_json::Value = serde_json::from_str(words).unwrap();
        let json = serde_json::json!({"version": "1.0", "truncation": null, "padding": null,
            "added_tokens": added, "normalizer": null, "pre_tokenizer": {"type": "Whitespace"},
            "post_processor": null, "decoder": null,
            "model": {"type": "WordLevel", "vocab": words, "unk_token": "a"}});
        HfTokenizer::from_bytes(json.to_string().as_bytes(), "test")
    }

    /// SPEC.md section 8, written out.
    fn digest_of(names: &[Option<&str>]) -> [u8; 32] {
        let mut bytes = b"wmk1/vocabulary".to_vec();
        bytes.extend((names.len() as u32).to_le_bytes());
        for name in names {
            match name {
                Some(name) => {
                    bytes.extend((name.len() as u32).to_le_bytes());
                    bytes.extend(name.as_bytes());
                }
                None => bytes.extend([0xff; 4]),
            }
        }
        Sha256::digest(bytes).into()
    }

    #[test]
    fn holes_and_added_tokens_are_part_of_the_vocabulary() {
        let holes = file(r#"{"a": 0, "b": 2, "café": 5}"#, &[]).unwrap();
        assert_eq!(holes.vocab_size(), 6);
        assert_eq!(holes.token(3), None);
        let names = [Some("a"), None, Some("b"), None, None, Some("café")];
        assert_eq!(holes.digest(), digest_of(&names));

        let added = [(3, "<|end|>", true), (4, "<think>", false), (2, "c", true)];
        let more = file(r#"{"a": 0, "b": 1, "c": 2}"#, &added).unwrap();
        assert_eq!(more.vocab_size(), 5);
        let names = ["a", "b", "c", "<|end|>", "<think>"].map(Some);
        assert_eq!(more.digest(), digest_of(&names));
        assert_eq!(more.special_tokens(), [2, 3]);
        // The names of added tokens are recognised in a text, flagged or not.
        assert_eq!(more.encode("a<think>b <|end|>b"), [0, 4, 1, 3, 1]);
    }

    #[test]
    fn ids_that_the_library_would_change_are_refused() {
        // Three entries, so the library would give id 3: a hole here, and the id of another word there.
        for words in [r#"{"a": 0, "b": 1, "c": 5}"#, r#"{"a": 0, "b": 1, "c": 3}"#] {
            let error = file(words, &[(9, "<|end|>", true)])
                .err()
                .unwrap()
                .to_string();
            assert!(
                error.contains("<|end|>") && error.contains("id 9"),
                "{error}"
            );
        }
    }
}
