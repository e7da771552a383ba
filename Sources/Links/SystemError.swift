import Mailbox

/// The text for an errno.
func describeError(_ code: Int32) -> String { SystemCall.describe(code) }
