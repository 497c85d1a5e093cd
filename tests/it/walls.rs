//! No circles between the files of a crate: what two files need of each other is in a third.
//!
//! Counted are paths that begin with `crate`, `self` or `super`. So a file may name the files of its own folder
//! (`mod` and paths from there), and they may use what it defines.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anyhow::{Context, Result, ensure};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::logs::{files, root};

const CRATES: [&str; 7] = [
    "src",
    "crates/call/src",
    "crates/delivery/src",
    "crates/metrics/src",
    "crates/receiver/src",
    "crates/record/src",
    "crates/store/src",
];

/// Names from the root of the crate to a module; that of the root is empty.
type Module = Vec<String>;

/// The modules that each module uses.
type Uses = BTreeMap<Module, BTreeSet<Module>>;

#[test]
fn no_two_files_of_a_crate_use_each_other_however_long_the_way() -> Result<()> {
    let mut edges = 0;
    for folder in CRATES {
        let uses = uses(&root().join(folder)).context(folder)?;
        edges += uses.values().map(BTreeSet::len).sum::<usize>();
        let circles = on_circles(uses);
        assert!(circles.is_empty(), "{folder}: on a circle, or between two: {circles:#?}");
    }
    assert!(edges > 500, "the paths are not found: {edges}");
    Ok(())
}

#[test]
fn a_circle_is_found_in_each_way_of_writing_a_path() {
    let uses = |of_b: &str| {
        let modules = ["a", "a::c", "b"].map(module);
        let sources = ["use crate::b::{X, y::Z as _};", "", of_b];
        let found = modules.iter().zip(sources).map(|(of, source)| {
            let mut paths = BTreeSet::new();
            collect(source.parse().unwrap(), of, &mut paths);
            (of.clone(), used(&paths, of, &modules))
        });
        on_circles(found.collect())
    };
    for circle in [
        "use crate::{c, a::X};",
        "use super::a;",
        "pub(crate) use super::{d::X, a::{self, Y}};",
        "use self::{super::{a::X}, e::Y};",
        "fn f() { super::a::f() }",
        "mod inner { use super::super::a::X; }",
        "macro_rules! m { () => { $crate::a::f() } }",
    ] {
        let found = uses(circle);
        assert_eq!(found.keys().cloned().collect::<Vec<_>>(), ["a", "b"].map(module), "{circle}");
    }
    for none in [
        "use crate::X;",
        "use crate::a::c::X;",
        "use a::X;",
        "use self::inner::{super::d::a, a::X};",
        "// crate::a::X\nconst A: &str = \"crate::a::X\";",
        "#[cfg(test)] mod tests { use crate::a::X; }",
    ] {
        assert!(uses(none).is_empty(), "{none}");
    }
    let mut found = BTreeSet::new();
    let source =
        "pub(super) struct A(pub(crate) u8); impl A { pub(in super) fn f(self) -> u8 { self.0 } }";
    collect(source.parse().unwrap(), &module("a::b"), &mut found);
    assert!(found.is_empty(), "{found:?}");
}

fn module(path: &str) -> Module {
    path.split("::").map(str::to_owned).collect()
}

fn uses(source: &Path) -> Result<Uses> {
    let mut all = vec![];
    files(source, &mut all)?;
    let mut paths = BTreeMap::new();
    for file in all {
        let mut of: Module = (file.strip_prefix(source)?.with_extension("").iter())
            .map(|name| name.to_string_lossy().into_owned())
            .collect();
        of.pop_if(|name| ["lib", "main", "mod"].contains(&name.as_str()));
        if of.iter().any(|name| name == "tests") {
            continue;
        }
        let text = std::fs::read_to_string(&file)?;
        let tokens = text.parse().map_err(|e| anyhow::anyhow!("{}: {e}", file.display()))?;
        let mut found = BTreeSet::new();
        collect(tokens, &of, &mut found);
        ensure!(paths.insert(of, found).is_none(), "{} is a module twice", file.display());
    }
    let modules: Vec<Module> = paths.keys().cloned().collect();
    Ok(paths.iter().map(|(of, paths)| (of.clone(), used(paths, of, &modules))).collect())
}

/// The modules that paths lead into. The root is none of them: what it defines has no other place.
fn used(paths: &BTreeSet<Module>, of: &Module, modules: &[Module]) -> BTreeSet<Module> {
    let longest = |path: &Module| {
        modules.iter().filter(|module| path.starts_with(module)).max_by_key(|m| m.len()).cloned()
    };
    paths.iter().filter_map(longest).filter(|to| !to.is_empty() && to != of).collect()
}

/// Leaves out, again and again, what uses nothing that is left, and what nothing left uses.
fn on_circles(mut uses: Uses) -> Uses {
    loop {
        let before = uses.len();
        let targets: BTreeSet<Module> = uses.values().flatten().cloned().collect();
        uses.retain(|module, used| !used.is_empty() && targets.contains(module));
        let left: BTreeSet<Module> = uses.keys().cloned().collect();
        uses.values_mut().for_each(|used| used.retain(|module| left.contains(module)));
        if uses.len() == before {
            return uses;
        }
    }
}

/// Adds the paths in a source, from the root of the crate on; not those of its tests.
fn collect(source: TokenStream, within: &Module, found: &mut BTreeSet<Module>) {
    let tokens: Vec<TokenTree> = source.into_iter().collect();
    let mut n = 0;
    while let Some(token) = tokens.get(n) {
        n += 1;
        match token {
            TokenTree::Group(group) if group.to_string().replace(' ', "") == "[cfg(test)]" => {
                n += tokens[n..].iter().take_while(|token| !is_end(token)).count();
                n += 1;
            }
            TokenTree::Group(group) => match &tokens[..n - 1] {
                [.., TokenTree::Ident(keyword), TokenTree::Ident(name)] if keyword == "mod" => {
                    let inner = [within.as_slice(), &[name.to_string()]].concat();
                    collect(group.stream(), &inner, found);
                }
                _ => collect(group.stream(), within, found),
            },
            // Not `self.field` or `pub(super)`.
            TokenTree::Ident(first) if begins_with_colons(&tokens[n..]) => {
                let base = match first.to_string().as_str() {
                    "crate" => vec![],
                    name @ ("self" | "super") => step(within, name),
                    _ => continue,
                };
                n += path(&tokens[n..], base, found);
            }
            _ => {}
        }
    }
}

fn begins_with_colons(tokens: &[TokenTree]) -> bool {
    matches!(tokens, [TokenTree::Punct(one), TokenTree::Punct(two), ..]
        if one.as_char() == ':' && two.as_char() == ':')
}

/// The end of an item: of `mod a;` or `mod a { … }`.
fn is_end(token: &TokenTree) -> bool {
    match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        TokenTree::Punct(mark) => mark.as_char() == ';',
        _ => false,
    }
}

/// Adds the path that goes on with these tokens, or all paths of a list in braces. Returns how many tokens that are.
fn path(tokens: &[TokenTree], base: Module, found: &mut BTreeSet<Module>) -> usize {
    match tokens {
        [_, _, TokenTree::Ident(name), rest @ ..] if begins_with_colons(tokens) => {
            3 + path(rest, step(&base, &name.to_string()), found)
        }
        [_, _, TokenTree::Group(list), ..] if begins_with_colons(tokens) => {
            let list: Vec<TokenTree> = list.stream().into_iter().collect();
            for part in list.split(|token| token.to_string() == ",") {
                if let [TokenTree::Ident(name), rest @ ..] = part {
                    path(rest, step(&base, &name.to_string()), found);
                }
            }
            3
        }
        _ => {
            found.insert(base);
            0
        }
    }
}

fn step(from: &Module, name: &str) -> Module {
    match name {
        "self" => from.clone(),
        "super" => parent(from),
        other => [from.as_slice(), &[other.to_owned()]].concat(),
    }
}

fn parent(module: &Module) -> Module {
    module[..module.len().saturating_sub(1)].to_vec()
}
