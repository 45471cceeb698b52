//! GGUF files: pretrained models in, trained models out.
//!
//! The `llama` architecture is read whatever its quantisation, and computed with in `f32`. Files
//! written here carry the tokenizer and follow the same conventions, so other programs read them too.

use std::fs::File;
use std::io::{BufReader, Read, Seek, Write};
use std::path::{Path, PathBuf};

use candle_core::quantized::gguf_file::{Content, Value};
use candle_core::quantized::tokenizer::TokenizerFromGguf;
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::{PreTokenizerWrapper, Tokenizer};

use super::transformer::{Block, ShapeError, Weights};
use super::{Transformer, TransformerConfig, worker};

/// The one architecture that is read and written.
const ARCHITECTURE: &str = "llama";

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
        "{name} holds a model of architecture `{architecture}`; only `llama` is supported \
         (SmolLM2, TinyLlama, Llama and the like)"
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
    #[error("{name} has no usable tokenizer: {source}")]
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
    let file = File::open(path).map_err(|source| GgufError::Io {
        path: path.to_owned(),
        source,
    })?;
    read(BufReader::new(file), &path.display().to_string())
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

/// A GGUF file being read.
struct Source<'a, R> {
    content: Content,
    reader: R,
    name: &'a str,
}

impl<'a, R: Read + Seek> Source<'a, R> {
    fn new(mut reader: R, name: &'a str) -> Result<Self, GgufError> {
        let content = Content::read(&mut reader).map_err(|source| GgufError::Header {
            name: name.to_owned(),
            source: Box::new(source),
        })?;
        let source = Self {
            content,
            reader,
            name,
        };
        match source.string("general.architecture")? {
            ARCHITECTURE => Ok(source),
            other => Err(GgufError::Architecture {
                name: name.to_owned(),
                architecture: other.to_owned(),
            }),
        }
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
        let key = format!("{ARCHITECTURE}.{key}");
        match self.content.metadata.get(&key).map(Value::to_u32) {
            Some(Ok(size)) => Ok(size as usize),
            _ => Err(self.lacks(&key)),
        }
    }

    fn number(&self, key: &str) -> Result<f32, GgufError> {
        let key = format!("{ARCHITECTURE}.{key}");
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
        };
        match config.check() {
            Ok(()) => Ok(config),
            Err(source) => Err(GgufError::Shape {
                name: self.name.to_owned(),
                source,
            }),
        }
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

    /// Matrices with one input, given as `[out, in]`, side by side as `[in, out + out + ...]`.
    fn matrices(&mut self, parts: &[(String, usize)], input: usize) -> Result<Tensor, GgufError> {
        let mut tensors = Vec::with_capacity(parts.len());
        for (name, output) in parts {
            tensors.push(self.tensor(name, &[*output, input])?);
        }
        let joined = Tensor::cat(&tensors, 0).and_then(|all| all.t()?.contiguous());
        joined.map_err(|source| GgufError::Tensor {
            name: self.name.to_owned(),
            tensor: parts[0].0.clone(),
            source: Box::new(source),
        })
    }

    fn model(&mut self) -> Result<Transformer, GgufError> {
        let config = self.config()?;
        let TransformerConfig {
            vocab, dim, hidden, ..
        } = config;
        let keys = config.kv_heads * (dim / config.heads);
        let mut blocks = Vec::with_capacity(config.layers);
        for i in 0..config.layers {
            let named = |part: &str| format!("blk.{i}.{part}.weight");
            let qkv = [
                (named("attn_q"), dim),
                (named("attn_k"), keys),
                (named("attn_v"), keys),
            ];
            let gate_up = [(named("ffn_gate"), hidden), (named("ffn_up"), hidden)];
            blocks.push(Block {
                attention_norm: self.tensor(&named("attn_norm"), &[dim])?,
                qkv: self.matrices(&qkv, dim)?,
                attention_out: self.matrices(&[(named("attn_output"), dim)], dim)?,
                feed_norm: self.tensor(&named("ffn_norm"), &[dim])?,
                gate_up: self.matrices(&gate_up, dim)?,
                down: self.matrices(&[(named("ffn_down"), dim)], hidden)?,
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
        Ok(Transformer::new(config, weights))
    }

    /// The tokenizer, with the text split into words as the model's authors did.
    ///
    /// The engine's reader puts a space before every text and keeps digits together; neither is what
    /// these vocabularies were made with.
    fn tokenizer(&self) -> Result<Tokenizer, GgufError> {
        let mut tokenizer =
            Tokenizer::from_gguf(&self.content).map_err(|source| GgufError::Tokenizer {
                name: self.name.to_owned(),
                source: Box::new(source),
            })?;
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

/// Writes a model with its byte-level BPE tokenizer: matrices in eight bits (`Q8_0`, where a row is a
/// multiple of 32 entries), normalisations in `f32`. The file is replaced atomically.
///
/// # Errors
/// The file cannot be written.
pub fn save(
    path: &Path,
    name: &str,
    model: &Transformer,
    tokenizer: &Tokenizer,
) -> Result<(), GgufError> {
    let io = |source| GgufError::Io {
        path: path.to_owned(),
        source,
    };
    let encode = |source| GgufError::Encode {
        path: path.to_owned(),
        source: Box::new(source),
    };
    let metadata = metadata(name, model.config(), tokenizer).map_err(encode)?;
    let tensors = worker::alone(|| tensors(model)).map_err(encode)?;
    let metadata: Vec<_> = metadata
        .iter()
        .map(|(key, value)| (key.as_str(), value))
        .collect();
    let tensors: Vec<_> = tensors
        .iter()
        .map(|(name, tensor)| (name.as_str(), tensor))
        .collect();
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let mut file = tempfile::NamedTempFile::new_in(parent.unwrap_or(Path::new("."))).map_err(io)?;
    candle_core::quantized::gguf_file::write(file.as_file_mut(), &metadata, &tensors)
        .map_err(encode)?;
    file.as_file_mut().flush().map_err(io)?;
    file.as_file().sync_all().map_err(io)?;
    file.persist(path).map_err(|error| io(error.error))?;
    Ok(())
}

/// The model's tensors under their GGUF names, `[out, in]`.
fn tensors(model: &Transformer) -> candle_core::Result<Vec<(String, QTensor)>> {
    let config = model.config();
    let weights = model.weights();
    let mut tensors = Vec::new();
    let mut push = |name: String, tensor: &Tensor| {
        let eight_bits = tensor.rank() == 2 && tensor.dim(1)? % 32 == 0;
        let kind = if eight_bits {
            GgmlDType::Q8_0
        } else {
            GgmlDType::F32
        };
        tensors.push((name, QTensor::quantize(&tensor.contiguous()?, kind)?));
        candle_core::Result::Ok(())
    };
    push("token_embd.weight".to_owned(), &weights.embedding)?;
    for (i, block) in weights.blocks.iter().enumerate() {
        let named = |part: &str| format!("blk.{i}.{part}.weight");
        let keys = config.kv_heads * (config.dim / config.heads);
        let qkv = block.qkv.t()?;
        let gate_up = block.gate_up.t()?;
        push(named("attn_norm"), &block.attention_norm)?;
        push(named("attn_q"), &qkv.narrow(0, 0, config.dim)?)?;
        push(named("attn_k"), &qkv.narrow(0, config.dim, keys)?)?;
        push(named("attn_v"), &qkv.narrow(0, config.dim + keys, keys)?)?;
        push(named("attn_output"), &block.attention_out.t()?)?;
        push(named("ffn_norm"), &block.feed_norm)?;
        push(named("ffn_gate"), &gate_up.narrow(0, 0, config.hidden)?)?;
        push(
            named("ffn_up"),
            &gate_up.narrow(0, config.hidden, config.hidden)?,
        )?;
        push(named("ffn_down"), &block.down.t()?)?;
    }
    push("output_norm.weight".to_owned(), &weights.norm)?;
    if let Some(head) = &weights.head {
        push("output.weight".to_owned(), head)?;
    }
    Ok(tensors)
}

/// The model's shape and its tokenizer as GGUF metadata.
fn metadata(
    name: &str,
    config: &TransformerConfig,
    tokenizer: &Tokenizer,
) -> candle_core::Result<Vec<(String, Value)>> {
    let text = |text: &str| Value::String(text.to_owned());
    let size = |size: usize| Value::U32(size as u32);
    let mut metadata = vec![
        ("general.architecture".to_owned(), text(ARCHITECTURE)),
        ("general.name".to_owned(), text(name)),
    ];
    let mut put = |key: &str, value| metadata.push((format!("{ARCHITECTURE}.{key}"), value));
    put("vocab_size", size(config.vocab));
    put("context_length", size(config.context));
    put("embedding_length", size(config.dim));
    put("block_count", size(config.layers));
    put("feed_forward_length", size(config.hidden));
    put("rope.dimension_count", size(config.dim / config.heads));
    put("rope.freq_base", Value::F32(config.rope_base));
    put("attention.head_count", size(config.heads));
    put("attention.head_count_kv", size(config.kv_heads));
    put(
        "attention.layer_norm_rms_epsilon",
        Value::F32(config.epsilon),
    );
    let merges = merges(tokenizer)?;
    let special = tokenizer.get_added_tokens_decoder();
    let ids = 0..config.vocab as u32;
    let tokens = ids
        .clone()
        .map(|id| text(&tokenizer.id_to_token(id).unwrap_or_default()));
    // 1 is a normal token, 3 a control token.
    let kinds = ids.map(|id| Value::I32(if special.contains_key(&id) { 3 } else { 1 }));
    let mut put = |key: &str, value| metadata.push((format!("tokenizer.ggml.{key}"), value));
    put("model", text("gpt2"));
    put("pre", text("gpt-2"));
    put("tokens", Value::Array(tokens.collect()));
    put("token_type", Value::Array(kinds.collect()));
    put(
        "merges",
        Value::Array(merges.iter().map(|merge| text(merge)).collect()),
    );
    put("bos_token_id", Value::U32(0));
    put("eos_token_id", Value::U32(0));
    put("add_bos_token", Value::Bool(false));
    Ok(metadata)
}

/// The merges of a BPE tokenizer in their order, each `"left right"`.
fn merges(tokenizer: &Tokenizer) -> candle_core::Result<Vec<String>> {
    let json = serde_json::to_value(tokenizer).map_err(candle_core::Error::wrap)?;
    let merge = |merge: &serde_json::Value| match merge {
        serde_json::Value::String(pair) => Some(pair.clone()),
        serde_json::Value::Array(pair) => match pair.as_slice() {
            [left, right] => Some(format!("{} {}", left.as_str()?, right.as_str()?)),
            _ => None,
        },
        _ => None,
    };
    let merges = json["model"]["merges"].as_array();
    match merges.and_then(|merges| merges.iter().map(merge).collect()) {
        Some(merges) => Ok(merges),
        None => candle_core::bail!("only byte-level BPE tokenizers can be written"),
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
}
