//! Pages that are complete in themselves: no script, nothing fetched, readable on a telephone, in the dark
//! and on paper.

use maud::{DOCTYPE, Markup, PreEscaped, html};

pub(crate) mod explain;
pub(crate) mod report;

/// The style of every page.
pub(crate) const STYLE: &str = include_str!("html/style.css");

/// What a browser may do with a page: apply its style. Scripts, requests and forms are refused.
pub(crate) const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";

/// A page with a title, which is also its heading.
pub(crate) fn page(title: &str, body: &Markup) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                // Browsers ask a server for an icon unless a page names one.
                link rel="icon" href="data:,";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    h1 { (title) }
                    (body)
                }
            }
        }
    }
    .into_string()
}

/// A table that scrolls by itself where it is wider than the page. A scroll area can be reached by
/// keyboard, so it has a name.
pub(crate) fn scrolling(name: &str, table: &Markup) -> Markup {
    html! {
        div .scroll role="region" aria-label=(name) tabindex="0" { (table) }
    }
}
