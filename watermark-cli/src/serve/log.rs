//! One JSON line an event on standard error. No text, key or token can get here: an event has fields of its
//! own, and a request's path is one of the known routes or none.

use std::io::Write;
use std::sync::OnceLock;
use std::time::SystemTime;

use schemars::JsonSchema;
use serde::Serialize;
use watermark_core::evidence::time::rfc3339_millis;

use super::state::Service;
use super::token::Caller;

/// What the handler of a request found out about it.
#[derive(Debug, Default)]
pub(super) struct Audit {
    pub(super) caller: OnceLock<Caller>,
    pub(super) tokens: OnceLock<usize>,
    pub(super) texts: OnceLock<usize>,
}

/// One line of the log of `serve`, on standard error.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum LogLine<'a> {
    Request(RequestLine<'a>),
    Loaded(LoadedLine),
    Event(EventLine<'a>),
}

/// What the service has: when it begins to listen, and when files were loaded again.
#[derive(Serialize, JsonSchema)]
pub(crate) struct LoadedLine {
    pub(super) time: String,
    /// `listening` or `reloaded`.
    pub(super) event: &'static str,
    #[serde(flatten)]
    pub(super) service: Service,
}

/// An event with a message, which names files and fields.
#[derive(Serialize, JsonSchema)]
pub(crate) struct EventLine<'a> {
    time: String,
    event: &'a str,
    message: String,
}

/// The line of one request.
#[derive(Serialize, JsonSchema)]
pub(crate) struct RequestLine<'a> {
    pub(super) time: String,
    #[schemars(extend("const" = "request"))]
    pub(super) event: &'static str,
    pub(super) id: &'a str,
    pub(super) method: &'static str,
    pub(super) route: &'static str,
    pub(super) status: u16,
    pub(super) ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) caller: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) texts: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tokens: Option<usize>,
}

/// Writes one line. A log that nobody takes is no reason to stop.
pub(super) fn write(line: &LogLine<'_>) {
    if let Ok(mut text) = serde_json::to_string(line) {
        text.push('\n');
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }
}

/// An event with a message, which names files and fields.
pub(super) fn event(name: &str, message: impl std::fmt::Display) {
    write(&LogLine::Event(EventLine {
        time: now(),
        event: name,
        message: message.to_string(),
    }));
}

/// What the service has.
pub(super) fn loaded(event: &'static str, service: Service) {
    write(&LogLine::Loaded(LoadedLine {
        time: now(),
        event,
        service,
    }));
}

/// The time, RFC 3339 in UTC, to the millisecond.
pub(super) fn now() -> String {
    rfc3339_millis(SystemTime::now())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn dates_at_the_edges_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000Z"),
            (1_798_761_599, "2026-12-31T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            let time = UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(rfc3339_millis(time), expected);
        }
    }
}
