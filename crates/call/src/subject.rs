//! The caller's phone number and the direction of the call (docs/contract.md §3.2).

use record::CallType;

use super::{event::Kind, parties::Party, published::FromMetadata};

pub(crate) const UNKNOWN: &str = "unknown";

/// `caller_metadata` is the caller's own: room and job metadata never decide the direction.
pub(crate) fn call_type(caller: &Party, caller_metadata: &FromMetadata) -> CallType {
    if let Some(outbound) = caller_metadata.outbound {
        return if outbound { CallType::Outbound } else { CallType::Inbound };
    }
    // The bridge writes the dispatch rule's id on inbound calls only.
    if caller.kind == Kind::Sip && caller.attribute("sip.ruleID").is_none() {
        return CallType::Outbound;
    }
    CallType::Inbound
}

pub(crate) fn phone_number(
    caller: &Party,
    caller_metadata: &FromMetadata,
    room_name: &str,
) -> String {
    // Only the SIP bridge is trusted: other participants may set any attribute of their own.
    let from_bridge =
        caller.attribute("sip.phoneNumber").filter(|_| caller.is_sip()).map(str::to_owned);
    from_bridge
        .or_else(|| caller_metadata.phone_number.clone())
        .or_else(|| caller.identity.strip_prefix("sip_").and_then(number_in))
        .or_else(|| number_in(room_name))
        .or_else(|| (caller.kind != Kind::Sip).then(|| caller.identity.clone()))
        .filter(|n| !n.is_empty())
        .unwrap_or_else(|| UNKNOWN.into())
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
