//! From a request's texts to results. All of it runs on threads of its own, few at a time.

use watermark_core::detect::Sample;
use watermark_core::text::Tokenizer;
use watermark_core::window::Exhibit;

use super::api::Prompt;
use super::problem::Problem;
use super::state::OpenMark;

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
