//! Progress on standard error, where that is a terminal.

use std::sync::Mutex;

use crate::demo::Event;
use indicatif::{ProgressBar, ProgressStyle};

/// A bar for one piece of work.
pub fn bar(length: u64, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:36} {bar:28} {percent:>3} %  ETA {eta}");
    let bar = ProgressBar::new(length);
    // A fixed template either parses always or never; without it the default is shown.
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar.set_message(what);
    bar
}

/// A bar that follows the stages of a demo.
#[derive(Default)]
pub struct Stages(Mutex<Option<ProgressBar>>);

impl Stages {
    /// Follows a run.
    pub fn hear(&self, event: Event) {
        let Ok(mut current) = self.0.lock() else {
            return;
        };
        match event {
            Event::Stage(what, length) => {
                if let Some(done) = current.take() {
                    done.finish();
                }
                *current = Some(bar(length, what));
            }
            Event::Done(done) => {
                if let Some(bar) = &*current {
                    bar.set_position(done.max(bar.position()));
                }
            }
        }
    }

    /// The run has ended.
    pub fn finish(&self) {
        if let Ok(mut current) = self.0.lock()
            && let Some(done) = current.take()
        {
            done.finish();
        }
    }
}
