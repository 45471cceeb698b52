//! `watermark schema`.

use std::process::ExitCode;

use super::said::{SchemaSaid, SchemasSaid};
use crate::cli::{Format, Schema};
use crate::error::CliError;
use crate::render::print_json;
use crate::schema::{ALL, Version};

pub(super) fn run(arguments: &Schema) -> Result<ExitCode, CliError> {
    match arguments {
        Schema::List { format } => {
            let list = ALL.iter().map(|one| SchemaSaid {
                name: one.name,
                about: one.about,
            });
            match format {
                Format::Human => list.for_each(|SchemaSaid { name, about }| {
                    println!("{name:<20} {about}");
                }),
                Format::Json | Format::Jsonl => print_json(&SchemasSaid {
                    schema: Version,
                    schemas: list.collect(),
                }),
            }
        }
        Schema::Show { name } => {
            let found = ALL.iter().find(|one| one.name == name);
            print!("{}", found.map_or("", |one| one.text));
        }
    }
    Ok(ExitCode::SUCCESS)
}
