//! The caller's phone number and the direction of the call (docs/contract.md §3.2).

use record::CallType;

use super::{metadata::FromMetadata, party::Party};

pub(crate) const UNKNOWN: &str = "unknown";
/// What the SIP bridge writes for a number that the phone hides.
const HIDDEN: [&str; 4] = ["anonymous", "restricted", "unknown", "unavailable"];

/// `metadata`: best first.
pub(crate) fn call_type(caller: &Party, metadata: &[FromMetadata]) -> CallType {
    match metadata.iter().find_map(|m| m.outbound) {
        Some(true) => CallType::Outbound,
        Some(false) => CallType::Inbound,
        None if caller.is_dialled() => CallType::Outbound,
        None => CallType::Inbound,
    }
}

/// `metadata`: best first.
pub(crate) fn phone_number(caller: &Party, metadata: &[FromMetadata], room_name: &str) -> String {
    (bridge_number(caller).map(str::to_owned))
        .or_else(|| metadata.iter().find_map(|m| m.phone_number.clone()))
        .or_else(|| caller.identity.strip_prefix("sip_").and_then(number_in))
        .or_else(|| number_in(room_name))
        .or_else(|| {
            caller.attribute("sip.phoneNumber").filter(|_| caller.is_sip()).map(str::to_owned)
        })
        .or_else(|| (!caller.is_sip()).then(|| caller.identity.clone()))
        .filter(|n| !n.is_empty())
        .unwrap_or_else(|| UNKNOWN.into())
}

/// The number that the SIP bridge shows, unless it is hidden. Other participants may set any attribute of
/// their own.
pub(crate) fn bridge_number(p: &Party) -> Option<&str> {
    p.attribute("sip.phoneNumber").filter(|n| p.is_sip() && !is_hidden(n))
}

fn is_hidden(number: &str) -> bool {
    HIDDEN.iter().any(|hidden| number.trim().eq_ignore_ascii_case(hidden))
}

/// The first `+` and 7 to 15 digits; room names like `twilio-+15551234567-x` carry one.
fn number_in(text: &str) -> Option<String> {
    let at = text.find('+')?;
    let digits: String = text[at + 1..].chars().take_while(char::is_ascii_digit).collect();
    (7..=15).contains(&digits.len()).then(|| format!("+{digits}"))
}

#[cfg(test)]
mod tests {
    use super::number_in;

    #[test]
    fn numbers_are_found_in_room_names() {
        for (text, number) in [
            ("twilio-+15551234567-abc", Some("+15551234567")),
            ("+4930123456", Some("+4930123456")),
            ("+123", None),
            ("+1234567890123456", None),
            ("room-15551234567", None),
            ("", None),
            ("+", None),
        ] {
            assert_eq!(number_in(text).as_deref(), number, "{text}");
        }
    }
}
