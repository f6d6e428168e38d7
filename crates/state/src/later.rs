//! What not every cluster has, at the end of its state: written up to the last part that is not empty, so that states without
//! are written as they were before there was such a part.

use serde::ser::SerializeStruct as _;
use serde::{Deserialize, Serialize, Serializer};

use crate::{Audit, ClusterKeys, Lineage, Secrets, Zones, added_later};

/// Positional: append only, here and in `serialize`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Deserialize)]
pub struct Later {
    #[serde(deserialize_with = "added_later")]
    pub lineage: Lineage,
    #[serde(deserialize_with = "added_later")]
    pub secrets: Secrets,
    #[serde(deserialize_with = "added_later")]
    pub zones: Zones,
    #[serde(deserialize_with = "added_later")]
    pub audit: Audit,
    #[serde(deserialize_with = "added_later")]
    pub cluster_keys: ClusterKeys,
}

impl Later {
    pub(crate) fn is_empty(&self) -> bool {
        self.parts() == 0
    }

    /// How many have to be written.
    fn parts(&self) -> usize {
        let Self { lineage, secrets, zones, audit, cluster_keys } = self;
        let there =
            [!lineage.is_new(), !secrets.is_empty(), !zones.is_empty(), !audit.is_new(), !cluster_keys.is_empty()];
        there.iter().rposition(|there| *there).map_or(0, |last| last + 1)
    }
}

impl Serialize for Later {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let parts = self.parts();
        let mut all = to.serialize_struct("Later", parts)?;
        if 0 < parts {
            all.serialize_field("lineage", &self.lineage)?;
        }
        if 1 < parts {
            all.serialize_field("secrets", &self.secrets)?;
        }
        if 2 < parts {
            all.serialize_field("zones", &self.zones)?;
        }
        if 3 < parts {
            all.serialize_field("audit", &self.audit)?;
        }
        if 4 < parts {
            all.serialize_field("cluster_keys", &self.cluster_keys)?;
        }
        all.end()
    }
}
