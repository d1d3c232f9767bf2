//! What one file defines, imports and names: found in its syntax tree, for `tidy`.
//!
//! Takes a parsed file, passes on names with line numbers, for the file's module and each module within it. Code for
//! tests (`#[cfg(test)]`) is left out, and documentation too.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::{
    Attribute, ImplItem, Item, ItemImpl, ItemMod, ItemUse, LitStr, Macro, Meta, Type, UseTree,
    Visibility,
    visit::{self, Visit},
};

/// What a module's text contains.
#[derive(Default)]
pub(crate) struct Found {
    /// Modules declared as files of their own.
    pub(crate) children: Vec<Child>,
    /// Names of items.
    pub(crate) items: BTreeSet<String>,
    /// Those of them that are functions.
    pub(crate) functions: BTreeSet<String>,
    /// Imported names.
    pub(crate) imports: BTreeMap<String, Import>,
    /// Paths in code and in imports, as written; re-exports are not among them.
    pub(crate) paths: Vec<(Vec<String>, usize)>,
    /// Paths of re-exports, as written.
    pub(crate) exports: Vec<(Vec<String>, usize)>,
    /// Types with an `impl` block that implements no trait.
    pub(crate) impls: Vec<(Vec<String>, usize)>,
    /// Names of called methods.
    pub(crate) methods: Vec<(String, usize)>,
    /// String literals.
    pub(crate) texts: Vec<(String, usize)>,
}

/// A module declared as a file of its own.
pub(crate) struct Child {
    pub(crate) name: String,
    /// The file that an attribute names.
    pub(crate) path: Option<String>,
    pub(crate) is_test: bool,
}

/// An imported name.
pub(crate) struct Import {
    /// What it stands for.
    pub(crate) path: Vec<String>,
}

/// What a file contains, for its module (the empty name) and each module within it.
pub(crate) fn find(file: &syn::File) -> BTreeMap<Vec<String>, Found> {
    let mut finder =
        Finder { all: BTreeMap::from([(Vec::new(), Found::default())]), at: Vec::new() };
    finder.visit_file(file);
    finder.all
}

struct Finder {
    all: BTreeMap<Vec<String>, Found>,
    /// The module that is being visited.
    at: Vec<String>,
}

impl Finder {
    fn here(&mut self) -> &mut Found {
        self.all.entry(self.at.clone()).or_default()
    }

    fn name(&mut self, path: Vec<String>, span: Span) {
        let line = span.start().line;
        self.here().paths.push((path, line));
    }

    fn import(&mut self, tree: &UseTree, mut before: Vec<String>, exported: bool) {
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.import(&path.tree, before, exported);
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.import(tree, before.clone(), exported);
                }
            }
            UseTree::Name(name) if name.ident == "self" => {
                if let Some(last) = before.last().cloned() {
                    self.import_as(last, before, exported, name.ident.span());
                }
            }
            UseTree::Name(name) => {
                before.push(name.ident.to_string());
                self.import_as(name.ident.to_string(), before, exported, name.ident.span());
            }
            UseTree::Rename(rename) => {
                if rename.ident != "self" {
                    before.push(rename.ident.to_string());
                }
                self.import_as(rename.rename.to_string(), before, exported, rename.ident.span());
            }
            UseTree::Glob(glob) => self.name(before, glob.star_token.spans[0]),
        }
    }

    fn import_as(&mut self, name: String, path: Vec<String>, exported: bool, span: Span) {
        if exported {
            let line = span.start().line;
            self.here().exports.push((path.clone(), line));
        } else {
            self.name(path.clone(), span);
        }
        self.here().imports.insert(name, Import { path });
    }

    /// Paths and texts in the arguments of a macro.
    fn tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let is = |at: usize, c: char| matches!(tokens.get(at), Some(TokenTree::Punct(one)) if one.as_char() == c);
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            match token {
                TokenTree::Group(group) => self.tokens(group.stream()),
                TokenTree::Literal(literal) => {
                    if let Ok(text) = syn::parse_str::<LitStr>(&literal.to_string()) {
                        let line = literal.span().start().line;
                        self.here().texts.push((text.value(), line));
                    }
                }
                TokenTree::Ident(first) => {
                    let is_method = at > 0 && is(at - 1, '.') && !(at > 1 && is(at - 2, '.'));
                    let mut path = vec![first.to_string()];
                    while is(at + 1, ':')
                        && is(at + 2, ':')
                        && let Some(TokenTree::Ident(next)) = tokens.get(at + 3)
                    {
                        path.push(next.to_string());
                        at += 3;
                    }
                    if is_method {
                        let line = first.span().start().line;
                        self.here().methods.push((path.concat(), line));
                    } else {
                        self.name(path, first.span());
                    }
                }
                TokenTree::Punct(_) => {}
            }
            at += 1;
        }
    }

    /// Paths that derives find in texts, as in `#[serde(with = "crate::x::y")]`.
    fn paths_in_texts(&mut self, tokens: TokenStream) {
        for token in tokens {
            match token {
                TokenTree::Group(group) => self.paths_in_texts(group.stream()),
                TokenTree::Literal(literal) => {
                    if let Ok(text) = syn::parse_str::<LitStr>(&literal.to_string())
                        && ["crate::", "super::"].iter().any(|one| text.value().starts_with(one))
                        && let Ok(path) = syn::parse_str::<syn::Path>(&text.value())
                    {
                        self.name(segments(&path), literal.span());
                    }
                }
                _ => {}
            }
        }
    }

    fn define(&mut self, item: &Item) {
        let (name, is_function) = match item {
            Item::Const(one) => (one.ident.to_string(), false),
            Item::Enum(one) => (one.ident.to_string(), false),
            Item::Fn(one) => (one.sig.ident.to_string(), true),
            Item::Static(one) => (one.ident.to_string(), false),
            Item::Struct(one) => (one.ident.to_string(), false),
            Item::Trait(one) => (one.ident.to_string(), false),
            Item::Type(one) => (one.ident.to_string(), false),
            Item::Union(one) => (one.ident.to_string(), false),
            Item::Macro(one) => match &one.ident {
                Some(name) => (name.to_string(), false),
                None => return,
            },
            _ => return,
        };
        let found = self.here();
        if is_function {
            found.functions.insert(name.clone());
        }
        found.items.insert(name);
    }
}

impl Visit<'_> for Finder {
    fn visit_item(&mut self, item: &Item) {
        if is_for_tests(attributes(item)) {
            // Their files are known all the same.
            if let Item::Mod(ItemMod { content: None, .. }) = item {
                visit::visit_item(self, item);
            }
            return;
        }
        self.define(item);
        visit::visit_item(self, item);
    }

    fn visit_impl_item(&mut self, item: &ImplItem) {
        let attributes: &[Attribute] = match item {
            ImplItem::Const(one) => &one.attrs,
            ImplItem::Fn(one) => &one.attrs,
            _ => &[],
        };
        if !is_for_tests(attributes) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, module: &ItemMod) {
        let name = module.ident.to_string();
        if module.content.is_some() {
            self.at.push(name);
            self.here();
            visit::visit_item_mod(self, module);
            self.at.pop();
        } else {
            let path = module.attrs.iter().find_map(file_of);
            let is_test = is_for_tests(&module.attrs);
            self.here().children.push(Child { name, path, is_test });
        }
    }

    fn visit_item_use(&mut self, item: &ItemUse) {
        let exported = !matches!(item.vis, Visibility::Inherited);
        self.import(&item.tree, Vec::new(), exported);
    }

    fn visit_item_impl(&mut self, item: &ItemImpl) {
        if item.trait_.is_none()
            && let Type::Path(of) = &*item.self_ty
        {
            let line = item.impl_token.span.start().line;
            self.here().impls.push((segments(&of.path), line));
        }
        visit::visit_item_impl(self, item);
    }

    fn visit_path(&mut self, path: &syn::Path) {
        if let Some(first) = path.segments.first() {
            self.name(segments(path), first.ident.span());
        }
        visit::visit_path(self, path);
    }

    fn visit_expr_method_call(&mut self, call: &syn::ExprMethodCall) {
        let line = call.method.span().start().line;
        self.here().methods.push((call.method.to_string(), line));
        visit::visit_expr_method_call(self, call);
    }

    fn visit_macro(&mut self, call: &Macro) {
        self.visit_path(&call.path);
        self.tokens(call.tokens.clone());
    }

    fn visit_lit_str(&mut self, text: &LitStr) {
        let line = text.span().start().line;
        self.here().texts.push((text.value(), line));
    }

    // `pub(super)` names no dependency.
    fn visit_visibility(&mut self, _: &Visibility) {}

    fn visit_attribute(&mut self, attribute: &Attribute) {
        if let Meta::List(list) = &attribute.meta {
            self.paths_in_texts(list.tokens.clone());
        }
    }
}

fn segments(path: &syn::Path) -> Vec<String> {
    path.segments.iter().map(|segment| segment.ident.to_string()).collect()
}

/// The file that `#[path = "…"]` names.
fn file_of(attribute: &Attribute) -> Option<String> {
    let Meta::NameValue(meta) = &attribute.meta else { return None };
    let syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) = &meta.value else {
        return None;
    };
    meta.path.is_ident("path").then(|| text.value())
}

/// Whether code with these attributes is compiled for tests only.
fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) => list.path.is_ident("cfg") && list.tokens.to_string() == "test",
        _ => attribute.path().is_ident("test"),
    })
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(one) => &one.attrs,
        Item::Enum(one) => &one.attrs,
        Item::Fn(one) => &one.attrs,
        Item::Impl(one) => &one.attrs,
        Item::Macro(one) => &one.attrs,
        Item::Mod(one) => &one.attrs,
        Item::Static(one) => &one.attrs,
        Item::Struct(one) => &one.attrs,
        Item::Trait(one) => &one.attrs,
        Item::Type(one) => &one.attrs,
        Item::Union(one) => &one.attrs,
        Item::Use(one) => &one.attrs,
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Found {
        find(&syn::parse_file(text).unwrap()).remove(&Vec::new()).unwrap()
    }

    fn paths(text: &str) -> Vec<String> {
        found(text).paths.iter().map(|(path, line)| format!("{line} {}", path.join("::"))).collect()
    }

    #[test]
    fn an_import_of_several_names_counts_each_on_its_line() {
        let text = "use super::{a,\n  b::{self, c as d}};\npub use x::Y;";
        assert_eq!(paths(text), ["1 super::a", "2 super::b", "2 super::b::c"]);
        let imports = found(text).imports;
        let names: Vec<_> =
            imports.iter().map(|(name, of)| (&**name, of.path.join("::"))).collect();
        let wanted = [("Y", "x::Y"), ("a", "super::a"), ("b", "super::b"), ("d", "super::b::c")];
        assert_eq!(names, wanted.map(|(name, path)| (name, path.to_owned())));
    }

    #[test]
    fn arguments_of_macros_are_searched() {
        let text = "fn f() { log!(\"{}\", a.b(), crate::x::Y, [\"/proc/1\"]) }";
        let found = found(text);
        assert!(found.paths.iter().any(|(path, _)| path.join("::") == "crate::x::Y"));
        assert_eq!(found.methods, [("b".to_owned(), 1)]);
        assert_eq!(found.texts.last(), Some(&("/proc/1".to_owned(), 1)));
    }

    #[test]
    fn tests_and_documentation_are_left_out() {
        let text = "/// See \"/proc/1\".\npub(super) fn f() {}\n#[cfg(test)]\nmod tests { use super::x; }\n\
                    #[cfg(test)]\nfn g() { h::i() }\n#[cfg(test)]\nmod apart;";
        let found = found(text);
        assert!(found.texts.is_empty());
        assert!(found.paths.is_empty(), "{:?}", found.paths);
        assert!(found.children.iter().all(|child| child.is_test && child.name == "apart"));
        assert_eq!(found.children.len(), 1);
    }

    #[test]
    fn paths_in_attributes_count() {
        let text = "struct A {\n#[serde(with = \"crate::b::c\", rename = \"d\")]\ne: u8 }";
        assert_eq!(paths(text), ["2 crate::b::c", "3 u8"]);
    }

    #[test]
    fn only_blocks_without_a_trait_are_listed() {
        let impls = found("impl Drop for A {}\n\nimpl<T> super::B<T> {}").impls;
        assert_eq!(impls, [(vec!["super".to_owned(), "B".to_owned()], 3)]);
    }
}
