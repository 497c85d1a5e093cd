//! `GET /zone`: choosing the time zone.

use askama::Template;
use axum::{
    extract::Query,
    http::{HeaderMap, StatusCode, Uri, header},
    response::Response,
};
use serde::Deserialize;

use super::{
    form::own_path,
    frame::{Frame, html},
    login::with_cookie,
    reader::Reader,
    zone::{self, Zone},
};

#[derive(Template)]
#[template(path = "zone.html", whitespace = "minimize")]
struct Page {
    frame: Frame,
    regions: Vec<(&'static str, Vec<&'static str>)>,
    to: String,
    wrong: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Choice {
    tz: Option<String>,
    to: Option<String>,
}

/// `GET /zone`
pub(super) async fn page(
    reader: Reader,
    headers: HeaderMap,
    Query(choice): Query<Choice>,
) -> Response {
    let to = match &choice.to {
        Some(to) => own_path(to).to_owned(),
        None => came_from(&headers),
    };
    let wrong = match choice.tz.as_deref().map(|name| (name, Zone::parse(name))) {
        Some((_, Some(zone))) => return with_cookie(&zone.cookie(), &in_zone(&to, zone)),
        Some((name, None)) => Some(name.to_owned()),
        None => None,
    };
    let status = if wrong.is_some() { StatusCode::BAD_REQUEST } else { StatusCode::OK };
    let frame = reader.frame("");
    html(status, &Page { frame, regions: zone::regions(), to, wrong })
}

/// The page that led here.
fn came_from(headers: &HeaderMap) -> String {
    let from =
        headers.get(header::REFERER).and_then(|from| from.to_str().ok()?.parse::<Uri>().ok());
    let path =
        from.as_ref().and_then(|from| from.path_and_query()).map_or("", |path| path.as_str());
    own_path(if path.starts_with("/zone") { "" } else { path }).to_owned()
}

/// The same address in another zone. Days in it become days of that zone.
fn in_zone(to: &str, zone: Zone) -> String {
    let (path, query) = to.split_once('?').unwrap_or((to, ""));
    let is_other = |pair: &&str| !pair.is_empty() && !pair.starts_with("tz=");
    let mut pairs: Vec<String> = query.split('&').filter(is_other).map(str::to_owned).collect();
    if !pairs.is_empty() && zone != Zone::UTC {
        pairs.push(format!("tz={}", super::links::encoded(zone.name())));
    }
    if pairs.is_empty() { path.to_owned() } else { format!("{path}?{}", pairs.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_one_zone() {
        let berlin = Zone::parse("Europe/Berlin").unwrap();
        for (to, zone, expected) in [
            ("/calls", berlin, "/calls"),
            ("/calls?q=a&tz=UTC", berlin, "/calls?q=a&tz=Europe%2FBerlin"),
            ("/calls?tz=Europe%2FBerlin&q=a", Zone::UTC, "/calls?q=a"),
            ("/calls?tz=Europe/Berlin", Zone::UTC, "/calls"),
        ] {
            assert_eq!(in_zone(to, zone), expected);
        }
    }
}
