//! Metric families with the number of labels in their type, so that no label can be forgotten.

use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use super::metrics::MetricsError;
use super::names::Family;

/// Counters of one name with `N` labels.
#[derive(Debug)]
pub(super) struct Counters<const N: usize>(IntCounterVec);
/// Gauges of one name with `N` labels.
#[derive(Debug)]
pub(super) struct Gauges<const N: usize>(IntGaugeVec);
/// Histograms of one name with `N` labels.
#[derive(Debug)]
pub(super) struct Histograms<const N: usize>(HistogramVec);

fn checked<const N: usize>(family: &'static Family) -> Result<&'static Family, MetricsError> {
    if family.labels.len() == N { Ok(family) } else { Err(MetricsError::Labels(family.name)) }
}

impl<const N: usize> Counters<N> {
    pub(super) fn new(registry: &Registry, family: &'static Family) -> Result<Self, MetricsError> {
        let family = checked::<N>(family)?;
        let vec = IntCounterVec::new(Opts::new(family.name, family.help), family.labels)?;
        registry.register(Box::new(vec.clone()))?;
        Ok(Self(vec))
    }

    pub(super) fn with(&self, labels: [&str; N]) -> IntCounter {
        self.0.with_label_values(&labels)
    }
}

impl<const N: usize> Gauges<N> {
    pub(super) fn new(registry: &Registry, family: &'static Family) -> Result<Self, MetricsError> {
        let family = checked::<N>(family)?;
        let vec = IntGaugeVec::new(Opts::new(family.name, family.help), family.labels)?;
        registry.register(Box::new(vec.clone()))?;
        Ok(Self(vec))
    }

    pub(super) fn with(&self, labels: [&str; N]) -> IntGauge {
        self.0.with_label_values(&labels)
    }
}

impl<const N: usize> Histograms<N> {
    pub(super) fn new(registry: &Registry, family: &'static Family) -> Result<Self, MetricsError> {
        let family = checked::<N>(family)?;
        let opts = HistogramOpts::new(family.name, family.help).buckets(family.buckets.to_vec());
        let vec = HistogramVec::new(opts, family.labels)?;
        registry.register(Box::new(vec.clone()))?;
        Ok(Self(vec))
    }

    pub(super) fn with(&self, labels: [&str; N]) -> Histogram {
        self.0.with_label_values(&labels)
    }
}
