//! One block of samples, as a type only: none is ever made here.

use std::borrow::Cow;

#[derive(Debug, Clone)]
pub struct AudioFrame<'a> {
    pub data: Cow<'a, [i16]>,
    pub sample_rate: u32,
    pub num_channels: u32,
    pub samples_per_channel: u32,
}
