//! Library objects as items of lists: by type, and single objects.
//!
//! Pure.

use super::{Id, Listed, any, contains};
use crate::{
    report::{LibraryObject, ObjectType},
    tui::columns::{self, Column, TableContext},
};

impl Listed for ObjectType {
    const COLUMNS: &'static [Column<Self>] = columns::OBJECT_TYPES;

    fn number(context: &TableContext<'_>) -> usize {
        context.report.objects.as_ref().map_or(0, |objects| objects.types.len())
    }

    fn get<'a>(context: &TableContext<'a>, at: usize) -> Option<&'a Self> {
        context.report.objects.as_ref()?.types.get(at)
    }

    fn id(&self) -> Id {
        Id::ObjectType(self.name.clone())
    }

    fn is(&self, id: &Id) -> bool {
        matches!(id, Id::ObjectType(name) if *name == self.name)
    }

    fn site(&self) -> Option<u32> {
        self.site
    }

    fn label(&self) -> Option<String> {
        Some(self.name.clone())
    }

    fn type_name(&self) -> Option<&str> {
        Some(&self.name)
    }

    fn has(&self, word: &str) -> bool {
        [&self.name, &self.library, &self.sentence].into_iter().any(|text| contains(text, word))
    }
}

impl Listed for LibraryObject {
    const COLUMNS: &'static [Column<Self>] = columns::OBJECTS;

    fn number(context: &TableContext<'_>) -> usize {
        context.report.objects.as_ref().map_or(0, |objects| objects.table.len())
    }

    fn get<'a>(context: &TableContext<'a>, at: usize) -> Option<&'a Self> {
        context.report.objects.as_ref()?.table.get(at)
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
        Some(format!("{} {}", self.type_name, self.address))
    }

    fn type_name(&self) -> Option<&str> {
        Some(&self.type_name)
    }

    fn has(&self, word: &str) -> bool {
        let owner = self.owner.map(|owner| owner.to_string());
        let asked = self.is_asked().then_some("release asked");
        contains(&self.type_name, word)
            || contains(&self.address.to_string(), word)
            || contains(asked.unwrap_or("live"), word)
            || any([&self.label, &self.peer, &owner], word)
    }
}
