//! JSON Schemas of what is read and written: hand-made ones for the types whose JSON is made by hand. All others are
//! derived from the types that serde reads and writes, so that they cannot say anything else.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::key::KeyId;
use crate::stats::LnP;
use crate::stats::evalue::LnE;

/// An integer as a string: it can exceed what JSON readers keep exactly.
#[derive(Debug)]
pub struct IntegerText;

/// The schemas of small types stand where they are used.
macro_rules! inline {
    ($type:ty, $name:literal, $schema:tt) => {
        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

inline!(IntegerText, "IntegerText", {"type": "string", "pattern": "^-?[0-9]+$"});
inline!(LnP, "PLog10", {"type": "number", "maximum": 0});
inline!(LnE, "ELog10", {"type": "number"});
inline!(KeyId, "KeyId", {"type": "string", "pattern": "^[0-9a-f]{16}$"});

/// The schema of a type that is written by way of a private form.
macro_rules! by_form {
    ($type:ty, $form:ty, $name:literal) => {
        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }

            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                <$form as schemars::JsonSchema>::json_schema(generator)
            }
        }
    };
}

pub(crate) use by_form;
