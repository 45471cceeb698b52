//! The page, and what other sites could try with it.

use super::*;

const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

fn form(fields: &[(&str, &str)]) -> String {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.extend_pairs(fields).finish()
}

#[test]
fn a_text_is_explained_without_scripts() {
    let bench = Bench::new("", "");
    let service = bench.serve();
    let empty = service.get("/");
    assert_eq!(empty.status, 200);
    for reply in [
        &empty,
        &service.send("GET /", &[("Sec-Fetch-Site", "cross-site")], ""),
    ] {
        assert_eq!(reply.status, 200);
        let policy = reply.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none';") && !policy.contains("script"));
        assert!(policy.contains("frame-ancestors 'none'"));
        assert_eq!(reply.header("cache-control"), Some("no-store"));
        assert!(!reply.body.contains("<script") && reply.body.contains("<form"));
    }
    let text = "A <b>bold</b> text\r\nof \"two\" lines & more of the same.";
    let asked = form(&[("text", text), ("prompt", "Say it."), ("token", SCORES)]);
    let same = ("Sec-Fetch-Site", "same-origin");
    let reply = service.send("POST /", &[FORM, same], &asked);
    assert_eq!(reply.status, 200, "{reply:?}");
    assert!(reply.body.contains("insufficient evidence"));
    assert!(reply.body.contains("class=\"tokens\"") && !reply.body.contains("<b>bold"));
    assert!(!reply.body.contains(SCORES), "the token does not come back");
    let lower = reply.body.to_lowercase();
    for word in ["proves", "stolen", "guilty", "certain", "100 %", "p = 0"] {
        assert!(!lower.contains(word), "{word}");
    }
    // The text is back in its box, with the lines that were pasted.
    assert!(
        reply
            .body
            .contains("text\nof &quot;two&quot; lines &amp; more")
    );

    for (token, status, words) in [("wrong", 401, "not known"), (VERDICT, 403, "role scores")] {
        let reply = service.send(
            "POST /",
            &[FORM],
            &form(&[("text", "a b"), ("token", token)]),
        );
        assert_eq!(reply.status, status);
        assert!(reply.body.contains(words) && reply.body.contains("<form"));
    }
    let nothing = form(&[("text", ""), ("token", SCORES)]);
    assert_eq!(service.send("POST /", &[FORM], &nothing).status, 422);
    let json = ("Content-Type", "application/json");
    assert_eq!(service.send("POST /", &[json], &nothing).status, 415);
}

#[test]
fn other_sites_and_other_names_get_nothing() {
    let bench = Bench::new("hosts = [\"detect.example\"]", "");
    let service = bench.serve();
    let port = service.address.port();
    let [own, named, numbered] =
        ["127.0.0.1", "localhost", "127.0.0.2"].map(|host| format!("{host}:{port}"));
    for (host, status) in [
        (own.as_str(), 200),
        (&named, 200),
        ("detect.example", 200),
        // A foreign name that was pointed at this address.
        ("rebound.example", 421),
        ("127.0.0.1", 421),
        ("localhost:1", 421),
        (&numbered, 421),
        ("", 421),
    ] {
        let reply = service.send("GET /", &[("Host", host)], "");
        assert_eq!(reply.status, status, "{host}: {reply:?}");
        assert_eq!(reply.body.contains("<form"), status == 200);
    }
    let asked = form(&[("text", "a b c"), ("token", SCORES)]);
    let origin = format!("http://{own}");
    for (name, value, status) in [
        ("Origin", origin.as_str(), 200),
        ("Origin", "http://evil.example", 403),
        ("Origin", "null", 403),
        ("Sec-Fetch-Site", "cross-site", 403),
        ("Sec-Fetch-Site", "same-site", 403),
        ("Sec-Fetch-Site", "same-origin", 200),
    ] {
        let reply = service.send("POST /", &[FORM, (name, value)], &asked);
        assert_eq!(reply.status, status, "{name}: {value}");
    }
    let off = Bench::new("page = \"off\"", "").serve();
    off.get("/").problem(404, "page");
}
