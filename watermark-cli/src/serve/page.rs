//! The page: paste a text, see what the detector does with each token. A form and no script.
//!
//! A browser cannot send a bearer header from a form, so the token is a field of it, asked for each time and
//! never sent back. What keeps other sites away: the page answers only to host names it knows (a foreign name
//! that was pointed at this address is none), a form of another site is refused by the browser's own marks on
//! the request, and without a token in it a form gets nothing.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use maud::{Markup, html};
use watermark_core::verdict::Verdict;

use super::log::Audit;
use super::problem::Problem;
use super::server::Server;
use super::state;
use super::token;
use super::work::Given;
use crate::render::html::{explain as explanation_page, page};

const FORM: &str = "application/x-www-form-urlencoded";

/// What the page may do: its own style and its own form.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// What stood in the form.
#[derive(Default)]
struct Fields {
    mark: String,
    prompt: String,
    text: String,
    token: String,
}

impl Fields {
    fn parse(body: &[u8]) -> Result<Self, Problem> {
        let mut fields = Self::default();
        for (name, value) in form_urlencoded::parse(body) {
            // A browser ends the lines of a form with CR LF, whatever was pasted.
            let value = || value.replace("\r\n", "\n");
            match &*name {
                "mark" => fields.mark = value().trim().to_owned(),
                "prompt" => fields.prompt = value(),
                "text" => fields.text = value(),
                "token" => fields.token = value().trim().to_owned(),
                _ => return Err(Problem::bad("the form has a field that the page has not")),
            }
        }
        Ok(fields)
    }
}

/// The empty form.
pub(super) async fn form(State(server): State<Arc<Server>>, headers: HeaderMap) -> Response {
    let state = server.state();
    match check(&server, &state, &headers) {
        Ok(()) => respond(&state, &Fields::default(), None, None),
        Err(problem) => problem.into_response(),
    }
}

/// The form with what came of it.
pub(super) async fn explain(
    State(server): State<Arc<Server>>,
    Extension(audit): Extension<Arc<Audit>>,
    request: Request,
) -> Response {
    let state = server.state();
    let (parts, content) = request.into_parts();
    if let Err(problem) = check(&server, &state, &parts.headers) {
        return problem.into_response();
    }
    let body = super::routes::body(&parts.headers, content, FORM, &state.config.limits).await;
    let fields = match body.and_then(|bytes| Fields::parse(&bytes)) {
        Ok(fields) => fields,
        Err(problem) => return respond(&state, &Fields::default(), None, Some(&problem)),
    };
    match answer(&server, &state, &audit, &fields).await {
        Ok(result) => respond(&state, &fields, Some(&result), None),
        Err(problem) => respond(&state, &fields, None, Some(&problem)),
    }
}

async fn answer(
    server: &Server,
    state: &state::State,
    audit: &Audit,
    fields: &Fields,
) -> Result<Markup, Problem> {
    let caller = token::find(&state.tokens, &fields.token)
        .ok_or_else(|| Problem::unauthorized("the token is not known"))?;
    let _ = audit.caller.set(caller.clone());
    let given = Given {
        text: Some(fields.text.clone()),
        token_ids: None,
        prompt: (!fields.prompt.is_empty())
            .then(|| super::api::Prompt::Text(fields.prompt.clone())),
    };
    let name = (!fields.mark.is_empty()).then_some(fields.mark.as_str());
    let what = (name, given);
    let (open, sample, explanation) =
        super::routes::explained(server, state, audit, &caller, what).await?;
    let test = &sample.test;
    let verdict = Verdict::of(test, &open.policy);
    Ok(html! {
        section {
            h2 { "Result: " (verdict) }
            p { (said(verdict)) }
            p {
                "p = " b { (test.p) } ", alpha " (format!("{:e}", open.policy.alpha)) "; z " (format!("{:+.2}", test.z)) " over " (test.n_scored) " scored cells. Profile "
                (open.mark.profile().id) ", key " code { (open.mark.key_id()) } "."
            }
            (explanation_page::fragment(&explanation))
        }
    })
}

/// What a verdict says of one text.
fn said(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Rejected => {
            "Independence of this text from the key is rejected: expected of text written under it. Does not show who wrote the text: whoever has seen many marked answers can imitate the mark."
        }
        Verdict::NotRejected => {
            "No dependence on the key was detected. That is not evidence of absence: short, quoted, edited or translated text loses the mark."
        }
        Verdict::InsufficientEvidence => "Too few scored cells for any statement.",
    }
}

/// Refuses requests that a browser on another site, or under another name, sends.
fn check(server: &Server, state: &state::State, headers: &HeaderMap) -> Result<(), Problem> {
    if !state.config.serves_page() {
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            "the page is not served; see `page` in the configuration",
        ));
    }
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text(header::HOST).unwrap_or_default();
    let port = server.address.port();
    let loopback = server.address.ip().is_loopback();
    let names = ["localhost", "127.0.0.1", "[::1]"];
    let own = loopback
        && names.iter().any(|name| {
            host.eq_ignore_ascii_case(&format!("{name}:{port}"))
                || port == 80 && host.eq_ignore_ascii_case(name)
        });
    let known = state.config.hosts.iter();
    if !own
        && !known
            .into_iter()
            .any(|name| name.eq_ignore_ascii_case(host))
    {
        return Err(Problem::new(
            StatusCode::MISDIRECTED_REQUEST,
            "the page does not answer under this host name; add it to `hosts` in the configuration",
        ));
    }
    let foreign = || Problem::forbidden("the form of another site");
    match text(header::HeaderName::from_static("sec-fetch-site")) {
        Some("same-origin" | "none") => Ok(()),
        // A link from elsewhere may lead to the empty form.
        Some(_) if headers.get(header::CONTENT_TYPE).is_none() => Ok(()),
        Some(_) => Err(foreign()),
        None => match text(header::ORIGIN) {
            None => Ok(()),
            Some(origin) => match origin.split_once("://") {
                Some((_, of)) if of.eq_ignore_ascii_case(host) => Ok(()),
                _ => Err(foreign()),
            },
        },
    }
}

fn respond(
    state: &state::State,
    fields: &Fields,
    result: Option<&Markup>,
    problem: Option<&Problem>,
) -> Response {
    let body = html! {
        p { "Paste a text to see what the detector does with each token. The text is not stored or logged." }
        @if let Some(problem) = problem {
            p .problem role="alert" { b { "Not done: " } (problem.detail()) "." }
        }
        @if let Some(result) = result {
            (result)
            h2 { "Another text" }
        }
        (input(state, fields))
    };
    let page = Html(page("Is this text marked?", &body));
    let mut response = match problem {
        Some(problem) => problem.respond(page),
        None => page.into_response(),
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn input(state: &state::State, fields: &Fields) -> Markup {
    html! {
        form method="post" action="/" autocomplete="off" {
            label for="text" { "Text" }
            textarea #text name="text" rows="8" required spellcheck="false" { "\n" (fields.text) }
            label for="prompt" { "What the model was given to read, if known" }
            textarea #prompt name="prompt" rows="2" spellcheck="false" { "\n" (fields.prompt) }
            @if state.marks.len() > 1 {
                label for="mark" { "Mark, by name; the first if empty" }
                input #mark name="mark" value=(fields.mark);
            }
            label for="token" { "Access token of the role scores" }
            input #token name="token" type="password" required autocomplete="off";
            button { "Explain" }
        }
    }
}
