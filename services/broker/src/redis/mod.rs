//! The engine for a fleet: logs and pub/sub in Redis.
//! (skeleton)
/// Logs and pub/sub in one Redis.
pub struct RedisBroker { _private: () }
