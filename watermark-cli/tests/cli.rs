//! Bad input: every case has its message, its exit code, and leaves nothing behind.

use std::path::PathBuf;
use std::process::{Command, Output};

#[path = "schemas/conform.rs"]
mod conform;
#[path = "cli/distill.rs"]
mod distill;
#[path = "cli/dry.rs"]
mod dry;
#[path = "cli/engine.rs"]
mod engine;
#[path = "cli/keys.rs"]
mod keys;
#[path = "cli/manners.rs"]
mod manners;
#[path = "cli/plan.rs"]
mod plan;
#[path = "cli/plan_seal.rs"]
mod plan_seal;
#[path = "cli/preflight.rs"]
mod preflight;
#[path = "cli/report.rs"]
mod report;
#[path = "cli/schema.rs"]
mod schema;

struct Bench(tempfile::TempDir);

impl Bench {
    /// A directory with a master key, a slot key and a text.
    fn new() -> Self {
        let bench = Self(tempfile::tempdir().unwrap());
        assert!(bench.run("key new --out m.key").status.success());
        assert!(
            bench
                .run("key slot --key-file m.key --slot 3 --out s.key")
                .status
                .success()
        );
        bench.write(
            "text.txt",
            "The state of the union is that of a union of states.".as_bytes(),
        );
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    /// Runs a command; what stands between two `'` is one argument.
    fn run(&self, arguments: &str) -> Output {
        self.command(arguments, "").output().unwrap()
    }

    /// With the configuration file `config.toml`.
    fn with_config(&self, arguments: &str) -> Output {
        self.command(arguments, "config.toml").output().unwrap()
    }

    /// Whoever runs the tests may have a configuration of their own.
    fn command(&self, arguments: &str, config: &str) -> Command {
        let words = arguments
            .split('\'')
            .enumerate()
            .flat_map(|(place, part)| match place % 2 {
                0 => part.split_whitespace().collect::<Vec<_>>(),
                _ => vec![part],
            });
        let mut command = Command::new(env!("CARGO_BIN_EXE_watermark"));
        command
            .current_dir(self.0.path())
            .env("WATERMARK_CONFIG", config)
            .args(words);
        command
    }

    /// Runs a command that must fail with `code` and say all of `words`.
    #[track_caller]
    fn refuses(&self, arguments: &str, code: i32, words: &[&str]) {
        let output = self.run(arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments}: {error}");
        for word in words {
            assert!(
                error.contains(word),
                "{arguments}: `{error}` lacks `{word}`"
            );
        }
        assert!(!error.contains("panicked"), "{error}");
    }
}

#[test]
fn texts() {
    let bench = Bench::new();
    let detect = |file: &str| format!("detect --key-file m.key {file}");
    bench.refuses(&detect("none.txt"), 1, &["none.txt"]);
    bench.write("binary.txt", b"ab\0c");
    bench.refuses(&detect("binary.txt"), 4, &["binary", "byte 2"]);
    bench.write("latin.txt", b"caf\xe9");
    bench.refuses(&detect("latin.txt"), 4, &["UTF-8", "byte 3"]);
    std::fs::File::create(bench.path("huge.txt"))
        .unwrap()
        .set_len((1 << 30) + 1)
        .unwrap();
    bench.refuses(&detect("huge.txt"), 4, &["huge.txt", "split"]);
    std::fs::create_dir(bench.path("empty")).unwrap();
    bench.refuses(&detect("empty"), 4, &["no .txt or .jsonl or .parquet"]);
    for (content, words) in [
        (
            "{\"text\":\"a\"}\n{\"colour\":\"red\"}",
            ["line 2", "no known text field"],
        ),
        ("{\"text\":\"a\"}\n\n{\"text\":", ["line 3", "cut off"]),
        ("[1]", ["line 1", "not a JSON object"]),
        ("{\"token_ids\":[1,4096]}", ["line 1", "4096"]),
        ("{\"token_ids\":[-1]}", ["line 1", "-1"]),
        ("{\"text\":7}", ["line 1", "`text`"]),
        ("{\"text\":\"a\",\"prompt\":7}", ["line 1", "`prompt`"]),
        (
            "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}",
            ["line 1", "`messages`"],
        ),
        (
            "{\"token_ids\":[1,2],\"session\":{\"segments\":[0,3]}}",
            ["line 1", "`session.segments`"],
        ),
        (
            "{\"custom_id\":\"a\",\"response\":{\"status_code\":200,\"body\":{\"data\":[]}}}",
            ["line 1", "`response.body.choices`"],
        ),
        (
            "{\"custom_id\":7,\"response\":{\"status_code\":200,\"body\":{\"choices\":[]}}}",
            ["line 1", "`custom_id`"],
        ),
        (
            "{\"choices\":[{\"message\":{\"content\":7}}]}",
            ["line 1", "`choices[0].message.content`"],
        ),
        (
            "{\"doc_id\":0,\"arguments\":[[\"Q\",\" yes\"]],\"resps\":[[[\"-1.0\",\"False\"]]]}",
            ["line 1", "generate_until"],
        ),
    ] {
        bench.write("bad.jsonl", content.as_bytes());
        bench.refuses(&detect("bad.jsonl"), 4, &words);
    }
}

#[test]
fn profiles_and_tokenizers() {
    let bench = Bench::new();
    let detect = |profile: &str| format!("detect --key-file m.key --profile {profile} text.txt");
    bench.refuses(&detect("nothing"), 2, &["nothing", "greenlist-h1"]);
    let profile = |scheme: &str, rest: &str| {
        let head = r#"{"schema":"watermark.profile/1","id":"x","scheme":"#;
        bench.write("p.json", format!("{head}{scheme}{rest}}}").as_bytes());
    };
    for (gamma, delta, field) in [
        ("0", "2", "gamma"),
        ("1", "2", "gamma"),
        ("0.5", "-1", "delta"),
    ] {
        let scheme =
            format!(r#"{{"type":"greenlist","context_width":1,"gamma":{gamma},"delta":{delta}}}"#);
        profile(&scheme, "");
        bench.refuses(&detect("p.json"), 4, &["p.json", field]);
    }
    let digest = "00".repeat(32);
    profile(
        r#"{"type":"gumbel","context_width":2}"#,
        &format!(r#","vocabulary":{{"size":9,"sha256":"{digest}"}}"#),
    );
    bench.refuses(&detect("p.json"), 4, &["not the profile's", "4096 ids"]);
    bench.write("t.json", b"{}");
    bench.refuses(
        "detect --key-file m.key --tokenizer t.json text.txt",
        4,
        &["t.json"],
    );
    bench.refuses(
        "detect --key-file m.key --tokenizer no.json text.txt",
        1,
        &["no.json"],
    );
}

#[test]
fn models_and_sampling() {
    let bench = Bench::new();
    let generate = "generate --key-file m.key --out out.jsonl";
    bench.refuses(
        &format!("{generate} --temperature -1"),
        2,
        &["temperature", "-1"],
    );
    bench.refuses(&format!("{generate} --top-p 0"), 2, &["top-p"]);
    bench.refuses(&format!("{generate} --model none.gguf"), 1, &["none.gguf"]);
    bench.write("text.gguf", b"this is no model");
    bench.refuses(&format!("{generate} --model text.gguf"), 4, &["text.gguf"]);
    // A valid head with another architecture.
    let mut gguf = b"GGUF".to_vec();
    gguf.extend(3u32.to_le_bytes());
    gguf.extend(0u64.to_le_bytes());
    gguf.extend(1u64.to_le_bytes());
    for text in ["general.architecture", "mamba"] {
        gguf.extend((text.len() as u64).to_le_bytes());
        gguf.extend(text.as_bytes());
        if text.starts_with("general") {
            gguf.extend(8u32.to_le_bytes());
        }
    }
    bench.write("mamba.gguf", &gguf);
    bench.refuses(
        &format!("{generate} --model mamba.gguf"),
        4,
        &["mamba.gguf", "mamba"],
    );
    gguf.truncate(30);
    bench.write("cut.gguf", &gguf);
    bench.refuses(&format!("{generate} --model cut.gguf"), 4, &["cut.gguf"]);
    bench.write("prompts.jsonl", b"{\"question\":\"why\"}");
    bench.refuses(
        &format!("{generate} --prompts prompts.jsonl"),
        4,
        &["line 1", "prompt"],
    );
    assert!(!bench.path("out.jsonl").exists());
}

#[test]
fn distillation() {
    let bench = Bench::new();
    bench.refuses(
        "distill --key-file s.key text.txt",
        2,
        &["master key", "--decoys 0"],
    );
    bench.refuses(
        "distill --key-file m.key --decoys 5000 text.txt",
        2,
        &["4063"],
    );
    bench.refuses("distill --key-file m.key --alpha 1 text.txt", 2, &["alpha"]);
    let output = bench.run("distill --key-file s.key --decoys 0 --format json text.txt");
    assert!(output.status.success());
}

#[test]
fn too_little_text_is_insufficient_evidence() {
    let bench = Bench::new();
    bench.write("empty.txt", b"");
    for (file, command) in [
        ("empty.txt", "detect"),
        ("text.txt", "detect"),
        ("empty.txt", "distill --decoys 3"),
    ] {
        let output = bench.run(&format!("{command} --key-file m.key --exit-verdict {file}"));
        assert_eq!(output.status.code(), Some(12));
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("insufficient evidence"), "{text}");
        let plain = bench.run(&format!("{command} --key-file m.key {file}"));
        assert_eq!(plain.status.code(), Some(0));
    }
}

#[test]
fn directories_and_standard_input_are_read() {
    use std::io::Write;
    let bench = Bench::new();
    std::fs::create_dir(bench.path("d")).unwrap();
    bench.write("d/b.txt", b"one two three");
    bench.write(
        "d/a.jsonl",
        b"{\"text\":\"four five\"}\n{\"output\":\"six\"}\n",
    );
    let output = bench.run("detect --key-file m.key --format jsonl d");
    let text = String::from_utf8(output.stdout).unwrap();
    let inputs: Vec<String> = text
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["input"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(
        inputs,
        ["d/a.jsonl:1", "d/a.jsonl:2", "d/b.txt", "all inputs"]
    );
    let mut child = Command::new(env!("CARGO_BIN_EXE_watermark"))
        .current_dir(bench.0.path())
        .args(["detect", "--key-file", "m.key", "--input", "jsonl", "-"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"{\"response\":\"a b c\"}\n")
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8(output.stdout).unwrap().contains("-:1"));
}

/// Answers of a batch: one with a request, one that failed, one without a request.
const RESPONSES: &str = r#"{"id":"1","custom_id":"a","response":{"status_code":200,"body":{"choices":[{"message":{"role":"assistant","content":"one two three four five"}}]}},"error":null}
{"id":"2","custom_id":"b","response":{"status_code":429,"body":{}},"error":null}
{"id":"3","custom_id":"c","response":{"status_code":200,"body":{"choices":[{"text":"six seven eight nine"}]}},"error":null}
"#;

#[test]
fn batches_are_joined_with_their_requests() {
    let bench = Bench::new();
    bench.write("out.jsonl", RESPONSES.as_bytes());
    let run = |arguments: &str| {
        let output = bench.run(&format!(
            "detect --key-file m.key --format json {arguments}"
        ));
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{error}");
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        (report, error)
    };
    let (report, error) = run("out.jsonl");
    for words in [
        "1 failed requests skipped",
        "out.jsonl:2",
        "429",
        "2 answers come without",
    ] {
        assert!(error.contains(words), "`{error}` lacks `{words}`");
    }
    let read = serde_json::json!({"answers": 2, "answersFromIds": 0, "answersFromText": 2,
        "skipped": 1, "repeated": 0});
    assert_eq!(report["read"], read);
    assert_eq!(report["inputs"][1]["source"], "custom_id:c");
    assert_eq!(report["all"]["counts"]["excluded"], 0);

    // The prompt of the first says the same as its answer, so that none of it counts.
    let request = |id: &str, text: &str| {
        format!(
            "{{\"custom_id\":\"{id}\",\"method\":\"POST\",\"url\":\"/v1/chat/completions\",\"body\":{{\"messages\":[{{\"role\":\"user\",\"content\":\"{text}\"}}]}}}}\n"
        )
    };
    let echoed = request("a", "one two three four five");
    bench.write(
        "requests",
        [echoed.as_str(), &request("c", "say")].concat().as_bytes(),
    );
    let (report, error) = run("out.jsonl --requests requests");
    assert!(!error.contains("without"), "{error}");
    let first = &report["inputs"][0]["counts"];
    assert_eq!(first["cells"], 0);
    assert!(first["excluded"].as_u64().unwrap() > 0);
    assert!(report["inputs"][1]["counts"]["cells"].as_u64().unwrap() > 0);

    bench.write("requests", echoed.as_bytes());
    bench.refuses(
        "detect --key-file m.key out.jsonl --requests requests",
        4,
        &["out.jsonl:3", "custom_id `c`"],
    );
    bench.write(
        "requests",
        (echoed.clone() + &request("a", "other")).as_bytes(),
    );
    bench.refuses(
        "detect --key-file m.key out.jsonl --requests requests",
        4,
        &["requests, line 2", "two requests", "`a`"],
    );
    bench.write("requests", b"{\"text\":\"a\"}");
    bench.refuses(
        "detect --key-file m.key out.jsonl --requests requests",
        4,
        &["requests, line 1", "`body`"],
    );
}

#[test]
fn tables_of_other_writers_are_read() {
    let bench = Bench::new();
    let table = include_bytes!("data/answers.parquet");
    std::fs::create_dir(bench.path("d")).unwrap();
    bench.write("d/answers.parquet", table);
    let output = bench.run("explain --key-file m.key --format jsonl d/answers.parquet");
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{error}");
    let ids: Vec<Vec<u64>> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let tokens = line["tokens"].as_array().unwrap().iter();
            tokens.map(|token| token["id"].as_u64().unwrap()).collect()
        })
        .collect();
    assert_eq!(ids[0], [5, 6, 7]);
    assert_eq!(ids[1], [1000, 1001]);
    // Messages: a text, tokenised.
    assert!(!ids[2].is_empty());
    let output = bench.run("detect --key-file m.key --format json d");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["read"]["answersFromIds"], 2);
    assert_eq!(report["inputs"][0]["input"], "d/answers.parquet:1");

    let detect = "detect --key-file m.key";
    bench.write("cut.parquet", &table[..table.len() - 9]);
    bench.refuses(
        &format!("{detect} cut.parquet"),
        4,
        &["cut.parquet", "cut off"],
    );
    bench.write("text.parquet", b"not a table");
    bench.refuses(
        &format!("{detect} text.parquet"),
        4,
        &["text.parquet", "not a Parquet file"],
    );
    bench.refuses(&format!("{detect} none.parquet"), 1, &["none.parquet"]);
    bench.refuses(
        &format!("{detect} --input parquet -"),
        4,
        &["standard input"],
    );
    let other = include_bytes!("data/other.parquet");
    bench.write("other.parquet", other);
    bench.refuses(
        &format!("{detect} other.parquet"),
        4,
        &["no known column", "colour"],
    );
    let wrong = include_bytes!("data/wrong.parquet");
    bench.write("wrong.parquet", wrong);
    bench.refuses(
        &format!("{detect} wrong.parquet"),
        4,
        &["row 2", "token_ids", "4096"],
    );
}

#[test]
fn a_model_without_a_usable_tokenizer_takes_another_file() {
    let bench = Bench::new();
    let mut gguf = watermark_corpora::teacher().to_vec();
    let key = b"tokenizer.ggml.model";
    let at = gguf.windows(key.len()).position(|window| window == key);
    // Behind the key: a type and a length, then the text.
    let text = at.unwrap() + key.len() + 12;
    assert_eq!(&gguf[text..text + 4], b"gpt2");
    gguf[text..text + 4].copy_from_slice(b"none");
    bench.write("m.gguf", &gguf);
    bench.write("t.json", watermark_corpora::tokenizer_json());
    let generate = "generate --key-file m.key --model m.gguf --count 2 --max-tokens 4";
    bench.refuses(
        &format!("{generate} --out out.jsonl"),
        4,
        &["m.gguf", "`none`", "--tokenizer"],
    );
    let other = bench.run(&format!("{generate} --tokenizer t.json"));
    let embedded = bench.run("generate --key-file m.key --count 2 --max-tokens 4");
    assert!(other.status.success() && embedded.status.success());
    assert_eq!(
        String::from_utf8(other.stdout).unwrap(),
        String::from_utf8(embedded.stdout).unwrap()
    );
}
