//! One attempt: the request's bytes out, the response's exact bytes in, and what they are.

use std::error::Error as _;
use std::io::Read as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION,
    RETRY_AFTER,
};
use reqwest::{Certificate, Url};
use serde_json::Value;
use watermark_core::key::KeyFileError;
use zeroize::Zeroizing;

use super::error::CollectError;
use super::retry::retry_after;
use super::transcript::{Failure, Usage};
use crate::cli::{AccessArgs, Api};
use crate::error::CliError;

/// The header by which our own service names its key.
const OWN_KEY: &str = "x-watermark-key-id";

/// A client for one URL. It follows no redirect, so that credentials and prompts go to no other host, and repeats
/// nothing by itself.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    url: Url,
    authorization: Option<HeaderValue>,
    most: usize,
}

/// What came back, if anything.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) sent: SystemTime,
    pub(super) received: SystemTime,
    pub(super) status: Option<u16>,
    pub(super) request_id: Option<String>,
    pub(super) raw: Vec<u8>,
    pub(super) result: Result<Option<Usage>, Trouble>,
}

/// Why an attempt gave no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) failure: Failure,
    pub(super) kind: Kind,
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Ask again, not before this; `load`: and fewer at once.
    Again { after: Option<Duration>, load: bool },
    /// The endpoint has refused this request for good.
    Refused,
    /// No request can succeed.
    Stop,
    /// Our own service answers.
    Own,
}

/// The URL that is asked.
pub(super) fn endpoint(base: &str, api: Api) -> Result<Url, CollectError> {
    let usage = |what: &str| CollectError::Usage(format!("--endpoint: {what}"));
    // What was given is not repeated: it may hold a password.
    let url = Url::parse(base).map_err(|error| usage(&format!("not a URL: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(usage("an http or https URL is needed"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(usage(
            "no user name or password in a URL; give --api-key-file or --api-key-env",
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(usage("a base URL has no query and no fragment"));
    }
    let mut url = url;
    let path = match api {
        Api::Chat => "/chat/completions",
        Api::Completions => "/completions",
    };
    let base = url.path().trim_end_matches('/');
    let base = base.strip_suffix(path).unwrap_or(base);
    url.set_path(&format!("{base}{path}"));
    Ok(url)
}

/// Whether a URL stays on this machine.
fn is_loopback(url: &Url) -> bool {
    match url.host_str() {
        Some("localhost") => true,
        Some(host) => host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback()),
        None => false,
    }
}

impl Client {
    pub(super) fn new(url: Url, arguments: &AccessArgs) -> Result<Self, CliError> {
        // Another library of this process may have installed one already: as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let authorization = api_key(arguments)?;
        let plain = url.scheme() == "http";
        if plain && authorization.is_some() && !is_loopback(&url) {
            return Err(CollectError::Usage(
                "--endpoint: an API key is not sent over plain http; use https".into(),
            )
            .into());
        }
        let mut roots = Vec::new();
        if let Some(path) = &arguments.ca_file {
            let pem = std::fs::read(path).map_err(CliError::io(path))?;
            let certificates = Certificate::from_pem_bundle(&pem).ok();
            roots = certificates
                .filter(|list| !list.is_empty())
                .ok_or_else(|| CollectError::Content {
                    path: path.clone(),
                    message: "no certificate in PEM form".to_owned(),
                })?;
        }
        let builder = reqwest::Client::builder()
            .user_agent(concat!("watermark/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .connect_timeout(seconds("--connect-timeout", arguments.connect_timeout)?)
            .timeout(seconds("--timeout", arguments.timeout)?);
        let builder = match is_loopback(&url) {
            true => builder.no_proxy(),
            false => builder,
        };
        // Without TLS no root is needed, and a machine may have none.
        let builder = match plain {
            true => builder.tls_certs_only([]),
            false => builder.tls_certs_merge(roots),
        };
        let http = builder
            .build()
            .map_err(|error| CollectError::Client(chain(&error)))?;
        Ok(Self {
            http,
            url,
            authorization,
            most: arguments.max_response_bytes,
        })
    }

    /// Sends one request and reads what comes back to its end.
    pub(super) async fn ask(&self, body: Vec<u8>) -> Attempt {
        let sent = SystemTime::now();
        let mut attempt = Attempt {
            sent,
            received: sent,
            status: None,
            request_id: None,
            raw: Vec::new(),
            result: Ok(None),
        };
        let mut request = self
            .http
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json")
            .body(body);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        let mut cut = None;
        let mut headers = HeaderMap::new();
        match request.send().await {
            Ok(mut response) => {
                attempt.status = Some(response.status().as_u16());
                headers = std::mem::take(response.headers_mut());
                loop {
                    match response.chunk().await {
                        Ok(Some(chunk)) if attempt.raw.len() + chunk.len() > self.most => {
                            cut = Some(trouble(
                                "too_large",
                                format!("a response above {} bytes", self.most),
                                Kind::Refused,
                                true,
                            ));
                            break;
                        }
                        Ok(Some(chunk)) => attempt.raw.extend_from_slice(&chunk),
                        Ok(None) => break,
                        Err(error) => {
                            cut = Some(broken(&error, "truncated"));
                            break;
                        }
                    }
                }
            }
            Err(error) => cut = Some(broken(&error, "lost")),
        }
        attempt.received = SystemTime::now();
        attempt.request_id = text(&headers, "x-request-id");
        attempt.result = match (attempt.status, cut) {
            // A status says more than a body that was cut off, but only an answer needs its whole body.
            (Some(status), Some(cut)) if (200..300).contains(&status) => Err(cut),
            (Some(status), _) => judge(status, &headers, &attempt.raw, attempt.received),
            (None, Some(cut)) => Err(cut),
            (None, None) => Err(trouble("lost", "no response".into(), AGAIN, true)),
        };
        attempt
    }
}

const AGAIN: Kind = Kind::Again {
    after: None,
    load: false,
};

fn trouble(code: &str, message: String, kind: Kind, maybe_charged: bool) -> Trouble {
    Trouble {
        failure: Failure {
            code: code.to_owned(),
            message,
            maybe_charged,
        },
        kind,
    }
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    Some(value.chars().take(200).collect())
}

/// What a response with its whole body is.
fn judge(
    status: u16,
    headers: &HeaderMap,
    raw: &[u8],
    now: SystemTime,
) -> Result<Option<Usage>, Trouble> {
    if let Some(key) = text(headers, OWN_KEY) {
        let what = format!("the response has the header {OWN_KEY} ({key})");
        return Err(trouble("own_service", what, Kind::Own, true));
    }
    let body: Option<Value> = serde_json::from_slice(raw).ok();
    let after = text(headers, RETRY_AFTER.as_str()).and_then(|value| retry_after(&value, now));
    let again = |load| Kind::Again { after, load };
    let said = || {
        let error = body.as_ref().and_then(|body| body.get("error"));
        let message = error
            .and_then(|error| error.get("message").or(Some(error)))
            .map(|message| {
                message
                    .as_str()
                    .map_or_else(|| message.to_string(), str::to_owned)
            });
        message
            .unwrap_or_default()
            .chars()
            .take(300)
            .collect::<String>()
    };
    let code = format!("status_{status}");
    match status {
        200..=299 => answer(headers, body.as_ref())
            .map_err(|message| trouble("invalid", message, again(false), true)),
        300..=399 => {
            let to = text(headers, LOCATION.as_str())
                .and_then(|to| Url::parse(&to).ok())
                .and_then(|to| Some(format!(" to {}", to.host_str()?)));
            let message = format!(
                "status {status}: it redirects{}; redirects are not followed, since they would take the API key and the prompts elsewhere. Give the right URL with --endpoint",
                to.unwrap_or_default()
            );
            Err(trouble(&code, message, Kind::Stop, false))
        }
        401 | 402 | 404 | 405 | 407 => Err(trouble(
            &code,
            format!("status {status}: {}", said()),
            Kind::Stop,
            false,
        )),
        429 | 503 | 529 => Err(trouble(&code, said(), again(true), false)),
        408 | 409 | 425 => Err(trouble(&code, said(), again(false), false)),
        500..=599 => Err(trouble(&code, said(), again(false), false)),
        _ => Err(trouble(&code, said(), Kind::Refused, false)),
    }
}

/// The usage of an answer, or why it is none.
fn answer(headers: &HeaderMap, body: Option<&Value>) -> Result<Option<Usage>, String> {
    let kind = text(headers, CONTENT_TYPE.as_str()).unwrap_or_default();
    let media = kind.split(';').next().unwrap_or_default().trim();
    if !(media.eq_ignore_ascii_case("application/json") || media.ends_with("+json")) {
        return Err(format!("content type `{kind}`, not application/json"));
    }
    if let Some(coding) = text(headers, CONTENT_ENCODING.as_str()).filter(|c| c != "identity") {
        return Err(format!(
            "content encoding `{coding}`, which was not asked for"
        ));
    }
    let body = body.ok_or("the body is not JSON")?;
    let choices = body.get("choices").and_then(Value::as_array);
    let holds = |choice: &Value| {
        choice.get("message").is_some_and(Value::is_object)
            || choice.get("text").is_some_and(Value::is_string)
    };
    if !choices.is_some_and(|choices| !choices.is_empty() && choices.iter().all(holds)) {
        return Err("the body has no `choices` with `message` or `text`".to_owned());
    }
    let count = |field: &str| body.get("usage")?.get(field)?.as_u64();
    Ok(count("completion_tokens").map(|completion_tokens| Usage {
        prompt_tokens: count("prompt_tokens").unwrap_or(0),
        completion_tokens,
    }))
}

/// A request that did not come back whole.
fn broken(error: &reqwest::Error, code: &str) -> Trouble {
    let message = chain(error);
    if let Some(reason) = certificate(error) {
        let message = format!(
            "its certificate is not accepted ({reason}); where it has an authority of its own, give --ca-file"
        );
        return trouble("certificate", message, Kind::Stop, false);
    }
    if error.is_timeout() {
        let load = Kind::Again {
            after: None,
            load: true,
        };
        return trouble("timeout", message, load, !error.is_connect());
    }
    if error.is_connect() {
        return trouble("connect", message, AGAIN, false);
    }
    trouble(code, message, AGAIN, true)
}

/// Why a certificate was refused, where that is the cause.
fn certificate(error: &reqwest::Error) -> Option<String> {
    let mut cause = error.source();
    while let Some(error) = cause {
        let inner = error
            .downcast_ref::<std::io::Error>()
            .and_then(|error| error.get_ref())
            .and_then(|error| error.downcast_ref::<rustls::Error>())
            .or_else(|| error.downcast_ref::<rustls::Error>());
        if let Some(rustls::Error::InvalidCertificate(reason)) = inner {
            return Some(format!("{reason:?}").chars().take(200).collect());
        }
        cause = error.source();
    }
    None
}

/// An error with its causes; the URL is known, and left out.
fn chain(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = match text.is_empty() {
            true => error.to_string(),
            false => format!("{text}: {error}"),
        };
        cause = error.source();
    }
    match text.is_empty() {
        true => "no cause given".to_owned(),
        false => text,
    }
}

fn seconds(option: &str, value: f64) -> Result<Duration, CollectError> {
    Duration::try_from_secs_f64(value)
        .ok()
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| CollectError::Usage(format!("{option} {value}: seconds above 0")))
}

/// The `Authorization` header. The key is in no error.
fn api_key(arguments: &AccessArgs) -> Result<Option<HeaderValue>, CliError> {
    let (from, key) = if let Some(path) = &arguments.api_key_file {
        (path.display().to_string(), private(path)?)
    } else if let Some(name) = &arguments.api_key_env {
        let key = std::env::var(name).map_err(|_| {
            CollectError::Usage(format!("--api-key-env {name}: the variable is not set"))
        })?;
        (format!("--api-key-env {name}"), Zeroizing::new(key))
    } else {
        return Ok(None);
    };
    let invalid = || CollectError::Content {
        path: from.clone().into(),
        message: "no API key: one line of printable characters is needed".to_owned(),
    };
    let key = key.trim();
    if key.is_empty() {
        return Err(invalid().into());
    }
    let header = Zeroizing::new(format!("Bearer {key}"));
    let mut header = HeaderValue::from_str(&header).map_err(|_| invalid())?;
    header.set_sensitive(true);
    Ok(Some(header))
}

/// The text of a file that only its owner can read: the rule of key files.
fn private(path: &Path) -> Result<Zeroizing<String>, CliError> {
    const MOST: u64 = 16 << 10;
    let file = std::fs::File::open(path).map_err(CliError::io(path))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let metadata = file.metadata().map_err(CliError::io(path))?;
        if metadata.mode() & 0o077 != 0 {
            return Err(KeyFileError::OpenToOthers {
                path: path.to_owned(),
                mode: metadata.mode() & 0o777,
            }
            .into());
        }
        if metadata.uid() != rustix::process::geteuid().as_raw() {
            return Err(KeyFileError::OtherOwner(path.to_owned()).into());
        }
    }
    let mut text = Zeroizing::new(String::with_capacity(MOST as usize));
    file.take(MOST)
        .read_to_string(&mut text)
        .map_err(CliError::io(path))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let url = |base| endpoint(base, Api::Chat).map(String::from);
        for base in [
            "https://h.example/v1",
            "https://h.example/v1/",
            "https://h.example/v1/chat/completions",
        ] {
            assert_eq!(url(base).unwrap(), "https://h.example/v1/chat/completions");
        }
        let text = endpoint("http://127.0.0.1:8000", Api::Completions).unwrap();
        assert_eq!(text.as_str(), "http://127.0.0.1:8000/completions");
        for bad in [
            "h.example/v1",
            "file:///etc",
            "https://user:hunter2@h.example/v1",
            "https://h.example/v1?key=hunter2",
        ] {
            let error = url(bad).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn responses_are_told_apart() {
        let headers = |list: &[(&'static str, &str)]| -> HeaderMap {
            let pair = |&(name, value): &(&'static str, &str)| {
                (
                    reqwest::header::HeaderName::from_static(name),
                    HeaderValue::from_str(value).unwrap(),
                )
            };
            list.iter().map(pair).collect()
        };
        let json = ("content-type", "application/json; charset=utf-8");
        let ask = |status, list: &[(&'static str, &str)], raw: &str| {
            judge(
                status,
                &headers(list),
                raw.as_bytes(),
                SystemTime::UNIX_EPOCH,
            )
        };
        let good = r#"{"choices": [{"text": "x"}], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}"#;
        assert_eq!(
            ask(200, &[json], good),
            Ok(Some(Usage {
                prompt_tokens: 3,
                completion_tokens: 4
            }))
        );
        let kind = |result: Result<Option<Usage>, Trouble>| result.unwrap_err().kind;
        for (list, raw) in [
            (&[("content-type", "text/html")][..], good),
            (&[], good),
            (&[json, ("content-encoding", "gzip")], good),
            (&[json], &good[..40]),
            (&[json], r#"{"choices": []}"#),
            (&[json], r#"{"error": {"message": "busy"}}"#),
            (&[json], "[]"),
        ] {
            let error = ask(200, list, raw).unwrap_err();
            assert!(
                error.kind == AGAIN && error.failure.maybe_charged,
                "{error:?}"
            );
        }
        let after = kind(ask(429, &[("retry-after", "9")], ""));
        let expected = Kind::Again {
            after: Some(Duration::from_secs(9)),
            load: true,
        };
        assert_eq!(after, expected);
        assert_eq!(kind(ask(500, &[], "")), AGAIN);
        let refused = ask(
            400,
            &[json],
            r#"{"error": {"message": "no such parameter"}}"#,
        );
        let refused = refused.unwrap_err();
        assert_eq!(refused.kind, Kind::Refused);
        assert_eq!(refused.failure.message, "no such parameter");
        assert_eq!(kind(ask(401, &[], "")), Kind::Stop);
        let moved = ask(307, &[("location", "https://u:p@evil.example/v1")], "").unwrap_err();
        assert!(moved.kind == Kind::Stop && moved.failure.message.contains("evil.example"));
        assert!(!moved.failure.message.contains("u:p"));
        let own = ask(200, &[json, (OWN_KEY, "0123456789abcdef")], good);
        assert_eq!(kind(own), Kind::Own);
    }
}
