//! Teachers, students and suspects: the whole loop of the watermark toolkit, measured.
//!
//! ```text
//! teacher -> transcripts -> student (and a control student) -> its generations -> test
//! ```

pub mod bench;
pub mod demo;
pub mod embedded;
pub mod endpoint;
pub mod files;
pub mod generate;
pub mod lengths;
pub mod measure;
pub mod model;
pub mod null;
pub mod plot;
pub mod progress;
pub mod reading;
pub mod source;
pub mod store;
pub mod student;
pub mod study;
pub mod table;
pub mod training;
pub mod transcripts;
