//! Parquet files: rows as JSON objects, so that tables and lines are read by the same code.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use parquet::schema::types::Type;
use serde_json::Value;

use super::InputError;
use super::fields::Object;
use super::records::known_columns;

/// Calls `each` with every row's number, from 1, and the columns that a record may have; others
/// (images, embeddings) are not even decoded.
pub(super) fn rows(
    path: &Path,
    each: &mut dyn FnMut(usize, &Object) -> Result<(), InputError>,
) -> Result<(), InputError> {
    let error = |message: String| InputError::Table {
        path: path.to_owned(),
        message,
    };
    if path == Path::new("-") {
        return Err(error(
            "a table is read from its end, which standard input does not allow".to_owned(),
        ));
    }
    let file = File::open(path).map_err(|source| InputError::Io {
        path: path.to_owned(),
        source,
    })?;
    let not_a_table = |cause| {
        error(format!(
            "not a Parquet file, or one that is cut off ({cause})"
        ))
    };
    let reader = SerializedFileReader::new(file).map_err(not_a_table)?;
    let schema = reader.metadata().file_metadata().schema();
    let (known, other): (Vec<Arc<Type>>, Vec<Arc<Type>>) = schema
        .get_fields()
        .iter()
        .cloned()
        .partition(|column| known_columns().any(|known| known == column.name()));
    if known.is_empty() {
        let names: Vec<&str> = other.iter().map(|column| column.name()).collect();
        return Err(error(format!(
            "no known column; it has: {}",
            names.join(", ")
        )));
    }
    let projection = Type::group_type_builder(schema.name())
        .with_fields(known)
        .build();
    let rows = projection
        .and_then(|projection| reader.get_row_iter(Some(projection)))
        .map_err(|cause| error(cause.to_string()))?;
    for (index, row) in rows.enumerate() {
        let number = index + 1;
        let row = row.map_err(|cause| error(format!("row {number}: {cause}")))?;
        each(number, &object(&row))?;
    }
    Ok(())
}

fn object(row: &Row) -> Object {
    row.get_column_iter()
        .map(|(name, field)| (name.clone(), value(field)))
        .collect()
}

/// Dates, decimals and the like become their text: no form reads them.
fn value(field: &Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(value) => (*value).into(),
        Field::Byte(value) => (*value).into(),
        Field::Short(value) => (*value).into(),
        Field::Int(value) => (*value).into(),
        Field::Long(value) => (*value).into(),
        Field::UByte(value) => (*value).into(),
        Field::UShort(value) => (*value).into(),
        Field::UInt(value) => (*value).into(),
        Field::ULong(value) => (*value).into(),
        Field::Float(value) => (*value).into(),
        Field::Double(value) => (*value).into(),
        Field::Str(text) => text.as_str().into(),
        // Text by a writer that did not say so.
        Field::Bytes(bytes) => std::str::from_utf8(bytes.data()).map_or(Value::Null, Value::from),
        Field::Group(row) => object(row).into(),
        Field::ListInternal(list) => list.elements().iter().map(value).collect(),
        Field::MapInternal(map) => {
            let entries = map.entries().iter();
            let named = entries.filter_map(|(key, field)| match key {
                Field::Str(key) => Some((key.clone(), value(field))),
                _ => None,
            });
            Value::Object(named.collect())
        }
        other => other.to_string().into(),
    }
}
