//! The files of a crate do not import each other in a circle, so that each can be read, and moved, without the others.
//!
//! A file imports another if it names one of the other's items: with `use`, or by a path in its code. If the name is
//! a re-export, the file that defines the item counts. `pub use` alone is a re-export and no import, unless the file's
//! own code uses the name. Code for tests does not count.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use syn::visit::{self, Visit};
use syn::{Attribute, ImplItem, Item, UseTree, Visibility};

use super::exceptions::Exceptions;
use super::finding::Finding;
use super::tree::{File, Tree};

pub(super) fn check(tree: &Tree, exceptions: &Exceptions) -> Vec<Finding> {
    let mut findings = Vec::new();
    let manifests = tree.texts(&["Cargo.toml"]).filter(|(_, text)| text.contains("[package]"));
    for folder in manifests.map(|(path, _)| path.trim_end_matches("Cargo.toml").trim_end_matches('/')) {
        let circles = circles(tree, folder);
        let exception = exceptions.circles.iter().any(|exception| exception.file == folder);
        match circles {
            Err(finding) => findings.push(finding),
            Ok(circles) if exception && circles.is_empty() => {
                findings.push(Finding::new(Exceptions::PATH, 0, format!("{folder} has no circles of imports")));
            }
            Ok(_) if exception => {}
            Ok(circles) => findings.extend(circles),
        }
    }
    findings
}

/// The shortest circle of each set of files that all reach each other, in the crate that lies in `folder`.
fn circles(tree: &Tree, folder: &str) -> Result<Vec<Finding>, Finding> {
    let mut circles = Vec::new();
    let source = if folder.is_empty() { "src/".to_owned() } else { format!("{folder}/src/") };
    let is_root = |path: &str| {
        let below = path.strip_prefix(&source);
        below.is_some_and(|name| name == "lib.rs" || name == "main.rs" || name.starts_with("bin/"))
    };
    let roots = tree.texts(&[".rs"]).map(|(path, _)| path).filter(|path| is_root(path));
    for root in roots {
        let mut modules = Modules { tree, all: Vec::new() };
        modules.read_file(root, root.rsplit_once('/').map_or("", |(folder, _)| folder), None)?;
        circles.extend(shortest_circles(&modules.imports()));
    }
    Ok(circles)
}

/// Maps (from, to) to the name by which the file `from` imports the file `to`.
type Imports<'t> = BTreeMap<(&'t str, &'t str), String>;

/// The modules of a crate, its root first. An inline module (`mod x { … }`) is a module of its own, too.
struct Modules<'t> {
    tree: &'t Tree,
    all: Vec<Module<'t>>,
}

struct Module<'t> {
    path: &'t str,
    parent: Option<usize>,
    children: HashMap<String, usize>,
    items: HashSet<String>,
    uses: Vec<Use>,
    /// Paths in the module's code.
    named: Vec<Vec<String>>,
}

/// One name that a `use` brings in.
struct Use {
    /// `*` for all names.
    name: String,
    path: Vec<String>,
    is_public: bool,
}

/// The target of a path.
enum Target {
    Module(usize),
    ItemOf(usize),
}

impl<'t> Modules<'t> {
    /// Reads a module's file. `folder` holds the files of its child modules.
    fn read_file(&mut self, path: &'t str, folder: &str, parent: Option<usize>) -> Result<usize, Finding> {
        let text = self.tree.file(path).and_then(File::text).unwrap_or_default();
        let syntax = syn::parse_file(text).map_err(|error| Finding::new(path, 0, format!("no Rust: {error}")))?;
        self.read_items(path, folder, parent, &syntax.items)
    }

    fn read_items(
        &mut self,
        path: &'t str,
        folder: &str,
        parent: Option<usize>,
        items: &[Item],
    ) -> Result<usize, Finding> {
        let me = self.all.len();
        let mut names = Names::default();
        items.iter().for_each(|item| names.visit_item(item));
        let items_defined = items.iter().filter(|item| !is_test(attributes(item))).filter_map(defined).collect();
        let Names { uses, named } = names;
        self.all.push(Module { path, parent, children: HashMap::new(), items: items_defined, uses, named });
        for item in items {
            let Item::Mod(module) = item else { continue };
            if is_test(&module.attrs) {
                continue;
            }
            let name = module.ident.to_string();
            let inside = format!("{folder}/{name}");
            let child = if let Some((_, items)) = &module.content {
                self.read_items(path, &inside, Some(me), items)?
            } else {
                let files = [format!("{inside}.rs"), format!("{inside}/mod.rs")];
                let Some(file) = files.iter().find_map(|file| self.tree.file(file)) else { continue };
                self.read_file(&file.path, &inside, Some(me))?
            };
            self.all[me].children.insert(name, child);
        }
        Ok(me)
    }

    fn imports(&self) -> Imports<'t> {
        let mut imports = Imports::new();
        for (at, module) in self.all.iter().enumerate() {
            let private = module.uses.iter().filter(|import| !import.is_public).map(|import| &import.path);
            for path in private.chain(&module.named) {
                if let Some(Target::ItemOf(target)) = self.resolve(at, path, DEPTH_MAX)
                    && self.all[target].path != module.path
                {
                    imports.entry((module.path, self.all[target].path)).or_insert_with(|| path.join("::"));
                }
            }
        }
        imports
    }

    /// The target of a path in the module `from`; `None` if the path leads out of the crate.
    fn resolve(&self, from: usize, path: &[String], depth: usize) -> Option<Target> {
        let (first, mut rest) = path.split_first()?;
        let mut at = match first.as_str() {
            "crate" => 0,
            "self" => from,
            "super" => self.all[from].parent?,
            _ => {
                rest = path;
                from
            }
        };
        let mut is_relative = rest.len() == path.len();
        while let Some((name, after)) = rest.split_first() {
            let module = &self.all[at];
            let next = match name.as_str() {
                "super" => module.parent,
                "self" => Some(at),
                name => module.children.get(name).copied(),
            };
            if let Some(next) = next {
                at = next;
            } else if module.items.contains(name) {
                return Some(Target::ItemOf(at));
            } else {
                return self.resolve_used(at, name, after, depth).or((!is_relative).then_some(Target::ItemOf(at)));
            }
            is_relative = false;
            rest = after;
        }
        Some(Target::Module(at))
    }

    /// The target of a name that `use` has brought into the module `at`.
    fn resolve_used(&self, at: usize, name: &str, after: &[String], depth: usize) -> Option<Target> {
        let depth = depth.checked_sub(1)?;
        let uses = &self.all[at].uses;
        if let Some(import) = uses.iter().find(|import| import.name == name) {
            // `use x;` of another crate would lead to itself.
            let is_itself = import.path.first().is_some_and(|first| first == name);
            return if is_itself { None } else { self.resolve(at, &[&import.path, after].concat(), depth) };
        }
        uses.iter().filter(|import| import.name == "*").find_map(|import| {
            let Some(Target::Module(module)) = self.resolve(at, &import.path, depth) else { return None };
            let named = &self.all[module];
            let is_there = named.items.contains(name) || named.children.contains_key(name);
            let is_used = || named.uses.iter().any(|import| import.name == name);
            let path = [&["self".to_owned(), name.to_owned()], after].concat();
            if is_there || is_used() { self.resolve(module, &path, depth) } else { None }
        })
    }
}

/// The names in a module's own code, without the modules inside it.
#[derive(Default)]
struct Names {
    uses: Vec<Use>,
    named: Vec<Vec<String>>,
}

impl<'ast> Visit<'ast> for Names {
    fn visit_item(&mut self, item: &'ast Item) {
        if is_test(attributes(item)) {
            return;
        }
        match item {
            Item::Mod(_) => {}
            Item::Use(import) => {
                let is_public = !matches!(import.vis, Visibility::Inherited);
                read_use(&import.tree, &mut Vec::new(), is_public, &mut self.uses);
            }
            _ => visit::visit_item(self, item),
        }
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        if !matches!(item, ImplItem::Fn(function) if is_test(&function.attrs)) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.named.push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }
}

fn read_use(tree: &UseTree, before: &mut Vec<String>, is_public: bool, uses: &mut Vec<Use>) {
    let mut add = |name: String, last: Option<String>| {
        let path = before.iter().cloned().chain(last).collect();
        uses.push(Use { name, path, is_public });
    };
    match tree {
        UseTree::Path(path) => {
            before.push(path.ident.to_string());
            read_use(&path.tree, before, is_public, uses);
            before.pop();
        }
        UseTree::Name(name) if name.ident == "self" => add(before.last().cloned().unwrap_or_default(), None),
        UseTree::Name(name) => add(name.ident.to_string(), Some(name.ident.to_string())),
        UseTree::Rename(rename) if rename.ident == "self" => add(rename.rename.to_string(), None),
        UseTree::Rename(rename) => add(rename.rename.to_string(), Some(rename.ident.to_string())),
        UseTree::Glob(_) => add("*".to_owned(), None),
        UseTree::Group(group) => group.items.iter().for_each(|tree| read_use(tree, before, is_public, uses)),
    }
}

fn defined(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(name.to_string())
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// Whether an item is for tests: `#[cfg(test)]` and the like, but not `cfg(not(test))`.
fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().filter(|attribute| attribute.path().is_ident("cfg")).any(|attribute| {
        let syn::Meta::List(list) = &attribute.meta else { return false };
        let condition = list.tokens.to_string();
        super::code::has_word(&condition, "test") && !super::code::has_word(&condition, "not")
    })
}

/// A finding for each set of files that all reach each other.
fn shortest_circles(imports: &Imports<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut seen: HashSet<&str> = HashSet::new();
    let files: Vec<&str> = imports.keys().map(|(from, _)| *from).collect();
    let mut circles: Vec<Vec<&str>> = files.iter().filter_map(|file| circle_through(file, imports)).collect();
    circles.sort_by_key(Vec::len);
    for circle in circles {
        if circle.iter().any(|file| seen.contains(file)) {
            continue;
        }
        seen.extend(&circle);
        let steps = circle.iter().zip(circle.iter().cycle().skip(1));
        let steps = steps.map(|(from, to)| format!("{from} names {} of {to}", imports[&(*from, *to)]));
        let steps = steps.collect::<Vec<_>>().join("; ");
        let message = format!("a circle of imports (end it, or give {} a reason): {steps}", Exceptions::PATH);
        findings.push(Finding::new(circle[0], 0, message));
    }
    findings
}

/// The shortest way from a file back to itself, breadth first.
fn circle_through<'t>(start: &'t str, imports: &Imports<'t>) -> Option<Vec<&'t str>> {
    let mut came_from: HashMap<&str, &str> = HashMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(file) = queue.pop_front() {
        for (_, to) in imports.keys().filter(|(from, _)| *from == file) {
            if *to == start {
                let mut circle = vec![file];
                while let Some(before) = came_from.get(circle[circle.len() - 1]) {
                    circle.push(before);
                }
                circle.reverse();
                return Some(circle);
            }
            if !came_from.contains_key(to) {
                came_from.insert(to, file);
                queue.push_back(to);
            }
        }
    }
    None
}

/// How many re-exports of re-exports are followed.
const DEPTH_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::super::exceptions::Exception;
    use super::super::tree::tree;
    use super::*;

    const MANIFEST: (&str, &str) = ("x/Cargo.toml", "[package]\nname = \"x\"\n");

    fn messages(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<(&str, &str)> = files.iter().copied().chain([MANIFEST]).collect();
        check(&tree(&files), &Exceptions::default()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_line_of_imports_passes() {
        assert_eq!(
            messages(&[
                ("x/src/lib.rs", "mod a; mod b; pub use a::A; pub use b::B;"),
                ("x/src/a.rs", "pub struct A;"),
                ("x/src/b.rs", "use crate::A; use std::fmt; pub struct B(A); fn f(_: &dyn fmt::Debug) {}"),
            ]),
            [""; 0]
        );
    }

    #[test]
    fn a_circle_is_found_whichever_way_the_names_go() {
        for (a, b) in [
            ("use crate::b::B; pub struct A(B);", "use crate::a::A; pub struct B(A);"),
            ("use super::B; pub struct A(B);", "use super::a::{self}; pub struct B(a::A);"),
            ("pub struct A(crate::B);", "use super::a as other; pub struct B(other::A);"),
            ("use crate::*; pub struct A(B);", "fn f() { use crate::A; } pub struct B;"),
            ("pub use crate::B; pub struct A(B);", "use crate::a::inner::C; pub struct B(C);"),
        ] {
            let a = format!("{a} pub mod inner {{ pub struct C; }}");
            let found = messages(&[
                ("x/src/lib.rs", "mod a; mod b; pub use a::A; pub use b::B;"),
                ("x/src/a.rs", &a),
                ("x/src/b.rs", b),
            ]);
            assert_eq!(found.len(), 1, "{a} {b}: {found:?}");
            assert!(found[0].contains("x/src/a.rs names"), "{found:?}");
        }
    }

    #[test]
    fn a_parent_that_only_shows_its_child_is_in_no_circle_but_one_that_uses_it_is() {
        let child = ("x/src/a/child.rs", "use super::A; pub struct Child(A);");
        let lib = ("x/src/lib.rs", "mod a;");
        for (parent, count) in [
            ("mod child; pub use child::Child; pub struct A;", 0),
            ("mod child; pub use child::Child; pub struct A; fn f(_: Child) {}", 1),
            ("mod child; pub struct A; fn f(_: child::Child) {}", 1),
            ("mod child; pub struct A; #[cfg(test)] mod tests { use super::child::Child; }", 0),
            ("mod child; pub struct A; #[cfg(not(test))] fn f(_: child::Child) {}", 1),
        ] {
            assert_eq!(messages(&[lib, ("x/src/a.rs", parent), child]).len(), count, "{parent}");
        }
    }

    #[test]
    fn each_knot_is_told_once_and_programs_are_looked_at_by_themselves() {
        let found = messages(&[
            ("x/src/lib.rs", "mod a; mod b;"),
            ("x/src/a.rs", "use crate::b::B; pub struct A(B);"),
            ("x/src/b.rs", "use crate::a::A; pub struct B(A);"),
            ("x/src/main.rs", "mod c; fn main() { c::f() } const N: u8 = 1;"),
            ("x/src/c.rs", "pub fn f() -> u8 { crate::N }"),
        ]);
        assert_eq!(found.len(), 2, "{found:?}");
    }

    #[test]
    fn an_exception_grants_a_crate_its_circles_and_must_be_needed() {
        let lib = ("x/src/lib.rs", "mod a; mod b;");
        let a = ("x/src/a.rs", "pub struct A(crate::b::B);");
        let excepted = Exceptions { circles: vec![Exception::for_file("x")], ..Exceptions::default() };
        let with = |b: &str| check(&tree(&[MANIFEST, lib, a, ("x/src/b.rs", b)]), &excepted).len();
        assert_eq!(with("pub struct B(Option<Box<crate::a::A>>);"), 0);
        assert_eq!(with("pub struct B;"), 1);
    }

    #[test]
    fn what_is_no_rust_is_said() {
        assert!(messages(&[("x/src/lib.rs", "fn (")])[0].starts_with("x/src/lib.rs: no Rust"));
    }
}
