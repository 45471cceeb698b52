//! An endpoint on the loopback that does what a test tells it to.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

/// What a request gets.
pub(crate) enum Reply {
    /// Status, headers, body; then the connection is open for more.
    Full(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// These bytes as they are, then the connection ends.
    Bytes(Vec<u8>),
    /// Nothing, for so long.
    Stall(Duration),
}

/// A response of chat completions.
pub(crate) fn answer(text: &str) -> Reply {
    // Spaces and key order that no serializer writes: exact bytes are to be kept.
    let text = json!(text);
    let body = format!(
        "{{\"id\":\"r\" , \"choices\":[{{\"index\":0,\"message\":{{\"role\":\"assistant\",\"content\":{text}}},\"finish_reason\":\"stop\"}}],\"usage\":{{\"prompt_tokens\":5,\"completion_tokens\":7,\"total_tokens\":12}},\"x\":1.50}}\n"
    );
    json_reply(200, &body)
}

pub(crate) fn json_reply(status: u16, body: &str) -> Reply {
    let headers = vec![("content-type", "application/json".to_owned())];
    Reply::Full(status, headers, body.as_bytes().to_vec())
}

pub(crate) fn error(status: u16, message: &str) -> Reply {
    json_reply(status, &json!({"error": {"message": message}}).to_string())
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// The last message, which names the prompt.
    pub(crate) prompt: String,
    pub(crate) body: Value,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) path: String,
    /// How often this prompt was asked before.
    pub(crate) before: usize,
}

type Behaviour = dyn Fn(&Asked) -> Reply + Send + Sync;

#[derive(Default)]
struct Log {
    asked: Vec<Asked>,
    counts: HashMap<String, usize>,
    /// Prompts whose response was written to its end.
    answered: Vec<String>,
    most_at_once: usize,
    at_once: usize,
}

pub(crate) struct Mock {
    pub(crate) port: u16,
    log: Arc<Mutex<Log>>,
    stop: Arc<AtomicBool>,
}

impl Mock {
    pub(crate) fn new(behaviour: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), None, behaviour)
    }

    pub(crate) fn on(
        listener: TcpListener,
        tls: Option<Arc<rustls::ServerConfig>>,
        behaviour: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let port = listener.local_addr().unwrap().port();
        let log = Arc::new(Mutex::new(Log::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let (log2, stop2) = (Arc::clone(&log), Arc::clone(&stop));
        let behaviour: Arc<Behaviour> = Arc::new(behaviour);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop2.load(Ordering::SeqCst) {
                    break;
                }
                let Ok(stream) = stream else { continue };
                stream
                    .set_read_timeout(Some(Duration::from_secs(30)))
                    .unwrap();
                stream.set_nodelay(true).unwrap();
                let (behaviour, log, stop) = (
                    Arc::clone(&behaviour),
                    Arc::clone(&log2),
                    Arc::clone(&stop2),
                );
                let tls = tls.clone();
                std::thread::spawn(move || match tls {
                    None => serve(stream, &*behaviour, &log, &stop),
                    Some(config) => {
                        let connection = rustls::ServerConnection::new(config).unwrap();
                        let stream = rustls::StreamOwned::new(connection, stream);
                        serve(stream, &*behaviour, &log, &stop);
                    }
                });
            }
        });
        Self { port, log, stop }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/v1", self.port)
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.log.lock().unwrap().asked.clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.log.lock().unwrap().asked.len()
    }

    /// Responses that were written to their end, by prompt.
    pub(crate) fn answered(&self) -> Vec<String> {
        self.log.lock().unwrap().answered.clone()
    }

    pub(crate) fn most_at_once(&self) -> usize {
        self.log.lock().unwrap().most_at_once
    }

    /// No connection is accepted, and none answered, from here on.
    pub(crate) fn die(&self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        self.die();
    }
}

fn serve(stream: impl Read + Write, behaviour: &Behaviour, log: &Mutex<Log>, stop: &AtomicBool) {
    let mut stream = BufReader::new(stream);
    while let Some(mut asked) = read(&mut stream) {
        {
            let mut log = log.lock().unwrap();
            let count = log.counts.entry(asked.prompt.clone()).or_default();
            asked.before = *count;
            *count += 1;
            log.asked.push(asked.clone());
            log.at_once += 1;
            log.most_at_once = log.most_at_once.max(log.at_once);
        }
        let reply = behaviour(&asked);
        let dead = stop.load(Ordering::SeqCst);
        log.lock().unwrap().at_once -= 1;
        if dead {
            return;
        }
        match reply {
            Reply::Full(status, headers, body) => {
                let mut head = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n", body.len());
                for (name, value) in headers {
                    head += &format!("{name}: {value}\r\n");
                }
                head += "\r\n";
                let whole = [head.as_bytes(), &body].concat();
                let inner = stream.get_mut();
                if inner
                    .write_all(&whole)
                    .and_then(|()| inner.flush())
                    .is_err()
                {
                    return;
                }
                log.lock().unwrap().answered.push(asked.prompt);
            }
            Reply::Bytes(bytes) => {
                let inner = stream.get_mut();
                let _ = inner.write_all(&bytes).and_then(|()| inner.flush());
                return;
            }
            Reply::Stall(time) => std::thread::sleep(time),
        }
    }
}

fn read(stream: &mut impl BufRead) -> Option<Asked> {
    let mut line = String::new();
    stream.read_line(&mut line).ok().filter(|&n| n > 0)?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).ok().filter(|&n| n > 0)?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(": ")?;
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let length: usize = headers.get("content-length")?.parse().ok()?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    let body: Value = serde_json::from_slice(&body).ok()?;
    let last = |list: &Value| list.as_array()?.last()?.get("content").cloned();
    let prompt = last(&body["messages"]).unwrap_or_else(|| body["prompt"].clone());
    Some(Asked {
        prompt: prompt.as_str()?.to_owned(),
        body,
        headers,
        path,
        before: 0,
    })
}
