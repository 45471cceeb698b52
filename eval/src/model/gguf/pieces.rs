//! Tokenizers of sentencepiece vocabularies (`tokenizer.ggml.model` of `llama`), as Gemma has them.
//!
//! Such a file has pieces and scores but no merges. Sentencepiece joins, again and again, the two
//! neighbours whose union has the highest score; a list of merges ordered by the scores of their
//! results does the same. Where a union can be had from two splits, those with the longer left part
//! come first, as in the `tokenizer.json` files that are made from such vocabularies.

use std::collections::HashMap;

use candle_core::quantized::gguf_file::Value;
use candle_core::{Error, Result, bail};
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence;
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::normalizers::replace::Replace;
use tokenizers::{AddedToken, Tokenizer};

/// Stands for a space inside pieces.
const SPACE: &str = "\u{2581}";

/// What a piece is, in the numbers of `tokenizer.ggml.token_type`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Found by joining.
    Normal,
    /// For characters that no piece has.
    Unknown,
    /// Marks, never part of a text.
    Control,
    /// Found in a text before anything is joined, the longest first.
    Whole,
    /// Never found.
    Unused,
    /// One byte of a character that no piece has.
    Byte,
}

impl Kind {
    fn new(value: &Value) -> Result<Self> {
        Ok(match value.to_i32()? {
            1 => Self::Normal,
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::Whole,
            5 => Self::Unused,
            6 => Self::Byte,
            other => bail!("a token is of the unknown type {other}"),
        })
    }
}

/// The tokenizer of a file's metadata.
pub(super) fn tokenizer(metadata: &HashMap<String, Value>) -> Result<Tokenizer> {
    let entry = |key: &str| match metadata.get(&format!("tokenizer.ggml.{key}")) {
        Some(value) => Ok(value),
        None => bail!("`tokenizer.ggml.{key}` is missing"),
    };
    if !matches!(entry("add_space_prefix"), Ok(Value::Bool(false))) {
        bail!("its vocabulary puts a space before every text, which is not supported");
    }
    let kinds: Vec<Kind> = entry("token_type")?
        .to_vec()?
        .iter()
        .map(Kind::new)
        .collect::<Result<_>>()?;
    let scores: Vec<f32> = entry("scores")?
        .to_vec()?
        .iter()
        .map(Value::to_f32)
        .collect::<Result<_>>()?;
    let pieces: Vec<String> = entry("tokens")?
        .to_vec()?
        .iter()
        .zip(&kinds)
        .map(|(piece, kind)| {
            let piece = piece.to_string()?;
            Ok(match kind {
                // Converters write these as they stand in texts, all others as sentencepiece does.
                Kind::Whole => piece.replace(' ', SPACE),
                _ => piece.clone(),
            })
        })
        .collect::<Result<_>>()?;
    if kinds.len() != pieces.len() || scores.len() != pieces.len() {
        bail!(
            "it has {} tokens of unequally many types and scores",
            pieces.len()
        );
    }
    let vocab: Vocab = pieces.iter().cloned().zip(0..).collect();
    let mut bpe = BPE::builder()
        .vocab_and_merges(vocab, merges(&pieces, &scores, &kinds))
        .byte_fallback(true)
        .fuse_unk(true);
    if let Some(unknown) = metadata.get("tokenizer.ggml.unknown_token_id")
        && let Some(piece) = pieces.get(unknown.to_u32()? as usize)
    {
        bpe = bpe.unk_token(piece.clone());
    }
    let mut tokenizer = Tokenizer::new(bpe.build().map_err(Error::wrap)?);
    let normaliser = Replace::new(" ", SPACE).map_err(Error::wrap)?;
    tokenizer
        .with_normalizer(Some(normaliser))
        .map_err(Error::wrap)?;
    let spaces = Replace::new(SPACE, " ").map_err(Error::wrap)?;
    let decoder = vec![
        spaces.into(),
        ByteFallback::new().into(),
        Fuse::new().into(),
    ];
    tokenizer.with_decoder(Some(Sequence::new(decoder)));
    let of = |kind: Kind| pieces.iter().zip(&kinds).filter(move |(_, k)| **k == kind);
    let control = of(Kind::Control).map(|(piece, _)| AddedToken::from(piece.clone(), true));
    let control: Vec<AddedToken> = control.collect();
    let whole = of(Kind::Whole).map(|(piece, _)| AddedToken::from(piece.clone(), false));
    let whole: Vec<AddedToken> = whole.map(|token| token.normalized(true)).collect();
    tokenizer.add_special_tokens(control).map_err(Error::wrap)?;
    tokenizer.add_tokens(whole).map_err(Error::wrap)?;
    Ok(tokenizer)
}

/// Every split of a normal piece into two others, in the order in which they are joined.
fn merges(pieces: &[String], scores: &[f32], kinds: &[Kind]) -> Merges {
    let normal = |id: &usize| kinds[*id] == Kind::Normal;
    let known: HashMap<&str, usize> = (0..pieces.len())
        .filter(normal)
        .map(|id| (pieces[id].as_str(), id))
        .collect();
    let mut order: Vec<usize> = (0..pieces.len()).filter(normal).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    let mut merges = Vec::new();
    for id in order {
        let piece = pieces[id].as_str();
        for (cut, _) in piece
            .char_indices()
            .skip(1)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
        {
            let (left, right) = piece.split_at(cut);
            if known.contains_key(left) && known.contains_key(right) {
                merges.push((left.to_owned(), right.to_owned()));
            }
        }
    }
    merges
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A vocabulary of byte pieces, letters and a few unions, the first of them the best.
    fn vocabulary() -> HashMap<String, Value> {
        let mut pieces: Vec<(String, f32, i32)> = Vec::new();
        for control in ["<pad>", "<eos>", "<bos>"] {
            pieces.push((control.to_owned(), -1000.0, 3));
        }
        pieces.push(("<unk>".to_owned(), -1000.0, 2));
        for whole in ["\n\n", "  ", "   ", "<b>"] {
            pieces.push((whole.to_owned(), -1000.0, 4));
        }
        for byte in 0..=255 {
            pieces.push((format!("<0x{byte:02X}>"), 0.0, 6));
        }
        let unions = ["bc", "ab", "abc", "\u{2581}ab"];
        let letters = ["a", "b", "c", "<", ">", "\n", SPACE];
        for (rank, piece) in unions.iter().chain(&letters).enumerate() {
            pieces.push(((*piece).to_owned(), -(rank as f32), 1));
        }
        let array = |values: Vec<Value>| Value::Array(values);
        let column =
            |value: fn(&(String, f32, i32)) -> Value| array(pieces.iter().map(value).collect());
        let entries = [
            (
                "tokens",
                column(|(piece, _, _)| Value::String(piece.clone())),
            ),
            ("scores", column(|(_, score, _)| Value::F32(*score))),
            ("token_type", column(|(_, _, kind)| Value::I32(*kind))),
            ("unknown_token_id", Value::U32(3)),
            ("add_space_prefix", Value::Bool(false)),
        ];
        let named = entries.map(|(key, value)| (format!("tokenizer.ggml.{key}"), value));
        named.into_iter().collect()
    }

    fn split(tokenizer: &Tokenizer, text: &str) -> Vec<String> {
        let encoding = tokenizer.encode_fast(text, false).unwrap();
        let again = tokenizer.decode(encoding.get_ids(), false).unwrap();
        assert_eq!(again, text);
        encoding
            .get_ids()
            .iter()
            .map(|id| tokenizer.id_to_token(*id).unwrap())
            .collect()
    }

    #[test]
    fn the_best_union_is_made_first() {
        let tokenizer = tokenizer(&vocabulary()).unwrap();
        assert_eq!(split(&tokenizer, "ab"), ["ab"]);
        // "bc" is better than "ab", and "abc" then comes of "a" and "bc".
        assert_eq!(split(&tokenizer, "abc"), ["abc"]);
        assert_eq!(split(&tokenizer, "aab"), ["a", "ab"]);
        // "bc" is made before "\u{2581}ab" could be.
        assert_eq!(split(&tokenizer, " abc"), [SPACE, "abc"]);
        assert_eq!(split(&tokenizer, " ab"), ["\u{2581}ab"]);
    }

    #[test]
    fn whole_pieces_are_found_first_and_the_longest() {
        let tokenizer = tokenizer(&vocabulary()).unwrap();
        assert_eq!(
            split(&tokenizer, "a   ab"),
            ["a", "\u{2581}\u{2581}\u{2581}", "ab"]
        );
        assert_eq!(split(&tokenizer, "\n\n\n"), ["\n\n", "\n"]);
        assert_eq!(split(&tokenizer, "<b>b"), ["<b>", "b"]);
    }

    #[test]
    fn characters_without_a_piece_become_bytes_and_come_back() {
        let tokenizer = tokenizer(&vocabulary()).unwrap();
        assert_eq!(split(&tokenizer, "a\u{e9}"), ["a", "<0xC3>", "<0xA9>"]);
        split(&tokenizer, " \u{2603} \u{1f389}\n\u{0} x  <c>");
        assert_eq!(split(&tokenizer, ""), [""; 0]);
    }

    #[test]
    fn ids_are_those_of_the_file() {
        let vocabulary = vocabulary();
        let tokenizer = tokenizer(&vocabulary).unwrap();
        let tokens = vocabulary["tokenizer.ggml.tokens"].to_vec().unwrap();
        assert_eq!(tokenizer.get_vocab_size(true), tokens.len());
        for (id, piece) in tokens.iter().enumerate() {
            let piece = piece.to_string().unwrap().replace(' ', SPACE);
            assert_eq!(
                tokenizer.id_to_token(id as u32).as_deref(),
                Some(piece.as_str())
            );
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for (key, value) in [
            ("add_space_prefix", Value::Bool(true)),
            ("token_type", Value::Array(vec![Value::I32(1)])),
            ("scores", Value::U32(1)),
        ] {
            let mut vocabulary = vocabulary();
            vocabulary.insert(format!("tokenizer.ggml.{key}"), value);
            assert!(tokenizer(&vocabulary).is_err(), "{key}");
        }
        let mut vocabulary = vocabulary();
        vocabulary.remove("tokenizer.ggml.add_space_prefix");
        assert!(tokenizer(&vocabulary).is_err());
    }
}
