import Host
import Region

/// The text for an errno.
func describeError(_ code: Int32) -> String { SystemCall.describe(code) }
