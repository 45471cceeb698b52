//! The description of the API: OpenAPI 3.1, from the list of routes and the types of the bodies.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::problem::ProblemBody;
use super::routes::{ROUTES, Route};

/// The whole description.
pub(super) fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let settings = settings.with_transform(crate::schema::close);
    let mut generator = settings.into_generator();
    let problem = generator.subschema_for::<ProblemBody>();
    let mut paths: Map<String, Value> = Map::new();
    for route in &ROUTES {
        let mut operation = json!({
            "summary": route.summary,
            "operationId": operation_id(route),
            "security": [],
        });
        if !route.roles.is_empty() {
            operation["security"] = json!([{"bearer": []}]);
            operation["x-roles"] = route.roles.iter().map(|role| role.name()).collect();
        }
        if let Some(schema) = route.request {
            operation["requestBody"] = json!({
                "required": true,
                "content": {"application/json": {"schema": schema(&mut generator)}},
            });
        }
        let content = match route.response {
            Some(schema) => json!({"schema": schema(&mut generator)}),
            None => json!({}),
        };
        operation["responses"]["200"] =
            json!({"description": "Done", "content": {route.media_type: content}});
        for status in route.problems {
            // The page's problems are pages.
            let (media_type, content) = match route.media_type {
                "text/html" => ("text/html", json!({})),
                _ => ("application/problem+json", json!({"schema": problem})),
            };
            let name = axum::http::StatusCode::from_u16(*status)
                .ok()
                .and_then(|status| status.canonical_reason())
                .unwrap_or("Problem");
            operation["responses"][status.to_string()] =
                json!({"description": name, "content": {media_type: content}});
        }
        let path = paths
            .entry(route.path)
            .or_insert_with(|| Value::Object(Map::new()));
        path[route.method] = operation;
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "watermark serve",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Is a text marked? Keys, slots and policy belong to the server. A verdict speaks of the dependence of a text on a key, and not of who wrote or took it.",
        },
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "paths": paths,
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "schemas": generator.take_definitions(true),
        },
    })
}

fn operation_id(route: &Route) -> String {
    let path = route.path.trim_matches('/').replace(['/', '.'], "_");
    let path = if path.is_empty() { "page" } else { &path };
    format!("{}_{path}", route.method)
}
