//! Who was in the room, for the details: everybody with a role, phone legs, transfers.

use std::collections::BTreeMap;

use record::{
    Moment,
    people::{Participant, Phone, Transfer},
};

use super::{event::Kind, parties::Parties, party::Party, subject};

const fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Standard => "standard",
        Kind::Sip => "sip",
        Kind::Connector => "connector",
        Kind::Agent => "agent",
        Kind::Ingress => "ingress",
        Kind::Egress => "egress",
        Kind::Bridge => "bridge",
    }
}

pub(crate) fn participants(parties: &Parties) -> Vec<Participant> {
    let of = |p: &Party| Participant {
        identity: p.identity.clone(),
        role: parties.role(p),
        kind: kind(p.kind).to_owned(),
        phone_number: number(p),
        joined_at: p.joined_at.to_rfc3339(),
        connected_at: p.connected_at().map(Moment::to_rfc3339),
        left_at: p.left.as_ref().map(|l| l.at.to_rfc3339()),
        disconnect_reason: p.left.as_ref().map(|l| l.reason),
    };
    parties.iter().map(of).collect()
}

pub(crate) fn transfers(parties: &Parties) -> Vec<Transfer> {
    let of = |p: &Party| Transfer {
        identity: p.identity.clone(),
        phone_number: number(p),
        dialled_at: p.joined_at.to_rfc3339(),
        answered_at: p.connected_at().map(Moment::to_rfc3339),
        left_at: p.left.as_ref().map(|l| l.at.to_rfc3339()),
        disconnect_reason: p.left.as_ref().map(|l| l.reason),
    };
    parties.third_parties().map(of).collect()
}

pub(crate) fn phone(p: &Party) -> Option<Phone> {
    if !p.is_sip() {
        return None;
    }
    let text = |key: &str| p.attribute(key).map(str::to_owned);
    let mapped: BTreeMap<String, String> = (p.attributes.iter())
        .filter(|(key, _)| !key.starts_with("sip."))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    Some(Phone {
        number: number(p),
        trunk_number: text("sip.trunkPhoneNumber"),
        call_id: text("sip.callID"),
        status: p.call_status().map(str::to_owned),
        rang_at: p.leg.rang_at.map(Moment::to_rfc3339),
        answered_at: p.leg.active.filter(|(_, before)| !before).map(|(at, _)| at.to_rfc3339()),
        hung_up_at: p.leg.hung_up_at.map(Moment::to_rfc3339),
        attributes: mapped,
    })
}

fn number(p: &Party) -> Option<String> {
    subject::bridge_number(p).map(str::to_owned)
}
