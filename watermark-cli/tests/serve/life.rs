//! Start, reload, readiness, the log and the end.

use super::*;
use rustix::process::Signal;

#[test]
fn a_bad_configuration_does_not_start() {
    let start = "[[mark]]\nname = \"a\"\nkey_file = \"s3.key\"\n";
    let token = format!(
        "[[token]]\nname = \"t\"\nrole = \"scores\"\nsha256 = \"{}\"\n",
        "0".repeat(64)
    );
    let bench = Bench::new("", "");
    bench.private("short.token", "short\n");
    bench.write("open.token", "a-token-that-others-can-read-0123\n");
    for (text, code, words) in [
        (String::new(), 4, vec!["no [[mark]]"]),
        (start.to_owned(), 4, vec!["no [[token]]"]),
        (
            format!("{start}{token}colour = 1"),
            4,
            vec!["serve.toml, line 8", "`colour`"],
        ),
        (
            format!("listn = 1\n{start}{token}"),
            4,
            vec!["line 1", "`listn`"],
        ),
        (
            format!("listen = \"0.0.0.0:0\"\n{start}{token}"),
            4,
            vec!["`listen`", "allow_remote"],
        ),
        (
            format!("{start}{token}[limits]\ntokens = 0"),
            4,
            vec!["`limits.tokens`"],
        ),
        (
            format!("{start}{start}{token}"),
            4,
            vec!["two [[mark]]", "`a`"],
        ),
        (
            format!("{start}alpha = 1.5\n{token}"),
            4,
            vec!["`alpha`", "1.5"],
        ),
        (
            format!("{start}slot = 9\n{token}"),
            2,
            vec!["mark `a`", "e1/3"],
        ),
        (
            format!("{start}profile = \"none\"\n{token}"),
            2,
            vec!["mark `a`", "`none`"],
        ),
        (
            start.replace("s3", "none") + &token,
            1,
            vec!["mark `a`", "none.key"],
        ),
        (
            format!("{start}{}", token.replace("00", "0")),
            4,
            vec!["token `t`", "`sha256`"],
        ),
        (
            format!("{start}[[token]]\nname = \"t\"\nrole = \"root\"\nfile = \"x\""),
            4,
            vec!["line 6", "`root`"],
        ),
        (
            format!("{start}[[token]]\nname = \"t\"\nrole = \"scores\"\nfile = \"short.token\""),
            4,
            vec!["short.token", "24"],
        ),
        (
            format!("{start}[[token]]\nname = \"t\"\nrole = \"scores\"\nfile = \"open.token\""),
            4,
            vec!["open.token", "read by others"],
        ),
        (
            format!("{start}{token}[cohort]\nfile = \"c\"\ndefault = \"b\""),
            4,
            vec!["`cohort.default`"],
        ),
    ] {
        bench.write("serve.toml", &text);
        let output = bench.run("serve --config serve.toml --dry-run");
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{text}: {error}");
        for word in words {
            assert!(error.contains(word), "{text}: `{error}` lacks `{word}`");
        }
        assert!(output.stdout.is_empty());
    }
    let good = Bench::new("", "").run("serve --config serve.toml --dry-run");
    let said: Value = serde_json::from_slice(&good.stdout).unwrap();
    assert_eq!(conforms_to_its_type(&said), "dry-run");
    assert_eq!(said["service"]["marks"][1]["name"], "flagged");
    assert_eq!(said["keys"][0]["slot"], 3);
    let reads = said["reads"].as_array().unwrap().iter();
    let names: Vec<_> = reads.map(|file| file["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["s3.key", "s4.key", "scores.token", "serve.toml"]);
}

#[test]
fn cohorts_and_keys_change_without_a_restart() {
    let cohort = "[cohort]\nfile = \"cohorts.jsonl\"\ndefault = \"main\"\n";
    let bench = Bench::new("reload_seconds = 1", cohort);
    bench.write("cohorts.jsonl", "");
    let service = bench.serve();
    service.event("listening");
    let slot = || {
        let reply = service.post("/v1/slot", PROVIDER, &json!({"account": "acct-77"}));
        reply.json()
    };
    assert_eq!(slot()["mark"], "main");
    // By itself, soon.
    let hash = watermark_core::hex(&Sha256::digest(b"acct-77"));
    bench.write(
        "cohorts.jsonl",
        &format!("{{\"account_sha256\": \"{hash}\", \"mark\": \"flagged\"}}\n"),
    );
    assert_eq!(service.event("reloaded")["cohortAccounts"], 1);
    assert_eq!(slot()["mark"], "flagged");
    // A bad file changes nothing, and is told with its place.
    bench.write(
        "cohorts.jsonl",
        "\n{\"account_sha256\": \"77\", \"mark\": \"flagged\"}\n",
    );
    let failed = service.event("reload-failed");
    let message = failed["message"].as_str().unwrap();
    assert!(message.contains("cohorts.jsonl, line 2"), "{message}");
    assert_eq!(slot()["mark"], "flagged");
    // A file that was missing, and that no state has named so far, is found when it is there.
    let config = std::fs::read_to_string(bench.path("serve.toml")).unwrap();
    bench.write("serve.toml", &config.replace("s3.key", "later.key"));
    let failed = service.event("reload-failed");
    assert!(failed["message"].as_str().unwrap().contains("later.key"));
    std::fs::copy(bench.path("s4.key"), bench.path("later.key")).unwrap();
    bench.write("cohorts.jsonl", "");
    service.event("reloaded");
    assert_eq!(slot()["slot"], 4);
    // By signal: another key under the same name.
    bench.write("serve.toml", &config);
    service.signal(Signal::HUP);
    service.event("reloaded");
    assert_eq!(slot()["slot"], 3);
    // A configuration that cannot be read leaves the service as it is.
    bench.write("serve.toml", "listen = ");
    service.signal(Signal::HUP);
    service.event("reload-failed");
    assert_eq!(slot()["slot"], 3);
}

/// The configuration in the documentation is one.
#[test]
fn the_documented_configuration_is_accepted() {
    let document = include_str!("../../SERVE.md");
    let (_, rest) = document.split_once("```toml\n").unwrap();
    let (config, _) = rest.split_once("```").unwrap();
    let bench = Bench::new("", "");
    bench.write("serve.toml", config);
    for (name, from) in [("2026q4-0.key", "s3.key"), ("2026q4-7.key", "s4.key")] {
        std::fs::copy(bench.path(from), bench.path(name)).unwrap();
    }
    bench.write("cohorts.jsonl", "");
    bench.private("analyst.token", &format!("{SCORES}\n"));
    let output = bench.run("serve --config serve.toml --dry-run");
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{error}");
}

#[test]
fn readiness_needs_the_keys() {
    let bench = Bench::new("reload_seconds = 0", "");
    let service = bench.serve();
    assert_eq!(service.get("/readyz").json()["status"], "ready");
    let pause = || std::thread::sleep(Duration::from_millis(600));
    std::fs::rename(bench.path("s4.key"), bench.path("away.key")).unwrap();
    pause();
    let reply = service.get("/readyz");
    reply.problem(503, "mark `flagged`: its key file cannot be used");
    assert!(!reply.body.contains("s4.key"));
    // Alive all the same, and still answering.
    assert_eq!(service.get("/healthz").status, 200);
    std::fs::copy(bench.path("s3.key"), bench.path("s4.key")).unwrap();
    pause();
    service.get("/readyz").problem(503, "holds another key");
    std::fs::rename(bench.path("away.key"), bench.path("s4.key")).unwrap();
    pause();
    assert_eq!(service.get("/readyz").status, 200);
}

#[test]
fn the_end_waits_for_the_request_at_hand() {
    let bench = Bench::new("", "");
    let service = bench.serve();
    let body = json!({"text": "of the union"}).to_string();
    let mut stream = service.connect();
    let head = format!(
        "POST /v1/detect HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {VERDICT}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&body.as_bytes()[..5]).unwrap();
    // Open and idle: nothing to wait for.
    let idle = service.connect();
    std::thread::sleep(Duration::from_millis(300));
    service.signal(Signal::TERM);
    service.event("stopping");
    assert!(TcpStream::connect(service.address).is_err());
    stream.write_all(&body.as_bytes()[5..]).unwrap();
    assert_eq!(read(stream).json()["verdict"], "insufficient-evidence");
    drop(idle);
    let (code, log) = service.end();
    assert_eq!(code, Some(0));
    assert!(
        log.iter()
            .any(|line| line.contains("all requests were answered"))
    );
}

#[test]
fn the_end_does_not_wait_for_ever() {
    let bench = Bench::new("", "[limits]\ndrain_seconds = 1\nbody_seconds = 60\n");
    for signals in [vec![Signal::TERM], vec![Signal::INT, Signal::TERM]] {
        let service = bench.serve();
        let mut stream = service.connect();
        let head = format!(
            "POST /v1/detect HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {VERDICT}\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{{"
        );
        stream.write_all(head.as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(200));
        for signal in signals {
            service.signal(signal);
            std::thread::sleep(Duration::from_millis(50));
        }
        let begun = Instant::now();
        let (code, log) = service.end();
        assert_eq!(code, Some(0));
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert!(log.iter().any(|line| line.contains("cut at the deadline")));
    }
}

#[test]
fn the_log_has_neither_text_nor_key_nor_token() {
    let bench = Bench::new("", "");
    let service = bench.serve();
    let text = "zebra quagga okapi tapir";
    let body = json!({"text": text, "prompt": "gnu"});
    service.post("/v1/detect", SCORES, &body);
    service.post("/v1/explain", SCORES, &body);
    service.post("/v1/detect", "token-of-nobody-0123456789", &body);
    service.post("/v1/slot", PROVIDER, &json!({"account": "okapi"}));
    service.post("/v1/detect", SCORES, &json!({"zebra": text}));
    service.get("/zebra?quagga=okapi");
    service.send("GET /healthz?zebra", &[("X-Request-Id", "quagga")], "");
    service.send("ZEBRA /v1/detect", &[], "");
    let form = ("Content-Type", "application/x-www-form-urlencoded");
    service.send("POST /", &[form], &format!("text=zebra&token={SCORES}"));
    service.signal(Signal::TERM);
    let (code, log) = service.end();
    assert_eq!(code, Some(0));
    let keys = ["m.key", "s3.key", "s4.key"].map(|name| {
        let line = std::fs::read_to_string(bench.path(name)).unwrap();
        line.trim()[line.trim().len() - 40..].to_owned()
    });
    let secrets = keys.iter().map(String::as_str).chain([
        "zebra", "quagga", "okapi", "tapir", "gnu", SCORES, VERDICT, PROVIDER, "token-of",
    ]);
    let all = log.join("\n").to_lowercase();
    for secret in secrets {
        assert!(!all.contains(&secret.to_lowercase()), "{secret}: {all}");
    }
    let lines: Vec<Value> = log
        .iter()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let requests: Vec<&Value> = lines.iter().filter(|l| l["event"] == "request").collect();
    assert_eq!(requests.len(), 9, "{all}");
    let first = requests[0];
    assert_eq!(first["method"], "POST");
    assert_eq!(first["route"], "/v1/detect");
    assert_eq!(first["status"], 200);
    assert_eq!(first["role"], "scores");
    assert_eq!(first["caller"], "analyst");
    assert!(first["tokens"].as_u64().unwrap() > 4 && first["ms"].is_number());
    assert!(first["time"].as_str().unwrap().ends_with('Z'));
    let unknown = requests.iter().filter(|l| l["route"] == "unknown");
    assert_eq!(unknown.count(), 1);
}
