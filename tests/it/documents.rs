//! Links between the documents lead somewhere. What stands in them as a command is in `commands`.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::Result;

const FOLDERS: [&str; 9] = [
    "",
    "docs",
    "benches/python",
    "deploy",
    "deploy/helm/call-history",
    "e2e",
    "examples/receivers",
    "tests/journals",
    "crates/libwebrtc",
];

/// The places of a page that a link can name: its headings, and what has an id.
fn anchors(text: &str) -> BTreeSet<String> {
    let ids = text.split("id=\"").skip(1).filter_map(|rest| rest.split('"').next());
    let headings = text.lines().filter(|l| l.starts_with('#')).map(|l| {
        let words = l.trim_start_matches('#').trim().to_lowercase();
        let kept = words.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.collect::<String>().replace(' ', "-")
    });
    ids.map(str::to_owned).chain(headings).collect()
}

/// All pages of this repository.
pub(super) fn pages() -> Result<Vec<PathBuf>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages: Vec<PathBuf> = vec![];
    for folder in FOLDERS {
        for entry in std::fs::read_dir(root.join(folder))? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "md") {
                pages.push(path);
            }
        }
    }
    Ok(pages)
}

#[test]
fn every_link_leads_to_a_page_and_a_place_that_exist() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut links, mut broken) = (0, vec![]);
    for page in &pages()? {
        let text = std::fs::read_to_string(page)?;
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") || link.contains(' ') {
                continue;
            }
            links += 1;
            let (file, place) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => page.clone(),
                file => page.parent().unwrap_or(root).join(file),
            };
            let there = target.exists()
                && (place.is_empty()
                    || anchors(&std::fs::read_to_string(&target)?).contains(place));
            if !there {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(links > 50, "the links are not found: {links}");
    assert!(broken.is_empty(), "{broken:#?}");
    Ok(())
}
