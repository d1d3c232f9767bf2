//! Findings in words: the title, more reasons, and what to look at first. Pure.

use super::{Case, function::short_name};
use crate::{
    evidence::Share,
    format,
    report::{
        Amount, Arena, Fault, FindingOwner, FindingPart, Frame, PerConnection, Resource, Site,
        VerdictClass,
    },
};

/// Parts that a title lists.
const PARTS: usize = 3;

/// Objects with their messages that the reasons list.
const LISTED: usize = 3;

/// Describes a finding.
#[derive(Clone, Copy)]
pub(super) struct Description<'a> {
    /// The case whose function is the headline.
    pub(super) head: &'a Case<'a>,
    /// The case whose verdict counts.
    pub(super) worst: &'a Case<'a>,
    /// The headline.
    pub(super) frame: Option<&'a Frame>,
    /// Its caller, where only some of its callers are concerned.
    pub(super) caller: Option<&'a str>,
    pub(super) parts: &'a [FindingPart],
    /// The objects that own what their library has acquired by itself.
    pub(super) owners: &'a [FindingOwner],
    pub(super) per: Option<&'a PerConnection>,
    pub(super) fault: Option<Fault>,
}

impl Description<'_> {
    /// What leaks, with its function: `copy_name leaks blocks of 48 B, 1.0 % of all`.
    pub(super) fn title(&self) -> String {
        let function = self.function();
        if let Some(owner) = self.owners.first().filter(|_| self.head.is_innocent_owner()) {
            return format!("{function}: {}", self.piles_up(owner));
        }
        let verb = match self.worst.site.verdict.class {
            VerdictClass::Leak => "leaks",
            VerdictClass::Suspect => "seems to leak",
            _ => return format!("{function}: more and more {}", self.things()),
        };
        let caller =
            self.caller.map_or_else(String::new, |caller| format!(" when called by {caller}"));
        format!("{function} {verb} {}{}{caller}", self.things(), self.how_often())
    }

    /// Reasons that the verdict does not have: parts, and whose mistake it is.
    pub(super) fn more_reasons(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        let is_innocent = self.head.is_innocent_owner();
        let wait = |owner: &&FindingOwner| {
            owner.messages.is_some_and(|messages| messages.waiting + messages.unsent > 0)
        };
        let listed = self.owners.iter().filter(|owner| is_innocent || wait(owner)).take(LISTED);
        reasons.extend(listed.map(described));
        if is_innocent && !self.owners.is_empty() {
            let others =
                self.head.owning.map_or(0, |(_, count)| count.saturating_sub(LISTED as u64));
            if others > 0 {
                let others = format::count(others);
                reasons.push(format!(
                    "the same function created {others} others that own such blocks"
                ));
            }
            let list: Vec<String> = self.parts.iter().skip(1).map(amount).collect();
            let library = self.head.objects.map_or("the library", |objects| objects.library);
            reasons.push(format!("acquired by {library} for them: {}", list.join(", ")));
        } else if self.parts.len() > 1 {
            let list: Vec<String> = self.parts.iter().skip(1).map(amount).collect();
            reasons.push(format!("acquired together, and kept together: {}", list.join(", ")));
        }
        reasons.extend(self.head.site.arena.as_ref().map(Arena::sentence));
        match (self.fault, self.head.objects) {
            (Some(Fault::Program), Some(objects)) => reasons
                .push(format!("the program never asks {} to release any of them", objects.library)),
            (Some(Fault::Library), Some(objects)) => {
                let requested = objects.release_requested.unwrap_or_default();
                reasons.push(format!(
                    "the program asked {} to release {} of them; they remain: a reference is held, or it is {}'s own leak{}",
                    objects.library,
                    format::count(requested),
                    objects.library,
                    self.library_file(),
                ));
            }
            _ => {}
        }
        reasons
    }

    /// What to look at first.
    pub(super) fn look_at(&self) -> Option<String> {
        if !self.worst.site.verdict.class.is_accusation() {
            return None;
        }
        let frame = self.frame?;
        let function = short_name(frame);
        let place = frame.source().map_or_else(String::new, |source| format!(": {source}"));
        let peer_gone =
            self.worst.judged.evidence.as_ref().is_some_and(|evidence| {
                evidence.peer_gone.is_some_and(|sockets| sockets.lasting > 0)
            });
        if self.head.is_innocent_owner() {
            return Some(format!("who takes the messages out of what {function} creates{place}"));
        }
        Some(match (self.fault, self.per) {
            (Some(Fault::Library), _) => {
                format!("who else holds a reference to what {function} creates{place}")
            }
            _ if peer_gone => {
                format!("who closes the sockets of {function} once the peer is gone{place}")
            }
            (_, Some(_)) => format!(
                "what runs when a connection closes: it does not release what {function} acquires{place}"
            ),
            _ => format!("where what {function} acquires should be released{place}"),
        })
    }

    /// What piles up in an object that is not leaked itself: its messages, or else what its library acquires.
    fn piles_up(&self, owner: &FindingOwner) -> String {
        let (label, messages) = (owner.label(), owner.messages.unwrap_or_default());
        if messages.waiting >= messages.unsent.max(1) {
            let waiting = format::count(messages.waiting);
            return match messages.received {
                0 => format!("{waiting} messages in {label} were never received"),
                _ => format!("{waiting} messages in {label} wait to be received"),
            };
        }
        if messages.unsent > 0 {
            let unsent = format::count(messages.unsent);
            return format!("{unsent} messages in {label} wait to be sent");
        }
        let parts: Vec<String> =
            self.parts.iter().skip(1).take(PARTS).map(|part| plural(&part.kind)).collect();
        format!("{label} has more and more {}", parts.join(", "))
    }

    fn function(&self) -> String {
        self.frame.map_or_else(|| "an unknown function".to_owned(), short_name)
    }

    /// The resources of the head, and those that belong to it: `bufferevents with 2 fds each`.
    fn things(&self) -> String {
        let [head, rest @ ..] = self.parts else { return "resources".to_owned() };
        let site = self.head.site;
        let mut text = things(site, head);
        if !rest.is_empty() {
            let names: Vec<String> =
                rest.iter().take(PARTS).map(|part| plural(&part.kind)).collect();
            let more = if rest.len() > PARTS { ", ..." } else { "" };
            text = format!("{text} with their {}{more}", names.join(", "));
        }
        text
    }

    /// `, one for each closed connection` or `, 1 in 53`.
    fn how_often(&self) -> String {
        if let Some(per) = self.per {
            return if per.share > 0.995 {
                " at each closed connection".to_owned()
            } else {
                format!(" at {} of closed connections", format::percent(per.share))
            };
        }
        let retained = self.worst.judged.evidence.as_ref().and_then(|one| one.retained);
        let share = retained.map(|retained| retained.share);
        share.filter(|share| share.share < 0.995).map_or_else(String::new, often)
    }

    /// The file of the library whose object it is: its name has a version.
    fn library_file(&self) -> String {
        let creates = self.head.site.frames.first().and_then(|frame| frame.module.as_deref());
        let file = creates.map(format::file_name).filter(|file| file.contains(".so."));
        file.map_or_else(String::new, |file| format!(" ({file})"))
    }
}

/// `, 1 in 53`; a large share in percent.
fn often(share: Share) -> String {
    if share.share > 0.2 {
        return format!(", {} of all", format::percent(share.share));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
    let one_in = (1.0 / share.share.max(1e-12)).round() as u64;
    format!(", 1 in {}", format::count(one_in))
}

/// The plural of a kind, with a size where that says something.
fn things(site: &Site, part: &FindingPart) -> String {
    if let Some(fd_type) = &site.fd_type {
        return match fd_type.name() {
            "socket" => "sockets".to_owned(),
            "unknown" => "file descriptors".to_owned(),
            name => format!("file descriptors ({name})"),
        };
    }
    let each = part.bytes as f64 / part.count.max(1) as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bytes")]
    let size = format::bytes(each.round() as u64);
    let same = site.acquired_count > 0 && site.acquired_bytes.is_multiple_of(site.acquired_count);
    let about = if same { "of" } else { "of about" };
    match &part.kind {
        kind if kind.name() == "heap" => format!("blocks {about} {size}"),
        kind if kind.name() == "mmap" => format!("mappings {about} {size}"),
        kind => plural(kind),
    }
}

/// An object with its messages, and what its library has acquired for it.
fn described(owner: &FindingOwner) -> String {
    let mut text = owner.label();
    if let Some(messages) = owner.messages {
        let count = format::count;
        let received = match messages.received {
            0 => "none was ever received".to_owned(),
            some => format!("received so far: {}", count(some)),
        };
        text = format!(
            "{text}: {} messages wait to be received ({received})",
            count(messages.waiting)
        );
        text = match messages.unsent {
            0 => format!("{text};"),
            some => format!("{text}, {} to be sent;", count(some)),
        };
    } else {
        text.push(':');
    }
    let Amount { count, bytes } = owner.internals;
    format!("{text} it owns {} blocks ({})", format::count(count), format::bytes(bytes))
}

/// `3 evbuffers (1.2 KiB)`.
fn amount(part: &FindingPart) -> String {
    let bytes =
        if part.bytes > 0 { format!(" ({})", format::bytes(part.bytes)) } else { String::new() };
    format!("{} {}{bytes}", format::count(part.count), plural(&part.kind))
}

/// The plural of a kind.
fn plural(kind: &Resource) -> String {
    match kind.name() {
        "heap" => "blocks".to_owned(),
        "mmap" => "mappings".to_owned(),
        "fd" => "descriptors".to_owned(),
        name if name.ends_with('s') => name.to_owned(),
        name => format!("{name}s"),
    }
}
