use super::*;
use watermark_core::text::HfTokenizer;

/// The embedded tokenizer, byte-level BPE of 4096 ids.
fn tokenizer() -> HfTokenizer {
    HfTokenizer::from_bytes(watermark_corpora::tokenizer_json(), "embedded").unwrap()
}

fn read_lines(lines: &str) -> Result<LogProbs, String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), lines).unwrap();
    read(file.path(), &tokenizer()).map_err(|error| error.to_string())
}

fn one(line: &Value) -> ScoredText {
    let mut found = read_lines(&line.to_string()).unwrap();
    assert_eq!(found.texts.len(), 1);
    assert_eq!((found.dropped, found.unknown, found.skipped), (0, 0, 0));
    found.texts.remove(0).1
}

/// (at, token, ids) of every position.
fn shape(text: &ScoredText) -> Vec<(usize, u32, Vec<u32>)> {
    let ids = |top: &[(u32, f32)]| top.iter().map(|&(id, _)| id).collect();
    text.positions()
        .map(|position| (position.at, position.token, ids(position.top)))
        .collect()
}

#[test]
fn our_own_form_is_read_as_it_is_written() {
    let lists = [vec![(7, 0.5), (3, 0.25)], vec![], vec![(4095, 1e-30)]];
    let text = ScoredText::new(4096, vec![1, 2, 3, 4, 5], 2, lists).unwrap();
    let line: Value = serde_json::from_str(&text.to_line()).unwrap();
    let read = one(&line);
    assert_eq!(shape(&read), shape(&text));
    assert_eq!((read.first(), read.tokens()), (2, text.tokens()));
    for (read, written) in read.positions().zip(text.positions()) {
        for (read, written) in read.top.iter().zip(written.top) {
            // A rounding of ln p to 24 bits is 2^-24 |ln p| <= 4.2e-6 of p at p = 1e-30.
            assert!(
                (read.1 / written.1 - 1.0).abs() < 1e-5,
                "{read:?} {written:?}"
            );
        }
    }
}

#[test]
fn prompt_log_probabilities_of_vllm_offline() {
    // vLLM 0.15, `RequestOutput` as a dictionary: `llm.generate(.., SamplingParams(
    // prompt_logprobs=1, logprobs=1))`. The prompt's own token is there beside the best one.
    let line = serde_json::json!({"request_id": "0", "prompt": "abc",
        "prompt_token_ids": [70, 71, 72],
        "prompt_logprobs": [null,
            {"71": {"logprob": -3.2, "rank": 9, "decoded_token": "b"},
             "90": {"logprob": -0.7, "rank": 1, "decoded_token": "u"}},
            {"72": {"logprob": -0.1, "rank": 1, "decoded_token": "c"}}],
        "outputs": [{"index": 0, "text": "d", "token_ids": [73], "cumulative_logprob": -0.4,
            "logprobs": [{"73": {"logprob": -0.4, "rank": 1, "decoded_token": "d"}}],
            "finish_reason": "length"}],
        "finished": true});
    let found = read_lines(&line.to_string()).unwrap();
    let [(name, prompt), (_, output)] = found.texts.as_slice() else {
        panic!("{found:?}");
    };
    assert!(name.ends_with(":1"), "{name}");
    assert_eq!(shape(prompt), [(1, 71, vec![71, 90]), (2, 72, vec![72])]);
    assert_eq!(output.tokens(), [70, 71, 72, 73]);
    assert_eq!(shape(output), [(3, 73, vec![73])]);
    let entry = prompt.positions().next().unwrap().probability(90).unwrap();
    assert!((entry - (-0.7_f32).exp()).abs() < 1e-6);
}

#[test]
fn prompt_log_probabilities_of_vllm_served_in_a_batch_or_not() {
    // vLLM 0.15, POST /v1/completions with prompt_logprobs 0 and return_token_ids.
    let maps =
        serde_json::json!([null, {"71": {"logprob": -3.2, "rank": 9, "decoded_token": "b"}}]);
    let text = serde_json::json!({"id": "cmpl-1", "object": "text_completion", "model": "m",
        "choices": [{"index": 0, "text": "", "logprobs": null, "finish_reason": "length",
            "token_ids": [5], "prompt_logprobs": maps, "prompt_token_ids": [70, 71]}]});
    // Chat: the prompt's fields stand beside the choices.
    let chat = serde_json::json!({"id": "chatcmpl-1", "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "x"},
            "logprobs": null, "token_ids": [5]}],
        "prompt_logprobs": maps, "prompt_token_ids": [70, 71]});
    let batch = serde_json::json!({"id": "vllm-1", "custom_id": "a", "error": null,
        "response": {"status_code": 200, "request_id": "r", "body": text}});
    for line in [text, chat, batch.clone()] {
        assert_eq!(shape(&one(&line)), [(1, 71, vec![71])]);
    }
    let mut failed = batch;
    failed["response"]["status_code"] = 500.into();
    assert_eq!(read_lines(&failed.to_string()).unwrap().skipped, 1);
}

#[test]
fn printed_tokens_of_chat_completions() {
    // OpenAI's chat completions with `logprobs` and `top_logprobs: 2`, the form of 2023 to 2026.
    let tokenizer = tokenizer();
    let id = |text: &str| tokenizer.encode(text)[0];
    let token = |text: &str, ln: f64| serde_json::json!({"token": text, "logprob": ln, "bytes": text.as_bytes()});
    let step = |own: &Value, top: &[Value]| {
        let mut step = own.clone();
        step["top_logprobs"] = top.into();
        step
    };
    let content = serde_json::json!([
        step(&token("a", -0.1), &[token("a", -0.1), token("zqxj", -3.0)]),
        step(&token("b", -4.0), &[token("c", -0.2)]),
        step(&token("zqxj", -1.0), &[token("a", -0.5)]),
        step(&token("token_id:9", -0.1), &[token("token_id:9", -0.1)]),
    ]);
    let line = serde_json::json!({"object": "chat.completion", "choices": [{"index": 0,
        "message": {"role": "assistant", "content": "ab"}, "logprobs": {"content": content}}]});
    let found = read_lines(&line.to_string()).unwrap();
    // The second of the first step, and all of the step whose own token is unknown.
    assert_eq!((found.dropped, found.unknown), (2, 1));
    let [(_, before), (_, after)] = found.texts.as_slice() else {
        panic!("{found:?}");
    };
    let mut both = vec![id("b"), id("c")];
    both.sort_unstable();
    assert_eq!(
        shape(before),
        [(0, id("a"), vec![id("a")]), (1, id("b"), both)]
    );
    assert_eq!(shape(after), [(0, 9, vec![9])]);
}

#[test]
fn printed_tokens_of_completions() {
    // OpenAI's completions with `echo` and `logprobs: 1`: the first token has no distribution.
    let tokenizer = tokenizer();
    let id = |text: &str| tokenizer.encode(text)[0];
    let line = serde_json::json!({"object": "text_completion", "choices": [{"index": 0,
        "text": "ab", "logprobs": {"tokens": ["a", "b"], "token_logprobs": [null, -1.5],
            "top_logprobs": [null, {"c": -0.5}], "text_offset": [0, 1]}}]});
    let text = one(&line);
    let mut both = vec![id("b"), id("c")];
    both.sort_unstable();
    assert_eq!(shape(&text), [(0, id("a"), vec![]), (1, id("b"), both)]);
}

#[test]
fn errors_name_line_field_and_position() {
    let own = |tokens: &str, lists: &str| {
        format!(
            r#"{{"type":"watermark.logprobs","schema":1,"token_ids":{tokens},"logprobs":{lists}}}"#
        )
    };
    for (line, words) in [
        (
            own("[1,2]", "[null,[[1,-0.1],[2,-0.1]]]"),
            vec!["`logprobs`", "position 1", "1.8"],
        ),
        (
            own("[1,2]", "[null,[[1,-0.1],[1,-9.0]]]"),
            vec!["position 1", "entry 1", "twice"],
        ),
        (
            own("[1,2]", "[null,[[4096,-0.1]]]"),
            vec!["position 1", "4096"],
        ),
        (
            own("[1,2]", "[null,[[1,\"x\"]]]"),
            vec!["`logprobs`", "position 1"],
        ),
        (
            own("[1,2,3]", "[null,[[1,-0.1]]]"),
            vec!["`logprobs`", "3 tokens"],
        ),
        (own("[1,5000]", "[null,[]]"), vec!["`token_ids`", "5000"]),
        (
            r#"{"text":"no numbers"}"#.to_owned(),
            vec!["no distributions"],
        ),
        (
            r#"{"choices":[{"prompt_logprobs":[null],"text":""}]}"#.to_owned(),
            vec!["choices[0].prompt_logprobs", "return_token_ids"],
        ),
        (
            r#"{"choices":[{"text":"a","logprobs":null}]}"#.to_owned(),
            vec!["`choices`", "ask the server"],
        ),
        (
            r#"{"choices":[{"logprobs":{"tokens":["a"],"top_logprobs":[]}}]}"#.to_owned(),
            vec!["choices[0].logprobs.top_logprobs", "0 entries"],
        ),
        (
            r#"{"choices":[{"logprobs":{"content":[{"token":"a"}]}}]}"#.to_owned(),
            vec!["choices[0].logprobs.content[0]", "`logprob`"],
        ),
        (
            // Python prints what JSON cannot hold.
            own("[1,2]", "[null,[[1,-Infinity]]]"),
            vec!["not JSON"],
        ),
    ] {
        let good = own("[1,2]", "[null,[[1,-0.1]]]");
        let error = read_lines(&format!("{good}\n{line}\n")).unwrap_err();
        for word in words.iter().chain(&["line 2"]) {
            assert!(error.contains(word), "`{error}` lacks `{word}`");
        }
    }
}
