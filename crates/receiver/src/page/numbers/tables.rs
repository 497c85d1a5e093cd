//! The tables: how calls ended, and figures of each business type.

use super::{
    super::{
        links::{self, Pairs},
        row, text,
    },
    figures::{Figures, Group, part, seconds, whole},
};

/// Units of the longest bar.
const BAR: f64 = 240.0;

pub(super) struct Ending {
    pub(super) status: String,
    pub(super) tone: &'static str,
    pub(super) reason: String,
    pub(super) count: String,
    pub(super) part: String,
    pub(super) width: String,
    pub(super) href: String,
}

pub(super) struct Business {
    pub(super) name: String,
    pub(super) href: String,
    pub(super) calls: String,
    pub(super) completed: String,
    pub(super) successful: String,
    pub(super) completion: String,
    pub(super) p50: String,
    pub(super) p95: String,
    pub(super) interruptions: String,
    pub(super) silences: String,
}

/// The most frequent end first.
pub(super) fn endings(pairs: &Pairs, figures: &Figures) -> Vec<Ending> {
    let total = figures.all.count();
    let mut groups: Vec<&Group> = figures.by_end.iter().collect();
    groups.sort_by(|a, b| b.count().total_cmp(&a.count()));
    let most = groups.first().map_or(1.0, |group| group.count());
    let ending = |group: &&Group| {
        let status = group.text("status").unwrap_or("unknown");
        let reason = group.text("termination_reason");
        let more = match reason {
            Some(reason) => [("status", status), ("termination_reason", reason)],
            None => [("status", status), ("termination_reason.present", "false")],
        };
        Ending {
            status: text::words(status),
            tone: row::tone_of_end(status),
            reason: reason.map_or("ordinary end".into(), text::words),
            count: whole(group.count()),
            part: part((total > 0.0).then(|| group.count() / total)),
            width: format!("{:.1}", (group.count() / most * BAR).max(1.0)),
            href: links::calls(pairs, &more),
        }
    };
    groups.iter().map(ending).collect()
}

pub(super) fn businesses(pairs: &Pairs, figures: &Figures) -> Vec<Business> {
    let business = |group: &Group| {
        let name = group.text("business_type");
        let calls = group.count();
        let completed = figures.by_business_and_status.iter().find(|end| {
            end.text("business_type") == name && end.text("status") == Some("completed")
        });
        let completed = completed.map_or(0.0, Group::count);
        Business {
            href: match name {
                Some(name) => links::calls(pairs, &[("business_type", name)]),
                None => links::calls(pairs, &[("business_type.present", "false")]),
            },
            name: name.map_or("not reported".into(), text::words),
            calls: whole(calls),
            completed: part((calls > 0.0).then(|| completed / calls)),
            successful: part(group.figure("successful.avg")),
            completion: part(group.figure("completion_rate.avg")),
            p50: seconds(group.figure("agent_response.p50")),
            p95: seconds(group.figure("agent_response.p95")),
            interruptions: seconds(group.a_minute("interruption_count.sum")),
            silences: seconds(group.a_minute("silence_count.sum")),
        }
    };
    figures.by_business.iter().map(business).collect()
}
