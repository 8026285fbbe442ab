//! Links between pages: the file is there, and so is the heading.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use crate::pages::{pages, top};

/// `[text](target#anchor)`, or a picture.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) line: usize,
    pub(crate) target: String,
    pub(crate) anchor: Option<String>,
}

/// The links of a text, without those in blocks and between backticks, and without those to other sites.
pub(crate) fn links_of(text: &str) -> Vec<Link> {
    let mut links = Vec::new();
    for (number, line) in prose(text) {
        let line: String = line
            .split('`')
            .enumerate()
            .map(|(at, part)| if at % 2 == 0 { part } else { "code" })
            .collect();
        for (at, _) in line.match_indices("](") {
            let rest = &line[at + 2..];
            let target = &rest[..rest.find(')').unwrap_or_else(|| panic!("a link ends: {line}"))];
            if target.contains("://") {
                continue;
            }
            let (target, anchor) = match target.split_once('#') {
                Some((target, anchor)) => (target, Some(anchor.to_owned())),
                None => (target, None),
            };
            links.push(Link { line: number, target: target.to_owned(), anchor });
        }
    }
    links
}

/// The lines outside of blocks, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut inside = false;
    let lines = text.lines().enumerate().map(|(number, line)| (number + 1, line));
    lines.filter(move |(_, line)| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        !inside && !fence
    })
}

/// The anchors that GitHub and mdBook make of headings.
fn anchors(text: &str) -> Vec<String> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let headings = prose(text).filter(|(_, line)| line.starts_with('#'));
    headings
        .map(|(_, line)| {
            let kept = line.trim_start_matches('#').trim().to_lowercase();
            let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | ' '));
            let anchor: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
            let count = seen.entry(anchor.clone()).or_default();
            *count += 1;
            if *count == 1 { anchor } else { format!("{anchor}-{}", *count - 1) }
        })
        .collect()
}

#[test]
fn every_link_leads_to_a_file_and_to_a_heading_in_it() {
    let mut wrong = Vec::new();
    let mut count = 0;
    let others =
        ["ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"].map(str::to_owned);
    for page in pages().into_iter().chain(others) {
        let path = top().join(&page);
        let text = fs::read_to_string(&path).expect("a page");
        for link in links_of(&text) {
            count += 1;
            let file = match &link.target[..] {
                "" => path.clone(),
                target => path.parent().expect("a folder").join(target),
            };
            let place = format!("{page}:{}: {}", link.line, link.target);
            if !file.exists() {
                wrong.push(format!("{place}: there is no such file"));
            } else if page.starts_with("docs/") && !is_below(&file, &top().join("docs")) {
                wrong.push(format!("{place}: the site has nothing outside of docs"));
            } else if let Some(anchor) = link.anchor {
                let text = fs::read_to_string(&file).expect("a page");
                if !anchors(&text).contains(&anchor) {
                    wrong.push(format!("{place}: it has no heading #{anchor}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 200, "only {count} links were found");
}

fn is_below(file: &Path, folder: &Path) -> bool {
    let file = file.canonicalize().expect("it is there");
    file.starts_with(folder.canonicalize().expect("it is there"))
}

#[test]
fn a_heading_makes_the_anchor_that_github_and_mdbook_make() {
    let text = "# `mod_wsgi`\n\n## What runs where?\n```\n# no heading\n```\n## What runs where?\n### A, b & C\n";
    assert_eq!(anchors(text), ["mod_wsgi", "what-runs-where", "what-runs-where-1", "a-b--c"]);
}
