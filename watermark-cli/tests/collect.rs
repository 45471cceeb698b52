//! `collect` against an endpoint that fails in every way, and against being killed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

#[path = "schemas/conform.rs"]
mod conform;
#[path = "collect/forms.rs"]
mod forms;
#[path = "collect/mock.rs"]
mod mock;
#[path = "collect/planned.rs"]
mod planned;
#[path = "collect/walk.rs"]
mod walk;

use mock::{Mock, Reply, answer, error, json_reply};

struct Bench(tempfile::TempDir);

impl Bench {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// `p.jsonl` with prompts `P0`, `P1`, ..., under the ids `p0`, `p1`, ...
    fn prompts(&self, count: usize) {
        let line = |i| format!("{{\"id\": \"p{i}\", \"prompt\": \"P{i}\"}}\n");
        self.write("p.jsonl", &(0..count).map(line).collect::<String>());
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_watermark"));
        command
            .current_dir(self.0.path())
            .args(arguments.split_whitespace());
        command
    }

    fn run(&self, arguments: &str) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command that ends with `code`; what it says on both channels.
    #[track_caller]
    fn ends(&self, arguments: &str, code: i32) -> (String, String) {
        let output = self.run(arguments);
        let out = String::from_utf8(output.stdout).unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            output.status.code(),
            Some(code),
            "{arguments}: {out}{error}"
        );
        assert!(!error.contains("panicked"), "{error}");
        (out, error)
    }

    #[track_caller]
    fn refuses(&self, arguments: &str, code: i32, words: &[&str]) {
        let (_, error) = self.ends(arguments, code);
        for word in words {
            assert!(
                error.contains(word),
                "{arguments}: `{error}` lacks `{word}`"
            );
        }
    }

    fn lines(&self, file: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path(file)).unwrap_or_default();
        let parse = |line| serde_json::from_str(line).unwrap();
        text.lines().map(parse).collect()
    }

    fn status(&self, dir: &str) -> Value {
        let (out, _) = self.ends(&format!("collect status {dir} --format json"), 0);
        let status = serde_json::from_str(&out).unwrap();
        conform::conforms_to_its_type(&status);
        status
    }
}

/// The arguments of a run over `p.jsonl`.
fn run(mock: &Mock, more: &str) -> String {
    format!(
        "collect run --out c --endpoint {} --model m --prompts p.jsonl --backoff 0.02 --format json {more}",
        mock.url()
    )
}

/// Ids of the lines with this outcome.
fn ids(lines: &[Value], outcome: &str) -> Vec<String> {
    let with = lines
        .iter()
        .filter(|line| line["x_wmk"]["outcome"] == outcome);
    with.map(|line| line["custom_id"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn every_failure_is_kept_and_asked_again() {
    let bench = Bench::new();
    bench.prompts(12);
    let mock = Mock::new(|asked| {
        let good = answer(&format!("To {} I say yes.", asked.prompt));
        let Reply::Full(_, _, body) = &good else {
            unreachable!()
        };
        let html = vec![("content-type", "text/html".to_owned())];
        match (asked.prompt.as_str(), asked.before) {
            ("P0", 0) => Reply::Full(429, vec![("retry-after", "1".into())], Vec::new()),
            ("P1", 0..=1) => error(429, "slow down"),
            ("P2", 0..=2) => error(500, "oops"),
            // Cut off inside the announced length, at the end of the connection, and as JSON of the right length.
            ("P3", 0) => {
                let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n";
                Reply::Bytes([head.as_bytes(), &body[..30]].concat())
            }
            ("P4", 0) => {
                let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n";
                Reply::Bytes([head.as_bytes(), &body[..30]].concat())
            }
            ("P5", 0) => json_reply(200, "{\"choices\": ["),
            ("P6", 0) => Reply::Full(200, html, body.clone()),
            ("P7", 0) => Reply::Stall(Duration::from_secs(3)),
            ("P8", 0) => Reply::Bytes(Vec::new()),
            ("P9", 0) => json_reply(200, "{\"error\": {\"message\": \"busy\"}}"),
            ("P10", 0) => Reply::Bytes(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n\xff\xfe".to_vec()),
            _ => good,
        }
    });
    let start = Instant::now();
    bench.ends(&run(&mock, "--timeout 1"), 0);
    assert!(start.elapsed() >= Duration::from_secs(1), "Retry-After");
    let lines = bench.lines("c/transcript.jsonl");
    let answered: HashSet<String> = ids(&lines, "answered").into_iter().collect();
    assert_eq!(answered.len(), 12);
    assert_eq!(ids(&lines, "answered").len(), 12);
    let mut codes: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in &lines {
        if line["x_wmk"]["outcome"] == "failed" {
            let id = line["custom_id"].as_str().unwrap();
            codes
                .entry(id)
                .or_default()
                .push(line["error"]["code"].as_str().unwrap());
        }
    }
    let expected = [
        ("p0", vec!["status_429"]),
        ("p1", vec!["status_429"; 2]),
        ("p10", vec!["invalid"]),
        ("p2", vec!["status_500"; 3]),
        ("p3", vec!["truncated"]),
        ("p4", vec!["invalid"]),
        ("p5", vec!["invalid"]),
        ("p6", vec!["invalid"]),
        ("p7", vec!["timeout"]),
        ("p8", vec!["lost"]),
        ("p9", vec!["invalid"]),
    ];
    assert_eq!(codes, BTreeMap::from(expected));
    // Attempts are counted, and exact bytes kept, of failures too.
    let of = |id: &str, attempt: u64| {
        let is = |line: &&Value| line["custom_id"] == id && line["x_wmk"]["attempt"] == attempt;
        lines.iter().find(is).unwrap()
    };
    let good = of("p2", 4);
    assert!(
        good["x_wmk"]["raw"]
            .as_str()
            .unwrap()
            .ends_with("\"x\":1.50}\n")
    );
    assert_eq!(
        good["x_wmk"]["usage"],
        json!({"prompt_tokens": 5, "completion_tokens": 7})
    );
    assert_eq!(good["response"]["status_code"], 200);
    assert_eq!(of("p5", 1)["x_wmk"]["raw"], "{\"choices\": [");
    assert_eq!(of("p10", 1)["x_wmk"]["raw"], json!({"base64": "//4="}));
    assert_eq!(of("p3", 1)["x_wmk"]["raw"].as_str().unwrap().len(), 30);
    let status = bench.status("c");
    assert_eq!(status["answered"], 12);
    assert_eq!(status["remaining"], 0);
    assert_eq!(status["failedAttempts"], 14);
    assert_eq!(status["unrecorded"], 0);
    assert_eq!(status["chain"]["lines"], 26);
    // Whole responses that were no answers, and those that broke off, may have been charged for.
    assert_eq!(status["spent"]["estimated"], 8);
    assert_eq!(status["collectorHeldKey"], false);
    // Nothing is asked twice.
    let before = mock.count();
    bench.ends("collect resume c", 0);
    assert_eq!(mock.count(), before);

    // The directory is read as it is, with the prompts as context.
    bench.ends("key new --out m.key", 0);
    let (out, error) = bench.ends("detect --key-file m.key --format json c", 0);
    let out: Value = serde_json::from_str(&out).unwrap();
    // A failed attempt of a request that was answered is no failed request.
    assert_eq!(
        (&out["read"]["answers"], &out["read"]["skipped"]),
        (&json!(12), &json!(0))
    );
    assert!(!error.contains("without their prompts"), "{error}");
    bench.ends("distill --key-file m.key --decoys 0 c", 0);
}

#[test]
fn a_refusal_is_final_until_it_is_asked_for_again() {
    let bench = Bench::new();
    bench.prompts(6);
    let mock = Mock::new(|asked| match (asked.prompt.as_str(), asked.before) {
        ("P3", 0) => error(400, "no such parameter"),
        _ => answer(&asked.prompt),
    });
    bench.ends(&run(&mock, ""), 0);
    let lines = bench.lines("c/transcript.jsonl");
    assert_eq!(ids(&lines, "refused"), ["p3"]);
    let refused = lines.iter().find(|line| line["custom_id"] == "p3").unwrap();
    assert_eq!(refused["error"]["message"], "no such parameter");
    assert_eq!(refused["response"]["status_code"], 400);
    bench.ends("collect resume c", 0);
    assert_eq!(mock.count(), 6);
    bench.ends("collect resume c --retry-refused", 0);
    assert_eq!(mock.count(), 7);
    let status = bench.status("c");
    assert_eq!(
        (&status["answered"], &status["refused"]),
        (&json!(6), &json!(0))
    );
}

#[test]
fn what_cannot_succeed_stops_at_once_and_the_api_key_is_nowhere() {
    use std::os::unix::fs::PermissionsExt;
    const SECRET: &str = "sk-very-secret-4711";
    let bench = Bench::new();
    bench.prompts(50);
    bench.write("api", &format!("{SECRET}\n"));
    bench.refuses(
        &run(&Mock::new(|_| answer("x")), "--api-key-file api"),
        4,
        &["chmod 600"],
    );
    let mode = |mode| {
        std::fs::set_permissions(bench.path("api"), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(0o600);
    let elsewhere = Mock::new(|_| answer("x"));
    let to = elsewhere.url();
    for (status, words) in [(401, "bad key"), (404, "bad key"), (307, "redirects")] {
        let to = to.clone();
        let mock = Mock::new(move |_| {
            let mut headers = vec![("content-type", "application/json".to_owned())];
            if status == 307 {
                headers.push(("location", format!("{to}/chat/completions")));
            }
            Reply::Full(
                status,
                headers,
                b"{\"error\": {\"message\": \"bad key\"}}".to_vec(),
            )
        });
        let _ = std::fs::remove_dir_all(bench.path("c"));
        let (out, error) = bench.ends(&run(&mock, "--api-key-file api --concurrency 2"), 1);
        assert!(error.contains(words), "{error}");
        // Only what was on its way at the first refusal.
        assert!(mock.count() <= 2, "{}", mock.count());
        let asked = &mock.asked()[0];
        assert_eq!(asked.headers["authorization"], format!("Bearer {SECRET}"));
        assert_eq!(asked.path, "/v1/chat/completions");
        for text in [&out, &error] {
            assert!(!text.contains(SECRET));
        }
        for file in std::fs::read_dir(bench.path("c")).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            assert!(!String::from_utf8_lossy(&bytes).contains(SECRET));
        }
    }
    assert_eq!(elsewhere.count(), 0, "redirects are not followed");
    // By a variable; a variable without a key, and a URL with one, are refused without showing it.
    let mock = Mock::new(|_| answer("x"));
    let _ = std::fs::remove_dir_all(bench.path("c"));
    let mut command = bench.command(&run(&mock, "--api-key-env MY_KEY --limit 1"));
    assert!(
        command
            .env("MY_KEY", SECRET)
            .output()
            .unwrap()
            .status
            .success()
    );
    assert_eq!(
        mock.asked()[0].headers["authorization"],
        format!("Bearer {SECRET}")
    );
    bench.refuses(
        "collect resume c --api-key-env NO_SUCH_KEY",
        2,
        &["NO_SUCH_KEY"],
    );
    let url = format!("https://user:{SECRET}@h.example/v1");
    let (_, error) = bench.ends(
        &format!("collect run --out d --endpoint {url} --model m --prompts p.jsonl"),
        2,
    );
    assert!(!error.contains(SECRET) && !bench.path("d").exists());
    bench.refuses(
        "collect run --out d --endpoint http://h.example/v1 --model m --prompts p.jsonl --api-key-file api",
        2,
        &["plain http"],
    );
}

#[test]
fn failures_without_an_end_stop_the_run() {
    let bench = Bench::new();
    bench.prompts(30);
    let mock = Mock::new(|_| error(500, "broken for good"));
    bench.refuses(
        &run(&mock, "--stop-after-failures 5 --concurrency 1"),
        1,
        &["5 failures in a row", "broken for good"],
    );
    assert_eq!(mock.count(), 5);
    // Asking for a day's patience.
    let mock = Mock::new(|_| Reply::Full(429, vec![("retry-after", "86400".into())], Vec::new()));
    let _ = std::fs::remove_dir_all(bench.path("c"));
    bench.refuses(&run(&mock, "--concurrency 1"), 5, &["86400 s", "resume c"]);
    assert_eq!(mock.count(), 1);
    // One request that never succeeds does not hold the others up.
    let mock = Mock::new(|asked| match asked.prompt.as_str() {
        "P7" => error(500, "this one"),
        _ => answer(&asked.prompt),
    });
    let _ = std::fs::remove_dir_all(bench.path("c"));
    bench.refuses(&run(&mock, "--attempts 3"), 5, &["1 requests failed"]);
    let status = bench.status("c");
    assert_eq!(
        (&status["answered"], &status["remaining"]),
        (&json!(29), &json!(1))
    );
}

#[test]
fn a_server_that_dies_and_comes_back() {
    let bench = Bench::new();
    bench.prompts(40);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mock = Mock::on(listener, None, |asked| {
        std::thread::sleep(Duration::from_millis(10));
        answer(&asked.prompt)
    });
    let child = bench
        .command(&run(
            &mock,
            "--concurrency 2 --stop-after-failures 6 --connect-timeout 2",
        ))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for(|| mock.answered().len() >= 10);
    mock.die();
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(5), "{error}");
    assert!(error.contains("in a row"), "{error}");
    let first = ids(&bench.lines("c/transcript.jsonl"), "answered");
    assert!(first.len() >= 10 && first.len() < 40);
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let second = Mock::on(listener, None, |asked| answer(&asked.prompt));
    bench.ends("collect resume c --backoff 0.02", 0);
    assert_eq!(second.count(), 40 - first.len());
    assert_eq!(bench.status("c")["answered"], 40);
}

#[track_caller]
fn wait_for(condition: impl Fn() -> bool) {
    let patience = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < patience, "waited in vain");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn caps_are_kept_before_anything_is_sent() {
    let bench = Bench::new();
    bench.prompts(30);
    let mock = Mock::new(|asked| answer(&asked.prompt));
    bench.refuses(
        &run(&mock, "--max-requests 7"),
        5,
        &["--max-requests 7", "resume c"],
    );
    assert_eq!(mock.count(), 7);
    bench.refuses("collect resume c", 5, &["--max-requests 7"]);
    assert_eq!(mock.count(), 7);
    bench.refuses(
        "collect resume c --max-requests 9",
        5,
        &["--max-requests 9"],
    );
    assert_eq!(mock.count(), 9);

    // A request may become some 200 tokens, and becomes 12: reservations are given back.
    let total = |mock: &Mock| mock.count() as u64 * 12;
    let mock = Mock::new(|asked| answer(&asked.prompt));
    let _ = std::fs::remove_dir_all(bench.path("c"));
    bench.refuses(
        &run(&mock, "--max-tokens 50 --max-tokens-total 400"),
        5,
        &["--max-tokens-total 400"],
    );
    assert!(
        total(&mock) <= 400 && mock.count() >= 10,
        "{}",
        mock.count()
    );
    let status = bench.status("c");
    assert_eq!(status["spent"]["inputTokens"], 5 * mock.count());
    assert_eq!(status["spent"]["outputTokens"], 7 * mock.count());

    // 5 read and 7 written: 0.019 a request.
    let mock = Mock::new(|asked| answer(&asked.prompt));
    let prices = "--price-per-million-input 1000 --price-per-million-output 2000";
    let _ = std::fs::remove_dir_all(bench.path("c"));
    bench.refuses(
        &run(&mock, &format!("--max-tokens 50 --max-cost 0.5 {prices}")),
        5,
        &["--max-cost 0.5"],
    );
    let status = bench.status("c");
    let cost = status["cost"].as_f64().unwrap();
    assert!(
        cost <= 0.5 && (cost - 0.019 * mock.count() as f64).abs() < 1e-9,
        "{cost}"
    );
    assert!(mock.count() >= 8);
    bench.refuses(&run(&mock, "--max-cost 1"), 2, &["--price-per-million"]);
    // Without a limit of its own a request cannot be held to a cap.
    bench.write("b.jsonl", "{\"custom_id\": \"a\", \"body\": {\"prompt\": \"x\", \"max_completion_tokens\": 4, \"stream\": true}}\n");
    bench.refuses(
        "collect run --out d --endpoint http://127.0.0.1:9/v1 --model m --prompts b.jsonl",
        4,
        &["line 1", "stream"],
    );
}

#[test]
fn a_dry_run_sends_and_writes_nothing() {
    let bench = Bench::new();
    let mock = Mock::new(|_| answer("x"));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (out, _) = bench.ends(
        &format!("collect run --dry-run --out c --endpoint http://127.0.0.1:{port}/v1 --model m --prompts code --repeat 2 --price-per-million-input 1 --price-per-million-output 2 --format json"),
        0,
    );
    assert!(listener.accept().is_err(), "no connection");
    assert_eq!(mock.count(), 0);
    assert!(!bench.path("c").exists());
    let out: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(conform::conforms_to_its_type(&out), "dry-run");
    let asks = &out["asks"];
    assert_eq!(asks["requests"], 140);
    assert_eq!(asks["worst"]["outputTokens"], 140 * 512);
    assert!(asks["worst"]["cost"].as_f64().unwrap() > 140.0 * 512.0 * 2e-6);
    assert_eq!(asks["first"]["custom_id"], "code-001.1");
    let (out, _) = bench.ends(
        "collect run --dry-run --out c --endpoint http://127.0.0.1:9/v1 --model m --prompts prose",
        0,
    );
    assert!(
        out.contains("nothing is sent") && out.contains("80 requests"),
        "{out}"
    );
    bench.refuses(
        "collect run --dry-run --out c --endpoint http://127.0.0.1:9/v1 --model m --prompts poetry",
        2,
        &["poetry", "prose"],
    );
}

fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    assert!(
        Command::new("kill")
            .args([name, &pid])
            .status()
            .unwrap()
            .success()
    );
}

#[test]
fn an_interrupt_drains_and_a_second_one_stops_at_once() {
    let bench = Bench::new();
    bench.prompts(60);
    let mock = Mock::new(|asked| {
        std::thread::sleep(Duration::from_millis(1000));
        answer(&asked.prompt)
    });
    let start = |arguments: &str| {
        let mut command = bench.command(arguments);
        let command = command.stdout(Stdio::null()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let child = start(&run(&mock, "--concurrency 4"));
    wait_for(|| mock.count() >= 6);
    signal(&child, "-INT");
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(5), "{error}");
    assert!(
        error.contains("on their way") && error.contains("resume c"),
        "{error}"
    );
    // Everything that was asked was taken in.
    let lines = bench.lines("c/transcript.jsonl");
    assert_eq!(ids(&lines, "answered").len(), mock.count());
    assert_eq!(bench.status("c")["unrecorded"], 0);

    let before = mock.count();
    let child = start("collect resume c --concurrency 4");
    wait_for(|| mock.count() >= before + 4);
    let stopped = Instant::now();
    signal(&child, "-TERM");
    std::thread::sleep(Duration::from_millis(50));
    signal(&child, "-INT");
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(5), "{error}");
    assert!(
        stopped.elapsed() < Duration::from_millis(900),
        "{:?}",
        stopped.elapsed()
    );
    assert!(error.contains("at once"), "{error}");
    // What is lost is known, and counts at its worst.
    let status = bench.status("c");
    assert_eq!(
        status["unrecorded"],
        mock.count() - ids(&bench.lines("c/transcript.jsonl"), "answered").len()
    );
    assert_eq!(status["spent"]["estimated"], status["unrecorded"]);
}

#[test]
fn two_collectors_never_write_one_directory() {
    let bench = Bench::new();
    bench.prompts(8);
    let mock = Mock::new(|asked| {
        std::thread::sleep(Duration::from_millis(500));
        answer(&asked.prompt)
    });
    let mut child = bench
        .command(&run(&mock, "--concurrency 2"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for(|| mock.count() >= 1);
    bench.refuses("collect resume c", 1, &["another collector"]);
    assert_eq!(bench.status("c")["running"], true);
    assert!(child.wait().unwrap().success());
    assert_eq!(mock.count(), 8);
    bench.refuses(&run(&mock, ""), 2, &["has a collection already", "resume"]);
    bench.refuses("collect resume none", 2, &["no collection"]);
    assert_eq!(bench.status("c")["running"], false);
}

#[test]
fn load_is_answered_by_fewer_at_once() {
    let bench = Bench::new();
    bench.prompts(120);
    // An endpoint that refuses more than three at once.
    let working = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let mock = Mock::new(move |asked| {
        use std::sync::atomic::Ordering;
        let now = working.fetch_add(1, Ordering::SeqCst);
        let reply = if now >= 3 {
            error(429, "too many")
        } else {
            std::thread::sleep(Duration::from_millis(15));
            answer(&asked.prompt)
        };
        working.fetch_sub(1, Ordering::SeqCst);
        reply
    });
    bench.ends(
        &run(
            &mock,
            "--concurrency 32 --attempts 50 --stop-after-failures 200",
        ),
        0,
    );
    let lines = bench.lines("c/transcript.jsonl");
    assert_eq!(ids(&lines, "answered").len(), 120);
    // Keeping 32 at once would have most requests refused.
    let refused = ids(&lines, "failed").len();
    assert!(refused < 120, "{refused}");
    assert!(mock.most_at_once() <= 33);
}

#[test]
fn our_own_service_is_no_suspect() {
    let bench = Bench::new();
    bench.prompts(5);
    let mock = Mock::new(|asked| {
        let Reply::Full(status, mut headers, body) = answer(&asked.prompt) else {
            unreachable!()
        };
        headers.push(("x-watermark-key-id", "0123456789abcdef".into()));
        Reply::Full(status, headers, body)
    });
    bench.refuses(&run(&mock, ""), 4, &["our own service", "0123456789abcdef"]);
    let lines = bench.lines("c/transcript.jsonl");
    assert!(ids(&lines, "answered").is_empty());
    assert!(
        lines
            .iter()
            .all(|line| line["error"]["code"] == "own_service")
    );
    bench.refuses(
        "collect run --out d --endpoint https://api.mine.example/v1 --model m --prompts p.jsonl --own-host API.mine.example",
        4,
        &["our own service", "--own-host"],
    );
    assert!(!bench.path("d").exists());
}

#[test]
fn answers_that_repeat_are_counted() {
    let bench = Bench::new();
    bench.prompts(4);
    let mock = Mock::new(|asked| match asked.prompt.as_str() {
        "P0" => answer("always the same"),
        "P1" | "P2" => answer("I cannot help with that."),
        _ => answer(&format!("{} {}", asked.prompt, asked.before)),
    });
    bench.ends(&run(&mock, "--repeat 3"), 0);
    let status = bench.status("c");
    assert_eq!(
        status["repeats"],
        json!({"samePrompt": 9, "otherPrompt": 6})
    );
    let (out, _) = bench.ends("collect status c", 0);
    assert!(
        out.contains("6 answers stand under several prompts"),
        "{out}"
    );
    // Greedy answers to one prompt are equal by right.
    let _ = std::fs::remove_dir_all(bench.path("c"));
    bench.ends(&run(&mock, "--repeat 3 --temperature 0"), 0);
    assert_eq!(bench.status("c")["repeats"]["samePrompt"], 0);
}

/// A server for 127.0.0.1 that nobody vouches for, and its certificate as PEM.
fn self_signed() -> (Arc<rustls::ServerConfig>, String) {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned(), "localhost".to_owned()])
            .unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    (Arc::new(config), cert.pem())
}

#[test]
fn a_certificate_is_always_verified() {
    let bench = Bench::new();
    bench.prompts(3);
    let (config, pem) = self_signed();
    bench.write("ca.pem", &pem);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mock = Mock::on(listener, Some(config), |asked| answer(&asked.prompt));
    let arguments = run(&mock, "").replace("http://", "https://");
    let (_, error) = bench.ends(&arguments, 1);
    // On a machine without any roots the client itself says so.
    assert!(error.contains("certificate"), "{error}");
    assert_eq!(
        mock.count(),
        0,
        "no prompt goes to a server that was not verified"
    );
    match bench.path("c").exists() {
        true => bench.ends("collect resume c --ca-file ca.pem", 0),
        false => bench.ends(&format!("{arguments} --ca-file ca.pem"), 0),
    };
    assert_eq!(mock.count(), 3);
    // The right authority, for another name.
    let other = arguments
        .replace("127.0.0.1", "127.0.0.2")
        .replace("--out c", "--out d");
    let (_, error) = bench.ends(
        &format!("{other} --ca-file ca.pem --attempts 1 --stop-after-failures 1"),
        1,
    );
    assert_eq!(mock.count(), 3, "{error}");
    bench.write("empty.pem", "none");
    bench.refuses(
        &format!(
            "{} --ca-file empty.pem",
            arguments.replace("--out c", "--out e")
        ),
        4,
        &["empty.pem", "PEM"],
    );
}

#[test]
fn a_broken_chain_is_told_by_every_reader() {
    let bench = Bench::new();
    bench.prompts(4);
    bench.ends("key new --out m.key", 0);
    let mock = Mock::new(|asked| answer(&format!("{} and a word", asked.prompt)));
    bench.ends(&run(&mock, "--concurrency 1"), 0);
    let path = bench.path("c/transcript.jsonl");
    let good = std::fs::read_to_string(&path).unwrap();
    let readers = [
        "collect status c",
        "collect resume c",
        "detect --key-file m.key c",
        "distill --key-file m.key --decoys 0 c/transcript.jsonl --requests c/prompts.jsonl",
        "collect import c/transcript.jsonl --out d",
    ];
    let lines: Vec<&str> = good.lines().collect();
    let without = format!("{}\n{}\n{}\n", lines[0], lines[1], lines[3]);
    for (bad, words) in [
        (good.replacen("a word", "a work", 1), "line 1"),
        (without, "line 3"),
    ] {
        std::fs::write(&path, bad).unwrap();
        for reader in readers {
            bench.refuses(reader, 3, &["broken chain", words]);
        }
    }
    std::fs::write(&path, &good).unwrap();
    let json = std::fs::read_to_string(bench.path("c/collection.json")).unwrap();
    bench.write("c/collection.json", &json.replace("\"m\"", "\"n\""));
    bench.refuses("collect status c", 3, &["collection.json"]);
    bench.refuses("detect --key-file m.key c", 3, &["collection.json"]);
    bench.write("c/collection.json", &json);
    bench.ends("collect status c", 0);
    let prompts = std::fs::read_to_string(bench.path("c/prompts.jsonl")).unwrap();
    bench.write("c/prompts.jsonl", &prompts.replace("P2", "Q2"));
    bench.refuses("collect status c", 3, &["prompts.jsonl"]);
    bench.write("c/prompts.jsonl", &prompts);

    // A torn last line is not a broken chain: it is cut off, kept beside, and asked again.
    std::fs::write(&path, &good[..good.len() - 40]).unwrap();
    bench.refuses("detect --key-file m.key c", 3, &["no end"]);
    assert_eq!(bench.status("c")["answered"], 3);
    let (_, error) = bench.ends("collect resume c", 0);
    assert!(error.contains("cut off"), "{error}");
    assert_eq!(mock.count(), 5);
    assert_eq!(bench.status("c")["answered"], 4);
    let events = std::fs::read_to_string(bench.path("c/events.log")).unwrap();
    assert!(events.contains("\"torn\""));
}

#[test]
fn imported_answers_keep_their_bytes_and_say_so() {
    let bench = Bench::new();
    bench.ends("key new --out m.key", 0);
    bench.write(
        "out.jsonl",
        "{\"custom_id\": \"a\",  \"response\": {\"status_code\": 200, \"body\": {\"choices\": [{\"text\": \"one two\"}], \"usage\": {\"prompt_tokens\": 3, \"completion_tokens\": 2}}}, \"error\": null}\n\
         {\"custom_id\": \"b\", \"response\": null, \"error\": {\"code\": \"x\"}}\n",
    );
    bench.write(
        "in.jsonl",
        "{\"custom_id\": \"a\", \"body\": {\"prompt\": \"Count\"}}\n",
    );
    bench.write(
        "plain.jsonl",
        "{\"prompt\": \"Say\", \"text\": \"three\"}\n",
    );
    let (out, _) = bench.ends(
        "collect import out.jsonl in.jsonl plain.jsonl --out c --format json",
        0,
    );
    let status: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(status["origin"], "imported");
    assert_eq!(status["answered"], 2);
    assert_eq!(status["failedAttempts"], 1);
    assert_eq!(status["spent"]["outputTokens"], 2);
    let lines = bench.lines("c/transcript.jsonl");
    assert_eq!(lines[0]["x_wmk"]["source"], "out.jsonl:1");
    assert!(
        lines[0]["x_wmk"]["raw"]
            .as_str()
            .unwrap()
            .contains("\"a\",  \"response\"")
    );
    let (out, error) = bench.ends("detect --key-file m.key --format json c", 0);
    let out: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&out["read"]["answers"], &out["read"]["skipped"]),
        (&json!(2), &json!(1))
    );
    assert!(!error.contains("without their prompts"), "{error}");
    bench.refuses("collect resume c", 2, &["imported"]);
    bench.refuses(
        "collect import plain.jsonl --out c",
        2,
        &["has a collection"],
    );
    bench.refuses("collect import in.jsonl --out d", 4, &["no answers"]);
    // What was imported can be imported on, custody and all; a change shows.
    bench.ends("collect import c/transcript.jsonl --out e", 0);
    let path = bench.path("e/transcript.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replacen("one two", "one too", 1)).unwrap();
    bench.refuses("detect --key-file m.key e", 3, &["line 1"]);
}

/// Whole lines of a transcript that may be cut off anywhere.
fn recorded(path: &Path) -> HashMap<String, Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let answers = lines.filter(|line| line["x_wmk"]["outcome"] == "answered");
    answers
        .map(|line| (line["custom_id"].as_str().unwrap().to_owned(), line))
        .collect()
}

#[test]
fn killed_fifty_times_nothing_is_lost_and_nothing_asked_twice() {
    const KILLS: usize = 50;
    const PROMPTS: usize = 1200;
    const CONCURRENCY: usize = 6;
    let bench = Bench::new();
    bench.prompts(PROMPTS);
    let mock = Mock::new(|asked| {
        let number: u64 = asked.prompt[1..].parse().unwrap();
        std::thread::sleep(Duration::from_millis(3 + number * 7 % 11));
        match (number % 17, asked.before) {
            (0, 0) => error(500, "once"),
            _ => answer(&format!("{} time {}", asked.prompt, asked.before)),
        }
    });
    let transcript = bench.path("c/transcript.jsonl");
    let arguments = || match bench.path("c/collection.json").exists() {
        true => format!("collect resume c --backoff 0.005 --concurrency {CONCURRENCY}"),
        false => run(&mock, &format!("--concurrency {CONCURRENCY}")),
    };
    // Times between 0 and a bit more than a run's share, by a generator whose seed is printed where a test fails.
    let seed = u64::from(std::process::id());
    let mut state = seed;
    let mut coin = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    let mut epochs = Vec::new();
    let mut progress = 0;
    for kill in 0..KILLS {
        let mut child = bench
            .command(&arguments())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Two thirds of the kills come while it asks, the others at any moment from the start on.
        if kill % 3 != 0 {
            let before = mock.count();
            wait_for(|| mock.count() > before);
        }
        std::thread::sleep(Duration::from_micros(coin() % 120_000));
        child.kill().unwrap();
        assert!(
            !child.wait().unwrap().success(),
            "kill {kill}, seed {seed}: it was done already"
        );
        let known = recorded(&transcript);
        progress += usize::from(
            known.len()
                > epochs
                    .last()
                    .map_or(0, |(_, known): &(usize, HashSet<String>)| known.len()),
        );
        epochs.push((mock.count(), known.into_keys().collect::<HashSet<String>>()));
        if kill % 10 == 9 {
            bench.ends("collect status c", 0);
        }
    }
    assert!(
        progress > KILLS / 5,
        "only {progress} runs got anywhere, seed {seed}"
    );
    bench.ends(&arguments(), 0);

    // Every answer that was on record at a kill is on record at the end, and its id was asked no more.
    let last = recorded(&transcript);
    assert_eq!(last.len(), PROMPTS, "seed {seed}");
    let asked = mock.asked();
    for (kill, (count, known)) in epochs.iter().enumerate() {
        for id in known {
            assert!(
                last.contains_key(id),
                "{id} lost after kill {kill}, seed {seed}"
            );
        }
        for later in &asked[*count..] {
            let id = format!("p{}", &later.prompt[1..]);
            assert!(
                !known.contains(&id),
                "{id} asked again after kill {kill}, seed {seed}"
            );
        }
    }
    // One answer an id, with the bytes that the endpoint sent for it.
    let lines = bench.lines("c/transcript.jsonl");
    assert_eq!(ids(&lines, "answered").len(), PROMPTS);
    for line in lines
        .iter()
        .filter(|line| line["x_wmk"]["outcome"] == "answered")
    {
        let id = line["custom_id"].as_str().unwrap();
        let raw = line["x_wmk"]["raw"].as_str().unwrap();
        let attempt = line["x_wmk"]["attempt"].as_u64().unwrap();
        // A request noted and never sent makes the attempt larger than what the endpoint saw.
        let (_, time) = raw.split_once(&format!("P{} time ", &id[1..])).unwrap();
        let time: u64 = time.split('"').next().unwrap().parse().unwrap();
        assert!(time < attempt, "{id}: time {time}, attempt {attempt}");
    }
    // Only what was on its way at a kill was answered in vain.
    let lost = mock.answered().len() - lines.len();
    assert!(
        lost <= KILLS * CONCURRENCY,
        "{lost} responses lost, seed {seed}"
    );
    let status = bench.status("c");
    assert_eq!(status["answered"], PROMPTS);
    assert_eq!(status["chain"]["verified"], true);
    assert!(status["unrecorded"].as_u64().unwrap() <= (KILLS * CONCURRENCY) as u64);
}
