//! What the stage of findings needs: each call site's report, verdict and lives, its object's owner, and its clients.

use std::{collections::HashMap, sync::Arc};

use super::{SessionInfo, connections::address, owners::Owners};
use crate::{
    findings::{self, Case, Judging, ObjectCase, Targets},
    ledger::Sum,
    packs::ObjectType,
    report::{Answer, Finding, FindingClient, Site, Suppressed},
    snapshot::{SiteFigures, Snapshot},
    verdict::Judge,
};

pub(super) use crate::findings::excuse;

/// What is known of the call sites.
pub(super) struct Known<'a> {
    /// The reports on them.
    pub(super) sites: &'a [Site],
    /// Their figures, in the same order.
    pub(super) figures: &'a [&'a SiteFigures],
    /// The objects that resources are parts of.
    pub(super) owners: &'a Owners,
    /// The object types of those that create objects.
    pub(super) objects: &'a HashMap<u32, Arc<ObjectType>>,
}

/// The findings of a snapshot without those that the user suppresses, what is suppressed, and the answer.
pub(super) fn find(
    known: &Known<'_>,
    judge: &Judge,
    session: &SessionInfo,
    snapshot: &Snapshot,
) -> (Vec<Finding>, Vec<Suppressed>, Answer) {
    let traced_s = snapshot.at_ns.saturating_sub(session.started_ns) as f64 / 1e9;
    let judging = if session.options.light {
        Judging::Light
    } else if snapshot.sampling.is_some_and(|sampling| sampling.estimated) {
        Judging::Estimated
    } else {
        Judging::Judged
    };
    let all = known.sites.iter().zip(known.figures);
    let cases: Vec<Case<'_>> =
        all.filter_map(|(site, figures)| case(known, judge, snapshot, site, figures)).collect();
    if judging != Judging::Judged {
        return (Vec::new(), Vec::new(), findings::answer(&[], &cases, traced_s, judging));
    }
    let members = session.targets.iter();
    let executables = members
        .filter_map(|one| Some((one.identity.pid.0, one.identity.exe.as_deref()?)))
        .collect();
    let targets = Targets {
        executables: &executables,
        clients: &|site| clients(snapshot, site),
        cohorts_from_s: (snapshot.lives_origin_ns as f64 - session.started_ns as f64) / 1e9,
    };
    let all = findings::find(&cases, &targets);
    // Before the answer, which is about what remains.
    let (found, suppressed) = session.suppressions.apply(all);
    let answer = findings::answer(&found, &cases, traced_s, judging);
    (found, suppressed, answer)
}

fn case<'a>(
    known: &Known<'a>,
    judge: &'a Judge,
    snapshot: &Snapshot,
    site: &'a Site,
    figures: &'a SiteFigures,
) -> Option<Case<'a>> {
    let object = |kind: &'a Arc<ObjectType>| {
        let known = snapshot.objects.as_ref().and_then(|all| all.sites.get(&site.id));
        let requested = known.map_or(0, |known| known.asked);
        ObjectCase { library: &kind.library, release_requested: kind.is_asked.then_some(requested) }
    };
    Some(Case {
        site,
        judged: judge.of(site.id)?,
        lives: figures.lives.as_deref(),
        owner: known.owners.by_stack.get(&site.id).copied(),
        objects: known.objects.get(&site.id).map(object),
        owning: known.owners.described.get(&site.id).map(|(all, count)| (all.as_slice(), *count)),
    })
}

/// The clients of a call site's resources.
fn clients(snapshot: &Snapshot, site: u32) -> Vec<FindingClient> {
    let peers = snapshot.connections.as_ref().and_then(|all| all.by_site.get(&site));
    let client = |(peer, sum): &(_, Sum)| FindingClient {
        address: address(peer),
        count: sum.count,
        bytes: sum.bytes,
    };
    peers.into_iter().flatten().map(client).collect()
}
