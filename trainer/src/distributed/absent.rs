//! What stands for the other ranks in a program built without the feature `distributed`: nothing can make these types.

use std::convert::Infallible;
use std::net::TcpListener;
use std::time::Duration;

use tch::{Device, Tensor};

use super::error::DistributedError;
use super::place::Place;

/// A connection that cannot be.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) group: Infallible,
}

impl Link {
    pub(super) fn join(place: &Place, _: Duration, _: Device) -> Result<Self, DistributedError> {
        Err(DistributedError::NotBuilt { ranks: place.ranks })
    }

    pub(super) fn sum(&self, _: &mut [f64]) -> Result<(), DistributedError> {
        match self.group {}
    }

    pub(super) fn sum_tensor(&self, _: &Tensor) -> Result<(), DistributedError> {
        match self.group {}
    }

    pub(super) fn gather(&self, _: &[u8]) -> Result<Vec<Vec<u8>>, DistributedError> {
        match self.group {}
    }

    pub(super) fn broadcast(&self, _: &[Tensor]) -> Result<(), DistributedError> {
        match self.group {}
    }

    pub(super) fn told<T>(&self, _: Result<T, String>, _: &'static str) -> Result<T, DistributedError> {
        match self.group {}
    }

    pub(super) fn fail(&self, _: &str, _: &str) {
        match self.group {}
    }

    pub(super) fn tell_stop(&self) {
        match self.group {}
    }

    pub(super) fn is_stop_told(&self) -> bool {
        match self.group {}
    }

    pub(super) fn say_goodbye(&self) -> Result<(), DistributedError> {
        match self.group {}
    }

    pub(super) fn free(self) {
        match self.group {}
    }
}

/// An exchange that cannot be.
#[derive(Debug)]
pub(super) struct RawExchange(Infallible);

impl RawExchange {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "the form of the exchange that can be")]
    pub(super) fn new(
        group: &Infallible,
        _: &Tensor,
        _: &[i64],
        _: usize,
        _: &[Tensor],
        _: &[usize],
    ) -> Result<Self, String> {
        match *group {}
    }

    pub(super) fn arm(&mut self) {
        match self.0 {}
    }

    pub(super) fn finish(&mut self) -> Result<(), String> {
        match self.0 {}
    }
}

/// Serving a store is part of the feature.
pub(super) fn serve_store(_: TcpListener) -> Result<(), String> {
    Err("built without the feature `distributed`".into())
}

/// As the store is not there, nobody says anything in it.
#[derive(Debug)]
pub(super) struct Failures(Infallible);

impl Failures {
    pub(super) fn connect(_: u16) -> Result<Self, String> {
        Err("built without the feature `distributed`".into())
    }

    pub(super) fn first(&self) -> Option<(String, String)> {
        match self.0 {}
    }

    pub(super) fn is_writing(&self, _: u32) -> bool {
        match self.0 {}
    }
}
