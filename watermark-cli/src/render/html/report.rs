//! A report as a page.

use maud::{Markup, html};

use super::scrolling;
use crate::render::document::{Block, Column, Document, Figure, Table};

/// The page of a document.
pub(crate) fn page(document: &Document) -> String {
    let statement = &document.statement;
    let body = html! {
        section .box.verdict aria-labelledby="verdict" {
            p .standing { (statement.standing) }
            h2 #verdict { (statement.verdict) }
            p .claim { (statement.claim) }
            p { (statement.meaning) }
            @if let Some(relay) = statement.relay {
                p .relay { (relay) }
            }
            dl .facts {
                @for (name, value) in &document.facts {
                    div { dt { (name) } dd { (value) } }
                }
            }
        }
        @for (index, section) in document.sections.iter().enumerate() {
            section aria-labelledby={ "section-" (index) } {
                h2 id={ "section-" (index) } { (section.title) }
                @for block in &section.blocks { (self::block(block)) }
            }
        }
    };
    super::page(&document.title, &body)
}

fn block(block: &Block) -> Markup {
    match block {
        Block::Text(text) => html! { p { (text) } },
        Block::Table(table) => scrolling(&table.caption, &self::table(table)),
        Block::Figure(figure) => self::figure(figure),
        Block::Timeline(events) => html! {
            ol .timeline {
                @for (at, what) in events {
                    li { time datetime=(at) { (at) } " " (what) }
                }
            }
        },
    }
}

fn table(table: &Table) -> Markup {
    let class = |index: usize| match table.head[index].1 {
        Column::Text => None,
        Column::Number => Some("num"),
        Column::Code => Some("code"),
    };
    html! {
        table {
            caption { (table.caption) }
            thead { tr {
                @for (index, (name, _)) in table.head.iter().enumerate() {
                    th scope="col" class=[class(index)] { (name) }
                }
            } }
            tbody {
                @for row in &table.rows {
                    tr {
                        @for (index, cell) in row.iter().enumerate() {
                            @if index == 0 {
                                th scope="row" class=[class(index)] { (cell) }
                            } @else {
                                td class=[class(index)] { (cell) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn figure(figure: &Figure) -> Markup {
    html! {
        figure id={ "figure-" (figure.id) } {
            figcaption { (figure.title) }
            (figure.wide)
            (figure.narrow)
            ul .key {
                @for (colour, shape, meaning) in &figure.key {
                    li { span class={ "swatch " (shape) " of-" (colour) } aria-hidden="true" {} (meaning) }
                }
            }
            details { summary { "The figure in words" } p { (figure.description) } }
        }
    }
}
