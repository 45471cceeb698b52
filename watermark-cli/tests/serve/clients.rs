//! Clients that err, and clients that mean harm.

use super::*;

#[test]
fn bad_requests_say_what_is_wrong() {
    let bench = Bench::new("", "[limits]\ntokens = 1000\n");
    let service = bench.serve();
    let detect = |body: &str| {
        let bearer = format!("Bearer {VERDICT}");
        let headers = [
            ("Authorization", bearer.as_str()),
            ("Content-Type", "application/json; charset=utf-8"),
        ];
        service.send("POST /v1/detect", &headers, body)
    };
    let deep = "[".repeat(10_000);
    for (body, status, words) in [
        ("{\n  \"text\":", 400, "line 2"),
        ("", 400, "line 1"),
        ("[1]", 400, "line 1"),
        (deep.as_str(), 400, "line 1"),
        (r#"{"text": 7}"#, 400, "line 1 column"),
        (r#"{"txt": "a"}"#, 400, "unknown field `txt`"),
        (r#"{"text": "a", "text": "b"}"#, 400, "duplicate field"),
        (r#"{"text": "a", "prompt": 7}"#, 400, "`prompt` is neither"),
        (r#"{"token_ids": [-1]}"#, 400, "-1"),
        (r#"{"token_ids": [1.5]}"#, 400, "1.5"),
        (r"{}", 422, "either `text` or `token_ids`"),
        (r#"{"text": "a", "token_ids": [1]}"#, 422, "either"),
        (r#"{"text": ""}"#, 422, "empty"),
        (r#"{"token_ids": []}"#, 422, "empty"),
        (r#"{"token_ids": [4096]}"#, 422, "4096 is no id"),
        (r#"{"token_ids": [1], "prompt": [4096]}"#, 422, "`prompt`"),
        (r#"{"text": "a", "mark": "none"}"#, 404, "`mark`"),
    ] {
        detect(body).problem(status, words);
    }
    let many = json!({"token_ids": vec![1; 1001]}).to_string();
    detect(&many).problem(422, "too many tokens");
    let prompt = json!({"token_ids": vec![1; 600], "prompt": vec![1; 401]}).to_string();
    detect(&prompt).problem(422, "too many tokens");
    detect(&json!({"text": "word ".repeat(3000)}).to_string()).problem(422, "too many tokens");

    for (request, headers, status, words) in [
        ("GET /none", &[][..], 404, "/openapi.json"),
        ("GET /v1/detect?text=secretive", &[], 405, "POST"),
        ("DELETE /healthz", &[], 405, "GET, HEAD"),
        ("PUT /", &[], 405, "GET, HEAD, POST"),
    ] {
        let reply = service.send(request, headers, "");
        reply.problem(status, words);
        if status == 405 {
            assert_eq!(reply.header("allow"), Some(words));
        }
    }
    let bearer = format!("Bearer {VERDICT}");
    let authorised = ("Authorization", bearer.as_str());
    for content_type in [None, Some("text/plain"), Some("application/jsonx")] {
        let mut headers = vec![authorised];
        headers.extend(content_type.map(|value| ("Content-Type", value)));
        service
            .send("POST /v1/detect", &headers, "{}")
            .problem(415, "application/json");
    }
    // What is no HTTP is no reason to fall over.
    assert_eq!(service.raw(b"\x16\x03\x01 hello\r\n\r\n").status, 400);
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(100_000));
    assert!([400, 414, 431, 0].contains(&service.raw(long.as_bytes()).status));
    assert_eq!(service.get("/healthz").json()["status"], "alive");
}

#[test]
fn large_bodies_are_not_taken() {
    let bench = Bench::new("", "[limits]\nbody_bytes = 5000\n");
    let service = bench.serve();
    let head = format!(
        "POST /v1/detect HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {VERDICT}\r\nContent-Type: application/json\r\nConnection: close\r\n"
    );
    // Said beforehand: refused before a byte of it.
    let said = format!("{head}Content-Length: 5001\r\n\r\n");
    service.raw(said.as_bytes()).problem(413, "5000 bytes");
    // Not said: refused on the way.
    let chunk = format!("1000\r\n{}\r\n", " ".repeat(0x1000));
    let chunked = format!(
        "{head}Transfer-Encoding: chunked\r\n\r\n{}",
        chunk.repeat(2)
    );
    service.raw(chunked.as_bytes()).problem(413, "5000 bytes");
    let fits = format!("{{\"text\": \"{}\"}}", "a ".repeat(2000));
    let reply =
        service.raw(format!("{head}Content-Length: {}\r\n\r\n{fits}", fits.len()).as_bytes());
    assert_eq!(reply.status, 200, "{reply:?}");
    // An unknown caller's body is not read at all.
    let reply = service.send("POST /v1/detect", &[("Content-Length", "4000")], "");
    reply.problem(401, "Bearer TOKEN");
}

#[test]
fn texts_a_minute_are_counted() {
    let bench = Bench::new("", "[limits]\nper_minute = 5\n");
    let service = bench.serve();
    let four = json!({"inputs": vec![json!({"text": "a b"}); 4]});
    assert_eq!(service.post("/v1/detect", VERDICT, &four).status, 200);
    let reply = service.post("/v1/detect", VERDICT, &four);
    reply.problem(429, "wait");
    let wait: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=36).contains(&wait), "{wait}");
    // Another token has a minute of its own.
    assert_eq!(service.post("/v1/detect", SCORES, &four).status, 200);
}

/// A client that sends a byte now and then is cut off when its time is over, and holds up nobody.
#[test]
fn slow_clients_are_cut_off() {
    let bench = Bench::new(
        "",
        "[limits]\nheader_seconds = 1\nbody_seconds = 1\nconnections = 4\n",
    );
    let service = bench.serve();
    let head = format!(
        "POST /v1/detect HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {VERDICT}\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
    );
    let drip = |start: &str| {
        let mut stream = service.connect();
        stream.write_all(start.as_bytes()).unwrap();
        let begun = Instant::now();
        std::thread::spawn(move || {
            // Until the other side has had enough.
            let mut reader = stream.try_clone().unwrap();
            let writer = std::thread::spawn(move || {
                while begun.elapsed() < Duration::from_secs(20) && stream.write_all(b"a").is_ok() {
                    std::thread::sleep(Duration::from_millis(100));
                }
            });
            let mut said = Vec::new();
            let _ = reader.read_to_end(&mut said);
            let took = begun.elapsed();
            writer.join().unwrap();
            (took, String::from_utf8(said).unwrap())
        })
    };
    // All four places are taken: by headers, a body, and one that says nothing.
    let clients = [drip("GET /healthz HTTP/1.1\r\nX: "), drip("G"), drip(&head)];
    let mut silent = service.connect();
    std::thread::sleep(Duration::from_millis(200));
    let begun = Instant::now();
    assert_eq!(service.get("/healthz").status, 200);
    assert!(begun.elapsed() < Duration::from_secs(6), "{begun:?}");
    for (client, body) in clients.into_iter().zip([false, false, true]) {
        let (took, said) = client.join().unwrap();
        assert!(took < Duration::from_secs(8), "{took:?}");
        assert_eq!(said.contains("408"), body, "{said}");
    }
    let _ = silent.read_to_end(&mut Vec::new());
    assert!(begun.elapsed() < Duration::from_secs(10));
    // Keep-alive ends as well.
    let mut idle = service.connect();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    let begun = Instant::now();
    let reply = read(idle);
    assert_eq!(reply.status, 200);
    assert!(begun.elapsed() < Duration::from_secs(6));
}

/// More requests than places: each is answered, or told to come again.
#[test]
fn many_at_once_are_answered() {
    let bench = Bench::new("", "[limits]\nconcurrent = 1\nper_minute = 100000\n");
    let service = bench.serve();
    let body = json!({"token_ids": plain(3000)});
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..24)
            .map(|_| scope.spawn(|| service.post("/v1/detect", SCORES, &body)))
            .collect();
        for thread in threads {
            let reply = thread.join().unwrap();
            assert_eq!(reply.json()["verdict"], "not-rejected", "{reply:?}");
        }
    });
}

/// A client that asks for much and takes nothing is cut off as well.
#[test]
fn who_does_not_read_is_cut_off() {
    let bench = Bench::new(
        "",
        "[limits]\nconnections = 1\nconnection_seconds = 1\nheader_seconds = 1\nbody_seconds = 2\nrequest_seconds = 3\ntokens = 150000\nexplain_tokens = 150000\n",
    );
    let service = bench.serve();
    let body = json!({"token_ids": vec![1; 150_000]}).to_string();
    let mut stuck = service.connect();
    let head = format!(
        "POST /v1/explain HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SCORES}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stuck.write_all(head.as_bytes()).unwrap();
    stuck.write_all(body.as_bytes()).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    // The only place is taken until then.
    let begun = Instant::now();
    assert_eq!(service.get("/healthz").status, 200);
    let waited = begun.elapsed();
    assert!((2..12).contains(&waited.as_secs()), "{waited:?}");
    let mut taken = Vec::new();
    let _ = stuck.read_to_end(&mut taken);
    // Cut off in the middle: else the answer fitted into buffers, and nothing was tested.
    let text = String::from_utf8_lossy(&taken);
    assert!(text.starts_with("HTTP/1.1 200") && !text.ends_with("]}"));
}
