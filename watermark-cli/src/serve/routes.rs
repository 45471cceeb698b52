//! The routes: the one list from which the router and the description are made.

use std::sync::Arc;

use axum::Extension;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{MethodRouter, get, post};
use schemars::Schema;
use schemars::generate::SchemaGenerator;
use serde::de::DeserializeOwned;
use watermark_core::detect::Sample;
use watermark_core::explain::{Explanation, Status};

use super::api::{
    DetectRequest, DetectResponse, Detection, Detections, ExplainRequest, ExplainResponse,
    ExplainedToken, Health, Input, SlotRequest, SlotResponse,
};
use super::config::{Limits, Role};
use super::log::Audit;
use super::problem::Problem;
use super::server::Server;
use super::state;
use super::token::{self, Caller};
use super::work::{Given, test};

type MakeSchema = fn(&mut SchemaGenerator) -> Schema;

/// One method of one path.
pub(super) struct Route {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) summary: &'static str,
    /// Empty where no bearer token is asked for.
    pub(super) roles: &'static [Role],
    pub(super) request: Option<MakeSchema>,
    /// JSON; else HTML, or JSON without a schema.
    pub(super) response: Option<MakeSchema>,
    pub(super) media_type: &'static str,
    /// Statuses of problems.
    pub(super) problems: &'static [u16],
    pub(super) handler: fn() -> MethodRouter<Arc<Server>>,
}

fn schema<T: schemars::JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

const JSON: &str = "application/json";
const ASKED: &[u16] = &[400, 401, 403, 404, 405, 408, 413, 415, 422, 429, 500, 503];

/// All routes.
pub(super) const ROUTES: [Route; 8] = [
    Route {
        method: "post",
        path: "/v1/detect",
        summary: "Test texts for a mark. Numbers are for the role `scores` alone.",
        roles: &[Role::Verdict, Role::Scores],
        request: Some(schema::<DetectRequest>),
        response: Some(schema::<DetectResponse>),
        media_type: JSON,
        problems: ASKED,
        handler: || post(on_detect),
    },
    Route {
        method: "post",
        path: "/v1/explain",
        summary: "A text token by token: scored, skipped and why.",
        roles: &[Role::Scores],
        request: Some(schema::<ExplainRequest>),
        response: Some(schema::<ExplainResponse>),
        media_type: JSON,
        problems: ASKED,
        handler: || post(on_explain),
    },
    Route {
        method: "post",
        path: "/v1/slot",
        summary: "The mark to write an account's answers under.",
        roles: &[Role::Provider],
        request: Some(schema::<SlotRequest>),
        response: Some(schema::<SlotResponse>),
        media_type: JSON,
        problems: &[400, 401, 403, 404, 405, 408, 413, 415, 422],
        handler: || post(on_slot),
    },
    Route {
        method: "get",
        path: "/healthz",
        summary: "The service is alive.",
        roles: &[],
        request: None,
        response: Some(schema::<Health>),
        media_type: JSON,
        problems: &[405],
        handler: || get(on_alive),
    },
    Route {
        method: "get",
        path: "/readyz",
        summary: "Known answers come out, and every mark's key is there.",
        roles: &[],
        request: None,
        response: Some(schema::<Health>),
        media_type: JSON,
        problems: &[405, 503],
        handler: || get(on_ready),
    },
    Route {
        method: "get",
        path: "/openapi.json",
        summary: "This description.",
        roles: &[],
        request: None,
        response: None,
        media_type: JSON,
        problems: &[405],
        handler: || get(async || Json(super::openapi::document())),
    },
    Route {
        method: "get",
        path: "/",
        summary: "A page with a form, for a browser on the same host.",
        roles: &[],
        request: None,
        response: None,
        media_type: "text/html",
        problems: &[404, 405, 421],
        handler: || get(super::page::form),
    },
    Route {
        method: "post",
        path: "/",
        summary: "The form, with a token in it: a text and its explanation as a page.",
        roles: &[],
        request: None,
        response: None,
        media_type: "text/html",
        problems: &[
            400, 401, 403, 404, 405, 408, 413, 415, 421, 422, 429, 500, 503,
        ],
        handler: || post(super::page::explain),
    },
];

/// The known path that a request asks for: what may stand in a log.
pub(super) fn known(path: &str) -> &'static str {
    let route = ROUTES.iter().find(|route| route.path == path);
    route.map_or("unknown", |route| route.path)
}

/// Every route, and an answer to everything else.
pub(super) fn router(server: Arc<Server>) -> axum::Router {
    let mut router = axum::Router::new();
    for route in &ROUTES {
        router = router.route(route.path, (route.handler)());
    }
    router
        .fallback(async || {
            Problem::new(
                StatusCode::NOT_FOUND,
                "there is no such route; /openapi.json names them",
            )
        })
        .method_not_allowed_fallback(async |request: Request| {
            let path = request.uri().path();
            let methods = ROUTES.iter().filter(|route| route.path == path);
            let names: Vec<String> = methods
                .map(|route| match route.method {
                    "get" => "GET, HEAD".to_owned(),
                    other => other.to_uppercase(),
                })
                .collect();
            Problem::method(names.join(", "))
        })
        .layer(axum::middleware::from_fn_with_state(
            Arc::clone(&server),
            super::server::observe,
        ))
        .with_state(server)
}

/// The caller, if the role is one of `roles`.
fn authorise(
    state: &state::State,
    headers: &HeaderMap,
    audit: &Audit,
    roles: &[Role],
) -> Result<Caller, Problem> {
    let caller = token::caller(&state.tokens, headers)?;
    let _ = audit.caller.set(caller.clone());
    allow(&caller, roles)?;
    Ok(caller)
}

fn allow(caller: &Caller, roles: &[Role]) -> Result<(), Problem> {
    if roles.contains(&caller.role) {
        return Ok(());
    }
    let names: Vec<_> = roles.iter().map(|role| role.name()).collect();
    Err(Problem::forbidden(format!(
        "this needs a token of role {}; yours is of role {}",
        names.join(" or "),
        caller.role.name()
    )))
}

/// The whole body, in time and within its size.
pub(super) async fn body(
    headers: &HeaderMap,
    body: Body,
    media_type: &str,
    limits: &Limits,
) -> Result<Bytes, Problem> {
    let given = headers
        .get(header::CONTENT_TYPE)
        .map(axum::http::HeaderValue::as_bytes);
    let essence = |value: &[u8]| {
        let end = value.iter().position(|&c| c == b';').unwrap_or(value.len());
        value[..end].trim_ascii().to_ascii_lowercase()
    };
    if given.map(essence).as_deref() != Some(media_type.as_bytes()) {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!("the body's Content-Type must be {media_type}"),
        ));
    }
    let most = limits.body_bytes;
    let too_large = || {
        Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body has more than {most} bytes; send less at a time"),
        )
    };
    let length = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > most as u64) {
        return Err(too_large());
    }
    match tokio::time::timeout(limits.body_time(), to_bytes(body, most)).await {
        Err(_) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            format!("the body did not come within {} s", limits.body_seconds),
        )),
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => {
            // The limit's error has a type of a crate below axum; its words are tested.
            let error: &dyn std::error::Error = &error;
            let is_length = std::iter::successors(Some(error), |error| error.source())
                .any(|error| error.to_string().contains("length limit"));
            Err(if is_length {
                too_large()
            } else {
                Problem::bad("the body was cut off")
            })
        }
    }
}

/// Fields with which a client would choose what the server chooses.
const SERVERS_OWN: [&str; 8] = [
    "slot", "key", "key_id", "keyId", "key_file", "epoch", "profile", "alpha",
];

/// A JSON body. What is wrong is said by line, column and field.
async fn json<T: DeserializeOwned>(
    headers: &HeaderMap,
    content: Body,
    limits: &Limits,
) -> Result<T, Problem> {
    let bytes = body(headers, content, JSON, limits).await?;
    serde_json::from_slice(&bytes).map_err(|error| {
        let object = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&bytes);
        let own = object.ok().and_then(|object| {
            let mut names = SERVERS_OWN.into_iter();
            names.find(|&name| object.contains_key(name))
        });
        match own {
            Some(name) => Problem::forbidden(format!(
                "field `{name}`: key, slot and policy of a request are set by the server; name a configured mark with `mark`, or leave it out"
            )),
            None => Problem::bad(format!("the body is not what this route takes: {error}")),
        }
    })
}

fn mark<'s>(
    state: &'s state::State,
    name: Option<&str>,
) -> Result<&'s Arc<state::OpenMark>, Problem> {
    state.mark(name).ok_or_else(|| {
        Problem::new(
            StatusCode::NOT_FOUND,
            "field `mark`: the service has no mark of that name",
        )
    })
}

async fn on_detect(
    State(server): State<Arc<Server>>,
    Extension(audit): Extension<Arc<Audit>>,
    request: Request,
) -> Result<Json<DetectResponse>, Problem> {
    let state = server.state();
    let limits = &state.config.limits;
    let (parts, content) = request.into_parts();
    let roles = [Role::Verdict, Role::Scores];
    let caller = authorise(&state, &parts.headers, &audit, &roles)?;
    let asked: DetectRequest = json(&parts.headers, content, limits).await?;
    let open = Arc::clone(mark(&state, asked.mark.as_deref())?);
    let several = asked.inputs.is_some();
    let given: Vec<Given> = match asked.inputs {
        None => vec![Given {
            text: asked.text,
            token_ids: asked.token_ids,
            prompt: asked.prompt,
        }],
        Some(inputs) => {
            if asked.text.is_some() || asked.token_ids.is_some() || asked.prompt.is_some() {
                return Err(Problem::unprocessable(
                    "with `inputs`, texts and prompts stand there",
                ));
            }
            inputs.into_iter().map(Given::from).collect()
        }
    };
    if given.is_empty() || given.len() > limits.inputs {
        return Err(Problem::unprocessable(format!(
            "field `inputs` has {} texts; the service takes 1 to {}",
            given.len(),
            limits.inputs
        )));
    }
    let _ = audit.texts.set(given.len());
    server.rates.take(&caller, limits.per_minute, given.len())?;
    let (most, with_scores) = (limits.tokens, caller.role == Role::Scores);
    let work = move || {
        let mut left = most;
        let texts = given
            .into_iter()
            .enumerate()
            .map(|(index, given)| {
                let place = match several {
                    true => format!("inputs[{index}]: "),
                    false => String::new(),
                };
                given.tokenise(&open, &place, &mut left)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let detections = texts
            .iter()
            .map(|text| Detection::new(&open, test(&open, text), with_scores));
        Ok((detections.collect::<Vec<_>>(), most - left))
    };
    let (mut inputs, tokens) = server.places.run(limits, work).await?;
    let _ = audit.tokens.set(tokens);
    Ok(Json(match inputs.pop() {
        Some(one) if !several => DetectResponse::One(one),
        last => DetectResponse::Many(Detections {
            kind: "watermark.detections",
            schema: 1,
            inputs: inputs.into_iter().chain(last).collect(),
        }),
    }))
}

impl From<Input> for Given {
    fn from(input: Input) -> Self {
        Self {
            text: input.text,
            token_ids: input.token_ids,
            prompt: input.prompt,
        }
    }
}

/// Explains one text, for a caller who may see scores.
pub(super) async fn explained(
    server: &Server,
    state: &state::State,
    audit: &Audit,
    caller: &Caller,
    (name, given): (Option<&str>, Given),
) -> Result<(Arc<state::OpenMark>, Sample, Explanation), Problem> {
    allow(caller, &[Role::Scores])?;
    let limits = &state.config.limits;
    let open = Arc::clone(mark(state, name)?);
    let _ = audit.texts.set(1);
    server.rates.take(caller, limits.per_minute, 1)?;
    let most = limits.explain_tokens.min(limits.tokens);
    let work = move || {
        let mut left = most;
        let text = given.tokenise(&open, "", &mut left)?;
        let sample = test(&open, &text);
        let segments = [text.tokens];
        let explanation = Explanation::of(&open.mark, &*open.tokenizer, &text.contexts, &segments);
        Ok(((open, sample, explanation), most - left))
    };
    let (result, tokens) = server.places.run(limits, work).await?;
    let _ = audit.tokens.set(tokens);
    Ok(result)
}

async fn on_explain(
    State(server): State<Arc<Server>>,
    Extension(audit): Extension<Arc<Audit>>,
    request: Request,
) -> Result<Json<ExplainResponse>, Problem> {
    let state = server.state();
    let (parts, content) = request.into_parts();
    let caller = authorise(&state, &parts.headers, &audit, &[Role::Scores])?;
    let asked: ExplainRequest = json(&parts.headers, content, &state.config.limits).await?;
    let given = Given {
        text: asked.text,
        token_ids: asked.token_ids,
        prompt: asked.prompt,
    };
    let what = (asked.mark.as_deref(), given);
    let (open, _, explanation) = explained(&server, &state, &audit, &caller, what).await?;
    let tokens = explanation.tokens.into_iter().map(|token| ExplainedToken {
        at: token.at,
        id: token.id,
        text: token.text,
        status: match token.status {
            Status::Scored => "scored",
            Status::PartialContext => "partial-context",
            Status::InPrompt => "in-prompt",
            Status::RepeatedCell => "repeated-cell",
            Status::NotKeyed => "not-keyed",
        },
        score: token.score,
    });
    Ok(Json(ExplainResponse {
        kind: "watermark.explanation",
        schema: 1,
        mark: open.name.clone(),
        null_mean: explanation.null.mean(),
        tokens: tokens.collect(),
    }))
}

async fn on_slot(
    State(server): State<Arc<Server>>,
    Extension(audit): Extension<Arc<Audit>>,
    request: Request,
) -> Result<Json<SlotResponse>, Problem> {
    let state = server.state();
    let (parts, content) = request.into_parts();
    authorise(&state, &parts.headers, &audit, &[Role::Provider])?;
    let asked: SlotRequest = json(&parts.headers, content, &state.config.limits).await?;
    let cohorts = state.cohorts.as_ref().ok_or_else(|| {
        Problem::new(
            StatusCode::NOT_FOUND,
            "this service has no cohorts: its configuration has no [cohort]",
        )
    })?;
    if asked.account.is_empty() {
        return Err(Problem::unprocessable("field `account` is empty"));
    }
    let open = &state.marks[cohorts.of(&asked.account)];
    let label = open.mark.label();
    Ok(Json(SlotResponse {
        kind: "watermark.slot",
        schema: 1,
        mark: open.name.clone(),
        profile: open.mark.profile().id.clone(),
        epoch: label.epoch.to_string(),
        slot: label.index,
        key_id: open.mark.key_id().to_string(),
    }))
}

async fn on_alive() -> Json<Health> {
    Json(Health { status: "alive" })
}

async fn on_ready(State(server): State<Arc<Server>>) -> Response {
    match server.ready().await {
        Ok(()) => Json(Health { status: "ready" }).into_response(),
        Err(reason) => Problem::busy(reason).into_response(),
    }
}
