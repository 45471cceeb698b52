//! From a request's texts to results. All of it runs on threads of its own, few at a time.

use std::sync::Arc;

use tokio::sync::Semaphore;
use watermark_core::detect::Sample;
use watermark_core::text::Tokenizer;
use watermark_core::window::Exhibit;

use super::api::Prompt;
use super::config::Limits;
use super::problem::Problem;
use super::state::OpenMark;

/// Where work is done: so much at a time.
pub(super) struct Places(Arc<Semaphore>);

impl Places {
    pub(super) fn new(places: usize) -> Self {
        Self(Arc::new(Semaphore::new(places)))
    }

    /// Does the work on a thread of its own as soon as there is a place. The place is held until the work is done,
    /// even if nobody waits for it any more.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        limits: &Limits,
        work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let places = Arc::clone(&self.0);
        let whole = async {
            let Ok(place) = places.acquire_owned().await else {
                return Err(Problem::internal());
            };
            let task = tokio::task::spawn_blocking(move || {
                let _place = place;
                work()
            });
            task.await.unwrap_or_else(|_| Err(Problem::internal()))
        };
        tokio::time::timeout(limits.request_time(), whole)
            .await
            .unwrap_or_else(|_| {
                Err(Problem::busy(format!(
                    "no answer within {} s; send less, or later",
                    limits.request_seconds
                )))
            })
    }
}

/// A text with its prompt, as given.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) text: Option<String>,
    pub(super) token_ids: Option<Vec<u32>>,
    pub(super) prompt: Option<Prompt>,
}

/// The same as token ids of the mark's vocabulary.
#[derive(Debug)]
pub(super) struct Text {
    pub(super) contexts: Vec<Vec<u32>>,
    pub(super) tokens: Vec<u32>,
}

impl Given {
    /// Refuses what cannot be tested, and what is more than `left` tokens, of which it takes its own.
    pub(super) fn tokenise(
        self,
        open: &OpenMark,
        place: &str,
        left: &mut usize,
    ) -> Result<Text, Problem> {
        let tokenizer = &*open.tokenizer;
        let most = *left;
        let mut take = |tokens: Vec<u32>| match left.checked_sub(tokens.len()) {
            Some(rest) => {
                *left = rest;
                Ok(tokens)
            }
            None => Err(Problem::unprocessable(format!(
                "{place}too many tokens: {most} were left of what the service takes; send less"
            ))),
        };
        let known = |field: &str, ids: Vec<u32>| {
            let size = tokenizer.vocab_size();
            match ids.iter().find(|&&id| id as usize >= size) {
                None => Ok(ids),
                Some(id) => Err(Problem::unprocessable(format!(
                    "{place}field `{field}`: {id} is no id of this mark's vocabulary of {size}; were the ids made with another tokenizer?"
                ))),
            }
        };
        let tokens = match (self.text, self.token_ids) {
            (Some(text), None) => tokenizer.encode(&text),
            (None, Some(ids)) => known("token_ids", ids)?,
            _ => {
                return Err(Problem::unprocessable(format!(
                    "{place}give either `text` or `token_ids`"
                )));
            }
        };
        if tokens.is_empty() {
            return Err(Problem::unprocessable(format!("{place}the text is empty")));
        }
        let tokens = take(tokens)?;
        let contexts = match self.prompt {
            None => Vec::new(),
            Some(Prompt::Text(text)) => vec![take(tokenizer.encode(&text))?],
            Some(Prompt::Ids(ids)) => vec![take(known("prompt", ids)?)?],
        };
        Ok(Text { contexts, tokens })
    }
}

/// Tests one text.
pub(super) fn test(open: &OpenMark, text: &Text) -> Sample {
    let mut exhibit = Exhibit::new(open.mark.profile().context_width());
    let contexts = text.contexts.iter();
    contexts.for_each(|context| exhibit.exclude(context));
    exhibit.push(&text.tokens);
    Sample::of(&open.mark, &exhibit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    /// One place, and work of 1.5 s: who waits longer than a second is told so, and the place is free when the
    /// work is done, not before.
    #[test]
    fn work_has_a_place_and_a_deadline() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let limits = Limits {
            request_seconds: 1,
            ..Limits::default()
        };
        let places = Places::new(1);
        runtime.block_on(async {
            let begun = Instant::now();
            let slow = places.run(&limits, || {
                std::thread::sleep(Duration::from_millis(1500));
                Ok(())
            });
            let next = places.run(&limits, || Ok(()));
            let (slow, next) = tokio::join!(slow, next);
            assert_eq!(slow.unwrap_err().status(), 503);
            assert_eq!(next.unwrap_err().status(), 503);
            assert_eq!(places.run(&limits, || Ok(7)).await.unwrap(), 7);
            assert!(begun.elapsed() >= Duration::from_millis(1500));
            let failed = places.run::<()>(&limits, || std::panic::resume_unwind(Box::new(())));
            assert_eq!(failed.await.unwrap_err().status(), 500);
            assert_eq!(places.run(&limits, || Ok(8)).await.unwrap(), 8);
        });
    }
}
