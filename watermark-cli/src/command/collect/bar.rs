//! The progress of a run, on standard error where that is a terminal.

use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};

use super::budget::{Caps, Spent};

/// A bar with rate, spend and time left.
#[derive(Debug)]
pub(super) struct Bar {
    bar: ProgressBar,
    start: Instant,
    before: u64,
}

impl Bar {
    pub(super) fn new(length: u64, before: u64) -> Self {
        let style = ProgressStyle::with_template("{bar:28} {pos}/{len}  {msg}");
        let bar = ProgressBar::new(length);
        // A fixed template either parses always or never; without it the default is shown.
        if let Ok(style) = style {
            bar.set_style(style);
        }
        bar.set_position(before);
        Self {
            bar,
            start: Instant::now(),
            before,
        }
    }

    pub(super) fn show(&self, done: u64, spent: &Spent, caps: &Caps) {
        let elapsed = self.start.elapsed().as_secs_f64();
        let rate = done.saturating_sub(self.before) as f64 / elapsed.max(1e-3);
        let left = self.bar.length().unwrap_or(done).saturating_sub(done);
        let mut text = format!(
            "{rate:.1}/s  {} + {} tokens",
            spent.input_tokens, spent.output_tokens
        );
        if let Some(cost) = caps.cost_of(spent.input_tokens, spent.output_tokens) {
            text += &format!("  cost {cost:.2}");
        }
        if rate > 0.0 {
            text += &format!("  {} left", duration(left as f64 / rate));
        }
        self.bar.set_position(done);
        self.bar.set_message(text);
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// `2 h 05 min`, `3 min 20 s`, `7 s`.
pub(super) fn duration(seconds: f64) -> String {
    let seconds = seconds.round().min(1e9) as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s:02} s"),
        (h, m, _) => format!("{h} h {m:02} min"),
    }
}
