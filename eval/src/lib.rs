//! Teachers, students and suspects.

pub mod corpus;
pub mod model;
pub mod student;
pub mod training;
