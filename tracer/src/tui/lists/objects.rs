//! Objects of libraries as items of lists: by kind, and one by one.
//!
//! Pure.

use super::{Id, Listed, any, contains};
use crate::{
    report::{Object, ObjectKind},
    tui::columns::{self, Column, Scene},
};

impl Listed for ObjectKind {
    const COLUMNS: &'static [Column<Self>] = columns::KINDS;

    fn number(scene: &Scene<'_>) -> usize {
        scene.report.objects.as_ref().map_or(0, |objects| objects.kinds.len())
    }

    fn get<'a>(scene: &Scene<'a>, at: usize) -> Option<&'a Self> {
        scene.report.objects.as_ref()?.kinds.get(at)
    }

    fn id(&self) -> Id {
        Id::Kind(self.kind.clone())
    }

    fn is(&self, id: &Id) -> bool {
        matches!(id, Id::Kind(kind) if *kind == self.kind)
    }

    fn site(&self) -> Option<u32> {
        self.site
    }

    fn label(&self) -> Option<String> {
        Some(self.kind.clone())
    }

    fn kind(&self) -> Option<&str> {
        Some(&self.kind)
    }

    fn has(&self, word: &str) -> bool {
        [&self.kind, &self.library, &self.sentence].into_iter().any(|text| contains(text, word))
    }
}

impl Listed for Object {
    const COLUMNS: &'static [Column<Self>] = columns::OBJECTS;

    fn number(scene: &Scene<'_>) -> usize {
        scene.report.objects.as_ref().map_or(0, |objects| objects.table.len())
    }

    fn get<'a>(scene: &Scene<'a>, at: usize) -> Option<&'a Self> {
        scene.report.objects.as_ref()?.table.get(at)
    }

    fn id(&self) -> Id {
        Id::Object(self.pid, self.site, self.address)
    }

    fn is(&self, id: &Id) -> bool {
        matches!(id, Id::Object(pid, site, address)
            if (*pid, *site) == (self.pid, self.site) && *address == self.address)
    }

    fn site(&self) -> Option<u32> {
        Some(self.site)
    }

    fn label(&self) -> Option<String> {
        Some(format!("{} {}", self.kind, self.address))
    }

    fn kind(&self) -> Option<&str> {
        Some(&self.kind)
    }

    fn has(&self, word: &str) -> bool {
        let owner = self.owner.map(|owner| owner.to_string());
        let asked = self.is_asked().then_some("release asked");
        contains(&self.kind, word)
            || contains(&self.address.to_string(), word)
            || contains(asked.unwrap_or("live"), word)
            || any([&self.label, &self.peer, &owner], word)
    }
}
