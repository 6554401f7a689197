//! What every request to the API server shares.

use std::time::Duration;

/// How long one request may take. Together with the time that a lease is trusted for after its renewal this is less
/// than the lease lasts for others: a write under the lease lands before anyone takes over.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection may be silent. No watch that works is for so long: it ends before, and begins anew.
pub const READ_TIMEOUT: Duration = Duration::from_secs(75);

/// The label that every object made here carries.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The value of [`MANAGED_BY`]; also the field manager of every write.
pub const OPERATOR: &str = "selvage-operator";

/// Bounds one request by [`REQUEST_TIMEOUT`].
///
/// # Errors
/// Those of the request, and its taking too long.
pub async fn deadline<T>(request: impl Future<Output = kube::Result<T>>) -> kube::Result<T> {
    match tokio::time::timeout(REQUEST_TIMEOUT, request).await {
        Ok(answer) => answer,
        Err(_) => Err(kube::Error::Service("the API server did not answer in time".into())),
    }
}
