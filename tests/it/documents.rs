//! Links between the documents lead somewhere, and the commands in them exist.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::Result;

use super::*;

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
fn pages() -> Result<Vec<PathBuf>> {
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

/// Code of a page: the lines of its blocks, and what stands between backticks elsewhere.
fn code(text: &str) -> Vec<&str> {
    let mut all = vec![];
    let mut in_block = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if in_block || line.starts_with("    ") {
            all.push(line.trim());
        } else {
            all.extend(line.split('`').skip(1).step_by(2));
        }
    }
    all
}

/// A command's words, without a comment, a redirection, or words that explain it.
fn words<'a>(code: &'a str, program: &str) -> Option<Vec<&'a str>> {
    let rest = code.strip_prefix(program).filter(|rest| rest.starts_with(' '))?;
    let end = ["  ", " #", " >", " |", " &"].iter().filter_map(|mark| rest.find(mark)).min();
    Some(rest[..end.unwrap_or(rest.len())].split_whitespace().collect())
}

/// The README's first call on one's own server: receiver, worker, `make call`, and the record in the receiver's API.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_call_comes_out_as_the_readme_says() -> Result<()> {
    let venue = Venue::dev(lab::server::quick()).await?;
    let receiver = lab::receiver::Receiver::start(binary(), "127.0.0.1:0".parse()?).await?;
    let name = unique("first");
    let setup = Setup::to(binary(), &venue, &receiver.url("/call-history"), &name);
    let mut worker = Worker::registered(setup).await?;
    let folder = tempfile::tempdir()?;
    let call = tokio::process::Command::new(binary().with_file_name("call"))
        .env("LIVEKIT_URL", &venue.url)
        .env("LIVEKIT_API_KEY", &venue.api_key)
        .env("LIVEKIT_API_SECRET", &venue.api_secret)
        .current_dir(folder.path())
        .kill_on_drop(true)
        .output();
    let out = tokio::time::timeout(POSTED, call).await??;
    let said = String::from_utf8(out.stdout)?;
    assert!(out.status.success(), "{said}{}", String::from_utf8_lossy(&out.stderr));
    let room = said.split_whitespace().find(|word| word.starts_with("call-")).expect("a room");
    let record = receiver.record(room, POSTED).await?;
    assert_eq!(record["status"], "completed", "{record}");
    let metrics = &record["metrics"];
    assert_eq!(metrics["total_agent_utterances"], 2, "{record}");
    assert_eq!(metrics["total_user_utterances"], 1, "{record}");
    worker.stops().await?;
    receiver.stops().await
}

#[tokio::test]
async fn every_command_in_the_documents_exists() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let makefile = std::fs::read_to_string(root.join("Makefile"))?;
    let (mut ours, mut of_make, mut wrong) = (BTreeSet::new(), BTreeSet::new(), vec![]);
    for page in pages()? {
        let text = std::fs::read_to_string(&page)?;
        for code in code(&text) {
            // A path before it is that of a build.
            let code =
                code.trim_start_matches("target/release/").trim_start_matches("target/debug/");
            ours.extend(words(code, "call-history").map(|w| w.join(" ")));
            of_make.extend(words(code, "make").into_iter().flatten().map(str::to_owned));
        }
    }
    for command in &ours {
        // Help ends the program before it does anything, but only if it understands what stands before.
        let asked =
            command.split_whitespace().map(|word| word.split('|').next_back().unwrap_or(word));
        let out = tokio::process::Command::new(super::binary())
            .args(asked)
            .arg("--help")
            .output()
            .await?;
        if !out.status.success() {
            wrong.push(format!("call-history {command}: {}", String::from_utf8_lossy(&out.stderr)));
        }
    }
    for target in of_make.iter().filter(|t| t.chars().all(|c| c.is_ascii_lowercase() || c == '-')) {
        if !makefile.contains(&format!("\n{target}:")) {
            wrong.push(format!("make {target}"));
        }
    }
    assert!(ours.len() > 15 && of_make.len() > 10, "{ours:?} {of_make:?}");
    assert!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}
