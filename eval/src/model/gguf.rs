//! GGUF files: pretrained models in, trained models out.
//!
//! The architectures `llama` and `gemma3` (text only) are read whatever their quantisation, and computed
//! with in `f32`. Files written here carry the tokenizer and follow the same conventions, so other
//! programs read them too.

mod pieces;
mod save;

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use candle_core::quantized::gguf_file::{Content, Value};
use candle_core::quantized::tokenizer::TokenizerFromGguf;
use candle_core::{Device, Tensor};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::{PreTokenizerWrapper, Tokenizer};

pub use self::save::save;

use super::transformer::{Block, InnerNorms, ShapeError, Weights};
use super::{Architecture, DocumentTokens, Gemma3, Transformer, TransformerConfig, worker};

/// A model with its tokenizer.
#[derive(Debug)]
pub struct Pretrained {
    /// The model.
    pub model: Transformer,
    /// The tokenizer that its ids belong to.
    pub tokenizer: Tokenizer,
}

/// Why a GGUF file could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GgufError {
    /// The file cannot be accessed.
    #[error("cannot access {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The header makes no sense: another format, or cut off.
    #[error(
        "{name} is not a GGUF file, or is cut off: {source}; compare its size and digest with its source"
    )]
    Header {
        /// The file.
        name: String,
        /// What the parser said.
        source: Box<candle_core::Error>,
    },
    /// An architecture that is not supported.
    #[error(
        "{name} holds a model of architecture `{architecture}`; only `llama` (SmolLM2, TinyLlama, Llama \
         and the like) and `gemma3` are supported"
    )]
    Architecture {
        /// The file.
        name: String,
        /// Its architecture.
        architecture: String,
    },
    /// A metadata entry is absent or of the wrong type.
    #[error("{name} lacks a usable `{key}`; convert the model again with a current converter")]
    Metadata {
        /// The file.
        name: String,
        /// The entry.
        key: String,
    },
    /// A variant of the architecture that would be computed wrongly.
    #[error("{name} is of a kind that is not supported: `{key}` is {value}")]
    Variant {
        /// The file.
        name: String,
        /// The metadata entry that says so.
        key: String,
        /// Its value.
        value: String,
    },
    /// A tensor is absent, cut off, or of the wrong shape.
    #[error(
        "{name}: tensor `{tensor}` cannot be read: {source}; the file may be cut off, compare its size with its source"
    )]
    Tensor {
        /// The file.
        name: String,
        /// The tensor.
        tensor: String,
        /// What the reader said.
        source: Box<candle_core::Error>,
    },
    /// The sizes in the file contradict each other.
    #[error("{name} describes an impossible model: {source}")]
    Shape {
        /// The file.
        name: String,
        /// The contradiction.
        source: ShapeError,
    },
    /// The tokenizer inside is absent or not understood.
    #[error(
        "{name} has no usable tokenizer: {source}; give the model's tokenizer.json beside it \
         (--tokenizer FILE.json)"
    )]
    Tokenizer {
        /// The file.
        name: String,
        /// What the reader said.
        source: Box<candle_core::Error>,
    },
    /// A trained model could not be encoded.
    #[error("cannot encode the model for {}: {source}", path.display())]
    Encode {
        /// The file to be.
        path: PathBuf,
        /// What the encoder said.
        source: Box<candle_core::Error>,
    },
}

/// Loads a model and its tokenizer from a file.
///
/// # Errors
/// The file is not GGUF, cut off, of another architecture, or without a tokenizer.
pub fn load(path: &Path) -> Result<Pretrained, GgufError> {
    read(open(path)?, &path.display().to_string())
}

/// Loads a model whose tokenizer comes from elsewhere.
///
/// # Errors
/// The file is not GGUF, cut off, or of another architecture.
pub fn load_model(path: &Path) -> Result<Transformer, GgufError> {
    let reader = open(path)?;
    worker::alone(|| Source::new(reader, &path.display().to_string())?.model())
}

fn open(path: &Path) -> Result<BufReader<File>, GgufError> {
    let file = File::open(path).map_err(|source| GgufError::Io {
        path: path.to_owned(),
        source,
    })?;
    Ok(BufReader::new(file))
}

/// Reads a model and its tokenizer; `name` is what errors call the source.
///
/// # Errors
/// As [`load`].
pub fn read(reader: impl Read + Seek + Send, name: &str) -> Result<Pretrained, GgufError> {
    worker::alone(|| {
        let mut source = Source::new(reader, name)?;
        let model = source.model()?;
        let tokenizer = source.tokenizer()?;
        Ok(Pretrained { model, tokenizer })
    })
}

/// The architectures that are read.
#[derive(Clone, Copy)]
enum Family {
    Llama,
    Gemma3,
}

/// Which entries of a head are turned together.
enum Pairs {
    /// `2 i` and `2 i + 1`: how the weights are held here, and in `llama` files.
    Adjacent,
    /// `i` and `i + D / 2`: in `gemma3` files.
    HalfApart,
}

/// Rows of heads of `head_dim` entries, put into the order in which `pairs` stand; they come in the
/// other one. Scores are sums over the entries of a head, so queries, keys and the weights of their
/// normalisations can be reordered together.
fn reordered(rows: &Tensor, head_dim: usize, pairs: Pairs) -> candle_core::Result<Tensor> {
    let heads = rows.dim(0)? / head_dim;
    let rest = rows.elem_count() / (heads * head_dim);
    let split = match pairs {
        Pairs::Adjacent => (heads, 2, head_dim / 2, rest),
        Pairs::HalfApart => (heads, head_dim / 2, 2, rest),
    };
    let swapped = rows.contiguous()?.reshape(split)?.transpose(1, 2)?;
    swapped.contiguous()?.reshape(rows.shape())
}

/// A GGUF file being read.
struct Source<'a, R> {
    content: Content,
    family: Family,
    reader: R,
    name: &'a str,
}

impl<'a, R: Read + Seek> Source<'a, R> {
    fn new(mut reader: R, name: &'a str) -> Result<Self, GgufError> {
        let content = Content::read(&mut reader).map_err(|source| GgufError::Header {
            name: name.to_owned(),
            source: Box::new(source),
        })?;
        let mut source = Self {
            content,
            family: Family::Llama,
            reader,
            name,
        };
        source.family = match source.string("general.architecture")? {
            "llama" => Family::Llama,
            "gemma3" => Family::Gemma3,
            other => {
                return Err(GgufError::Architecture {
                    name: name.to_owned(),
                    architecture: other.to_owned(),
                });
            }
        };
        Ok(source)
    }

    /// An entry's full name.
    fn key(&self, key: &str) -> String {
        let family = match self.family {
            Family::Llama => "llama",
            Family::Gemma3 => "gemma3",
        };
        format!("{family}.{key}")
    }

    fn string(&self, key: &str) -> Result<&str, GgufError> {
        match self.content.metadata.get(key) {
            Some(Value::String(text)) => Ok(text),
            _ => Err(self.lacks(key)),
        }
    }

    fn lacks(&self, key: &str) -> GgufError {
        GgufError::Metadata {
            name: self.name.to_owned(),
            key: key.to_owned(),
        }
    }

    fn size(&self, key: &str) -> Result<usize, GgufError> {
        let key = self.key(key);
        match self.content.metadata.get(&key).map(Value::to_u32) {
            Some(Ok(size)) => Ok(size as usize),
            _ => Err(self.lacks(&key)),
        }
    }

    fn number(&self, key: &str) -> Result<f32, GgufError> {
        let key = self.key(key);
        match self.content.metadata.get(&key).map(Value::to_f32) {
            Some(Ok(number)) => Ok(number),
            _ => Err(self.lacks(&key)),
        }
    }

    fn config(&self) -> Result<TransformerConfig, GgufError> {
        let heads = self.size("attention.head_count")?;
        let vocab = match self.content.tensor_infos.get("token_embd.weight") {
            Some(info) => info.shape.dims().first().copied().unwrap_or(0),
            None => 0,
        };
        let config = TransformerConfig {
            vocab,
            dim: self.size("embedding_length")?,
            layers: self.size("block_count")?,
            heads,
            kv_heads: self.size("attention.head_count_kv").unwrap_or(heads),
            hidden: self.size("feed_forward_length")?,
            context: self.size("context_length")?,
            rope_base: self.number("rope.freq_base").unwrap_or(10_000.0),
            epsilon: self.number("attention.layer_norm_rms_epsilon")?,
            tied: !self.content.tensor_infos.contains_key("output.weight"),
            architecture: match self.family {
                Family::Llama => Architecture::Llama,
                Family::Gemma3 => Architecture::Gemma3(self.gemma3()?),
            },
        };
        match config.check() {
            Ok(()) => Ok(config),
            Err(source) => Err(GgufError::Shape {
                name: self.name.to_owned(),
                source,
            }),
        }
    }

    /// What a `gemma3` file says besides.
    ///
    /// Two entries that early converters left out have one value in all published models. Larger
    /// models than that of 1 B parameters stretch their positions and are refused.
    fn gemma3(&self) -> Result<Gemma3, GgufError> {
        let head_dim = self.size("attention.key_length")?;
        let changes = [
            ("rope.scaling.factor", 1.0),
            ("attn_logit_softcapping", 0.0),
            ("final_logit_softcapping", 0.0),
            ("attention.value_length", head_dim as f32),
        ];
        for (key, harmless) in changes {
            let key = self.key(key);
            if let Some(value) = self.content.metadata.get(&key)
                && number(value) != Some(harmless)
            {
                return Err(GgufError::Variant {
                    name: self.name.to_owned(),
                    key,
                    value: format!("{value:?}"),
                });
            }
        }
        let or = |key: &str, usual: f32| match self.content.metadata.get(&self.key(key)) {
            None => Ok(usual),
            Some(value) => number(value).ok_or_else(|| self.lacks(&self.key(key))),
        };
        Ok(Gemma3 {
            head_dim,
            window: self.size("attention.sliding_window")?,
            global_every: or("attention.sliding_window_pattern", 6.0)? as usize,
            local_rope_base: or("rope.freq_base_swa", 10_000.0)?,
        })
    }

    /// The tokens between which the model expects a document.
    ///
    /// Where texts do not begin with a token of their own, documents were trained on one after the
    /// other with `<|endoftext|>` between them, whatever a chat template made of the other entries.
    fn documents(&self, vocab: usize) -> Result<DocumentTokens, GgufError> {
        let id = |key: &str| match self.content.metadata.get(key).map(Value::to_u32) {
            None => Ok(None),
            Some(Ok(id)) if (id as usize) < vocab => Ok(Some(id)),
            Some(_) => Err(self.lacks(key)),
        };
        let start = id("tokenizer.ggml.bos_token_id")?;
        let end = id("tokenizer.ggml.eos_token_id")?;
        let pieces = matches!(self.string("tokenizer.ggml.model"), Ok("llama"));
        let begins = match self.content.metadata.get("tokenizer.ggml.add_bos_token") {
            Some(Value::Bool(begins)) => *begins,
            _ => pieces,
        };
        let between = || match self.content.metadata.get("tokenizer.ggml.tokens") {
            Some(Value::Array(tokens)) => tokens
                .iter()
                .position(|token| matches!(token, Value::String(text) if text == "<|endoftext|>"))
                .filter(|&id| id < vocab),
            _ => None,
        };
        let (start, end) = match (begins, between()) {
            (false, Some(between)) => (between as u32, between as u32),
            _ => {
                let start = start.or(end).unwrap_or(0);
                (start, end.unwrap_or(start))
            }
        };
        Ok(DocumentTokens { start, end })
    }

    /// A tensor of the given shape, as `f32`.
    fn tensor(&mut self, tensor: &str, shape: &[usize]) -> Result<Tensor, GgufError> {
        let read = || {
            let values = self
                .content
                .tensor(&mut self.reader, tensor, &Device::Cpu)?;
            let values = values.dequantize(&Device::Cpu)?;
            if values.dims() != shape {
                candle_core::bail!("its shape is {:?} instead of {shape:?}", values.dims());
            }
            Ok(values)
        };
        let failed = |source: candle_core::Error| GgufError::Tensor {
            name: self.name.to_owned(),
            tensor: tensor.to_owned(),
            source: Box::new(source),
        };
        let mut read = read;
        read().map_err(failed)
    }

    /// A tensor of which each row belongs to an entry of a query or a key.
    fn turned(
        &mut self,
        tensor: &str,
        shape: &[usize],
        head_dim: usize,
    ) -> Result<Tensor, GgufError> {
        let rows = self.tensor(tensor, shape)?;
        match self.family {
            Family::Llama => Ok(rows),
            Family::Gemma3 => {
                reordered(&rows, head_dim, Pairs::Adjacent).map_err(|source| GgufError::Tensor {
                    name: self.name.to_owned(),
                    tensor: tensor.to_owned(),
                    source: Box::new(source),
                })
            }
        }
    }

    /// Matrices with one input, given as `[out, in]`, side by side as `[in, out + out + ...]`.
    fn matrices(&mut self, parts: &[(String, usize)], input: usize) -> Result<Tensor, GgufError> {
        let mut tensors = Vec::with_capacity(parts.len());
        for (name, output) in parts {
            tensors.push(self.tensor(name, &[*output, input])?);
        }
        self.joined(&parts[0].0, &tensors)
    }

    /// `[out, in]` tensors side by side as `[in, out + out + ...]`; `tensor` is what errors name.
    fn joined(&self, tensor: &str, tensors: &[Tensor]) -> Result<Tensor, GgufError> {
        let joined = Tensor::cat(tensors, 0).and_then(|all| all.t()?.contiguous());
        joined.map_err(|source| GgufError::Tensor {
            name: self.name.to_owned(),
            tensor: tensor.to_owned(),
            source: Box::new(source),
        })
    }

    fn model(&mut self) -> Result<Transformer, GgufError> {
        let config = self.config()?;
        let TransformerConfig {
            vocab, dim, hidden, ..
        } = config;
        let shape = config.attention();
        let head_dim = shape.head_dim;
        let (queries, keys) = (shape.heads * head_dim, shape.kv_heads * head_dim);
        let documents = self.documents(vocab)?;
        let mut blocks = Vec::with_capacity(config.layers);
        for i in 0..config.layers {
            let named = |part: &str| format!("blk.{i}.{part}.weight");
            let qkv = [
                self.turned(&named("attn_q"), &[queries, dim], head_dim)?,
                self.turned(&named("attn_k"), &[keys, dim], head_dim)?,
                self.tensor(&named("attn_v"), &[keys, dim])?,
            ];
            let gate_up = [(named("ffn_gate"), hidden), (named("ffn_up"), hidden)];
            blocks.push(Block {
                attention_norm: self.tensor(&named("attn_norm"), &[dim])?,
                qkv: self.joined(&named("attn_q"), &qkv)?,
                attention_out: self.matrices(&[(named("attn_output"), dim)], queries)?,
                feed_norm: self.tensor(&named("ffn_norm"), &[dim])?,
                gate_up: self.matrices(&gate_up, dim)?,
                down: self.matrices(&[(named("ffn_down"), dim)], hidden)?,
                inner_norms: match self.family {
                    Family::Llama => None,
                    Family::Gemma3 => Some(InnerNorms {
                        query: self.turned(&named("attn_q_norm"), &[head_dim], head_dim)?,
                        key: self.turned(&named("attn_k_norm"), &[head_dim], head_dim)?,
                        attention_result: self.tensor(&named("post_attention_norm"), &[dim])?,
                        feed_result: self.tensor(&named("post_ffw_norm"), &[dim])?,
                    }),
                },
            });
        }
        let weights = Weights {
            embedding: self.tensor("token_embd.weight", &[vocab, dim])?,
            blocks,
            norm: self.tensor("output_norm.weight", &[dim])?,
            head: match config.tied {
                true => None,
                false => Some(self.tensor("output.weight", &[vocab, dim])?),
            },
        };
        Ok(Transformer::new(config, weights).with_documents(documents))
    }

    /// The tokenizer, with the text split into words as the model's authors did.
    ///
    /// The engine's reader puts a space before every text and keeps digits together; neither is what
    /// these vocabularies were made with.
    fn tokenizer(&self) -> Result<Tokenizer, GgufError> {
        let unusable = |source| GgufError::Tokenizer {
            name: self.name.to_owned(),
            source: Box::new(source),
        };
        if let Ok("llama") = self.string("tokenizer.ggml.model") {
            return pieces::tokenizer(&self.content.metadata).map_err(unusable);
        }
        let mut tokenizer = Tokenizer::from_gguf(&self.content).map_err(unusable)?;
        let bytes = ByteLevel::new(false, true, true);
        let split = match self.string("tokenizer.ggml.pre") {
            Ok("smollm") => {
                let digits = PreTokenizerWrapper::Digits(Digits::new(true));
                Some(Sequence::new(vec![digits, bytes.into()]).into())
            }
            Ok("gpt-2") => Some(PreTokenizerWrapper::ByteLevel(bytes)),
            _ => None,
        };
        if split.is_some() {
            tokenizer.with_pre_tokenizer(split);
        }
        Ok(tokenizer)
    }
}

/// A metadata value of any numeric type.
fn number(value: &Value) -> Option<f32> {
    match value {
        Value::F32(number) => Some(*number),
        Value::F64(number) => Some(*number as f32),
        other => other.to_u32().ok().map(|number| number as f32),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use tokenizers::AddedToken;
    use tokenizers::models::TrainerWrapper;
    use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};

    use super::*;
    use crate::model::Model;

    fn tokenizer() -> Tokenizer {
        let mut tokenizer = Tokenizer::new(BPE::default());
        tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
        tokenizer.with_decoder(Some(ByteLevel::new(false, true, true)));
        let mut trainer: TrainerWrapper = BpeTrainerBuilder::new()
            .vocab_size(300)
            .show_progress(false)
            .special_tokens(vec![AddedToken::from("<|endoftext|>", true)])
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .build()
            .into();
        let text = "the cat and the hat sat on the mat and that was that ".repeat(20);
        tokenizer.train(&mut trainer, [text].iter()).unwrap();
        tokenizer
    }

    fn model(vocab: usize, tied: bool) -> Transformer {
        let config = TransformerConfig {
            vocab,
            dim: 64,
            layers: 2,
            heads: 4,
            kv_heads: 2,
            hidden: 96,
            context: 32,
            rope_base: 5_000.0,
            epsilon: 1e-6,
            tied,
            architecture: Architecture::Llama,
        };
        Transformer::random(config, 9).unwrap()
    }

    fn bytes(tied: bool) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        let tokenizer = tokenizer();
        let model = model(tokenizer.get_vocab_size(true), tied);
        save(&path, "test", &model, &tokenizer).unwrap();
        std::fs::read(path).unwrap()
    }

    #[test]
    fn what_is_saved_is_loaded() {
        for tied in [true, false] {
            let tokenizer = tokenizer();
            let model = model(tokenizer.get_vocab_size(true), tied);
            let loaded = read(Cursor::new(bytes(tied)), "test").unwrap();
            assert_eq!(loaded.model.config(), model.config());
            let text = "that hat,  on 1234 mats\n<|endoftext|>the bat";
            let ids = tokenizer
                .encode_fast(text, false)
                .unwrap()
                .get_ids()
                .to_vec();
            assert_eq!(
                loaded.tokenizer.encode_fast(text, false).unwrap().get_ids(),
                ids
            );
            assert_eq!(loaded.tokenizer.decode(&ids, false).unwrap(), text);
            let before = model.start(&[&ids]).unwrap();
            let after = loaded.model.start(&[&ids]).unwrap();
            for (a, b) in before.logits().iter().zip(after.logits()) {
                assert!((a - b).abs() < 0.02, "{a} {b}");
            }
        }
    }

    #[test]
    fn files_cut_off_anywhere_are_errors_that_name_them() {
        let whole = bytes(true);
        for kept in [
            0,
            3,
            10,
            200,
            whole.len() / 10,
            whole.len() / 2,
            whole.len() - 1,
        ] {
            let error = read(Cursor::new(&whole[..kept]), "short.gguf").unwrap_err();
            assert!(error.to_string().starts_with("short.gguf"), "{error}");
        }
        assert!(matches!(
            read(Cursor::new(b"#!/bin/sh"), "x"),
            Err(GgufError::Header { .. })
        ));
        assert!(matches!(
            load(Path::new("/nonexistent")),
            Err(GgufError::Io { .. })
        ));
    }

    #[test]
    fn another_architecture_is_named() {
        let mut file = Cursor::new(Vec::new());
        let architecture = Value::String("mamba".to_owned());
        let metadata = [("general.architecture", &architecture)];
        candle_core::quantized::gguf_file::write(&mut file, &metadata, &[]).unwrap();
        file.set_position(0);
        let error = read(file, "other.gguf").unwrap_err().to_string();
        assert!(
            error.contains("other.gguf") && error.contains("`mamba`"),
            "{error}"
        );
    }

    /// A small Gemma with normalisations that differ from entry to entry.
    fn gemma(vocab: usize) -> Transformer {
        let config = TransformerConfig {
            layers: 4,
            architecture: Architecture::Gemma3(Gemma3 {
                head_dim: 32,
                window: 5,
                global_every: 3,
                local_rope_base: 700.0,
            }),
            ..model(vocab, true).config().clone()
        };
        let model = Transformer::random(config, 9).unwrap();
        let varied = model.map_weights(|_, weight| match weight.dims() {
            [width] => {
                let values: Vec<f32> = (0..*width).map(|i| 1.0 + (i as f32).sin() / 2.0).collect();
                Tensor::from_vec(values, *width, &Device::Cpu)
            }
            _ => Ok(weight.clone()),
        });
        let documents = DocumentTokens { start: 3, end: 7 };
        varied.unwrap().with_documents(documents)
    }

    #[test]
    fn a_gemma_model_is_saved_and_loaded_and_reads_beyond_its_window() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gemma.gguf");
        let tokenizer = tokenizer();
        let before = gemma(tokenizer.get_vocab_size(true));
        save(&path, "test", &before, &tokenizer).unwrap();
        let after = load(&path).unwrap().model;
        assert_eq!(after.config(), before.config());
        assert_eq!(after.documents(), before.documents());
        assert_eq!(load_model(&path).unwrap().config(), before.config());
        let tokens: Vec<u32> = (0..20).map(|i| i * 13 % 300).collect();
        let whole = after.start(&[&tokens]).unwrap();
        // Weights of eight bits: the largest logit is about 0.6.
        for (a, b) in before
            .start(&[&tokens])
            .unwrap()
            .logits()
            .iter()
            .zip(whole.logits())
        {
            assert!((a - b).abs() < 0.02, "{a} {b}");
        }
        let mut batch = after.start(&[&tokens[..2]]).unwrap();
        for token in &tokens[2..] {
            batch.step(&[*token]).unwrap();
        }
        for (a, b) in batch.logits().iter().zip(whole.logits()) {
            assert!((a - b).abs() < 1e-4, "{a} {b}");
        }
    }

    #[test]
    fn pairs_half_a_head_apart_become_neighbours_and_back() {
        let rows = Tensor::new(
            &[[0f32], [1.], [2.], [3.], [10.], [11.], [12.], [13.]],
            &Device::Cpu,
        );
        let rows = rows.unwrap();
        let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let adjacent = reordered(&rows, 4, Pairs::Adjacent).unwrap();
        assert_eq!(values(&adjacent), [0., 2., 1., 3., 10., 12., 11., 13.]);
        let back = reordered(&adjacent, 4, Pairs::HalfApart).unwrap();
        assert_eq!(values(&back), values(&rows));
    }

    /// A file of metadata alone.
    fn head(entries: &[(&str, Value)]) -> Source<'static, Cursor<Vec<u8>>> {
        let mut file = Cursor::new(Vec::new());
        let entries: Vec<(&str, &Value)> =
            entries.iter().map(|(key, value)| (*key, value)).collect();
        candle_core::quantized::gguf_file::write(&mut file, &entries, &[]).unwrap();
        file.set_position(0);
        Source::new(file, "head.gguf").unwrap()
    }

    fn texts(texts: &[&str]) -> Value {
        Value::Array(
            texts
                .iter()
                .map(|text| Value::String((*text).to_owned()))
                .collect(),
        )
    }

    #[test]
    fn documents_stand_between_the_tokens_that_the_file_names() {
        let documents = |kind: &str, begins: Option<bool>, tokens: &[&str], ids: [u32; 2]| {
            let mut entries = vec![
                ("general.architecture", Value::String("llama".to_owned())),
                ("tokenizer.ggml.model", Value::String(kind.to_owned())),
                ("tokenizer.ggml.tokens", texts(tokens)),
                ("tokenizer.ggml.bos_token_id", Value::U32(ids[0])),
                ("tokenizer.ggml.eos_token_id", Value::U32(ids[1])),
            ];
            if let Some(begins) = begins {
                entries.push(("tokenizer.ggml.add_bos_token", Value::Bool(begins)));
            }
            let found = head(&entries).documents(tokens.len());
            found.map(|DocumentTokens { start, end }| (start, end))
        };
        // A chat model of the SmolLM2 family, a base model of it, and vocabularies with a beginning.
        let smol = ["a", "<|endoftext|>", "<|im_start|>", "<|im_end|>"];
        assert_eq!(
            documents("gpt2", Some(false), &smol, [2, 3]).unwrap(),
            (1, 1)
        );
        assert_eq!(documents("gpt2", None, &smol, [1, 1]).unwrap(), (1, 1));
        assert_eq!(
            documents("gpt2", Some(true), &smol, [2, 3]).unwrap(),
            (2, 3)
        );
        assert_eq!(
            documents("llama", None, &["<eos>", "<bos>"], [1, 0]).unwrap(),
            (1, 0)
        );
        assert_eq!(
            documents("gpt2", None, &["<eos>", "<bos>"], [1, 0]).unwrap(),
            (1, 0)
        );
        let error = documents("llama", None, &["<eos>", "<bos>"], [9, 0]).unwrap_err();
        assert!(error.to_string().contains("bos_token_id"), "{error}");
        let none = head(&[("general.architecture", Value::String("llama".to_owned()))]);
        assert_eq!(none.documents(9).unwrap(), DocumentTokens::default());
    }

    #[test]
    fn a_gemma_that_would_be_computed_wrongly_is_refused() {
        let read = |more: &[(&str, Value)]| {
            let mut entries = vec![
                ("general.architecture", Value::String("gemma3".to_owned())),
                ("gemma3.attention.key_length", Value::U32(32)),
                ("gemma3.attention.value_length", Value::U32(32)),
                ("gemma3.attention.sliding_window", Value::U32(512)),
            ];
            entries.retain(|(key, _)| !more.iter().any(|(other, _)| other == key));
            entries.extend(more.iter().cloned());
            head(&entries).gemma3()
        };
        let usual = Gemma3 {
            head_dim: 32,
            window: 512,
            global_every: 6,
            local_rope_base: 10_000.0,
        };
        assert_eq!(read(&[]).unwrap(), usual);
        let harmless = ("gemma3.rope.scaling.factor", Value::F32(1.0));
        assert_eq!(read(&[harmless]).unwrap(), usual);
        for (key, value) in [
            ("gemma3.rope.scaling.factor", Value::F32(8.0)),
            ("gemma3.attention.value_length", Value::U32(64)),
            ("gemma3.final_logit_softcapping", Value::F32(30.0)),
        ] {
            let error = read(&[(key, value)]).unwrap_err();
            assert!(matches!(error, GgufError::Variant { .. }));
            assert!(error.to_string().contains(key), "{error}");
        }
    }

    #[test]
    fn a_model_whose_tokenizer_is_unknown_can_be_taken_alone() {
        let mut bytes = bytes(true);
        let kind = b"tokenizer.ggml.model";
        let at = bytes.windows(kind.len()).position(|window| window == kind);
        // Behind the key: a type and a length, then the text.
        let text = at.unwrap() + kind.len() + 12;
        assert_eq!(&bytes[text..text + 4], b"gpt2");
        bytes[text..text + 4].copy_from_slice(b"none");
        let error = read(Cursor::new(&bytes), "x.gguf").unwrap_err().to_string();
        assert!(
            error.contains("x.gguf") && error.contains("--tokenizer"),
            "{error}"
        );
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.gguf");
        std::fs::write(&path, &bytes).unwrap();
        let expected = model(tokenizer().get_vocab_size(true), true);
        assert_eq!(load_model(&path).unwrap().config(), expected.config());
    }
}
