//! The service as a client meets it: over loopback sockets, with what clients do wrong. Every server ends with
//! its test.

#![cfg(unix)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use watermark_core::key::{SecretKey, read_key_file};
use watermark_core::profile::{Mark, Profile};

#[path = "serve/answers.rs"]
mod answers;
#[path = "serve/clients.rs"]
mod clients;
#[path = "schemas/conform.rs"]
mod conform;
#[path = "serve/life.rs"]
mod life;
#[cfg(target_os = "linux")]
#[path = "serve/load.rs"]
mod load;
#[path = "serve/page.rs"]
mod page;
#[path = "serve/schema.rs"]
mod schema;

use conform::{conforms, conforms_to_its_type};

const VERDICT: &str = "verdict-token-0123456789abcdef";
const SCORES: &str = "scores-token-0123456789abcdef0";
const PROVIDER: &str = "provider-token-0123456789abcde";

/// A directory with keys, tokens and a configuration.
struct Bench(tempfile::TempDir);

impl Bench {
    /// `head` stands before the tables of the configuration, `tail` after them.
    fn new(head: &str, tail: &str) -> Self {
        let bench = Self(tempfile::tempdir().unwrap());
        for arguments in [
            "key new --out m.key",
            "key slot --key-file m.key --slot 3 --out s3.key",
            "key slot --key-file m.key --slot 4 --out s4.key",
        ] {
            assert!(bench.run(arguments).status.success());
        }
        bench.private("scores.token", &format!("{SCORES}\n"));
        let hash = |token: &str| watermark_core::hex(&Sha256::digest(token.as_bytes()));
        bench.write(
            "serve.toml",
            &format!(
                r#"{head}
[[mark]]
name = "main"
profile = "greenlist-h1"
key_file = "s3.key"
[[mark]]
name = "flagged"
profile = "gumbel-dual-h2"
key_file = "s4.key"
[[token]]
name = "asker"
sha256 = "{}"
role = "verdict"
[[token]]
name = "analyst"
file = "scores.token"
role = "scores"
[[token]]
name = "engine"
sha256 = "{}"
role = "provider"
{tail}"#,
                hash(VERDICT),
                hash(PROVIDER)
            ),
        );
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn private(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt;
        self.write(name, text);
        std::fs::set_permissions(self.path(name), std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_watermark"));
        command
            .current_dir(self.0.path())
            .args(arguments.split_whitespace());
        command
    }

    fn run(&self, arguments: &str) -> std::process::Output {
        self.command(arguments).output().unwrap()
    }

    /// The mark of a slot key of the bench.
    fn mark(&self, key: &str, profile: &str) -> Mark {
        let SecretKey::Slot(slot) = read_key_file(&self.path(key)).unwrap() else {
            panic!("a slot key");
        };
        Profile::built_in(profile).unwrap().bind(&slot).unwrap()
    }

    fn serve(&self) -> Service {
        let mut child = self
            .command("serve --config serve.toml --listen 127.0.0.1:0")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (send, log) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        let ready: Value = serde_json::from_str(&line).unwrap_or_else(|_| {
            let said: Vec<String> = log.iter().collect();
            panic!("no address: {said:?}");
        });
        assert_eq!(conforms_to_its_type(&ready), "listening");
        Service {
            child,
            address: ready["address"].as_str().unwrap().parse().unwrap(),
            log: Mutex::new(log),
        }
    }
}

/// A running server.
struct Service {
    child: Child,
    address: SocketAddr,
    log: Mutex<mpsc::Receiver<String>>,
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What came back.
#[derive(Debug)]
struct Reply {
    status: u16,
    headers: String,
    body: String,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.headers.lines();
        let mut found = lines.filter_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        });
        let first = found.next();
        assert_eq!(found.next(), None, "{name} twice");
        first
    }

    /// A problem of this status, whose detail has the words.
    #[track_caller]
    fn problem(&self, status: u16, words: &str) {
        assert_eq!(self.status, status, "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], status);
        assert_eq!(problem["type"], "about:blank");
        assert!(
            self.header("content-type") == Some("application/problem+json"),
            "{self:?}"
        );
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(words), "`{detail}` lacks `{words}`");
    }
}

impl Service {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        let long = Some(Duration::from_secs(30));
        stream.set_read_timeout(long).unwrap();
        stream
    }

    /// Sends the bytes as they are, and reads to the end.
    fn raw(&self, bytes: &[u8]) -> Reply {
        let mut stream = self.connect();
        // The server may close before it has taken everything.
        let _ = stream.write_all(bytes);
        read(stream)
    }

    fn send(&self, request: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let mut text = format!("{request} HTTP/1.1\r\nConnection: close\r\n");
        if !headers.iter().any(|(name, _)| *name == "Host") {
            text += &format!("Host: {}\r\n", self.address);
        }
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() {
            text += &format!("Content-Length: {}\r\n", body.len());
        }
        self.raw(format!("{text}\r\n{body}").as_bytes())
    }

    fn get(&self, path: &str) -> Reply {
        self.send(&format!("GET {path}"), &[], "")
    }

    /// A JSON request under a token.
    fn post(&self, path: &str, token: &str, body: &Value) -> Reply {
        let bearer = format!("Bearer {token}");
        let headers = [
            ("Authorization", bearer.as_str()),
            ("Content-Type", "application/json"),
        ];
        self.send(&format!("POST {path}"), &headers, &body.to_string())
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// The next event of this name.
    #[track_caller]
    fn event(&self, name: &str) -> Value {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let line = self
                .log
                .lock()
                .unwrap()
                .recv_timeout(left)
                .expect("an event in time");
            let event: Value = serde_json::from_str(&line).unwrap();
            conforms("serve-log", &event);
            if event["event"] == name {
                return event;
            }
        }
    }

    /// Waits until it has ended by itself: the exit code and the rest of the log.
    fn end(mut self) -> (Option<i32>, Vec<String>) {
        let end = Instant::now() + Duration::from_secs(30);
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status.code(), self.log.lock().unwrap().iter().collect());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the service did not end");
    }
}

fn read(mut stream: TcpStream) -> Reply {
    let mut bytes = Vec::new();
    // A reset after the answer is as good as an end.
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.get(9..12).and_then(|code| code.parse().ok());
    Reply {
        status: status.unwrap_or(0),
        headers: head.to_owned(),
        body: body.to_owned(),
    }
}

/// Green tokens below 999, and now and then any.
fn marked(mark: &Mark, length: usize) -> Vec<u32> {
    let mut text = vec![7];
    while text.len() < length {
        let row = mark.scheme().row(&text[text.len() - 1..]);
        let from = text.len() as u32 * 17 % 900;
        let token = (from..).find(|&t| mark.scheme().score(&row, t) == 1 || t % 5 == 0);
        text.push(token.unwrap());
    }
    text
}

/// Tokens that know nothing of a key.
fn plain(length: u32) -> Vec<u32> {
    (0..length).map(|at| at * at * 31 % 3989).collect()
}
