//! Models to GGUF files.

use std::io::Write;
use std::path::Path;

use candle_core::Tensor;
use candle_core::quantized::gguf_file::Value;
use candle_core::quantized::{GgmlDType, QTensor};
use tokenizers::Tokenizer;

use super::super::transformer::InnerNorms;
use super::super::{Architecture, DocumentTokens, Transformer, worker};
use super::{GgufError, Pairs, reordered};

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
    let metadata = metadata(name, model, tokenizer).map_err(encode)?;
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
        let shape = config.attention();
        let queries = shape.heads * shape.head_dim;
        let keys = shape.kv_heads * shape.head_dim;
        let turned = |tensor: &Tensor| match config.architecture {
            Architecture::Llama => Ok(tensor.clone()),
            Architecture::Gemma3(_) => reordered(tensor, shape.head_dim, Pairs::HalfApart),
        };
        let qkv = block.qkv.t()?;
        let gate_up = block.gate_up.t()?;
        push(named("attn_norm"), &block.attention_norm)?;
        push(named("attn_q"), &turned(&qkv.narrow(0, 0, queries)?)?)?;
        push(named("attn_k"), &turned(&qkv.narrow(0, queries, keys)?)?)?;
        push(named("attn_v"), &qkv.narrow(0, queries + keys, keys)?)?;
        if let Some(norms) = &block.inner_norms {
            let InnerNorms {
                query,
                key,
                attention_result,
                feed_result,
            } = norms;
            push(named("attn_q_norm"), &turned(query)?)?;
            push(named("attn_k_norm"), &turned(key)?)?;
            push(named("post_attention_norm"), attention_result)?;
            push(named("post_ffw_norm"), feed_result)?;
        }
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
    model: &Transformer,
    tokenizer: &Tokenizer,
) -> candle_core::Result<Vec<(String, Value)>> {
    let config = model.config();
    let architecture = config.architecture.name();
    let head_dim = config.attention().head_dim;
    let text = |text: &str| Value::String(text.to_owned());
    let size = |size: usize| Value::U32(size as u32);
    let mut metadata = vec![
        ("general.architecture".to_owned(), text(architecture)),
        ("general.name".to_owned(), text(name)),
    ];
    let mut put = |key: &str, value| metadata.push((format!("{architecture}.{key}"), value));
    put("vocab_size", size(config.vocab));
    put("context_length", size(config.context));
    put("embedding_length", size(config.dim));
    put("block_count", size(config.layers));
    put("feed_forward_length", size(config.hidden));
    put("rope.dimension_count", size(head_dim));
    put("rope.freq_base", Value::F32(config.rope_base));
    put("attention.head_count", size(config.heads));
    put("attention.head_count_kv", size(config.kv_heads));
    put(
        "attention.layer_norm_rms_epsilon",
        Value::F32(config.epsilon),
    );
    if let Architecture::Gemma3(gemma) = &config.architecture {
        put("attention.key_length", size(head_dim));
        put("attention.value_length", size(head_dim));
        put("attention.sliding_window", size(gemma.window));
        put("attention.sliding_window_pattern", size(gemma.global_every));
        put("rope.freq_base_swa", Value::F32(gemma.local_rope_base));
    }
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
    let documents = model.documents();
    put("bos_token_id", Value::U32(documents.start));
    put("eos_token_id", Value::U32(documents.end));
    // Token 0 on both sides is the `<|endoftext|>` of the models that are trained here.
    let told = documents != DocumentTokens::default();
    put("add_bos_token", Value::Bool(told));
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
