//! Arguments of `schema`.

use clap::Subcommand;
use clap::builder::PossibleValuesParser;

use super::Format;
use crate::schema::ALL;

/// JSON Schemas (draft 2020-12) of everything that is read or printed as JSON, and the description of the service's
/// API. A name is the `type` of what it describes, without `watermark.`.
#[derive(Subcommand)]
pub(crate) enum Schema {
    /// Their names, and what each is of.
    List {
        /// How they are printed.
        #[arg(long, value_enum, default_value_t = Format::Human)]
        format: Format,
    },
    /// One of them.
    Show {
        /// Its name.
        #[arg(value_parser = PossibleValuesParser::new(ALL.iter().map(|one| one.name)), hide_possible_values = true)]
        name: String,
    },
}
