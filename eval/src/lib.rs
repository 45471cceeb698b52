//! Teachers, students and suspects.

pub mod corpus;
pub mod model;
pub mod training;
