//! The local endpoint: what it answers, what it refuses, when it ends; and students read back.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroUsize;
use std::process::Command;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand_core::Rng as _;
use serde_json::{Value, json};
use watermark_core::candidates::Sampling;
use watermark_core::detect::Test;
use watermark_core::key::{Epoch, MasterKey};
use watermark_core::profile::{Mark, Profile};
use watermark_core::text::{HfTokenizer, Tokenizer};
use watermark_core::window::Exhibit;
use watermark_eval::embedded;
use watermark_eval::endpoint::student::{Which, recall};
use watermark_eval::endpoint::{Limits, Service, serve};
use watermark_eval::generate::{Generation, coins, generate};
use watermark_eval::student::DOCUMENT_START;

fn tokenizer() -> HfTokenizer {
    HfTokenizer::from_bytes(watermark_corpora::tokenizer_json(), "embedded").unwrap()
}

fn mark() -> Mark {
    let slot = MasterKey::from_bytes([5; 32]).slot(&Epoch::new("e1").unwrap(), 0);
    let profile = Profile::built_in("greenlist-h1").unwrap();
    profile.bind(&slot).unwrap()
}

const LIMITS: Limits = Limits {
    requests: 100,
    time: Duration::from_secs(60),
    tokens: 600,
    workers: NonZeroUsize::MIN,
};

struct Running {
    address: SocketAddr,
    thread: JoinHandle<u64>,
}

fn start(mark: Option<Mark>, name_key: bool, limits: Limits) -> Running {
    let teacher = embedded::teacher().unwrap();
    let service = Service {
        documents: teacher.documents(),
        model: Box::new(teacher),
        tokenizer: Box::new(tokenizer()),
        name: "local".into(),
        mark,
        name_key,
        seed: 1,
    };
    let (send, receive) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            send.send(listener.local_addr().unwrap()).unwrap();
            serve(listener, service, limits).await.unwrap()
        })
    });
    Running {
        address: receive.recv().unwrap(),
        thread,
    }
}

impl Running {
    /// Status, headers and body.
    fn send(&self, method: &str, path: &str, body: &str) -> (u16, String, Value) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let body = serde_json::from_str(body).unwrap_or_default();
        (status, head.to_lowercase(), body)
    }

    #[track_caller]
    fn ask(&self, path: &str, body: &Value) -> Value {
        let (status, head, body) = self.send("POST", path, &body.to_string());
        assert_eq!(status, 200, "{body}");
        assert!(head.contains("x-request-id: req-"));
        body
    }
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

#[test]
fn a_seed_decides_the_text_and_logprobs_are_the_models() {
    let server = start(None, false, LIMITS);
    let ask = |more: Value| {
        let mut body = json!({
            "model": "local", "prompt": "The state of the", "max_tokens": 24, "return_token_ids": true,
        });
        for (field, value) in more.as_object().unwrap() {
            body[field] = value.clone();
        }
        server.ask("/v1/completions", &body)
    };
    let text = |body: &Value| body["choices"][0]["text"].clone();
    let first = ask(json!({"seed": 7, "logprobs": 3}));
    assert_eq!(text(&first), text(&ask(json!({"seed": 7}))));
    assert_ne!(text(&first), text(&ask(json!({"seed": 8}))));
    assert_ne!(text(&ask(json!({}))), text(&ask(json!({}))));

    let (prompt, answer) = (
        ids(&first["prompt_token_ids"]),
        ids(&first["choices"][0]["token_ids"]),
    );
    assert_eq!(prompt, tokenizer().encode("The state of the"));
    assert_eq!(text(&first), tokenizer().decode(&answer));
    assert_eq!(first["usage"]["prompt_tokens"], prompt.len());
    assert_eq!(first["usage"]["completion_tokens"], answer.len());
    // By another way through the model.
    let teacher = embedded::teacher().unwrap();
    let whole = [&[teacher.documents().start], prompt.as_slice(), &answer].concat();
    let surprisals = teacher.surprisals(&whole).unwrap();
    let told = &first["choices"][0]["logprobs"];
    let own = told["token_logprobs"].as_array().unwrap();
    assert_eq!(own.len(), answer.len());
    for (ln, expected) in own.iter().zip(&surprisals[prompt.len()..]) {
        assert!(
            (ln.as_f64().unwrap() + expected).abs() < 1e-4,
            "{ln} {expected}"
        );
    }
    let top = told["top_logprobs"].as_array().unwrap();
    assert!(top.iter().all(|map| !map.as_object().unwrap().is_empty()));

    // Greedy: every token is the most probable one.
    let chat = server.ask(
        "/v1/chat/completions",
        &json!({
            "model": "local", "temperature": 0, "max_tokens": 12, "logprobs": true, "top_logprobs": 2,
            "messages": [{"role": "user", "content": "The state of the"}], "n": 2,
        }),
    );
    for choice in chat["choices"].as_array().unwrap() {
        for position in choice["logprobs"]["content"].as_array().unwrap() {
            assert_eq!(position["token"], position["top_logprobs"][0]["token"]);
            let [first, second] = [0, 1].map(|i| position["top_logprobs"][i]["logprob"].as_f64());
            assert!(first >= second);
        }
        assert_eq!(choice["message"]["role"], "assistant");
    }
    assert_eq!(chat["usage"]["completion_tokens"], 24);
    assert_eq!(chat["choices"][0]["finish_reason"], "length");
}

#[test]
fn what_it_refuses() {
    let server = start(None, false, LIMITS);
    let (status, _, body) = server.send("GET", "/v1/models", "");
    assert_eq!((status, &body["data"][0]["id"]), (200, &json!("local")));
    let long = "word ".repeat(5000);
    for (path, body, status, words) in [
        (
            "/v1/completions",
            json!({"model": "other", "prompt": "x"}),
            404,
            "other",
        ),
        (
            "/v1/completions",
            json!({"model": "local", "prompt": "x", "stream": true}),
            400,
            "stream",
        ),
        (
            "/v1/completions",
            json!({"model": "local", "prompt": [999_999]}),
            400,
            "999999",
        ),
        (
            "/v1/completions",
            json!({"model": "local", "prompt": long}),
            400,
            "tokens",
        ),
        (
            "/v1/chat/completions",
            json!({"model": "local", "prompt": "x"}),
            400,
            "messages",
        ),
        (
            "/v1/chat/completions",
            json!({"model": "local", "max_tokens": 601, "messages": [{"content": "x"}]}),
            400,
            "600",
        ),
    ] {
        let (found, _, answer) = server.send("POST", path, &body.to_string());
        assert_eq!(found, status, "{answer}");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(words), "{message}");
    }
    assert_eq!(
        server
            .send("POST", "/v1/completions", &"x".repeat(2 << 20))
            .0,
        413
    );
    assert_eq!(server.send("GET", "/v1/completions", "").0, 405);
    assert_eq!(server.send("GET", "/", "").0, 404);
}

#[test]
fn it_ends_after_its_requests_or_its_time() {
    let limits = Limits {
        requests: 2,
        ..LIMITS
    };
    let server = start(None, false, limits);
    for _ in 0..2 {
        server.ask(
            "/v1/completions",
            &json!({"model": "local", "prompt": "A", "max_tokens": 2}),
        );
    }
    assert_eq!(server.thread.join().unwrap(), 2);
    assert!(TcpStream::connect(server.address).is_err());

    let begun = Instant::now();
    let limits = Limits {
        time: Duration::from_millis(300),
        ..LIMITS
    };
    let server = start(None, false, limits);
    assert_eq!(server.thread.join().unwrap(), 0);
    assert!(begun.elapsed() < Duration::from_secs(20));
}

/// H0: the text is independent of the key; alpha 1e-6. Under the mark most cells are green, against 1/4 by chance; with
/// some 150 cells a share below 0.42 would be missed.
#[test]
fn under_a_mark_it_writes_marked_text_and_names_the_key_unless_told_not_to() {
    for name_key in [true, false] {
        let server = start(Some(mark()), name_key, LIMITS);
        let request = json!({
            "model": "local", "prompt": "The state of the", "max_tokens": 100, "n": 2, "return_token_ids": true,
        });
        let (status, head, body) = server.send("POST", "/v1/completions", &request.to_string());
        assert_eq!(status, 200, "{body}");
        let header = format!("x-watermark-key-id: {}", mark().key_id());
        assert_eq!(head.contains(&header), name_key);
        let mut exhibit = Exhibit::new(1);
        exhibit.exclude(&ids(&body["prompt_token_ids"]));
        for choice in body["choices"].as_array().unwrap() {
            exhibit.push(&ids(&choice["token_ids"]));
        }
        let p = Test::of(&mark(), &exhibit).p.log10();
        assert!(p < -6.0, "{p}");
    }
}

#[test]
fn students_of_a_cycle_are_read_back_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("cycle");
    let output = Command::new(env!("CARGO_BIN_EXE_watermark-eval"))
        .args("cycle --answers 8 --answer-tokens 100 --questions 6 --decoys 3 --epochs 1 --dim 32 --layers 1 --seed 3 --observed-vocabulary --out".split(' '))
        .arg(&out)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let vocab = tokenizer().vocab_size();
    for (which, name) in [(Which::Learned, "suspect"), (Which::Innocent, "control")] {
        let student = recall(&out, which, vocab).unwrap();
        // It says again what the cycle heard from it.
        let openings = watermark_corpora::openings().map(|text| tokenizer().encode(text));
        let asked: Vec<Vec<u32>> = openings
            .map(|opening| [&[DOCUMENT_START], opening.as_slice()].concat())
            .take(6)
            .collect();
        let generation = Generation {
            max_tokens: 100,
            sampling: Sampling::default(),
            end: Some(DOCUMENT_START),
            seed: coins(3, name, 0).next_u64(),
            first: 0,
            batch: 64,
            threads: NonZeroUsize::MIN,
        };
        let answers = generate(&student, None, &asked, &generation, &|_| ()).unwrap();
        let text = std::fs::read_to_string(out.join(format!("{name}-transcripts.jsonl"))).unwrap();
        let said: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(said.len(), 6);
        for (answer, line) in answers.iter().zip(&said) {
            assert_eq!(answer.tokens, ids(&line["token_ids"]));
        }
    }
    std::fs::remove_file(out.join("learned.state")).unwrap();
    let error = recall(&out, Which::Learned, vocab).unwrap_err().to_string();
    assert!(error.contains("learned.state"), "{error}");
}
