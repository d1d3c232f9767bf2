//! Missing names as text: which modules lack them, why, and how to get them.
//!
//! Takes the report's modules, returns a paragraph for each that lacks names, and nothing when none does: a reader
//! with all names needs no such section.

use std::io::{self, Write};

use super::Page;
use crate::{
    format::count,
    report::{Module, Names},
};

pub(super) fn write(modules: &[Module], page: &mut Page<'_, impl Write>) -> io::Result<()> {
    let mut poor = modules.iter().filter(|module| module.frames_without_name > 0).peekable();
    if poor.peek().is_none() {
        return Ok(());
    }
    page.line("")?;
    page.line("names: missing in these modules")?;
    for module in poor {
        let noun = if module.frames_without_name == 1 { "frame" } else { "frames" };
        let path = module.path.as_deref().unwrap_or_else(|| module.label());
        page.line(&format!(
            "  {path}: {} {noun} without a name ({})",
            count(module.frames_without_name),
            quality(module.names),
        ))?;
        if let Some(why) = &module.why {
            page.line(&format!("      {why}"))?;
        }
        if let Some(build_id) = &module.build_id {
            page.line(&format!("      build id {build_id}"))?;
        }
        if let Some(help) = &module.help {
            page.line(&format!("      help: {help}"))?;
        }
    }
    Ok(())
}

fn quality(names: Names) -> &'static str {
    match names {
        Names::None => "it has no names",
        Names::Exports => "it has names of exported functions only",
        Names::Symbols => "it has function names, but no line numbers",
        Names::Full => "it has debug information",
    }
}
