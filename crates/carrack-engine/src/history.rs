//! History: how each layer of an image came to be.

use carrack_image::{Image, Layer};
use carrack_oci::{Digest, History};

use crate::error::OperationContext;
use crate::{Engine, Result};

/// One step of an image's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryRow {
    /// The image ID where the step is the last one; what came before has no image here.
    pub id: Option<Digest>,
    /// What the config says of it.
    pub history: History,
    /// What its layer holds on disk; 0 without a layer.
    pub size_bytes: u64,
}

impl Engine {
    /// The history of the image that `name` names, the last step first.
    pub fn history(&self, name: &str) -> Result<Vec<HistoryRow>> {
        self.history_of(name).operation("show the history of", name)
    }

    fn history_of(&self, name: &str) -> Result<Vec<HistoryRow>> {
        let record = self.images.find(name)?.record;
        let image = Image::load(&self.content, &record.manifest)?;
        let mut rows = Vec::new();
        for (history, layer) in steps(&image) {
            let usage = layer.map(|layer| self.usage_of(&layer.chain_id)).transpose()?;
            rows.push(HistoryRow {
                id: None,
                history,
                size_bytes: usage.map_or(0, |usage| usage.size_bytes),
            });
        }
        if let Some(last) = rows.last_mut() {
            last.id = Some(record.id().clone());
        }
        rows.reverse();
        Ok(rows)
    }
}

/// History entries with their layers. A config may have fewer entries than layers, or none: such layers come last,
/// with nothing known of them.
fn steps(image: &Image) -> Vec<(History, Option<Layer<'_>>)> {
    let mut layers = image.layers().into_iter();
    let mut steps = Vec::new();
    for history in &image.config.history {
        let layer = if history.empty_layer { None } else { layers.next() };
        steps.push((history.clone(), layer));
    }
    steps.extend(layers.map(|layer| (History::default(), Some(layer))));
    steps
}
