//! Teachers, students and suspects.
