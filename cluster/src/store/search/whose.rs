//! Whose records a closed segment has, as far as its index tells.

use super::*;

impl AuditStore {
    /// The tenants that a closed segment has leaves of, by [`search::tenant_key`], ascending. None where there is no such segment, or
    /// where its index does not say: it has leaves of too many.
    ///
    /// # Errors
    /// Where the segment cannot be read.
    pub async fn tenants_in(&self, cache: &IndexCache, first: u64) -> io::Result<Option<Arc<[u64]>>> {
        let segment = self.inner.lock().closed.iter().find(|segment| segment.first() == first).cloned();
        let Some((segment, places)) = segment.and_then(|segment| Some((segment.clone(), segment.places.clone()?)))
        else {
            return Ok(None);
        };
        if let Some(known) = places.search.tenants.get() {
            return Ok(known.clone());
        }
        let Some(file) = self.open_closed(&segment).await? else { return Ok(None) };
        let parts = vec![Part::Postings(Dimension::Tenant)];
        let loaded = self.load(cache, &segment, &places.search, parts, &*file).await?;
        let found = loaded.into_iter().find_map(|part| match part {
            Loaded::Postings(postings) => Some(search::tenants(&postings)),
            Loaded::Zones(_) => None,
        });
        let tenants = found.flatten().map(Arc::from);
        Ok(places.search.tenants.get_or_init(|| tenants).clone())
    }
}
