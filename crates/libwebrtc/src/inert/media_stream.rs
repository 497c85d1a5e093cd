//! The name under which a peer groups its tracks.

#[derive(Debug, Clone)]
pub struct MediaStream(pub(crate) String);

impl MediaStream {
    pub fn id(&self) -> String {
        self.0.clone()
    }
}
