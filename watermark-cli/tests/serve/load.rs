//! Load over loopback: throughput, latency, and memory that does not grow. The long run is ignored by default:
//!
//! `cargo nextest run --release -p watermark-cli --test serve load --run-ignored only --no-capture`

use super::*;

const CLIENTS: usize = 4;

/// A connection that is kept, as a busy client's.
struct Kept(BufReader<TcpStream>);

impl Kept {
    /// Sends a request, and gives the status and the time until the whole answer was there.
    fn ask(&mut self, request: &[u8]) -> (u16, Duration) {
        let begun = Instant::now();
        self.0.get_mut().write_all(request).unwrap();
        let (mut status, mut length) = (0, 0);
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).unwrap();
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(rest) = line.strip_prefix("http/1.1 ") {
                status = rest[..3].parse().unwrap();
            }
            if let Some(rest) = line.strip_prefix("content-length: ") {
                length = rest.parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        (status, begun.elapsed())
    }
}

fn request(token: &str, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    format!(
        "POST /v1/detect HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Resident memory in KiB.
fn resident(service: &Service) -> u64 {
    let status = format!("/proc/{}/status", service.child.id());
    let status = std::fs::read_to_string(status).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let number = line.unwrap().split_whitespace().nth(1).unwrap();
    number.parse().unwrap()
}

/// Asks `each` times on every one of four connections; gives latencies in ms, sorted, and seconds in all.
fn burst(service: &Service, request: &[u8], each: usize) -> (Vec<f64>, f64) {
    let begun = Instant::now();
    let mut latencies: Vec<f64> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| {
                    let mut kept = Kept(BufReader::new(service.connect()));
                    let times = (0..each).map(|_| {
                        let (status, took) = kept.ask(request);
                        assert_eq!(status, 200);
                        took.as_secs_f64() * 1e3
                    });
                    times.collect::<Vec<_>>()
                })
            })
            .collect();
        clients
            .into_iter()
            .flat_map(|c| c.join().unwrap())
            .collect()
    });
    latencies.sort_unstable_by(f64::total_cmp);
    (latencies, begun.elapsed().as_secs_f64())
}

fn load(rounds: usize, each: usize) {
    let bench = Bench::new("", "[limits]\nper_minute = 100000000\n");
    let service = bench.serve();
    let text = "The union of several states is a state of the union, they said. ".repeat(20);
    let kinds = [
        ("300 token ids", json!({"token_ids": plain(300)})),
        ("a text", json!({"text": text})),
    ];
    for (name, body) in kinds {
        let request = request(SCORES, &body);
        // Warm: allocator, threads, buffers.
        burst(&service, &request, each.min(200));
        let before = resident(&service);
        for _ in 0..rounds {
            let (latencies, seconds) = burst(&service, &request, each);
            let at = |q: f64| latencies[(q * (latencies.len() - 1) as f64) as usize];
            println!(
                "{name}, {} bytes: {} requests on {CLIENTS} connections, {:.0} a second, p50 {:.2} ms, p99 {:.2} ms, worst {:.2} ms, resident {} KiB (before {before})",
                request.len(),
                latencies.len(),
                latencies.len() as f64 / seconds,
                at(0.5),
                at(0.99),
                at(1.0),
                resident(&service)
            );
        }
        // A leak of one request's token ids would be 1.2 MiB over a thousand requests; noise is a tenth of that.
        let grown = resident(&service).saturating_sub(before);
        let requests = (rounds * each * CLIENTS) as u64;
        assert!(
            grown < 800 + requests / 10,
            "{grown} KiB over {requests} requests"
        );
    }
    // The log was written all the while, and nobody had to wait for its reader.
    assert_eq!(service.get("/readyz").status, 200);
}

#[test]
fn memory_stays_flat() {
    load(1, 250);
}

#[test]
#[ignore = "a measurement of minutes"]
fn sustained() {
    load(4, 5000);
}
