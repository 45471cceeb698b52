//! A text token by token.

use maud::{Markup, html};
use watermark_core::explain::{Explanation, Status, Strength, Token};
use watermark_core::profile::Mark;

use super::scrolling;

/// A page of explained answers, each with its name.
pub(crate) fn page(mark: &Mark, answers: &[(&str, Explanation)]) -> String {
    let body = html! {
        p { "Profile " b { (mark.profile().id) } ", key " code { (mark.key_id()) } ". What a detector does with each token of a text. This page is a reading aid: it gives no p-value and no verdict." }
        @for (name, explanation) in answers {
            section {
                h2 { (name) }
                (fragment(explanation))
            }
        }
        @if answers.is_empty() {
            p { "There is no answer in the input." }
        }
    };
    super::page("A text token by token", &body)
}

/// One explained text without a heading: summary, legend, text, and a table of all tokens. Needs
/// [`STYLE`](super::STYLE).
pub(crate) fn fragment(explanation: &Explanation) -> Markup {
    let count = |status| explanation.count(status);
    let strengths = || explanation.tokens.iter().filter_map(|token| token.strength);
    let has = |strength| strengths().any(|other| other == strength);
    html! {
        p {
            (explanation.tokens.len()) " tokens, " (count(Status::Scored)) " scored: mean score "
            b { (format!("{:.3}", explanation.mean())) } ", " (format!("{:.3}", explanation.null.mean()))
            " expected by chance. Not scored: " (count(Status::RepeatedCell)) " repeat a cell met before, "
            (count(Status::InPrompt)) " follow a window that stands in the prompt, "
            (count(Status::PartialContext)) " have no whole window before them."
            @if count(Status::NotKeyed) > 0 {
                " The function has no key for " (count(Status::NotKeyed)) " more."
            }
        }
        p .legend {
            "Scores: "
            @if has(Strength::FarAbove) { span .t.ff { "far above chance" } ", " }
            @if has(Strength::Above) { span .t.f { "above chance" } ", " }
            @if has(Strength::Below) { span .t.b { "below chance" } ", " }
            span .t.n { "not scored" } "."
            " In unmarked text, too, many tokens are above chance."
        }
        p .tokens {
            @for token in &explanation.tokens {
                span class=(class(token)) title=(note(token)) { (token.text) }
            }
        }
        details {
            summary { "All tokens as a table" }
            (scrolling("All tokens", &table(explanation)))
        }
    }
}

fn table(explanation: &Explanation) -> Markup {
    html! {
        table {
            thead { tr {
                th scope="col" .num { "place" }
                th scope="col" .num { "id" }
                th scope="col" { "text" }
                th scope="col" .num { "score" }
                th scope="col" { "what became of it" }
            } }
            tbody {
                @for token in &explanation.tokens {
                    tr {
                        td .num { (token.at) }
                        td .num { (token.id) }
                        td { code { (format!("{:?}", token.text)) } }
                        td .num { (token.score.map_or(String::new(), |score| format!("{score:.2}"))) }
                        td { (what(token)) }
                    }
                }
            }
        }
    }
}

fn class(token: &Token) -> &'static str {
    match token.strength {
        Some(Strength::FarAbove) => "t ff",
        Some(Strength::Above) => "t f",
        Some(Strength::Below) => "t b",
        None => "t n",
    }
}

fn note(token: &Token) -> String {
    let score = token.score.map_or(String::new(), |s| format!(", {s:.2}"));
    format!("{}: {}{score}", token.at, what(token))
}

fn what(token: &Token) -> &'static str {
    match (token.status, token.strength) {
        (Status::PartialContext, _) => "partial context",
        (Status::InPrompt, _) => "window stands in the prompt",
        (Status::RepeatedCell, _) => "cell met before",
        (Status::NotKeyed, _) => "the function has no key here",
        (Status::Scored, Some(Strength::FarAbove)) => "far above chance",
        (Status::Scored, Some(Strength::Above)) => "above chance",
        (Status::Scored, _) => "below chance",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use watermark_core::key::{Epoch, SlotKey};
    use watermark_core::profile::Profile;
    use watermark_core::text::ByteTokenizer;

    #[test]
    fn a_page_escapes_what_it_shows_and_shows_all_of_it() {
        let key = SlotKey::from_parts([7; 32], Epoch::new("t").unwrap(), 0);
        let profile = Profile::built_in("greenlist-h1").unwrap();
        let mark = profile.bind(&key).unwrap();
        let hostile = "a <script>alert('x')</script> & \"b\"";
        let segment: Vec<u32> = hostile.bytes().map(u32::from).collect();
        let explanation = Explanation::of(&mark, &ByteTokenizer, &[], &[segment]);
        let scored = explanation.count(Status::Scored);
        let page = page(&mark, &[("<b>", explanation)]);
        assert!(!page.contains("<script") && page.contains("&lt;b&gt;"));
        let tokens = page.split_once("class=\"tokens\"").unwrap().1;
        assert_eq!(tokens.matches("class=\"t ").count(), hostile.len());
        assert!(page.contains(&format!("{scored} scored")));
        assert!(page.contains(&mark.key_id().to_string()));
    }
}
