//! A plan with its digest.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Plan, PlanError};
use crate::evidence::canonical::{canonical, digest};
use crate::evidence::digest_from_hex;
use crate::evidence::time::{is_rfc3339, rfc3339};

/// A plan that was sealed, and is still what was sealed: there is no other way to have one.
///
/// ```text
/// {"digest": SHA-256 of the plan's canonical JSON, "plan": {...}, "schema": 1, "sealedAt": RFC 3339, "type": "watermark.sealed-plan"}
/// ```
///
/// `sealedAt` is what the sealer's clock said. The digest does not cover it: a time that others can rely
/// on is one that others put on the digest.
#[derive(Clone, Debug, PartialEq)]
pub struct SealedPlan {
    plan: Plan,
    digest: String,
    sealed_at: String,
}

/// A plan with the digest of what was sealed.
#[derive(Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Form {
    #[serde(rename = "type")]
    #[cfg_attr(feature = "schema", schemars(extend("const" = TYPE)))]
    kind: String,
    #[cfg_attr(feature = "schema", schemars(extend("const" = 1)))]
    schema: u32,
    /// When it was sealed, by the sealer's clock: RFC 3339.
    sealed_at: String,
    /// SHA-256 of the plan's canonical JSON.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^[0-9a-f]{64}$")))]
    digest: String,
    /// What was sealed.
    #[cfg_attr(feature = "schema", schemars(with = "Plan"))]
    plan: Value,
}

const TYPE: &str = "watermark.sealed-plan";

#[cfg(feature = "schema")]
crate::schema::by_form!(SealedPlan, Form, "SealedPlan");

/// The field `type` of a JSON object; empty where there is none.
pub(super) fn type_of(json: &str) -> Result<String, PlanError> {
    let value: Value = serde_json::from_str(json).map_err(|error| PlanError::json(&error))?;
    let kind = value.get("type").and_then(Value::as_str);
    Ok(kind.unwrap_or_default().to_owned())
}

impl SealedPlan {
    /// Seals a plan.
    ///
    /// # Errors
    /// The plan is none ([`Plan::check`]).
    pub fn seal(plan: Plan, now: SystemTime) -> Result<Self, PlanError> {
        plan.check()?;
        Ok(Self {
            digest: crate::hex(&digest(&plan)),
            sealed_at: rfc3339(now),
            plan,
        })
    }

    /// Reads a sealed plan, and finds out whether it is the one that was sealed.
    ///
    /// # Errors
    /// [`PlanError::NotSealed`] for a plan without seal, [`PlanError::Digest`] for one that was changed;
    /// otherwise what is wrong, by field.
    pub fn open(json: &str) -> Result<Self, PlanError> {
        match type_of(json)?.as_str() {
            TYPE => {}
            "watermark.plan" => return Err(PlanError::NotSealed),
            found => {
                return Err(PlanError::Type {
                    wanted: TYPE,
                    found: found.to_owned(),
                });
            }
        }
        let form: Form = serde_json::from_str(json).map_err(|error| PlanError::json(&error))?;
        let field = |field, message: String| PlanError::Field { field, message };
        if form.schema != 1 {
            return Err(field(
                "schema",
                format!("{}; this version reads 1", form.schema),
            ));
        }
        if !is_rfc3339(&form.sealed_at) {
            return Err(field(
                "sealedAt",
                "not a time such as 2026-11-25T10:43:09Z".into(),
            ));
        }
        if digest_from_hex(&form.digest).is_none() {
            return Err(field(
                "digest",
                "not 64 lower-case hexadecimal digits".into(),
            ));
        }
        // Of the plan as it stands in the file, not of what this version reads in it.
        let found = crate::hex(&digest(&form.plan));
        if found != form.digest {
            return Err(PlanError::Digest {
                stated: form.digest,
                found,
            });
        }
        let plan = form.plan.to_string();
        Ok(Self {
            plan: Plan::from_json(&plan).map_err(|error| match error {
                // The place is one in no file.
                PlanError::Json { message, .. } => field("plan", message),
                other => other,
            })?,
            digest: form.digest,
            sealed_at: form.sealed_at,
        })
    }

    /// The file: canonical JSON and a line feed.
    pub fn to_json(&self) -> String {
        let plan = serde_json::to_string(&self.plan).expect("a plan is plain data");
        let form = Form {
            kind: TYPE.to_owned(),
            schema: 1,
            sealed_at: self.sealed_at.clone(),
            digest: self.digest.clone(),
            plan: serde_json::from_str(&plan).expect("what was just written"),
        };
        String::from_utf8(canonical(&form)).expect("JSON is UTF-8") + "\n"
    }

    /// What was sealed.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// SHA-256 of the plan's canonical JSON, in hexadecimal.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// When, by the sealer's clock.
    pub fn sealed_at(&self) -> &str {
        &self.sealed_at
    }
}
